"""How similar two representational dissimilarity matrices (RDMs) are, and how similar they can be.

Each measure is a function of how often each condition is drawn, so that its value (each once) and
its bootstrap over conditions are the same code. A pair of a condition with itself never counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import kendalltau, rankdata

from unlabeled.errors import UserError, notice, suggest
from unlabeled.evaluation.intervals import bootstrap
from unlabeled.evaluation.rsa import Similarity

METHODS = ("spearman", "pearson", "corr", "cosine", "tau-a", "rho-a", "corr_cov", "cosine_cov")
RANKED = ("spearman", "rho-a", "tau-a")
CENTERED = ("pearson", "corr", "corr_cov")
WHITENED = ("corr_cov", "cosine_cov")
LEAST = 1e-24
"""Mean square of dissimilarities up to 1 that is only rounding."""
Statistic = Callable[[Int[np.ndarray, "b n"]], Float[np.ndarray, " b"]]
"""Of how often each condition is drawn, (draws, n) -> (draws,)."""


class NoiseCeiling(NamedTuple):
    """Bounds of the mean similarity that the true model would have to RDMs of several subjects."""

    lower: float
    upper: float


def compare_rdms(
    a: np.ndarray, b: np.ndarray, method: str = "spearman", *, interval: bool = True
) -> Similarity:
    """Similarity of two RDMs of the same conditions, with its bootstrap interval over them.

    Args:
        a: RDM, (N, N), such as `rdm` gives.
        b: another one.
        method: `pearson` (also `corr`) or `spearman`, the correlation of the dissimilarities or of
            their ranks; `cosine`; `tau-a` (Kendall) and `rho-a` (Spearman with ties broken at
            random, in expectation), for RDMs with ties, which other rank correlations favor;
            `corr_cov` and `cosine_cov`, correlation and cosine after whitening by the covariance of
            dissimilarities that share a condition. `cosine_cov` of squared Euclidean RDMs is linear
            CKA.
        interval: whether to draw 1,000 bootstrap samples of the conditions. Time grows with their
            square: `spearman` and `rho-a` of 1,000 conditions take most of a minute, `tau-a` of
            300; the others take seconds.

    Returns:
        The similarity, a float, with its 95 % `interval`. NaN if it is undefined, as for an RDM
        whose dissimilarities are all the same. Conditions that are NaN in either RDM are left out,
        with a notice.

    Raises:
        UserError: an RDM is not a square symmetric matrix, the two are of different sizes, or fewer
            than 3 conditions are left.

    Source:
        Nili et al. 2014, "A Toolbox for Representational Similarity Analysis" (tau-a). Schütt et
        al. 2023, "Statistical Inference on Representational Geometries" (rho-a, bootstrap of
        conditions). Diedrichsen et al. 2021, "Comparing Representational Geometries Using Whitened
        Unbiased-Distance-Matrix Similarity", equation 14, for independent conditions.
    """
    _check_method(method)
    first, second = _prepared([a, b])
    statistic = _statistic(first, second, method)
    value = float(statistic(np.ones((1, len(first)), np.int64))[0])
    if not interval or not np.isfinite(value):
        return Similarity(value)
    return Similarity(value, bootstrap(statistic, len(first)))


def noise_ceiling(
    rdms: Sequence[np.ndarray] | np.ndarray, method: str = "spearman"
) -> NoiseCeiling:
    """How similar a perfect model would be on average to RDMs of subjects, seeds or repetitions.

    The upper bound compares each RDM with the mean of all, the lower bound with the mean of the
    others. RDMs are first scaled to length 1 (in the whitened space where the method whitens) or
    ranked, so that no other RDM is closer to all of them on average than their mean; for `tau-a`
    this is only nearly so, and the upper bound may be a little low.

    Args:
        rdms: (k, N, N), two or more.
        method: as in `compare_rdms`.

    Raises:
        UserError: there are fewer than two RDMs, or they are not comparable.

    Source:
        Nili et al. 2014, "A Toolbox for Representational Similarity Analysis", section "Noise
        ceiling".
    """
    _check_method(method)
    if len(rdms) < 2:
        raise UserError(f"a noise ceiling of {len(rdms)} RDM is undefined; pass two or more")
    matrices = _prepared(rdms)
    scaled = np.stack([_scaled(matrix, method) for matrix in matrices])
    total, once = scaled.sum(0), np.ones((1, scaled.shape[1]), np.int64)
    pools = {"upper": [total] * len(scaled), "lower": list(total - scaled)}
    bounds = {
        key: np.mean([_statistic(*two, method)(once) for two in zip(matrices, pool, strict=True)])
        for key, pool in pools.items()
    }
    return NoiseCeiling(float(bounds["lower"]), float(bounds["upper"]))


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise UserError(f"RDMs cannot be compared by '{method}'; {suggest(method, METHODS)}")


def _prepared(rdms: Sequence[np.ndarray] | np.ndarray) -> list[Float[np.ndarray, "n n"]]:
    """The RDMs in float64, without the conditions that are NaN in one of them."""
    matrices = [np.asarray(matrix, np.float64) for matrix in rdms]
    for matrix in matrices:
        if matrix.ndim != 2 or len(matrix) != matrix.shape[1]:
            raise UserError(f"an RDM of shape {matrix.shape} is not square; pass (N, N)")
        if matrix.shape != matrices[0].shape:
            raise UserError(
                f"RDMs of {len(matrices[0])} and {len(matrix)} conditions cannot be compared; "
                "compute them of the same samples"
            )
        if not np.allclose(matrix, matrix.T, rtol=1e-4, equal_nan=True):
            raise UserError("an RDM is not symmetric; compute it with rdm(features)")
    n = len(matrices[0])
    missing = ~np.isfinite(np.stack(matrices))
    missing[:, np.arange(n), np.arange(n)] = True
    known = ~missing.all(2).any(0)
    present = [matrix[np.ix_(known, known)] for matrix in matrices]
    if not known.all():
        notice(f"{(~known).sum():,} of {n:,} conditions have no dissimilarity and are left out")
    if known.sum() < 3:
        raise UserError(f"{known.sum()} conditions are too few to compare RDMs; take 3 or more")
    for matrix in present:
        np.fill_diagonal(matrix, 0)
        if not np.isfinite(matrix).all():
            raise UserError(
                "some dissimilarities of an RDM are NaN or infinite; leave their conditions out"
            )
    return present


def _statistic(a: Float[np.ndarray, "n n"], b: Float[np.ndarray, "n n"], method: str) -> Statistic:
    """The similarity as a function of how often each condition is drawn."""
    if method in RANKED:
        return _rank_statistic(a, b, method)
    return _product_statistic(a, b, method)


def _product_statistic(
    a: Float[np.ndarray, "n n"], b: Float[np.ndarray, "n n"], method: str
) -> Statistic:
    """Correlation and cosine, whitened or not."""
    x, y = _at_scale(a, method), _at_scale(b, method)

    def statistic(times: Int[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        with np.errstate(invalid="ignore", divide="ignore"):  # draws of one condition only
            product, own, other = (_inner(times, *two, method) for two in ((x, y), (x, x), (y, y)))
            return np.where((own > LEAST) & (other > LEAST), product / np.sqrt(own * other), np.nan)

    return statistic


def _at_scale(matrix: Float[np.ndarray, "n n"], method: str) -> Float[np.ndarray, "n n"]:
    """An RDM with a largest dissimilarity of 1, and a mean of 0 for a correlation."""
    matrix = matrix / max(np.abs(matrix).max(), np.finfo(np.float64).tiny)
    if method in CENTERED:  # here for the digits, and again for each draw
        pairs = ~np.eye(len(matrix), dtype=bool)
        matrix = np.where(pairs, matrix - matrix[pairs].mean(), 0)
    return matrix


def _inner(
    times: Int[np.ndarray, "b n"],
    x: Float[np.ndarray, "n n"],
    y: Float[np.ndarray, "n n"],
    method: str,
) -> Float[np.ndarray, " b"]:
    """Mean product of dissimilarities, minus their means for a correlation, whitened or not.

    The covariance of the dissimilarities of independent conditions is V = 2 I + M Mᵀ, up to a
    factor, with M the incidence of pairs and conditions (Diedrichsen et al. 2021, equation 8). So
    xᵀ V⁻¹ y follows from the sums of rows Mᵀx and from (2 I + MᵀM)⁻¹, which is a diagonal and a
    matrix of rank one, also where copies of a condition form no pair.
    """
    w = times.astype(np.float64)
    size = w.sum(1, keepdims=True)
    count = (size**2 - (w**2).sum(1, keepdims=True)) / 2  # pairs
    total = (w @ (x * y) * w).sum(1, keepdims=True) / 2
    rows, rows_y = w @ x, w @ y
    if method in CENTERED:
        mean, mean_y = ((w * r).sum(1, keepdims=True) / (2 * count) for r in (rows, rows_y))
        total = total - count * mean * mean_y
        rows, rows_y = rows - mean * (size - w), rows_y - mean_y * (size - w)
    if method in WHITENED:
        diagonal = size + 2 - 2 * w
        diagonal[diagonal == 0] = 1e-8  # half the draws are one condition: the limit
        shared = (w * rows / diagonal).sum(1, keepdims=True)
        shared = shared / (1 + (w / diagonal).sum(1, keepdims=True))
        total = total - (w * rows_y * (rows - shared) / diagonal).sum(1, keepdims=True)
    return (total / count)[:, 0]


def _rank_statistic(
    a: Float[np.ndarray, "n n"], b: Float[np.ndarray, "n n"], method: str
) -> Statistic:
    """Rank correlations; the ranks are those of each draw."""
    i, j = np.triu_indices(len(a), 1)
    order = np.argsort(a[i, j], kind="stable")
    i, j = i[order], j[order]
    levels = [np.unique(m[i, j], return_inverse=True)[1].reshape(-1) for m in (a, b)]

    def one(times: Int[np.ndarray, " n"]) -> float:
        w = times[i] * times[j]
        size = float(w.sum())
        if size < 2:
            return np.nan
        if method == "tau-a":
            return _tau_a(*(np.repeat(level, w) for level in levels))
        ranks, squares = [], []
        for level in levels:
            counts = np.bincount(level, w)
            middle = np.cumsum(counts) - (counts + size) / 2  # mean rank, from the mean of all
            ranks.append(middle[level])
            squares.append(counts @ middle**2)
        product = (w * ranks[0]) @ ranks[1]
        if method == "rho-a":
            return 12 * product / (size**3 - size)
        return product / np.sqrt(squares[0] * squares[1]) if min(squares) > 0 else np.nan

    return lambda times: np.array([one(line) for line in times], np.float64)


def _tau_a(x: Int[np.ndarray, " p"], y: Int[np.ndarray, " p"]) -> float:
    """(concordant − discordant) / all pairs, from SciPy's tau-b, which leaves out tied pairs."""
    total = len(x) * (len(x) - 1) / 2
    untied = [total - (n * (n - 1.0)).sum() / 2 for n in map(np.bincount, (x, y))]
    if min(untied) == 0:
        return 0.0
    return kendalltau(x, y, method="asymptotic").statistic * np.sqrt(untied[0] * untied[1]) / total


def _scaled(matrix: Float[np.ndarray, "n n"], method: str) -> Float[np.ndarray, "n n"]:
    """An RDM as it enters a mean: its ranks, or at length 1, and at mean 0 for a correlation."""
    if method in RANKED:
        i, j = np.triu_indices(len(matrix), 1)
        ranks = np.zeros_like(matrix)
        ranks[i, j] = ranks[j, i] = rankdata(matrix[i, j])
        return ranks
    scaled = _at_scale(matrix, method)
    length = np.sqrt(_inner(np.ones((1, len(matrix)), np.int64), scaled, scaled, method))
    return scaled / np.maximum(length, LEAST)
