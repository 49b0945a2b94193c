"""Verification and one-shot classification of characters of unseen alphabets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from unlabeled.data.sets.omniglot import one_shot_runs
from unlabeled.encoders.base import build
from unlabeled.evaluation.verification import Nearness, Pairs, one_shot, pairs
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table

TITLE = "Verification of characters of unseen alphabets"
LEAD = (
    "Do two images show the same person, if neither was in the training data? Here the images are "
    "characters of 20 alphabets, and encoders are trained on 30 others."
)
DATA = "omniglot"
CLAIMS: dict[int, str] = {}
WAYS = 20
NEAR: dict[str, Nearness] = {"Siamese": "euclidean"}
"""Siamese learns Euclidean distances; the others are compared by cosine similarity."""


def siamese(lab: Lab) -> nn.Module:
    return lab.run("siamese", "siamese", quick_epochs=3).encoder


def supervised_contrastive(lab: Lab) -> nn.Module:
    options: dict[str, Any] = {"epochs": 40, "batch_size": 128, "schedule": "one_cycle"}
    return lab.run("supcon", "supervised_contrastive", quick_epochs=3, **options).encoder


def simclr(lab: Lab) -> nn.Module:
    options: dict[str, Any] = {"epochs": 40, "batch_size": 128, "schedule": "one_cycle"}
    return lab.run("simclr", "simclr", quick_epochs=3, temperature=0.2, **options).encoder


ENCODERS: dict[str, Callable[[Lab], nn.Module]] = {
    "Siamese": siamese,
    "supervised contrastive": supervised_contrastive,
    "SimCLR, no labels": simclr,
    "random": Lab.random,
    "pixels": lambda lab: build("raw", lab.data.channels, lab.data.size),
}


def v1(lab: Lab) -> Finding:
    test = lab.data.test
    y, runs = test.factors["character"], one_shot_runs()
    figures: dict[str, dict[str, float]] = {}
    compared: dict[str, Pairs] = {}
    for title, make in ENCODERS.items():
        near = NEAR.get(title, "cosine")
        z = lab.features(title, make(lab))[1]
        compared[title] = pairs(z, y, near)
        right = one_shot(z, runs.support, runs.query, runs.answer, near)
        figures[title] = {"auc": compared[title].auc, "one_shot": right}
    ours, pixels = figures["Siamese"], figures["pixels"]
    return Finding(
        {"verification": figures, "n_test": len(test), "chance_one_shot": 1 / WAYS},
        f"Encoders are trained on {len(lab.data.train):,} drawings of 30 alphabets. Verification: "
        f"all pairs of {len(test):,} drawings of 20 other alphabets are ranked by similarity, and "
        "the area under the ROC curve tells how well pairs of the same character are separated "
        "from others. One-shot classification: which of 20 drawings shows the same character, in "
        "the 20 official runs.",
        f"The area under the ROC curve is {100 * ours['auc']:.2f} % for the Siamese network and "
        f"{100 * pixels['auc']:.2f} % for pixels (chance: 50 %). One-shot accuracy is "
        f"{100 * ours['one_shot']:.2f} % and {100 * pixels['one_shot']:.2f} %.",
        [
            Table(
                "Characters of unseen alphabets",
                ["", "AUROC of pairs, %", "20-way one-shot accuracy, %"],
                [
                    [title, f"{100 * f['auc']:.2f}", f"{100 * f['one_shot']:.2f}"]
                    for title, f in figures.items()
                ],
            )
        ],
        [
            ("ROC curves", plots.roc_image(compared)),
            *(
                (f"Siamese: {what}", plots.pairs_image(lab.data, rows))
                for what, rows in matches(compared["Siamese"]).items()
            ),
        ],
    )


def matches(found: Pairs, number: int = 10) -> dict[str, np.ndarray]:
    """Pairs of test rows (number, 2) at the equal error rate, by kind of match."""
    accepted = found.near >= found.threshold()
    draw = np.random.default_rng(0)
    kinds = {
        "true matches": accepted & found.same,
        "false matches": accepted & ~found.same,
        "missed matches": ~accepted & found.same,
    }
    chosen = {what: draw.permutation(np.flatnonzero(mask))[:number] for what, mask in kinds.items()}
    return {what: np.stack([found.first[i], found.second[i]], 1) for what, i in chosen.items()}


EXPERIMENTS = [
    Experiment("V1", "Verification", "Do two drawings show the same character?", v1, 15),
]
