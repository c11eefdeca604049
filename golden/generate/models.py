#!/usr/bin/env python3
"""Writes golden models: tiny Qwen3 and Qwen3-MoE folders, and what they must give.

    models.py FOLDER        into FOLDER/NAME/{config.json, *.safetensors, expected.safetensors}

The oracle is transformers' own model code, in float64. That code casts to float32 here and
there (norms, softmax, the loss), which would leave float32's error in the answer; so those
casts are made to be float64 ones while it runs (`widened`), and the result is checked
against the untouched code in float32. The rotary tables are those of the untouched code.
Every expected number comes from there; no file of the library is read.

expected.safetensors:
    input_ids, labels   I64 [B,T], a microbatch as `hornbook probe` takes it
    cosine, sine        F32 [T,D/2], the rotary tables
    logits, ce_loss, aux_loss, loss, hidden_states, router_index, router_weight, grad.NAME
                        as `hornbook probe` writes them, F64
    bound.X             F64 [], what fp32 may be off in each element of X (disturb.py)
    bound.bf16.X, bound.fp16.X
                        the same with results stored in 16 bits, of a dense model whose weights
                        both types hold (experts would be chosen otherwise by other roundings)
    train.*             twenty updates: see training()
"""

import contextlib
import hashlib
import json
import math
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

from case import BF16, F16, F32, F64, integers, numbers
from disturb import STORED, Disturb

LAMBDA = 4.0  # the gate's, docs/verification.md
SAMPLES = 16
MARGIN = 1e-3  # between the last probability chosen and the first one not
ORDER = 1e-4  # between those chosen
EPS = 2.0**-20  # an epsilon that fp32 holds exactly, so that double runs can agree to 1e-12

SMALL = {"vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
         "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 40, "rms_norm_eps": EPS,
         "max_position_embeddings": 64, "tie_word_embeddings": False, "hidden_act": "silu",
         "attention_bias": False, "attention_dropout": 0.0}  # fmt: skip
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True, "decoder_sparse_step": 1,
           "mlp_only_layers": [], "router_aux_loss_coef": 0.03125}  # fmt: skip
V4 = {"rope_theta": 10000.0, "rope_scaling": None, "use_sliding_window": False, "sliding_window": None,
      "max_window_layers": 3, "torch_dtype": "float32", "transformers_version": "4.57.1"}  # fmt: skip
V5 = {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}, "dtype": "float32",
      "transformers_version": "5.23.0"}  # fmt: skip


def moe(*parts, **changes):
    return {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **SMALL, **EXPERTS,
            **{k: v for part in parts for k, v in part.items()}, **changes}  # fmt: skip


def dense(*parts, **changes):
    return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **SMALL,
            **{k: v for part in parts for k, v in part.items()}, **changes}  # fmt: skip


# name: configuration, type of the weights, how they are stored, B and T, labels, training?
MODELS = {
    "moe-renorm": (moe(V4, num_experts=5, mlp_only_layers=[0]), F32, "experts", (2, 11), 16, True),
    "moe-plain-tied": (moe(V5, num_local_experts=7, num_experts_per_tok=3, norm_topk_prob=False, num_hidden_layers=4,
                           decoder_sparse_step=2, tie_word_embeddings=True), F32, "fused", (3, 7), 8, False),
    "moe-bf16": (moe(V4, num_experts=6, num_hidden_layers=2, num_key_value_heads=2), BF16, "sharded", (1, 19), 16, False),
    "moe-top1-fp16": (moe(V5, num_local_experts=4, num_experts_per_tok=1, norm_topk_prob=False, num_hidden_layers=2,
                          moe_intermediate_size=20), F16, "fused", (2, 9), 8, False),
    "moe-odd": (moe(V4, num_experts=9, num_experts_per_tok=3, num_hidden_layers=2, vocab_size=97, hidden_size=35,
                    num_attention_heads=3, head_dim=10, moe_intermediate_size=11, rms_norm_eps=1e-6,
                    rope_theta=1000000.0, router_aux_loss_coef=0.001), F32, "experts", (3, 7), 13, False),
    "moe-saved": (moe(V5, num_local_experts=5, num_hidden_layers=2, rope_parameters={
                      "rope_theta": 1000000.0, "rope_type": "default"}), F32, "saved", (2, 8), 8, False),
    "dense-tied": (dense(V4, num_hidden_layers=2, tie_word_embeddings=True), F32, "experts", (2, 11), 16, True),
    "dense-bf16": (dense(V5, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3, head_dim=4,
                         layer_types=["full_attention"] * 2), BF16, "sharded", (2, 9), 8, False),
    # Windows: by layer_types, by max_window_layers, and in all layers of a model with experts.
    "dense-window": (dense(V5, num_hidden_layers=3, use_sliding_window=True, sliding_window=4, layer_types=[
                     "sliding_attention", "full_attention", "sliding_attention"]), F32, "experts", (2, 11), 16, True),
    "dense-window-4x": (dense(V4, use_sliding_window=True, sliding_window=5, max_window_layers=1), F32, "saved", (1, 17), 8,
                        False),
    "moe-window": (moe(V4, num_experts=5, num_hidden_layers=2, use_sliding_window=True, sliding_window=3), F32, "experts",
                   (2, 11), 16, False),
}  # fmt: skip


