#!/usr/bin/env python3
"""What several ranks save and cost, measured on runs of real ranks of this machine.

    bench/ranks.py HORNBOOK memory [--ranks N]...
                                        ZeRO level 3 on 1, 5 and 8 ranks: counted bytes of states, and RSS
    bench/ranks.py HORNBOOK experts     share of the exchange of expert rows in the ranks' time
    bench/ranks.py HORNBOOK speed       a dense model, ZeRO level 1, 8 microbatches: two ranks of one thread
                                        beside one rank of two threads, taking turns

States are parameters, gradients (roots) and moments, as the run counts them (--timeline); RSS is the largest
resident set of a rank's process, as the kernel counts it. Needs mpiexec of the MPI that HORNBOOK was built with.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile

os.environ["OMP_WAIT_POLICY"] = "passive"
DENSE = """hidden_size: 384, num_hidden_layers: 6, num_attention_heads: 6, num_key_value_heads: 2, head_dim: 64,
        intermediate_size: 1024, vocab_size: 8192, max_position_embeddings: 512"""
EXPERTS = """hidden_size: 256, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64,
        num_experts: 16, num_experts_per_tok: 4, moe_intermediate_size: 128, vocab_size: 2048, max_position_embeddings: 512"""


def prepare(hornbook, folder):
    """Random words, their tokenizer and shards."""
    source = random.Random(1)
    words = ["".join(source.choice("abcdefghijklmnop") for _ in range(5)) for _ in range(400)]
    documents = [" ".join(source.choice(words) for _ in range(300)) for _ in range(600)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))
    for command in (["tokenizer", "train", "--vocab-size", "600", "--output", "tok", "text.jsonl"],
                    ["data", "build", "--tokenizer", "tok", "--output", "data", "text.jsonl"]):
        subprocess.run([hornbook, *command], cwd=folder, check=True, capture_output=True)


def train(hornbook, folder, name, ranks, model, training, length, options, threads=1):
    """Runs it; returns what it printed and the largest RSS of a rank."""
    (folder / f"{name}.yaml").write_text(
        f"run_folder: {name}\nthreads: {threads}\n"
        f"data: {{train: data-train, tokenizer: tok, sequence_length: {length}}}\nmodel: {{{model}}}\n"
        f"training: {{{training}, checkpoint_every: 0, digest_every: 0, evaluate_every: 0, tensorboard: false}}\n")
    launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
    wrapper = [sys.executable, os.path.abspath(__file__), hornbook, "rss", name]
    done = subprocess.run([*launcher, *wrapper, "train", f"{name}.yaml", *options], cwd=folder, capture_output=True,
                          text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    rss = [int(path.read_text()) for path in folder.glob(f"{name}.rss-*")]
    return done.stdout + done.stderr, max(rss)


def wrapped(hornbook, name, arguments):
    """One rank: runs the program and notes its largest RSS, in bytes."""
    code = subprocess.call([hornbook, *arguments], close_fds=False)  # PMI speaks through one
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    pathlib.Path(f"{name}.rss-{os.getpid()}").write_text(str(used))
    raise SystemExit(code)


def states(folder, name):
    """Largest bytes of a rank in step 1: parameters, gradients and moments; everything that is counted."""
    most = [0, 0]
    for path in (folder / name / "timeline").glob("rank-*.jsonl"):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event.get("name") == "memory" and event["step"] == 1:
                a = event["args"]
                most[0] = max(most[0], a["parameters"] + a["gradients"] + a["optimizer"])
                most[1] = max(most[1], sum(a.values()))
    return most


def memory(hornbook, folder, counts):
    first = None
    print(f"{'ranks':>5} {'states MB':>10} {'':>8} {'all counted MB':>15} {'':>8} {'RSS MB':>8} {'':>8}")
    for ranks in counts:
        name = f"zero-{ranks}"
        options = ["--parallel", f"dp={ranks}", "--zero", "3", "--timeline"]
        _, rss = train(hornbook, folder, name, ranks, DENSE, "steps: 1, microbatch: 1, accumulate: 40", 64, options)
        row = [*states(folder, name), rss]
        first = first or row
        print(f"{ranks:5}", *(f"{1e-6 * x:{w}.1f} {100 * (x / y - 1):+7.1f}%" for x, y, w in zip(row, first, (10, 15, 8))),
              flush=True)


def experts(hornbook, folder):
    for ranks, layout in ((2, "ep=2"), (4, "ep=4"), (4, "dp=2,ep=2")):
        name = f"experts-{layout}"
        text, _ = train(hornbook, folder, name, ranks, EXPERTS, "steps: 4, microbatch: 4, accumulate: 4", 256,
                        ["--parallel", layout, "--zero", "1", "--timeline"])
        print(layout, next(line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("timeline")), flush=True)


def seconds(folder, name):
    lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(1 / line["tokens_per_second"] for line in lines[1:])


def speed(hornbook, folder):
    rounds = []
    for turn in range(3):
        took = []
        for ranks, threads in ((1, 2), (2, 1)):
            name = f"speed-{turn}-{ranks}"
            train(hornbook, folder, name, ranks, DENSE, "steps: 6, microbatch: 2, accumulate: 8", 128,
                  ["--parallel", f"dp={ranks}", "--zero", "1"], threads)
            took.append(seconds(folder, name))
        rounds.append(took[0] / took[1])
        print(f"one rank of two threads {1 / took[0]:7.0f} tokens/s, two ranks of one thread {1 / took[1]:7.0f}: "
              f"{rounds[-1]:.3f}", flush=True)
    print(f"median of the ratios {statistics.median(rounds):.3f}")


def main():
    if len(sys.argv) > 3 and sys.argv[2] == "rss":
        wrapped(sys.argv[1], sys.argv[3], sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hornbook")
    parser.add_argument("what", choices=("memory", "experts", "speed"))
    parser.add_argument("--ranks", type=int, action="append")
    arguments = parser.parse_args()
    hornbook = os.path.abspath(arguments.hornbook)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(hornbook, folder)
        {"memory": lambda h, f: memory(h, f, arguments.ranks or (1, 5, 8)), "experts": experts, "speed": speed}[arguments.what](hornbook, folder)


if __name__ == "__main__":
    main()
