"""What a representation is worth: one table for an encoder and its baselines."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from unlabeled import registry
from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.open import is_program, name_of, open_data
from unlabeled.encoders.base import build, is_rebuildable, reinitialize
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError, notice
from unlabeled.evaluation import rsa
from unlabeled.evaluation.factors import probe_number
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.sound import Kind, Spectral
from unlabeled.evaluation.verification import pairs
from unlabeled.modality import Audio, require_part
from unlabeled.runs.run import Run
from unlabeled.runs.safety import refuse_unopened
from unlabeled.training.health import rankme
from unlabeled.utils.state import preserve_rng

RANKME_ROWS = 4000
"""Images at most that RankMe looks at; it grows with their number, so it is always the same."""
RANDOM_SEED = 1234
"""Of the random encoder's weights."""
RAW_DIM = 4096
FITTED_DIM, FITTED_ROWS = 64, 5000
"""Features of PCA, ICA and k-means, and training images that they are fitted on."""


@dataclass
class Judged:
    """An encoder's features of a data set, and the figures drawn from them.

    Where the data has labels and a test part, only labeled samples count: `Splits.labeled`.
    """

    title: str
    train: np.ndarray
    test: np.ndarray
    figures: dict[str, Any]


@dataclass
class Evaluation:
    """A run and its baselines on one data set.

    Args:
        splits: labeled samples of the data, where it has labels and a test part.
        judged: the run first, then its baselines.
        table: the figures, as `evaluate` returns them.
    """

    splits: Splits
    judged: list[Judged]
    table: dict[str, Any]


def evaluate(
    run: Run, data: Any = None, *, labels_from: Any = None, test: Any = None
) -> dict[str, Any]:
    """Judge a run beside raw pixels, PCA and random weights of the same encoder.

    Everything in eval mode. Probes and neighbors learn from the training part and are scored on
    the test part; gap and RankMe are of the test part (of the training part where there is none).

    Args:
        run: what to judge.
        data: any data its encoder takes; what it was trained on unless given.
        labels_from: where labels of images in files are, as for `unlabeled.train`.
        test: other data to test on, as for `unlabeled.train`; that of the training unless given, if
            `data` is not given either.

    Returns:
        `linear`, `knn` (accuracies in [0, 1]; None where no test class is in the training part),
        `auc` (of pairs, same class or not), `similarity_gap` (cosine, same class − other class),
        `similarity_gap_centered` (features minus their mean), `rankme`, `dim`; the same under
        `baselines` for `raw`, `pca` and `random`, of sound `mfcc`, `mel` and `random`. None where
        there are no labels. Where factors are numbers, such as ages, `r2` has the R² of ridge
        regression by their names. Samples without a label count in none of these.

    Raises:
        UserError: the data cannot be opened or does not fit the encoder.
    """
    return examine(run, data, labels_from=labels_from, test=test).table


@preserve_rng()
def examine(run: Run, data: Any = None, *, labels_from: Any = None, test: Any = None) -> Evaluation:
    """The figures of `evaluate` with the features they come from, for a report."""
    splits = open_for(run, data, labels_from, test)
    judged = [judge(str(run.config["method"]), run.encoder, splits), *baselines(run, splits)]
    splits = splits.labeled()
    if judged[0].figures["linear"] is None and (reason := _unprobed(splits)):
        notice(reason)
    return Evaluation(splits, judged, table(judged, splits) | {"run": run.config})


def baselines(run: Run, splits: Splits, names: Sequence[str] | None = None) -> list[Judged]:
    """What a run is compared with, on the same images.

    Args:
        run: whose own network, with random weights, is `random`.
        splits: the data.
        names: of raw (pixels), pca, ica, kmeans (fitted on training images), random and, of
            sound, mel, mfcc and "mfcc and deltas"; the usual ones unless given.
    """
    if names is None:
        names = (
            ("mfcc", "mel", "random")
            if isinstance(splits.modality, Audio)
            else ("raw", "pca", "random")
        )
    shape = splits.channels, splits.size
    made: dict[str, nn.Module] = {}
    for name in names:
        if name == "random":
            made[name] = random_of(run, splits)
        elif name == "raw":
            made[name] = _raw(splits)
        elif name in get_args(Kind):
            try:
                made[name] = Spectral(require_part(splits.modality, Audio).sample_rate, name)  # type: ignore[arg-type]
            except UserError as error:
                notice(str(error))
        else:
            pixels = math.prod(splits.train.x.shape[1:])
            made[name] = build(name, *shape, dim=min(FITTED_DIM, len(splits.train), pixels))
            few = torch.from_numpy(splits.train.x[:FITTED_ROWS])
            made[name].summary.fit(to_float(few, splits.range))  # type: ignore[operator, union-attr]
    return [judge(name, encoder, splits) for name, encoder in made.items()]


