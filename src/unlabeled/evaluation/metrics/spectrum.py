"""The number of features, and how many dimensions they fill."""

from __future__ import annotations

import torch

from unlabeled.evaluation.metric import Metric, Subject, Value
from unlabeled.training.health import rankme

ROWS = 4000
"""Samples at most that RankMe is computed of, evenly spaced: it grows with their number."""


class RankMe(Metric):
    """Effective rank of the features; needs no labels. Compare it within one method only."""

    key = "rankme"
    title = "RankMe"
    decimals, order = 1, 90
    higher_is_better = None

    def applies(self, subject: Subject) -> bool:
        """Always."""
        return True

    def compute(self, subject: Subject) -> Value:
        """Without an interval: samples drawn twice span fewer dimensions."""
        part = subject.splits.test if len(subject.splits.test) else subject.splits.train
        return Value.of(rankme(torch.from_numpy(subject.shown[part.spread(ROWS)])))


class Dimension(Metric):
    """Number of features."""

    key = "dim"
    title = "Features"
    decimals, order = 0, 95
    higher_is_better = None

    def applies(self, subject: Subject) -> bool:
        """Always."""
        return True

    def compute(self, subject: Subject) -> Value:
        """A count."""
        return Value(subject.shown.shape[1])
