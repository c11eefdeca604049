#!/bin/sh
# What every rank sent in a step, counted by its timeline, is what the plan said: messages and bytes between stages,
# of gradients and of weights.
set -eu
. "$(dirname "$0")/prepare.inc"
prepare
cat >"$work/machine.yaml" <<'END'
{name: test, node: 4, memory: 1e9, compute: 1e9, memory_bandwidth: 1e10,
 inside: {latency: 1e-6, bandwidth: 1e9}, between: {latency: 1e-5, bandwidth: 1e8}}
END

# run_sent RANK: "category messages bytes" of step 1 of the run "other".
run_sent() {
    for pair in message:stages reduce:gradients gather:weights; do
        grep "\"cat\":\"${pair%:*}\"" "$work/other/timeline/rank-0000$1.jsonl" | grep '"step":1[,}]' |
            awk -v name="${pair#*:}" '{
                if (match($0, /"messages":[0-9]+/)) messages += substr($0, RSTART + 11, RLENGTH - 11)
                if (match($0, /"bytes":[0-9]+/)) bytes += substr($0, RSTART + 8, RLENGTH - 8)
            } END { print name, messages + 0, bytes + 0 }'
    done
}

# plan_sent DATA_RANK STAGE_RANK OPTION...: the same out of the plan.
plan_sent() {
    d=$1 s=$2
    shift 2
    "$HB_PROGRAM" plan "$work/run.yaml" --machine "$work/machine.yaml" --data-rank "$d" --json "$@" >"$work/plan.json"
    tr -d ' \n' <"$work/plan.json" | awk -v s="$s" '{
        at = index($0, "\"stage_rank\":" s ","); rest = substr($0, at)
        rest = substr(rest, index(rest, "\"sent\""))
        n = split("stages gradients weights", names, " ")
        for (i = 1; i <= n; i++) {
            part = substr(rest, index(rest, "\"" names[i] "\":{"))
            match(part, /"messages":[0-9.e+]+/); messages = substr(part, RSTART + 11, RLENGTH - 11)
            match(part, /"bytes":[0-9.e+]+/); bytes = substr(part, RSTART + 8, RLENGTH - 8)
            print names[i], messages + 0, bytes + 0
        }
    }'
}

while read -r ranks D layout options; do
    run other "$ranks" --parallel "$layout" $options --timeline
    rank=0
    while [ "$rank" -lt "$ranks" ]; do
        run_sent "$rank" >"$work/sent"
        plan_sent $((rank % D)) $((rank / D)) --parallel "$layout" $options >"$work/planned"
        diff "$work/planned" "$work/sent" >"$work/difference" ||
            { echo "$layout $options, rank $rank: planned <, sent >"; cat "$work/difference"; exit 1; }
        rank=$((rank + 1))
    done
    echo "equal: $ranks ranks, $layout $options: $(tr '\n' ' ' <"$work/sent")"
    rm -rf "$work/other"
done <<'END'
2 2 dp=2 --zero 0
3 3 dp=3 --zero 1
2 2 dp=2 --zero 2 --set training.recompute=full
3 3 dp=3 --zero 3 --set training.recompute=full
2 1 pp=2 --schedule zb-h1
2 2 ep=2 --zero 3
4 2 dp=2,pp=2 --zero 3 --schedule interleaved --set training.recompute=selective
4 2 ep=2,pp=2 --zero 1 --schedule zb-h1
END
