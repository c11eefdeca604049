"""router, balance, dispatch, combine.

Every choice of an expert has a margin: the keys of the chosen ones and of the first one
not chosen differ by at least 1e-3, a thousand times the error of a probability. Cases
whose numbers lack it are drawn again.
"""

import itertools
import random

import torch

from case import F32, F64, I32, I64, Case, agree, fp32, integers, sweep

MARGIN = 1e-3


def spread_logits(seed, n, E):
    """Logits a tenth apart in random order, so that even many experts keep a margin."""
    source = random.Random(seed)
    rows = []
    for _ in range(n):
        order = source.sample(range(E), E)
        rows.append([0.1 * i - 0.05 * E + 0.02 * (source.random() - 0.5) for i in order])
    return torch.tensor(rows, dtype=F64)


def softmax_terms(logits, added):
    """Probabilities, and their relative error in units of u (up to the steps)."""
    m = logits.max(1, keepdim=True).values
    p = torch.softmax(logits, 1)
    each = (m - logits) + (logits.abs() if added else 0)
    return p, 1 + each + (p * each).sum(1, keepdim=True)


def variant(n, E, K, **options):
    return " ".join([f"n={n} E={E} K={K}"] + [name for name, on in options.items() if on])


def forward_case(n, E, K, bias, selection, renormalise):
    label = variant(n, E, K, bias=bias, selection=selection, renormalised=renormalise)
    for attempt in itertools.count():
        case = Case("router_forward", label, F32)
        case.args = {"renormalise": renormalise}
        logits = case.give("logits", spread_logits(f"{case.seed('logits')}/{attempt}", n, E), F32)
        l = logits + case.numbers("bias", (E,), scale=0.5) if bias else logits
        p = torch.softmax(l, 1)
        key = p + case.numbers("selection_bias", (E,), scale=0.05) if selection else p
        ranked = key.sort(1, descending=True).values[:, : min(K + 1, E)]
        gaps = ranked[:, :-1] - ranked[:, 1:]
        if gaps.numel() == 0 or float(gaps.min()) >= MARGIN:
            break
    assert gaps.numel() == 0 or float(gaps.min()) >= MARGIN
    index = torch.topk(key, K, 1).indices
    chosen = p.gather(1, index)
    weight = chosen / chosen.sum(1, keepdim=True) if renormalise else chosen
    p, relative = softmax_terms(l, bias)
    part = relative.gather(1, index)
    weight_relative = part + (weight * part).sum(1, keepdim=True) if renormalise else part
    lse = torch.logsumexp(l, 1)
    m = l.max(1).values
    lse_terms = (p * relative).sum(1) + (lse - m).abs() + lse.abs() + (m.abs() if bias else 0)
    before = case.give("counts", torch.arange(E), I64)
    case.expect("probs", p, F32, p * relative, E + 5)
    case.expect("lse", lse, F32, lse_terms, E + 6)
    case.exact("index", index, I32)
    case.expect("weight", weight, F32, weight * weight_relative, E + 5 + (K + 2 if renormalise else 0))
    case.exact("counts", before + torch.bincount(index.flatten(), minlength=E), I64)
    return case, l, index


def backward_case(n, E, K, bias, selection, renormalise, aux, z, l, index):
    label = variant(n, E, K, bias=bias, selection=selection, renormalised=renormalise, aux=aux, z=z)
    case = Case("router_backward", label, F32)
    aux_factor, z_factor, rows = fp32(0.01), fp32(0.003) if z else 0.0, 2 * n
    dweight = case.numbers("dweight", (n, K))
    fraction = case.numbers("fraction", (E,), None, "positive") if aux else torch.zeros(E, dtype=F64)
    case.args = {"renormalise": renormalise, "aux_factor": aux_factor, "aux_rows": rows, "z_factor": z_factor}
    case.give("index", index, I32)

    # Autograd, through the loss that these gradients belong to.
    leaf = l.clone().requires_grad_()
    p = torch.softmax(leaf, 1)
    w = p.gather(1, index)
    w = w / w.sum(1, keepdim=True) if renormalise else w
    lse = torch.logsumexp(leaf, 1)
    loss = (w * dweight).sum() + z_factor * lse.square().mean()
    loss = loss + aux_factor * E * (fraction * p.sum(0) / rows).sum()
    loss.backward()

    # The same as a function of the rounded probs, weight and lse that backward is given.
    def formula(p, w, lse):
        inner = (dweight * w).sum(1, keepdim=True)
        inner_terms = (dweight * w).abs().sum(1, keepdim=True)
        hit = torch.zeros(n, E, dtype=F64)
        if renormalise:
            d = hit.scatter(1, index, w * (dweight - inner))
            terms = hit.scatter(1, index, w * (dweight.abs() + inner_terms))
        else:
            d = hit.scatter(1, index, p.gather(1, index) * dweight) - p * inner
            terms = hit.scatter(1, index, p.gather(1, index) * dweight.abs()) + p * inner_terms
        mean = (fraction * p).sum(1, keepdim=True)
        a, zz = aux_factor * E / rows, 2 * z_factor / n
        d = d + a * p * (fraction - mean) + zz * lse[:, None] * p
        return d, terms + a * p * (fraction + mean) + (zz * lse[:, None] * p).abs()

    agree(formula(p.detach(), w.detach(), lse.detach())[0], leaf.grad)
    given = [case.give(name, x.detach(), F32) for name, x in (("probs", p), ("weight", w), ("lse", lse))]
    d, terms = formula(*given)
    case.expect("dlogits", d, F32, terms, max(K, E if aux else 0) + 6)
    return case


