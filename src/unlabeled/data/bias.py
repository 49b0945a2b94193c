"""Biased data, in which one factor depends on another by a rule."""

from dataclasses import dataclass, replace

import numpy as np

from unlabeled.data.dataset import Samples, Splits
from unlabeled.errors import UserError


@dataclass(frozen=True)
class Rule:
    """Each class of `factor` occurs only where `other` is within its range.

    Args:
        factor: the dependent factor, such as shape.
        other: the factor that it depends on, such as x.
        ranges: by class of `factor`, the smallest and largest class of `other`.
    """

    factor: str
    other: str
    ranges: dict[int, tuple[int, int]]

    def allows(self, samples: Samples) -> np.ndarray:
        """Whether each sample follows the rule, (N,) bool.

        Raises:
            UserError: the samples have no such factor.
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
    """Keep only the training samples that follow the rule; the test part stays as it is."""
    return replace(splits, train=splits.train.take(np.flatnonzero(rule.allows(splits.train))))


def control(splits: Splits, rule: Rule, seed: int = 0) -> Splits:
    """Keep as many training samples as follow the rule, drawn from all of them."""
    number = int(rule.allows(splits.train).sum())
    rows = np.random.default_rng(seed).permutation(len(splits.train))[:number]
    return replace(splits, train=splits.train.take(np.sort(rows)))
