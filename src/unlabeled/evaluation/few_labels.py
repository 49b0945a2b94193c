"""Linear probe accuracy when only few training samples are labeled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unlabeled.data.split import sample_labels
from unlabeled.encoders.features import labeled
from unlabeled.evaluation.probe import linear_probe


@dataclass(frozen=True)
class FewLabels:
    """Mean accuracies in [0, 1] with that many labels, over several samples of them."""

    labels: int
    train: float
    test: float
    sd: float  #: standard deviation of the test accuracy over the samples


def few_labels(
    train: Float[np.ndarray, "n d"],
    train_y: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_y: Int[np.ndarray, " m"],
    labels: int | str,
    draws: int = 5,
) -> FewLabels:
    """Linear probes on samples of the labels, the same number from each class.

    Args:
        train: features that could be labeled.
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
