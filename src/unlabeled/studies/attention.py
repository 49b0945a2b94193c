"""DINO and MAE on a small vision transformer: accuracy, and attention maps of DINO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unlabeled.encoders.base import build
from unlabeled.studies.lab import (
    Experiment,
    Finding,
    Lab,
    Table,
    Way,
    percent,
    run_name,
    with_interval,
)
from unlabeled.studies.side_by_side import Training
from unlabeled.training import drawings
from unlabeled.training.train import reopen

TITLE = "Transformers trained without labels"
LEAD = (
    "A vision transformer divides an image into patches. What does it learn by comparing views of "
    "an image, what by completing it from a few patches? And does its class token attend to the "
    "object without having seen a label?"
)
DATA = "cifar10"
CLAIMS: dict[int, str] = {}
TRANSFORMER = {"patch": 4, "width": 192, "depth": 6, "heads": 3}
COMMON: dict[str, Any] = {"encoder": "vit", "optimizer": "adamw", "schedule": "one_cycle"}
WAYS: dict[str, Way] = {
    "DINO": ("dino", {"epochs": 20, "prototypes": 512, "lr": 1e-3}),
    "MAE": ("masked_autoencoder", {"epochs": 40, "lr": 2e-3}),
    "SimCLR": ("simclr", {"epochs": 20, "lr": 1e-3}),
    "supervised": ("supervised", {"epochs": 20, "lr": 1e-3}),
}
POOL = {"MAE": "mean"}
"""Where the features are not those of a class token."""


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    transformer: dict[str, int] = field(default_factory=TRANSFORMER.copy)
    ways: Mapping[str, Way] = field(default_factory=WAYS.copy)  #: by title
    epochs: int | None = None  #: of each, instead of its own


SETTINGS, QUICK = Settings(), Settings(epochs=1)


def trainings(lab: Lab, keys: Sequence[str]) -> list[Training]:
    """All of them, which are trained side by side."""
    settings: Settings = lab.settings
    results = []
    for title, (method, options) in settings.ways.items():
        args = settings.transformer | {"pool": POOL.get(title, "attention")}
        options = COMMON | dict(options) | {"encoder_args": args}
        options |= {"epochs": settings.epochs} if settings.epochs else {}
        results.append(Training(run_name(title), method, options=options))
    return results


def a1(lab: Lab) -> Finding:
    jobs = dict(zip(lab.settings.ways, trainings(lab, ["A1"]), strict=True))
    encoders = {title: lab.trained(job).encoder for title, job in jobs.items()}
    for pool in ("attention", "mean"):
        encoders[f"random, {pool}"] = lab.random("vit", **lab.settings.transformer, pool=pool)
    for name in ("histogram", "raw"):
        encoders[name] = build(name, lab.data.channels, lab.data.size)
    n = len(lab.data.test)
    results = {}
    for title, encoder in encoders.items():
        values = {"linear": lab.probe(title, encoder).test, "knn": lab.knn(title, encoder)}
        results[title] = {key: with_interval(value, n) for key, value in values.items()}

    def above(title: str, key: str) -> bool:
        others = (f"random, {POOL.get(title, 'attention')}", "histogram", "raw")
        return all(results[title][key]["low"] > results[other][key]["high"] for other in others)

    size = lab.settings.transformer
    dino = reopen(lab.trained(jobs["DINO"]))
    epochs = {t: job.options["epochs"] for t, job in jobs.items()}
    better = {key: [t for t in jobs if above(t, key)] for key in ("linear", "knn")}
    return Finding(
        {"test": results, "classes": len(lab.data.classes), "epochs": epochs, "above": better},
        f"A transformer with {size['depth']} blocks and {size['width']} features on patches of "
        f"{size['patch']}×{size['patch']} pixels is trained by each method on "
        f"{len(lab.data.train):,} images: {', '.join(f'{t} {n}' for t, n in epochs.items())} "
        "epochs. The features are those of a class token, of MAE the mean of the patches; random "
        "weights are given with both. Each row of the images is an attention map of one head of "
        "DINO's class token.",
        "Above random weights, pixels and histograms with intervals apart: by linear probe "
        f"{', '.join(better['linear']) or 'none'}; by k-NN {', '.join(better['knn']) or 'none'}.",
        [
            Table(
                "Accuracy for the class of test images, %, with 95 % interval",
                ["", "linear", "k-NN", "epochs"],
                [
                    [title, *map(percent, values.values()), str(epochs.get(title, "–"))]
                    for title, values in results.items()
                ],
            )
        ],
        list(drawings.visualizations(dino, lab.data, images=14).items()),
    )


EXPERIMENTS = [Experiment("A1", "Attention", "Does it attend to the object?", a1, 60)]
