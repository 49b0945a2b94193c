"""Movement or object? Two targets of prediction in video, and what each leaves to be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from unlabeled.augmentations import Augmentation
from unlabeled.augmentations.video import RandomMotion, RandomShape
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.sets import moving_sprites
from unlabeled.evaluation.probe import linear_probe
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, percent

TITLE = "Movement or object? Two targets, two encoders"
LEAD = (
    "Who follows an object must know it however it moves; who wants to catch it must know its "
    "movement, whatever it is. Two encoders see the same clips of gliding sprites. One is to join "
    "clips of the same object that move otherwise, the other clips of the same movement that show "
    "something else."
)
ASKED, SEED = 6_000, 1
"""Clips asked about, and their seed: the data set's own were seen while the views were chosen."""


def clips() -> Splits:
    """The data set's clips to learn from, and new ones to be asked about."""
    splits = moving_sprites.load()
    x, factors = moving_sprites.glide(np.random.default_rng(SEED), ASKED)
    return replace(splits, test=Samples(x, factors, targets=splits.test.targets))


DATA = clips
CLAIMS = {16: "Predicting movement and predicting objects need different invariances."}
TARGETS: dict[str, Augmentation] = {
    "movement-invariant": RandomMotion(),
    "object-invariant": RandomShape(),
}
READ = ("shape", "velocity")
OPTIONS: dict[str, Any] = {"epochs": 40, "batch_size": 64, "lr": 2e-3, "temperature": 0.15}
OPTIONS |= {"schedule": "one_cycle", "optimizer": "adam", "dim": 0}


def m1(lab: Lab) -> Finding:
    found: dict[str, dict[str, list[float]]] = {}
    for title in (*TARGETS, "random"):
        found[title] = {factor: [] for factor in READ}
        for seed in lab.seeds:
            if title == "random":
                encoder = lab.random(seed=seed)
            else:
                options = OPTIONS | {"augment": TARGETS[title]}
                encoder = lab.run(title, "simclr", seed, quick_epochs=3, **options).encoder
            z, z_test = lab.features(f"{title} {seed}", encoder)
            for factor in READ:
                y, y_test = (part.factors[factor] for part in (lab.data.train, lab.data.test))
                found[title][factor].append(linear_probe(z, y, z_test, y_test).test)
    object_, movement = (found[title] for title in TARGETS)
    crossed = all(
        a > b
        for a, b in (
            *zip(object_["shape"], movement["shape"], strict=True),
            *zip(movement["velocity"], object_["velocity"], strict=True),
        )
    )

    def told(title: str, factor: str) -> str:
        return percent(found[title][factor])

    shown = {
        f"{title}: {factor}": float(np.mean(values))
        for title, read in found.items()
        for factor, values in read.items()
    }
    return Finding(
        {
            "read": found,
            "crossed_in_every_seed": crossed,
            "chance": {"shape": 1 / 3, "velocity": 0.04},
        },
        f"SimCLR on {len(lab.data.train):,} clips of eight frames, with two kinds of views. In the "
        "first, one frame glides with a velocity of its own, elsewhere, turned and nearer or "
        "further: only the object stays. In the second, one random kernel changes the outline in "
        "all frames: only the movement stays. There is no head, so the features themselves are to "
        "be alike. A linear decoder then reads shape (of 3) and velocity (of 25) from "
        f"{len(lab.data.test):,} other clips as they are, on which nothing was chosen.",
        "The movement-invariant encoder tells shapes with "
        f"{told('movement-invariant', 'shape')} %, the object-invariant one with "
        f"{told('object-invariant', 'shape')} %. Velocity: "
        f"{told('movement-invariant', 'velocity')} % against "
        f"{told('object-invariant', 'velocity')} %.",
        [
            Table(
                "What can be read, test accuracy in %",
                ["", *READ],
                [[title, *(told(title, factor) for factor in READ)] for title in found],
            )
        ],
        [
            ("what can be read", plots.bars_image(shown, "test accuracy")),
            (
                "views of five clips: their first frame",
                plots.transformations_image(lab.data, TARGETS),
            ),
        ],
        {
            16: (
                crossed,
                "the encoders cross over in every seed: each reads better what its target keeps"
                if crossed
                else "the encoders do not cross over in every seed",
            )
        },
    )


EXPERIMENTS = [
    Experiment("M1", "The crossover", "Who decodes the shape, who the velocity?", m1, 10),
]