# --- the folder ---


def shapes(c):
    """Every tensor of a checkpoint, one per expert, as 4.x names them."""
    C, D, H, G = c["hidden_size"], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
    E = c.get("num_experts", c.get("num_local_experts", 0))
    yield "model.embed_tokens.weight", (c["vocab_size"], C)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in (("q_proj", (H * D, C)), ("k_proj", (G * D, C)), ("v_proj", (G * D, C)), ("o_proj", (C, H * D))):
            yield f"{layer}self_attn.{name}.weight", shape
        yield layer + "self_attn.q_norm.weight", (D,)
        yield layer + "self_attn.k_norm.weight", (D,)
        yield layer + "input_layernorm.weight", (C,)
        yield layer + "post_attention_layernorm.weight", (C,)
        sparse = E and i not in c["mlp_only_layers"] and (i + 1) % c["decoder_sparse_step"] == 0
        if sparse:
            yield layer + "mlp.gate.weight", (E, C)
        F = c["moe_intermediate_size"] if sparse else c["intermediate_size"]
        for part in (f"mlp.experts.{e}." for e in range(E)) if sparse else ("mlp.",):
            for name, shape in (("gate_proj", (F, C)), ("up_proj", (F, C)), ("down_proj", (C, F))):
                yield f"{layer}{part}{name}.weight", shape
    yield "model.norm.weight", (C,)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (c["vocab_size"], C)


def weights(c, dtype, seed):
    out = {}
    for name, shape in shapes(c):
        if len(shape) == 1:
            out[name] = (1 + numbers(f"{seed} {name}", shape, F32, scale=0.2)).to(dtype)
        else:
            scale = 0.5 if name.endswith("mlp.gate.weight") else 0.15
            out[name] = numbers(f"{seed} {name}", shape, dtype, scale=scale).to(dtype)
    return out


def fuse(tensors):
    """The experts of a layer stacked, as transformers 5 holds them in memory."""
    out, stacks = {}, {}
    for name, t in tensors.items():
        if ".mlp.experts." in name:
            layer, rest = name.split(".experts.")
            stacks.setdefault(layer + ".experts.", {})[rest] = t
        else:
            out[name] = t
    for stem, parts in stacks.items():
        count = 1 + max(int(name.split(".")[0]) for name in parts)
        one = lambda e, name: parts[f"{e}.{name}_proj.weight"]
        out[stem + "gate_up_proj"] = torch.stack([torch.cat((one(e, "gate"), one(e, "up"))) for e in range(count)])
        out[stem + "down_proj"] = torch.stack([one(e, "down") for e in range(count)])
    return out


def unfuse(tensors):
    """The opposite: one tensor per expert, float64."""
    out = {}
    for name, t in tensors.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            for e, part in enumerate(t):
                stem = name[: name.rindex(".")] + f".{e}."
                if name.endswith("down_proj"):
                    out[stem + "down_proj.weight"] = part
                else:
                    out[stem + "gate_proj.weight"], out[stem + "up_proj.weight"] = part.chunk(2)
        else:
            out[name] = t
    return {name: t.detach().to(F64).contiguous() for name, t in out.items()}


