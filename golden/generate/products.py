"""product, embedding, column_sum, add, fold.

A sum of n rounded terms, in any order, errs by at most n u Σ|terms|: each term
passes through at most n roundings (its product's and those of the partial sums).
"""

import torch

from case import BF16, F16, F32, F64, I32, I64, STORAGE, Case, integers, sweep


def product_case(form, epilogue, m, n, k, dtype, kind, out_dtype=None, a_dtype=None):
    case = Case("product", f"{form} {epilogue} m={m} n={n} k={k} {kind}", dtype)
    a_shape = (k, m) if form == "TN" else (m, k)
    b_shape = (n, k) if form == "NT" else (k, n)
    a = case.numbers("a", a_shape, a_dtype, kind)
    b = case.numbers("b", b_shape, None, kind)
    out_dtype = out_dtype or dtype
    left = a.T if form == "TN" else a
    right = b.T if form == "NT" else b
    total, terms, steps = left @ right, left.abs() @ right.abs(), k
    if epilogue != "STORE":
        old = case.numbers("out", (m, n), out_dtype, kind)
        total, terms, steps = old + total, old.abs() + terms, k + 1 if k else 0
    case.args = {"form": form, "epilogue": epilogue}
    case.expect("out", total, out_dtype, terms, steps)
    return case


def grouped_case(form, counts, m, n, dtype, kind, present=None):
    """Rows [offsets[g], offsets[g + 1]) belong to group g; some groups are empty."""
    case = Case("product", f"{form} groups={counts} m={m} n={n}{' present' if present else ''} {kind}", dtype)
    offsets = torch.tensor([sum(counts[:g]) for g in range(len(counts) + 1)], dtype=I32)
    case.give("offsets", offsets, I32)
    rows, groups = sum(counts), len(counts)
    case.args = {"form": form, "epilogue": "STORE"}
    if form == "TN":
        a, b = case.numbers("a", (rows, m), None, kind), case.numbers("b", (rows, n), None, kind)
        parts = [(a[offsets[g] : offsets[g + 1]], b[offsets[g] : offsets[g + 1]]) for g in range(groups)]
        out = torch.stack([x.T @ y for x, y in parts])
        terms = torch.stack([x.T.abs() @ y.abs() for x, y in parts])
        steps = max(counts)
        if present:
            case.args["epilogue"] = "ADD"
            old = case.numbers("out", out.shape, F32, kind)
            flags = case.give("present", torch.tensor(present, dtype=I32), I32)
            after = torch.tensor([p or c > 0 for p, c in zip(present, counts)], dtype=I32)
            keep = torch.tensor([bool(p) or c == 0 for p, c in zip(present, counts)])[:, None, None]
            out = out + torch.where(keep, old, torch.zeros_like(old))
            terms = terms + torch.where((flags.bool() & (after > 0))[:, None, None], old.abs(), torch.zeros_like(old))
            steps += 1
            case.exact("present", after, I32)
        case.expect("out", out, F32 if present else dtype, terms, steps)
        return case
    k = m  # NT and NN: a is [rows, k]
    a = case.numbers("a", (rows, k), None, kind)
    b = case.numbers("b", (groups, n, k) if form == "NT" else (groups, k, n), None, kind)
    right = b.transpose(1, 2) if form == "NT" else b
    parts = [(a[offsets[g] : offsets[g + 1]], right[g]) for g in range(groups)]
    case.expect(
        "out", torch.cat([x @ y for x, y in parts]), dtype, torch.cat([x.abs() @ y.abs() for x, y in parts]), k
    )
    return case


def product():
    shapes = ((1, 1, 1), (3, 5, 7), (17, 9, 65), (2, 3, 257), (1, 2, 1100))
    for (m, n, k), dtype, kind in sweep(shapes):
        yield product_case(("NT", "NN", "TN")[(m + n) % 3], "STORE", m, n, k, dtype, kind)
    for form in ("NT", "NN", "TN"):
        for dtype in STORAGE:
            yield product_case(form, "STORE", 7, 11, 33, dtype, "normal")
            yield product_case(form, "ADD", 5, 3, 40, dtype, "positive")
            yield product_case(form, "CONTINUE", 4, 6, 300, dtype, "normal", out_dtype=F32)
        yield product_case(form, "STORE", 3, 2, 0, F32, "normal")
        yield product_case(form, "ADD", 3, 2, 0, F32, "normal")
    yield product_case("TN", "STORE", 6, 5, 70, BF16, "normal", out_dtype=F32)
    yield product_case("NT", "STORE", 6, 5, 70, F16, "positive", a_dtype=F32)
    for form, dtype in zip(("NT", "NN", "TN") * 2, (F32, BF16, F16, BF16, F32, F32)):
        yield grouped_case(form, (3, 0, 1, 9), 13, 5, dtype, "normal")
    for dtype in STORAGE:
        yield grouped_case("TN", (2, 0, 7, 0, 1), 5, 9, dtype, "positive", present=(1, 1, 0, 0, 0))


