"""Accuracy and balanced accuracy of a linear probe."""

from __future__ import annotations

import numpy as np

from unlabeled.evaluation.intervals import bootstrap
from unlabeled.evaluation.metric import Metric, Subject, Value, Values, accuracy, most_frequent


class LinearProbe(Metric):
    """Accuracy of logistic regression on standardized features, on the test samples."""

    key = "linear_probe"
    title = "Linear probe accuracy"
    percent, decimals, order = True, 1, 10

    def applies(self, subject: Subject) -> bool:
        """Where classes of the test part were seen in training."""
        return subject.can_classify

    def compute(self, subject: Subject) -> Value:
        """With its Wilson interval."""
        return accuracy(subject.probe.predicted == subject.y_test)

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the most frequent class of the training part."""
        return {"chance": accuracy(subject.y_test == most_frequent(subject.y))}


class BalancedAccuracy(Metric):
    """Mean over classes of the share of their samples that the linear probe classifies correctly.

    Differs from the accuracy where classes are not equally frequent.
    """

    key = "balanced_accuracy"
    title = "Balanced accuracy"
    percent, decimals, order = True, 1, 20

    def applies(self, subject: Subject) -> bool:
        """Where classes of the test part were seen in training."""
        return subject.can_classify

    def compute(self, subject: Subject) -> Value:
        """With its bootstrap interval."""
        return balanced_accuracy(subject.probe.predicted == subject.y_test, subject.y_test)

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the most frequent class of the training part."""
        correct = subject.y_test == most_frequent(subject.y)
        return {"chance": Value(balanced_accuracy(correct, subject.y_test).value)}


def balanced_accuracy(correct: np.ndarray, y: np.ndarray) -> Value:
    """Mean over classes of their share of correct answers, with its bootstrap interval."""
    codes = np.unique(y, return_inverse=True)[1]
    cells = np.bincount(2 * codes + correct, minlength=2 * (codes.max() + 1))

    def statistic(times: np.ndarray) -> np.ndarray:
        wrong, right = times[:, 0::2], times[:, 1::2]
        total = wrong + right
        recall = np.divide(right, total, where=total > 0, out=np.full(total.shape, np.nan))
        return np.nanmean(recall, axis=1)

    interval = bootstrap(statistic, cells / len(y), len(y))
    return Value.of(float(statistic(cells[None])[0]), interval)