def write_folder(folder, config, tensors, stored):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*"):
        old.unlink()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if stored == "fused":
        save_file(fuse(tensors), folder / "model.safetensors", {"format": "pt"})
    elif stored == "sharded":
        names = sorted(tensors)
        shards = {f"model-{i + 1:05d}-of-00003.safetensors": names[i::3] for i in range(3)}
        for file, part in shards.items():
            save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
                 "weight_map": {name: file for file, part in shards.items() for name in part}}  # fmt: skip
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    else:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        if stored == "saved":  # whatever transformers makes of it
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=F32)
            for old in folder.glob("*"):
                old.unlink()
            model.save_pretrained(folder, max_shard_size="40KB")
            (folder / "generation_config.json").unlink(missing_ok=True)


# --- the oracle ---


@contextlib.contextmanager
def widened():
    """Casts to float32 inside transformers become casts to float64."""
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept


class Oracle:
    def __init__(self, folder, length):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=F64, attn_implementation="eager")
        self.model.config._experts_implementation = "eager"
        self.moe = hasattr(self.model.config, "num_experts")
        rotary = self.model.model.rotary_emb
        cosine, sine = rotary(torch.zeros(1), torch.arange(length)[None])
        half = cosine.shape[-1] // 2
        assert cosine.dtype == F32 and torch.equal(cosine[..., :half], cosine[..., half:])
        self.tables = {"cosine": cosine[0, :, :half].contiguous(), "sine": sine[0, :, :half].contiguous()}
        self.frequency = rotary.inv_freq.to(F64).repeat(2)
        self.angle = torch.arange(length).to(F64)[:, None] * self.frequency
        rotary.forward = self.rotary
        self.disturb = self.stored = None

    def rotary(self, x, position_ids):
        T = position_ids.shape[-1]
        tables = [torch.cat((t, t), -1)[:T].to(F64) for t in self.tables.values()]
        if self.disturb:  # frequency and angle are rounded (those of the first pair, 1 and t, are exact), and the table
            off = lambda t: self.disturb.off(torch.ones_like(t))
            angle = torch.where(self.frequency == 1, 0.0, self.angle[:T])
            turn = angle * (off(angle) + off(angle))
            tables = [tables[0] - tables[1] * turn, tables[1] + tables[0] * turn]
            tables = [t + off(t) for t in tables]
        return tables[0][None], tables[1][None]

    def run(self, ids, labels, disturb=None, items=None):
        """Forward in float64; `disturb` a seed, or None."""
        self.disturb = Disturb(disturb, self.stored) if disturb is not None else None
        more = {"output_router_logits": True} if self.moe else {}
        if items:
            more["num_items_in_batch"] = items
        with widened(), self.disturb or contextlib.nullcontext():
            out = self.model(input_ids=ids, labels=labels, output_hidden_states=True, use_cache=False, **more)
        assert out.loss.dtype == F64 and out.logits.dtype == F64
        return out

    def backward(self, loss):
        self.model.zero_grad()
        with widened(), self.disturb or contextlib.nullcontext():
            loss.backward()

    def gradients(self):
        names = dict(self.model.named_parameters())
        return {"grad." + n: g for n, g in unfuse({n: torch.zeros_like(p) if p.grad is None else p.grad
                                                   for n, p in names.items()}).items()}  # fmt: skip

    def choices(self, out):
        """The router's decisions, and the smallest gaps that they rest on: who is chosen,
        in which order."""
        c, index, weight, margin, order = self.model.config, [], [], math.inf, math.inf
        for logits in out.router_logits:
            p = torch.softmax(logits.detach(), -1)
            top, which = p.sort(-1, descending=True)
            K = c.num_experts_per_tok
            gaps = top[:, :-1] - top[:, 1:]
            margin = min(margin, float(gaps[:, K - 1].min()))
            order = min(order, float(gaps[:, : K - 1].min())) if K > 1 else order
            w = top[:, :K]
            index.append(which[:, :K])
            weight.append(w / w.sum(-1, keepdim=True) if c.norm_topk_prob else w)
        return torch.stack(index), torch.stack(weight), (margin, order)

    def all(self, ids, labels, disturb=None):
        out = self.run(ids, labels, disturb)
        self.backward(out.loss)
        found = {"logits": out.logits.detach(), "loss": out.loss.detach(),
                 "hidden_states": torch.stack(out.hidden_states).detach(), **self.gradients()}  # fmt: skip
        found["ce_loss"] = found["loss"]
        margin = math.inf, math.inf
        if self.moe:
            found["aux_loss"] = out.aux_loss.detach()
            found["ce_loss"] = found["loss"] - self.model.config.router_aux_loss_coef * found["aux_loss"]
            found["router_index"], found["router_weight"], margin = self.choices(out)
        return found, margin


