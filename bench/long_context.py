#!/usr/bin/env python3
"""What a window with slots saves whole processes: memory of inference, prefill, training step.

    bench/long_context.py HORNBOOK [--tokens N] [--layers N] [--heads N] [--rounds N]

Two models of the same shape (heads of 64, as many for keys and values), one with full attention, one with a window
of 2048 and 64 learned slots, take turns. Each reads a prompt of --tokens tokens and writes 64 more: printed is the most
memory that `hornbook generate` ever had (the system's maximum resident set), of that the weights and the cache of
keys and values, which follow from the shape, and what the same program needs for a prompt of one token. Then it reads
the prompt and writes one: the time of the process without what it takes for a prompt of one token is the prefill. And each
trains on sequences of --tokens tokens: the step from `tokens_per_second` of metrics.jsonl. Times are medians.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

WINDOW, SLOTS, WRITTEN = 2048, 64, 64
MODELS = ("full", "window")


def call(folder, *command):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")


def prepare(hornbook, folder, args):
    """A tokenizer, shards, and both models, trained on one sequence: their weights do not matter."""
    # A byte that no merge knows is a token of its own.
    (folder / "prompt").write_text("\x01" * args.tokens)
    (folder / "short").write_text("\x01")
    # Attention ends at the end of a document, so documents are longer than a sequence.
    texts = (" ".join(str(i) for i in range(first, first + args.tokens)) for first in range(20))
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    call(folder, hornbook, "tokenizer", "train", "--vocab-size", "270", "--output", "tok", "text.jsonl")
    call(folder, hornbook, "data", "build", "--tokenizer", "tok", "--output", "data", "text.jsonl")
    width = 64 * args.heads
    for name, extra in (("full", ""), ("window", f", sliding_window: {WINDOW}, memory_slots: {SLOTS}")):
        (folder / f"{name}.yaml").write_text(
            f"data: {{train: data-train, tokenizer: tok, sequence_length: {args.tokens}}}\n"
            "training: {steps: 1, microbatch: 1, tensorboard: false}\n"
            f"model: {{hidden_size: {width}, num_hidden_layers: {args.layers}, num_attention_heads: {args.heads},\n"
            f"        intermediate_size: {width * 8 // 3}, max_position_embeddings: {args.tokens + 1024}{extra}}}\n")
        train(hornbook, folder, name, 0)


def train(hornbook, folder, name, number):
    """Seconds of a step: the second of two, when all memory is there."""
    run = name if number == 0 else f"{name}-{number}"
    call(folder, hornbook, "train", f"{name}.yaml", "--set", f"run_folder={run}", "--set",
         f"training.steps={1 if number == 0 else 2}")
    line = json.loads((folder / run / "metrics.jsonl").read_text().splitlines()[-1])
    return line["tokens"] / line["step"] / line["tokens_per_second"]


def generate(hornbook, folder, name, prompt, written):
    """Seconds and bytes that the process needed."""
    begin = time.monotonic()
    with open(folder / prompt) as text, open(os.devnull, "w") as nowhere:
        process = subprocess.Popen([hornbook, "generate", name, "--tokens", str(written), "--temperature", "0"],
                                   cwd=folder, stdin=text, stdout=nowhere, stderr=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"generate {name} failed")
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def memory(hornbook, folder, args):
    print(f"{'MB':<10}{'process':>9}{'weights':>9}{'cache':>9}{'one token':>11}")
    for name in MODELS:
        weights = sum(path.stat().st_size for path in (folder / name).glob("checkpoints/step-*/model.safetensors"))
        rows = args.tokens + WRITTEN if name == "full" else WINDOW + SLOTS
        cache = 2 * 4 * 64 * args.heads * args.layers * rows
        sizes = [generate(hornbook, folder, name, prompt, WRITTEN)[1] for prompt in ("prompt", "short")]
        print(f"{name:<10}" + "".join(f"{size / 1e6:>9.1f}" for size in (sizes[0], weights, cache))
              + f"{sizes[1] / 1e6:>11.1f}")


def times(hornbook, folder, args):
    prefill, step = {name: [] for name in MODELS}, {name: [] for name in MODELS}
    for number in range(1, args.rounds + 1):
        for name in MODELS:
            whole, start = (generate(hornbook, folder, name, prompt, 1)[0] for prompt in ("prompt", "short"))
            prefill[name].append(whole - start)
            step[name].append(train(hornbook, folder, name, number))
    print(f"{'ms':<10}{'prefill':>9}{'step':>9}")
    for name in MODELS:
        print(f"{name:<10}{1e3 * statistics.median(prefill[name]):>9.0f}{1e3 * statistics.median(step[name]):>9.0f}")
    ratios = [statistics.median(t["full"]) / statistics.median(t["window"]) for t in (prefill, step)]
    print(f"{'ratio':<10}" + "".join(f"{ratio:>9.2f}" for ratio in ratios))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("hornbook", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--tokens", type=int, default=16384, help="of the prompt and of a sequence")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3, help="of the times")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(args.hornbook, folder, args)
        memory(args.hornbook, folder, args)
        times(args.hornbook, folder, args)


main()
