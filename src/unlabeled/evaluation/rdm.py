"""Representational dissimilarity matrices (RDMs): how differently samples are represented."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float, Int

from unlabeled.errors import UserError, notice, suggest
from unlabeled.evaluation.rsa import LARGEST, Features, Kind, as_features, unit_rows

METRICS = ("correlation", "cosine", "euclidean", "mahalanobis", "crossnobis")
WHITENED = ("mahalanobis", "crossnobis")
TILE = 512
"""Rows and columns of the part of an RDM that is in memory in float64 at a time."""


def rdm(
    features: Features,
    metric: str = "correlation",
    *,
    labels: Any = None,
    noise: np.ndarray | None = None,
    folds: Any = None,
) -> Float[np.ndarray, "n n"]:
    """Dissimilarity of each pair of samples, or of each pair of conditions.

    All are computed in float64; the matrix has the precision of the features, and float64 if
    `labels` are given. A row without a correlation (all its features are the same) is NaN.

    Args:
        features: (N, dim), an array or a tensor.
        metric: `correlation` is 1 − Pearson's r across features; `cosine` is 1 − cosine;
            `euclidean` is the squared distance divided by dim; `mahalanobis` is that of features
            whitened by the noise; `crossnobis` is its cross-validated, unbiased estimate, which is
            about 0, and may be negative, where two conditions do not differ.
        labels: condition of each sample, (N,). Its samples are averaged first, and rows and columns
            are the conditions in sorted order, as in `np.unique(labels)`. Samples of label −1 or
            NaN are left out, with a notice.
        noise: covariance of the noise of features, (dim, dim), such as `noise_covariance` gives;
            for `mahalanobis` and, if not the identity, `crossnobis`.
        folds: for `crossnobis`: fold of each sample, (N,), or a number of folds to which the
            samples of each label go in turn; 2 unless given.

    Returns:
        A symmetric matrix, (N, N) or (conditions, conditions), with zeros on its diagonal.

    Raises:
        UserError: features, labels, noise and metric do not fit together, or there are more than
            20,000 rows.

    Source:
        Kriegeskorte, Mur, Bandettini 2008, "Representational Similarity Analysis". Walther et al.
        2016, "Reliability of Dissimilarity Measures for Multi-Voxel Pattern Analysis", equations 1
        (euclidean), 3 (mahalanobis) and 5 (crossnobis); divided by dim as in rsatoolbox.
    """
    z = as_features(features)
    if metric not in METRICS:
        raise UserError(f"there is no metric '{metric}' of RDMs; {suggest(metric, METRICS)}")
    if noise is not None and metric not in WHITENED:
        raise UserError(f"the metric '{metric}' takes no noise; use one of {', '.join(WHITENED)}")
    if folds is not None and metric != "crossnobis":
        raise UserError(f"the metric '{metric}' takes no folds; use crossnobis")
    if metric == "mahalanobis" and noise is None:
        raise UserError(
            "the metric 'mahalanobis' lacks the covariance of the noise; pass noise=, such as "
            "noise_covariance(features, labels)"
        )
    if metric == "crossnobis":
        return _crossnobis(z, labels, noise, 2 if folds is None else folds)
    if labels is not None:
        z, codes = _conditions(z, labels)
        z = _means(z, codes)
    _refuse_too_many(len(z))
    if metric in ("correlation", "cosine"):
        kind: Kind = "cosine" if metric == "cosine" else "pearson"
        rows = unit_rows(z, kind, torch.float64).numpy()
        return _distances(rows, np.ones(len(rows)), 0.5, z.dtype)
    rows = z - z.mean(0, dtype=np.float64)  # digits of the differences, not of a large mean
    if noise is not None:
        rows = _whitened(rows, noise)
    return _distances(rows, (rows**2).sum(1), 1 / z.shape[1], z.dtype)


def noise_covariance(features: Features, labels: Any = None) -> Float[np.ndarray, "d d"]:
    """Covariance of features within conditions, its correlations shrunk toward 0.

    Args:
        features: (N, dim), several samples of each condition, or residuals.
        labels: condition of each sample, (N,), whose mean is subtracted; if not given, the mean of
            all samples is. Samples of label −1 or NaN are left out, with a notice.

    Raises:
        UserError: there are too few samples, or features that do not vary within conditions.

    Source:
        Schäfer, Strimmer 2005, "A Shrinkage Approach to Large-Scale Covariance Matrix Estimation",
        table 2, target D; for residuals of several conditions with the degrees of freedom of
        Walther et al. 2016. In the variance of a correlation, rsatoolbox's `shrinkage_diag` divides
        the squared sum by n − 1 instead of n, and its correlations of residuals of several
        conditions are smaller than 1 with themselves; the paper is followed here.
    """
    z, codes = as_features(features), None
    if labels is not None:
        z, codes = _conditions(z, labels)
    if codes is None:
        codes = np.zeros(len(z), np.int64)
    n, dof = len(z), len(z) - int(codes.max(initial=0)) - 1
    if dof < 2:
        raise UserError(
            f"{n} samples of {n - dof} conditions show no noise; pass several samples of each"
        )
    residuals = z - _means(z, codes)[codes]
    std = np.sqrt((residuals**2).sum(0) / dof)
    constant = std <= 8 * np.finfo(z.dtype).eps * np.abs(z).max(0)
    if constant.any():
        raise UserError(
            f"{constant.sum():,} of {len(std):,} features do not vary within conditions, so their "
            "noise has no inverse; leave them out"
        )
    residuals /= std
    products = residuals.T @ residuals
    squares = (residuals**2).T @ residuals**2
    correlation = products / dof
    variance = n / ((n - 1) * dof**2) * (squares - products**2 / n)
    other = ~np.eye(len(std), dtype=bool)
    strength = (correlation[other] ** 2).sum()
    shrinkage = min(1.0, max(0.0, variance[other].sum() / strength)) if strength else 1.0
    correlation[other] *= 1 - shrinkage
    np.fill_diagonal(correlation, 1)
    return correlation * std * std[:, None]


def _crossnobis(
    z: Float[np.ndarray, "n d"], labels: Any, noise: np.ndarray | None, folds: Any
) -> Float[np.ndarray, "c c"]:
    """Mean over folds of the products of differences in a fold and in all others."""
    if labels is None:
        raise UserError(
            "the metric 'crossnobis' lacks labels; pass labels=, the condition of each sample"
        )
    fold_labels = np.asarray(folds)
    if fold_labels.ndim and fold_labels.shape != (len(z),):
        raise UserError(
            f"{fold_labels.size} folds are given for {len(z)} samples; pass one for each"
        )
    known = _known(z, labels)
    z, codes = _conditions(z, labels)
    _refuse_too_many(int(codes.max()) + 1)
    if fold_labels.ndim:
        fold = np.unique(fold_labels[known], return_inverse=True)[1].reshape(-1)
    else:
        fold = _occurrence(codes) % max(1, int(fold_labels))
    rows = z.astype(np.float64) - z.mean(0, dtype=np.float64)
    if noise is not None:
        rows = _whitened(rows, noise)
    counts = np.zeros((int(fold.max()) + 1, int(codes.max()) + 1), int)
    np.add.at(counts, (fold, codes), 1)
    if len(counts) < 2 or not counts.all():
        raise UserError(
            f"{(counts == 0).sum()} of {counts.size} cells of condition and fold have no sample; "
            "cross-validation needs two or more folds with each condition in each"
        )
    total = np.zeros((counts.shape[1],) * 2)
    for i in range(len(counts)):
        held_out, others = (_means(rows[part], codes[part]) for part in (fold == i, fold != i))
        products = held_out @ others.T
        own = np.diag(products)
        total += own + own[:, None] - products - products.T
    return total / (len(counts) * z.shape[1])


def _distances(
    rows: Float[np.ndarray, "n d"],
    squares: Float[np.ndarray, " n"],
    scale: float,
    dtype: np.dtype,
) -> Float[np.ndarray, "n n"]:
    """(squares_i + squares_j − 2 rows_i · rows_j) · scale, by tiles, never negative."""
    n = len(rows)
    matrix = np.empty((n, n), dtype)
    for i in range(0, n, TILE):
        for j in range(i, n, TILE):
            part, other = slice(i, i + TILE), slice(j, j + TILE)
            tile = rows[part] @ rows[other].T
            tile *= -2
            tile += squares[part, None] + squares[other]
            tile *= scale
            np.maximum(tile, 0, out=tile)
            matrix[part, other] = tile
            matrix[other, part] = tile.T
    np.fill_diagonal(matrix, 0)
    return matrix


def _whitened(rows: Float[np.ndarray, "n d"], noise: np.ndarray) -> Float[np.ndarray, "n d"]:
    """Rows whose inner products are rowsᵀ · noise⁻¹ · rows."""
    noise, d = np.asarray(noise, np.float64), rows.shape[1]
    if noise.shape != (d, d):
        raise UserError(f"the noise has shape {noise.shape}; features of {d} need ({d}, {d})")
    try:
        root = np.linalg.cholesky(noise)
    except np.linalg.LinAlgError as error:
        raise UserError(
            "the covariance of the noise is not positive definite; shrink it, as "
            "noise_covariance(features, labels) does"
        ) from error
    return scipy.linalg.solve_triangular(root, rows.T, lower=True).T


def _known(z: Float[np.ndarray, "n d"], labels: Any) -> np.ndarray:
    """Which samples have a label."""
    y = np.asarray(labels)
    if y.shape != (len(z),):
        raise UserError(f"{y.size} labels are given for {len(z)} samples; pass one for each")
    if y.dtype.kind not in "iuf":
        return np.ones(len(y), bool)
    return (y != -1) & ~np.isnan(y)


def _conditions(
    z: Float[np.ndarray, "n d"], labels: Any
) -> tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " m"]]:
    """Labeled samples, and the number of the condition of each."""
    known = _known(z, labels)
    if not known.all():
        notice(f"{(~known).sum():,} of {len(z):,} samples have no label (−1, NaN) and are left out")
    if not known.any():
        raise UserError("no sample has a label; pass labels other than −1 and NaN")
    return z[known], np.unique(np.asarray(labels)[known], return_inverse=True)[1].reshape(-1)


def _means(z: Float[np.ndarray, "n d"], codes: Int[np.ndarray, " n"]) -> Float[np.ndarray, "c d"]:
    """Mean of the samples of each condition, in float64."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sums = np.add.reduceat(z[order], starts, 0, np.float64)
    return sums / np.bincount(codes)[:, None]


def _occurrence(codes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """How many samples of the same condition precede each."""
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], codes[order])
    occurrence = np.empty(len(codes), np.int64)
    occurrence[order] = np.arange(len(codes)) - first
    return occurrence


def _refuse_too_many(n: int) -> None:
    if n > LARGEST:
        raise UserError(
            f"an RDM of {n:,} rows is too large; take at most {LARGEST:,}, average conditions with "
            "labels=, or compare the features themselves with cka()"
        )
