"""Precision and recall of each class, and confusion of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from unlabeled.data.split import code_names
from unlabeled.evaluation.metric import Subject, Value, accuracy

PAIRS = 20
"""Number of pairs of confused classes that are listed."""


@dataclass(frozen=True)
class ClassScore:
    """How well a linear probe recognizes one class of the test part."""

    name: str
    n: int  #: test samples
    precision: float | None  #: share of correct predictions of this class; None without any
    recall: Value  #: share of its samples that are classified correctly; None without samples
    f1: float | None  #: harmonic mean of both; None if one is None


@dataclass(frozen=True, eq=False)
class PerClass:
    """Scores of the classes that occur among test samples or predictions.

    Args:
        scores: of K classes.
        confusion: number of samples of each class (row) predicted as each class (column), (K, K).
    """

    scores: list[ClassScore]
    confusion: Int[np.ndarray, "k k"]

    def confused(self) -> list[tuple[str, str, int, float]]:
        """True class, prediction, number of samples and share of the class, most frequent first."""
        wrong = self.confusion * ~np.eye(len(self.scores), dtype=bool)
        order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
        pairs = np.stack(np.unravel_index(order, wrong.shape), 1)
        return [
            (
                self.scores[true].name,
                self.scores[answer].name,
                int(wrong[true, answer]),
                float(wrong[true, answer] / self.scores[true].n),
            )
            for true, answer in pairs
            if wrong[true, answer]
        ]


def per_class(subject: Subject) -> PerClass | None:
    """Scores of each class by the linear probe; None if it does not apply."""
    if not subject.can_classify:
        return None
    y, predicted, groups = subject.y_test, subject.probe.predicted, subject.groups
    codes, answers = np.unique(np.concatenate([y, predicted]), return_inverse=True)
    confusion = np.zeros((len(codes), len(codes)), np.int64)
    np.add.at(confusion, (answers[: len(y)], answers[len(y) :]), 1)
    names = subject.splits.classes or code_names(codes)
    scores = []
    for i, code in enumerate(codes):
        own, right, answered = y == code, int(confusion[i, i]), int(confusion[:, i].sum())
        n = int(own.sum())
        recall = Value(None)
        if n:
            recall = accuracy(predicted[own] == code, None if groups is None else groups[own])
        precision = right / answered if answered else None
        f1 = 2 * right / (n + answered) if n and answered else None
        scores.append(ClassScore(names[code], n, precision, recall, f1))
    return PerClass(scores, confusion)
