"""Similarity within classes minus similarity between classes."""

from __future__ import annotations

from unlabeled.evaluation import rsa
from unlabeled.evaluation.metric import Metric, Subject, Value


class SimilarityGap(Metric):
    """Mean cosine similarity of pairs of the same class minus that of pairs of two classes."""

    key = "similarity_gap"
    title = "Class-similarity gap"
    order = 40

    def applies(self, subject: Subject) -> bool:
        """Where test samples have classes."""
        return subject.has_labels

    def compute(self, subject: Subject) -> Value:
        """Undefined where there are no such pairs."""
        return _value(rsa.gap(subject.test, subject.y_test, groups=subject.groups))


class CenteredSimilarityGap(Metric):
    """The class-similarity gap after subtracting the mean of the features."""

    key = "similarity_gap_centered"
    title = "Mean-centered gap"
    order = 41

    def applies(self, subject: Subject) -> bool:
        """Where test samples have classes."""
        return subject.has_labels

    def compute(self, subject: Subject) -> Value:
        """Undefined where there are no such pairs."""
        return _value(rsa.gap(subject.test, subject.y_test, "centered", subject.groups))


def _value(gap: rsa.Gap) -> Value:
    return Value.of(gap.gap, gap.interval)
