#!/bin/sh
# --trace on several ranks: what every block hands on is the same as on one rank, whatever the layout, and diff
# names the first block that is not.
set -eu
. "$(dirname "$0")/prepare.inc"
prepare
run one 1 --trace 2:2
while read -r ranks layout options; do
    run other "$ranks" --parallel "$layout" $options --trace 2:2
    [ "$(ls "$work/other/trace" | wc -l)" = "$ranks" ]
    same other
    "$HB_PROGRAM" diff "$work/one" "$work/other" >"$work/diff" || { cat "$work/diff"; exit 1; }
    # 5 microbatches: 5 blocks forward, 5 with an input gradient
    grep -q '^Traces of ranks: 50 results of blocks from step 2 on are equal\.' "$work/diff" ||
        { cat "$work/diff"; exit 1; }
    echo "equal: $ranks ranks, $layout $options"
    rm -rf "$work/other"
done <<'END'
3 dp=3 --zero 3
2 ep=2 --zero 2
4 ep=2,pp=2 --schedule zb-v --set training.recompute=full
END

# One digest of a rank's trace is another one.
run other 2 --parallel pp=2 --trace 2:2
sed -i '/"microbatch": 3, "block": "decoder 2", "pass": "input gradient"/s/\("out": {"[a-z]*": \["[^"]*", "\)..../\1beef/' \
    "$work/other/trace/rank-00000.jsonl" "$work/other/trace/rank-00001.jsonl"
if "$HB_PROGRAM" diff "$work/one" "$work/other" >"$work/diff"; then
    echo "no difference seen"
    exit 1
fi
grep -q '^microbatch 3 of step 2, decoder 2, input gradient is the first that differs' "$work/diff" ||
    { cat "$work/diff"; exit 1; }
grep -q 'parallel dp=1 --trace 2:2' "$work/diff" || { cat "$work/diff"; exit 1; }
echo "trace.sh: layouts agree block by block"
