"""Representational similarity analysis: which samples have similar features.

Three similarities: the cosine of the features as they are, the cosine after
mean-centering (`centered`), and Pearson's correlation across the features of each pair. Positive
features (ReLU, pooled) point the same way whatever they show, so their uncentered cosine is high
throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.encoders.features import (
    centered,
    in_blocks,
    labeled,
    mean_of,
    refuse_not_finite,
    rounding,
    unit,
)
from unlabeled.errors import UserError
from unlabeled.evaluation.intervals import Groups, Interval, normal

Features = np.ndarray | Tensor
Kind = Literal["cosine", "centered", "pearson"]
LARGEST = 20_000
"""Rows up to which a whole matrix is given: 1.6 GB in float32."""


@dataclass(frozen=True)
class Gap:
    """Mean similarity of pairs that share a class, of pairs that do not, and their difference."""

    within: float
    between: float
    interval: Interval = (math.nan, math.nan)  #: 95 %, of the difference

    @property
    def gap(self) -> float:
        """The difference."""
        return self.within - self.between


class Similarity(float):
    """A similarity of two representations: a float, with its 95 % interval.

    Args:
        value: the similarity.
        interval: its 95 % interval; NaN if there is none.
    """

    interval: Interval

    def __new__(cls, value: float, interval: Interval = (math.nan, math.nan)) -> Similarity:
        """A float that carries its interval."""
        similarity = super().__new__(cls, value)
        similarity.interval = interval
        return similarity

    def __repr__(self) -> str:
        low, high = self.interval
        return f"Similarity({float(self):.6g}, interval=({low:.6g}, {high:.6g}))"


def as_features(features: Features) -> Float[np.ndarray, "n d"]:
    """Features (N, dim) as an array of float32, or of float64 if they are that.

    Raises:
        UserError: they are not a table of numbers, or some are NaN or infinite.
    """
    if isinstance(features, Tensor):
        precision = torch.promote_types(features.dtype, torch.float32)
        features = features.detach().to("cpu", precision).numpy()
    z = features if isinstance(features, np.memmap) else np.asarray(features)
    if z.ndim != 2 or z.dtype.kind not in "fiub":
        raise UserError(
            f"features of shape {z.shape} and type {z.dtype} cannot be compared; pass numbers "
            "(samples, dim), such as features.reshape(len(features), -1)"
        )
    z = z.astype(np.result_type(z.dtype, np.float32), copy=False)
    refuse_not_finite(z)
    return z


def unit_rows(
    z: Float[np.ndarray, "n d"], kind: Kind = "cosine", dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n d"]:
    """Rows of length 1 whose inner products are the similarity; a zero row stays zero.

    A row whose features are all the same, as where there is only one, has no correlation: NaN.

    Raises:
        UserError: some features are NaN or infinite.
    """
    refuse_not_finite(z)
    return _unit_rows(z, kind, mean_of(z) if kind == "centered" else None, dtype)


def _unit_rows(
    z: Float[np.ndarray, "n d"], kind: Kind, mean: np.ndarray | None, dtype: torch.dtype
) -> Float[Tensor, "n d"]:
    """As `unit_rows`, of some rows, given the mean of all."""
    rows = torch.tensor(z).to(dtype)
    if mean is not None:
        rows = rows - torch.from_numpy(mean).to(dtype)
    elif kind == "pearson":
        coarsest = max(rounding(z.dtype), rounding(rows.numpy().dtype))
        least = coarsest * rows.abs().amax(1)
        rows = centered(rows, 1)
        rows[rows.abs().amax(1) <= least] = torch.nan
    return unit(rows)


def similarity_matrix(
    z: Float[np.ndarray, "n d"], kind: Kind = "cosine"
) -> Float[np.ndarray, "n n"]:
    """All pairwise similarities.

    Raises:
        UserError: more than 20,000 rows; `gap` and `histograms` need no matrix.
    """
    if len(z) > LARGEST:
        raise UserError(
            f"a similarity matrix of {len(z)} rows is too large; take at most {LARGEST}, "
            "or use gap() and histograms(), which go by blocks"
        )
    rows = unit_rows(z, kind)
    return (rows @ rows.T).numpy()


def gap(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    kind: Kind = "cosine",
    groups: Groups = None,
) -> Gap:
    """Mean similarity within classes and between them, each pair once, no row with itself.

    Exact without a matrix: the similarities within a class sum to the squared length of the class's
    summed rows, so that two passes by blocks of rows suffice, of features on disk, too
    (`numpy.load(…, mmap_mode="r")`). NaN if there is no such pair,
    or a row has no correlation. Rows of class −1 have no label and are left out. The interval is
    over rows, or over groups of them.
    """
    groups = None if groups is None else groups[y >= 0]
    z, y = labeled(z, y)
    refuse_not_finite(z)
    mean = mean_of(z) if kind == "centered" else None
    codes = torch.from_numpy(np.unique(y, return_inverse=True)[1].reshape(-1))
    sums = torch.zeros(int(codes.max()) + 1, z.shape[1], dtype=torch.float64)
    for part, some in in_blocks(z):
        sums.index_add_(0, codes[part], _unit_rows(some, kind, mean, torch.float32).double())
    total = sums.sum(0)
    within_of, between_of = torch.empty(2, len(codes), dtype=torch.float64)
    for part, some in in_blocks(z):
        rows = _unit_rows(some, kind, mean, torch.float32).double()
        own = (rows**2).sum(1)  # each row with itself: 1, or 0 for a zero row
        within_of[part] = (rows * sums[codes[part]]).sum(1) - own  # with others of its class
        between_of[part] = rows @ total - own - within_of[part]
    counts = torch.bincount(codes).double()[codes]
    n_within, n_between = (counts - 1).sum(), (len(codes) - counts).sum()
    within, between = within_of.sum() / n_within, between_of.sum() / n_between
    influence = 2 * (within_of - within * (counts - 1)) / n_within
    influence -= 2 * (between_of - between * (len(codes) - counts)) / n_between
    value = float(within - between)
    interval = normal(value, influence.numpy(), (-2.0, 2.0), groups)
    return Gap(float(within), float(between), interval)


def histograms(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    kind: Kind = "cosine",
    bins: int = 80,
) -> tuple[Float[np.ndarray, " edges"], Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Densities of the similarity within classes and between them, by blocks of rows.

    Returns:
        bin edges over [−1, 1], density within, density between; no row with itself, and none that
        has no correlation.
    """
    z, y = labeled(z, y)
    rows, codes = unit_rows(z, kind), torch.from_numpy(y)
    known = rows.isfinite().all(1)
    rows, codes = rows[known], codes[known]
    counts = torch.zeros(2, bins, dtype=torch.float64)
    block = max(1, 2**23 // max(1, len(rows)))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        similarity = rows[part] @ rows.T
        bin = ((similarity + 1) * (bins / 2)).long().clamp_(0, bins - 1)
        bin += bins * (codes[part, None] != codes)
        binned = torch.bincount(bin.flatten(), minlength=2 * bins).view(2, bins)
        own = bin[torch.arange(len(bin)), torch.arange(start, start + len(bin))]
        counts += binned - torch.bincount(own, minlength=2 * bins).view(2, bins)
    density = counts / counts.sum(1, keepdim=True).clamp(min=1) * (bins / 2)
    edges = np.linspace(-1, 1, bins + 1)
    return edges, density[0].numpy(), density[1].numpy()
