#!/bin/sh
# Planned faults and what a run says of them are the same in every layout: the steps that are skipped, the
# step at which it ends, and the first tensor that is not finite.
set -eu
. "$(dirname "$0")/prepare.inc"
prepare

# What a run that must end by itself says.
ends() {
    if run "$@" >/dev/null; then
        echo "$1 went on"
        return 1
    fi
    sed -n 's/.*\(step [0-9]*: [0-9]* steps in a row\)/\1/p' "$work/$1.log" | head -n 1 >"$work/$1.says"
    [ -s "$work/$1.says" ] || { cat "$work/$1.log"; return 1; }
}

# check run|ends OPTION...: layouts beside one rank, each with these options.
check() {
    how=$1
    shift
    rm -rf "$work/one"
    $how one 1 "$@"
    [ "$how" = run ] || sed 's/^/one rank: /' "$work/one.says"
    while read -r ranks layout options; do
        $how other "$ranks" --parallel "$layout" $options "$@"
        same other
        [ "$how" = run ] || diff "$work/one.says" "$work/other.says"
        echo "same: $ranks ranks, $layout $options"
        rm -rf "$work/other"
    done
}

# A number of the input is NaN for one step; masters keep what the weights lose.
check run --set precision=fp16 --set training.loss_scale=torch --set model.tie_word_embeddings=true \
    --set faults='[{step: 2, kind: nan}]' <<'END'
2 dp=2 --zero 3
2 pp=2 --schedule zb-h1
2 ep=2 --zero 1
END
# A weight that stays NaN.
stop="--set training.stop_after_skips=2 --set training.evaluate_every=0"
check ends $stop --set precision=bf16 \
    --set faults='[{step: 1, kind: weight, tensor: model.layers.2.self_attn.k_proj.weight}]' <<'END'
3 dp=3 --zero 3
2 pp=2 --schedule zb-h1
END
check ends $stop --set faults='[{step: 2, kind: weight, tensor: model.layers.3.mlp.experts.*.down_proj.weight}]' <<'END'
2 ep=2 --zero 3
2 pp=2
END
# Gradients that overflow, and the article's code.
check ends $stop --set precision=fp16 --set training.loss_scale=2^40 <<'END'
2 dp=2 --zero 2
2 pp=2 --schedule zb-h1
END
check ends $stop --set training.loss_scale=article-literal --set faults='[{step: 2, kind: nan}]' <<'END'
2 dp=2 --zero 2
2 pp=2
END
