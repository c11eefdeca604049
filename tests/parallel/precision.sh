#!/bin/sh
# Storage, loss scale and skips are the same in every layout: the scaler decides
# once for all ranks, also where one of them alone has the gradient that overflowed.
set -eu
. "$(dirname "$0")/prepare.inc"
prepare

# check OPTION...: some layouts beside one rank, each with these options.
check() {
    rm -rf "$work/one"
    run one 1 "$@"
    while read -r ranks layout options; do
        run other "$ranks" --parallel "$layout" $options "$@"
        same other
        cmp "$work/one/checkpoints/latest/model.safetensors" "$work/other/checkpoints/latest/model.safetensors"
        echo "same: $ranks ranks, $layout $options $*"
        rm -rf "$work/other"
    done
}

# Odd sizes, and biases in fp32 among them.
check --set precision=bf16 --set model.hidden_size=39 --set model.router_bias=true <<'END'
2 dp=2 --zero 2
2 ep=2
2 pp=2 --schedule zb-h1
END
check --set precision=mixed --set model.sliding_window=8 --set model.memory_slots=3 \
    --set model.memory_combine=gated --set training.recompute=full <<'END'
2 ep=2 --zero 3
3 pp=3
END
check --set precision='{preset: fp16, param_grad: bf16, masters: false, rounding: stochastic, communication: bf16}' <<'END'
2 dp=2
2 ep=2 --zero 1
2 pp=2
END

# At the edge of fp16's range: the rule doubles until something overflows.
edge="--set precision=fp16 --set training.loss_scale=article --set training.steps=12 --set training.evaluate_every=0"
check $edge <<'END'
2 dp=2
2 ep=2 --zero 3
2 pp=2
END
grep -q '"nonfinite": true' "$work/one/metrics.jsonl" && grep -q '"nonfinite": false' "$work/one/metrics.jsonl" ||
    { echo "the scale did not come to the edge"; exit 1; }
check --set precision=fp16 --set training.steps=5 --set training.loss_scale=torch \
    --set faults='[{step: 2, kind: overflow}, {step: 3, kind: spike}]' <<'END'
3 dp=3 --zero 1
2 pp=2
END
