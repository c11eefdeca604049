#!/usr/bin/env python3
"""Memory of a whole process that generates: a window with slots beside full attention.

    bench/inference_memory.py HORNBOOK [--tokens N] [--layers N] [--heads N]

Two models of the same shape (heads of 64, as many for keys and values), one with full attention, one with a
window of 2048 and 64 learned slots, each read a prompt of --tokens tokens and write 64 more. Printed is the
most memory the process `hornbook generate` ever had (the system's maximum resident set), of that the weights and
the cache of keys and values, which follow from the shape, and what the same program needs for a prompt of one token.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

WINDOW, SLOTS, WRITTEN = 2048, 64, 64


def prepare(hornbook, folder, args):
    """A tokenizer, shards, and both models, trained for one step: their weights do not matter."""
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": f"a b c d e f g {i}"}) + "\n" for i in range(200)))
    for command in (["tokenizer", "train", "--vocab-size", "270", "--output", "tok", "text.jsonl"],
                    ["data", "build", "--tokenizer", "tok", "--output", "data", "text.jsonl"]):
        subprocess.run([hornbook, *command], cwd=folder, check=True, capture_output=True)
    width = 64 * args.heads
    for name, extra in (("full", ""), ("window", f", sliding_window: {WINDOW}, memory_slots: {SLOTS}")):
        (folder / f"{name}.yaml").write_text(
            f"run_folder: {name}\ndata: {{train: data-train, tokenizer: tok, sequence_length: 16}}\n"
            "training: {steps: 1, microbatch: 1, tensorboard: false}\n"
            f"model: {{hidden_size: {width}, num_hidden_layers: {args.layers}, num_attention_heads: {args.heads},\n"
            f"        intermediate_size: {width * 8 // 3}, max_position_embeddings: {args.tokens + 1024}{extra}}}\n")
        subprocess.run([hornbook, "train", f"{name}.yaml"], cwd=folder, check=True, capture_output=True)


def peak(hornbook, folder, name, prompt):
    """Bytes that the process had at most."""
    (folder / "prompt").write_text(prompt)
    with open(folder / "prompt") as text, open(os.devnull, "w") as nowhere:
        process = subprocess.Popen([hornbook, "generate", name, "--tokens", str(WRITTEN), "--temperature", "0"],
                                   cwd=folder, stdin=text, stdout=nowhere, stderr=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"generate {name} failed")
    return usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("hornbook", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--tokens", type=int, default=16384, help="of the prompt")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(args.hornbook, folder, args)
        # A byte that no merge knows is a token of its own.
        prompt = "\x01" * args.tokens
        print(f"{'MB':<10}{'process':>9}{'weights':>9}{'cache':>9}{'one token':>11}")
        got = {}
        for model in ("full", "window"):
            weights = (folder / model / "checkpoints").glob("step-*/model.safetensors")
            size = sum(path.stat().st_size for path in weights)
            rows = args.tokens + WRITTEN if model == "full" else WINDOW + SLOTS
            cache = 2 * 4 * 64 * args.heads * args.layers * rows
            got[model] = peak(args.hornbook, folder, model, prompt)
            small = peak(args.hornbook, folder, model, "\x01")
            print(f"{model:<10}{got[model] / 1e6:>9.1f}{size / 1e6:>9.1f}{cache / 1e6:>9.1f}{small / 1e6:>11.1f}")
        print(f"process {100 * (got['window'] / got['full'] - 1):.1f} %")


main()
