#!/bin/sh
# `hornbook probe` as a user runs it: exit codes and what they read.
set -eu
program=${HB_PROGRAM:-hornbook}
models=${HB_SRCDIR:-.}/golden/models
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run EXIT-CODE TEXT ARGUMENT...: the text must stand in what the command says.
run() {
    want=$1 text=$2
    shift 2
    code=0
    "$program" probe "$@" > "$work/said" 2>&1 || code=$?
    [ $code = "$want" ] || { echo "probe $*: exit $code, must be $want"; cat "$work/said"; exit 1; }
    grep -q -e "$text" "$work/said" || { echo "probe $*: does not say '$text'"; cat "$work/said"; exit 1; }
}

folder=$models/moe-renorm
input=$folder/expected.safetensors
run 0 '^loss ' "$folder" --input "$input" --output "$work/cpu" --grad --hidden --router
run 0 '^aux_loss ' "$folder" --input "$input" --output "$work/ref" --grad --hidden --router --backend ref --threads 1
run 0 '^ce_loss ' "$folder" --input "$input" --output "$work/small"
run 0 '^loss ' "$folder" --input "$input" --output "$work/fast" --numerics fast

# ref and cpu write the same bytes behind a header that names them.
size=$(wc -c < "$work/ref")
[ "$size" = "$(wc -c < "$work/cpu")" ] || { echo "ref and cpu write files of other sizes"; exit 1; }
tail -c $((size - 16384)) "$work/ref" > "$work/a"
tail -c $((size - 16384)) "$work/cpu" > "$work/b"
[ "$size" -gt 65536 ]
cmp "$work/a" "$work/b"
[ "$(wc -c < "$work/small")" -lt "$size" ]

run 1 'is not there\|cannot' "$work/absent" --input "$input" --output "$work/x"
run 1 'absent' "$folder" --input "$work/absent" --output "$work/x"
run 1 "input_ids" "$folder" --input "$folder/model.safetensors" --output "$work/x"
run 1 'absent' "$folder" --input "$input" --output "$work/absent/x"
run 1 'abacus' "$folder" --input "$input" --output "$work/x" --backend abacus
[ ! -e "$work/x" ]
# What transformers makes no gradient of; everything else of the folder is as it was.
mkdir "$work/padded"
cp "$folder"/* "$work/padded"
sed 's/^{/{ "pad_token_id": 6, "softcap": 30,/' "$folder/config.json" > "$work/padded/config.json"
run 0 "key 'softcap' is not known" "$work/padded" --input "$input" --output "$work/y"
run 1 "is the model's pad_token_id (6)" "$work/padded" --input "$input" --output "$work/x" --grad
[ ! -e "$work/x" ]
run 2 'the model folder is missing' --input "$input" --output "$work/x"
run 2 '--input is missing' "$folder" --output "$work/x"
run 2 '--output is missing' "$folder" --input "$input"
run 2 'canonical or fast' "$folder" --input "$input" --output "$work/x" --numerics exact