def router():
    for n, E, K in ((1, 1, 1), (3, 2, 1), (5, 8, 2), (7, 33, 5), (2, 128, 8), (4, 6, 6)):
        for bias, selection in ((False, False), (True, True), (True, False)):
            if E > 33 and (bias or selection):
                continue
            for renormalise in (False, True):
                case, l, index = forward_case(n, E, K, bias, selection, renormalise)
                yield case
                variants = ((False, False), (True, True)) if bias else ((False, True), (True, False))
                for aux, z in variants:
                    yield backward_case(n, E, K, bias, selection, renormalise, aux, z, l, index)


def balance():
    for L, E, K, tokens in ((1, 1, 1, 1), (1, 8, 2, 5), (3, 7, 2, 33), (2, 65, 4, 10)):
        for layer in (False, True):
            if layer and L > 1:
                continue
            case = Case("balance_loss", f"{'layer' if layer else 'hf'} L={L} E={E}", F32)
            choices = integers(case.seed("counts"), (L, tokens * K), E).long()
            counts = torch.stack([torch.bincount(row, minlength=E) for row in choices])
            case.give("counts", counts, I64)
            rows = tokens if layer else tokens * L
            denominator = tokens * K if layer else tokens * L
            prob_sum = case.numbers("prob_sum", (E,), None, "positive")
            case.args = {"rows": rows, "denominator": denominator}
            f, p = counts.sum(0).to(F64) / denominator, prob_sum / rows
            loss = (E * (f * p).sum()).reshape(1)
            case.expect("fraction", f, F32, f, 1)
            case.expect("loss", loss, F32, loss, E + 3)
            yield case
    rate = fp32(0.001)
    for counts, found in (([5], 0), ([3, 0, 9, 4], 0), ([2, 2, 2], 0), ([7, 1, 1], 1), (list(range(33)), 0)):
        case = Case("balance_bias", f"counts={counts} found={found}", F32)
        count = case.give("counts", torch.tensor(counts), I64)
        bias = case.numbers("bias", (len(counts),), scale=0.1)
        case.give("found", torch.tensor([found]), I32)
        case.args = {"rate": rate}
        sign = torch.sign(count.sum() - count * len(counts)) * (not found)
        case.expect("bias", bias + rate * sign, F32, (bias + rate * sign).abs() * sign.abs(), 1)
        yield case


def plan_of(index, E):
    """Stable sort of the pairs by expert: offsets, pair_of, row_of."""
    pair_of = torch.sort(index.flatten(), stable=True).indices
    row_of = torch.empty_like(pair_of)
    row_of[pair_of] = torch.arange(len(pair_of))
    counts = torch.bincount(index.flatten(), minlength=E)
    return torch.cat((torch.zeros(1, dtype=I64), counts.cumsum(0))), pair_of, row_of.reshape(index.shape)


def choices(seed, n, K, E):
    source = random.Random(seed)
    return torch.tensor([source.sample(range(E), K) for _ in range(n)], dtype=I64)


def dispatch():
    for n, K, E in ((1, 1, 1), (5, 2, 3), (33, 2, 65), (17, 4, 5)):
        case = Case("dispatch_plan", f"n={n} K={K} E={E}", I32)
        index = case.give("index", choices(case.seed("index"), n, K, E), I32)
        offsets, pair_of, row_of = plan_of(index.long(), E)
        for name, x in (("offsets", offsets), ("pair_of", pair_of), ("row_of", row_of)):
            case.exact(name, x, I32)
        yield case
    for (n, K, E, C), dtype, kind in sweep(((1, 1, 1, 1), (5, 2, 3, 33), (9, 3, 4, 65))):
        label = f"n={n} K={K} C={C} {kind}"
        _, pair_of, row_of = plan_of(choices(label, n, K, E), E)
        case = Case("dispatch_forward", label, dtype)
        x = case.numbers("x", (n, C), None, kind)
        case.give("pair_of", pair_of, I32)
        case.exact("rows", x[pair_of // K], dtype)
        yield case
        case = Case("dispatch_backward", label, dtype)
        drows = case.numbers("drows", (n * K, C), None, kind)
        case.give("row_of", row_of, I32)
        leaf = torch.zeros(n, C, dtype=F64, requires_grad=True)
        leaf[pair_of // K].backward(drows)
        case.expect("dx", leaf.grad, dtype, drows[row_of].abs().sum(1), K - 1)
        yield case


def combine():
    for (n, K, E, C), dtype, kind in sweep(((1, 1, 1, 1), (5, 2, 3, 33), (9, 8, 11, 65), (2, 3, 4, 300))):
        label = f"n={n} K={K} C={C} {kind}"
        row_of = plan_of(choices(label, n, K, E), E)[2]
        case = Case("combine_forward", label, dtype)
        rows = case.numbers("rows", (n * K, C), None, kind)
        weight = case.numbers("weight", (n, K), F32, "positive", 0.5)
        case.give("row_of", row_of, I32)
        y = (weight[..., None] * rows[row_of]).sum(1)
        case.expect("y", y, dtype, (weight[..., None] * rows[row_of]).abs().sum(1), K)
        yield case
        case = Case("combine_backward", label, dtype)
        rows = case.give("rows", rows, dtype).requires_grad_()
        weight = case.give("weight", weight, F32).requires_grad_()
        case.give("row_of", row_of, I32)
        dy = case.numbers("dy", (n, C), None, kind)
        (weight[..., None] * rows[row_of]).sum(1).backward(dy)
        case.expect("drows", rows.grad, dtype, rows.grad.abs(), 1)
        terms = (dy[:, None] * rows.detach()[row_of]).abs().sum(2)
        case.expect("dweight", weight.grad, F32, terms, C)
        yield case


def cases():
    for group in (router, balance, dispatch, combine):
        yield from group()
