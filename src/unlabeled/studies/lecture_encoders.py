"""The encoders of the lectures' experiments: how each is trained, and its features."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.augmentations import Augmentation, Compose, RandomAffine
from unlabeled.data.bias import Rule, biased, control
from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.split import sample_labels
from unlabeled.encoders.base import build
from unlabeled.encoders.features import FITTED_DIM, FITTED_ROWS
from unlabeled.evaluation.probe import Probe
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Lab, run_name
from unlabeled.studies.side_by_side import Training

HEARTS_LEFT = Rule("shape", "x", {2: (0, 9), 1: (11, 20), 0: (22, 31)})
WITHOUT: dict[str, tuple[Augmentation, list[str]]] = {
    "without rotation": (RandomAffine(degrees=0.0), ["orientation"]),
    "without translation": (RandomAffine(translate=0.0), ["x", "y"]),
    "without scale": (RandomAffine(scale=(1.0, 1.0)), ["scale"]),
}
"""The augmentation without a transformation, and the factors that this transformation changes."""
LENET: dict[str, Any] = {"encoder": "lenet", "lr": 2e-3}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SimCLR": ("simclr", {}),
    "supervised": ("supervised", {}),
    "VAE": ("vae", {"encoder": "lenet"}),
    "supervised, LeNet": ("supervised", LENET | {"epochs": 30}),
    "SimCLR, LeNet": ("simclr", LENET | {"epochs": 40, "optimizer": "adam", "temperature": 0.2}),
    **{
        name: ("simclr", {"augment": augment, "epochs": 12})
        for name, (augment, _) in WITHOUT.items()
    },
    "2 negatives": ("simclr", {"negatives": 2, "denominator": "tutorial"}),
    "no negatives": ("simclr", {"negatives": 0, "epochs": 2}),
    "SimCLR, biased": ("simclr", {"epochs": 50}),
    "SimCLR, control": ("simclr", {"epochs": 50}),
    "VAE, biased": ("vae", {"encoder": "lenet", "epochs": 40}),
    "VAE, control": ("vae", {"encoder": "lenet", "epochs": 40}),
    "supervised, biased": ("supervised", {"epochs": 25}),
    "supervised, control": ("supervised", {"epochs": 25}),
}
"""Method and further arguments of each training on all images, or on a biased set, by title."""
END_TO_END: dict[str, Augmentation] = {
    "end to end, plain": Compose([]),
    "end to end, augmented": RandomAffine(),
}
"""Augmentations of supervised trainings on few labels."""
SEVERAL_SEEDS = ("supervised", "SimCLR", "VAE", "random")
"""Encoders of all seeds of the study; the others have seed 0."""
FITTED = ("raw", "pca", "ica", "kmeans")


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    #: numbers of labels of frozen encoders
    labels: tuple[int, ...] = (6, 30, 160, 800, 1600, 3200, 6400, 16000)
    #: numbers of labels of networks trained end to end
    end_to_end: tuple[int, ...] = (800, 1600, 6400)
    supervised_epochs: int = 8  #: epochs on all labels that `end_to_end` trainings match in steps
    #: epochs of encoders that are trained for a shorter time than `ENCODERS` says
    epochs: Mapping[str, int] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()  #: titles of encoders that are not trained


SETTINGS = Settings()
QUICK = Settings(
    labels=(6, 30, 160, 1600),
    end_to_end=(800,),
    epochs={
        **dict.fromkeys(WITHOUT, 6),
        **{"VAE": 6, "VAE, biased": 12, "VAE, control": 12},
        "supervised, biased": 15,
    },
    left_out=frozenset(
        {
            *("supervised, LeNet", "SimCLR, LeNet", "without translation", "without scale"),
            *("2 negatives", "SimCLR, control", "supervised, control"),
        }
    ),
)
"""Fewer variants; every encoder that is trained is trained for as long as its claim needs."""


def settings_of(lab: Lab) -> Settings:
    """Settings of a lab of this study; of another one that uses its encoders, the defaults."""
    return lab.settings if isinstance(lab.settings, Settings) else SETTINGS


def included(lab: Lab, titles: Sequence[str]) -> list[str]:
    """The titles whose encoders are part of a study of these settings."""
    return [title for title in titles if title not in settings_of(lab).left_out]


def data_of(lab: Lab, title: str) -> Splits:
    """What an encoder is trained on, by its title: all images, or a part of them."""
    kind = title.rpartition(", ")[2]
    if kind == "biased":
        return biased(lab.data, HEARTS_LEFT)
    if kind == "control":
        return control(lab.data, HEARTS_LEFT)
    if kind.isdigit():  # labels of a training end to end
        rows = sample_labels(lab.labels("shape")[0], int(kind))
        return replace(lab.data, train=lab.data.train.take(rows))
    return lab.data


def training(lab: Lab, title: str, seed: int = 0) -> Training:
    """The training of an encoder, by title."""
    data = data_of(lab, title)
    if title in ENCODERS:
        method, options = ENCODERS[title]
        epochs = settings_of(lab).epochs.get(title)
        options = options if epochs is None else options | {"epochs": epochs}
    else:  # as many steps as on all labels
        least = settings_of(lab).supervised_epochs
        epochs = max(least, round(least * len(lab.data.train) / len(data.train)))
        augment = END_TO_END[title.rpartition(", ")[0]]
        method, options = "supervised", {"augment": augment, "epochs": epochs}
    name = run_name(title)
    return Training(name, method, seed, None if data is lab.data else data, options)


def trained(lab: Lab, title: str, seed: int = 0) -> Run:
    """Train an encoder, or load it if it is trained."""
    return lab.trained(training(lab, title, seed))


def encoder_of(lab: Lab, title: str, seed: int = 0) -> nn.Module:
    """Trained or random encoder, by title."""
    if title.startswith("random"):
        return lab.random("lenet" if "LeNet" in title else "small", seed)
    return trained(lab, title, seed).encoder


def fitted(lab: Lab, name: str) -> nn.Module:
    """Raw pixels, PCA, ICA or k-means, which do not depend on a seed."""
    if name == "raw":
        return build("raw", lab.data.channels, lab.data.size)
    encoder = build(name, lab.data.channels, lab.data.size, dim=FITTED_DIM)
    rows = np.random.default_rng(0).permutation(len(lab.data.train))[:FITTED_ROWS]
    few = to_float(torch.from_numpy(lab.data.train.x[rows]), lab.data.value_range)
    encoder.summary.fit(few)  # type: ignore[operator, union-attr]
    return encoder


def loader(lab: Lab, title: str, seed: int = 0) -> Callable[[], nn.Module]:
    """A function that trains, loads or fits the encoder of a title, to be called when needed."""
    name, _, kind = title.partition(", ")
    if name in FITTED:
        return functools.partial(fitted, lab, name)
    if name == "random" and kind != "LeNet":
        return functools.partial(lab.random, "small", seed)
    return functools.partial(encoder_of, lab, title, seed)


def z_of(lab: Lab, title: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of the training and test images of an encoder's own data, by its title."""
    return lab.features(f"{title} {seed}", loader(lab, title, seed), data_of(lab, title))


def probe(lab: Lab, title: str, seed: int = 0) -> Probe:
    """Linear probe for the shape, by the encoder's title."""
    name = f"{title} {seed}"
    return lab.probe(name, loader(lab, title, seed), "shape", data_of(lab, title))


def seeds_of(lab: Lab, title: str) -> list[int]:
    """Seeds of an encoder: all of the study's for the main encoders, else 0."""
    return lab.seeds if title in SEVERAL_SEEDS else [0]
