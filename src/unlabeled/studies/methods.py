"""All methods of images compared with the same network, images and number of operations."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from unlabeled import registry
from unlabeled.core import Method
from unlabeled.data.dataset import Splits
from unlabeled.data.open import open_data
from unlabeled.encoders.base import build
from unlabeled.evaluation import rsa
from unlabeled.evaluation.intervals import wilson
from unlabeled.modality import Images
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, Way
from unlabeled.studies.run import minutes_of
from unlabeled.studies.side_by_side import Training
from unlabeled.training.health import feature_std, rankme
from unlabeled.utils.files import read_csv

TITLE = "All methods with the same number of operations"
LEAD = (
    "Every method trains the same network on the same images with as many operations. How good are "
    "its features?"
)
DATA = "dsprites"
CLAIMS: dict[int, str] = {}
LEFT_OUT = ("siamese", "metric", "rotation", "relative_patch", "jigsaw", "context_encoder",
            "denoising_autoencoder", "masked_autoencoder", "gan", "distill")  # fmt: skip
"""Methods of the studies `verification`, `metric`, `pretext`, `generative`, or with a teacher."""
ALSO_TRANSFORMERS = ("dino", "masked_autoencoder", "mocov3", "simclr", "supervised")
"""Methods that train a transformer beside those whose network is one by default."""
BASELINES = ("histogram", "raw")


@dataclass(frozen=True)
class Race:
    """A network and images for all methods, and how long they train."""

    encoder: str  #: its name
    encoder_args: Mapping[str, Any]
    epochs: float  #: each method has the operations of that many epochs of SimCLR
    data: Any = None  #: a name or a data set (default: the study's)


@dataclass(frozen=True)
class Settings:
    """Networks, images and lengths."""

    sprites: Race = Race("small", {}, 10)
    photographs: Race = Race("small", {}, 20, "cifar10")
    transformers: Race = Race(
        "vit", {"patch": 4, "width": 96, "depth": 4, "heads": 3}, 6, "cifar10"
    )
    #: methods of each race (default: all that fit)
    methods: Mapping[str, Sequence[str]] = field(default_factory=dict)


SETTINGS = Settings()
QUICK = Settings(
    replace(SETTINGS.sprites, epochs=1),
    replace(SETTINGS.photographs, epochs=1),
    replace(SETTINGS.transformers, epochs=1),
)


def convolutional() -> list[str]:
    """Methods that train any encoder on any images, with all labels or none."""
    return _names(lambda name, cls: cls.encoder_for(Images) == "small" and name not in LEFT_OUT)


def transformers() -> list[str]:
    """Methods that train a transformer."""
    return _names(lambda name, cls: cls.encoder_for(Images) == "vit" or name in ALSO_TRANSFORMERS)


def _names(chosen: Callable[[str, type[Method]], bool]) -> list[str]:
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
        and chosen(name, cls)
    ]


RACES: dict[str, tuple[str, Callable[[], list[str]]]] = {
    "M1": ("sprites", convolutional),
    "M2": ("photographs", convolutional),
    "M3": ("transformers", transformers),
}
"""By experiment, the field of the settings, and the methods."""


def names(lab: Lab, key: str) -> list[str]:
    """Methods of an experiment."""
    title, listed = RACES[key]
    return list(lab.settings.methods.get(title, listed()))


def data_of(lab: Lab, race: Race) -> Splits:
    """Its images."""
    return lab.data if race.data is None else open_data(race.data)


def way(race: Race, name: str) -> Way:
    """Training of a method with the network of a race; the features of MAE are the mean patch."""
    args = dict(race.encoder_args)
    if race.encoder == "vit" and name == "masked_autoencoder":
        args["pool"] = "mean"
    return name, {"encoder": race.encoder, "encoder_args": args}


def trainings(lab: Lab, keys: Sequence[str]) -> list[Training]:
    """Trainings of all methods in these experiments."""
    return [training(lab, key, name) for key in RACES if key in keys for name in names(lab, key)]


def training(lab: Lab, key: str, name: str) -> Training:
    """Training of a method in an experiment."""
    title, _ = RACES[key]
    race: Race = getattr(lab.settings, title)
    data, (_, options) = data_of(lab, race), way(race, name)
    epochs = lab.epochs_like(race.epochs, way(race, "simclr"), way(race, name), data)
    return Training(f"{title}-{name}", name, 0, data, {**options, "epochs": epochs})


def compare(lab: Lab, key: str) -> Finding:
    title, _ = RACES[key]
    race: Race = getattr(lab.settings, title)
    data, factor = data_of(lab, race), None if race.data else "shape"
    args = dict(race.encoder_args)
    results: dict[str, dict[str, Any]] = {}
    curves = {}
    for name in [*names(lab, key), "random", *BASELINES]:
        figures: dict[str, Any] = {"epochs": None, "minutes": None}
        if name == "random":
            encoder = lab.random(race.encoder, data=data, **args)
        elif name in BASELINES:
            encoder = build(name, data.channels, data.size)
        else:
            job = training(lab, key, name)
            run = lab.trained(job)
            columns = read_csv(run.path / "metrics.csv")
            encoder, curves[name] = run.encoder, (columns["epoch"], columns["std"])
            figures = {"epochs": job.options["epochs"], "minutes": minutes_of(run.path)}
        results[name] = evaluate(lab, f"{title}, {name}", encoder, factor, data) | figures
    order = sorted(results, key=lambda name: -results[name]["linear"]["value"])
    unlabeled = [n for n in order if n in curves and not registry.find("methods", n).supervised]
    random = results["random"]["linear"]
    above = [n for n in unlabeled if results[n]["linear"]["low"] > random["high"]]
    below = [n for n in unlabeled if n not in above]
    target = factor or str(data.target)
    table = Table(
        f"Accuracy for the {target} of test images, %, with 95 % interval",
        ["", "linear", "k-NN", "mean-centered gap", "std", "RankMe", "epochs", "min"],
        [row(name, results[name]) for name in order],
    )
    return Finding(
        {"methods": results, "not_above_random": below},
        f"The network {race.encoder} is trained on {len(data.train):,} images of {data.name} by "
        f"each method with its own recipe and the operations of {race.epochs:g} epochs of SimCLR, "
        f"as PyTorch counts them. Linear probe and k-NN classify the {target} of "
        f"{len(data.test):,} test images.",
        f"{unlabeled[0]} is the best method without labels, with a linear probe accuracy of "
        f"{100 * results[unlabeled[0]]['linear']['value']:.1f} %. Random weights have "
        f"{100 * random['value']:.1f} %; not above them with intervals apart: "
        f"{', '.join(below) or 'none'}.",
        [table],
        [("std of the features by epoch (0: collapse)", plots.panels_image(curves, "std"))],
    )


def evaluate(
    lab: Lab, name: str, encoder: torch.nn.Module, factor: str | None, data: Splits
) -> dict[str, Any]:
    """Linear probe and k-NN with their intervals, and what features look like without labels."""
    z_test, y_test = lab.features(name, encoder, data)[1], lab.labels(factor, data)[1]
    values = {
        "linear": lab.probe(name, encoder, factor, data).test,
        "knn": lab.knn(name, encoder, factor, data),
    }
    n = len(y_test)
    shares = {
        key: dict(zip(("value", "low", "high"), (value, *wilson(value * n, n)), strict=True))
        for key, value in values.items()
    }
    return shares | {
        "gap_centered": rsa.gap(z_test, y_test, "centered").gap,
        "std": feature_std(torch.from_numpy(z_test)),
        "rankme": rankme(torch.from_numpy(z_test)),
    }


def row(name: str, figures: dict[str, Any]) -> list[str]:
    """A method's row of the table."""
    shares = [
        "{:.1f} ({:.1f}–{:.1f})".format(*(100 * value for value in figures[key].values()))
        for key in ("linear", "knn")
    ]
    others = [f"{figures['gap_centered']:.3f}", f"{figures['std']:.2f}", f"{figures['rankme']:.1f}"]
    spent = [
        "–" if figures[key] is None else f"{figures[key]:.3g}" for key in ("epochs", "minutes")
    ]
    return [name, *shares, *others, *spent]


EXPERIMENTS = [
    Experiment(key, title, "How good are the features of each?", run, minutes)
    for key, title, minutes in (
        ("M1", "Sprites, a convolutional network", 50),
        ("M2", "Photographs, a convolutional network", 200),
        ("M3", "Photographs, a transformer", 200),
    )
    for run in [functools.partial(compare, key=key)]
]
