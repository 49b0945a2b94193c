"""How well numeric targets are predicted."""

from __future__ import annotations

import numpy as np

from unlabeled.evaluation.factors import predict_number
from unlabeled.evaluation.intervals import bootstrap
from unlabeled.evaluation.metric import Metric, Subject, Value, Values


class R2(Metric):
    """R² of ridge regression on the features, on the test samples: 1 is exact, 0 the mean.

    `r2_NAME` is that of each numeric target, `r2` their mean.
    """

    key = "r2"
    title = "R²"
    order = 5

    def applies(self, subject: Subject) -> bool:
        """Where there are numeric targets."""
        return bool(numeric_targets(subject)) and len(subject.splits.test) > 0

    def compute(self, subject: Subject) -> Values:
        """With bootstrap intervals."""
        values = [(name, _r2(subject, name)) for name in numeric_targets(subject)]
        known = [value.value for _, value in values if value.value is not None]
        mean = values[0][1] if len(values) == 1 else Value(float(np.mean(known)) if known else None)
        return {self.key: mean} | {f"{self.key}_{name}": value for name, value in values}

    def title_of(self, key: str) -> str:
        """With the target's name."""
        return "R², mean" if key == self.key else f"R² of {key.removeprefix('r2_')}"

    def shown(self, keys: list[str]) -> list[str]:
        """Not the mean of one."""
        return keys[1:] if len(keys) == 2 else keys


def numeric_targets(subject: Subject) -> list[str]:
    """Names of the targets that are numbers."""
    factors = subject.splits.train.factors
    return [name for name in subject.splits.numbers if factors[name].dtype.kind == "f"]


def _r2(subject: Subject, name: str) -> Value:
    predicted, target = predict_number(subject.train, subject.test, subject.splits, name)
    squared = ((target - predicted) ** 2).sum(1)

    def statistic(times: np.ndarray) -> np.ndarray:
        n = times.sum(1, keepdims=True)
        total = (times @ target**2 - (times @ target) ** 2 / n).sum(1)
        floor = 1e-12 * (times @ target**2).sum(1)
        ratio = np.divide(times @ squared, total, where=total > floor, out=np.full(len(n), np.nan))
        return 1 - ratio

    value = float(statistic(np.ones((1, len(target))))[0])
    return Value.of(value, bootstrap(statistic, len(target)) if np.isfinite(value) else None)
