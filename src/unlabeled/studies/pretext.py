"""Pretext tasks: what is learnt by answering questions that need no teacher?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unlabeled.core import Batch
from unlabeled.datasets.base import Splits, open_data, to_float
from unlabeled.evaluation.factors import probe_factors
from unlabeled.evaluation.few_label import few_labels
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.report import plots
from unlabeled.run import Run
from unlabeled.studies.study import Experiment, Finding, Lab, Table
from unlabeled.training import reopen

TITLE = "Pretext tasks: questions that pictures answer themselves"
LEAD = (
    "Which way is up? What is hidden there, what colour was it? Whoever can answer has had to look "
    "at what is shown. How much of that is worth something for another question?"
)
DATA = "cifar10"
CLAIMS = {11: "Features of a pretext task are tied to it."}
MINUTES, QUICK_MINUTES = 4.0, 0.25
LABELS = "1%"
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rotation": ("rotation", {}),
    "relative patch": ("relative_patch", {}),
    "relative patch, no gap": ("relative_patch", {"share": 1.0}),
    "jigsaw": ("jigsaw", {}),
    "context encoder": ("context_encoder", {}),
    "context encoder, no critic": ("context_encoder", {"adversary": 0.0}),
    "colorization": ("colorization", {}),
    "denoising": ("denoising_autoencoder", {}),
    "masked autoencoder": ("masked_autoencoder", {}),
}
BESIDE: dict[str, tuple[str, dict[str, Any]]] = {
    "SimCLR": ("simclr", {}),
    "supervised": ("supervised", {}),
}
CHANCE = {"rotation": 1 / 4, "relative_patch": 1 / 8, "jigsaw": 1 / 64}
ON_SPRITES = ("rotation", "relative patch", "jigsaw", "context encoder", "denoising", "SimCLR")


def trained(lab: Lab, title: str, data: Splits | None = None) -> Run:
    """The run of a task, for the same time as all others."""
    method, options = (TASKS | BESIDE)[title]
    name = title.replace(", ", "-").replace(" ", "-").lower()
    name = name if data is None else f"{name}-{data.name}"
    minutes = QUICK_MINUTES if lab.quick else MINUTES
    epochs = lab.epochs_for(name, method, minutes, data, **options)
    return lab.run(name, method, data=data, epochs=epochs, **options)


@torch.no_grad()
def answered(lab: Lab, run: Run, pictures: int = 4000) -> float | None:
    """Share of the questions about test pictures that are answered rightly, where there are any."""
    method: Any = reopen(run)
    if not hasattr(method, "scores") or run.config["method"] not in CHANCE:
        return None
    right: list[np.ndarray] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for start in range(0, min(pictures, len(lab.data.test)), 500):
            x = to_float(torch.from_numpy(lab.data.test.x[start : start + 500]), lab.data.range)
            seen, answer = method.views(Batch(x, torch.arange(len(x))))
            right.append((method.scores(seen).argmax(1) == answer).numpy())
    return float(np.concatenate(right).mean())


def p1(lab: Lab) -> Finding:
    target = str(lab.data.target)
    y, y_test = (part.factors[target] for part in (lab.data.train, lab.data.test))
    found: dict[str, dict[str, Any]] = {}
    pictures: list[tuple[str, bytes | str]] = []
    for title in (*TASKS, *BESIDE, "random"):
        run = None if title == "random" else trained(lab, title)
        z, z_test = lab.features(title, lab.random() if run is None else run.encoder)
        found[title] = {
            "linear": linear_probe(z, y, z_test, y_test).test,
            "knn": knn_accuracy(z, y, z_test, y_test),
            "few": few_labels(z, y, z_test, y_test, LABELS).test,
            "epochs": 0 if run is None else run.config["recipe"]["epochs"],
            "answered": None if run is None else answered(lab, run),
            "chance": None if run is None else CHANCE.get(run.config["method"]),
        }
        if run is not None and title in TASKS:
            sheets = plots.made_pictures(reopen(run), lab.data, pictures=8)
            pictures += [(f"{title}: {what}", sheet) for what, sheet in sheets.items()]
    random = found["random"]["linear"]
    above = [t for t in TASKS if found[t]["linear"] > random + 0.05]
    best = max(TASKS, key=lambda t: found[t]["linear"])

    def share(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f}"

    return Finding(
        {"tasks": found, "above_random": above},
        f"Each task trains the same small network on {len(lab.data.train):,} pictures for about "
        f"{QUICK_MINUTES if lab.quick else MINUTES:g} minutes. Then its features are asked what is "
        "shown: by a linear decoder, by the nearest neighbours, and with 1 % of the labels.",
        f"{best} reads best, {100 * found[best]['linear']:.1f} %, where SimCLR gives "
        f"{100 * found['SimCLR']['linear']:.1f} %, labels {100 * found['supervised']['linear']:.1f}"
        f" % and random weights {100 * random:.1f} %. At least five points above random are "
        f"{', '.join(above) or 'none'}.",
        [
            Table(
                "By task: its own question, and what is shown",
                ["", "answered %", "chance %", "linear %", "k-NN %", "1 % of labels", "epochs"],
                [
                    [
                        title,
                        share(f["answered"]),
                        share(f["chance"]),
                        *(share(f[k]) for k in ("linear", "knn", "few")),
                        str(f["epochs"]),
                    ]
                    for title, f in found.items()
                ],
            )
        ],
        pictures,
    )


def p2(lab: Lab) -> Finding:
    sprites = open_data("dsprites")
    kept: dict[str, dict[str, float]] = {}
    for title in (*ON_SPRITES, "random"):
        if title == "random":
            encoder = lab.random(data=sprites)
        else:
            encoder = trained(lab, title, sprites).encoder
        z, z_test = lab.features(f"{title}, sprites", encoder, sprites)
        kept[title] = probe_factors(z, z_test, sprites)
    factors = list(sprites.train.factors)
    values = {f: [kept[t][f] for t in ON_SPRITES] for f in factors}
    spread = {f: max(v) - min(v) for f, v in values.items()}
    most = max(spread, key=lambda f: spread[f])
    best, worst = (pick(ON_SPRITES, key=lambda t: kept[t][most]) for pick in (max, min))
    return Finding(
        {"kept": kept},
        "The same tasks learn from sprites, whose every factor is known. A linear decoder reads "
        "the shape (accuracy) and the numbers (R²) from the features of each.",
        f"They keep most unlike amounts of {most}: {best} {kept[best][most]:.2f}, {worst} "
        f"{kept[worst][most]:.2f}.",
        [
            Table(
                "What is kept of each factor: shape in %, others R²",
                ["", *factors],
                [
                    [
                        t,
                        f"{100 * f['shape']:.1f}",
                        *(f"{f[k]:.2f}" for k in factors if k != "shape"),
                    ]
                    for t, f in kept.items()
                ],
            )
        ],
        claims={
            11: (
                spread[most] > 0.3,
                f"{most} is kept by {kept[best][most]:.2f} ({best}) to {kept[worst][most]:.2f} "
                f"({worst}), by what the task asks for",
            )
        },
    )


EXPERIMENTS = [
    Experiment("P1", "All tasks", "What is each worth for another question?", p1, 55),
    Experiment("P2", "Tied to the task", "Which factors does each keep?", p2, 30),
]
