"""How well numeric targets are predicted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unlabeled.data.targets import Numbers
from unlabeled.evaluation.factors import as_targets, predict_number
from unlabeled.evaluation.intervals import bootstrap, mean_of_defined
from unlabeled.evaluation.metric import Metric, Subject, Value, Values, mean
from unlabeled.evaluation.tuning import Setting, tune_ridge


class R2(Metric):
    """R² of ridge regression on the features, on the test samples: 1 is exact, 0 the mean.

    `r2_NAME` is that of each numeric target, `r2` their mean. The penalty of the squared weights is
    chosen by cross-validation on the training samples, for each target.
    """

    key = "r2"
    title = "R²"
    order = 5

    def applies(self, subject: Subject) -> bool:
        """Where there are numeric targets."""
        return has_numbers(subject)

    def compute(self, subject: Subject) -> Values:
        """With bootstrap intervals."""
        n, names = len(subject.splits.test), numeric_targets(subject)
        statistics = [_r2(subject, name) for name in names]

        def mean(times: np.ndarray) -> np.ndarray:
            return mean_of_defined(np.stack([statistic(times) for statistic in statistics]))

        values = {}
        for key, statistic in zip(names, statistics, strict=True):
            values[f"{self.key}_{key}"] = _value(statistic, n, subject.groups)
        own = [*values.values()]
        return {self.key: own[0] if len(own) == 1 else _value(mean, n, subject.groups)} | values

    def settings(self, subject: Subject) -> dict[str, Setting]:
        """The penalty for each target."""
        return {f"{self.key}_{name}": s for name, s in subject.shared(_settings).items()}

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the mean of the training part."""
        values = {}
        for name in numeric_targets(subject):
            _, target, rows = subject.shared(_predictions)[name]
            mean = as_target(subject, name).mean(0)
            statistic = r2_statistic(np.broadcast_to(mean, target.shape), target, rows)
            values[f"{self.key}_{name}"] = Value.of(float(statistic(_once(subject))[0]))
        return {MEAN: values}

    def title_of(self, key: str) -> str:
        """With the target's name."""
        return "R², mean" if key == self.key else f"R² of {key.removeprefix('r2_')}"

    def shown(self, keys: list[str]) -> list[str]:
        """Not the mean of one."""
        return keys[1:] if len(keys) == 2 else keys


class MeanAbsoluteError(Metric):
    """Mean absolute error of ridge regression on the features, in units of the target.

    Of what goes round, such as an angle, the shorter way round.
    """

    key = "mae"
    title = "Mean absolute error"
    order, higher_is_better = 5.5, False

    def applies(self, subject: Subject) -> bool:
        """Where there are numeric targets."""
        return has_numbers(subject)

    def compute(self, subject: Subject) -> Values:
        """With bootstrap intervals."""
        values = {}
        for name in numeric_targets(subject):
            predicted, target, rows = subject.shared(_predictions)[name]
            error = _absolute_error(predicted, target, _period(subject, name))
            groups = None if subject.groups is None else subject.groups[rows]
            values[f"{self.key}_{name}"] = mean(error, groups) if len(error) else Value(None)
        return values

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the mean of the training part."""
        values = {}
        for name in numeric_targets(subject):
            _, target, _ = subject.shared(_predictions)[name]
            mean = np.broadcast_to(as_target(subject, name).mean(0), target.shape)
            error = _absolute_error(mean, target, _period(subject, name))
            values[f"{self.key}_{name}"] = Value(float(error.mean()) if len(error) else None)
        return {MEAN: values}

    def title_of(self, key: str) -> str:
        """With the target's name."""
        return f"{self.title} of {key.removeprefix('mae_')}"


MEAN = "mean"
"""The name of the predictor that always answers with the mean of training."""

Statistic = Callable[[np.ndarray], np.ndarray]


def has_numbers(subject: Subject) -> bool:
    """Whether there are numeric targets and samples to test on."""
    return bool(numeric_targets(subject)) and len(subject.splits.test) > 0


def numeric_targets(subject: Subject) -> list[str]:
    """Names of the targets that are numbers, of which the training part has some."""
    train = subject.splits.train
    numbers = [n for n in subject.splits.numbers if train.factors[n].dtype.kind == "f"]
    return [name for name in numbers if train.known(name).any()]


def as_target(subject: Subject, name: str) -> np.ndarray:
    """Values of the training part as ridge regression learns them, (n, k)."""
    values = subject.splits.train.labeled(name).factors[name]
    return as_targets(values, _period(subject, name))


def r2_statistic(predicted: np.ndarray, target: np.ndarray, rows: np.ndarray) -> Statistic:
    """R² as a function of how often each test sample is drawn, (draws, m) -> (draws,).

    Args:
        predicted: (n, k).
        target: (n, k).
        rows: which test samples these are, (n,).
    """
    squared = ((target - predicted) ** 2).sum(1)

    def statistic(times: np.ndarray) -> np.ndarray:
        times = times[:, rows]
        n = np.maximum(1, times.sum(1, keepdims=True))
        total = (times @ target**2 - (times @ target) ** 2 / n).sum(1)
        floor = 1e-12 * (times @ target**2).sum(1)
        ratio = np.divide(times @ squared, total, where=total > floor, out=np.full(len(n), np.nan))
        return 1 - ratio

    return statistic


def _r2(subject: Subject, name: str) -> Statistic:
    return r2_statistic(*subject.shared(_predictions)[name])


def _predictions(subject: Subject) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Predictions (n, k), targets (n, k) and rows of the test part (n,) that have one, by name."""
    splits, settings = subject.splits, subject.shared(_settings)
    return {
        name: (
            *predict_number(subject.train, subject.test, splits, name, settings[name].value),
            np.flatnonzero(splits.test.known(name)),
        )
        for name in numeric_targets(subject)
    }


def _settings(subject: Subject) -> dict[str, Setting]:
    """The penalty of ridge regression for each target."""
    settings = {}
    for name in numeric_targets(subject):
        if subject.penalty is not None:
            settings[name] = Setting("penalty", subject.penalty)
            continue
        known = subject.splits.train.known(name)
        groups = None if subject.train_groups is None else subject.train_groups[known]
        settings[name] = tune_ridge(subject.train[known], as_target(subject, name), groups)
    return settings


def _value(statistic: Statistic, n: int, groups: np.ndarray | None) -> Value:
    value = float(statistic(np.ones((1, n)))[0])
    return Value.of(value, bootstrap(statistic, n, groups) if np.isfinite(value) else None)


def _once(subject: Subject) -> np.ndarray:
    return np.ones((1, len(subject.splits.test)))


def _period(subject: Subject, name: str) -> float | None:
    target = subject.splits.targets[name]
    assert isinstance(target, Numbers)
    return target.period


def _absolute_error(predicted: np.ndarray, target: np.ndarray, period: float | None) -> np.ndarray:
    """Absolute errors (n,) of values (n, 1), or of angles as sine and cosine (n, 2)."""
    if period is None:
        return np.abs(predicted - target)[:, 0]
    angle, true = (np.arctan2(t[:, 0], t[:, 1]) for t in (predicted, target))
    difference = np.abs(angle - true) % (2 * np.pi)
    return np.minimum(difference, 2 * np.pi - difference) * period / (2 * np.pi)
