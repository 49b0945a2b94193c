"""Two prediction targets for video: features of the motion or of the object."""

from dataclasses import replace
from typing import Any

import numpy as np

from unlabeled.augmentations import Augmentation
from unlabeled.augmentations.video import RandomMotion, RandomShape
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.sets import moving_sprites
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, percent

TITLE = "Motion or object? Two prediction targets, two encoders"
LEAD = (
    "Tracking an object needs features that do not depend on its motion; catching it needs "
    "features of the motion that do not depend on the object. Two encoders see the same clips of "
    "moving sprites: one learns from pairs with the same object and different motion, the other "
    "from pairs with the same motion and different objects."
)
TEST_CLIPS, SEED = 6_000, 1
"""Number and seed of test clips; the data set's test part was used to choose the augmentations."""


def clips() -> Splits:
    """Training clips of `moving_sprites` and new test clips."""
    splits = moving_sprites.load()
    x, factors = moving_sprites.glide(np.random.default_rng(SEED), TEST_CLIPS)
    return replace(splits, test=Samples(x, factors, targets=splits.test.targets))


DATA = clips
CLAIMS = {16: "Predicting motion and predicting objects need different invariances."}
TARGETS: dict[str, Augmentation] = {
    "motion-invariant": RandomMotion(),
    "object-invariant": RandomShape(),
}
FACTORS = ("shape", "velocity")
OPTIONS: dict[str, Any] = {"epochs": 40, "batch_size": 64, "lr": 2e-3, "temperature": 0.15}
OPTIONS |= {"schedule": "one_cycle", "optimizer": "adam", "dim": 0}


def m1(lab: Lab) -> Finding:
    results: dict[str, dict[str, list[float]]] = {}
    for title in (*TARGETS, "random"):
        results[title] = {factor: [] for factor in FACTORS}
        for seed in lab.seeds:
            if title == "random":
                encoder = lab.random(seed=seed)
            else:
                options = OPTIONS | {"augment": TARGETS[title]}
                encoder = lab.run(title, "simclr", seed, quick_epochs=3, **options).encoder
            for factor in FACTORS:
                results[title][factor].append(lab.probe(f"{title} {seed}", encoder, factor).test)
    motion_invariant, object_invariant = (results[title] for title in TARGETS)
    crossed = all(
        a > b
        for a, b in (
            *zip(motion_invariant["shape"], object_invariant["shape"], strict=True),
            *zip(object_invariant["velocity"], motion_invariant["velocity"], strict=True),
        )
    )

    def accuracy(title: str, factor: str) -> str:
        return percent(results[title][factor])

    means = {
        f"{title}: {factor}": float(np.mean(values))
        for title, accuracies in results.items()
        for factor, values in accuracies.items()
    }
    chance = {"shape": 1 / 3, "velocity": 0.04}
    why = (
        "in every seed each encoder is better at the factor that its target shares"
        if crossed
        else "the encoders do not cross over in every seed"
    )
    return Finding(
        {"linear_probe": results, "crossed_in_every_seed": crossed, "chance": chance},
        f"SimCLR is trained on {len(lab.data.train):,} clips of eight frames with two kinds of "
        "augmentation. In the first, a view shows the sprite with another velocity, position, "
        "rotation and scale: only the object is shared. In the second, a random kernel changes the "
        "outline in all frames: only the motion is shared. There is no projection head. Linear "
        f"probes for shape (3 classes) and velocity (25 classes) are evaluated on "
        f"{len(lab.data.test):,} new clips.",
        f"Linear probe accuracy for the shape is {accuracy('motion-invariant', 'shape')} % with "
        f"motion-invariant and {accuracy('object-invariant', 'shape')} % with object-invariant "
        f"features, for the velocity {accuracy('motion-invariant', 'velocity')} % and "
        f"{accuracy('object-invariant', 'velocity')} %.",
        [Table.of("Linear probe accuracy, %", FACTORS, results, ".1%")],
        [
            ("linear probe accuracy", plots.bars_image(means, "test accuracy")),
            ("views of five clips (first frame)", plots.transformations_image(lab.data, TARGETS)),
        ],
        {16: (crossed, why)},
    )


EXPERIMENTS = [
    Experiment("M1", "Crossover", "Which features contain the shape, which the velocity?", m1, 10)
]
