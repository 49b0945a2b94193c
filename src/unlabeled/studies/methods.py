"""All methods beside each other: same encoder, same images, same time."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from unlabeled import registry
from unlabeled.core import Method
from unlabeled.evaluation import rsa
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.modality import Images
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.studies.run import minutes_of
from unlabeled.training.health import feature_std, rankme
from unlabeled.utils.files import read_csv

TITLE = "All methods, the same time"
LEAD = (
    "Every method learns with the same small encoder from the same images for the same time. "
    "What can be read from its features afterwards?"
)
DATA = "dsprites"
CLAIMS: dict[int, str] = {}
MINUTES = 12.0
QUICK_MINUTES = 0.25
LEFT_OUT = (
    "siamese",
    "metric",
    "rotation",
    "relative_patch",
    "jigsaw",
    "context_encoder",
    "denoising_autoencoder",
    "masked_autoencoder",
    "gan",
)
"""They have studies of their own: `verification`, `metric`, `pretext`."""


def names() -> list[str]:
    """Methods of one training for any network and any images, all labeled or none."""
    found: dict[str, Any] = {
        name: registry.find("methods", name) for name in registry.listing("methods")
    }
    return [
        name
        for name, cls in found.items()
        if inspect.isclass(cls)
        and issubclass(cls, Method)
        and not cls.recipe.labeled_fraction
        and Images in cls.modality
        and not cls.needs_color
        and cls.encoder_for(Images) == "small"
        and name not in LEFT_OUT
    ]


def compare(lab: Lab) -> Finding:
    y, y_test = (part.factors["shape"] for part in (lab.data.train, lab.data.test))
    found: dict[str, dict[str, Any]] = {}
    curves = {}
    for name in [*names(), "random"]:
        if name == "random":
            encoder, epochs, spent = lab.random(), 0, 0.0
        else:
            epochs = lab.epochs_for(name, name, QUICK_MINUTES if lab.quick else MINUTES)
            run = lab.run(name, name, epochs=epochs)
            columns = read_csv(run.path / "metrics.csv")
            encoder, spent = run.encoder, minutes_of(run.path)
            curves[name] = columns["epoch"], columns["std"]
        z, z_test = lab.features(name, encoder)
        found[name] = {
            "linear": linear_probe(z, y, z_test, y_test).test,
            "knn": knn_accuracy(z, y, z_test, y_test),
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
    return Finding(
        {"methods": found},
        f"The encoder is the small one, the images are {len(lab.data.train):,} of dSprites, and "
        f"each method got about {QUICK_MINUTES if lab.quick else MINUTES:g} minutes on the same "
        "cores: as many epochs as its first steps said would fit, each by its own recipe. A linear "
        "decoder and the nearest neighbors then name the shape of unseen images.",
        f"{best} reads best among those without labels, with "
        f"{100 * found[best]['linear']:.2f} % by a linear decoder. "
        + (
            f"No better than random weights ({100 * found['random']['linear']:.2f} %): "
            f"{', '.join(worse)}."
            if worse
            else f"All are above random weights ({100 * found['random']['linear']:.2f} %)."
        ),
        [
            Table(
                "Shape of the test images",
                ["", "linear %", "k-NN %", "gap, mean taken off", "std", "RankMe", "epochs", "min"],
                [
                    [
                        name,
                        f"{100 * f['linear']:.2f}",
                        f"{100 * f['knn']:.2f}",
                        f"{f['gap_centered']:.3f}",
                        f"{f['std']:.2f}",
                        f"{f['rankme']:.1f}",
                        f"{f['epochs']}",
                        f"{f['minutes']:.1f}",
                    ]
                    for name, f in ((n, found[n]) for n in order)
                ],
            )
        ],
        [("std of the features by epoch (0: collapse)", plots.panels_image(curves, "std"))],
    )


EXPERIMENTS = [
    Experiment("M1", "All methods", "What is each worth after the same time?", compare, 160),
]
