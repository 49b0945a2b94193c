"""Evaluate a run beside its baselines, by every metric that applies."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from typing import Any

from unlabeled import registry
from unlabeled.data.dataset import Splits
from unlabeled.data.open import is_program, name_of, open_data
from unlabeled.encoders.base import checksum
from unlabeled.errors import UserError, notice
from unlabeled.evaluation.baselines import baselines
from unlabeled.evaluation.intervals import paired_difference
from unlabeled.evaluation.metric import Subject, Value, by_key
from unlabeled.evaluation.metrics import find_metrics
from unlabeled.evaluation.per_class import per_class
from unlabeled.evaluation.result import Result
from unlabeled.evaluation.saved import keep
from unlabeled.evaluation.tuning import Setting
from unlabeled.runs.run import Run
from unlabeled.runs.safety import IN_MEMORY, inside, refuse_unopened
from unlabeled.utils.files import write_json
from unlabeled.utils.progress import is_shown, showing
from unlabeled.utils.state import preserve_rng


@dataclass
class Evaluation:
    """A run and its baselines on one data set.

    Args:
        splits: the data; if it has labels and a test part, its labeled samples.
        subjects: the run first, then the baselines.
        references: metrics of predictors that learn nothing, by name, such as `chance`.
        run: the run.
    """

    splits: Splits
    subjects: list[Subject]
    references: dict[str, dict[str, Value]]
    run: Run

    @property
    def results(self) -> dict[str, dict[str, Value]]:
        """Metrics of the run, its baselines and the references, by name."""
        return {s.name: s.metrics for s in self.subjects} | self.references

    @property
    def best(self) -> dict[str, str]:
        """By metric, the encoder that is better than every other one in a paired test, if any.

        Only metrics that count correct answers are tested.
        """
        results = {}
        for metric in find_metrics():
            correct = {s.name: metric.correct(s) for s in self.subjects if metric.key in s.metrics}
            answers = {name: a for name, a in correct.items() if a is not None}
            if len(answers) < 2:
                continue
            first = max(answers, key=lambda name: float(answers[name].mean()))
            others = [a for name, a in answers.items() if name != first]
            groups = self.subjects[0].groups
            if all(paired_difference(answers[first], a, groups).low > 0 for a in others):
                results[metric.key] = first
        return results

    def save(self) -> None:
        """Write `evaluation.json` into the run folder, and a copy by the name of the data.

        Both have a checksum of the weights, too, which change if the run is resumed.
        """
        path, result = inside(self.run.path, "evaluation.json"), self.to_json()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result | {"weights": checksum(self.run.encoder)})
        keep(self.run, result)

    def to_json(self) -> dict[str, Any]:
        """What `evaluate` returns."""
        subject, splits = self.subjects[0], self.splits
        groups, classes = splits.test.group_codes(), per_class(subject)
        tested = splits.name if splits.test_from is None else name_of(splits.test_from)
        metrics, *others = (
            {key: asdict(value) for key, value in metrics.items()}
            for metrics in self.results.values()
        )
        return {
            "method": subject.name,
            "data": splits.name,
            "test_data": tested,
            "modality": type(splits.modality).__name__.lower(),
            "target": splits.target,
            "n_train": len(splits.train),
            "n_test": len(splits.test),
            "n_test_groups": None if groups is None else len(set(groups.tolist())),
            "metrics": metrics,
            "per_class": [asdict(score) for score in classes.scores] if classes else None,
            "best": self.best,
            "settings": {
                s.name: {key: setting.to_json() for key, setting in settings_of(s).items()}
                for s in self.subjects
            },
            "baselines": dict(zip([*self.results][1:], others, strict=True)),
            "run": self.run.path.name,
            "config": self.run.config,
            "cores": os.cpu_count(),
        }


@preserve_rng()
def evaluate(
    run: Run,
    data: Any = None,
    *,
    labels_from: Any = None,
    test: Any = None,
    groups_from: Any = None,
    penalty: float | None = None,
    k: int | None = None,
    progress: bool | None = None,
) -> Result:
    """Evaluate a run beside its baselines: raw pixels, PCA and random weights, for example.

    Every encoder is in eval mode. Probes and neighbors learn from the training part and are scored
    on the test part. Samples without a label are left out where there are labels.

    Args:
        run: the run.
        data: any data that its encoder takes (default: the training's).
        labels_from: source of labels of images in files, as for `unlabeled.train`.
        test: other data to test on, as for `unlabeled.train` (default: the training's, if `data` is
            omitted, too).
        groups_from: what samples have in common, as for `unlabeled.train`; intervals are then over
            groups of test samples (default: the training's, if `data` is omitted, too).
        penalty: of the squared weights of linear probes and ridge regression (default: chosen for
            each encoder by cross-validation on the training part).
        k: neighbors that vote in k-NN (default: chosen likewise).
        progress: show bars of what takes long (default: in commands only).

    Returns:
        a dictionary, shown as a table in notebooks, that it also writes as `evaluation.json` into
        the run folder: `method`, `data`, `modality`,
        `target`, `n_train`, `n_test`; `metrics`, which has `{"value", "low", "high"}` under the key
        of each metric that applies, where low and high are the ends of the 95 % interval and
        undefined values are None; the same for each of `baselines` by name; `settings`, by encoder,
        chosen by cross-validation; and `best`, by metric, the encoder whose answers are
        significantly better than those of every other one (95 % interval of the paired difference).
        The metrics are in `unlabeled.evaluation.metrics`.

    Raises:
        UserError: the data cannot be opened or does not fit the encoder.
    """
    with showing(is_shown(progress)):
        evaluation = measure(
            run,
            data,
            labels_from=labels_from,
            test=test,
            groups_from=groups_from,
            penalty=penalty,
            k=k,
        )
    evaluation.save()
    return Result(evaluation.to_json())


@preserve_rng()
def measure(
    run: Run,
    data: Any = None,
    *,
    labels_from: Any = None,
    test: Any = None,
    groups_from: Any = None,
    penalty: float | None = None,
    k: int | None = None,
) -> Evaluation:
    """Compute the metrics of `evaluate`; the result includes the features, for a report."""
    if penalty is not None and not 0 < penalty < math.inf:
        raise UserError(f"penalty is {penalty:g}; give a number above 0")
    if k is not None and k < 1:
        raise UserError(f"k is {k}; give at least 1 neighbor")
    splits = open_for(run, data, labels_from, test, groups_from)
    return measure_encoders({str(run.config["method"]): run}, splits, penalty, k)


def measure_encoders(
    runs: dict[str, Run], splits: Splits, penalty: float | None = None, k: int | None = None
) -> Evaluation:
    """Metrics of runs on one data set, with the baselines of the first.

    Args:
        runs: by name.
        splits: the data.
        penalty: as for `evaluate`.
        k: as for `evaluate`.
    """
    first = next(iter(runs.values()))
    encoders = {name: run.encoder for name, run in runs.items()} | baselines(first, splits)
    labeled = splits.labeled()
    subjects = [
        Subject(name, labeled, encoder, runs.get(name), penalty, k)
        for name, encoder in encoders.items()
    ]
    for subject in subjects:
        subject.metrics = compute(subject)
    if not subjects[0].can_classify and (reason := _no_classification(subjects[0])):
        notice(reason)
    return Evaluation(labeled, subjects, references(subjects[0]), first)


def values_of(metrics: Any) -> dict[str, Value]:
    """Metrics as returned by `evaluate`, from an untrusted file.

    Raises:
        ValueError: the file has other content.
    """
    if not isinstance(metrics, dict):
        raise ValueError("metrics")
    for key, value in metrics.items():
        numbers = value.values() if isinstance(value, dict) else ["no dictionary"]
        if set(value) != {"value", "low", "high"} or not all(
            v is None or isinstance(v, int | float) for v in numbers
        ):
            raise ValueError(key)
    return {key: Value(**value) for key, value in metrics.items()}


def compute(subject: Subject) -> dict[str, Value]:
    """Every metric that applies, by its key."""
    values: dict[str, Value] = {}
    for metric in find_metrics():
        if metric.applies(subject):
            values |= by_key(metric, metric.compute(subject))
    return values


def settings_of(subject: Subject) -> dict[str, Setting]:
    """Settings of its metrics that were chosen by cross-validation, by key."""
    settings: dict[str, Setting] = {}
    for metric in find_metrics():
        if metric.applies(subject):
            settings |= metric.settings(subject)
    return settings


def references(subject: Subject) -> dict[str, dict[str, Value]]:
    """Metrics of predictors that learn nothing, by the name of the predictor."""
    values: dict[str, dict[str, Value]] = {}
    for metric in find_metrics():
        if metric.applies(subject):
            for name, value in metric.references(subject).items():
                values.setdefault(name, {}).update(by_key(metric, value))
    return values


def open_for(
    run: Run,
    data: Any,
    labels_from: Any = None,
    test: Any = None,
    groups_from: Any = None,
) -> Splits:
    """Open data for a run's encoder; by default the data of its training."""
    own, data = data is None, run.data if data is None else data
    if data is None and not run.is_trained:
        raise UserError(f"{run.source} was not trained here on any data; give --data")
    if data is None:
        raise UserError(f"{run.path} was trained on an array in memory; give it again as data")
    if own and is_program(data):
        # A run folder is untrusted: it must not cause code to run.
        raise UserError(f"the data of {run.path} is loaded by a file; give it as --data {data}")
    if own and labels_from is None and not isinstance(data, Splits):
        labels_from = run.config.get("labels_from")
    recorded = run.config.get("test")
    if own and test is None and recorded and not isinstance(data, Splits):
        test = refuse_unopened(run.path, recorded)
    if own and groups_from is None and not isinstance(data, Splits):
        groups_from = run.config.get("groups_from")
        if groups_from == IN_MEMORY:
            raise UserError(f"the groups of {run.path} were an array in memory; give them again")
    splits = open_data(
        data,
        like=run.modality,
        labels_from=labels_from,
        test=test,
        groups_from=groups_from,
        decoding=run.config.get("decoding", "auto") if own else "auto",
    )
    if own and len(splits.test) and run.config.get("images", 0) > len(splits.train):
        notice(
            "the encoder has seen the test samples in training, without their labels; give --data "
            "of others for a stricter test"
        )
    return splits.with_value_range(run.value_range_of(splits.train.x))


def _no_classification(subject: Subject) -> str | None:
    """The reason why labeled data has no linear probe accuracy."""
    splits = subject.splits
    if splits.target is None and splits.numbers:
        names = ", ".join(splits.numbers)
        return (
            f"{names} of {splits.name} holds numbers, not classes, so the linear probe and k-NN "
            "do not apply; its R² does"
        )
    disjoint = splits.name.partition(":")[0] in registry.listing("datasets")  # on purpose, there
    if subject.has_labels and splits.target != "shot" and not disjoint:
        return (
            f"no {splits.target} of the test {splits.noun} is among those of the training "
            f"{splits.noun}, so the linear probe and k-NN do not apply; AUROC of pairs does"
        )
    return None
