#!/bin/sh
# The exercises of docs/exercises.md: the start compiles, the answers are right, and
# what is to be broken breaks in the way the page says.
set -eu
program=${HB_PROGRAM:-hornbook}
root=$(cd "${HB_SRCDIR:-.}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build NAME SOURCE FLAG...
build() {
    out=$work/$1.so source=$2
    shift 2
    ${HB_CC:-cc} -std=gnu11 -O2 -ffp-contract=off -fPIC -shared ${HB_TEST_CFLAGS:-} -I"$root/src" "$@" "$source" -o "$out" -lm
}

# run EXIT-CODE TEXT ARGUMENT...: the text must stand in what verify says.
run() {
    want=$1 text=$2
    shift 2
    code=0
    "$program" verify --golden "$root/golden/ops" "$@" > "$work/said" 2>&1 || code=$?
    [ $code = "$want" ] || { echo "verify $*: exit $code, must be $want"; cat "$work/said"; exit 1; }
    grep -q -e "$text" "$work/said" || { echo "verify $*: does not say '$text'"; cat "$work/said"; exit 1; }
}

exercises=$root/examples/exercises
build start "$exercises/start.c"
run 1 'exercise 1 is not written yet' --backend "$work/start.so" --op add

build solved "$exercises/solved.c"
run 0 'backend solved, canonical: .* 0 failed' --backend "$work/solved.so"

# 2: other parentheses. 8: one element too many, and into an input.
sed 's/(gate\[i\] \* hb_sigmoidf(gate\[i\])) \* up\[i\]/gate[i] * (hb_sigmoidf(gate[i]) * up[i])/' "$exercises/solved.c" > "$work/swiglu.c"
build swiglu "$work/swiglu.c"
run 1 'bits differ from ref, first at out' --backend "$work/swiglu.so" --op swiglu_forward
run 0 'swiglu_forward .* differ' --backend "$work/swiglu.so" --op swiglu_forward --numerics fast
sed 's/i < n; i++/i <= n; i++/' "$exercises/solved.c" > "$work/behind.c"
build behind "$work/behind.c"
run 1 'wrote behind the end of out' --backend "$work/behind.so" --op add
sed 's/((float \*)args->out.data)\[i\] = /((float *)args->a.data)[i] = &/' "$exercises/solved.c" > "$work/input.c"
build input "$work/input.c"
run 1 'wrote into a' --backend "$work/input.so" --op add

# 4: one accumulator.
build one "$exercises/solved.c" -DONE_ACCUMULATOR
run 1 'bits differ from ref, first at' --backend "$work/one.so" --op rmsnorm_forward
run 0 ' 0 failed' --backend "$work/one.so" --op rmsnorm_forward --numerics fast

# 5: the rows behind the last four, and the repair.
plugin=$root/examples/backend-plugin/plugin.c
build broken "$plugin"
run 1 'column_sum-020 (ADD n=65 D=7 positive): first wrong element' --backend "$work/broken.so" --op column_sum
sed 's/n - n % 4/n/' "$plugin" > "$work/repaired.c"
build repaired "$work/repaired.c"
run 0 ' 0 failed' --backend "$work/repaired.so" --op column_sum

# 7: fast-math stops the compiler, and without the header verify.
if build fast "$exercises/solved.c" -ffast-math 2> "$work/said"; then
    echo "core/math.h lets fast-math pass"
    exit 1
fi
grep -q 'fast-math changes results' "$work/said"

# 9: threads change nothing; other microbatches do, and the trace says where.
(
    HB_MPIEXEC=none HB_PROGRAM=$program
    . "$root/tests/parallel/prepare.inc"
    prepare
    batch() {
        echo "--set training.microbatch=$1 --set training.accumulate=$2"
    }
    run one 1 $(batch 2 2) --trace 1:1
    run two 1 $(batch 2 2) --trace 1:1 --set threads=2
    run four 1 $(batch 4 1) --trace 1:1
    cd "$work"
    "$program" diff one two > said || { cat said; exit 1; }
    grep -q 'steps of both are equal' said
    code=0
    "$program" diff one four > said || code=$?
    [ $code = 1 ] || { cat said; exit 1; }
    grep -q 'Step 1 is the first that differs' said
    grep -q 'Trace: call 0 of step 1 is the first that differs' said
)

# 10: a case by hand; the expected sum stands in the last 12 bytes, before its sum of |terms|.
if command -v python3 >/dev/null; then
    for expected in 6 6.0000001; do
        mkdir -p "$work/case-$expected"
        python3 - "$work/case-$expected/sum-001.safetensors" $expected <<'END'
import json, struct, sys
header = json.dumps({
    "__metadata__": {"format": "hornbook-golden 1", "op": "sum", "case": "by hand", "dtype": "F32",
                     "args": json.dumps({"squares": False, "factor": 1.0}),
                     "outputs": json.dumps({"out": {"dtype": "F64", "n": 2}})},
    "input.x": {"dtype": "F32", "shape": [1, 3], "data_offsets": [0, 12]},
    "output.out": {"dtype": "F64", "shape": [1], "data_offsets": [12, 20]},
    "abs.out": {"dtype": "F32", "shape": [1], "data_offsets": [20, 24]}}).encode()
header += b" " * (-len(header) % 8)
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + struct.pack("<3fdf", 1, 2, 3, float(sys.argv[2]), 6))
END
    done
    run 0 ' 1 covered, 0 failed' --backend ref --golden "$work/case-6"
    run 1 'first wrong element out\[0\]: expected 6.0000001, got 6' --backend ref --golden "$work/case-6.0000001"
fi
