"""DINO on a small transformer: where does it look, and what do its neighbors say?"""

from __future__ import annotations

from typing import Any

from unlabeled.encoders.base import build
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training import drawings
from unlabeled.training.train import reopen

TITLE = "DINO: where a transformer looks that was told nothing"
LEAD = (
    "A transformer cuts an image into patches, and a token gathers what is in them. Nobody told "
    "it what the object is. Does it look there?"
)
DATA = "cifar10"
CLAIMS: dict[int, str] = {}
EPOCHS = 4
TRANSFORMER: dict[str, Any] = {"width": 96, "depth": 4, "heads": 3}
DINO: dict[str, Any] = {"local_crops": 4, "prototypes": 512, "lr": 1e-3, "schedule": "one_cycle"}


def a1(lab: Lab) -> Finding:
    options = DINO | {"encoder": "vit", "encoder_args": TRANSFORMER, "epochs": EPOCHS}
    run = lab.run("dino-vit", "dino", quick_epochs=1, **options)
    encoders = {
        "DINO": run.encoder,
        "random transformer": lab.random("vit", **TRANSFORMER),
        "pixels": build("raw", lab.data.channels, lab.data.size),
    }
    target = str(lab.data.target)
    y, y_test = (part.factors[target] for part in (lab.data.train, lab.data.test))
    found = {}
    for name, encoder in encoders.items():
        z, z_test = lab.features(name, encoder)
        found[name] = {"knn": knn_accuracy(z, y, z_test, y_test)}
        if name != "pixels":
            found[name]["linear"] = linear_probe(z, y, z_test, y_test).test
    ours, random = found["DINO"], found["random transformer"]
    sheets = drawings.visualizations(reopen(run), lab.data, images=14)
    return Finding(
        {"test": found, "classes": len(lab.data.classes)},
        f"A transformer of {TRANSFORMER['depth']} blocks and {run.encoder.dim} features on patches "
        f"of 4×4 pixels learned from {len(lab.data.train):,} photographs without labels: "
        f"{1 if lab.quick else EPOCHS} epochs of DINO, the teacher seeing two whole views, the "
        f"student {DINO['local_crops']} small crops as well. Each row below shows where one head "
        "of the class token looks.",
        f"Its nearest neighbors name the class of {100 * ours['knn']:.2f} % of new photographs "
        f"without any fine-tuning, those of the same transformer with random weights of "
        f"{100 * random['knn']:.2f} %; chance is {100 / len(lab.data.classes):.0f} %.",
        [
            Table(
                "Class of the test photographs",
                ["", "k-NN %", "linear %"],
                [
                    [
                        n,
                        f"{100 * f['knn']:.2f}",
                        f"{100 * f['linear']:.2f}" if "linear" in f else "–",
                    ]
                    for n, f in found.items()
                ],
            )
        ],
        list(sheets.items()),
    )


EXPERIMENTS = [
    Experiment("A1", "Attention", "Does it look at the object?", a1, 18),
]
