#!/bin/sh
# `hornbook data build` as a user runs it: what it says of a split, and what it refuses.
set -eu
program=${HB_PROGRAM:-hornbook}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir texts
i=0
while [ $i -lt 200 ]; do
    echo "row $i of a long text"
    i=$((i + 1))
done > texts/long.txt
echo "a short text" > texts/short.txt
"$program" tokenizer train --vocab-size 270 --output tok texts > log 2>&1 || { cat log; exit 1; }

# says EXIT-CODE TEXT ARGUMENT...: builds with these arguments; the text must stand in what it says.
says() {
    want=$1 text=$2
    shift 2
    code=0
    "$program" data build --tokenizer tok --output out "$@" > said 2>&1 || code=$?
    [ $code = "$want" ] || { echo "data build $*: exit $code, must be $want"; cat said; exit 1; }
    grep -q -e "$text" said || { echo "data build $*: does not say '$text'"; cat said; exit 1; }
}

# One of two documents is held out, whole: the long one, as its hash has it.
says 0 '^warning: 100 % of the text is held out, 1 % were asked for' texts
says 0 'only one document' texts/long.txt
! grep -q warning said || { cat said; exit 1; }
says 0 '^train .* 2 ' texts --held-out 0
! grep -q -e warning -e '^held-out' said || { cat said; exit 1; }
[ ! -e out-heldout.bin ]
: > nothing
says 1 'hold no document' nothing
says 2 'from 0 to 0.5' texts --held-out 0.6
says 2 '--output is missing' texts --output ''
