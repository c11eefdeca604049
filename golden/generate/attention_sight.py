"""attention: who sees whom. Sliding windows, sinks, both directions, learned slots and
the three ways to combine them.

The oracle is PyTorch's scaled_dot_product_attention with a mask, over slots and keys
side by side (joint) or over each of them (sum, gated). Backward's expected values come
from the contract's formula with the rounded `out` and `lse` that it is given, which is
checked against autograd with the exact ones. Slots and gate of sum and gated leave
parts in fp32, whatever the storage: their rounding is one of the bound's steps.
"""

import torch
import torch.nn.functional as F

from attention import bounds_of
from case import F32, F64, I32, Case, agree, fp32, sweep

# queries = keys of each segment, H, G, D, window, sinks, bidirectional, slots, combine
TRAINED = (
    ((5, 9), 2, 1, 3, 3, 0, False, 0, "joint"),
    ((140,), 1, 1, 4, 70, 3, False, 0, "joint"),
    ((7, 67), 2, 2, 4, 0, 0, True, 0, "joint"),
    ((11, 70), 2, 1, 3, 5, 2, True, 0, "joint"),
    ((6, 1, 9), 4, 2, 6, 4, 1, False, 3, "joint"),
    ((9, 4), 2, 2, 5, 0, 0, False, 66, "joint"),
    ((8, 3), 4, 2, 6, 4, 0, False, 5, "sum"),
    ((67, 3), 2, 1, 4, 20, 2, False, 2, "gated"),
)
# queries, keys, ...: the last positions of a cache
CACHED = (
    ((1, 5), (66, 9), 2, 1, 4, 6, 2, False, 3, "gated"),
    ((2, 1), (3, 140), 4, 2, 5, 65, 1, False, 0, "joint"),
)


class Part:
    """One softmax: heads of queries [H,a,D] over keys [H,b,D] of which `mask` says who is seen."""

    def __init__(self, q, k, v, mask, scale):
        self.q, self.k, self.v, self.mask, self.scale = q, k, v, mask, scale

    def attend(self):
        return F.scaled_dot_product_attention(self.q, self.k, self.v, attn_mask=self.mask, scale=self.scale)

    def scores(self):
        return self.scale * self.q @ self.k.transpose(1, 2)

    def score_terms(self):
        return self.scale * self.q.abs() @ self.k.abs().transpose(1, 2)

    def forward(self):
        """out, lse and the magnitudes of their terms."""
        y = self.attend()
        score = self.scores().masked_fill(~self.mask, -torch.inf)
        p, lse = torch.softmax(score, -1), torch.logsumexp(score, -1)
        top = score.max(-1, keepdim=True).values
        weight = p * (1 + self.score_terms() + (top - score).masked_fill(~self.mask, 0))
        out_terms = weight @ self.v.abs() + weight.sum(-1, keepdim=True) * y.abs()
        return y, lse, out_terms, weight.sum(-1) + lse.abs() + (lse - top[..., 0]).abs()

    def backward(self, dout, out, lse, factor):
        """dq, dk, dv by the formula, per query head, and the magnitudes of their terms; D."""
        p = factor * torch.exp(self.scores() - lse[..., None]).masked_fill(~self.mask, 0)
        D = (dout * out).sum(-1, keepdim=True)
        ds = p * (dout @ self.v.transpose(1, 2) - D)
        relative = 1 + self.score_terms() + (self.scores() - lse[..., None]).abs()
        ds_terms = p * relative * (dout.abs() @ self.v.abs().transpose(1, 2) + (dout * out).abs().sum(-1, keepdim=True))
        values = (self.scale * ds @ self.k, self.scale * ds.transpose(1, 2) @ self.q, p.transpose(1, 2) @ dout)
        terms = (
            self.scale * ds_terms @ self.k.abs(),
            self.scale * ds_terms.transpose(1, 2) @ self.q.abs(),
            (p * relative).transpose(1, 2) @ dout.abs(),
        )
        return values, terms, D[..., 0]


