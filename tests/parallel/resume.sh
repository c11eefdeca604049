#!/bin/sh
# A run that goes on in another layout ends like one that was never stopped; its checkpoint has the same weights.
# So does one whose ranks were stopped by a signal.
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

# --- the launcher passes a signal on, or only one rank gets it: all stop after the same step
sed -i 's/steps: 4/steps: 60/; s/checkpoint_every: 2/checkpoint_every: 0/; s/evaluate_every: 2/evaluate_every: 0/' \
    "$work/run.yaml"
rm -rf "$work/one"
run one 1
"$HB_MPIEXEC" -n 3 "$HB_PROGRAM" train "$work/run.yaml" --set run_folder="$work/turn" --parallel dp=3 --zero 2 \
    </dev/null >"$work/turn.log" 2>&1 &
job=$!
tries=0
while [ $tries -lt 200 ] && ! grep -q '"step": 3,' "$work/turn/metrics.jsonl" 2>/dev/null; do
    sleep 0.05
    tries=$((tries + 1))
done
kill -INT $job
wait $job || { cat "$work/turn.log"; exit 1; }
grep -q "^stopped; continue with: mpiexec -n 3 hornbook train $work/turn/config.yaml --resume$" "$work/turn.log" || { echo "not stopped"; cat "$work/turn.log"; exit 1; }
run turn 2 --resume --parallel pp=2
same turn
echo "same: 3 ranks, dp=3, stopped by SIGINT, then 2 ranks, pp=2"
