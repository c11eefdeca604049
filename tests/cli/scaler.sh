#!/bin/sh
# `hornbook scaler` as a user runs it: what it prints, exit codes, bad input.
set -eu
program=${HB_PROGRAM:-hornbook}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run EXIT-CODE TEXT TRACE ARGUMENT...: the text must stand in what the command says.
run() {
    want=$1 text=$2 trace=$3
    shift 3
    code=0
    printf '%s' "$trace" | "$program" scaler "$@" > "$work/said" 2>&1 || code=$?
    [ $code = "$want" ] || { echo "scaler $*: exit $code, must be $want"; cat "$work/said"; exit 1; }
    grep -q -e "$text" "$work/said" || { echo "scaler $*: does not say '$text'"; cat "$work/said"; exit 1; }
}

run 0 '^3  *1  *65536  *back-off  *skipped' '0 0 1' torch
run 0 '^# 3 steps, 1 not finite (33.33 %), next scale 32768$' '0 0 1' torch
run 0 '^2  *0  *65536  *grow  *applied' '00' torch --growth-interval 2
run 0 '^4  *1  *8  *hold' '0
0
0
1' megatron --initial 2^2 --growth-interval=3
run 0 '^1  *0  *65536  *grow  *no backward' '01' article-literal
run 0 '^2  *1  *131072  *back-off  *applied, not finite' '01' article-literal
run 0 '^# 0 steps' '' none
run 0 'usage: hornbook scaler' '' --help
run 1 'step 18: the scale is at its minimum of 1 and cannot fall; deepspeed ends the run' 111111111111111111111 deepspeed
run 1 "step 3 of the trace is '2', must be 0 or 1" '012' torch
# What a string cannot hold: a byte 0, and a trace that cannot be read.
! printf '0\0' | "$program" scaler torch >"$work/said" 2>&1 && grep -q "step 2 of the trace is '?'" "$work/said" ||
    { echo "a byte 0 passed"; cat "$work/said"; exit 1; }
! "$program" scaler torch <"$work" >"$work/said" 2>&1 && grep -q 'cannot read the trace' "$work/said" ||
    { echo "a folder passed as a trace"; cat "$work/said"; exit 1; }
run 2 'PRESET must be none, torch' '' fancy
run 2 'the preset is missing' ''
run 2 'only one preset' '' torch apex
run 2 'initial must be a power of two' '' torch --initial 1000
run 2 'initial (65536) must be from min (0) to max (1024)' '' torch --max 1024
run 2 'unknown option --scale' '' torch --scale 3