def embedding():
    for (n, V, C), dtype, kind in sweep(((1, 1, 1), (7, 5, 33), (40, 3, 17), (9, 70, 34))):
        case = Case("embedding_forward", f"n={n} V={V} C={C} {kind}", dtype)
        ids = case.give("ids", integers(case.seed("ids"), (n,), V), I32)
        weight = case.numbers("weight", (V, C), None, kind)
        case.exact("out", torch.nn.functional.embedding(ids.long(), weight), dtype)
        yield case
        case = Case("embedding_backward", f"n={n} V={V} C={C} {kind}", dtype)
        ids = case.give("ids", ids, I32).long()
        dout = case.numbers("dout", (n, C), None, kind)
        old = case.numbers("dweight", (V, C), F32, kind)
        before = case.give("present", integers(case.seed("present"), (V,), 2), I32).bool()[:, None]
        weight = torch.zeros(V, C, dtype=F64, requires_grad=True)
        torch.nn.functional.embedding(ids, weight).backward(dout)
        count = torch.bincount(ids, minlength=V)
        seen = (count > 0)[:, None]
        magnitude = torch.zeros(V, C, dtype=F64).index_add_(0, ids, dout.abs())
        starts = torch.where(before | ~seen, old, torch.zeros_like(old))
        case.exact("present", before[:, 0] | seen[:, 0], I32)
        terms = torch.where(seen, magnitude + starts.abs(), torch.zeros_like(old))
        case.expect("dweight", starts + weight.grad, F32, terms, int(count.max()))
        yield case


def column_sum():
    for (n, D), dtype, kind in sweep(((1, 1), (3, 33), (64, 5), (65, 7), (200, 19))):
        for epilogue in ("STORE", "ADD"):
            case = Case("column_sum", f"{epilogue} n={n} D={D} {kind}", dtype)
            case.args = {"epilogue": epilogue}
            x = case.numbers("x", (n, D), None, kind)
            total, terms = x.sum(0), x.abs().sum(0)
            if epilogue == "ADD":
                old = case.numbers("out", (D,), F32, kind)
                total, terms = total + old, terms + old.abs()
            case.expect("out", total, F32, terms, n - 1 + (epilogue == "ADD"))
            yield case


def add():
    for shape, dtype, kind in sweep(((1,), (3, 5), (2, 3, 67))):
        case = Case("add", f"{list(shape)} {kind}", dtype)
        a, b = case.numbers("a", shape, None, kind), case.numbers("b", shape, None, kind)
        case.expect("out", a + b, dtype, (a + b).abs(), 1)
        yield case
    case = Case("add", "[5] integers", I64)
    a = case.give("a", torch.tensor([0, 1, -7, 2**40, -(2**62)]), I64)
    b = case.give("b", torch.tensor([0, -1, 9, 2**41 + 1, 2**61]), I64)
    case.exact("out", a + b, I64)
    yield case


def fold():
    for shape, flags in (((1, 1), None), ((3, 35), None), ((4, 3, 11), ((1, 0, 1, 0), (1, 1, 0, 0)))):
        case = Case("fold_merge", f"{list(shape)}{' flags' if flags else ''}", F32)
        left, right = case.numbers("left", shape), case.numbers("right", shape)
        total, terms = left + right, (left + right).abs()
        if flags:
            l = case.give("left_present", torch.tensor(flags[0]), I32)
            r = case.give("right_present", torch.tensor(flags[1]), I32)
            case.exact("left_present", l | r, I32)
            l, r = l.bool()[:, None, None], r.bool()[:, None, None]
            total = torch.where(r, torch.where(l, total, right), left)
            terms = torch.where(l & r, terms, torch.zeros_like(terms))
        case.expect("left", total, F32, terms, 1)
        yield case
        case = Case("fold_close", f"{list(shape)}{' flags' if flags else ''}", F32)
        root = case.numbers("root", shape)
        if flags:
            present = case.give("present", torch.tensor(flags[0]), I32)
            case.exact("present", torch.ones_like(present), I32)
            root = torch.where(present.bool()[:, None, None], root, torch.zeros_like(root))
        case.exact("root", root, F32)
        yield case


def cases():
    for group in (product, embedding, column_sum, add, fold):
        yield from group()
