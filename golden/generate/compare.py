#!/usr/bin/env python3
"""Says how two golden folders differ.

    compare.py OLD NEW      a line per file that differs; exits 1 if numbers changed

Another machine's float64 library may give another last bit. Such files are listed as
"last bits" and are no change: inputs and exact outputs are equal, and everything else
agrees to 1e-12 of the magnitude of its terms.
"""

import pathlib
import sys

import safetensors
import torch
from safetensors.torch import load_file


def metadata(path):
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata()


def same(old, new, loose, scale):
    if old.dtype != new.dtype or old.shape != new.shape:
        return False
    if not loose:
        return torch.equal(old.view(torch.uint8), new.view(torch.uint8))
    error = (old.double() - new.double()).abs().nan_to_num(0.0)
    return bool((error <= loose * scale).all())


def difference(old_path, new_path):
    """None: equal; else a word on what differs."""
    if old_path.read_bytes() == new_path.read_bytes():
        return None
    old_data, new_data = metadata(old_path), metadata(new_path)
    for key in sorted(set(old_data) | set(new_data)):
        if key != "generator" and old_data.get(key) != new_data.get(key):
            return f"{key}: {old_data.get(key)} became {new_data.get(key)}"
    old, new = load_file(old_path), load_file(new_path)
    if set(old) != set(new):
        return f"tensors: {sorted(set(old) ^ set(new))}"
    for name in sorted(old):
        kind, _, argument = name.partition(".")
        terms = old.get("abs." + argument)
        loose = 1e-6 if kind == "abs" else 1e-12 if kind == "output" and terms is not None else 0
        scale = old[name].double().abs() if terms is None else terms.double() + old[name].double().abs()
        if not same(old[name], new[name], loose, scale):
            return f"{name} changed"
    return "last bits"


def main():
    folders = [pathlib.Path(argument) for argument in sys.argv[1:3]]
    names = [{p.name for p in folder.glob("ops/*.safetensors")} for folder in folders]
    changed = 0
    for name in sorted(names[0] | names[1]):
        if name not in names[1]:
            word = "is not made any more"
        elif name not in names[0]:
            word = "is new"
        else:
            word = difference(*(folder / "ops" / name for folder in folders))
        if word:
            print(f"{name}: {word}")
            changed += word != "last bits"
    print(f"{len(names[0] & names[1])} files compared, {changed} changed")
    sys.exit(changed > 0)


main()
