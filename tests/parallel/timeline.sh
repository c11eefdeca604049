#!/bin/sh
# --timeline: every rank's actions, exchanges and messages are in RUN/timeline.json, and no bit changes.
set -eu
. "$(dirname "$0")/prepare.inc"
prepare
run one 1 --timeline
has() {
    grep -q "$2" "$work/$1/timeline.json" || { echo "$1: no $2 in timeline.json"; exit 1; }
}
has one '"name":"0F4".*"step":3'
run other 4 --parallel ep=2,pp=2 --zero 2 --schedule zb-h1 --timeline
same other
for rank in 0 1 2 3; do
    has other '"name":"exchange experts","cat":"experts".*"pid":'$rank
    has other '"name":"update","cat":"compute".*"pid":'$rank
done
has other '"name":"1W0","cat":"compute".*"pid":2'
has other '"name":"to rank 3","cat":"message".*"bytes":[1-9]'
has other '"name":"exchange data","cat":"reduce"'
[ "$(ls "$work/other/timeline" | wc -l)" = 4 ]
grep -q '^timeline .*timeline.json: compute [0-9.]* % experts [0-9.]* %' "$work/other.log"
