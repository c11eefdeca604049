#!/usr/bin/env python3
"""Says how two folders of golden models differ, as compare.py does for ops.

    compare_models.py OLD NEW      exits 1 if something changed

Configuration, weights, tokens and choices must be equal to the byte. Another machine's
float64 library may give other last bits: 1e-11 of a tensor's largest element, and for
bounds, which come out of differences of such numbers, 1e-6.
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file


def difference(old_path, new_path):
    if old_path.read_bytes() == new_path.read_bytes():
        return None
    if old_path.name != "expected.safetensors":
        return "changed"
    old, new = load_file(old_path), load_file(new_path)
    if set(old) != set(new):
        return f"tensors: {sorted(set(old) ^ set(new))}"
    for name, x in sorted(old.items()):
        y = new[name]
        loose = 0.0 if x.dtype != torch.float64 else 1e-6 if name.startswith("bound.") else 1e-11
        if x.shape != y.shape or x.dtype != y.dtype or not bool(((x - y).abs() <= loose * x.abs().max()).all()):
            return f"{name} changed"
    return "last bits"


def main():
    folders = [pathlib.Path(argument) for argument in sys.argv[1:3]]
    names = [{p.relative_to(f).as_posix() for p in f.glob("*/*")} for f in folders]
    changed = 0
    for name in sorted(names[0] | names[1]):
        if name not in names[1]:
            word = "is not made any more"
        elif name not in names[0]:
            word = "is new"
        else:
            word = difference(*(folder / name for folder in folders))
        if word:
            print(f"{name}: {word}")
            changed += word != "last bits"
    print(f"{len(names[0] & names[1])} files of models compared, {changed} changed")
    sys.exit(changed > 0)


main()
