#!/bin/sh
# What every rank sent and held in a step, counted by its timeline, is what the plan said, given the router's choices:
# messages and bytes between stages, to experts, of gradients and of weights; bytes of memory by category at their peaks.
# The choices are those of a run on one rank: they are the same in every layout.
set -eu
. "$(dirname "$0")/prepare.inc"
prepare
cat >"$work/machine.yaml" <<'END'
{name: test, node: 4, memory: 1e9, compute: 1e9, memory_bandwidth: 1e10,
 inside: {latency: 1e-6, bandwidth: 1e9}, between: {latency: 1e-5, bandwidth: 1e8}}
END
categories="parameters gradients optimizer gathered activations fold exchange"

# of_run RANK: "what messages bytes" that were sent in step 1 of the run "other", "category bytes" that were held.
of_run() {
    for pair in message:stages experts:experts reduce:gradients gather:weights; do
        grep "\"cat\":\"${pair%:*}\"" "$work/other/timeline/rank-0000$1.jsonl" | grep '"step":1[,}]' |
            awk -v name="${pair#*:}" '{
                if (match($0, /"messages":[0-9]+/)) messages += substr($0, RSTART + 11, RLENGTH - 11)
                if (match($0, /"bytes":[0-9]+/)) bytes += substr($0, RSTART + 8, RLENGTH - 8)
            } END { print "sent", name, messages + 0, bytes + 0 }'
    done
    grep '"cat":"memory"' "$work/other/timeline/rank-0000$1.jsonl" | grep '"step":1[,}]' |
        awk -v names="$categories messages" '{
            n = split(names, name, " ")
            for (i = 1; i <= n; i++)
                if (match($0, "\"" name[i] "\":[0-9]+"))
                    print "held", name[i], substr($0, RSTART + length(name[i]) + 3, RLENGTH - length(name[i]) - 3) + 0
        }'
}

# of_plan DATA_RANK STAGE_RANK OPTION...: the same out of the plan; of messages between stages the least and the most.
of_plan() {
    d=$1 s=$2
    shift 2
    "$HB_PROGRAM" plan "$work/run.yaml" --machine "$work/machine.yaml" --data-rank "$d" --json "$@" >"$work/plan.json"
    tr -d ' \n' <"$work/plan.json" | awk -v s="$s" -v names="$categories" '
        # The number behind "key": in the object behind "inside":{ of this rank.
        function number(inside, key,    part) {
            part = substr(rest, index(rest, "\"" inside "\":{"))
            part = substr(part, index(part, "\"" key "\":"))
            match(part, /:[0-9.e+]+/)
            return substr(part, RSTART + 1, RLENGTH - 1) + 0
        }
        {
            rest = substr($0, index($0, "\"stage_rank\":" s ","))
            n = split("stages experts gradients weights", kind, " ")
            for (i = 1; i <= n; i++)
                print "sent", kind[i], number(kind[i], "messages"), number(kind[i], "bytes")
            n = split(names, name, " ")
            for (i = 1; i <= n; i++)
                print "held", name[i], number("bytes", name[i])
            print "messages", number("bytes", "messages"), number("worst_bytes", "messages") >"/dev/stderr"
        }' 2>"$work/messages"
}

printf '%s\n' '0 0 0' '1 1 1' '1 1 1' '1 1 1' '1 1 1' '0 9 9' >"$work/costs.txt" # the head alone is a stage
while read -r N D layout options; do
    options=$(echo "$options" | sed "s|COSTS|$work/costs.txt|")
    precision=$(echo " $options" | sed -n 's/.*--set precision=\([a-z0-9]*\).*/\1/p')
    chosen=one-${precision:-fp32}
    [ -d "$work/$chosen" ] || run "$chosen" 1 --timeline --set training.steps=2 ${precision:+--set precision=$precision}
    run other "$N" --parallel "$layout" $options --timeline --set training.steps=2
    rank=0
    while [ "$rank" -lt "$N" ]; do
        of_run "$rank" >"$work/run"
        of_plan $((rank % D)) $((rank / D)) --parallel "$layout" $options --routing "$work/$chosen" >"$work/planned"
        sed '/^held messages/d' "$work/run" >"$work/exact"
        diff "$work/planned" "$work/exact" >"$work/difference" ||
            { echo "$layout $options, rank $rank: planned <, run >"; cat "$work/difference"; exit 1; }
        # Messages that nobody has taken yet stay in memory: how many is a matter of time.
        awk -v run="$(sed -n 's/^held messages //p' "$work/run")" '{ exit !($2 <= run && run <= $3) }' "$work/messages" ||
            { echo "$layout $options, rank $rank: $(cat "$work/messages") planned, $(grep '^held messages' "$work/run")"; exit 1; }
        rank=$((rank + 1))
    done
    echo "equal: $N ranks, $layout $options: $(tr '\n' ',' <"$work/run")"
    rm -rf "$work/other"
done <<'END'
1 1 dp=1
2 2 dp=2 --zero 0
3 3 dp=3 --zero 1
2 2 dp=2 --zero 2 --set training.recompute=full
3 3 dp=3 --zero 3 --set training.recompute=full
2 1 pp=2 --schedule zb-h1 --set parallel.costs=COSTS
2 2 ep=2 --zero 3
2 2 ep=2 --set training.recompute=full
4 4 dp=2,ep=2 --zero 2 --set precision=bf16
4 2 dp=2,pp=2 --zero 3 --schedule interleaved --set training.recompute=selective --set precision=mixed
4 2 ep=2,pp=2 --zero 1 --schedule zb-h1 --set precision=fp16
8 4 dp=2,ep=2,pp=2 --zero 3 --schedule 1f1b
END
