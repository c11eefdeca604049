#!/usr/bin/env python3
"""Compares what `hornbook probe` wrote with transformers' float64 answer.

    check_probe.py MODEL_DIR INPUT OUTPUT

MODEL_DIR may be any folder that the probe was given: a golden model, a checkpoint that
hornbook saved, a small published model. Every tensor in OUTPUT is compared; one line each,
with the error as a share of the bound that disturb.py derives. Exits 1 if one is beyond it,
or a logit is off by more than 1e-5 of the largest.
"""

import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file

import models

SAMPLES = 6


def main():
    folder, given, written = sys.argv[1:]
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    data, got = load_file(given), load_file(written)
    ids = data["input_ids"]
    labels = data.get("labels", ids)  # without labels there is only no loss to compare
    oracle = models.Oracle(pathlib.Path(folder), ids.shape[1])
    wanted, (margin, order) = oracle.all(ids, labels)
    if margin < models.MARGIN:
        print(f"routing margin {margin:.1e}: fp32 may choose another expert, and then nothing has to agree")
    bound = models.bounds(wanted, lambda seed: oracle.all(ids, labels, seed)[0], SAMPLES)
    bad = 0
    for name, x in sorted(got.items()):
        off = float((x.double() - wanted[name].double()).abs().max())
        allowed = float(bound.get("bound." + name, 0.0))
        if name == "logits":
            allowed = min(allowed, 1e-5 * models.largest(wanted[name]))
        wrong = not off <= allowed
        bad += wrong
        share = off / allowed if allowed else float(off > 0)
        print(f"{'WRONG' if wrong else 'ok':5} {name}  off {off:.2g} of {models.largest(wanted[name].double()):.2g}, {share:.2f} of the bound")
    print(f"{len(got)} tensors, {bad} beyond their bounds")
    sys.exit(bad > 0)


main()
