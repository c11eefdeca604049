#!/bin/sh
# The results of a run are the same in every layout: a few of them (tools/check-layouts has many), or
# those that are given: layouts.sh [--set KEY=VALUE] ["RANKS LAYOUT OPTION..."]...
set -eu
. "$(dirname "$0")/prepare.inc"
prepare
common=
if [ "${1:-}" = --set ]; then
    common="--set $2" # for the run by one as well
    shift 2
fi
run one 1 $common
list() {
    if [ $# -gt 0 ]; then
        printf '%s\n' "$@"
        return
    fi
    cat <<'END'
2 dp=2
3 dp=3 --zero 1
2 dp=2 --zero 2
3 dp=3 --zero 3
2 pp=2
3 pp=3 --schedule zb-h1 --set parallel.costs=COSTS
2 pp=2 --schedule zb-v --set model.tie_word_embeddings=false
4 dp=2,pp=2 --zero 3 --schedule interleaved
2 pp=2 --schedule SCHEDULE
2 ep=2 --zero 2
5 ep=5 --set training.recompute=full
4 ep=2,pp=2 --zero 1 --schedule zb-h1 --set training.recompute=selective
END
}
list "$@" >"$work/list"
printf '%s\n' '9 0 0' '1 1 1' '1 1 1' '1 1 1' '1 1 1' '0 9 9' >"$work/costs.txt"
# A schedule of one's own, in a folder with a long name: the last stage postpones what it may.
long=$work/$(printf '%0200d' 0)/$(printf '%0200d' 0)
mkdir -p "$long"
cat >"$long/schedule.txt" <<'END'
0F0 0F1 0F2 0I0 0F3 0I1 0W0 0F4 0I2 0I3 0W1 0W2 0I4 0W3 0W4
1F0 1I0 1F1 1I1 1F2 1I2 1W0 1F3 1I3 1F4 1I4 1W1 1W2 1W3 1W4
END
while read -r ranks layout options; do
    options=$(echo "$options" | sed "s|COSTS|$work/costs.txt|; s|SCHEDULE|$long/schedule.txt|")
    run other "$ranks" --parallel "$layout" $options $common
    same other
    echo "same: $ranks ranks, $layout $options"
    rm -rf "$work/other"
done <"$work/list"
