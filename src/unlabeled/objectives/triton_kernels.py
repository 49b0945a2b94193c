"""Fused CUDA kernels of `similarity.log_sums`, which keep the scores in on-chip memory."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

CODES = {"all": 0, "others": 1, "same": 2, "different": 3}
ROWS, COLUMNS = 64, 64
"""Size of a tile."""


@triton.jit
def _rows(a_ptr, y_ptr, n, d, WHICH: tl.constexpr, D: tl.constexpr, R: tl.constexpr):
    """R rows of a program: their numbers, offsets, mask, values and labels."""
    rows = tl.program_id(0) * R + tl.arange(0, R)
    width = tl.arange(0, D)
    at = rows[:, None] * d + width[None, :]
    inside = (rows[:, None] < n) & (width[None, :] < d)
    a = tl.load(a_ptr + at, mask=inside, other=0.0)
    y_rows = rows
    if WHICH >= 2:
        y_rows = tl.load(y_ptr + rows, mask=rows < n, other=0)
    return rows, at, inside, a, y_rows


@triton.jit
def _scores(
    a,
    b_ptr,
    y_rows,
    y_ptr,
    rows,
    columns,
    m,
    d,
    WHICH: tl.constexpr,
    D: tl.constexpr,
    NONE: tl.constexpr,
):
    """A tile of scores (ROWS, COLUMNS), and its rows of b."""
    width = tl.arange(0, D)
    inside = (columns[:, None] < m) & (width[None, :] < d)
    b = tl.load(b_ptr + columns[:, None] * d + width[None, :], mask=inside, other=0.0)
    scores = tl.dot(a, tl.trans(b), input_precision="ieee")
    counts = (columns[None, :] < m) & (rows[:, None] >= 0)
    if WHICH == 1 or WHICH == 2:
        counts = counts & (rows[:, None] != columns[None, :])
    if WHICH >= 2:
        y = tl.load(y_ptr + columns, mask=columns < m, other=0)
        same = y_rows[:, None] == y[None, :]
        counts = counts & (same if WHICH == 2 else same == 0)
    return tl.where(counts, scores, NONE), b


@triton.jit
def _forward(
    a_ptr,
    b_ptr,
    y_ptr,
    sums_ptr,
    n,
    m,
    d,
    WHICH: tl.constexpr,
    D: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    NONE: tl.constexpr,
):
    """L_i of R rows, by a running maximum and a running sum over the tiles."""
    rows, _at, _inside, a, y_rows = _rows(a_ptr, y_ptr, n, d, WHICH, D, R)
    top = tl.full([R], NONE, tl.float32)
    total = tl.zeros([R], tl.float32)
    for start in range(0, m, C):
        columns = start + tl.arange(0, C)
        scores, _ = _scores(a, b_ptr, y_rows, y_ptr, rows, columns, m, d, WHICH, D, NONE)
        higher = tl.maximum(top, tl.max(scores, 1))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(scores - higher[:, None]), 1)
        top = higher
    tl.store(sums_ptr + rows, top + tl.log(total), mask=rows < n)


@triton.jit
def _backward(
    a_ptr,
    b_ptr,
    y_ptr,
    own_ptr,
    own_grad_ptr,
    other_ptr,
    other_grad_ptr,
    out_ptr,
    n,
    m,
    d,
    WHICH: tl.constexpr,
    D: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
    NONE: tl.constexpr,
    OWN: tl.constexpr,
    OTHER: tl.constexpr,
):
    """Σ_j (g_i exp(s_ij − L_i) + g_j exp(s_ij − L_j)) b_j of R rows, or one of the two terms."""
    rows, at, inside, a, y_rows = _rows(a_ptr, y_ptr, n, d, WHICH, D, R)
    if OWN:
        own = tl.load(own_ptr + rows, mask=rows < n, other=0.0)
        own_grad = tl.load(own_grad_ptr + rows, mask=rows < n, other=0.0)
    out = tl.zeros([R, D], tl.float32)
    for start in range(0, m, C):
        columns = start + tl.arange(0, C)
        scores, b = _scores(a, b_ptr, y_rows, y_ptr, rows, columns, m, d, WHICH, D, NONE)
        weights = tl.zeros([R, C], tl.float32)
        if OWN:
            weights += tl.exp(scores - own[:, None]) * own_grad[:, None]
        if OTHER:
            other = tl.load(other_ptr + columns, mask=columns < m, other=0.0)
            other_grad = tl.load(other_grad_ptr + columns, mask=columns < m, other=0.0)
            weights += tl.exp(scores - other[None, :]) * other_grad[None, :]
        out += tl.dot(weights, b, input_precision="ieee")
    tl.store(out_ptr + at, out, mask=inside)


def forward(a: Tensor, b: Tensor, which: str, y: Tensor | None, none: float) -> Tensor:
    """Log-sums (n,) of contiguous float32 rows on a CUDA device."""
    sums = a.new_empty(len(a))
    grid = (triton.cdiv(len(a), ROWS),)
    _forward[grid](a, b, _labels(y, a), sums, len(a), len(b), a.shape[1], **_sizes(a, which, none))
    return sums


def backward(
    a: Tensor,
    b: Tensor,
    which: str,
    y: Tensor | None,
    none: float,
    own: tuple[Tensor, Tensor] | None,
    other: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Gradient of a's rows from (sums, gradients) of a's rows (own), of b's (other), or both."""
    out = torch.empty_like(a)
    grid = (triton.cdiv(len(a), ROWS),)
    _backward[grid](
        a,
        b,
        _labels(y, a),
        *(own or (a, a)),
        *(other or (a, a)),
        out,
        len(a),
        len(b),
        a.shape[1],
        OWN=own is not None,
        OTHER=other is not None,
        **_sizes(a, which, none),
    )
    return out


def _labels(y: Tensor | None, a: Tensor) -> Tensor:
    return a if y is None else y


def _sizes(a: Tensor, which: str, none: float) -> dict[str, Any]:
    width = max(16, triton.next_power_of_2(a.shape[1]))
    return {"WHICH": CODES[which], "D": width, "R": ROWS, "C": COLUMNS, "NONE": none}
