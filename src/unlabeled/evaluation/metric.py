"""Base class of metrics, and the subjects that they evaluate."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float
from torch import nn

from unlabeled import registry
from unlabeled.data.dataset import Splits
from unlabeled.data.targets import MultiLabel
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError, notice
from unlabeled.evaluation import rsa
from unlabeled.evaluation.intervals import Groups, Interval, bootstrap_mean, share, wilson
from unlabeled.evaluation.knn import knn_predict, nearest
from unlabeled.evaluation.probe import Probe, linear_probe
from unlabeled.evaluation.tuning import Setting, tune
from unlabeled.modality import Modality
from unlabeled.runs.run import Run


@dataclass(frozen=True)
class Value:
    """A metric's value and its 95 % interval; None if undefined."""

    value: float | int | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float | int, interval: Interval | None = None) -> Value:
        """A value from a number; NaN and infinity become None."""
        if not math.isfinite(value):
            return cls(None)
        return cls(value, *(float(v) if math.isfinite(v) else None for v in interval or ()))


def accuracy(correct: Bool[np.ndarray, " n"], groups: Groups = None) -> Value:
    """The share of correct answers, with its Wilson interval over samples, or over groups."""
    if groups is not None:
        return mean_share(correct.astype(float), groups)
    hits = int(correct.sum())
    return Value.of(hits / len(correct), wilson(hits, len(correct)))


def mean_share(values: Float[np.ndarray, " n"], groups: Groups = None) -> Value:
    """The mean of values in [0, 1], with its interval over samples, or over groups."""
    value = float(values.mean())
    return Value.of(value, share(value, (values - value) / len(values), groups))


def mean(values: Float[np.ndarray, " n"], groups: Groups = None) -> Value:
    """The mean, with its bootstrap interval over samples, or over groups."""
    return Value.of(float(values.mean()), bootstrap_mean(values, groups))


