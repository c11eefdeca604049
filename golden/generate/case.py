"""A golden case: exact inputs, expected outputs, and what the error bound needs.

The format is docs/golden-format.md. Numbers come from Python's own generator, whose
stream is the same on every machine; files are written byte by byte here, in a fixed
order, so that the same numbers give the same file.
"""

import json
import math
import random
import struct

import numpy as np
import torch

FORMAT = "hornbook-golden 1"
GENERATOR = "golden/generate, torch " + torch.__version__.split("+")[0]

F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
I64, I32 = torch.int64, torch.int32
STORAGE = (F32, BF16, F16)
NAME = {F64: "F64", F32: "F32", BF16: "BF16", F16: "F16", I64: "I64", I32: "I32"}
KINDS = ("normal", "positive")


def numbers(seed, shape, dtype, kind="normal", scale=1.0):
    """Numbers that `dtype` holds exactly, as float64. normal: a bell of width 1;
    positive: all of one sign, between 1/64 and 2."""
    source = random.Random(seed)
    count = math.prod(shape)
    if kind == "normal":
        values = [1.732 * (sum(source.random() for _ in range(4)) - 2.0) for _ in range(count)]
    else:
        values = [1 / 64 + 127 / 64 * source.random() for _ in range(count)]
    return (scale * torch.tensor(values, dtype=F64).reshape(shape)).to(dtype).to(F64)


def integers(seed, shape, below):
    source = random.Random(seed)
    return torch.tensor([source.randrange(below) for _ in range(math.prod(shape))], dtype=I32).reshape(shape)


def fp32(x):
    """The fp32 number next to x, as a Python float."""
    return float(np.float32(x))


def agree(got, autograd):
    """The contract's formula and autograd must be the same mathematics."""
    largest = float(autograd.abs().max()) if autograd.numel() else 0.0
    error = float((got - autograd).abs().max()) if autograd.numel() else 0.0
    assert error <= 1e-11 * (1 + largest), f"formula and autograd differ by {error} of {largest}"


def sweep(shapes):
    """Every shape with every storage type; the kinds of numbers alternate, so that
    every type meets both."""
    for i, shape in enumerate(shapes):
        for j, dtype in enumerate(STORAGE):
            yield shape, dtype, KINDS[(i + j) % 2]


class Case:
    def __init__(self, op, label, dtype):
        self.op, self.label, self.dtype = op, label, dtype
        self.args, self.outputs, self.tensors = {}, {}, {}

    def seed(self, name):
        return f"{self.op}/{self.label}/{NAME[self.dtype]}/{name}"

    def numbers(self, name, shape, dtype=None, kind="normal", scale=1.0):
        """An input made of fresh numbers, as float64."""
        x = numbers(self.seed(name), shape, dtype or self.dtype, kind, scale)
        return self.give(name, x, dtype or self.dtype)

    def give(self, name, x, dtype):
        """An input. What is not exact in `dtype` is rounded here, once, and the
        rounded values come back, as float64."""
        stored = x.to(dtype)
        self.tensors["input." + name] = stored
        return stored.to(F64) if dtype.is_floating_point else stored

    def expect(self, name, x, dtype, terms, n):
        """A float output, expected within the bound of n roundings of sums whose
        terms' magnitudes add up to `terms`. n = 0: exact."""
        self.outputs[name] = {"dtype": NAME[dtype], "n": n}
        if n == 0:
            return self.exact(name, x, dtype)
        self.tensors["output." + name] = x.to(F64)
        terms = terms.to(F64).expand(x.shape)
        above = torch.nextafter(terms.to(F32), torch.tensor(math.inf, dtype=F32))
        self.tensors["abs." + name] = torch.where(terms == 0, torch.zeros_like(above), above)

    def exact(self, name, x, dtype):
        """An output that must have these bits."""
        self.outputs[name] = {"dtype": NAME[dtype], "n": 0}
        stored = x.to(dtype)
        if dtype.is_floating_point and x.is_floating_point():
            assert torch.equal(stored.to(F64).nan_to_num(7), x.to(F64).nan_to_num(7)), f"{name} is not exact in {dtype}"
        self.tensors["output." + name] = stored

    def bytes(self):
        order = sorted(self.tensors, key=lambda name: (-self.tensors[name].element_size(), name))
        metadata = {
            "format": FORMAT,
            "generator": GENERATOR,
            "op": self.op,
            "case": self.label,
            "dtype": NAME[self.dtype],
            "args": json.dumps(self.args),
            "outputs": json.dumps(self.outputs),
        }
        header, data = {"__metadata__": metadata}, b""
        for name in order:
            t = self.tensors[name].contiguous()
            raw = (t.view(torch.int16) if t.element_size() == 2 else t).numpy().tobytes()
            header[name] = {
                "dtype": NAME[t.dtype],
                "shape": list(t.shape),
                "data_offsets": [len(data), len(data) + len(raw)],
            }
            data += raw
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data
