#!/usr/bin/env python3
"""Writes golden traces of loss scalers.

    scaler.py FOLDER        into FOLDER/scaler/NAME.txt, with FOLDER/scaler/MANIFEST.sha256

`torch` is PyTorch's own torch.amp.GradScaler, run on the CPU over a one-element model whose
gradient is made infinite where the trace says so. The others are written out here after
their sources, line for line in what they do to their state, in the number type that they
use. No file of the library is read.

A file: lines of comment, a line "PRESET OPTION VALUE ...", then "COUNT FOUND SCALE": COUNT
steps in a row with the same FOUND (0 or 1) that leave the same SCALE behind; a last line
"stop" where the system raises instead.
"""

import hashlib
import itertools
import pathlib
import random
import sys

import numpy
import torch


class Torch:
    """torch.amp.GradScaler itself."""

    def __init__(self, initial=2.0**16, growth_interval=2000, backoff=0.5):
        self.scaler = torch.amp.GradScaler("cpu", init_scale=initial, growth_interval=growth_interval,
                                           backoff_factor=backoff)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.0)

    def update(self, found):
        self.optimizer.zero_grad()
        self.scaler.scale(self.weight.sum()).backward()
        if found:
            self.weight.grad.fill_(random.choice([float("inf"), float("-inf"), float("nan")]))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale()


class Megatron:
    """megatron/core/optimizer/grad_scaler.py, DynamicGradScaler; its scale is an fp32 tensor."""

    def __init__(self, initial=2.0**32, min=1.0, growth_interval=1000, backoff=0.5, hysteresis=2):
        self.scale = numpy.float32(initial)
        self.min = numpy.float32(min)
        self.growth_interval = growth_interval
        self.backoff = numpy.float32(backoff)
        self.hysteresis = hysteresis
        self.growth_tracker = 0
        self.hysteresis_tracker = hysteresis

    def update(self, found):
        if found:
            self.growth_tracker = 0
            self.hysteresis_tracker -= 1
            if self.hysteresis_tracker <= 0:
                self.scale = max(self.scale * self.backoff, self.min)
        else:
            self.growth_tracker += 1
            if self.growth_tracker == self.growth_interval:
                self.growth_tracker = 0
                self.hysteresis_tracker = self.hysteresis
                self.scale = self.scale * numpy.float32(2.0)
        return float(self.scale)


class DeepSpeed:
    """deepspeed/runtime/fp16/loss_scaler.py, DynamicLossScaler; its scale is a Python float."""

    def __init__(self, initial=2.0**16, growth_interval=1000, min=1.0, hysteresis=2, consecutive=False):
        self.scale = initial
        self.iteration = 0
        self.last_overflow = -1
        self.window = growth_interval
        self.min = min
        self.delayed_shift = hysteresis
        self.current_hysteresis = hysteresis
        self.consecutive = consecutive

    def update(self, found):
        if found:
            if self.delayed_shift == 1 or self.current_hysteresis == 1:
                if self.scale == self.min:
                    raise StopIteration
                self.scale = max(self.scale / 2.0, self.min)
            else:
                self.current_hysteresis -= 1
            self.last_overflow = self.iteration
        else:
            if self.consecutive:
                self.current_hysteresis = self.delayed_shift
            stable = (self.iteration - self.last_overflow) - 1
            if stable > 0 and stable % self.window == 0:
                if not self.consecutive:
                    self.current_hysteresis = self.delayed_shift
                self.scale *= 2.0
        self.iteration += 1
        return self.scale


class Apex:
    """apex/amp/scaler.py, LossScaler; its scale is a Python float."""

    def __init__(self, initial=2.0**16, growth_interval=2000, max=2.0**24, min=None):
        self.scale = initial
        self.unskipped = 0
        self.window = growth_interval
        self.max = max
        self.min = min

    def update(self, found):
        if found:
            if self.min:
                self.scale = max(self.min, self.scale / 2.0)
            else:
                self.scale = self.scale / 2.0
            self.unskipped = 0
        else:
            self.unskipped += 1
        if self.unskipped == self.window:
            self.scale = min(self.max, self.scale * 2.0)
            self.unskipped = 0
        return self.scale


class Article:
    """dynamic_loss_scaling of the article, `found` in place of "the loss is not finite"."""

    def __init__(self, initial=2.0**16, max=2.0**24):
        self.scale = initial
        self.max = max

    def update(self, found):
        if found:
            self.scale /= 2
        else:
            self.scale = min(self.scale * 2, self.max)
        return self.scale


def noise(seed, steps, share):
    source = random.Random(seed)
    return [int(source.random() < share) for _ in range(steps)]


