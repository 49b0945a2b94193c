"""Compare encoders on the same samples: seeds are grouped, differences tested, features stored."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled import registry
from unlabeled.data.dataset import Splits
from unlabeled.data.open import name_of, open_data
from unlabeled.encoders.base import is_rebuildable
from unlabeled.encoders.external import is_external
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError, notice
from unlabeled.evaluation import stored
from unlabeled.evaluation.baselines import random_of
from unlabeled.evaluation.evaluate import compute, open_for, settings_of, values_of
from unlabeled.evaluation.metric import Subject, Value
from unlabeled.evaluation.metrics import find_metrics, in_order
from unlabeled.evaluation.seeds import Candidate, Estimate, PairTest, best_of, compare_pairs
from unlabeled.evaluation.similarity import similarity_of_encoders
from unlabeled.modality import Text
from unlabeled.runs.adapt import common_opening
from unlabeled.runs.run import Run, load, with_opening
from unlabeled.runs.safety import check_inputs, inside, read_json
from unlabeled.utils.state import preserve_rng

HOW_MADE = ("versions", "views", "command", "hardware", "in_memory", "resumed")
"""Fields of the configuration that do not determine the result."""
SIMILARITY_ROWS = 1_000
"""Maximum number of samples whose features are compared."""
RANDOM = "random"
"""The name of a trained run's encoder with random weights."""
MEASURES = {"cka_debiased": "CKA (debiased)", "rsa": "RSA"}
"""Titles of the measures of similarity of encoders, by key."""


@dataclass
class Measured:
    """A run on the data that all runs are compared on.

    Args:
        run: the run.
        metrics: by their keys.
        correct: by the key of a metric, which test samples are answered correctly, (m,).
        settings: of its probes, by the keys of metrics.
        features: of up to 1,000 samples, the same for all runs, (k, dim).
        groups: the group of each test sample, (m,); None if ungrouped.
    """

    run: Run
    metrics: dict[str, Value]
    correct: dict[str, np.ndarray]
    settings: dict[str, dict[str, Any]]
    features: np.ndarray
    groups: np.ndarray | None = None


@dataclass
class Comparison:
    """Encoders that were measured on the same data.

    Args:
        about: `data`, `test_data`, `target`, `n_train`, `n_test`, `n_test_groups`, `noun`.
        runs: by name.
        groups: names of the runs of each column of the tables: the seeds of a configuration, or an
            encoder by name.
        tests: of the pairs of groups.
        best: by metric, the group that is significantly better than the next.
        similarity: of the features of each two runs in their order, by measure, (k, k).
    """

    about: dict[str, Any]
    runs: dict[str, Measured]
    groups: dict[str, list[str]]
    tests: list[PairTest] = field(default_factory=list)
    best: dict[str, str] = field(default_factory=dict)
    similarity: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        candidates = {
            name: Candidate(
                [self.runs[run].metrics for run in runs],
                [self.runs[run].correct for run in runs],
                _is_draw(self.runs[runs[0]].run),
            )
            for name, runs in self.groups.items()
        }
        self.tests = compare_pairs(candidates, next(iter(self.runs.values())).groups)
        self.best = best_of(candidates, self.tests)
        features = {name: measured.features for name, measured in self.runs.items()}
        if min(map(len, features.values())) >= 4:
            self.similarity = similarity_of_encoders(features, tuple(MEASURES))

    @property
    def results(self) -> dict[str, dict[str, Estimate]]:
        """Metrics of the groups, by name."""
        entries = {}
        for name, runs in self.groups.items():
            metrics = [self.runs[run].metrics for run in runs]
            entries[name] = {
                key: Estimate.over([m[key] for m in metrics if key in m], metric.percent)
                for key, metric in in_order(metrics).items()
            }
        return entries

    def to_json(self) -> dict[str, Any]:
        """What `compare` returns."""
        encoders = {
            name: {
                "runs": runs,
                "seeds": [self.runs[run].run.config.get("seed") for run in runs],
                "metrics": {key: asdict(value) for key, value in self.results[name].items()},
            }
            for name, runs in self.groups.items()
        }
        runs = {
            name: {
                "source": measured.run.source,
                "metrics": {key: asdict(value) for key, value in measured.metrics.items()},
                "config": measured.run.config,
            }
            for name, measured in self.runs.items()
        }
        tests = []
        for test in self.tests:
            row = asdict(test)
            difference = row.pop("difference")
            tests.append(row | {"difference": difference.pop("value")} | difference)
        similarity = {key: matrix.tolist() for key, matrix in self.similarity.items()}
        return {
            **self.about,
            "encoders": encoders,
            "best": self.best,
            "differences": tests,
            "settings": {name: measured.settings for name, measured in self.runs.items()},
            "similarity": {"encoders": list(self.runs), **similarity},
            "runs": runs,
        }


