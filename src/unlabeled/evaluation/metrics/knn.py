"""Accuracy of a vote of nearest neighbors."""

from __future__ import annotations

import numpy as np

from unlabeled.evaluation.metric import (
    Metric,
    Subject,
    Value,
    Values,
    accuracy,
    always_most_frequent,
)
from unlabeled.evaluation.tuning import Setting


class KNN(Metric):
    """Accuracy of a weighted vote of the nearest training samples by cosine similarity.

    Their number is chosen by cross-validation on the training samples, for each encoder by itself.
    """

    key = "knn"
    title = "k-NN accuracy"
    percent, decimals, order = True, 1, 15

    def applies(self, subject: Subject) -> bool:
        """Where classes of the test part were seen in training."""
        return subject.can_classify

    def compute(self, subject: Subject) -> Value:
        """With its Wilson interval."""
        return accuracy(self.correct(subject), subject.groups)

    def correct(self, subject: Subject) -> np.ndarray:
        """Of the vote of the neighbors."""
        return np.asarray(subject.knn_predicted == subject.y_test)

    def settings(self, subject: Subject) -> dict[str, Setting]:
        """The number of neighbors."""
        return {self.key: subject.knn_setting}

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the most frequent class of the training part."""
        return always_most_frequent(subject)
