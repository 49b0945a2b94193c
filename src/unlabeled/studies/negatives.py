"""Negatives: how many does SimCLR need, and what does its denominator hold?"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unlabeled.evaluation import rsa
from unlabeled.evaluation.probe import linear_probe
from unlabeled.report import figures, plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, number, percent
from unlabeled.studies.side_by_side import Training
from unlabeled.training.health import feature_std, rankme

TITLE = "Negatives: how many does SimCLR need?"
LEAD = (
    "SimCLR contrasts each view of an image with views of all other images of its batch. The "
    "tutorial reports that two negatives instead of all cost 23 points of a linear probe. Here is "
    "the curve: with the positive in the denominator of the loss, as in the paper, and without it, "
    "as in the tutorial's code."
)
DATA = "dsprites"
CLAIMS = {8: "Negatives keep SimCLR from collapse."}
DENOMINATORS = ("paper", "tutorial")
NETWORKS: dict[str, dict[str, Any]] = {
    "small": {},
    "lenet": {"encoder": "lenet", "optimizer": "adam", "lr": 2e-3, "temperature": 0.2},
}
QUICK_DECIDES = True


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    #: numbers of negative images for each view; None is all others of the batch
    counts: tuple[int | None, ...] = (0, 1, 2, 4, 16, None)
    epochs: int = 12


SETTINGS = Settings()
QUICK = Settings(counts=(0, 2, None), epochs=6)


def trainings(lab: Lab, keys: Sequence[str]) -> list[Training]:
    """Trainings that these experiments need."""
    return [
        training(lab, network, denominator, count, seed)
        for network in NETWORKS
        if KEYS[network] in keys
        for denominator in DENOMINATORS
        for count in lab.settings.counts
        for seed in lab.seeds
    ]


def training(lab: Lab, network: str, denominator: str, count: int | None, seed: int) -> Training:
    """SimCLR with some negatives; without any, the denominator does not matter."""
    denominator = denominator if count != 0 else "paper"
    name = f"{network}-{denominator}-{name_of(count)}"
    options = {"negatives": count, "denominator": denominator, "epochs": lab.settings.epochs}
    return Training(name, "simclr", seed, None, NETWORKS[network] | options)


def name_of(count: int | None) -> str:
    return "all" if count is None else str(count)


def features(lab: Lab, of: Training) -> tuple[np.ndarray, np.ndarray]:
    return lab.features(f"{of.name} {of.seed}", lambda: lab.trained(of).encoder)


def measure(lab: Lab, of: Training) -> dict[str, Any]:
    """Linear probe, effective rank and spread of the features, and similarities of pairs."""
    z, z_test = features(lab, of)
    y, y_test = lab.labels("shape")
    return {
        "probe": linear_probe(z, y, z_test, y_test).test,
        "rankme": rankme(torch.from_numpy(z_test)),
        "std": feature_std(torch.from_numpy(z_test)),
        "gap": rsa.gap(z_test, y_test, "centered").gap,
    }


def curve(lab: Lab, network: str) -> Finding:
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for denominator in DENOMINATORS:
        results[denominator] = {}
        for count in lab.settings.counts:
            seeds = [measure(lab, training(lab, network, denominator, count, s)) for s in lab.seeds]
            by_key = {key: [one[key] for one in seeds] for key in seeds[0]}
            results[denominator][name_of(count)] = by_key
    random = lab.probe(f"random {network}", lab.random(network), "shape").test
    lines = {
        denominator: (
            list(range(len(results[denominator]))),
            [statistics.fmean(f["probe"]) for f in results[denominator].values()],
        )
        for denominator in DENOMINATORS
    }
    rows = {f"{name}, {d}": f for d in DENOMINATORS for name, f in results[d].items()}
    formats = {"probe": ".2%", "gap": ".3f", "rankme": ".1f", "std": ".3f"}
    columns = ["linear probe %", "mean-centered gap", "RankMe", "std"]
    table = Table.of("By number of negatives and denominator", columns, rows, formats)
    drops = {
        d: statistics.fmean(results[d]["all"]["probe"]) - statistics.fmean(results[d]["2"]["probe"])
        for d in DENOMINATORS
    }
    none, every = (results["paper"][name]["probe"] for name in ("0", "all"))
    images: list[tuple[str, bytes | str]] = [
        ("linear probe accuracy by number of negatives", numbered_image(lab, lines))
    ]
    for denominator in DENOMINATORS:
        for count in lab.settings.counts:
            of = training(lab, network, denominator, count, lab.seeds[0])
            z_test = features(lab, of)[1]
            bars = rsa.histograms(z_test, lab.labels("shape")[1], "centered")
            title = f"{name_of(count)} negatives, {denominator}: similarities of pairs"
            images.append((title, plots.histogram_image(*bars)))
    return Finding(
        {"curve": results, "drop_of_two": drops, "random": random},
        f"{lab.settings.epochs} epochs each, batches of 64 images (all: 63 other images, two views "
        "each). Without any negative, only the attraction of the two views remains.",
        f"Linear probe accuracy is {percent(every)} % with all negatives, {percent(none)} % "
        f"without any, and {percent(random)} % for random weights. Two negatives cost "
        f"{100 * drops['paper']:.1f} points with the paper's denominator and "
        f"{100 * drops['tutorial']:.1f} with the tutorial's.",
        [table],
        images,
        {
            8: (
                statistics.fmean(every) - statistics.fmean(none) > 0.15,
                f"{percent(every)} % with all, {percent(none)} % without; spread of the features "
                f"{number(results['paper']['all']['std'], '.2f')} and "
                f"{number(results['paper']['0']['std'], '.3f')}",
            )
        }
        if network == "small"
        else {},
    )


def numbered_image(lab: Lab, lines: dict[str, tuple[list[int], list[float]]]) -> str:
    """SVG of accuracies at equal distances, with the numbers of negatives below."""
    figure = figures.curves(lines, xlabel="negative images", ylabel="accuracy")
    axes = figure.axes[0]
    axes.set_xticks(range(len(lab.settings.counts)), [name_of(c) for c in lab.settings.counts])
    return plots.svg(figure)


KEYS = {"small": "N1", "lenet": "N2"}
EXPERIMENTS = [
    Experiment("N1", "Pooled network", "How many negatives does the small network need?",
               functools.partial(curve, network="small"), 30),
    Experiment("N2", "LeNet", "And the tutorial's LeNet?",
               functools.partial(curve, network="lenet"), 30),
]  # fmt: skip