@preserve_rng()
def compare_runs(
    runs: Sequence[Run | str | Path],
    data: Any = None,
    *,
    labels_from: Any = None,
    test: Any = None,
    groups_from: Any = None,
    encoder: Any = None,
    size: int | None = None,
    tile: int | None = None,
    max_pixels: int | None = None,
) -> Comparison:
    """Measure runs on the same data, group their seeds, and test their differences.

    Args:
        runs: run folders, runs, or encoders by name, two or more.
        data: the data to evaluate on (default: that of the first trained run).
        labels_from: source of labels of samples in files, as for `unlabeled.train`.
        test: other data to test on, as for `unlabeled.train`.
        groups_from: what samples have in common, as for `unlabeled.train` (default: the first
            trained run's, if `data` is omitted, too).
        encoder: of the runs whose encoder is the user's own, as for `unlabeled.load`.
        size: side in pixels of the images that encoders by name receive, as for `unlabeled.load`.
        tile: side of the squares that larger images in files are cut into for all encoders
            (default: as in the training of the first trained run).
        max_pixels: of images in files, likewise.

    Raises:
        UserError: there are fewer than two, one is given twice, the data does not fit them, or
            their test samples are not the same.
    """
    if len(runs) < 2:
        raise UserError(
            "give at least two run folders or encoders to compare, such as runs/simclr histogram"
        )
    opened = _opened(runs, encoder, size)
    trained = [run for run in opened if run is not None and run.is_trained]
    opening = common_opening([run for run in opened if run], trained, tile, max_pixels)
    known: dict[str, _Data] = {}
    if data is None:
        if not trained:
            raise UserError("none of the encoders was trained here on any data; give --data")
        first = with_opening(trained[0], opening)
        known[_form(first)] = _Data(open_for(first, None, labels_from, test, groups_from).labeled())
        _say_others(first, trained)
        data = first.data
        if not isinstance(data, Splits):
            labels_from = first.config.get("labels_from") if labels_from is None else labels_from
            test = first.config.get("test") if test is None else test
            if groups_from is None and (groups_from := first.config.get("groups_from")):
                notice(f"samples are grouped by {groups_from}, as in the training of {first.path}")
    if None in opened:  # encoders that are fitted see the training part alone
        made_for = open_data(
            data, labels_from=labels_from, test=test, groups_from=groups_from,
            tile=opening.tile, max_pixels=opening.max_pixels,
        )  # fmt: skip
    loaded = [
        with_opening(run or _made(str(name), made_for, size, trained), opening)
        for run, name in zip(opened, runs, strict=True)
    ]
    names = _names(loaded)
    for run in loaded:
        if _form(run) not in known:
            known[_form(run)] = _Data(open_for(run, data, labels_from, test, groups_from).labeled())
    _refuse_others({name: known[_form(run)] for name, run in zip(names, loaded, strict=True)})
    measured = {
        name: _measure(run, known[_form(run)]) for name, run in zip(names, loaded, strict=True)
    }
    splits = known[_form(loaded[0])].splits
    groups = splits.test.group_codes()
    about = {
        "data": splits.name,
        "test_data": splits.name if splits.test_from is None else name_of(splits.test_from),
        "target": splits.target,
        "n_train": len(splits.train),
        "n_test": len(splits.test),
        "n_test_groups": None if groups is None else len(set(groups.tolist())),
        "noun": splits.noun,
    }
    return Comparison(about, measured, _groups(measured))


