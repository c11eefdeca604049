#!/bin/sh
# A rank that fails, or hangs, in any phase: all ranks end soon, with one message that names the rank and the
# cause, nothing that was saved is lost, and the run that goes on ends like one that was never disturbed.
set -eu
. "$(dirname "$0")/prepare.inc"
prepare
sed -i 's/checkpoint_every: 0/checkpoint_every: 1/' "$work/run.yaml"
run one 1

broken() {
    echo "failures.sh: $*"
    cat "$work/other.log"
    exit 1
}

# resumed LAYOUT...: goes on from where it ended, to the results of one rank.
resumed() {
    run other "$@" --resume
    same other
    rm -rf "$work/other"
}

# ended RANKS LAYOUT FAULT STEP MESSAGE OPTION...: a run with a fault ends with this message and whole
# checkpoints up to STEP.
ended() {
    ranks=$1 layout=$2 fault=$3 step=$4 message=$5
    shift 5
    if HB_FAULT=$fault timeout 60 "$HB_MPIEXEC" -n "$ranks" "$HB_PROGRAM" train "$work/run.yaml" \
        --set run_folder="$work/other" --parallel "$layout" "$@" </dev/null >"$work/other.log" 2>&1; then
        broken "$fault: ended well"
    elif [ $? = 124 ]; then
        broken "$fault: hangs"
    fi
    [ "$(grep -c '^error: ' "$work/other.log")" = 1 ] || broken "$fault: not one message"
    grep -q "^error: hornbook train: $message" "$work/other.log" || broken "$fault: not '$message'"
    saved=$(ls -A "$work/other/checkpoints" | tail -1)
    [ "$saved" = "step-0000000$step" ] || broken "$fault: the last checkpoint is $saved"
    echo "ended: $layout $* $fault: $message"
}

while read -r ranks layout fault step message; do
    options=$(echo "$layout" | tr + ' ') layout=${layout%%+*}
    options=${options#"$layout"}
    ended "$ranks" "$layout" "fail:$fault" "$step" "$message" $options
    # ... and every rank in good order
    if grep -q 'Abort\|BAD TERMINATION\|Sanitizer\|runtime error' "$work/other.log"; then broken "$fault: in disorder"; fi
    resumed "$ranks" --parallel "$layout" $options
done <<'END'
2 dp=2+--zero+3 forward@2/1 1 rank 1: step 2: 0F0: the error
4 dp=2,ep=2 exchange@3/1 2 rank 1: step 3: .*the error
3 pp=3+--schedule+zb-h1 exchange@2/2 1 rank 2: step 2: 2SEND_B0: the error
4 ep=2,pp=2+--zero+2 fold@2/3 1 rank 3: step 2: the error
3 dp=3+--zero+1 optimizer@3/0 2 rank 0: step 3: the error
2 pp=2 write@2/0 1 rank 0: step 2: step 2 is not saved: the error
3 ep=3 shard@2/2 1 rank 2: step 2: step 2 is not saved: the error
END

ended 4 dp=2,ep=2 hang:exchange@2/2 1 "no answer from rank 2: it hangs or is gone (rank [0-9] waited 2 s" \
    --set parallel.timeout=2
rm -rf "$work/other"
ended 3 pp=3 hang:exchange@2/1 1 "no answer from rank 1: it hangs or is gone (rank [0-9] waited 2 s" \
    --set parallel.timeout=2
rm -rf "$work/other"

# --- one rank's disk is full: its files may have 12 KiB. The memory that ranks share is a file, too: over TCP.
if UCX_TLS=tcp,self timeout -k 1 60 "$HB_MPIEXEC" -n 1 "$HB_PROGRAM" train "$work/run.yaml" --set run_folder="$work/other" \
    --parallel dp=2 : -n 1 sh -c "trap '' XFSZ; ulimit -f 24; exec \"\$0\" \"\$@\"" "$HB_PROGRAM" train \
    "$work/run.yaml" --set run_folder="$work/other" --parallel dp=2 </dev/null >"$work/other.log" 2>&1; then
    broken "a full disk: ended well"
fi
if grep -q '^digest' "$work/other.log"; then
    grep -q '^error: hornbook train: rank 1: step 1: .*cannot write .*optimizer-00001-of-00002.safetensors' \
        "$work/other.log" || broken "a full disk: not the file"
    [ -z "$(ls -A "$work/other/checkpoints")" ] || broken "a full disk: leftovers"
    resumed 2 --parallel dp=2
else
    echo "skipped: a full disk; this MPI does not start without large files"
    rm -rf "$work/other"
fi

# --- a damaged file of a checkpoint is named, and the checkpoint before taken
run other 3 --parallel dp=3 --zero 3
last=$work/other/checkpoints/step-00000003
printf x | dd of="$last/optimizer-00001-of-00003.safetensors" bs=1 seek=2000 conv=notrunc 2>"$work/dd.log"
resumed 2 --parallel pp=2
grep -q 'step-00000003 is damaged: optimizer-00001-of-00003.safetensors has hash' "$work/other.log" ||
    broken "the damaged file is not named"
grep -q 'going back to .*step-00000002' "$work/other.log" || broken "not the checkpoint before"
echo "failures.sh: all of them go on to the same digests"