def bursts(seed, steps):
    source = random.Random(seed)
    trace = []
    while len(trace) < steps:
        trace += [0] * source.randrange(1, 12) + [1] * source.randrange(1, 5)
    return trace[:steps]


def edge(limit, steps):
    """The trace of constant gradients that overflow above `limit`: it depends on the scaler."""
    return (limit, steps)


MODELS = {"torch": Torch, "megatron": Megatron, "deepspeed": DeepSpeed, "apex": Apex, "article": Article}

# name, preset, options, trace
CASES = [
    ("torch-default", "torch", {}, [0] * 2005 + [1] + [0] * 1999 + [1, 1] + [0] * 4001),
    ("torch-noise", "torch", {"initial": 1024, "growth_interval": 7}, noise(1, 600, 0.12)),
    ("torch-bursts", "torch", {"growth_interval": 5, "backoff": 0.25}, bursts(2, 600)),
    ("torch-to-zero", "torch", {}, [0] * 3 + [1] * 170),
    ("torch-to-the-top", "torch", {"initial": 2.0**120, "growth_interval": 1}, [0] * 12 + [1] + [0] * 3),
    ("torch-edge", "torch", {"growth_interval": 42}, edge(2.0**13, 900)),
    ("megatron-default", "megatron", {}, [0] * 1001 + [1] + [0] * 500 + [1, 1, 0, 1] + [0] * 2001 + [1, 1, 1]),
    ("megatron-noise", "megatron", {"initial": 4096, "growth_interval": 6}, noise(3, 600, 0.2)),
    ("megatron-bursts", "megatron", {"growth_interval": 4, "hysteresis": 3}, bursts(4, 600)),
    ("megatron-to-the-bottom", "megatron", {}, [1] * 40 + [0] * 2001),
    ("megatron-edge", "megatron", {"growth_interval": 20}, edge(2.0**20, 900)),
    ("deepspeed-default", "deepspeed", {}, [0] * 1002 + [1] + [0] * 1002 + [1, 1, 0, 1] + [0] * 3002),
    ("deepspeed-noise", "deepspeed", {"initial": 2.0**40, "growth_interval": 6}, noise(5, 600, 0.2)),
    ("deepspeed-consecutive", "deepspeed",
     {"initial": 2.0**40, "growth_interval": 5, "hysteresis": 3, "consecutive": True}, bursts(6, 600)),
    ("deepspeed-stop", "deepspeed", {}, [0] * 5 + [1] * 30),
    ("deepspeed-edge", "deepspeed", {"growth_interval": 20}, edge(2.0**12, 900)),
    ("apex-default", "apex", {}, [0] * 2001 + [1] + [0] * 20005 + [1] + [0] * 2000),
    ("apex-noise", "apex", {"growth_interval": 7}, noise(7, 600, 0.12)),
    ("apex-to-zero", "apex", {}, [1] * 1095 + [0, 0]),
    ("apex-min", "apex", {"growth_interval": 3, "min": 16}, bursts(8, 400)),
    ("article-noise", "article", {}, noise(9, 400, 0.3)),
    ("article-edge", "article", {}, edge(2.0**17, 400)),
]


def run(model, trace):
    """(found, scale) of every step; None at the end where the system raises."""
    if isinstance(trace, tuple):
        limit, steps = trace
        scale = None
        for _ in range(steps):
            found = int(scale is not None and scale > limit)
            scale = model.update(found)
            yield found, scale
        return
    for found in trace:
        try:
            yield found, model.update(found)
        except StopIteration:
            yield None
            return


def text_of(options):
    words = []
    for key, value in options.items():
        if key == "consecutive":
            key, value = "hysteresis_kind", "consecutive"
        words += [key, str(value) if isinstance(value, (str, int)) else repr(float(value))]
    return " ".join(words)


def main():
    folder = pathlib.Path(sys.argv[1]) / "scaler"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = []
    for name, preset, options, trace in CASES:
        random.seed(name)
        lines = [f"# {MODELS[preset].__doc__.splitlines()[0]}" if preset != "torch" else "# torch.amp.GradScaler",
                 f"{preset} {text_of(options)}".rstrip()]
        for step, group in itertools.groupby(run(MODELS[preset](**options), trace)):
            lines.append("stop" if step is None else f"{len(list(group))} {step[0]} {step[1]!r}")
        data = ("\n".join(lines) + "\n").encode()
        (folder / f"{name}.txt").write_bytes(data)
        manifest.append(f"{hashlib.sha256(data).hexdigest()}  {name}.txt\n")
    (folder / "MANIFEST.sha256").write_text("".join(sorted(manifest, key=lambda line: line[66:])))
    print(f"{len(CASES)} traces in {folder}")


main()