def tokens(seed, shape, vocabulary, count):
    """Ids, and labels of which exactly `count` count after the shift."""
    ids = integers(seed + " ids", shape, vocabulary).long()
    labels = ids.clone()
    places = [(b, t) for b in range(shape[0]) for t in range(1, shape[1])]
    drop = integers(seed + " dropped", (len(places),), 1 << 30).argsort()[: len(places) - count]
    for i in drop:
        labels[places[int(i)]] = -100
    return ids, labels


def largest(x):
    return float(x.abs().max())


def check_untouched(folder, ids, labels, found):
    """transformers as it is, in float32, gives the same numbers as far as float32 goes."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=F32, attn_implementation="eager")
    model.config._experts_implementation = "eager"
    with torch.no_grad():
        out = model(input_ids=ids, labels=labels, **({"output_router_logits": True} if "aux_loss" in found else {}))
    off = largest(out.logits.to(F64) - found["logits"]) / largest(found["logits"])
    assert off < 1e-5, f"widened and untouched logits differ by {off}"
    assert abs(float(out.loss) - float(found["loss"])) < 1e-5 * float(found["loss"])
    return off


# --- training ---

UPDATES, WARMUP, PEAK, FINAL, CLIP, DECAY, BETAS = 20, 5, 0.01, 0.1, 1.0, 0.1, (0.9, 0.95)


def rate(update):
    """Linear warm-up, then half a cosine down to FINAL of the peak."""
    if update <= WARMUP:
        return PEAK * update / WARMUP
    turn = math.pi * (update - WARMUP) / (UPDATES - WARMUP)
    return PEAK * FINAL + PEAK * (1 - FINAL) * (1 + math.cos(turn)) / 2


def training(folder, name, vocabulary, disturb=None):
    """Updates by torch.optim.AdamW, matrices decayed, two microbatches each:
    train.input_ids I64 [updates, microbatches, B, T] (labels are the same);
    train.loss cross-entropy per label, train.aux mean over microbatches, train.norm before
    clipping: F64 [updates]. Cross-entropy is divided by the labels of the whole update."""
    B, T, M = 2, 10, 2
    ids = integers(name + " training", (UPDATES, M, B, T), vocabulary).long()
    oracle = Oracle(folder, T)
    params = list(oracle.model.parameters())
    groups = [{"params": [p for p in params if p.dim() > 1], "weight_decay": DECAY},
              {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, eps=1e-8, foreach=False)
    losses, auxes, norms, margin = [], [], [], math.inf
    for step in range(UPDATES):
        loss = aux = 0.0
        optimizer.zero_grad()
        total = [torch.zeros_like(p) for p in params]
        for m in range(M):
            seed = None if disturb is None else (disturb * UPDATES + step) * M + m
            out = oracle.run(ids[step, m], ids[step, m], seed, items=M * B * (T - 1))
            objective = out.loss
            if oracle.moe:
                coefficient = oracle.model.config.router_aux_loss_coef
                objective = out.loss - coefficient * out.aux_loss * (1 - 1 / M)
                aux += float(out.aux_loss.detach()) / M
                loss -= coefficient * float(out.aux_loss.detach())
                margin = min(margin, oracle.choices(out)[2][0])
            loss += float(out.loss.detach())
            oracle.backward(objective)
            for t, p in zip(total, params):
                t += 0 if p.grad is None else p.grad
        for t, p in zip(total, params):
            p.grad = t
        for group in optimizer.param_groups:
            group["lr"] = rate(step + 1)
        with oracle.disturb or contextlib.nullcontext():
            norms.append(float(torch.nn.utils.clip_grad_norm_(params, CLIP, foreach=False)))
            optimizer.step()
        losses.append(loss)
        auxes.append(aux)
    series = {"train.loss": losses, "train.norm": norms, **({"train.aux": auxes} if oracle.moe else {})}
    return {"train.input_ids": ids, **{k: torch.tensor(v, dtype=F64) for k, v in series.items()}}, margin


# --- all of it ---


def bounds(found, sample, count, kind=""):
    """For every float result the largest difference seen in `count` disturbed runs."""
    worst = {}
    for seed in range(count):
        for name, x in sample(seed).items():
            if x.is_floating_point():
                off = (x - found[name]).abs()
                off = off.cummax(0).values if name.startswith("train.") else off.max()
                worst[name] = torch.maximum(worst.get(name, off), off)
    return {f"bound.{kind}{name}": LAMBDA * x for name, x in worst.items()}


def make(folder, name, config, dtype, stored, shape, count, train):
    config = {**config, **{k: str(dtype)[6:] for k in ("dtype", "torch_dtype") if k in config}}
    for attempt in range(400):
        seed = f"{name} {attempt}"
        write_folder(folder, config, weights(config, dtype, seed), stored)
        ids, labels = tokens(seed, shape, config["vocab_size"], count)
        oracle = Oracle(folder, shape[1])
        found, margin = oracle.all(ids, labels)
        if margin[0] > MARGIN and margin[1] > ORDER:
            break
    assert margin[0] > MARGIN and margin[1] > ORDER, f"{name}: no seed gives a routing margin"
    off = check_untouched(folder, ids, labels, found)
    sample = lambda s: oracle.all(ids, labels, s)[0]
    limits = bounds(found, sample, SAMPLES)
    for oracle.stored in STORED if dtype == BF16 and not oracle.moe else ():
        limits.update(bounds(found, sample, SAMPLES, f"{oracle.stored}."))
    found.update(limits)
    if train:
        steps, gap = training(folder, name, config["vocab_size"])
        assert gap > 3e-5, f"{name}: routing margin {gap} in training"
        found.update(steps)
        found.update(bounds(steps, lambda s: training(folder, name, config["vocab_size"], s + 1)[0], 4))
    found.update(oracle.tables)
    found.update({"input_ids": ids, "labels": labels})
    # One key: the order of several is up to chance in safetensors' writer.
    about = (
        f"hornbook-golden-model 1; constants {'rounded' if name == 'moe-odd' else 'exact'} in fp32; "
        f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
    )
    (folder / "expected.safetensors").unlink(missing_ok=True)
    save_file({k: v.clone().contiguous() for k, v in found.items()}, folder / "expected.safetensors", {"about": about})
    for file in folder.iterdir():
        file.chmod(0o644)
    used = max(float(found["bound." + n]) / largest(found[n]) for n in found if n.startswith("grad.") and largest(found[n]) > 0)
    print(f"{name}: attempt {attempt}, margin {margin[0]:.2g}, transformers' own fp32 logits {off:.2g} off, "
          f"bound of logits {float(found['bound.logits']) / largest(found['logits']):.2g}, "
          f"of gradients up to {used:.2g}, of their largest")  # fmt: skip


def main():
    folder = pathlib.Path(sys.argv[1])
    wanted = sys.argv[2:] or MODELS
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in wanted:
        make(folder / name, name, *MODELS[name])
    files = sorted(p.relative_to(folder).as_posix() for p in folder.glob("*/*"))
    (folder / "MANIFEST.sha256").write_text(
        "".join(f"{hashlib.sha256((folder / f).read_bytes()).hexdigest()}  {f}\n" for f in files)
    )


if __name__ == "__main__":
    main()
