"""Accuracy of a vote of nearest neighbors."""

from __future__ import annotations

from unlabeled.evaluation.knn import knn_predict
from unlabeled.evaluation.metric import Metric, Subject, Value, Values, accuracy, most_frequent


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
        predicted = knn_predict(subject.train, subject.y, subject.test)
        return accuracy(predicted == subject.y_test)

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the most frequent class of the training part."""
        return {"chance": accuracy(subject.y_test == most_frequent(subject.y))}
