"""Sums over all pairs of rows: dense when small; when large in tiles, so that no matrix is held.

What the contrastive objectives share is L_i = log Σ_j exp(a_i·b_j). As a matrix it takes n·m
numbers, several times over with its gradient. In tiles, some rows at a time, forward keeps L alone
and backward computes each tile anew.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib.util
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

Which = Literal["all", "others", "same", "different"]
"""The j that count for row i: all; all but i; those with its label but i; those without its
label."""
Path = Literal["dense", "tiled", "triton"]

DENSE_UP_TO = 2**22
"""So many pairs of rows are held as a matrix, 16 MB in float32."""
TILE = 2**20
"""So many pairs of rows in a tile, as fits a processor's cache."""
WIDEST = 256
"""Dimensions at most of rows that fit on a GPU's chip; wider ones are tiled."""
NONE = -1e30
"""Log of an empty sum: finite, so that no gradient is NaN."""

_forced: contextvars.ContextVar[Path | None] = contextvars.ContextVar("path", default=None)


def path(rows: int, columns: int, device: str = "cpu") -> Path:
    """Which way the sums of that many rows over so many columns are computed on a device.

    Large ones are "tiled"; on "cuda", where Triton is installed, by its fused kernels.
    """
    if forced := _forced.get():
        return forced
    if rows * columns <= DENSE_UP_TO:
        return "dense"
    return "triton" if device == "cuda" and importlib.util.find_spec("triton") else "tiled"


@contextlib.contextmanager
def using(way: Path) -> Iterator[None]:
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
    way = path(len(a), len(a if b is None else b), a.device.type)
    if way != "dense":
        fused = way == "triton" and a.dtype == torch.float32 and a.shape[1] <= WIDEST
        return _LogSums.apply(a, b, which, y, fused)
    rows = torch.arange(len(a), device=a.device)
    return _scores(a, a if b is None else b, which, y, rows).logsumexp(1).clamp(min=NONE)


def squared_distances(z: Tensor) -> Tensor:
    """‖z_i − z_j‖² of all rows: (n, d) -> (n, n), exactly 0 on the diagonal."""
    length = z.pow(2).sum(1)
    squared = (length[:, None] + length - 2 * z @ z.T).clamp(min=0)
    return squared.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), 0)


def root(squared: Tensor) -> Tensor:
    """√x, with gradient 0 at 0 instead of infinity."""
    zero = squared <= 0
    return squared.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def _scores(a: Tensor, b: Tensor, which: Which, y: Tensor | None, rows: Tensor) -> Tensor:
    """Some rows' products with all of b, −1e30 for what does not count: (rows, m)."""
    scores = a[rows] @ b.T
    if which == "all":
        return scores
    itself = rows[:, None] == torch.arange(len(b), device=b.device)
    if which == "others":
        return scores.masked_fill_(itself, NONE)
    assert y is not None
    same = y[rows][:, None] == y
    return scores.masked_fill_(~same | itself if which == "same" else same, NONE)


def _tiles(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Numbers of the rows of each tile."""
    return iter(torch.arange(len(a), device=a.device).split(max(1, TILE // len(b))))


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor | None, which: Which, y: Tensor | None, fused: bool
    ) -> Tensor:
        ctx.which, ctx.alone, ctx.fused = which, b is None, fused
        a = a.contiguous()
        b = a if b is None else b.contiguous()
        if fused:
            from unlabeled.objectives import _triton

            sums = _triton.forward(a, b, which, y, NONE)
        else:
            sums = torch.cat([_scores(a, b, which, y, rows).logsumexp(1) for rows in _tiles(a, b)])
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


def _tiled_slopes(
    a: Tensor, b: Tensor, y: Tensor | None, sums: Tensor, grad: Tensor, which: Which, alone: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of a and b; of a alone where both are the same rows."""
    grad_a, grad_b = torch.empty_like(a), None if alone else torch.zeros_like(b)
    for rows in _tiles(a, b):
        scores = _scores(a, b, which, y, rows)
        weights = (scores - sums[rows][:, None]).exp_().mul_(grad[rows][:, None])
        if grad_b is None:  # i is a column too, with the same scores: they are symmetric
            weights += scores.sub_(sums).exp_().mul_(grad)
        else:
            grad_b.addmm_(weights.T, a[rows])
        grad_a[rows] = weights @ b
    return grad_a, grad_b


def _fused_slopes(
    a: Tensor, b: Tensor, y: Tensor | None, sums: Tensor, grad: Tensor, which: Which, alone: bool
) -> tuple[Tensor, Tensor | None]:
    """The same by Triton."""
    from unlabeled.objectives import _triton

    own = sums, grad
    if alone:
        return _triton.backward(a, b, which, y, NONE, own, own), None
    grad_a = _triton.backward(a, b, which, y, NONE, own, None)
    return grad_a, _triton.backward(b, a, which, y, NONE, None, own)
