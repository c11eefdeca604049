"""rmsnorm, rope, swiglu, cross_entropy: ops on rows and elements.

An elementary function counts as the roundings that its stated error amounts to
(src/core/math.h: exp 0.9 ulp = 2 u, log 2 u, sigmoid 2.45 ulp = 5 u).
"""

import torch
import torch.nn.functional as F

from case import F32, F64, I32, Case, agree, fp32, integers, sweep


def rmsnorm():
    eps = fp32(1e-6)
    for (n, D), dtype, kind in sweep(((1, 1), (3, 31), (5, 65), (2, 300), (70, 9))):
        label = f"n={n} D={D} {kind}"
        case = Case("rmsnorm_forward", label, dtype)
        case.args = {"eps": eps}
        x = case.numbers("x", (n, D), None, kind)
        w = case.numbers("weight", (D,), None, kind)
        y = F.rms_norm(x, (D,), w, eps)
        rstd = torch.rsqrt(x.square().mean(1) + eps)
        case.expect("rstd", rstd, F32, rstd, D + 4)
        case.expect("y", y, dtype, y.abs(), D + 6)
        yield case

        # Backward is a function of the rounded rstd that it is given.
        def dx_of(r):
            return r * (dy * w - x * (r * r * (dy * w * x).sum(1, keepdim=True) / D))

        case = Case("rmsnorm_backward_input", label, dtype)
        x = case.give("x", x, dtype).requires_grad_()
        w = case.give("weight", w, dtype).requires_grad_()
        r = case.give("rstd", rstd, F32)[:, None]
        dy = case.numbers("dy", (n, D), None, kind)
        F.rms_norm(x, (D,), w, eps).backward(dy)
        dx_auto, dw_auto = x.grad, w.grad
        x, w = x.detach(), w.detach()
        agree(dx_of(rstd[:, None]), dx_auto)
        terms = r * ((dy * w).abs() + x.abs() * r * r / D * (dy * w * x).abs().sum(1, keepdim=True))
        case.expect("dx", dx_of(r), dtype, terms, D + 6)
        yield case

        for epilogue in ("STORE", "ADD"):
            case = Case("rmsnorm_backward_weight", f"{epilogue} {label}", dtype)
            case.args = {"epilogue": epilogue}
            case.give("x", x, dtype)
            case.give("rstd", rstd, F32)
            case.give("dy", dy, dtype)
            agree((dy * x * rstd[:, None]).sum(0), dw_auto)
            total, terms = (dy * x * r).sum(0), (dy * x * r).abs().sum(0)
            if epilogue == "ADD":
                old = case.numbers("dweight", (D,), F32, kind)
                total, terms = total + old, terms + old.abs()
            case.expect("dweight", total, F32, terms, n + 2)
            yield case


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), -1)


def rope():
    for (n, H, D, P), dtype, kind in sweep(((1, 1, 2, 1), (5, 3, 6, 9), (3, 2, 130, 40))):
        frequency = 10000.0 ** (-torch.arange(0, D, 2, dtype=F64) / D)
        angle = torch.arange(P, dtype=F64)[:, None] * frequency
        for backward in (False, True):
            case = Case("rope", f"{'backward' if backward else 'forward'} n={n} H={H} D={D} {kind}", dtype)
            case.args = {"backward": backward}
            positions = case.give("positions", integers(case.seed("positions"), (n,), P), I32).long()
            c = case.give("cosine", angle.cos(), F32)
            s = case.give("sine", angle.sin(), F32)
            c, s = (torch.cat((t, t), -1)[positions][:, None, :] for t in (c, s))
            x = case.numbers("x", (n, H, D), None, kind)
            terms = (x * c).abs() + (rotate_half(x) * s).abs()
            if backward:
                leaf = torch.zeros_like(x, requires_grad=True)
                (leaf * c + rotate_half(leaf) * s).backward(x)
                y = leaf.grad
            else:
                y = x * c + rotate_half(x) * s
            case.expect("y", y, dtype, terms, 2)
            yield case


def swiglu():
    for shape, dtype, kind in sweep(((1,), (3, 7), (5, 67))):
        for scale in (1.0, 8.0):
            label = f"{list(shape)} {kind} scale={scale:g}"
            case = Case("swiglu_forward", label, dtype)
            gate = case.numbers("gate", shape, None, kind, scale)
            up = case.numbers("up", shape, None, kind)
            out = F.silu(gate) * up
            case.expect("out", out, dtype, out.abs(), 7)
            yield case
            case = Case("swiglu_backward", label, dtype)
            gate = case.give("gate", gate, dtype).requires_grad_()
            up = case.give("up", up, dtype).requires_grad_()
            dout = case.numbers("dout", shape, None, kind)
            (F.silu(gate) * up).backward(dout)
            dgate, dup = gate.grad, up.grad
            gate, up = gate.detach(), up.detach()
            # 1 - sigmoid carries the sigmoid's error absolutely; gate multiplies it.
            case.expect("dgate", dgate, dtype, dgate.abs() + (dout * up * torch.sigmoid(gate) * gate).abs(), 8)
            case.expect("dup", dup, dtype, dup.abs(), 7)
            yield case


def cross_entropy_case(label, logits, labels, dtype, gradient):
    n, V = logits.shape
    case = Case("cross_entropy", label, dtype)
    used = (labels >= 0)[:, None]
    factor = fp32(1024 / max(1, int(used.sum())))
    case.args = {"gradient": gradient, "factor": factor}
    case.give("labels", labels, I32)
    x = torch.where(used, case.give("logits", logits, dtype), torch.zeros(n, V, dtype=F64)).requires_grad_()
    loss = F.cross_entropy(x, labels.long(), ignore_index=-100, reduction="none")
    (factor * loss).sum().backward()
    # exp's argument is rounded: a relative error of |l - m| u, averaged in the sum.
    with torch.no_grad():
        m = x.max(1, keepdim=True).values
        log_sum = torch.logsumexp(x - m, 1, keepdim=True)
        p = torch.softmax(x, 1)
        q = (p * (m - x)).sum(1, keepdim=True)
        terms = 1 + q + log_sum + (m + log_sum).abs() + loss[:, None]
        case.expect("loss", loss.detach(), F32, torch.where(used, terms, 0.0)[:, 0], V + 6)
        if gradient:
            y = F.one_hot(labels.long().clamp(min=0), V)
            terms = factor * (p * (2 + m - x + q) + (p - y).abs())
            case.expect("logits", x.grad, dtype, torch.where(used, terms, 0.0), V + 6)
    return case


def cross_entropy():
    for (n, V), dtype, kind in sweep(((1, 1), (3, 7), (5, 33), (4, 301))):
        for gradient in (False, True):
            case = Case("cross_entropy", f"n={n} V={V} {kind}", dtype)
            logits = case.numbers("logits", (n, V), None, kind, 4.0)
            labels = integers(case.seed("labels"), (n,), V)
            labels[1::3] = -100
            label = f"{'gradient ' if gradient else ''}n={n} V={V} {kind}"
            yield cross_entropy_case(label, logits, labels, dtype, gradient)
    logits = torch.tensor([[1.0, 2.0, 3.0], [float("nan"), float("inf"), 0.0], [-50.0, 60.0, 0.5]], dtype=F64)
    yield cross_entropy_case("gradient ignored row not finite", logits, torch.tensor([2, -100, 0]), F32, True)


def cases():
    for group in (rmsnorm, rope, swiglu, cross_entropy):
        yield from group()
