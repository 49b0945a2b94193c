"""What every study shares: experiments that keep their runs, and one page that reads as a lab.

A study is a file in this folder, or anybody's: a `TITLE`, a `LEAD`, the `DATA` it is about
(a name, or a function that gives them), the `CLAIMS` it tests, and a list `EXPERIMENTS`. Each
experiment is a function from the `Lab`, which trains or finds encoders, to a `Finding`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.datasets.base import Splits, open_data
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.evaluation.features import embed
from unlabeled.files import read_csv, write_bytes, write_json
from unlabeled.planning import estimate
from unlabeled.run import Run, load
from unlabeled.training import check_same, prepare, train, versions

NOT_A_NUMBER = re.compile(r"nan( ± nan)?( %)?")


@dataclass
class Table:
    """Rows of words and figures under a caption; a figure that is NaN is a dash."""

    caption: str
    columns: list[str]
    rows: list[list[str]]

    def __post_init__(self) -> None:
        self.rows = [
            [first, *("–" if NOT_A_NUMBER.fullmatch(cell) else cell for cell in cells)]
            for first, *cells in self.rows
        ]


@dataclass
class Finding:
    """What an experiment found.

    Args:
        figures: all numbers, for `results.json`.
        did: what was done, in a sentence or two.
        answer: two sentences drawn from the figures.
        tables: to be shown.
        pictures: title, and PNG or GIF (bytes) or SVG (str).
        claims: by number, whether it held here and why; None where that stays open.
    """

    figures: dict[str, Any]
    did: str
    answer: str
    tables: list[Table] = field(default_factory=list)
    pictures: list[tuple[str, bytes | str]] = field(default_factory=list)
    claims: dict[int, tuple[bool | None, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One question.

    Args:
        key: short name, for `--only`.
        title: of its section.
        question: what it asks.
        find: how it is answered.
        minutes: about how long its own trainings take on two cores.
    """

    key: str
    title: str
    question: str
    find: Callable[[Lab], Finding]
    minutes: float = 1.0