@dataclass
class Subject:
    """An encoder that is evaluated on a data set: a run's or a baseline's.

    Args:
        name: the method, or the name of the baseline.
        splits: the data; if it has labels and a test part, only its labeled samples.
        encoder: computes the features.
        run: the run whose encoder this is; None for baselines.
        penalty: of the linear probe (default: chosen by cross-validation on the training part).
        k: number of voting neighbors (default: chosen likewise).
        metrics: computed by `unlabeled.evaluation.evaluate.compute`.
    """

    name: str
    splits: Splits
    encoder: nn.Module
    run: Run | None = None
    penalty: float | None = None
    k: int | None = None
    metrics: dict[str, Value] = field(default_factory=dict)
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def train(self) -> np.ndarray:
        """Features of the training part, (n, dim)."""
        return embed(self.encoder, self.splits.train.x, self.splits.value_range)

    @cached_property
    def test(self) -> np.ndarray:
        """Features of the test part, (m, dim)."""
        return embed(self.encoder, self.splits.test.x, self.splits.value_range)

    @property
    def shown(self) -> np.ndarray:
        """Features of the test part, or of the training part if there is no test part."""
        return self.test if len(self.splits.test) else self.train

    @property
    def modality(self) -> Modality:
        """Of the data."""
        return self.splits.modality

    @property
    def method_name(self) -> str:
        """Name of a run's method; "" for baselines."""
        return str(self.run.config["method"]) if self.run else ""

    def has(self, *attributes: str) -> bool:
        """Whether the run's method has these, such as `sample`."""
        return self.method is not None and all(hasattr(self.method, name) for name in attributes)

    @cached_property
    def method(self) -> Any:
        """The run's method with its heads, in eval mode on the CPU.

        None for baselines, for a method of the user's own that was opened from a folder, and
        where the checkpoint is gone.
        """
        if self.run is None:
            return None
        if self.run.method is not None:
            return copy.deepcopy(self.run.method).cpu().eval()
        # An untrusted run folder may name any file: only methods of this package are looked up.
        if self.method_name not in registry.listing("methods"):
            return None
        from unlabeled.training.train import reopen  # Lightning takes seconds to import

        try:
            return reopen(self.run).cpu()
        except UserError as error:
            notice(f"the metrics of {self.method_name} itself cannot be computed: {error}")
            return None

    def shared(self, function: Callable[[Subject], Any]) -> Any:
        """The result of a function of this subject, computed once for all metrics."""
        if function not in self._shared:
            self._shared[function] = function(self)
        return self._shared[function]

    @cached_property
    def labels(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Classes of the training and of the test part; None without classes or test part."""
        target = self.splits.target
        if target is None or not len(self.splits.test):
            return None
        if isinstance(self.splits.targets.get(target), MultiLabel):
            return None
        return self.splits.train.factors[target], self.splits.test.factors[target]

    @property
    def groups(self) -> np.ndarray | None:
        """The groups of the test samples, (m,); None if ungrouped."""
        return self.splits.test.group_codes()

    def similarity_matrix(self, rows: np.ndarray) -> np.ndarray:
        """Mean-centered cosine similarity of some of the shown samples, (n, n)."""
        return rsa.similarity_matrix(self.shown[rows], "centered")

    def similarity_histograms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bin edges and densities of the similarity within and between classes."""
        part = self.splits.test if len(self.splits.test) else self.splits.train
        return rsa.histograms(self.shown, part.factors[str(self.splits.target)], "centered")

    def neighbors(self, rows: np.ndarray, k: int) -> np.ndarray:
        """The k nearest other samples of some of the shown samples, (n, k)."""
        _, indices = nearest(self.shown, self.shown[rows], k + 1)
        others = [line[line != row][:k] for row, line in zip(rows, indices, strict=True)]
        return np.stack(others)

    @property
    def has_labels(self) -> bool:
        """Whether there are labeled test samples."""
        return self.labels is not None

    @property
    def can_classify(self) -> bool:
        """Whether training and test part have a class in common."""
        return self.labels is not None and bool(np.isin(self.labels[1], self.labels[0]).any())

    @property
    def y(self) -> np.ndarray:
        """Classes of the training part, (n,)."""
        assert self.labels
        return self.labels[0]

    @property
    def y_test(self) -> np.ndarray:
        """Classes of the test part, (m,)."""
        assert self.labels
        return self.labels[1]

    @cached_property
    def train_groups(self) -> np.ndarray | None:
        """The groups of the training samples, (n,); None if ungrouped."""
        return self.splits.train.group_codes()

    @cached_property
    def probe_setting(self) -> Setting:
        """The penalty of the linear probe."""
        if self.penalty is not None:
            return Setting("penalty", self.penalty)
        return tune(self.train, self.y, "linear", self.train_groups)

    @cached_property
    def probe(self) -> Probe:
        """The linear probe, which several metrics share."""
        penalty = self.probe_setting.value
        return linear_probe(self.train, self.y, self.test, self.y_test, penalty)

    @cached_property
    def knn_setting(self) -> Setting:
        """The number of neighbors that vote."""
        if self.k is not None:
            if self.k > (most := len(self.train)):
                notice(
                    f"k is {self.k:,}, but there are {most:,} training samples: all of them vote"
                )
            return Setting("neighbors", min(self.k, most))
        return tune(self.train, self.y, "knn", self.train_groups)

    @cached_property
    def knn_predicted(self) -> np.ndarray:
        """Classes of the test samples predicted by k-NN, (m,)."""
        return knn_predict(self.train, self.y, self.test, int(self.knn_setting.value))


Values = Value | dict[str, Value]
"""One value, or several by their keys."""


class Metric:
    """One metric, or a few that are computed together: a subclass in a file of this folder.

    Args:
        key: its name in JSON. `compute` may return several values under keys that begin with it.
        title: its name in tables.
        percent: whether it is displayed in percent.
        decimals: digits after the decimal point.
        higher_is_better: None if runs are not ranked by it.
        order: tables show metrics in increasing order.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    percent: ClassVar[bool] = False
    decimals: ClassVar[int] = 3
    higher_is_better: ClassVar[bool | None] = True
    order: ClassVar[float] = 100

    def applies(self, subject: Subject) -> bool:
        """Whether it can be computed, by modality, targets, and capabilities of the method."""
        raise NotImplementedError

    def compute(self, subject: Subject) -> Values:
        """The value with its 95 % interval, or several by their keys."""
        raise NotImplementedError

    def correct(self, subject: Subject) -> Bool[np.ndarray, " m"] | None:
        """Which test samples are answered correctly, for paired tests; None if undefined."""
        return None

    def settings(self, subject: Subject) -> dict[str, Setting]:
        """Settings chosen by cross-validation on the training part, by key."""
        return {}

    def references(self, subject: Subject) -> dict[str, Values]:
        """Values of predictors that learn nothing, by name, such as `chance`."""
        return {}

    def title_of(self, key: str) -> str:
        """The title of one of its keys."""
        suffix = key.removeprefix(self.key).strip("_").replace("_", " ")
        return f"{self.title} ({suffix})" if suffix else self.title

    def shown(self, keys: list[str]) -> list[str]:
        """The keys that tables show."""
        return keys

    def format(self, value: Value) -> str:
        """The value for tables, such as "98.6 % (98.2–98.9)"; a dash if undefined."""
        if value.value is None or math.isnan(value.value):
            return "–"
        bounds = [self._number(v) for v in (value.low, value.high) if v is not None]
        joint = " to " if any("−" in bound for bound in bounds) else "–"
        unit = " %" if self.percent else ""
        return self._number(value.value) + unit + (f" ({joint.join(bounds)})" if bounds else "")

    def _number(self, value: float | int) -> str:
        number = f"{100 * value if self.percent else value:,.{self.decimals}f}"
        return number.lstrip("-") if not number.strip("-0.,") else number.replace("-", "−")


def by_key(metric: Metric, value: Values) -> dict[str, Value]:
    """The values of a metric as a dictionary."""
    return value if isinstance(value, dict) else {metric.key: value}


MOST_FREQUENT = "most_frequent_class"
"""The name of the predictor that always answers with the most frequent class of training."""


def always_most_frequent(subject: Subject) -> dict[str, Values]:
    """The accuracy of always answering with the most frequent class of the training part."""
    correct = subject.y_test == most_frequent(subject.y)
    return {MOST_FREQUENT: accuracy(correct, subject.groups)}


def most_frequent(y: Iterable[Any]) -> Any:
    """The class that occurs most often."""
    classes, counts = np.unique(np.asarray(y), return_counts=True)
    return classes[counts.argmax()]
