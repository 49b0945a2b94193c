"""Accuracy of a linear classifier of features when only few training samples are labeled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unlabeled.data.split import sample_labels
from unlabeled.encoders.features import labeled, refuse_not_finite
from unlabeled.evaluation.intervals import Groups
from unlabeled.evaluation.probe import logistic_path, logistic_regression
from unlabeled.evaluation.tuning import (
    DEFAULTS,
    FOLDS,
    SETTINGS,
    TOLERANCE,
    fold_of,
    least,
)


@dataclass(frozen=True)
class FewLabels:
    """Mean accuracies in [0, 1] with a number of labels, over several draws of them."""

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
    """Logistic regression on samples of the labels, the same number from each class.

    Features are centered and divided by a single scale, that of all training samples, which needs
    no labels. Dividing each feature by its own deviation, as in `linear_probe`, is worse with few
    labels: features that hardly vary become as large as those that separate classes.

    Args:
        train: features that could be labeled.
        train_y: their classes.
        test: features that it is scored on.
        test_y: their classes.
        labels: number of labels, as for `sample_labels`.
        draws: number of draws, with seeds 0 to draws − 1.
        penalty: of half the squared weights (default: chosen for each sample by cross-validation
            on its labels).
        groups: the group of each training sample, as for `sample_labels`.

    Raises:
        UserError: there are fewer labels than requested, or some features are NaN or infinite.
    """
    test, test_y = labeled(test, test_y)
    refuse_not_finite(train, test)
    center = train.mean(0, dtype=np.float64)
    scale = np.sqrt(((train - center) ** 2).mean()) or 1.0
    z, z_test = (((part - center) / scale).astype(np.float32) for part in (train, test))
    samples = [sample_labels(train_y, labels, seed, groups) for seed in range(draws)]
    if len(samples[0]) == (train_y >= 0).sum():  # all of them, in every sample
        samples = samples[:1]
    accuracies = []
    for rows in samples:
        classes, y = np.unique(train_y[rows], return_inverse=True)
        own = None if groups is None else groups[rows]
        chosen = tune_penalty(z[rows], y, own) if penalty is None else penalty
        weight, bias = logistic_regression(z[rows], y, chosen)
        predicted = [classes[(part @ weight + bias).argmax(1)] for part in (z[rows], z_test)]
        accuracies.append([(predicted[0] == train_y[rows]).mean(), (predicted[1] == test_y).mean()])
    fitted, scores = np.array(accuracies).T
    sd = float(scores.std(ddof=1)) if len(samples) > 1 else 0.0
    return FewLabels(len(samples[0]), float(fitted.mean()), float(scores.mean()), sd)


def tune_penalty(
    z: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"], groups: Groups = None
) -> float:
    """The penalty of the least held-out cross-entropy, with few labels.

    Unlike `tune`, it does not scale the features.

    Args:
        z: features.
        y: classes from 0 to K − 1.
        groups: the group of each sample; complete groups are held out.
    """
    fold, penalties = fold_of(y, groups), SETTINGS["linear"]
    scores, answers = [], []
    for i in range(FOLDS):
        learned, tested = fold != i, fold == i
        if tested.any() and len(np.unique(y[learned])) == y.max() + 1:
            path = logistic_path(z[learned], y[learned], penalties, TOLERANCE)
            scores.append(np.stack([z[tested] @ weight + bias for weight, bias in path]))
            answers.append(y[tested])
    if not answers:
        return float(DEFAULTS["linear"])
    return float(penalties[least(np.concatenate(scores, 1), np.concatenate(answers))[0]])
