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


class KNN(Metric):
    """Accuracy of a weighted vote of the 20 nearest training samples by cosine similarity."""

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

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the most frequent class of the training part."""
        return always_most_frequent(subject)
