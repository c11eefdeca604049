#!/usr/bin/env python3
"""The peer of `hornbook bench`: the same models, trained by Hugging Face
transformers on PyTorch, on the CPU or a device. Prints the median step time.

usage: torch_step.py MODEL [--threads N] [--steps N] [--mode eager|tuned|compile]
                           [--device cpu|cuda] [--precision fp32|bf16]

  eager    default attention and experts, AdamW without fusing
  tuned    sdpa attention, grouped_mm experts, fused AdamW
  compile  tuned, and torch.compile
  bf16     fp32 weights under autocast: products and attention in bf16

Needs torch==2.13.0 transformers==5.23.0. bench/compare sets the malloc
variables that suit PyTorch and runs both sides in turn.
"""
import argparse
import json
import resource
import statistics
import time

parser = argparse.ArgumentParser()
parser.add_argument("model", choices=["dense-small", "dense-162m", "moe-16", "moe-64", "dense-1b"])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--mode", choices=["eager", "tuned", "compile"], default="tuned")
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
args = parser.parse_args()

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

torch.set_num_threads(args.threads)
torch.manual_seed(1)

small = dict(vocab_size=4096, hidden_size=384, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6)
common = dict(head_dim=64, tie_word_embeddings=False, use_cache=False, max_position_embeddings=4096)
B, T = {"dense-162m": (4, 64), "dense-1b": (4, 2048)}.get(args.model, (4, 256))
if args.model == "dense-small":
    config, cls = Qwen3Config(intermediate_size=1024, **small, **common), Qwen3ForCausalLM
elif args.model == "dense-162m":
    config = Qwen3Config(vocab_size=50304, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
                         num_key_value_heads=12, intermediate_size=2048, **common)
    cls = Qwen3ForCausalLM
elif args.model == "dense-1b":
    config = Qwen3Config(vocab_size=50304, hidden_size=2048, num_hidden_layers=18, num_attention_heads=32,
                         num_key_value_heads=8, intermediate_size=6144, **common)
    cls = Qwen3ForCausalLM
else:
    experts, top_k, width = (16, 2, 512) if args.model == "moe-16" else (64, 8, 128)
    config = Qwen3MoeConfig(num_experts=experts, num_experts_per_tok=top_k, moe_intermediate_size=width,
                            norm_topk_prob=True, output_router_logits=True, **small, **common)
    cls = Qwen3MoeForCausalLM

config._attn_implementation = "eager" if args.mode == "eager" else "sdpa"
if hasattr(config, "num_experts"):
    config._experts_implementation = "eager" if args.mode == "eager" else "grouped_mm"
model = cls(config).float().to(args.device).train()
base_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1,
                              fused=args.mode != "eager")
ids = torch.randint(0, config.vocab_size, (B, T), device=args.device)


def now():
    if args.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def step():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
        loss = run(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


run = torch.compile(model) if args.mode == "compile" else model
start = now()
step()
first = now() - start
step()
times = []
for _ in range(args.steps):
    start = now()
    step()
    times.append(now() - start)
parameters = sum(p.numel() for p in model.parameters())
peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"model": args.model, "mode": args.mode, "device": args.device, "precision": args.precision,
                  "threads": args.threads,
                  "median_ms": 1e3 * statistics.median(times), "best_ms": 1e3 * min(times),
                  "first_step_s": first, "parameters": parameters,
                  "peak_rss_mb": peak_kb / 1e3,
                  "beyond_16_bytes_mb": peak_kb * 1024 / 1e6 - 16e-6 * parameters}))
