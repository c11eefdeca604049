#!/bin/sh
# `hornbook verify` as a user runs it: exit codes and what they read.
set -eu
program=${HB_PROGRAM:-hornbook}
golden=${HB_SRCDIR:-.}/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run EXIT-CODE TEXT ARGUMENT...: the text must stand in what the command says.
run() {
    want=$1 text=$2
    shift 2
    code=0
    "$program" verify "$@" > "$work/out" 2>&1 || code=$?
    [ $code = "$want" ] || { echo "verify $*: exit $code, must be $want"; cat "$work/out"; exit 1; }
    grep -q -e "$text" "$work/out" || { echo "verify $*: does not say '$text'"; cat "$work/out"; exit 1; }
}

run 0 'backend ref, canonical: .* 0 failed' --backend ref --golden "$golden/ops"
run 0 'backend cpu, canonical: .* 0 failed' --golden "$golden/ops"
run 0 '^router_forward .* equal' --golden "$golden/ops" --op router
run 0 '"failures": \[\]' --golden "$golden/ops" --op swiglu --json
run 0 'RMSNormalization' --onnx "$golden/onnx"
run 0 'not covered no op of ours does Gelu' --onnx "$golden/onnx" --backend ref
run 1 'has no case of op nothing' --golden "$golden/ops" --op nothing
run 1 "lacks 'format'" --golden "$golden/onnx"
run 1 'cannot read folder' --golden "$work/absent"
run 1 'backend abacus is unknown' --backend abacus --golden "$golden/ops"
run 1 'cannot load backend' --backend "$work/absent.so" --golden "$golden/ops"
run 2 'must be canonical or fast' --numerics exact
run 2 'goes without' --onnx "$golden/onnx" --op product
run 0 'usage: hornbook verify' --help

plugin=${HB_BUILDDIR:-.}/examples/backend-plugin/.libs/plugin.so
[ -e "$plugin" ] || { echo "$plugin was not built; make check builds it"; exit 1; }
run 1 'STORE n=3 D=33 positive): first wrong element out\[0\]: expected' --backend "$plugin" --golden "$golden/ops"
run 0 ' 0 failed' --backend "$plugin" --golden "$golden/ops" --op add
