#!/bin/sh
# A run that goes on in another layout ends like one that was never stopped; its checkpoint has the same weights.
set -eu
. "$(dirname "$0")/prepare.inc"
prepare
sed -i 's/steps: 3/steps: 4/; s/checkpoint_every: 0/checkpoint_every: 2/' "$work/run.yaml"
run one 1
last=checkpoints/step-00000004

while read -r first layout options again other more; do
    run turn "$first" --parallel "$layout" $options
    cmp "$work/turn/$last/model.safetensors" "$work/one/$last/model.safetensors"
    rm -rf "$work/turn/$last" "$work/turn/checkpoints/latest"
    run turn "$again" --resume --parallel "$other" $more
    same turn
    cmp "$work/turn/$last/model.safetensors" "$work/one/$last/model.safetensors"
    echo "same: $first ranks, $layout $options, then $again ranks, $other $more"
    rm -rf "$work/turn"
done <<'END'
1 dp=1 --zero=0 4 dp=2,ep=2 --zero 3
3 pp=3 --zero=1 2 dp=2 --zero 2
END
