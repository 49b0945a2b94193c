"""Few labels: what a linear decoder reads from features when only some of them are labelled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unlabeled.errors import UserError
from unlabeled.evaluation.features import labeled
from unlabeled.evaluation.probe import linear_probe


@dataclass(frozen=True)
class FewLabels:
    """Accuracy with that many labels, over several draws of them; shares of 1."""

    labels: int
    train: float
    test: float
    sd: float  #: of the test accuracy over the draws


def sample_labels(y: np.ndarray, labels: str | int | float, seed: int = 0) -> np.ndarray:
    """Rows of a random sample with about the same number of each class, sorted.

    Args:
        y: classes of all rows, (N,); rows of class −1 have no label and are never drawn.
        labels: how many: a number of rows, a share such as 0.01, or "1%".
        seed: of the sample.

    Raises:
        UserError: that is no number, or fewer than one row a class, or more than there are.
    """
    known = np.flatnonzero(y >= 0)
    if len(known) < len(y):
        return known[sample_labels(y[known], labels, seed)]
    text = str(labels).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise UserError(f"'{labels}' labels: give a number, or a share such as 1%") from error
    if not math.isfinite(value):
        raise UserError(f"'{labels}' labels: give a number, or a share such as 1%")
    is_share = text.endswith("%") or (0 < value <= 1 and "." in text)
    number = round(value * len(y)) if is_share else int(value)
    classes = np.unique(y)
    if not len(classes) <= number <= len(y):
        raise UserError(
            f"{labels} of {len(y):,} labels are {number:,}; give at least one of each of the "
            f"{len(classes)} classes and at most all"
        )
    order = np.random.default_rng(seed).permutation(len(y))
    # Deal the rows out class by class: the first of each, the second of each, …
    rank = np.empty(len(y), np.int64)
    for c in classes:
        rows = order[y[order] == c]
        rank[rows] = np.arange(len(rows))
    return np.sort(order[np.argsort(rank[order], kind="stable")][:number])


def few_labels(
    train: Float[np.ndarray, "n d"],
    train_y: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_y: Int[np.ndarray, " m"],
    labels: int | str,
    draws: int = 5,
) -> FewLabels:
    """A linear probe on samples of the labels, the same of each class.

    Args:
        train: features that could be labelled.
        train_y: their classes.
        test: features that it is scored on.
        test_y: their classes.
        labels: how many, as for `sample_labels`.
        draws: samples, seeds 0 to draws − 1.
    """
    test, test_y = labeled(test, test_y)
    samples = [sample_labels(train_y, labels, seed) for seed in range(draws)]
    probes = [linear_probe(train[rows], train_y[rows], test, test_y) for rows in samples]
    scores = np.array([probe.test for probe in probes])
    return FewLabels(
        len(samples[0]),
        float(np.mean([probe.train for probe in probes])),
        float(scores.mean()),
        float(scores.std(ddof=1)) if draws > 1 else 0.0,
    )
