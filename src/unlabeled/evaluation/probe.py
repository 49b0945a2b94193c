"""Linear probe: logistic regression on features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax

from unlabeled.encoders.features import (
    CACHED,
    Standardized,
    in_blocks,
    labeled,
    standardized,
)
from unlabeled.errors import UserError, notice

Axes = tuple[Float[np.ndarray, "d r"], Float[np.ndarray, " r"]]
"""Principal axes of features, and the variance along each."""


@dataclass(frozen=True)
class Probe:
    """Accuracies of a linear probe in [0, 1], and its predictions."""

    train: float
    test: float
    predicted: np.ndarray = field(compare=False)  #: (m,) classes of the labeled test rows


def linear_probe(
    train: Float[np.ndarray, "n d"],
    train_y: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_y: Int[np.ndarray, " m"],
    penalty: float = 1.0,
) -> Probe:
    """Multinomial logistic regression on standardized features, to convergence.

    Mean and deviation are those of the training features. Constant features are left out, as are
    rows of class −1, which have no label. Beside the features it needs the memory of those of
    training in float32; features on disk (`numpy.load(…, mmap_mode="r")`) are read from there.

    Args:
        train: training features.
        train_y: their classes.
        test: test features.
        test_y: their classes.
        penalty: of half the squared weights, against the summed loss (scikit-learn's 1/C).

    Raises:
        UserError: training and test have no class in common, or some features are NaN or infinite.
    """
    (train, train_y), (test, test_y) = labeled(train, train_y), labeled(test, test_y)
    refuse_unseen(train_y, test_y)
    parts = standardized(train, test)
    if not parts[0].shape[1]:  # a constant encoder: the probe predicts the most common class
        predicted = (np.full(len(y), np.bincount(train_y).argmax()) for y in (train_y, test_y))
    else:
        classes, y = np.unique(train_y, return_inverse=True)
        weight, bias = logistic_regression(parts[0], y, penalty)
        predicted = (classes[_predicted(part, weight, bias)] for part in parts)
    fitted, tested = predicted
    return Probe(float((fitted == train_y).mean()), float((tested == test_y).mean()), tested)


def _predicted(
    z: Standardized, weight: Float[np.ndarray, "d k"], bias: Float[np.ndarray, " k"]
) -> Int[np.ndarray, " n"]:
    """The class of the largest logit of each row."""
    return np.concatenate([(part @ weight + bias).argmax(1) for _, part in z.blocks()])


def refuse_unseen(train_y: Int[np.ndarray, " n"], test_y: Int[np.ndarray, " m"]) -> None:
    """Raise UserError if no test class occurs in training, so that every answer would be wrong."""
    if len(test_y) and not np.isin(test_y, train_y).any():
        raise UserError(
            "no class of the test images is among those of the training images, so nothing "
            "learned from these can name them; compare pairs of images, or give other data"
        )


def logistic_regression(
    z: Float[np.ndarray, "n d"] | Standardized,
    y: Int[np.ndarray, " n"],
    penalty: float = 1.0,
    tolerance: float = 3e-5,
) -> tuple[Float[np.ndarray, "d k"], Float[np.ndarray, " k"]]:
    """Weights and biases that minimize the summed cross-entropy and the penalized squared weights.

    The optimum is scikit-learn's. L-BFGS runs in the principal axes of the features, each scaled by
    the curvature of the loss, and needs tens of passes where raw pixels otherwise need hundreds.

    Args:
        z: features of mean 0.
        y: classes from 0 to k − 1.
        penalty: of half the squared weights.
        tolerance: gradient in scaled axes at which to stop; the mean loss is then within about its
            square, times the number of weights, of the optimum.
    """
    return logistic_path(z, y, [penalty], tolerance)[0]


def logistic_path(
    z: Float[np.ndarray, "n d"] | Standardized,
    y: Int[np.ndarray, " n"],
    penalties: Sequence[int | float],
    tolerance: float = 3e-5,
    axes: Axes | None = None,
) -> list[tuple[Float[np.ndarray, "d k"], Float[np.ndarray, " k"]]]:
    """Weights and biases of `logistic_regression` for several penalties, each from the last.

    Args:
        z: features of mean 0.
        y: classes from 0 to k − 1.
        penalties: of half the squared weights, in any order.
        tolerance: as of `logistic_regression`.
        axes: of the features (default: computed by `principal_axes`).
    """
    n, k = len(z), int(y.max()) + 1
    directions, variance = principal_axes(z) if axes is None else axes
    rotated = np.empty((n, directions.shape[1]), np.float32)
    for rows, part in _blocks(z):
        np.matmul(part, directions, out=rotated[rows], casting="same_kind")
    weight, bias = np.zeros((rotated.shape[1], k)), np.zeros((1, k))
    solutions = {}
    for penalty in sorted(set(penalties), reverse=True):
        # p(1 − p) is at most a quarter
        scale = 1 / np.sqrt(0.25 * variance.astype(np.float64) + penalty / n)[:, None]
        start = np.concatenate([weight / scale, bias])
        u, bias = _minimize(rotated, y, scale, penalty / n, start, tolerance)
        weight = scale * u
        solutions[penalty] = directions @ weight.astype(np.float32), bias[0].astype(np.float32)
    return [solutions[penalty] for penalty in penalties]


def _blocks(z: np.ndarray | Standardized) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows after the other: which, and their features; enough for products of (d, d)."""
    rows = max(z.shape[1], CACHED // max(1, z.shape[1]))
    return z.blocks(rows) if isinstance(z, Standardized) else in_blocks(z, rows)


def _minimize(
    x: Float[np.ndarray, "n r"],
    y: Int[np.ndarray, " n"],
    scale: Float[np.ndarray, "r 1"],
    penalty: float,
    start: Float[np.ndarray, "r1 k"],
    tolerance: float,
) -> list[np.ndarray]:
    """Weights over their scale (r, k) and biases (1, k) of the least mean loss."""
    n, r = x.shape
    shrink = penalty * scale**2

    def mean_loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        u, bias = np.split(flat.reshape(len(start), -1), [r])
        weight = (scale * u).astype(np.float32)
        loss, gradient = 0.0, np.zeros_like(start)
        for rows, part in in_blocks(x):
            answers = np.arange(len(part)), y[rows]
            log_p = log_softmax(part @ weight + bias, axis=1)
            off = np.exp(log_p)
            off[answers] -= 1
            loss -= log_p[answers].sum()
            gradient[:r] += part.T @ off.astype(np.float32)
            gradient[r] += off.sum(0)
        gradient /= n
        gradient[:r] = scale * gradient[:r] + shrink * u
        return loss / n + (shrink * u**2).sum() / 2, gradient.ravel()

    options: dict[str, Any] = {"gtol": tolerance, "ftol": 0, "maxiter": 2000, "maxcor": 20}
    result = minimize(mean_loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    if result.nit >= options["maxiter"]:
        notice("a linear probe did not converge; it is reported as it is")
    return np.split(result.x.reshape(len(start), -1), [r])


def principal_axes(z: Float[np.ndarray, "n d"] | Standardized) -> Axes:
    """Axes along which features vary, and the variance along each; r is at most min(n, d)."""
    n, d = z.shape
    if d <= n:
        products = np.zeros((d, d))
        for _, part in _blocks(z):
            products += part.T @ part
        precision = getattr(z, "dtype", np.dtype(np.float32))
        variance, axes = np.linalg.eigh((products / n).astype(precision))
        return axes, variance.clip(min=0)
    z = np.asarray(z, np.float32)
    variance, rows = np.linalg.eigh(z @ z.T / n)
    is_large = variance > 1e-6 * variance.max()
    return z.T @ (rows[:, is_large] / np.sqrt(n * variance[is_large])), variance[is_large]
