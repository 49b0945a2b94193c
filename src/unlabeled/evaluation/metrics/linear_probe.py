"""Accuracy and balanced accuracy of a linear probe."""

from __future__ import annotations

import numpy as np

from unlabeled.evaluation.intervals import Groups, share, wilson
from unlabeled.evaluation.metric import (
    MOST_FREQUENT,
    Metric,
    Subject,
    Value,
    Values,
    accuracy,
    always_most_frequent,
    most_frequent,
)
from unlabeled.evaluation.tuning import Setting

AVERAGE = 2
"""Answers of average accuracy that count with those of each class in the variance, after Agresti
and Coull 1998: few answers of a class say little of how they vary. More would make intervals wider
than they need be where rare classes are recognized best, fewer too narrow where all are alike."""


class LinearProbe(Metric):
    """Accuracy of logistic regression on standardized features, on the test samples.

    The penalty of its squared weights is chosen by cross-validation on the training samples, for
    each encoder by itself.
    """

    key = "linear_probe"
    title = "Linear probe accuracy"
    percent, decimals, order = True, 1, 10

    def applies(self, subject: Subject) -> bool:
        """Where classes of the test part were seen in training."""
        return subject.can_classify

    def compute(self, subject: Subject) -> Value:
        """With its Wilson interval."""
        return accuracy(self.correct(subject), subject.groups)

    def correct(self, subject: Subject) -> np.ndarray:
        """Of the answers of the probe."""
        return np.asarray(subject.probe.predicted == subject.y_test)

    def settings(self, subject: Subject) -> dict[str, Setting]:
        """The penalty of the squared weights."""
        return {self.key: subject.probe_setting}

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the most frequent class of the training part."""
        return always_most_frequent(subject)


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
        """With its interval."""
        correct = subject.probe.predicted == subject.y_test
        return balanced_accuracy(correct, subject.y_test, subject.groups)

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the most frequent class of the training part."""
        correct = subject.y_test == most_frequent(subject.y)
        return {MOST_FREQUENT: Value(balanced_accuracy(correct, subject.y_test).value)}


def balanced_accuracy(correct: np.ndarray, y: np.ndarray, groups: Groups = None) -> Value:
    """Mean over classes of their share of correct answers.

    Its interval is Wilson's of as many independent answers as would give the same variance.
    """
    codes, counts = np.unique(y, return_inverse=True, return_counts=True)[1:]
    hits = np.bincount(codes, correct)
    recall = hits / counts
    value = float(recall.mean())
    if groups is not None:
        influence = (correct - recall[codes]) / counts[codes] / len(counts)
        return Value.of(value, share(value, influence, groups, len(y)))
    average = (hits.sum() + 2) / (len(y) + 4)
    smooth = (hits + AVERAGE * average) / (counts + AVERAGE)
    variance = (smooth * (1 - smooth) / counts).sum() / len(counts) ** 2
    n = smooth.mean() * (1 - smooth.mean()) / variance
    return Value.of(value, wilson(value * n, n))
