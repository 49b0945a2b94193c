"""Biased data: one factor tied to another by a rule, so that the one gives the other away."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from unlabeled.data.dataset import Samples, Splits
from unlabeled.errors import UserError


@dataclass(frozen=True)
class Rule:
    """Each class of `factor` is shown only where `other` is within its range.

    Args:
        factor: what is tied, such as shape.
        other: what it is tied to, such as x.
        ranges: by class of `factor`, the smallest and largest class of `other`.
    """

    factor: str
    other: str
    ranges: dict[int, tuple[int, int]]

    def allows(self, samples: Samples) -> np.ndarray:
        """Which images follow the rule, (N,) bool.

        Raises:
            UserError: the images have no such factor.
        """
        for name in (self.factor, self.other):
            if name not in samples.factors:
                known = ", ".join(samples.factors) or "none"
                raise UserError(f"there is no factor '{name}' to tie; there are {known}")
        tied, other = samples.factors[self.factor], samples.factors[self.other]
        allowed = np.zeros(len(samples), bool)
        for code, (low, high) in self.ranges.items():
            allowed |= (tied == code) & (other >= low) & (other <= high)
        return allowed


def biased(splits: Splits, rule: Rule) -> Splits:
    """Only the training images that follow the rule; the test part stays as it is."""
    rows = np.flatnonzero(rule.allows(splits.train))
    return replace(splits, train=splits.train.take(rows))


def control(splits: Splits, rule: Rule, seed: int = 0) -> Splits:
    """As many training images as follow the rule, drawn from all of them."""
    number = int(rule.allows(splits.train).sum())
    rows = np.random.default_rng(seed).permutation(len(splits.train))[:number]
    return replace(splits, train=splits.train.take(np.sort(rows)))