class Problem:
    """Tensors of one call, and its segments as parts."""

    def __init__(self, shape, tensors):
        self.queries, self.keys, self.H, self.G, self.D, self.window, self.sinks, self.both, self.M, self.combine = shape
        self.scale = fp32(self.D**-0.5)
        self.t = tensors

    def heads(self, x):
        return x.transpose(0, 1).repeat_interleave(self.H // self.G, 0)

    def group(self, x):
        """Sums what the query heads of one key/value head give it; back to [rows,G,D]."""
        return x.reshape(self.G, self.H // self.G, *x.shape[1:]).sum(1).transpose(0, 1)

    def mask(self, a, b):
        i, j = torch.arange(b - a, b)[:, None], torch.arange(b)
        seen = torch.ones(a, b, dtype=torch.bool) if self.both else j <= i
        return seen & (((i - j).abs() < self.window) | (j < self.sinks)) if self.window else seen

    def rows(self, s):
        q0, k0 = sum(self.queries[:s]), sum(self.keys[:s])
        return slice(q0, q0 + self.queries[s]), slice(k0, k0 + self.keys[s])

    def parts(self, s):
        """[over slots and keys], or [over slots, over keys]."""
        rows_q, rows_k = self.rows(s)
        q = self.t["q"][rows_q].transpose(0, 1)
        k, v = (self.heads(self.t[name][rows_k]) for name in "kv")
        mask = self.mask(q.shape[1], k.shape[1])
        if not self.M:
            return [Part(q, k, v, mask, self.scale)]
        sk, sv = (self.heads(self.t[name]) for name in ("slots_k", "slots_v"))
        all_seen = torch.ones(q.shape[1], self.M, dtype=torch.bool)
        if self.combine == "joint":
            join = torch.cat((all_seen, mask), 1)
            return [Part(q, torch.cat((sk, k), 1), torch.cat((sv, v), 1), join, self.scale)]
        return [Part(q, sk, sv, all_seen, self.scale), Part(q, k, v, mask, self.scale)]

    def weight(self):
        return torch.sigmoid(self.t["gate"])[:, None, None]

    def out(self, ys):
        if len(ys) == 1:
            return ys[0]
        return ys[0] + ys[1] if self.combine == "sum" else self.weight() * ys[0] + (1 - self.weight()) * ys[1]

    def factors(self):
        w = self.weight() if self.combine == "gated" else 1.0
        return (w, 1 - w) if self.combine == "gated" else (w, w)


def inputs(case, shape, kind):
    queries, keys, H, G, D, *_, M, combine = shape
    t = {"q": case.numbers("q", (sum(queries), H, D), None, kind)}
    t["k"] = case.numbers("k", (sum(keys), G, D), None, kind)
    t["v"] = case.numbers("v", (sum(keys), G, D), None, kind)
    if M:
        t["slots_k"] = case.numbers("slots_k", (M, G, D), None, kind)
        t["slots_v"] = case.numbers("slots_v", (M, G, D), None, kind)
    if combine == "gated":
        t["gate"] = case.numbers("gate", (H,), None, "normal")
    return t


def common(case, p):
    case.give("q_begin", bounds_of(p.queries), I32)
    case.give("k_begin", bounds_of(p.keys), I32)
    case.args = {"longest": max(p.keys), "scale": p.scale, "bidirectional": p.both, "window": p.window,
                 "sinks": p.sinks, "combine": p.combine}  # fmt: skip


def forward_case(label, dtype, kind, shape):
    case = Case("attention_forward", label, dtype)
    p = Problem(shape, inputs(case, shape, kind))
    common(case, p)
    n = sum(p.queries)
    names = [("out", "lse")] if p.combine == "joint" else [("slots_out", "slots_lse"), ("rest_out", "lse")]
    got = {name: torch.zeros((n, p.H) if "lse" in name else (n, p.H, p.D), dtype=F64)
           for name in ["out"] + [x for pair in names for x in pair]}  # fmt: skip
    terms = {name: torch.zeros_like(x) for name, x in got.items()}
    for s in range(len(p.queries)):
        rows, _ = p.rows(s)
        parts = [part.forward() for part in p.parts(s)]
        for (y, lse, y_terms, lse_terms), (out_name, lse_name) in zip(parts, names):
            got[out_name][rows], terms[out_name][rows] = y.transpose(0, 1), y_terms.transpose(0, 1)
            got[lse_name][rows], terms[lse_name][rows] = lse.T, lse_terms.T
        if len(parts) == 2:
            y = p.out([part[0] for part in parts])
            if p.combine == "sum":
                y_terms = parts[0][2] + parts[1][2] + y.abs()
            else:  # the weight's error counts in both: w |slots| and w |rest|, besides (1 - w) |rest|
                w = p.weight()
                y_terms = w * (parts[0][2] + parts[0][0].abs()) + (1 - w) * parts[1][2] + parts[1][0].abs()
            got["out"][rows], terms["out"][rows] = y.transpose(0, 1), y_terms.transpose(0, 1)
    seen = max(p.keys) + p.M
    steps = p.D + seen + 3 * ((max(p.keys) + 63) // 64 + (p.M + 63) // 64) + 6
    for name, x in got.items():
        more = 7 if name == "out" and p.combine != "joint" else 0
        case.expect(name, x, dtype if name == "out" else F32, terms[name], steps + more)
    return case, p, got


def backward_case(label, dtype, kind, forward):
    _, p, exact = forward
    case = Case("attention_backward", label, dtype)
    common(case, p)
    for name, x in p.t.items():
        case.give(name, x, dtype)
    two = p.combine != "joint"
    given = {"lse": case.give("lse", exact["lse"], F32)}
    given["out"] = case.give("out", exact["rest_out" if two else "out"], dtype)
    if two:
        given["slots_out"] = case.give("slots_out", exact["slots_out"], dtype)
        given["slots_lse"] = case.give("slots_lse", exact["slots_lse"], F32)
    dout = case.numbers("dout", exact["out"].shape, None, kind)

    leaves = {name: x.clone().requires_grad_() for name, x in p.t.items()}
    differentiable = Problem((p.queries, p.keys, p.H, p.G, p.D, p.window, p.sinks, p.both, p.M, p.combine), leaves)
    for s in range(len(p.queries)):
        y = differentiable.out([part.attend() for part in differentiable.parts(s)])
        y.backward(dout[p.rows(s)[0]].transpose(0, 1))

    def run(state):
        """Gradients with these out and lse, and their terms."""
        want = {name: torch.zeros_like(x) for name, x in p.t.items()}
        terms = {name: torch.zeros_like(x) for name, x in p.t.items()}
        for s in range(len(p.queries)):
            rows_q, rows_k = p.rows(s)
            d = dout[rows_q].transpose(0, 1)
            pairs = [("slots_out", "slots_lse"), ("out", "lse")] if two else [("out", "lse")]
            D = []
            for part, pair, factor in zip(p.parts(s), pairs, p.factors()):
                o = state[pair[0]][rows_q].transpose(0, 1)
                (dq, dk, dv), (tq, tk, tv), delta = part.backward(d, o, state[pair[1]][rows_q].T, factor)
                D.append((delta, (d * o).abs().sum(-1)))
                want["q"][rows_q] += dq.transpose(0, 1)
                terms["q"][rows_q] += tq.transpose(0, 1)
                slots = p.M if p.combine == "joint" or pair[0] == "slots_out" else 0
                for name, x, t in (("k", dk, tk), ("v", dv, tv)):
                    x, t = p.group(x), p.group(t)
                    if slots:
                        want["slots_" + name] += x[:slots]
                        terms["slots_" + name] += t[:slots]
                    if x.shape[0] > slots:
                        want[name][rows_k], terms[name][rows_k] = x[slots:], t[slots:]
            if "gate" in want:
                w = p.weight()[:, 0, 0]
                want["gate"] += w * (1 - w) * (D[0][0] - D[1][0]).sum(-1)
                terms["gate"] += w * (1 - w) * (D[0][1] + D[1][1]).sum(-1) + w * w * (D[0][1] + D[1][1]).sum(-1)
        return want, terms

    exact_state = {"out": exact["rest_out" if two else "out"], "lse": exact["lse"],
                   "slots_out": exact.get("slots_out"), "slots_lse": exact.get("slots_lse")}  # fmt: skip
    for name, x in run(exact_state)[0].items():
        agree(x, leaves[name].grad)
    want, terms = run(given)
    longest, share = max(p.keys), p.H // p.G
    base = p.D + 6 + (longest + 63) // 64 + (p.M + 63) // 64 + (7 if p.combine == "gated" else 0)
    case.expect("dq", want["q"], dtype, terms["q"], base + longest + p.M)
    for name in "kv":
        case.expect("d" + name, want[name], dtype, terms[name], base + share * longest)
        if p.M:
            case.expect("dslots_" + name, want["slots_" + name], F32, terms["slots_" + name],
                        base + share * longest + len(p.queries))  # fmt: skip
    if p.combine == "gated":
        case.expect("dgate", want["gate"], F32, terms["gate"], p.D + longest + len(p.queries) + 16)
    return case


def cases():
    for shape, dtype, kind in sweep(TRAINED):
        counts, H, G, D, window, sinks, both, M, combine = shape
        label = (f"segments={list(counts)} H={H} G={G} D={D} W={window} sinks={sinks} M={M} {combine}"
                 f"{' both' if both else ''} {kind}")  # fmt: skip
        forward = forward_case(label, dtype, kind, (counts, *shape))
        yield forward[0]
        yield backward_case(label, dtype, kind, forward)
    for shape, dtype, kind in sweep(CACHED):
        queries, keys, H, G, D, window, sinks, _, M, combine = shape
        label = (f"cache queries={list(queries)} keys={list(keys)} H={H} G={G} D={D} W={window} sinks={sinks} M={M} "
                 f"{combine} {kind}")  # fmt: skip
        yield forward_case(label, dtype, kind, shape)[0]
