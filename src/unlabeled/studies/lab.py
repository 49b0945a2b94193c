"""What studies share: experiments that keep their runs, and how large a study is run.

A study is a Python file with a `TITLE`, a `LEAD`, its `DATA` (a name, or a function that loads a
data set), the `CLAIMS` it tests and a list `EXPERIMENTS`. Each experiment is a function from a
`Lab`, which trains encoders or loads trained ones, to a `Finding`. Constants that set a study's
size are collected in a dataclass: `SETTINGS` for the full study, `QUICK` for the quick one. A study
whose quick settings are enough to judge its claims says so by `QUICK_DECIDES = True`; it is then
run on all data. A function `trainings(lab, keys)` lists what experiments need to be trained, so
that it is trained side by side.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.data.dataset import Splits
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.evaluation.intervals import Interval, wilson
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import Probe, linear_probe
from unlabeled.runs.run import Run, load
from unlabeled.studies.side_by_side import Training, train_side_by_side
from unlabeled.training.planning import operations
from unlabeled.training.prepare import prepare
from unlabeled.training.train import check_same, train
from unlabeled.utils.progress import line

NOT_A_NUMBER = re.compile(r"nan( ± nan)?( %)?")
TitledImages = list[tuple[str, bytes | str]]
"""Title and PNG or GIF (bytes) or SVG (str)."""
Way = tuple[str, Mapping[str, Any]]
"""Method and options of a training, as in `unlabeled.train`."""


@dataclass
class Table:
    """A table with a caption; figures that are NaN are shown as a dash."""

    caption: str
    columns: list[str]
    rows: list[list[str]]

    @staticmethod
    def of(
        caption: str,
        columns: Iterable[str],
        results: Mapping[str, Any],
        formats: str | Mapping[str, str],
    ) -> Table:
        """Table of figures.

        Args:
            caption: its caption.
            columns: titles of the figures.
            found: for the title of each row a figure, or several by key.
            formats: formats as in `number` by key, or one for all figures.
        """
        rows = []
        for title, figures in results.items():
            by_key = figures if isinstance(figures, Mapping) else {"": figures}
            specs = dict.fromkeys(by_key, formats) if isinstance(formats, str) else formats
            cells = (number(by_key.get(key), spec) for key, spec in specs.items())
            rows.append([title, *cells])
        return Table(caption, ["", *columns], rows)

    def __post_init__(self) -> None:
        self.rows = [
            [first, *("–" if NOT_A_NUMBER.fullmatch(cell) else cell for cell in cells)]
            for first, *cells in self.rows
        ]


@dataclass
class Chooser:
    """Images of which the reader of the page chooses some, by menus."""

    menus: dict[str, list[str]]  #: choices by title of the menu
    #: by choices: of the first menu, or of the first and the second, and so on
    images: dict[tuple[str, ...], TitledImages]


@dataclass
class Finding:
    """The result of an experiment."""

    figures: dict[str, Any]  #: all numbers, for `results.json`
    setup: str  #: what was done, in one or two sentences
    answer: str  #: one or two sentences computed from the figures
    tables: list[Table] = field(default_factory=list)
    images: TitledImages = field(default_factory=list)  #: the first is above the text
    #: by number, whether it held and why; None if that is undecided
    claims: dict[int, tuple[bool | None, str]] = field(default_factory=dict)
    chooser: Chooser | None = None


@dataclass(frozen=True)
class Experiment:
    """One question of a study."""

    key: str  #: short name, for `--only`
    title: str  #: title of its section on the page
    question: str
    run: Callable[[Lab], Finding]  #: trains and evaluates what answers it
    minutes: float = 1.0  #: approximate duration of its own trainings on two cores


@dataclass(frozen=True)
class Scale:
    """How large a study is run; `FULL` and `QUICK` are the two of the command."""

    #: half of the training samples and few epochs; results go to `OUT/quick`
    quick: bool = False
    settings: Any = None  #: constants to use instead of the study's `SETTINGS` (or `QUICK`)
    #: arguments of every training, which override the study's own
    train_args: Mapping[str, Any] = field(default_factory=dict)
    all_training: bool = False  #: all training samples, even if it is quick


FULL, QUICK = Scale(), Scale(quick=True)


class Lab:
    """Trains each encoder of a study once and keeps it.

    Args:
        out: folder of the study; runs are in `out/runs`.
        data: the study's data.
        seeds: seeds of the encoders that are trained more than once.
        scale: how large the study is.
    """

    def __init__(
        self, out: Path, data: Splits, seeds: Sequence[int] = (0,), scale: Scale = FULL
    ) -> None:
        if scale.quick and not scale.all_training:
            rows = np.random.default_rng(0).permutation(len(data.train))[::2]
            data = replace(data, train=data.train.take(np.sort(rows)))
        self.settings, self.train_args = scale.settings, dict(scale.train_args)
        self.quick = scale.quick
        self.out, self.data, self.seeds = out, data, list(seeds)
        self._features: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._probes: dict[tuple[str, str], Probe] = {}

    def run(
        self,
        name: str,
        method: str,
        seed: int = 0,
        data: Splits | None = None,
        quick_epochs: int | None = None,
        **options: Any,
    ) -> Run:
        """Load the run of that name and seed; resume or train it if it is not complete.

        Args:
            name: name of its folder.
            method: method as in `unlabeled.train`.
            seed: seed of the training.
            data: data to use instead of the study's.
            quick_epochs: epochs in a quick study.
            options: further arguments of `unlabeled.train`.

        Raises:
            UserError: a complete run was trained with other options.
        """
        if self.quick and quick_epochs:
            options["epochs"] = quick_epochs
        options |= self.train_args
        progress = options.pop("progress", True)
        folder = self.folder(name, seed)
        splits = self.data if data is None else data
        if (folder / "encoder.safetensors").is_file():
            check_same(folder, method, splits, seed=seed, **options)
            return load(folder)
        line(f"  training {folder.name}")
        return train(
            method, splits, seed=seed, out=folder, resume=True, progress=progress, **options
        )

    def folder(self, name: str, seed: int) -> Path:
        return self.out / "runs" / (name if seed == 0 else f"{name}-seed{seed}")

    def trained(self, training: Training) -> Run:
        """Load the run of a training; resume or train it if it is not complete."""
        t = training
        return self.run(t.name, t.method, t.seed, t.data, **t.options)

    def train_all(self, trainings: Sequence[Training]) -> None:
        """Train those that are not complete side by side, as `train_side_by_side` does."""
        jobs = {}
        for training in trainings:
            folder = self.folder(training.name, training.seed)
            if not (folder / "encoder.safetensors").is_file():
                options = dict(training.options) | self.train_args
                options.pop("progress", None)
                data = self.data if training.data is None else training.data
                jobs[folder] = replace(training, options=options), data, folder
        train_side_by_side(list(jobs.values()))

    def epochs_like(
        self, epochs: float, reference: Way, way: Way, data: Splits | None = None
    ) -> int:
        """Number of epochs of a training that need the operations of `epochs` of another.

        Operations are counted, not timed: the number is the same on every machine, busy or not.

        Args:
            epochs: of the reference.
            reference: a training to compare with.
            way: the training.
            data: data to use instead of the study's.
        """
        splits, counts = self.data if data is None else data, []
        for method, options in (reference, way):
            job = prepare(method, splits, **options)
            counts.append(operations(job.method, job.splits, job.recipe))
        return max(1, round(epochs * counts[0] / counts[1]))

    def random(
        self, encoder: str = "small", seed: int = 0, data: Splits | None = None, **arguments: Any
    ) -> nn.Module:
        """Build an encoder with random weights, in eval mode."""
        splits = self.data if data is None else data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 + seed)
            return build(encoder, splits.channels, splits.size, **arguments).eval()

    def features(
        self,
        name: str,
        encoder: nn.Module | Callable[[], nn.Module],
        data: Splits | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features of the training and test samples, computed once for each name.

        Args:
            name: of the features.
            encoder: the encoder, or a function that loads it.
            data: data to use instead of the study's.
        """
        splits = self.data if data is None else data
        if name not in self._features:
            if not isinstance(encoder, nn.Module):
                encoder = encoder()
            self._features[name] = (
                embed(encoder, splits.train.x, splits.value_range),
                embed(encoder, splits.test.x, splits.value_range),
            )
        return self._features[name]

    def labels(
        self, factor: str | None = None, data: Splits | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values of a factor (default: the target) in the training and test samples."""
        splits = self.data if data is None else data
        name = factor or str(splits.target)
        return splits.train.factors[name], splits.test.factors[name]

    def probe(
        self,
        name: str,
        encoder: nn.Module | Callable[[], nn.Module],
        factor: str | None = None,
        data: Splits | None = None,
    ) -> Probe:
        """Linear probe of the features of that name for a factor (default: the target), once."""
        splits = self.data if data is None else data
        key = name, factor or str(splits.target)
        if key not in self._probes:
            z, z_test = self.features(name, encoder, splits)
            y, y_test = self.labels(factor, splits)
            self._probes[key] = linear_probe(z, y, z_test, y_test)
        return self._probes[key]

    def knn(
        self, name: str, encoder: nn.Module, factor: str | None = None, data: Splits | None = None
    ) -> float:
        """k-NN accuracy of the features of that name for a factor (default: the target)."""
        z, z_test = self.features(name, encoder, data)
        y, y_test = self.labels(factor, data)
        return knn_accuracy(z, y, z_test, y_test)


def number(value: float | Sequence[float] | Mapping[str, float] | None, spec: str) -> str:
    """Figure, or mean ± standard deviation over seeds, in a format such as ".1%" (sign omitted).

    A figure with its interval is a mapping of `value`, `low` and `high`. None is a dash.
    """
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        center, low, high = (number(value[key], spec) for key in ("value", "low", "high"))
        return f"{center} ({low}–{high})"
    values = list(value) if isinstance(value, Sequence) else [value]
    mean = statistics.fmean(values) if len(values) > 1 else values[0]
    text = format(mean, spec).rstrip("%")
    text = text if text.strip("-0.") else text.removeprefix("-")  # no minus before a zero
    return f"{text} ± {format(statistics.stdev(values), spec).rstrip('%')}" if values[1:] else text


def percent(values: float | Sequence[float] | Mapping[str, float]) -> str:
    """As `number`: a share, shares of seeds, or one with interval, in percent with one decimal."""
    return number(values, ".1%")


def with_interval(value: float, n: int) -> dict[str, float]:
    """A share of n test samples with its 95 % interval: `value`, `low` and `high`."""
    return bounded(value, wilson(value * n, n))


def bounded(value: float, interval: Interval) -> dict[str, float]:
    """A figure and the ends of its interval: `value`, `low` and `high`."""
    return {"value": value, "low": interval[0], "high": interval[1]}


def curve(labels: Sequence[float], accuracies: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean and standard deviation of accuracies by number of labels, for a plot."""
    deviations = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in accuracies]
    means = [statistics.fmean(values) for values in accuracies]
    return {"labels": list(labels), "test": means, "sd": deviations}


def run_name(title: str) -> str:
    """Folder name of a run: "CPC v2, end to end" -> "cpc-v2-end-to-end"."""
    return title.replace(", ", "-").replace(" ", "-").lower()
