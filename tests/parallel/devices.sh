#!/bin/sh
# Ranks whose memory is a device's: what they exchange goes through the host, and the results are those of one rank on
# cpu. The emulator has no access to its memory outside of launches and copies, so a copy that is missing ends the run.
set -eu
. "$(dirname "$0")/prepare.inc"
"$HB_PROGRAM" ops | grep -q '^cuda-emulated *not built' && exit 77
prepare
small="--set training.steps=1 --set training.accumulate=3 --set training.microbatch=1 --set training.evaluate_every=0
    --set data.sequence_length=12 --set model.num_hidden_layers=2"
run one 1 $small
while read -r ranks layout options; do
    run other "$ranks" --set backend=cuda-emulated --parallel "$layout" $options $small
    same other
    echo "same: $ranks ranks, $layout $options"
    rm -rf "$work/other"
done <<'END'
2 dp=2
2 ep=2 --zero 1
4 dp=2,pp=2 --zero 2
4 ep=2,pp=2 --zero 3 --schedule zb-h1 --set training.recompute=full
END
