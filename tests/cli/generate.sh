#!/bin/sh
# `hornbook generate` as a user runs it: the same text for the same seed, where a text ends, what is refused.
set -eu
program=${HB_PROGRAM:-hornbook}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

i=0
while [ $i -lt 60 ]; do
    echo "line $i: the cat and the hat, $((i * 7 % 11)) times"
    i=$((i + 1))
done > text.txt
cat > run.yaml <<'END'
run_folder: run
threads: 1
data: {train: data-train, tokenizer: tok, sequence_length: 16}
model: {hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16, max_position_embeddings: 40}
training: {steps: 2, microbatch: 2, tensorboard: false}
END
{
    "$program" tokenizer train --vocab-size 260 --output tok text.txt
    "$program" data build --tokenizer tok --output data --held-out 0 text.txt
    "$program" train run.yaml
} > log 2>&1 || { cat log; exit 1; }

# says EXIT-CODE TEXT ARGUMENT...: the text must stand in what it says beside the written text.
says() {
    want=$1 text=$2
    shift 2
    code=0
    "$program" generate "$@" > out 2> err < /dev/null || code=$?
    [ $code = "$want" ] || { echo "generate $*: exit $code, must be $want"; cat err; exit 1; }
    grep -q -e "$text" err || { echo "generate $*: does not say '$text'"; cat err; exit 1; }
}

# A reader of what training says that ends before it: no reason to lose what was learned.
{
    code=0
    "$program" train run.yaml --set run_folder=unheard --set faults='[{step: 1, kind: nan}]' 2>&1 || code=$?
    echo $code > code
} | { exec <&-; :; }
[ "$(cat code)" = 1 ] || { echo "unheard: exit $(cat code), must be 1: nobody read what it said"; exit 1; }
[ -e unheard/checkpoints/step-00000002/manifest.json ] || { echo "unheard: nothing is saved"; exit 1; }

says 0 '^12 tokens' run --prompt 'the cat' --tokens 12
cp out first
says 0 tokens run --prompt 'the cat' --tokens 12 --backend ref --threads 1
cmp out first
says 0 tokens run/checkpoints/latest --prompt 'the cat' --tokens 12 --seed 1
cmp out first
says 0 tokens run --prompt 'the cat' --tokens 12 --seed 2
! cmp -s out first || { echo "another seed, the same text"; exit 1; }
printf 'the cat' | "$program" generate run --tokens 12 > out 2> err
cmp out first
says 0 tokens run --prompt 'the cat' --tokens 12 --temperature 0 --seed 3
cp out first
says 0 tokens run --prompt 'the cat' --tokens 12 --top-k 1 --seed 4
cmp out first
says 0 '^5 tokens' run --tokens 5 # an empty prompt

# `--tokens` is the most: positions may end first. A prompt that fills them cannot be continued, nor is it shown.
says 0 '^all 40 positions' run --prompt 'abababab' --temperature 0
long=abcdefghijklmnopqrstuvwxyzabcdefghijklmn
says 1 'no room to write: max_position_embeddings is 40' run --prompt "$long"
[ ! -s out ]
says 1 'holds neither a model' . --prompt x
says 1 'UTF-8' run --prompt "$(printf '\377')"
says 2 'top-p must be' run --prompt x --top-p 0
says 2 'only one folder' run run
