"""Similarity of representations of the same samples: CKA and canonical correlation analysis (CCA).

Both compare features of any two widths and ignore rotations; CCA ignores any invertible linear map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from unlabeled.encoders.features import CACHED, Standardized, deviations, mean_of, rounding
from unlabeled.errors import UserError, notice, suggest
from unlabeled.evaluation.intervals import normal
from unlabeled.evaluation.rdm import rdm
from unlabeled.evaluation.rdm_comparison import compare_rdms
from unlabeled.evaluation.rsa import Features, Similarity, as_features

MEASURES = ("cka", "cka_debiased", "rsa", "cca", "pwcca", "svcca")
KINDS = ("mean", "svcca", "pwcca")
KEPT = 0.99
"""Share of the variance that SVCCA retains (Raghu et al. 2017)."""
RSA_SAMPLES = 1_000
"""Maximum samples in the RDMs of `similarity_of_encoders`: half a million pairs."""


def cka(a: Features, b: Features, *, debiased: bool = False) -> Similarity:
    """Linear centered kernel alignment (CKA), with its 95 % interval.

    Exact for any number of samples N: memory grows with dim², or with N² where N is smaller than
    dim, and features may be on disk (`numpy.load(…, mmap_mode="r")`). The plain estimate tends to 1
    for any features of N ≲ dim; the debiased one does not, and may be slightly negative.

    Args:
        a: features, (N, dim), an array or a tensor.
        b: other features of the same samples, (N, dim').
        debiased: whether to use the unbiased estimate of HSIC.

    Returns:
        The similarity, a float, with its `interval` over samples by the infinitesimal jackknife:
        it shows the spread of the estimate, not the bias of the plain one. NaN if either does not
        vary.

    Raises:
        UserError: they are features of different samples, of fewer than 4, or not finite.

    Source:
        Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", equation 4.
        Nguyen, Raghu, Kornblith 2021, "Do Wide and Deep Networks Learn the Same Things?", equation
        3, for the unbiased HSIC of Song et al. 2012, "Feature Selection via Dependence
        Maximization".
    """
    x, y = (_centered(z) for z in _same_samples([a, b], 4))
    return _cka(x, y, debiased)


def _cka(x: Standardized, y: Standardized, debiased: bool) -> Similarity:
    """CKA of centered features; its influence is that of log HSIC(x, y) / √(HSIC(x) HSIC(y))."""
    (product, by), (own, by_own), (other, by_other) = (
        _hsic(*two, debiased) for two in ((x, y), (x, x), (y, y))
    )
    if not (own > 0 and other > 0):
        return Similarity(np.nan)
    scale = np.sqrt(own) * np.sqrt(other)
    value = product / scale
    influence = by / scale - value / 2 * (by_own / own + by_other / other)
    return Similarity(value, normal(value, influence, (-1.0, 1.0)))


def _hsic(
    x: Standardized, y: Standardized, debiased: bool
) -> tuple[float, Float[np.ndarray, " n"]]:
    """HSIC of linear kernels, up to a factor, and its derivative by the weight of each sample.

    Plain, it is Σ_ij (x_i · x_j)(y_i · y_j) = |xᵀy|², by way of the smaller of (p, q) and (n, n).
    Debiased, the derivative is that of Song et al. 2012, theorem 5, where rows of kernels sum to 0.
    """
    (n, p), q = x.shape, y.shape[1]
    of_sample, k, m, crossed = np.empty((4, n))
    if p * q > n**2:
        a, b = np.asarray(x), np.asarray(y)
        of_sample, k, m = ((a @ a.T) * (b @ b.T)).sum(1), (a**2).sum(1), (b**2).sum(1)
        crossed = a @ (m @ a) + b @ (k @ b)
    else:
        product, a_by_m, b_by_k = np.zeros((p, q)), np.zeros(p), np.zeros(q)
        for rows, a, b in _both(x, y):
            k[rows], m[rows] = (a**2).sum(1), (b**2).sum(1)
            product += a.T @ b
            a_by_m += m[rows] @ a
            b_by_k += k[rows] @ b
        for rows, a, b in _both(x, y):
            of_sample[rows] = (a @ product * b).sum(1)
            crossed[rows] = a @ a_by_m + b @ b_by_k
    value, own = float(of_sample.sum()), k * m
    if not debiased:
        return value, 2 * of_sample
    # without pairs of a sample with itself
    pairs, total = of_sample - own, own.sum()
    influence = (n - 2) ** 2 * pairs - n * own + (n - 2) * (pairs.sum() + crossed - 2 * own)
    influence += m.sum() * k + k.sum() * m - total
    value += float(k.sum() * m.sum() / ((n - 1) * (n - 2)) - total * n / (n - 2))
    return value, 2 * influence / ((n - 1) * (n - 2))


def _both(
    x: Standardized, y: Standardized
) -> Iterator[tuple[slice, Float[np.ndarray, "b p"], Float[np.ndarray, "b q"]]]:
    """The same rows of both, some after the other, in float64."""
    widest = max(x.shape[1], y.shape[1], 1)
    rows = max(widest, CACHED // widest)
    pairs = zip(x.blocks(rows, np.float64), y.blocks(rows, np.float64), strict=True)
    for (some, a), (_, b) in pairs:
        yield some, a, b


def cca(a: Features, b: Features, kind: str = "mean") -> Similarity:
    """Mean canonical correlation of two representations, plain or weighted.

    With dim not far below N, canonical correlations of unrelated features are large.

    Args:
        a: features, (N, dim), an array or a tensor.
        b: other features of the same samples, (N, dim').
        kind: `mean` of all canonical correlations; `svcca` is that of the principal components that
            hold 99 % of the variance of each; `pwcca` weights each correlation by how much of `a`
            its direction accounts for, so that it is not symmetric.

    Returns:
        The similarity, a float; of `mean` with its `interval` over samples by the infinitesimal
        jackknife, which shows the spread of the estimate, not its bias. `svcca` and `pwcca` have
        none: their components and weights vary with the samples, too. A bootstrap would not do, as
        samples drawn twice raise the correlations.

    Raises:
        UserError: they are features of different samples, of fewer than 4, or not finite.

    Source:
        Raghu et al. 2017, "SVCCA: Singular Vector Canonical Correlation Analysis for Deep Learning
        Dynamics and Interpretability". Morcos, Raghu, Bengio 2018, "Insights on Representational
        Similarity in Neural Networks with Canonical Correlation", section 2.2. The paper weights by
        the first representation, its code by the one of fewer directions; here the first. Romanazzi
        1992, "Influence in Canonical Correlation Analysis", for the interval.
    """
    if kind not in KINDS:
        raise UserError(f"there is no kind '{kind}' of CCA; {suggest(kind, KINDS)}")
    share = KEPT if kind == "svcca" else 1.0
    first, second = (_basis(z, share) for z in _same_samples([a, b], 4))
    _warn_if_few([first, second])
    return _cca(first, second, kind)


@dataclass(frozen=True)
class Basis:
    """Orthonormal directions (N, r) over samples that span features, and what each accounts for.

    Args:
        directions: (N, r).
        loadings: centered features = directions @ loadings, (r, dim).
    """

    directions: Float[np.ndarray, "n r"]
    loadings: Float[np.ndarray, "r d"]


def _basis(z: Float[np.ndarray, "n d"], share: float) -> Basis:
    """Principal directions that hold a share of the variance, none that is only rounding."""
    left, singular, right = np.linalg.svd(np.asarray(_centered(z)), full_matrices=False)
    least = rounding(z.dtype) * np.linalg.norm(z.astype(np.float64))
    r = int((singular > least).sum())
    if share < 1 and r:
        variance = np.cumsum(singular[:r] ** 2)
        r = int(np.searchsorted(variance, share * variance[-1])) + 1
    return Basis(left[:, :r], singular[:r, None] * right[:r])


def _cca(a: Basis, b: Basis, kind: str) -> Similarity:
    """Mean of the canonical correlations, which are the cosines between the two spans."""
    if not min(len(a.loadings), len(b.loadings)):
        return Similarity(np.nan)
    left, correlations, right = np.linalg.svd(a.directions.T @ b.directions, full_matrices=False)
    correlations = correlations.clip(0, 1)
    if kind == "pwcca":
        weights = np.abs(left.T @ a.loadings).sum(1)
        return Similarity(weights @ correlations / weights.sum())
    value = float(correlations.mean())
    if kind == "svcca":
        return Similarity(value)
    u, v = a.directions @ left, b.directions @ right.T
    influence = (u * v - correlations / 2 * (u**2 + v**2)).mean(1)
    return Similarity(value, normal(value, influence, (0.0, 1.0)))


def _warn_if_few(bases: list[Basis]) -> None:
    """A notice if the spans of two bases necessarily overlap."""
    sizes = sorted(len(basis.loadings) for basis in bases)[-2:]
    n = len(bases[0].directions)
    if sum(sizes) >= n:
        notice(
            f"{n:,} samples are too few for CCA of {sizes[0]:,} and {sizes[1]:,} dimensions: "
            f"{min(sizes[0], sum(sizes) - n + 1):,} canonical correlations are 1 whatever the "
            "features; take more samples, or cka(a, b, debiased=True)"
        )


def similarity_of_encoders(
    features_by_name: Mapping[str, Features], measures: Sequence[str] = MEASURES
) -> dict[str, Float[np.ndarray, "k k"]]:
    """Similarity of each pair of encoders by several measures.

    Args:
        features_by_name: features of the same samples by each encoder, (N, dim) of any dim.
        measures: those to compute (default: all).

    Returns:
        For each measure a matrix (k, k) in the order of the names: `cka`, `cka_debiased`; `rsa`,
        Spearman's correlation of the RDMs of up to 1,000 samples; `cca`; `svcca`; and `pwcca`,
        weighted by the encoder of the row, so that it is not symmetric.

    Raises:
        UserError: there are no two encoders, or their features cannot be compared.
    """
    names = list(features_by_name)
    if len(names) < 2:
        raise UserError(f"{len(names)} encoder cannot be compared; pass features of two or more")
    features = _same_samples([features_by_name[name] for name in names], 4, names)
    unknown = next((name for name in measures if name not in MEASURES), None)
    if unknown is not None:
        raise UserError(f"there is no measure '{unknown}'; {suggest(unknown, MEASURES)}")
    matrices = {}
    if {"cka", "cka_debiased"} & set(measures):
        centered = [_centered(z) for z in features]
        for name in ("cka", "cka_debiased"):
            if name in measures:
                matrices[name] = _pairwise(centered, partial(_cka, debiased=name == "cka_debiased"))
        del centered
    if "rsa" in measures:
        matrices["rsa"] = _pairwise_rsa([rdm(z) for z in _subsample(features)])
    if {"cca", "pwcca"} & set(measures):
        bases = [_basis(z, 1.0) for z in features]
        _warn_if_few(bases)
        for name, kind in (("cca", "mean"), ("pwcca", "pwcca")):
            if name in measures:
                of_pair = partial(_cca, kind=kind)
                matrices[name] = _pairwise(bases, of_pair, symmetric=kind != "pwcca")
    if "svcca" in measures:
        bases = [_basis(z, KEPT) for z in features]
        matrices["svcca"] = _pairwise(bases, partial(_cca, kind="svcca"))
    return {name: matrices[name] for name in measures}


def _pairwise(
    items: list[Any], similarity: Callable[[Any, Any], float], *, symmetric: bool = True
) -> Float[np.ndarray, "k k"]:
    """The similarity of each item (row) with each (column)."""
    k = len(items)
    matrix = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            known = symmetric and j < i
            matrix[i, j] = matrix[j, i] if known else similarity(items[i], items[j])
    return matrix


def _pairwise_rsa(rdms: list[Float[np.ndarray, "n n"]]) -> Float[np.ndarray, "k k"]:
    """Spearman's correlation of each pair of RDMs; each is ranked once where all are complete."""
    if not all(np.isfinite(matrix).all() for matrix in rdms):
        return _pairwise(rdms, lambda x, y: compare_rdms(x, y, interval=False))
    pairs = np.triu_indices(len(rdms[0]), 1)
    ranks = np.stack([rankdata(matrix[pairs]) for matrix in rdms])
    ranks -= ranks.mean(1, keepdims=True)
    length = np.sqrt((ranks**2).sum(1))
    with np.errstate(invalid="ignore"):  # all pairs alike: undefined
        return ranks @ ranks.T / length / length[:, None]


def _subsample(features: list[np.ndarray]) -> list[np.ndarray]:
    """The same samples of all, drawn without order, if there are too many for their RDMs."""
    n = len(features[0])
    if n <= RSA_SAMPLES:
        return features
    notice(f"RDMs are compared of {RSA_SAMPLES:,} of the {n:,} samples, drawn at random")
    rows = np.sort(np.random.default_rng(0).choice(n, RSA_SAMPLES, replace=False))
    return [z[rows] for z in features]


def _same_samples(
    features: list[Features], least: int, names: list[str] | None = None
) -> list[np.ndarray]:
    """The features as arrays, if they are of the same samples."""
    arrays = [as_features(z) for z in features]
    n = len(arrays[0])
    for name, z in zip(names or ["a", "b"], arrays, strict=True):
        if len(z) != n:
            raise UserError(
                f"features of {n:,} and of {len(z):,} samples ({name}) cannot be compared; embed "
                "the same samples, in the same order, with both encoders"
            )
    if n < least:
        raise UserError(f"{n} samples are too few to compare features; take {least} or more")
    return arrays


def _centered(z: Float[np.ndarray, "n d"]) -> Standardized:
    """Features that vary, minus their mean, computed as they are read."""
    mean = mean_of(z)
    return Standardized(z, mean, np.where(np.isfinite(deviations(z, mean)), 1.0, np.inf))