def random_of(run: Run, splits: Splits) -> nn.Module:
    """The run's own network with random weights."""
    name, args = run.inputs["encoder"], run.inputs["args"]
    with preserve_rng(RANDOM_SEED):
        if is_rebuildable(name, args):
            return build(name, splits.channels, splits.size, **args)
        return reinitialize(run.encoder)


def judge(title: str, encoder: nn.Module, splits: Splits) -> Judged:
    """All figures of one encoder on one data set."""
    started, splits = time.perf_counter(), splits.labeled()
    train, test = (embed(encoder, part.x, splits.range) for part in (splits.train, splits.test))
    shown = test if len(test) else train
    figures: dict[str, Any] = {
        "linear": None,
        "knn": None,
        "auc": None,
        "similarity_gap": None,
        "similarity_gap_centered": None,
        "rankme": _number(rankme(torch.from_numpy(shown[:RANKME_ROWS]))),
        "dim": train.shape[1],
    }
    if splits.target and len(test):
        y, y_test = splits.train.factors[splits.target], splits.test.factors[splits.target]
        if np.isin(y_test, y).any():
            probe = linear_probe(train, y, test, y_test)
            figures |= {
                "linear": probe.test,
                "linear_train": probe.train,
                "knn": knn_accuracy(train, y, test, y_test),
            }
        figures |= {
            "auc": _auc(test, y_test),
            "similarity_gap": _number(rsa.gap(test, y_test).gap),
            "similarity_gap_centered": _number(rsa.gap(test, y_test, "centered").gap),
        }
    numbers = [name for name in splits.numbers if splits.train.factors[name].dtype.kind == "f"]
    if numbers and len(test):
        figures["r2"] = {n: _number(probe_number(train, test, splits, n)) for n in numbers}
    figures["seconds"] = round(time.perf_counter() - started, 2)
    return Judged(title, train, test, figures)


def table(judged: list[Judged], splits: Splits) -> dict[str, Any]:
    """The figures of the first, with the others as its baselines."""
    first, *others = judged
    return first.figures | {
        "baselines": {other.title: other.figures for other in others},
        "data": splits.name,
        "test_data": splits.name if splits.test_from is None else name_of(splits.test_from),
        "target": splits.target,
        "n_train": len(splits.train),
        "n_test": len(splits.test),
        "mode": "eval",
        "cores": os.cpu_count(),
    }


def open_for(run: Run, given: Any, labels_from: Any = None, test: Any = None) -> Splits:
    """Data as a run's encoder takes it; what it was trained and tested on where none is given."""
    data = run.data if given is None else given
    if data is None:
        raise UserError(f"{run.path} was trained on an array in memory; give it again as data")
    if given is None and is_program(data):
        # A run folder may be a stranger's: no code is run because it says so.
        raise UserError(f"the data of {run.path} is loaded by a file; give it as --data {data}")
    if given is None and labels_from is None and not isinstance(data, Splits):
        labels_from = run.config.get("labels_from")
    recorded = run.config.get("test")
    if given is None and test is None and recorded and not isinstance(data, Splits):
        test = refuse_unopened(run.path, recorded)
    splits = open_data(data, like=run.modality, labels_from=labels_from, test=test)
    if given is None and len(splits.test) and run.config.get("images", 0) > len(splits.train):
        told = "the encoder has seen the test images in training, without their labels"
        notice(f"{told}; give --data of others for a stricter test")
    return splits.with_value_range(run.value_range_of(splits.train.x))


def _raw(splits: Splits) -> nn.Module:
    """The pixels; averaged down to 4,096 values where they are more, or the probe takes an hour."""
    raw = build("raw", splits.channels, splits.size)
    if raw.dim > RAW_DIM:  # type: ignore[operator]
        side = int(math.sqrt(RAW_DIM / splits.channels))
        raw = build(nn.Sequential(nn.AdaptiveAvgPool2d(side), raw), splits.channels, splits.size)
    return raw


def _unprobed(splits: Splits) -> str | None:
    """Why data with labels has no accuracy of a linear probe."""
    if splits.target is None and splits.numbers:
        told = f"{', '.join(splits.numbers)} of {splits.name} holds numbers, not classes"
        return f"{told}, so linear and k-NN are not measured; its R² is"
    apart = splits.name.partition(":")[0] in registry.listing("datasets")  # on purpose, there
    if splits.target not in (None, "shot") and len(splits.test) and not apart:
        return (
            f"no {splits.target} of the test {splits.noun} is among those of the training "
            f"{splits.noun}, so linear and k-NN are not measured; pairs are"
        )
    return None


def _auc(z: np.ndarray, y: np.ndarray) -> float | None:
    """Of pairs; None where all are of one kind."""
    try:
        return pairs(z, y).auc
    except UserError:
        return None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
