#!/usr/bin/env python3
"""How many steps and runs are lost, and under which rule?

    bench/interruptions.py HORNBOOK [--precision NAME]... [--runs N] [--steps N]

Many short runs of a tiny model with planned faults, the same for every rule:
 - a step in 50 is an overflowing batch: its gradients are 2^k times as large, k
   uniform from 0 to 24 (fp32 and bf16: from 96 to 120, as their range is wider);
 - a step in 200 has an input that is NaN, a step in 200 wrong labels;
 - in a run in 10 a weight becomes NaN at a random step and stays it.
Prints for each precision and rule, over all runs:
   interrupted   share of attempted steps whose update was skipped or not finite
   aborted       share of runs that ended before their last step
   dead          share of runs whose last loss is not finite, or that trained nothing
   events        steps that were not finite, per 1000
   spikes        steps whose loss is finite and 6 standard deviations above the 32
                 finite losses before it, per 1000 (train/spikes.h); events + spikes
                 is the figure of stability
A second table takes the planned faults away ("calm") and shows what a rule costs by
itself at the edge of fp16's range, with the share that follows from its cycle.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile

RULES = [  # name, training.loss_scale
    ("no scaler, no check", "{preset: none, skip: false}"),
    ("no scaler, skips", "none"),
    ("article, literal", "article-literal"),
    ("article", "article"),
    ("torch", "torch"),
    ("megatron", "megatron"),
    ("deepspeed", "deepspeed"),
    ("apex", "apex"),
]
CYCLES = [("article", "article", 1 / 2)] + [
    (f"torch, N = {n}", f"{{preset: torch, growth_interval: {n}}}", 1 / (n + 1)) for n in (7, 42, 200)
]
MODEL = """
model: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 48,
        num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 24, max_position_embeddings: 64}
"""


def prepare(hornbook, folder):
    """Text of a small grammar, its tokenizer and shards."""
    source = random.Random(1)
    nouns, verbs = "cat dog bird fish tree house river stone".split(), "sees likes follows finds leaves".split()
    lines = [f"the {source.choice(nouns)} {source.choice(verbs)} the {source.choice(nouns)}." for _ in range(4000)]
    documents = [" ".join(lines[i : i + 20]) for i in range(0, len(lines), 20)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))
    for command in (["tokenizer", "train", "--vocab-size", "320", "--output", "tok", "text.jsonl"],
                    ["data", "build", "--tokenizer", "tok", "--output", "data", "text.jsonl"]):
        subprocess.run([hornbook, *command], cwd=folder, check=True, capture_output=True)


def plan(seed, steps, wide):
    source, faults = random.Random(seed), []
    for step in range(2, steps + 1):
        chance = source.random()
        if chance < 1 / 50:
            exponent = source.uniform(96, 120) if wide else source.uniform(0, 24)
            faults.append(f"{{step: {step}, kind: overflow, factor: {2.0**exponent!r}}}")
        elif chance < 1 / 50 + 1 / 200:
            faults.append(f"{{step: {step}, kind: nan}}")
        elif chance < 1 / 50 + 2 / 200:
            faults.append(f"{{step: {step}, kind: spike}}")
    if source.random() < 1 / 10:
        faults.append(f"{{step: {source.randint(2, steps)}, kind: weight, "
                      "tensor: model.layers.1.self_attn.o_proj.weight}")
    return "[" + ", ".join(faults) + "]"


def train(hornbook, folder, seed, steps, precision, rule, faults):
    """The lines of the run's metrics."""
    name = f"run-{random.getrandbits(64):x}"
    text = (f"run_folder: {name}\nseed: {seed}\nthreads: 1\nprecision: {precision}\n"
            "data: {train: data-train, tokenizer: tok, sequence_length: 32}\n" + MODEL +
            f"training: {{steps: {steps}, microbatch: 4, learning_rate: 3e-3, checkpoint_every: 0, digest_every: {steps},\n"
            f"           tensorboard: false, stop_after_skips: 20, loss_scale: {rule}}}\nfaults: {faults}\n")
    (folder / f"{name}.yaml").write_text(text)
    done = subprocess.run([hornbook, "train", f"{name}.yaml"], cwd=folder, capture_output=True, text=True)
    lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    if not lines and done.returncode:
        raise SystemExit(done.stderr)
    return lines


def bad(line):
    return line["skipped"] or line["nonfinite"]


def spikes(lines):
    """Finite losses far above those before them."""
    window, count = [], 0
    for line in lines:
        loss = line["loss"]
        if loss is None:
            continue
        if len(window) == 32:
            sd = statistics.pstdev(window)
            count += sd > 0 and (loss - statistics.fmean(window)) / sd > 6
        window = window[-31:] + [loss]
    return count


def study(args, folder, precision):
    print(f"\n{precision}: {args.runs} runs of {args.steps} steps with planned faults, every rule the same\n")
    print(f"{'rule':<22}{'interrupted':>12}{'aborted':>10}{'dead':>8}{'events':>10}{'spikes':>9}{'last loss':>11}")
    for name, rule in RULES:
        steps = interrupted = events = jumps = aborted = dead = 0
        last = []
        for run in range(args.runs):
            faults = plan(run, args.steps, precision in ("fp32", "bf16"))
            lines = train(args.hornbook, folder, run + 1, args.steps, precision, rule, faults)
            steps += len(lines)
            interrupted += sum(map(bad, lines))
            events += sum(line["nonfinite"] for line in lines)
            jumps += spikes(lines)
            aborted += len(lines) < args.steps
            trained = rule != "article-literal" or any(map(bad, lines))
            finite = lines[-1]["loss"] is not None
            dead += not (trained and finite)
            if finite:
                last.append(lines[-1]["loss"])
        print(f"{name:<22}{100 * interrupted / steps:>10.2f} %{100 * aborted / args.runs:>8.0f} %"
              f"{100 * dead / args.runs:>6.0f} %{1000 * events / steps:>10.1f}{1000 * jumps / steps:>9.1f}"
              f"{statistics.fmean(last) if last else float('nan'):>11.3f}", flush=True)


def calm(args, folder, precision):
    print(f"\n{precision}, calm: one run of {args.calm} steps without faults, the first {args.calm // 4} not counted\n")
    print(f"{'rule':<22}{'interrupted':>12}{'cycle says':>12}{'last scale':>14}")
    for name, rule, share in CYCLES:
        lines = train(args.hornbook, folder, 1, args.calm, precision, rule, "[]")[args.calm // 4 :]
        print(f"{name:<22}{100 * sum(map(bad, lines)) / len(lines):>10.2f} %{100 * share:>10.2f} %"
              f"{lines[-1]['loss_scale']:>14.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("hornbook", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--precision", action="append", help="fp32, bf16, fp16, mixed; may be repeated (default all)")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--calm", type=int, default=1200, help="steps of the calm runs; 0: none")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(args.hornbook, folder)
        precisions = args.precision or ["fp32", "bf16", "fp16", "mixed"]
        for precision in precisions:
            study(args, folder, precision)
        for precision in precisions:
            if args.calm and precision in ("fp16", "mixed"):
                calm(args, folder, precision)


main()
