#!/usr/bin/env python3
"""Writes the golden cases of every op.

    generate.py FOLDER        into FOLDER/ops, with FOLDER/MANIFEST.sha256

The oracle is PyTorch in float64 (autograd where there is a gradient). It shares no code
with the library, links nothing of it and reads no file that it wrote: expected values
cannot come from what they test.
"""

import hashlib
import pathlib
import sys

import torch

import attention
import attention_sight
import products
import routing
import rows
import training

# Entries whose files carry their op's name.
STEM = ("embedding", "rmsnorm", "attention", "router", "balance", "dispatch", "combine", "swiglu", "fold")


def main():
    folder = pathlib.Path(sys.argv[1])
    (folder / "ops").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    count, seen, lines = {}, set(), []
    for module in (products, rows, attention, attention_sight, routing, training):
        for case in module.cases():
            key = (case.op, case.label, case.dtype)
            assert key not in seen, f"case {key} is made twice"
            seen.add(key)
            stem = next((s for s in STEM if case.op.startswith(s + "_")), case.op)
            count[stem] = count.get(stem, 0) + 1
            name = f"ops/{stem}-{count[stem]:03d}.safetensors"
            data = case.bytes()
            (folder / name).write_bytes(data)
            lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    (folder / "MANIFEST.sha256").write_text("".join(sorted(lines, key=lambda line: line[66:])))
    print(f"{len(lines)} cases in {folder}")


main()
