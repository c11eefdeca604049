"""attention: segments, grouped queries, decoding with a cache.

The oracle is PyTorch's scaled_dot_product_attention, a segment and a mask at a time.
Backward is a function of the rounded `out` and `lse` that it is given, so its expected
values come from the contract's formula, which is checked against autograd with the
exact ones.
"""

import torch
import torch.nn.functional as F

from case import F32, F64, I32, Case, agree, fp32, sweep


class Segment:
    """Rows of one segment as [H, rows, D]; key/value heads repeated for their queries."""

    def __init__(self, q, k, v, rows_q, rows_k, scale):
        self.share = q.shape[1] // k.shape[1]
        self.q = q[rows_q].transpose(0, 1)
        self.k = k[rows_k].transpose(0, 1).repeat_interleave(self.share, 0)
        self.v = v[rows_k].transpose(0, 1).repeat_interleave(self.share, 0)
        self.scale = scale
        a, b = self.q.shape[1], self.k.shape[1]
        self.mask = torch.arange(b) <= torch.arange(b - a, b)[:, None]

    def scores(self):
        return self.scale * self.q @ self.k.transpose(1, 2)

    def score_terms(self):
        return self.scale * self.q.abs() @ self.k.abs().transpose(1, 2)

    def group(self, x):
        """Sums what the query heads of one key/value head give it; back to [rows, G, D]."""
        H, rows, D = x.shape
        return x.reshape(H // self.share, self.share, rows, D).sum(1).transpose(0, 1)


def bounds_of(counts):
    return torch.tensor([sum(counts[:i]) for i in range(len(counts) + 1)], dtype=I32)


def forward_case(label, dtype, kind, queries, keys, H, G, D, spare=0, width=1.0):
    case = Case("attention_forward", label, dtype)
    scale = fp32(D**-0.5)
    n, m = sum(queries), sum(keys) + spare
    q = case.numbers("q", (n, H, D), None, kind, width)
    k = case.numbers("k", (m, G, D), None, kind, width)
    v = case.numbers("v", (m, G, D), None, kind)
    q_begin = case.give("q_begin", bounds_of(queries), I32)
    k_begin = case.give("k_begin", bounds_of(keys), I32)
    case.args = {"longest": max(keys), "scale": scale}
    out, lse = torch.zeros(n, H, D, dtype=F64), torch.zeros(n, H, dtype=F64)
    out_terms, lse_terms = torch.zeros_like(out), torch.zeros_like(lse)
    for i in range(len(queries)):
        rows_q, rows_k = slice(q_begin[i], q_begin[i + 1]), slice(k_begin[i], k_begin[i + 1])
        s = Segment(q, k, v, rows_q, rows_k, scale)
        if not queries[i]:
            continue
        y = F.scaled_dot_product_attention(s.q, s.k, s.v, attn_mask=s.mask, scale=scale)
        score = s.scores().masked_fill(~s.mask, -torch.inf)
        p, l = torch.softmax(score, -1), torch.logsumexp(score, -1)
        top = score.max(-1, keepdim=True).values
        # A probability carries the error of its score, the rounding of score - maximum, and exp's.
        weight = p * (1 + s.score_terms() + (top - score).masked_fill(~s.mask, 0))
        out[rows_q] = y.transpose(0, 1)
        out_terms[rows_q] = (weight @ s.v.abs() + weight.sum(-1, keepdim=True) * y.abs()).transpose(0, 1)
        lse[rows_q] = l.T
        lse_terms[rows_q] = (weight.sum(-1) + l.abs() + (l - top[..., 0]).abs()).T
    tiles = (max(keys) + 63) // 64
    steps = D + max(keys) + 3 * tiles + 6
    case.expect("out", out, dtype, out_terms, steps)
    case.expect("lse", lse, F32, lse_terms, steps)
    return case, (q, k, v, out, lse, q_begin, k_begin, scale)


def gradients(segment, dout, out, lse):
    """The contract's formula for one segment, and the magnitudes of its terms."""
    s = segment
    p = torch.exp(s.scores() - lse[..., None]).masked_fill(~s.mask, 0)
    dp, D = dout @ s.v.transpose(1, 2), (dout * out).sum(-1, keepdim=True)
    ds = p * (dp - D)
    dp_terms = dout.abs() @ s.v.abs().transpose(1, 2) + (dout * out).abs().sum(-1, keepdim=True)
    relative = 1 + s.score_terms() + (s.scores() - lse[..., None]).abs()
    ds_terms, p_terms = p * dp_terms * relative, p * relative
    values = (s.scale * ds @ s.k, s.group(s.scale * ds.transpose(1, 2) @ s.q), s.group(p.transpose(1, 2) @ dout))
    terms = (
        s.scale * ds_terms @ s.k.abs(),
        s.group(s.scale * ds_terms.transpose(1, 2) @ s.q.abs()),
        s.group(p_terms.transpose(1, 2) @ dout.abs()),
    )
    return values, terms


def backward_case(label, dtype, kind, counts, H, G, D, forward):
    q, k, v, out, lse, q_begin, k_begin, scale = forward
    case = Case("attention_backward", label, dtype)
    case.args = {"longest": max(counts), "scale": scale}
    for name, x in (("q", q), ("k", k), ("v", v)):
        case.give(name, x, dtype)
    case.give("q_begin", q_begin, I32)
    case.give("k_begin", k_begin, I32)
    given_out, given_lse = case.give("out", out, dtype), case.give("lse", lse, F32)
    dout = case.numbers("dout", out.shape, None, kind)
    want = {name: torch.zeros_like(x) for name, x in (("dq", q), ("dk", k), ("dv", v))}
    terms = {name: torch.zeros_like(x) for name, x in want.items()}
    for i in range(len(counts)):
        rows = slice(q_begin[i], q_begin[i + 1])
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        s = Segment(*leaves, rows, rows, scale)
        y = F.scaled_dot_product_attention(s.q, s.k, s.v, attn_mask=s.mask, scale=scale)
        y.backward(dout[rows].transpose(0, 1))
        s = Segment(q, k, v, rows, rows, scale)
        heads = [x[rows].transpose(0, 1) for x in (dout, out, given_out)]
        exact, _ = gradients(s, heads[0], heads[1], lse[rows].T)
        given, magnitude = gradients(s, heads[0], heads[2], given_lse[rows].T)
        for name, leaf, e, g, a in zip(("dq", "dk", "dv"), leaves, exact, given, magnitude):
            e, g, a = (x.transpose(0, 1) if name == "dq" else x for x in (e, g, a))
            agree(e, leaf.grad[rows])
            want[name][rows], terms[name][rows] = g, a
    longest, share = max(counts), H // G
    steps = D + 6 + (longest + 63) // 64
    case.expect("dq", want["dq"], dtype, terms["dq"], steps + longest)
    case.expect("dk", want["dk"], dtype, terms["dk"], steps + share * longest)
    case.expect("dv", want["dv"], dtype, terms["dv"], steps + share * longest)
    return case


def cases():
    shapes = (
        ((1,), 1, 1, 1),
        ((5, 1, 7), 2, 1, 3),
        ((3, 11), 6, 2, 8),
        ((67,), 2, 2, 5),
        ((2, 130), 1, 1, 4),
    )
    for (counts, H, G, D), dtype, kind in sweep(shapes):
        label = f"segments={list(counts)} H={H} G={G} D={D} {kind}"
        spare = 2 if counts == (3, 11) else 0  # rows of k and v that no segment owns
        forward, shared = forward_case(label, dtype, kind, counts, counts, H, G, D, spare)
        yield forward
        yield backward_case(label, dtype, kind, counts, H, G, D, shared)
    for (queries, keys, H, G, D), dtype, kind in sweep((((1, 1), (5, 66), 4, 2, 8), ((3, 0, 1), (70, 2, 1), 2, 1, 6))):
        label = f"cache queries={list(queries)} keys={list(keys)} H={H} G={G} D={D} {kind}"
        yield forward_case(label, dtype, kind, queries, keys, H, G, D)[0]
    # A head wider than a chain of 256, and scores that leave all but a few keys without weight.
    for dtype in (F32, torch.bfloat16):
        yield forward_case("wide head", dtype, "normal", (3,), (3,), 1, 1, 300)[0]
        yield forward_case("sharp scores", dtype, "normal", (9,), (9,), 2, 1, 16, width=6.0)[0]
