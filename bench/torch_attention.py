#!/usr/bin/env python3
"""The peer of bench-attention and bench-attention-long: PyTorch's
scaled_dot_product_attention on the CPU, fp32, causal, forward and forward with
backward; and its masked form for a sliding window, which is what a user of windows
has there (FlexAttention has no backward on the CPU).

usage: torch_attention.py [--threads N] [--quick]

Needs torch==2.13.0. The best call counts, as on our side.
"""
import argparse
import time

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--quick", action="store_true")
args = parser.parse_args()

import torch
import torch.nn.functional as F

torch.set_num_threads(args.threads)
torch.manual_seed(1)
SHAPES = [(64, 12, 64, 4), (256, 6, 64, 4), (1024, 6, 64, 1), (4096, 2, 64, 1), (4096, 2, 128, 1), (16384, 2, 64, 1)]
WINDOW = 2048


def best(call):
    least, end = float("inf"), time.perf_counter() + (0.3 if args.quick else 1.5)
    call()
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        least = min(least, now - start)
        if now >= end:
            return 1e3 * least


def measure(label, T, H, D, B, mask=None):
    q, k, v = (torch.randn(B, H, T, D, requires_grad=True) for _ in range(3))
    d = torch.randn(B, H, T, D)

    def forward():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)

    def both():
        q.grad = k.grad = v.grad = None
        forward().backward(d)

    with torch.no_grad():
        alone = best(forward)
    print(f"{label:32} {alone:12.3f} {best(both):12.3f}", flush=True)


print(f"torch {torch.__version__}, {args.threads} threads")
print(f"{'':32} {'forward ms':>12} {'with bw ms':>12}")
for T, H, D, B in SHAPES[:4] if args.quick else SHAPES:
    measure(f"T {T}, {H} heads of {D}, batch {B}", T, H, D, B)
if not args.quick:
    i = torch.arange(16384)
    seen = (i[None] <= i[:, None]) & (i[:, None] - i[None] < WINDOW)
    measure(f"T 16384, 2 heads, window {WINDOW}", 16384, 2, 64, 1, seen)
