"""What every study shares: experiments that keep their runs, and one page that reads as a lab.

A study is a file in this folder, or anybody's: a `TITLE`, a `LEAD`, the `DATA` it is about
(a name, or a function that gives them), the `CLAIMS` it tests, and a list `EXPERIMENTS`. Each
experiment is a function from the `Lab`, which trains or finds encoders, to a `Finding`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.data.dataset import Splits
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.runs.run import Run, load
from unlabeled.training.planning import estimate
from unlabeled.training.prepare import prepare
from unlabeled.training.train import check_same, train
from unlabeled.utils.files import write_json

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
        images: title, and PNG or GIF (bytes) or SVG (str).
        claims: by number, whether it held here and why; None where that stays open.
    """

    figures: dict[str, Any]
    did: str
    answer: str
    tables: list[Table] = field(default_factory=list)
    images: list[tuple[str, bytes | str]] = field(default_factory=list)
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
        quick: a first look: half of the training images, fewer epochs.
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
        """Features of the training and the test images, computed once for each name."""
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
