#!/bin/sh
# What goes wrong with devices is one clear error each: none there, too little memory, lost in mid-run.
# The run goes on from its last checkpoint, on any backend, to the digests of a run that nothing disturbed.
set -eu
"$HB_PROGRAM" ops | grep -q '^cuda-emulated .*processor' || { echo "no C++ compiler in this build"; exit 77; }
scratch=$(mktemp -d "${TMPDIR:-/tmp}/hornbook-bad.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

mkdir text
cp "$HB_SRCDIR"/docs/adr/*.md text/
"$HB_PROGRAM" tokenizer train --vocab-size 300 --output tok text >log 2>&1
"$HB_PROGRAM" data build --tokenizer tok --output data text >log 2>&1
cat >run.yaml <<'END'
run_folder: run
threads: 1
data: {train: data-train, tokenizer: tok, sequence_length: 16}
training: {steps: 6, microbatch: 1, accumulate: 2, learning_rate: 0.01, checkpoint_every: 2, evaluate_every: 0,
           tensorboard: false}
model: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 24, num_experts: 3,
        num_experts_per_tok: 2, moe_intermediate_size: 12, max_position_embeddings: 64}
END

train() { # FOLDER BACKEND [OPTION...]
    folder=$1 backend=$2
    shift 2
    "$HB_PROGRAM" train run.yaml --set run_folder="$folder" --set backend="$backend" "$@" >out 2>err
}

complain() {
    echo "bad_input.sh: $*" >&2
    cat out err >&2
    exit 1
}

# refused PATTERN COMMAND...: ends with an error, said in one line.
refused() {
    pattern=$1
    shift
    if "$@"; then complain "went through: $*"; fi
    [ "$(grep -c '^error:' err)" = 1 ] && grep -q "^error: hornbook.*$pattern" err || complain "no single line with '$pattern': $*"
}

digests() { sed -n 's/.*"digest": "\([^"]*\)".*/\1/p' "$1/metrics.jsonl"; }

train whole cpu || complain "a run on cpu failed"
[ "$(digests whole | wc -l)" = 6 ] || complain "six steps make six digests"

# No device, or none built: said, and nothing is begun.
if ! "$HB_PROGRAM" verify --backend cuda --op add >/dev/null 2>&1; then
    refused 'cuda.*\(no device\|not built\|too old\|architecture\)' train none cuda
    [ ! -e none/metrics.jsonl ] || complain "a run began without a device"
fi

# Too little memory: category and bytes.
# Of cases, too: each that wants more fails with this message, the others are judged.
if HB_EMULATED_MEMORY=3000 "$HB_PROGRAM" verify --backend cuda-emulated --golden "$HB_SRCDIR/golden/ops" --op rmsnorm_forward >out 2>err; then
    complain "cases passed without memory"
fi
grep -q '^rmsnorm_forward  *f32 .* error  *-  *-  *FAILED rmsnorm-025; errors: 3 of 5 cases' out && ! grep -q 'inf' out &&
    grep -q '^rmsnorm.*: cuda-emulated: out of device memory: [0-9]* bytes wanted for' out || complain "no error in the table"
refused 'out of device memory: [0-9]* bytes wanted for [a-z]*, [0-9]* of 100000 are in use' env HB_EMULATED_MEMORY=100000 \
    sh -c '"$HB_PROGRAM" train run.yaml --set run_folder=small --set backend=cuda-emulated >out 2>err'

# Lost in the step behind a checkpoint: that is whole, and the run goes on elsewhere.
refused 'the device was lost at launch' env HB_EMULATED_LOST=1200 \
    sh -c '"$HB_PROGRAM" train run.yaml --set run_folder=lost --set backend=cuda-emulated >out 2>err'
[ "$(digests lost | wc -l)" -ge 2 ] && [ "$(digests lost | wc -l)" -lt 6 ] || complain "lost after $(digests lost | wc -l) steps"
[ "$(ls lost/checkpoints | grep -c '^step-')" -ge 1 ] || complain "no checkpoint before the loss"
train lost cpu --resume || complain "the run does not go on after a loss"
digests whole >expected
digests lost >got
cmp expected got || complain "other digests after a loss"
