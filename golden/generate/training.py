"""sum, clip, finite, adamw, cast, digest: the arithmetic of a step beside the model."""

import math
from fractions import Fraction

import torch
import xxhash

from case import BF16, F16, F32, F64, I32, I64, STORAGE, Case, fp32, numbers

CHUNK = 4096


def sums():
    for groups, each in ((1, 1), (1, 33), (3, 67), (1, 4097), (2, 4200)):
        for squares, factor, kind in ((False, 1.0, "normal"), (True, 2.0**-10, "normal"), (True, 1.0, "positive")):
            if each > 4096 and (kind == "positive") != (groups == 1):
                continue
            case = Case("sum", f"{'squares ' if squares else ''}groups={groups} each={each} {kind}", F32)
            x = case.numbers("x", (groups, each), None, kind) * factor
            case.args = {"squares": squares, "factor": factor}
            v = x.square() if squares else x
            # Squares of fp32 numbers are exact in fp64, and fsum rounds once.
            total = torch.tensor([math.fsum(row) for row in v.tolist()], dtype=F64)
            case.expect("out", total, F64, v.abs().sum(1), each)
            yield case


def exact_root(values):
    """The square root of a sum of doubles, to 2^-200 relatively, as a fraction."""
    total = sum(map(Fraction, values), Fraction(0))
    shift = 2**400
    return Fraction(math.isqrt(total.numerator * shift * shift // total.denominator), shift)


def clip():
    for n, max_norm, ordered in ((1, 1.0, False), (5, 0.5, True), (33, 100.0, True), (3, 0.0, False), (70, 1.0, False)):
        case = Case("clip", f"n={n} max_norm={max_norm}{' ordered' if ordered else ''}", F32)
        squares = case.give("squares", numbers(case.seed("squares"), (n,), F64, "positive"), F64)
        if ordered:
            order = torch.tensor(sorted(range(n), key=lambda i: (i * 7) % n), dtype=I32)
            case.give("order", order, I32)
        case.args = {"max_norm": fp32(max_norm)}
        norm = exact_root(squares.tolist())
        coef = min(Fraction(1), Fraction(fp32(max_norm)) / (norm + Fraction(1, 10**6))) if max_norm > 0 else Fraction(1)
        norm, coef = torch.tensor([float(norm)], dtype=F64), torch.tensor([float(coef)], dtype=F64)
        case.expect("norm", norm, F64, norm, n + 1)
        case.expect("coef", coef, F32, coef, 2)
        yield case
    # The same by PyTorch's own clipping: gradients whose squares these are.
    case = Case("clip", "as torch.nn.utils.clip_grad_norm_", F32)
    grads = [numbers(case.seed(i), (size,), F32) for i, size in enumerate((3, 40, 1))]
    params = [torch.nn.Parameter(torch.zeros_like(g)) for g in grads]
    for p, g in zip(params, grads):
        p.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(params, 1.0).reshape(1)
    coef = (params[0].grad / grads[0])[:1]
    case.give("squares", torch.tensor([math.fsum(g.square().tolist()) for g in grads], dtype=F64), F64)
    case.args = {"max_norm": 1.0}
    case.expect("norm", norm.detach(), F64, norm.detach(), 50)  # PyTorch's fp64 sums count too
    case.expect("coef", coef, F32, coef, 2)
    yield case


def finite():
    inf, nan = math.inf, math.nan
    rows = (
        ("size 1", [0.0], 0, 0),
        ("large and small", [3.0e4, -6.0e-8, -0.0, 1.0, 2.0] * 7, 0, 0),
        ("infinity", [1.0] * 34 + [inf], 0, 1),
        ("minus infinity first", [-inf, 0.0, 1.0], 0, 1),
        ("NaN in the middle", [0.0] * 33 + [nan] + [1.0] * 37, 0, 1),
        ("already found", [1.0, 2.0, 3.0], 1, 1),
    )
    for dtype in STORAGE:
        for label, values, before, after in rows:
            case = Case("finite", label, dtype)
            case.give("x", torch.tensor(values, dtype=F64), dtype)
            case.give("found", torch.tensor([before]), I32)
            case.exact("found", torch.tensor([after]), I32)
            yield case


def adamw_case(n, step, decay, found=0):
    case = Case("adamw", f"n={n} step={step} decay={decay}{' found' if found else ''}", F32)
    lr, beta1, beta2, eps, inv_scale, coef = 3e-3, 0.9, 0.95, 1e-8, 2.0**-8, fp32(0.37)
    case.args = {
        "inv_scale": inv_scale,
        "keep": fp32(1 - lr * decay),
        "beta1": fp32(beta1),
        "one_minus_beta1": fp32(1 - beta1),
        "beta2": fp32(beta2),
        "one_minus_beta2": fp32(1 - beta2),
        "step_size": fp32(lr / (1 - beta1**step)),
        "root2": fp32(math.sqrt(1 - beta2**step)),
        "eps": fp32(eps),
        "groups": 1,
    }
    param, grad = case.numbers("param", (n,)), case.numbers("grad", (n,), scale=100.0)
    first = step == 1
    m = case.numbers("m", (n,), scale=0.0 if first else 0.1)
    v = case.numbers("v", (n,), None, "positive", 0.0 if first else 0.01)
    case.give("coef", torch.tensor([coef], dtype=F64), F32)
    case.give("found", torch.tensor([found]), I32)
    if found:
        for name, x in (("param", param), ("m", m), ("v", v)):
            case.exact(name, x, F32)
        return case
    leaf = torch.nn.Parameter(param.clone())
    leaf.grad = grad * inv_scale * coef
    torch_adamw = torch.optim.AdamW([leaf], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    state = {"step": torch.tensor(float(step - 1)), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    torch_adamw.state[leaf].update(state)
    g = leaf.grad.clone()
    torch_adamw.step()
    state = torch_adamw.state[leaf]
    m_terms = (beta1 * m).abs() + ((1 - beta1) * g).abs()
    root = state["exp_avg_sq"].sqrt() / math.sqrt(1 - beta2**step) + eps
    direction = lr / (1 - beta1**step) * m_terms / root
    # The constants are rounded too: m has 5 roundings, v 7, the direction 7 more and half of v's.
    case.expect("m", state["exp_avg"], F32, m_terms, 5)
    case.expect("v", state["exp_avg_sq"], F32, state["exp_avg_sq"], 7)
    case.expect("param", leaf.detach(), F32, (param * (1 - lr * decay)).abs() + direction, 16)
    return case


def adamw():
    for n, step, decay in ((1, 1, 0.1), (33, 7, 0.0), (67, 1, 0.1), (130, 1000, 0.1)):
        yield adamw_case(n, step, decay)
    yield adamw_case(5, 3, 0.1, found=1)
    # No gradient, no moments, half of the parameter kept: exact, so its hash is known.
    case = Case("adamw", "digest", F32)
    param = case.numbers("param", (4097,))
    zero = torch.zeros_like(param)
    for name in ("grad", "m", "v"):
        case.give(name, zero, F32)
    case.give("coef", torch.ones(1, dtype=F64), F32)
    case.give("found", torch.tensor([0]), I32)
    case.args = {"inv_scale": 1.0, "keep": 0.5, "beta1": 0.5, "one_minus_beta1": 0.5, "beta2": 0.5}
    case.args |= {"one_minus_beta2": 0.5, "step_size": 1.0, "root2": 1.0, "eps": 1.0, "groups": 1}
    case.exact("param", param / 2, F32)
    case.exact("m", zero, F32)
    case.exact("v", zero, F32)
    case.exact("chunk_hash", chunk_hashes((param / 2)[None]), I64)
    yield case


def cast():
    edge = [0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, 65504.0, 65519.9, 65520.0, 1e30, -1e-8, 6e-8, 2**-25, 3e-39]
    edge += [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-22, 6.1e-5]
    for source in (F32, BF16, F16, F64):
        for target in (F32, BF16, F16, F64):
            if source is F64 and target is not F32:
                continue
            case = Case("cast", f"{source} to {target}".replace("torch.", ""), source)
            special = torch.tensor(edge, dtype=F64)
            x = case.give("x", torch.cat((special, numbers(case.seed("x"), (46,), F64, "normal", 3.0))), source)
            case.exact("out", x.to(source).to(target), target)
            yield case


def chunk_hashes(x):
    """XXH3-64 of every 4096 fp32 elements of every row, as signed 64-bit integers."""
    raw = [row[i : i + CHUNK].to(F32).numpy().astype("<f4").tobytes() for row in x for i in range(0, len(row), CHUNK)]
    values = [xxhash.xxh3_64_intdigest(chunk) for chunk in raw]
    return torch.tensor([v - 2**64 if v >= 2**63 else v for v in values], dtype=I64)


def digest():
    for groups, each, dtype in ((1, 1, F32), (2, 33, BF16), (1, 77, F16), (1, 4097, F32), (2, 4100, BF16)):
        case = Case("digest", f"groups={groups} each={each}", dtype)
        x = numbers(case.seed("x"), (groups, each), dtype)
        if each == 77:
            x[0, 5] = math.nan  # hashed as 7fc00000, which is numpy's NaN
        case.give("x", x, dtype)
        case.args = {"groups": groups}
        case.exact("chunk_hash", chunk_hashes(x), I64)
        yield case


def cases():
    for group in (sums, clip, finite, adamw, cast, digest):
        yield from group()