class _Data:
    """Data in the form that some encoders receive, with hashes of its content.

    Args:
        splits: the labeled samples.
    """

    def __init__(self, splits: Splits) -> None:
        self.splits = splits
        self.parts = {"train": splits.train, "test": splits.test}
        self.samples = {k: stored.digest_of_samples(part) for k, part in self.parts.items()}
        self.labels = {k: stored.digest_of_labels(part) for k, part in self.parts.items()}

    @property
    def identity(self) -> str:
        """A hash that identifies the samples in any form; of texts, it depends on the tokens."""
        is_text = isinstance(self.splits.modality, Text)
        names = [(len(part), part.names) for part in self.parts.values()]
        return stored.digest(names, self.labels, self.samples if is_text else None)


def _form(run: Run) -> str:
    """A key of the form in which a run opens data."""
    return str(run.inputs["modality"])


def _opened(runs: Sequence[Run | str | Path], encoder: Any, size: int | None) -> list[Run | None]:
    """The runs, with None for an encoder that depends on the data.

    Raises:
        UserError: one cannot be opened, or `encoder` or `size` applies to none.
    """
    folders = [None if isinstance(run, Run) else Path(run).expanduser() for run in runs]
    by_name = [folder is not None and not folder.is_dir() for folder in folders]
    own = [folder is not None and _is_own(folder) for folder in folders]
    if size is not None and not any(by_name):
        raise UserError("--size is for encoders by name, and these are run folders; omit --size")
    if encoder is not None and not any(own):
        raise UserError(
            "--encoder is for runs whose encoder is your own, and none of these has one; omit "
            "--encoder"
        )
    opened: list[Run | None] = []
    for run, is_named, needs_encoder in zip(runs, by_name, own, strict=True):
        if isinstance(run, Run):
            opened.append(run)
        elif is_named and str(run) in (RANDOM, *registry.listing("encoders")):
            opened.append(None)
        elif is_named:
            opened.append(load(run, size=size))
        else:
            opened.append(load(run, encoder if needs_encoder else None))
    return opened


def _made(name: str, splits: Splits, size: int | None, trained: list[Run]) -> Run:
    """An encoder by name for that data; `random` is the first trained run's with random weights."""
    if name != RANDOM:
        return load(name, data=splits, size=size)
    if not trained:
        raise UserError(f"{RANDOM} is the encoder of a trained run with random weights; give a run")
    first = trained[0]
    config = {"method": RANDOM, "data": None, "encoder": RANDOM, "size": None, "images": 0}
    tokenizer = first.modality.tokenizer if isinstance(first.modality, Text) else ""
    network = random_of(first, open_data(splits, like=first.modality))
    return Run(
        Path("runs") / RANDOM, network, config, first.inputs, tokenizer=tokenizer, source=RANDOM
    )


def _is_own(folder: Path) -> bool:
    """Whether a run folder needs code of the user's own."""
    if not (folder / "encoder.json").is_file():
        return False
    inputs = check_inputs(read_json(inside(folder, "encoder.json")))
    return not is_rebuildable(inputs["encoder"], inputs["args"])


def _refuse_others(data: dict[str, _Data]) -> None:
    """Raise UserError if two runs would not be evaluated on the same samples."""
    (first, one), *rest = data.items()
    for name, other in rest:
        if other.identity != one.identity:
            n, m = len(one.splits.test), len(other.splits.test)
            raise UserError(
                f"the {n:,} test {one.splits.noun} of {first} are not the {m:,} of {name}, because "
                "their encoders receive the data in other pieces; compare runs that receive the "
                "same ones, such as texts in the same tokens"
            )


def _is_draw(run: Run) -> bool:
    """Whether the encoder depends on a random seed."""
    has_weights = any(True for _ in run.encoder.parameters())
    return run.is_trained or (has_weights and not is_external(run.source))


def _say_others(first: Run, trained: list[Run]) -> None:
    others = [run for run in trained if _data_of(run) != _data_of(first)]
    if others:
        notice(
            f"all are evaluated on the data of {first.path}, {name_of(first.data)}; "
            f"{', '.join(str(run.path) for run in others)} had other data, groups or tiles in "
            "training"
        )


