"""Linear probe accuracy when only few training samples are labeled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unlabeled.data.split import sample_labels
from unlabeled.encoders.features import labeled
from unlabeled.evaluation.intervals import Groups
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.tuning import tune


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
    penalty: float | None = None,
    groups: Groups = None,
) -> FewLabels:
    """Linear probes on samples of the labels, the same number from each class.

    Args:
        train: features that could be labeled.
        train_y: their classes.
        test: features that it is scored on.
        test_y: their classes.
        labels: how many, as for `sample_labels`.
        draws: samples, seeds 0 to draws − 1.
        penalty: of the probes (default: chosen for each sample by cross-validation on its labels).
        groups: the group of each training sample, as for `sample_labels`.
    """
    test, test_y = labeled(test, test_y)
    samples = [sample_labels(train_y, labels, seed, groups) for seed in range(draws)]
    probes = []
    for rows in samples:
        z, y = train[rows], train_y[rows]
        own = None if groups is None else groups[rows]
        chosen = tune(z, y, "linear", own).value if penalty is None else penalty
        probes.append(linear_probe(z, y, test, test_y, chosen))
    scores = np.array([probe.test for probe in probes])
    return FewLabels(
        len(samples[0]),
        float(np.mean([probe.train for probe in probes])),
        float(scores.mean()),
        float(scores.std(ddof=1)) if draws > 1 else 0.0,
    )
