"""All methods compared with the same encoder, images and training time."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch

from unlabeled import registry
from unlabeled.core import Method
from unlabeled.evaluation import rsa
from unlabeled.modality import Images
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.studies.run import minutes_of
from unlabeled.training.health import feature_std, rankme
from unlabeled.utils.files import read_csv

TITLE = "All methods with the same training time"
LEAD = (
    "Every method trains the same small encoder on the same images for the same time. How good "
    "are its features?"
)
DATA = "dsprites"
CLAIMS: dict[int, str] = {}
LEFT_OUT = ("siamese", "metric", "rotation", "relative_patch", "jigsaw", "context_encoder",
            "denoising_autoencoder", "masked_autoencoder", "gan", "distill")  # fmt: skip
"""Methods of the studies `verification`, `metric`, `pretext`, `generative`, or with a teacher."""

COLUMNS = {"linear": ".2%", "knn": ".2%", "gap_centered": ".3f", "std": ".2f", "rankme": ".1f",
           "epochs": "d", "minutes": ".1f"}  # fmt: skip
"""Figures in the table, and their formats."""


@dataclass(frozen=True)
class Settings:
    """Training time of each method, in minutes."""

    minutes: float = 12.0


SETTINGS, QUICK = Settings(), Settings(minutes=0.25)


def names() -> list[str]:
    """Methods that train any encoder on any images, with all labels or none."""
    listed = registry.listing("methods")
    methods: dict[str, Any] = {name: registry.find("methods", name) for name in listed}
    return [
        name
        for name, cls in methods.items()
        if inspect.isclass(cls)
        and issubclass(cls, Method)
        and not cls.recipe.labeled_fraction
        and Images in cls.modality
        and not cls.needs_color
        and cls.encoder_for(Images) == "small"
        and name not in LEFT_OUT
    ]


def compare(lab: Lab) -> Finding:
    y_test = lab.labels("shape")[1]
    found: dict[str, dict[str, Any]] = {}
    curves = {}
    for name in [*names(), "random"]:
        if name == "random":
            encoder, epochs, spent = lab.random(), 0, 0.0
        else:
            epochs = lab.epochs_for(name, name, lab.settings.minutes)
            run = lab.run(name, name, epochs=epochs)
            columns = read_csv(run.path / "metrics.csv")
            encoder, spent = run.encoder, minutes_of(run.path)
            curves[name] = columns["epoch"], columns["std"]
        z_test = lab.features(name, encoder)[1]
        found[name] = {
            "linear": lab.probe(name, encoder, "shape").test,
            "knn": lab.knn(name, encoder, "shape"),
            "gap_centered": rsa.gap(z_test, y_test, "centered").gap,
            "std": feature_std(torch.from_numpy(z_test)),
            "rankme": rankme(torch.from_numpy(z_test)),
            "epochs": epochs,
            "minutes": spent,
        }
    order = sorted(found, key=lambda name: -found[name]["linear"])
    unlabeled = [n for n in order if n != "random" and not registry.find("methods", n).supervised]
    best = unlabeled[0]
    worse = [n for n in unlabeled if found[n]["linear"] <= found["random"]["linear"]]
    table = Table.of(
        "Accuracy for the shape of test images",
        ["linear %", "k-NN %", "mean-centered gap", "std", "RankMe", "epochs", "min"],
        {name: found[name] for name in order},
        COLUMNS,
    )
    return Finding(
        {"methods": found},
        f"The small encoder is trained on {len(lab.data.train):,} images of dSprites for about "
        f"{lab.settings.minutes:g} minutes by each method with its own recipe; the number of "
        "epochs is set by the measured speed. Linear probe and k-NN then classify the shape of "
        "test images.",
        f"{best} is the best method without labels, with a linear probe accuracy of "
        f"{100 * found[best]['linear']:.2f} %. "
        f"Random weights have {100 * found['random']['linear']:.2f} %; not above them: "
        f"{', '.join(worse) or 'none'}.",
        [table],
        [("std of the features by epoch (0: collapse)", plots.panels_image(curves, "std"))],
    )


QUESTION = "How good are the features of each after the same time?"
EXPERIMENTS = [Experiment("M1", "All methods", QUESTION, compare, 160)]
