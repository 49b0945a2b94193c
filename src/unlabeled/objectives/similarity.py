"""Sums over all pairs of rows: dense when small; when large in tiles, so that no matrix is held.

What the contrastive objectives share is L_i = log Σ_j exp(a_i·b_j). As a matrix it takes n·m
numbers, several times over with its gradient. In tiles, some rows at a time, forward keeps L alone
and backward computes each tile anew.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib.util
import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

Which = Literal["all", "others", "same", "different"]
"""The j that count for row i: all; all but i; those with its label but i; those without its
label."""
Backend = Literal["dense", "tiled", "triton"]

DENSE_UP_TO = {"cpu": 2**18, "cuda": 2**22}
"""So many pairs of rows are held as a matrix, 1 and 16 MB in float32; more are quicker in tiles."""
TILE = 2**18
"""So many pairs of rows in a tile, as fits a processor's cache."""
WIDEST = 256
"""Dimensions at most of rows that fit on a GPU's chip; wider ones are tiled."""
NONE = -1e30
"""Log of an empty sum: finite, so that no gradient is NaN."""

_forced: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("path", default=None)


def backend(rows: int, columns: int, device: str = "cpu") -> Backend:
    """Which way the sums of that many rows over so many columns are computed on a device.

    Large ones are "tiled"; on "cuda", where Triton is installed, by its fused kernels.
    """
    if forced := _forced.get():
        return forced
    if rows * columns <= DENSE_UP_TO.get(device, 2**22):
        return "dense"
    return "triton" if device == "cuda" and importlib.util.find_spec("triton") else "tiled"


@contextlib.contextmanager
def use_backend(way: Backend) -> Iterator[None]:
    """All sums inside are computed that way, whatever their size."""
    token = _forced.set(way)
    try:
        yield
    finally:
        _forced.reset(token)


def log_sums(
    a: Tensor, b: Tensor | None = None, which: Which = "all", y: Tensor | None = None
) -> Tensor:
    """L_i = log Σ_j exp(a_i·b_j) over the j that count; −1e30 where none does.

    Args:
        a: (n, d).
        b: (m, d); a itself unless given, which is quicker.
        which: the j that count; anything but "all" needs that row i of b is row i of a.
        y: (n,) labels, for "same" and "different".

    Returns:
        (n,), with gradient to a and b.
    """
    way = backend(len(a), len(a if b is None else b), a.device.type)
    if way != "dense":
        fused = way == "triton" and a.dtype == torch.float32 and a.shape[1] <= WIDEST
        return _LogSums.apply(a, b, which, y, fused)
    whole = slice(0, None)
    return _scores(a, a if b is None else b, which, y, whole, whole).logsumexp(1).clamp(min=NONE)


def squared_distances(z: Tensor) -> Tensor:
    """‖z_i − z_j‖² of all rows: (n, d) -> (n, n), exactly 0 on the diagonal."""
    length = z.pow(2).sum(1)
    squared = (length[:, None] + length - 2 * z @ z.T).clamp(min=0)
    return squared.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), 0)


def root(squared: Tensor) -> Tensor:
    """√x, with gradient 0 at 0 instead of infinity."""
    zero = squared <= 0
    return squared.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def _scores(a: Tensor, b: Tensor, which: Which, y: Tensor | None, i: slice, j: slice) -> Tensor:
    """Products of some rows of a with some of b, −1e30 for what does not count."""
    scores = a[i] @ b[j].T
    if which in ("different", "same"):
        assert y is not None
        same = y[i][:, None] == y[j]
        scores.masked_fill_(same if which == "different" else ~same, NONE)
    if which in ("others", "same"):  # row i + r is column j + c
        scores.diagonal(i.start - j.start).fill_(NONE)
    return scores


def _tiles(n: int, m: int, alone: bool) -> Iterator[tuple[slice, slice]]:
    """Squares of rows and columns; where both are the same rows, of the upper triangle alone."""
    side = math.isqrt(TILE)
    for i in range(0, n, side):
        for j in range(i if alone else 0, m, side):
            yield slice(i, i + side), slice(j, j + side)


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor | None, which: Which, y: Tensor | None, fused: bool
    ) -> Tensor:
        ctx.which, ctx.alone, ctx.fused = which, b is None, fused
        a = a.contiguous()
        b = a if b is None else b.contiguous()
        if fused:
            from unlabeled.objectives import triton_kernels

            sums = triton_kernels.forward(a, b, which, y, NONE)
        else:
            sums = _tiled_sums(a, b, y, which, ctx.alone)
        sums = sums.clamp(min=NONE)
        ctx.save_for_backward(a, b, y, sums)
        return sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, y, sums = ctx.saved_tensors
        empty = sums <= NONE
        sums, grad = sums.masked_fill(empty, 0), grad.masked_fill(empty, 0)
        slopes = _fused_slopes if ctx.fused else _tiled_slopes
        return *slopes(a, b, y, sums, grad.contiguous(), ctx.which, ctx.alone), None, None, None


def _tiled_sums(a: Tensor, b: Tensor, y: Tensor | None, which: Which, alone: bool) -> Tensor:
    """A tile off the diagonal serves its columns, too, where both are the same rows."""
    sums = a.new_full((len(a),), NONE)
    for i, j in _tiles(len(a), len(b), alone):
        scores = _scores(a, b, which, y, i, j)
        sums[i] = torch.logaddexp(sums[i], scores.logsumexp(1))
        if alone and i != j:
            sums[j] = torch.logaddexp(sums[j], scores.logsumexp(0))
    return sums


def _tiled_slopes(
    a: Tensor, b: Tensor, y: Tensor | None, sums: Tensor, grad: Tensor, which: Which, alone: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of a and b; of a alone where both are the same rows."""
    grad_a = torch.zeros_like(a)
    grad_b = grad_a if alone else torch.zeros_like(b)
    for i, j in _tiles(len(a), len(b), alone):
        scores = _scores(a, b, which, y, i, j)
        weights = (scores - sums[i][:, None]).exp_().mul_(grad[i][:, None])
        if alone:  # row j's sum holds the same scores
            weights.addcmul_(scores.sub_(sums[j]).exp_(), grad[j])
        grad_a[i].addmm_(weights, b[j])
        if not alone or i != j:
            grad_b[j].addmm_(weights.T, a[i])
    return grad_a, None if alone else grad_b


def _fused_slopes(
    a: Tensor, b: Tensor, y: Tensor | None, sums: Tensor, grad: Tensor, which: Which, alone: bool
) -> tuple[Tensor, Tensor | None]:
    """The same by Triton."""
    from unlabeled.objectives import triton_kernels

    own = sums, grad
    if alone:
        return triton_kernels.backward(a, b, which, y, NONE, own, own), None
    grad_a = triton_kernels.backward(a, b, which, y, NONE, own, None)
    return grad_a, triton_kernels.backward(b, a, which, y, NONE, None, own)
