"""How far may fp32 be off? A model-level error bound from fp64 alone.

The same program is run again in fp64 with every arithmetic result disturbed at random by
as much as fp32 would be off there (Monte Carlo arithmetic, D. S. Parker 1997): u |y| for one
rounding, the root of the squares of its roundings for a sum, a few u for an elementary
function. What comes out at the end differs from the undisturbed result by what
such errors, carried through the whole model, forward and backward, amount to. Nothing here
knows how the library rounds; nothing is fitted to it.

With storage in 16 bits every result is disturbed a second time, by one rounding to that
type. A sum of many terms still errs inside by fp32's unit: that is why this bound is below
fp32's times the ratio of the units. It is more than a program rounds that stores only some
of these results, such as ours, which keeps the inside of a norm or of attention in fp32.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

U = 2.0**-24
# Storage in 16 bits: the unit of its rounding, and half a step among its denormal numbers.
STORED = {"bf16": (2.0**-8, 2.0**-134), "fp16": (2.0**-11, 2.0**-25)}

# These move numbers, or choose among them, and round nothing.
EXACT = {
    "_to_copy", "alias", "argmax", "cat", "clone", "copy_", "detach", "embedding", "empty_like", "eq", "expand",
    "fill_", "full", "full_like", "gather", "ge", "gt", "index", "index_select", "lift_fresh", "masked_fill",
    "masked_fill_", "max", "neg", "new_empty", "new_empty_strided", "new_zeros", "ones_like", "select_backward",
    "slice_backward", "sort", "split", "stack", "topk", "where", "zero_", "zeros", "zeros_like", "scatter",
    "value_selecting_reduction_backward", "index_copy_", "constant_pad_nd", "repeat", "rand", "_unsafe_view", "isnan",
}  # fmt: skip
# Roundings of functions of one number, in u; the errors of src/core/math.h's kind.
FUNCTIONS = {"rsqrt": 3, "sqrt": 1, "reciprocal": 1, "silu": 7, "exp": 3, "log": 3, "cos": 1, "sin": 1}


def chain(count, total, squares):
    """A sum's error: each of its `count` partial sums s_j is rounded, so that the variance
    is a third of u^2 Σ s_j^2. With the terms in random order s_j^2 is (j/k)^2 S^2 +
    (j/k)(1 - j/k) Q on average, S the sum of the terms and Q of their squares; Σ s_j^2 is
    then k (S^2 / 3 + Q / 6). The result itself is rounded once more when it is stored."""
    return torch.sqrt(count * (total.square() / 3 + squares / 6)) + total.abs()


def size(name, args, out, before):
    """The error that out may have, in units of u, elementwise."""
    if name in ("mm", "bmm"):
        return chain(args[0].shape[-1], out, torch.matmul(args[0].square(), args[1].square()))
    if name in ("sum", "mean"):
        x, count = args[0].square(), args[0].numel() / max(1, out.numel())
        squares = x.sum() if len(args) < 2 or not args[1] else x.sum(args[1], keepdim=len(args) > 2 and args[2])
        return chain(count, out, squares) if name == "sum" else chain(count, count * out, squares) / count
    if name == "_softmax":  # exp's argument is rounded: a relative error of |x - max| u
        depth = args[0].amax(args[1], keepdim=True) - args[0]
        return torch.where(out > 0, out * (4 + depth), 0.0)
    if name == "_log_softmax":
        return out.abs() + 4
    if name == "_softmax_backward_data":
        grad, p, dim = args[0], args[1], args[2]
        terms = grad * p
        dot = chain(p.shape[dim], terms.sum(dim, keepdim=True), terms.square().sum(dim, keepdim=True))
        return p * (2 * grad.abs() + dot)
    if name == "_log_softmax_backward_data":
        grad, y, dim = args[0], args[1], args[2]
        return grad.abs() + torch.exp(y) * (4 + y.abs()) * grad.abs().sum(dim, keepdim=True)
    if name == "silu_backward":
        grad, x = args[0], args[1]
        return 8 * grad.abs() * torch.sigmoid(x) * (1 + x.abs())
    if name in ("index_add", "index_add_", "index_put", "index_put_", "_index_put_impl_", "embedding_dense_backward"):
        return 4 * out.abs() + (before.abs() if before is not None else 0)
    if before is not None:  # an update in place: a sum with what was there
        return before.abs() + out.abs()
    return FUNCTIONS.get(name, 1) * out.abs()


class Disturb(TorchDispatchMode):
    def __init__(self, seed, stored=None):
        super().__init__()
        self.unit, self.step = STORED.get(stored, (0.0, 0.0))
        self.source = torch.Generator().manual_seed(seed)

    def off(self, scale):
        return U * scale * (2 * torch.rand(scale.shape, generator=self.source, dtype=torch.float64) - 1)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        writes = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
        views = any(r.alias_info is not None for r in func._schema.returns) and not writes
        before = args[0].clone() if writes and torch.is_tensor(args[0]) and args[0].is_floating_point() else None
        out = func(*args, **(kwargs or {}))
        if name in EXACT or views or not torch.is_tensor(out) or out.dtype != torch.float64:
            return out
        scale = size(name, args, out, before).expand(out.shape)
        out.add_(self.off(torch.where(scale < 1e100, scale, 0.0)))  # a mask's -1e308 stays what it is
        if self.unit:
            off = torch.where(scale < 1e100, self.unit * out.abs() + self.step * (out != 0), 0.0)
            out.add_(self.off(off / U))
        return out
