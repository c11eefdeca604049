#!/bin/sh
# Whatever a run dies of, and in whatever phase of a step, the run that is started again ends with the digest
# of one that was never disturbed.
set -eu
root=$(mktemp -d "${TMPDIR:-/tmp}/hornbook-supervise.XXXXXX")
trap 'rm -rf "$root"' EXIT
cd "$root"
export OMP_NUM_THREADS=1
fail() {
    echo "supervise.sh: $*" >&2
    cat log >&2 || true
    exit 1
}

i=0
while [ $i -lt 60 ]; do
    echo "line $i: the quick brown fox number $i jumps over $((i * 7)) lazy dogs, and then rests."
    i=$((i + 1))
done >text.txt
"$HB_PROGRAM" tokenizer train --vocab-size 300 --output tok text.txt >log 2>&1 || fail "no tokenizer"
"$HB_PROGRAM" data build --tokenizer tok --output data text.txt >log 2>&1 || fail "no data"
cat >run.yaml <<'END'
run_folder: run
threads: 1
data: {train: data-train, tokenizer: tok, sequence_length: 16}
model: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, head_dim: 8, num_experts: 4,
        num_experts_per_tok: 2, moe_intermediate_size: 8, max_position_embeddings: 64}
training: {steps: 6, microbatch: 2, accumulate: 2, learning_rate: 3e-3, checkpoint_every: 2, tensorboard: false}
END
digest_of() { # FOLDER
    sed -n '$s/.*"digest": "\([0-9a-f]*\)".*/\1/p' "$1/metrics.jsonl"
}
lines_of() {
    wc -l <"$1/metrics.jsonl"
}
supervised() { # NAME FAULTS [OPTION...]
    name=$1 faults=$2
    shift 2
    HB_FAULT=$faults "$HB_PROGRAM" supervise "$@" -- "$HB_PROGRAM" train run.yaml --set run_folder="$name" >log 2>&1
}

"$HB_PROGRAM" train run.yaml >log 2>&1 || fail "the plain run failed"
wanted=$(digest_of run)
[ ${#wanted} = 32 ] || fail "no digest"

# --- SIGKILL in every phase, also twice, also in a later attempt
n=0
for faults in forward@1 forward@3 fold@4 optimizer@5 write@4 shard@4 rename@4 "write@2 rename@2 optimizer@3" "- " "fold@5 - "; do
    n=$((n + 1))
    supervised "run-$n" "$faults" || fail "not ended well: $faults"
    [ "$(digest_of run-$n)" = "$wanted" ] || fail "another digest: $faults"
    [ "$(lines_of run-$n)" = 6 ] || fail "steps are missing or doubled: $faults"
    case $faults in
    *@*) grep -q 'ended by signal 9 (Killed)' log || fail "nothing was killed: $faults" ;;
    *) if grep -q 'ended by signal' log; then fail "something was killed"; fi ;;
    esac
done

# --- a run that hangs
supervised hung hang:fold@3 --silence 1 || fail "a hung run was not ended"
grep -q 'has written no metrics for 1 s; it is killed' log || fail "the hang was not seen"
[ "$(digest_of hung)" = "$wanted" ] || fail "another digest after a hang"

# --- a damaged checkpoint is named, and the one before it taken
supervised damaged "fold@6 fold@6 fold@6" --restarts 0 && fail "was to give up"
grep -q 'it gets no further' log || fail "does not say why it gives up"
printf x | dd of=damaged/checkpoints/step-00000004/model.safetensors bs=1 seek=2000 conv=notrunc 2>dd.log
"$HB_PROGRAM" train run.yaml --set run_folder=damaged --resume >log 2>&1 || fail "cannot go on from an earlier checkpoint"
grep -q 'step-00000004 is damaged: model.safetensors has hash' log || fail "the damaged file is not named"
grep -q 'going back to .*step-00000002' log || fail "not the checkpoint before"
[ "$(digest_of damaged)" = "$wanted" ] || fail "another digest from an earlier checkpoint"

# --- several ranks: the launcher ends all when one dies; a kill in every phase and on every rank, one after the other
if [ -n "${HB_MPIEXEC:-}" ]; then
    while read -r ranks layout faults; do
        n=$((n + 1))
        HB_FAULT=$faults "$HB_PROGRAM" supervise -- "$HB_MPIEXEC" -n "$ranks" "$HB_PROGRAM" train run.yaml \
            --parallel "$layout" --set run_folder=run-$n </dev/null >log 2>&1 || fail "$layout did not end well: $faults"
        [ "$(grep -c 'starting it again' log)" = "$(echo "$faults" | wc -w)" ] || fail "not every kill came: $layout $faults"
        [ "$(digest_of run-$n)" = "$wanted" ] || fail "another digest by $layout: $faults"
        [ "$(lines_of run-$n)" = 6 ] || fail "steps are missing or doubled: $layout $faults"
        [ "$(ls -A run-$n/checkpoints | tr '\n' ' ')" = "latest step-00000004 step-00000006 " ] ||
            fail "leftovers of a checkpoint: $(ls -A run-$n/checkpoints)"
    done <<END
2 ep=2 forward@1/1 write@2/1 write@4/0 shard@4/1 rename@4/0 exchange@5/1 fold@6/0 optimizer@6/1
4 dp=2,pp=2 exchange@3/2 shard@4/3 optimizer@5/2 write@6/1
END
fi

# --- what is not to be started again
code=0
supervised broken "" --restarts 3 2>/dev/null || code=$?
[ $code = 0 ] || fail "a run without faults failed"
"$HB_PROGRAM" supervise -- "$HB_PROGRAM" train run.yaml --set data.train=nowhere --set run_folder=nowhere >log 2>&1 && fail "ran without data"
[ "$(grep -c 'cannot open nowhere' log)" = 1 ] || fail "a refusal was tried again"
"$HB_PROGRAM" supervise -- /no/such/program train run.yaml >log 2>&1 && fail "started nothing"
grep -q 'cannot start /no/such/program' log || fail "does not say what it cannot start"
"$HB_PROGRAM" supervise -- true >log 2>&1 && fail "supervises anything"
grep -q 'no training run' log || fail "does not say what it wants"
HB_FAULT=nap@1 "$HB_PROGRAM" train run.yaml --resume >log 2>&1 && fail "took a fault that is none"
grep -q 'HB_FAULT: a fault is written as in' log || fail "does not say how a fault is written"
echo "supervise.sh: all of them end with $wanted"