class Lab:
    """Trains each encoder once and keeps it.

    Args:
        out: folder of the study; its runs are in `runs`.
        data: the study's data.
        seeds: of the encoders that are trained more than once.
        quick: a first look: half of the training pictures, fewer epochs.
    """

    def __init__(self, out: Path, data: Splits, seeds: Sequence[int], quick: bool) -> None:
        if quick:
            rows = np.random.default_rng(0).permutation(len(data.train))[::2]
            data = replace(data, train=data.train.take(np.sort(rows)))
        self.out, self.data, self.seeds, self.quick = out, data, list(seeds), quick
        self._features: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def run(
        self,
        name: str,
        method: str,
        seed: int = 0,
        data: Splits | None = None,
        quick_epochs: int | None = None,
        **options: Any,
    ) -> Run:
        """The run of that name and seed: found, resumed, or trained.

        One that was found must have been made by the same recipe.

        Args:
            name: of its folder.
            method: as for `unlabeled.train`.
            seed: of everything random in it.
            data: other than the study's.
            quick_epochs: instead of the recipe's in a quick study.
            options: further arguments of `unlabeled.train`.
        """
        if self.quick and quick_epochs:
            options["epochs"] = quick_epochs
        folder = self.out / "runs" / (name if seed == 0 else f"{name}-seed{seed}")
        splits = self.data if data is None else data
        if (folder / "encoder.safetensors").is_file():
            check_same(folder, method, splits, seed=seed, **options)
            return load(folder)
        print(f"  training {folder.name}", file=sys.stderr)
        return train(method, splits, seed=seed, out=folder, resume=True, **options)

    def epochs_for(
        self, name: str, method: str, minutes: float, data: Splits | None = None, **options: Any
    ) -> int:
        """As many as fit the time by the first measurement of its steps; kept for resumed runs."""
        path = self.out / "epochs.json"
        known: dict[str, int] = json.loads(path.read_text()) if path.is_file() else {}
        if name not in known:
            job = prepare(method, self.data if data is None else data, **options)
            whole = estimate(job.method, job.splits, job.recipe, job.config["precision"], "auto")
            one = whole["seconds"] / job.recipe.epochs
            known[name] = max(1, round(60 * minutes / one))
            write_json(path, known)
        return known[name]

    def random(
        self,
        encoder: str = "small",
        seed: int = 0,
        data: Splits | None = None,
        **arguments: Any,
    ) -> nn.Module:
        """An encoder of that name with random weights, in eval mode."""
        splits = self.data if data is None else data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 + seed)
            return build(encoder, splits.channels, splits.size, **arguments).eval()

    def features(
        self, name: str, encoder: nn.Module, data: Splits | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features of the training and the test pictures, computed once for each name."""
        splits = self.data if data is None else data
        if name not in self._features:
            self._features[name] = (
                embed(encoder, splits.train.x, splits.range),
                embed(encoder, splits.test.x, splits.range),
            )
        return self._features[name]


def percent(values: Sequence[float]) -> str:
    """Mean of several seeds, and their deviation where there are several."""
    shares = 100 * np.array(values)
    spread = f" ± {shares.std(ddof=1):.1f}" if len(shares) > 1 else ""
    return f"{shares.mean():.1f}{spread}"


def run_study(
    study: ModuleType,
    out: Path,
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    seeds: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Do the experiments in order and write `results.json` and `report/index.html`.

    Encoders that were trained before are found again, so a second call trains nothing.

    Args:
        study: the module.
        out: its folder.
        quick: a first look in minutes: half of the training pictures, fewer epochs; kept apart in
            `out/quick`.
        only: keys of experiments; all unless given.
        seeds: how many of the main encoders are trained.
        resume: take findings that are there already, too.

    Raises:
        UserError: an experiment of that key is not in the study.
    """
    experiments: list[Experiment] = study.EXPERIMENTS
    known = [experiment.key for experiment in experiments]
    if unknown := set(only) - set(known):
        raise UserError(f"there is no experiment '{min(unknown)}'; choose of {', '.join(known)}")
    if seeds < 1:
        raise UserError(f"seeds is {seeds}, but must be at least 1")
    out = out / "quick" if quick else out
    out.mkdir(parents=True, exist_ok=True)
    data = open_data(study.DATA() if callable(study.DATA) else study.DATA)
    lab = Lab(out, data, range(seeds), quick)
    chosen = [e for e in experiments if not only or e.key in only]
    started, done, planned = time.perf_counter(), 0.0, sum(e.minutes for e in chosen)
    for number, experiment in enumerate(chosen, 1):
        spent = time.perf_counter() - started
        left = f", about {(planned - done) * spent / done / 60:.0f} min left" if done else ""
        told = f"[{number}/{len(chosen)}] {experiment.key} {experiment.title}"
        print(f"{told} · {spent / 60:.0f} min{left}", file=sys.stderr)
        place = out / "findings" / experiment.key
        record = {"quick": quick, "seeds": seeds}
        if not (resume and _known(place, record)):
            finding = experiment.find(lab)
            if quick:  # too little was trained to say
                finding.claims = {n: (None, why) for n, (_, why) in finding.claims.items()}
            _keep(place, finding, record)
            _publish(study, lab, seeds, started)  # so that a stopped study shows what it found
        done += experiment.minutes
    return _publish(study, lab, seeds, started)


def _publish(study: ModuleType, lab: Lab, seeds: int, started: float) -> dict[str, Any]:
    """Write `results.json` and the page, from all findings that there are."""
    out, experiments = lab.out, study.EXPERIMENTS
    known = [experiment.key for experiment in experiments]
    findings = {
        key: _read(out / "findings" / key) for key in known if _known(out / "findings" / key)
    }
    result = {
        "study": study.TITLE,
        "experiments": {key: finding.figures for key, finding in findings.items()},
        "claims": {
            str(number): {"claim": study.CLAIMS[number], "held": held, "why": why, "where": key}
            for key, finding in findings.items()
            for number, (held, why) in finding.claims.items()
        },
        "seeds": seeds,
        "quick": lab.quick,
        "cores": os.cpu_count(),
        "versions": versions(),
        "command": _command(study, lab, seeds),
        "minutes": {
            config.parent.relative_to(out / "runs").as_posix(): round(minutes_of(config.parent), 2)
            for config in sorted((out / "runs").rglob("config.json"))
        },
        "seconds_in_all": round(time.perf_counter() - started),
    }
    write_json(out / "results.json", result)
    from unlabeled.report.study import write_page

    write_page(study, [e for e in experiments if e.key in findings], findings, result, out)
    return result


def _command(study: Any, lab: Lab, seeds: int) -> str:
    """What one types to have all of it."""
    flags = " --quick" * lab.quick + f" --seeds {seeds}" * (seeds > 1)
    return f"unlabeled study {study.__name__.rpartition('.')[2]}{flags}"


def minutes_of(run: Path) -> float:
    """That a training took, by the speed of each epoch."""
    table = run / "metrics.csv"
    speeds = read_csv(table).get("pictures_per_second", []) if table.is_file() else []
    pictures = json.loads((run / "config.json").read_text()).get("pictures", 0)
    return sum(pictures / speed for speed in speeds if speed > 0) / 60  # before the first: NaN


def _keep(place: Path, finding: Finding, record: dict[str, Any]) -> None:
    """Write a finding: its pictures as files, the rest as JSON, the latter last."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    files = []
    for number, (title, content) in enumerate(finding.pictures):
        name = f"{number:02}-{re.sub(r'[^a-z0-9]+', '-', title.lower())[:60]}"
        data = content.encode() if isinstance(content, str) else content
        name += ".svg" if isinstance(content, str) else ".gif" if data[:3] == b"GIF" else ".png"
        write_bytes(place / name, data)
        files.append([title, name])
    told = {
        "record": record,
        "figures": finding.figures,
        "did": finding.did,
        "answer": finding.answer,
        "tables": [[t.caption, t.columns, t.rows] for t in finding.tables],
        "pictures": files,
        "claims": {str(n): list(held) for n, held in finding.claims.items()},
    }
    write_json(place / "finding.json", told)


def _known(place: Path, record: dict[str, Any] | None = None) -> bool:
    path = place / "finding.json"
    return path.is_file() and record in (None, json.loads(path.read_text())["record"])


def _read(place: Path) -> Finding:
    content = json.loads((place / "finding.json").read_text())
    pictures: list[tuple[str, bytes | str]] = [
        (
            title,
            (place / name).read_text() if name.endswith(".svg") else (place / name).read_bytes(),
        )
        for title, name in content["pictures"]
    ]
    return Finding(
        content["figures"],
        content["did"],
        content["answer"],
        [Table(*table) for table in content["tables"]],
        pictures,
        {int(n): (held, why) for n, (held, why) in content["claims"].items()},
    )
