"""Verification and one-shot classification of characters of unseen alphabets."""

from typing import Any

import numpy as np
from torch import nn

from unlabeled.data.sets.omniglot import one_shot_runs
from unlabeled.evaluation.verification import Nearness, Pairs, one_shot, pairs
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, bounded, percent

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


CONTRASTIVE: dict[str, Any] = {
    "epochs": 40, "batch_size": 128, "lr_scaling": "none", "schedule": "one_cycle"
}  # fmt: skip
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Siamese": ("siamese", "siamese", {}),
    "supervised contrastive": ("supcon", "supervised_contrastive", CONTRASTIVE),
    "SimCLR, no labels": ("simclr", "simclr", CONTRASTIVE | {"temperature": 0.2}),
}
"""Name, method and arguments of each training, by title."""
ENCODERS = (*RUNS, "random", "pixels")


def encoder_of(lab: Lab, title: str) -> nn.Module:
    if title in RUNS:
        name, method, options = RUNS[title]
        return lab.run(name, method, quick_epochs=3, **options).encoder
    return lab.random("raw" if title == "pixels" else "small")


def v1(lab: Lab) -> Finding:
    test = lab.data.test
    y, runs = test.factors["character"], one_shot_runs()
    figures: dict[str, dict[str, dict[str, float]]] = {}
    compared: dict[str, Pairs] = {}
    for title in ENCODERS:
        near = NEAR.get(title, "cosine")
        z = lab.features(title, encoder_of(lab, title))[1]
        compared[title] = pairs(z, y, near)
        right = one_shot(z, runs.support, runs.query, runs.answer, near)
        figures[title] = {
            "auc": bounded(compared[title].auc, compared[title].auc_interval(y)),
            "one_shot": bounded(*right),
        }
    shown = matches(compared["Siamese"])
    ours, pixels = figures["Siamese"], figures["pixels"]
    caption = "Characters of unseen alphabets"
    table = Table.of(caption, ["AUROC of pairs, %", "20-way one-shot accuracy, %"], figures, ".1%")
    return Finding(
        {"verification": figures, "n_test": len(test), "chance_one_shot": 1 / WAYS},
        f"Encoders are trained on {len(lab.data.train):,} drawings of 30 alphabets. Verification: "
        f"all pairs of {len(test):,} drawings of 20 other alphabets are ranked by similarity, and "
        "the area under the ROC curve tells how well pairs of the same character are separated "
        "from others. One-shot classification: which of 20 drawings shows the same character, in "
        "the 20 official runs. 95 % intervals are over characters, and over runs.",
        f"The area under the ROC curve is {percent(ours['auc'])} % for the Siamese network and "
        f"{percent(pixels['auc'])} % for pixels (chance: 50 %). One-shot accuracy is "
        f"{percent(ours['one_shot'])} % and {percent(pixels['one_shot'])} %.",
        [table],
        [
            ("ROC curves", plots.roc_image(compared)),
            *(
                (f"Siamese: {what}", plots.pairs_image(lab.data, rows))
                for what, rows in shown.items()
            ),
        ],
    )


def matches(pairs: Pairs, number: int = 10) -> dict[str, np.ndarray]:
    """Pairs of test rows (number, 2) at the equal error rate, by kind of match."""
    accepted = pairs.near >= pairs.threshold()
    draw = np.random.default_rng(0)
    kinds = {
        "true matches": accepted & pairs.same,
        "false matches": accepted & ~pairs.same,
        "missed matches": ~accepted & pairs.same,
    }
    chosen = {what: draw.permutation(np.flatnonzero(mask))[:number] for what, mask in kinds.items()}
    return {what: np.stack([pairs.first[i], pairs.second[i]], 1) for what, i in chosen.items()}


QUESTION = "Do two drawings show the same character?"
EXPERIMENTS = [Experiment("V1", "Verification", QUESTION, v1, 15)]
