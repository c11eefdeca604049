#!/bin/sh
# Ranks whose memory is a device's: the results are those of one rank on cpu, whether what they exchange goes through the
# host (host) or by a library that stands in for NCCL (nccl; tests/gpu/modules/nccl.c). The emulator has no access to its
# memory outside of launches and copies, so a copy that is missing ends the run. What a rank sends is the same both ways.
set -eu
. "$(dirname "$0")/prepare.inc"
"$HB_PROGRAM" ops | grep -q '^cuda-emulated *not built' && exit 77
prepare
stand_in=$HB_BUILDDIR/tests/gpu/modules/.libs/nccl.so
small="--set training.steps=1 --set training.accumulate=3 --set training.microbatch=1 --set training.evaluate_every=0
    --set data.sequence_length=12 --set model.num_hidden_layers=2"
device="$small --set backend=cuda-emulated --set parallel.timeout=60"

broken() {
    echo "devices.sh: $*"
    cat "$work/other.log"
    exit 1
}

# sent NAME: of each rank "kind messages bytes".
sent() {
    for file in "$work/$1"/timeline/rank-*.jsonl; do
        awk -v rank="${file##*/}" '{
            if (match($0, /"cat":"[a-z]+"/)) kind = substr($0, RSTART, RLENGTH)
            if (match($0, /"messages":[0-9]+/)) messages[kind] += substr($0, RSTART + 11, RLENGTH - 11)
            if (match($0, /"bytes":[0-9]+/)) bytes[kind] += substr($0, RSTART + 8, RLENGTH - 8)
        } END { for (kind in bytes) print rank, kind, messages[kind], bytes[kind] }' "$file" | sort
    done
}

run one 1 $small
while read -r way ranks layout options; do
    unset HB_EMULATED_NCCL
    [ $way = host ] || export HB_EMULATED_NCCL="$stand_in"
    run "$way" "$ranks" $device --parallel "$layout" $options
    same "$way"
    grep -q "^messages *$(echo $way | sed 's/host/MPI, through the host/; s/nccl/NCCL, from device/')" "$work/$way.log" ||
        { cat "$work/$way.log"; exit 1; }
    echo "same: $way, $ranks ranks, $layout $options"
    case $options in *--timeline*) sent "$way" >"$work/sent-$way" ;; esac
    rm -rf "${work:?}/$way"
done <<'TABLE'
host 2 dp=2
nccl 2 dp=2
host 2 ep=2 --zero 1
nccl 2 ep=2 --zero 1
host 4 dp=2,pp=2 --zero 2
nccl 4 dp=2,pp=2 --zero 2 --schedule interleaved
host 4 ep=2,pp=2 --zero 3 --schedule zb-h1 --set training.recompute=full --timeline
nccl 4 ep=2,pp=2 --zero 3 --schedule zb-h1 --set training.recompute=full --timeline
TABLE
grep -q '"experts" [1-9]' "$work/sent-host" && diff "$work/sent-host" "$work/sent-nccl" ||
    { echo "devices.sh: by NCCL other messages than through the host"; exit 1; }

# ended PATTERN OPTION...: 4 ranks end soon, all in good order, with this one message.
ended() {
    pattern=$1
    shift
    rm -rf "$work/other"
    if timeout 60 "$HB_MPIEXEC" -n 4 "$HB_PROGRAM" train "$work/run.yaml" --set run_folder="$work/other" $device \
        --parallel ep=2,pp=2 "$@" </dev/null >"$work/other.log" 2>&1; then
        broken "ended well, but not: $pattern"
    elif [ $? = 124 ]; then
        broken "hangs, but not: $pattern"
    fi
    [ "$(grep -c '^error: ' "$work/other.log")" = 1 ] || broken "not one message"
    grep -q "^error: hornbook train: $pattern" "$work/other.log" || broken "not '$pattern'"
    echo "ended: $pattern"
}

export HB_EMULATED_NCCL="$stand_in"
STAND_IN_FAILS=20 ended 'rank [0-3]: .*NCCL: .* failed on rank [0-3]: system error'
STAND_IN_REFUSES=25 ended 'rank [0-3]: .*NCCL: a \(send\|receive\) .* failed on rank [0-3]: system error'
HB_FAULT=fail:exchange@1/3 ended 'rank 3: step 1: .*the error'
HB_EMULATED_DEVICE=one ended '.*parallel.transport: nccl: ranks 0 and 1 share a device' --set parallel.transport=nccl
HB_EMULATED_DEVICE=one run other 2 $device --parallel dp=2
grep -q '^messages *MPI, through the host: ranks 0 and 1 share a device' "$work/other.log" || broken "not why"
same other

HB_EMULATED_POOLS=0 ended '.*parallel.transport: nccl: this device has no memory pools.*take parallel.transport: host' \
    --set parallel.transport=nccl
rm -rf "$work/other"
rank="$HB_PROGRAM train $work/run.yaml --set run_folder=$work/other $device --parallel dp=2"
"$HB_MPIEXEC" -n 1 $rank : -n 1 env HB_EMULATED_POOLS=0 $rank </dev/null >"$work/other.log" 2>&1 ||
    broken "one of two devices without memory pools"
grep -q '^messages *MPI, through the host: rank 1: this device has no memory pools' "$work/other.log" || broken "not why"
same other

# four ranks take three devices in turn: two of different groups share one
rank="env HB_EMULATED_DEVICE=%s $HB_PROGRAM train $work/run.yaml --set run_folder=$work/other $device --parallel dp=2,pp=2"
rm -rf "$work/other"
"$HB_MPIEXEC" $(printf -- "-n 1 $rank : -n 1 $rank : -n 1 $rank : -n 1 $rank" one two three one) </dev/null \
    >"$work/other.log" 2>&1 || broken "four ranks on three devices"
grep -q '^messages *MPI, through the host: ranks 0 and 3 share a device' "$work/other.log" || broken "not why"
same other
