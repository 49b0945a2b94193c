"""DINO on a small vision transformer: attention maps and k-NN accuracy."""

from dataclasses import dataclass, field
from typing import Any

from unlabeled.encoders.base import build
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training import drawings
from unlabeled.training.train import reopen

TITLE = "DINO: attention of a transformer trained without labels"
LEAD = (
    "A vision transformer divides an image into patches, and a class token attends to them. Does "
    "it attend to the object without having seen a label?"
)
DATA = "cifar10"
CLAIMS: dict[int, str] = {}
TRANSFORMER = {"width": 96, "depth": 4, "heads": 3}
DINO: dict[str, Any] = {"local_crops": 4, "prototypes": 512, "lr": 1e-3, "schedule": "one_cycle"}


@dataclass(frozen=True)
class Settings:
    """Epochs of DINO and arguments of its encoder."""

    epochs: int = 4
    transformer: dict[str, int] = field(default_factory=TRANSFORMER.copy)


SETTINGS, QUICK = Settings(), Settings(epochs=1)


def a1(lab: Lab) -> Finding:
    transformer, epochs = lab.settings.transformer, lab.settings.epochs
    options = DINO | {"encoder": "vit", "encoder_args": transformer, "epochs": epochs}
    run = lab.run("dino-vit", "dino", **options)
    encoders = {
        "DINO": run.encoder,
        "random transformer": lab.random("vit", **transformer),
        "pixels": build("raw", lab.data.channels, lab.data.size),
    }
    found = {}
    for name, encoder in encoders.items():
        found[name] = {"knn": lab.knn(name, encoder)}
        if name != "pixels":
            found[name]["linear"] = lab.probe(name, encoder).test
    ours, random = found["DINO"], found["random transformer"]
    caption, formats = "Accuracy for the class of test images", {"knn": ".2%", "linear": ".2%"}
    return Finding(
        {"test": found, "classes": len(lab.data.classes)},
        f"A transformer with {transformer['depth']} blocks and {run.encoder.dim} features on "
        f"patches of 4×4 pixels is trained by DINO on {len(lab.data.train):,} images without "
        f"labels for {epochs} epochs; the teacher sees two global crops, the student also "
        f"{DINO['local_crops']} small ones. Each row of the images is an attention map of one head "
        "of the class token.",
        f"k-NN accuracy is {100 * ours['knn']:.2f} % without fine-tuning, and "
        f"{100 * random['knn']:.2f} % for the same transformer with random weights; chance is "
        f"{100 / len(lab.data.classes):.0f} %.",
        [Table.of(caption, ["k-NN %", "linear %"], found, formats)],
        list(drawings.visualizations(reopen(run), lab.data, images=14).items()),
    )


EXPERIMENTS = [Experiment("A1", "Attention", "Does it attend to the object?", a1, 18)]
