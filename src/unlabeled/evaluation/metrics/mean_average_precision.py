"""Ranking of samples by each of several labels."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from unlabeled.data.targets import MultiLabel
from unlabeled.encoders.features import standardize
from unlabeled.evaluation.intervals import Groups, bootstrap, mean_of_defined, wilson
from unlabeled.evaluation.metric import Metric, Subject, Value, Values
from unlabeled.evaluation.probe import logistic_regression
from unlabeled.evaluation.tuning import Setting, tune_labels


class MeanAveragePrecision(Metric):
    """Mean over labels of the average precision of a linear probe for each label.

    The area under the precision-recall curve as a sum over recalls, as in scikit-learn; labels
    without a positive test sample do not count. The penalty of the probes is chosen by
    cross-validation on the training samples.
    """

    key = "mean_average_precision"
    title = "Mean average precision"
    order = 6

    def applies(self, subject: Subject) -> bool:
        """Where a target is multi-label."""
        return multi_label(subject) is not None and len(subject.splits.test) > 0

    def compute(self, subject: Subject) -> Value:
        """With its bootstrap interval."""
        y, y_test, known, known_test = _labels(subject)
        z, z_test = standardize(subject.train[known], subject.test[known_test])
        penalty = subject.shared(_setting).value
        scores = np.stack([_scores(z, column, z_test, penalty) for column in y.T], 1)
        groups = None if subject.groups is None else subject.groups[known_test]
        return _value(scores, y_test, groups)

    def settings(self, subject: Subject) -> dict[str, Setting]:
        """The penalty of the probes, the same for all labels."""
        return {self.key: subject.shared(_setting)}

    def references(self, subject: Subject) -> dict[str, Values]:
        """The same score for all samples: the share of positives."""
        _, y_test, *_ = _labels(subject)
        share = y_test[:, y_test.any(0)].mean(0)
        return {"chance": Value(float(share.mean()) if len(share) else None)}


def multi_label(subject: Subject) -> str | None:
    """The first multi-label target."""
    targets = subject.splits.targets.items()
    return next((name for name, target in targets if isinstance(target, MultiLabel)), None)


def average_precision(scores: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Average precision of one label, with each sample counted some times.

    Args:
        scores: (n,).
        y: 0 or 1, (n,).
        times: (b, n).

    Returns:
        (b,); NaN without a positive.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of equal scores
    weights = times[:, order]
    hits = np.cumsum(weights * y[order], 1)[:, last].astype(float)
    taken = np.cumsum(weights, 1)[:, last]
    precision = np.divide(hits, taken, where=taken > 0, out=np.zeros_like(hits))
    steps = np.diff(hits, axis=1, prepend=0)
    total = hits[:, -1]
    value = (precision * steps).sum(1)
    return np.divide(value, total, where=total > 0, out=np.full(len(times), np.nan))


def _labels(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels of both parts, and which samples have them."""
    name = multi_label(subject)
    assert name
    parts = subject.splits.train, subject.splits.test
    known = [part.known(name) for part in parts]
    y, y_test = (part.factors[name][k] for part, k in zip(parts, known, strict=True))
    return y, y_test, known[0], known[1]


def _setting(subject: Subject) -> Setting:
    if subject.penalty is not None:
        return Setting("penalty", subject.penalty)
    y, _, known, _ = _labels(subject)
    groups = None if subject.train_groups is None else subject.train_groups[known]
    return tune_labels(subject.train[known], y, groups)


def _scores(z: np.ndarray, y: np.ndarray, z_test: np.ndarray, penalty: float) -> np.ndarray:
    """Probability of a label, (m,); the same for all where training has it always or never."""
    if len(np.unique(y)) < 2 or not z.shape[1]:
        return np.zeros(len(z_test))
    weight, bias = logistic_regression(z.astype(np.float32), y.astype(int), penalty)
    output = z_test @ weight + bias
    return np.asarray(expit(output[:, 1] - output[:, 0]))


def _value(scores: np.ndarray, y: np.ndarray, groups: Groups = None) -> Value:
    def statistic(times: np.ndarray) -> np.ndarray:
        columns = [average_precision(s, t, times) for s, t in zip(scores.T, y.T, strict=True)]
        return mean_of_defined(np.stack(columns))

    value = float(statistic(np.ones((1, len(y)), int))[0])
    if not np.isfinite(value):
        return Value(None)
    low, high = bootstrap(statistic, len(y), groups)
    if low == high:  # a mean over positives, like the balanced accuracy, of which each is right
        positives = y.sum(0)[y.sum(0) > 0]
        n = len(positives) ** 2 / float((1 / positives).sum())
        low, high = wilson(value * n, n)
    return Value.of(value, (low, high))