def _data_of(run: Run) -> list[Any]:
    keys = ("data", "test", "groups_from", "tile", "max_pixels")
    return [run.config.get(key) for key in keys]


def _names(runs: list[Run]) -> list[str]:
    """Names of folders, with as many parents as make them unique, and encoders by their name."""
    parts = [
        run.path.resolve().parts if run.is_trained else ("", f"{run.source}{_side(run)}")
        for run in runs
    ]
    if len(set(parts)) < len(parts):
        raise UserError("the same run is given twice; give each run once")
    for depth in range(1, max(map(len, parts)) + 1):
        names = [printable("/".join(p[-depth:])) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{i + 1}: {name}" for i, name in enumerate(names)]


def _side(run: Run) -> str:
    size = run.config.get("size")
    return f" at {size} px" if size else ""


def printable(name: str) -> str:
    """The name in one line; unprintable characters become question marks."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _measure(run: Run, data: _Data) -> Measured:
    """A run's metrics and correct answers, cached for the same weights and data."""
    splits, encoder = data.splits, stored.digest_of_encoder(run)

    def features(name: str) -> np.ndarray:
        def compute() -> dict[str, np.ndarray]:
            return {"features": embed(run.encoder, data.parts[name].x, splits.value_range)}

        key = encoder and stored.digest(encoder, data.samples[name])
        return stored.stored(key, compute)["features"]

    def measure() -> dict[str, np.ndarray]:
        subject = Subject(str(run.config["method"]), splits, run.encoder, run)
        subject.train, subject.test = features("train"), features("test")
        metrics = {key: asdict(value) for key, value in compute(subject).items()}
        correct = {
            f"correct_{metric.key}": answers
            for metric in find_metrics()
            if metric.applies(subject) and (answers := metric.correct(subject)) is not None
        }
        shown = subject.shown
        rows = np.random.default_rng(0).permutation(len(shown))[:SIMILARITY_ROWS]
        settings = {key: setting.to_json() for key, setting in settings_of(subject).items()}
        texts = {"metrics": metrics, "settings": settings}
        written = {name: np.array(json.dumps(text)) for name, text in texts.items()}
        return {**written, "features": shown[rows], **correct}

    content = data.samples, data.labels, splits.target
    digest = encoder and stored.digest(encoder, stored.digest_of_method(run), content)
    measured = stored.stored(digest, measure)
    correct = {
        key.removeprefix("correct_"): value
        for key, value in measured.items()
        if key.startswith("correct_")
    }
    metrics = values_of(json.loads(str(measured["metrics"])))
    groups = splits.test.group_codes()
    settings = json.loads(str(measured["settings"]))
    return Measured(run, metrics, correct, settings, measured["features"], groups)


def _groups(measured: dict[str, Measured]) -> dict[str, list[str]]:
    """The names of the runs of each group, the seeds of a configuration."""
    groups: dict[str, list[str]] = {}
    seeds: dict[str, set[Any]] = {}
    for name, one in measured.items():
        config = one.run.config
        rest = {key: value for key, value in config.items() if key not in ("seed", *HOW_MADE)}
        if isinstance(settings := rest.pop("settings", {}), dict):
            rest["trainer"] = settings.get("trainer")
        key = json.dumps(rest, sort_keys=True, default=str) if one.run.is_trained else name
        while config.get("seed") in seeds.get(key, set()):  # trained twice, or copied
            key += " again"
        seeds.setdefault(key, set()).add(config.get("seed"))
        groups.setdefault(key, []).append(name)
    titles: dict[str, list[str]] = {}
    for names in groups.values():
        title = _common(names)
        titles[title if title not in titles and title not in measured else names[0]] = names
    return titles


def _common(names: list[str]) -> str:
    """The common prefix of the names of seeds: simclr-0, simclr-1 -> simclr."""
    if len(names) == 1:
        return names[0]
    start = names[0]
    while not all(name.startswith(start) for name in names):
        start = start[:-1]
    if all(re.match(r"\d", name[len(start) :]) for name in names):
        start = start.rstrip("0123456789")
    start = re.sub(r"([\W_]+(seed|s)?|^seed)[\W_]*$", "", start)
    return f"{start or names[0]} ({len(names)} seeds)"
