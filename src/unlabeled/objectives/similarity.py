"""Log-sum-exp over all pairs of rows, with a dense, a tiled and a fused backend.

Contrastive objectives share L_i = log Σ_j exp(a_i·b_j). The dense backend holds the n·m matrix of
scores, several times with its gradient. The others compute it in tiles: the forward pass keeps L
only, and the backward pass recomputes each tile.
"""

import contextlib
import contextvars
import importlib.util
import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

Which = Literal["all", "others", "same", "different"]
"""The j in the sum of row i: all; all but i; those of its label but i; those of other labels."""
Backend = Literal["dense", "tiled", "triton"]

DENSE_UP_TO = {"cpu": 2**18, "cuda": 2**22}
"""Largest number of pairs for the dense backend, 1 and 16 MB in float32; tiles are faster above."""
TILE = 2**18
"""Pairs of rows in a tile, which fits a CPU's cache."""
WIDEST = 256
"""Largest dimension of rows for the fused backend; wider rows are tiled."""
NONE = -1e30
"""Logarithm of an empty sum; finite, so that no gradient is NaN."""

_forced: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("backend", default=None)


def backend(rows: int, columns: int, device: str = "cpu") -> Backend:
    """The backend for sums of rows over columns on a device, by their numbers.

    Small ones are "dense", large ones "tiled", or "triton" (fused) on "cuda" if it is installed.
    """
    if forced := _forced.get():
        return forced
    if rows * columns <= DENSE_UP_TO.get(device, 2**22):
        return "dense"
    return "triton" if device == "cuda" and importlib.util.find_spec("triton") else "tiled"


@contextlib.contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Context manager that selects a backend for sums of any size."""
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def log_sums(
    a: Tensor, b: Tensor | None = None, which: Which = "all", y: Tensor | None = None
) -> Tensor:
    """L_i = log Σ_j exp(a_i·b_j) over a selection of j.

    Args:
        a: (n, d).
        b: (m, d); a itself by default, which is faster.
        which: the selection; for all but "all", row i of b must correspond to row i of a.
        y: (n,) labels, for "same" and "different".

    Returns:
        (n,), with gradients to a and b; −1e30 where no j is selected.
    """
    name = backend(len(a), len(a if b is None else b), a.device.type)
    if name != "dense":
        fused = name == "triton" and a.dtype == torch.float32 and a.shape[1] <= WIDEST
        return _LogSums.apply(a, b, which, y, fused)
    rows = slice(0, None)
    return _scores(a, a if b is None else b, which, y, rows, rows).logsumexp(1).clamp(min=NONE)


def squared_distances(z: Tensor) -> Tensor:
    """‖z_i − z_j‖² of all pairs of rows, (n, d) -> (n, n), exactly 0 on the diagonal."""
    length = z.pow(2).sum(1)
    squared = (length[:, None] + length - 2 * z @ z.T).clamp(min=0)
    return squared.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), 0)


def safe_sqrt(squared: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    zero = squared <= 0
    return squared.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def _scores(a: Tensor, b: Tensor, which: Which, y: Tensor | None, i: slice, j: slice) -> Tensor:
    """Scores of rows i of a with rows j of b, −1e30 where not selected."""
    scores = a[i] @ b[j].T
    if which in ("different", "same"):
        assert y is not None
        same = y[i][:, None] == y[j]
        scores.masked_fill_(same if which == "different" else ~same, NONE)
    if which in ("others", "same"):  # row i + r is column j + c
        scores.diagonal(i.start - j.start).fill_(NONE)
    return scores


def _tiles(n: int, m: int, shared: bool) -> Iterator[tuple[slice, slice]]:
    """Square tiles of rows and columns; of the upper triangle if a and b share their rows."""
    side = math.isqrt(TILE)
    for i in range(0, n, side):
        for j in range(i if shared else 0, m, side):
            yield slice(i, i + side), slice(j, j + side)


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor | None, which: Which, y: Tensor | None, fused: bool
    ) -> Tensor:
        ctx.which, ctx.shared, ctx.fused = which, b is None, fused
        a = a.contiguous()
        b = a if b is None else b.contiguous()
        if fused:
            from unlabeled.objectives import triton_kernels

            sums = triton_kernels.forward(a, b, which, y, NONE)
        else:
            sums = _tiled_sums(a, b, y, which, ctx.shared)
        sums = sums.clamp(min=NONE)
        ctx.save_for_backward(a, b, y, sums)
        return sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, y, sums = ctx.saved_tensors
        empty = sums <= NONE
        sums, grad = sums.masked_fill(empty, 0), grad.masked_fill(empty, 0)
        gradients = _fused_gradients if ctx.fused else _tiled_gradients
        both = gradients(a, b, y, sums, grad.contiguous(), ctx.which, ctx.shared)
        return (*both, None, None, None)


def _tiled_sums(a: Tensor, b: Tensor, y: Tensor | None, which: Which, shared: bool) -> Tensor:
    """Log-sums (n,); if a and b share their rows, each tile serves its columns, too."""
    sums = a.new_full((len(a),), NONE)
    for i, j in _tiles(len(a), len(b), shared):
        scores = _scores(a, b, which, y, i, j)
        sums[i] = torch.logaddexp(sums[i], scores.logsumexp(1))
        if shared and i != j:
            sums[j] = torch.logaddexp(sums[j], scores.logsumexp(0))
    return sums


def _tiled_gradients(
    a: Tensor, b: Tensor, y: Tensor | None, sums: Tensor, grad: Tensor, which: Which, shared: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of a and b; if shared, of a only."""
    grad_a = torch.zeros_like(a)
    grad_b = grad_a if shared else torch.zeros_like(b)
    for i, j in _tiles(len(a), len(b), shared):
        scores = _scores(a, b, which, y, i, j)
        weights = (scores - sums[i][:, None]).exp_().mul_(grad[i][:, None])
        if shared:  # the sum of row j has the same scores
            weights.addcmul_(scores.sub_(sums[j]).exp_(), grad[j])
        grad_a[i].addmm_(weights, b[j])
        if not shared or i != j:
            grad_b[j].addmm_(weights.T, a[i])
    return grad_a, None if shared else grad_b


def _fused_gradients(
    a: Tensor, b: Tensor, y: Tensor | None, sums: Tensor, grad: Tensor, which: Which, shared: bool
) -> tuple[Tensor, Tensor | None]:
    """As `_tiled_gradients`, by the fused kernels."""
    from unlabeled.objectives import triton_kernels

    own = sums, grad
    if shared:
        return triton_kernels.backward(a, b, which, y, NONE, own, own), None
    grad_a = triton_kernels.backward(a, b, which, y, NONE, own, None)
    return grad_a, triton_kernels.backward(b, a, which, y, NONE, None, own)
