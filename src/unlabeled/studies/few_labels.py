"""Few labels, many images: what do the images without a label add, and which way is best?

The SimCLR paper's table 7 on dSprites: methods that learn from both at once, beside an encoder that
learned without labels first.
"""

from __future__ import annotations

import functools
import statistics
from dataclasses import replace
from typing import Any

import numpy as np

from unlabeled import registry
from unlabeled.data.dataset import Splits
from unlabeled.data.loader import loader
from unlabeled.data.split import sample_labels
from unlabeled.evaluation.finetune import RATES, accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.studies.lectures import percent, shapes
from unlabeled.training.prepare import resolve
from unlabeled.training.train import reopen

TITLE = "Few labels: learning from both at once, or without labels first"
LEAD = (
    "16,000 images of white sprites, but the shape is known of few. Methods of semi-supervised "
    "learning use the others while they learn the shapes; self-supervised learning uses them "
    "before. Which names the shapes of new images better?"
)
DATA = "dsprites"
CLAIMS = {
    21: "Images without a label help: each semi-supervised method beats learning from the same "
    "labels alone.",
    22: "With few labels, learning without them first beats the semi-supervised methods.",
    23: "The fewer the labels, the better a frozen encoder does beside a fine-tuned one.",
}
LABELS = ("6", "30", "160", "1600")
"""Two of each shape, ten, 1 % and 10 % of all."""
STEPS = 1250
"""Of the optimizer, about, for each but SimCLR, which takes its own 9,500 once for all labels."""
FROM_SCRATCH = {
    "supervised": "supervised",
    "Pseudo-label": "pseudo_label",
    "VAT + entropy minimization": "vat",
    "UDA": "uda",
    "FixMatch": "fixmatch",
    "S4L (rotation)": "s4l",
}
PRETRAINED = ("SimCLR, linear probe", "SimCLR, fine-tuned")
Accuracies = dict[str, dict[str, list[float]]]
"""Of each way by number of labels, one for each seed."""


def epochs(data: Splits, method: str) -> int:
    """As many as take about `STEPS` steps."""
    cls = registry.find("methods", method)
    recipe = resolve(cls, data, {})[0]
    steps = len(
        loader(
            data.train, recipe.batch_size, 0, data.target, labeled_fraction=recipe.labeled_fraction
        )
    )
    return max(1, round(STEPS / steps))


def alone(lab: Lab, labels: str, seed: int) -> Splits:
    """The images with a label and no others, each as often as makes as many as there were."""
    y = shapes(lab.data)[0]
    rows = np.resize(sample_labels(y, labels, seed), len(y))
    return replace(lab.data, train=lab.data.train.take(rows))


def named(run: Run, data: Splits) -> float:
    """Share of the test images that the run's own classifier names rightly."""
    run.method = run.method or reopen(run)
    return accuracy(run, data)


@functools.lru_cache(maxsize=256)
def from_scratch(lab: Lab, name: str, labels: str, seed: int) -> float:
    """Accuracy of a classifier that learned from the labels, and from the other images if any."""
    method = FROM_SCRATCH[name]
    only = method == "supervised"
    data = alone(lab, labels, seed) if only else lab.data
    options: dict[str, Any] = {} if only else {"labels": labels}
    options["epochs"] = epochs(data, method)
    run = lab.run(f"{method}-{labels}", method, seed, data, quick_epochs=1, **options)
    return named(run, data)


@functools.lru_cache(maxsize=256)
def pretrained(lab: Lab, name: str, labels: str, seed: int) -> float:
    """Accuracy of what learns from the labels on SimCLR's features, or goes on from its encoder."""
    run = lab.run("simclr", "simclr", seed, quick_epochs=6)
    if name == "SimCLR, linear probe":
        y, y_test = shapes(lab.data)
        rows = sample_labels(y, labels, seed)
        z, z_test = lab.features(f"SimCLR {seed}", run.encoder)
        return linear_probe(z[rows], y[rows], z_test, y_test).test
    data = alone(lab, labels, seed)
    options: dict[str, Any] = {"start": run, "epochs": epochs(data, "supervised")}
    options |= {"lr": RATES["finetuned"], "optimizer": "adamw", "weight_decay": 1e-4}
    tuned = lab.run(f"finetuned-{labels}", "supervised", seed, data, quick_epochs=1, **options)
    return named(tuned, data)


def block(lab: Lab, names: Any, way: Any) -> Accuracies:
    """Every way of a block with every number of labels."""
    return {
        name: {labels: [way(lab, name, labels, seed) for seed in lab.seeds] for labels in LABELS}
        for name in names
    }


def columns(lab: Lab) -> list[str]:
    """The numbers of labels, and the shares where they are round."""
    shares = {labels: 100 * int(labels) / len(lab.data.train) for labels in LABELS}
    return [
        f"{int(labels):,} labels" + f" ({share:.0f} %)" * (share in (1, 10))
        for labels, share in shares.items()
    ]


def rows(found: Accuracies) -> list[list[str]]:
    return [[name, *(percent(each[n]) for n in LABELS)] for name, each in found.items()]


def table(lab: Lab, caption: str, *blocks: tuple[str, Accuracies]) -> Table:
    """A line above each block says what its methods have in common."""
    lines: list[list[str]] = []
    for title, found in blocks:
        lines += [[f"{title}:", *[""] * len(LABELS)]] if title else []
        lines += rows(found)
    return Table(caption, ["", *columns(lab)], lines)


def best(found: Accuracies, labels: str) -> tuple[str, float]:
    means = {name: statistics.mean(each[labels]) for name, each in found.items()}
    name = max(means, key=lambda n: means[n])
    return name, means[name]


def told(found: Accuracies) -> str:
    """The best way for each number of labels."""
    winners = {labels: best(found, labels) for labels in LABELS}
    return ", ".join(
        f"{percent(share)} % with {int(n):,} ({name})" for n, (name, share) in winners.items()
    )


def f1(lab: Lab) -> Finding:
    found = block(lab, FROM_SCRATCH, from_scratch)
    base = found.pop("supervised")
    gains = {
        name: {n: statistics.mean(each[n]) - statistics.mean(base[n]) for n in LABELS}
        for name, each in found.items()
    }
    least = {name: min(gain.values()) for name, gain in gains.items()}
    worst = min(least, key=lambda n: least[n])
    return Finding(
        {"accuracy": {"supervised": base, **found}, "gains": gains},
        f"Each network starts at random and takes about {STEPS:,} steps. The supervised one sees "
        "the images with a label again and again, in the data's augmentation for labels; the "
        "others see them in part of each batch, and all images, without their labels, in the "
        "rest. S4L has to say how far an image was turned, which a sprite of any orientation does "
        "not show.",
        f"The best semi-supervised method names {told(found)}; from the same labels alone it is "
        f"{', '.join(f'{percent(base[n])} %' for n in LABELS)}.",
        [
            table(
                lab, "Test accuracy %, all from random weights", ("", {"supervised": base} | found)
            )
        ],
        claims={
            21: (
                all(gain > 0 for gain in least.values()),
                f"the least gain over all numbers of labels is {100 * least[worst]:+.1f} points, "
                f"{worst}",
            )
        },
    )


def f2(lab: Lab) -> Finding:
    found = block(lab, PRETRAINED, pretrained)
    frozen, tuned = ({n: statistics.mean(found[name][n]) for n in LABELS} for name in PRETRAINED)
    lead = {n: frozen[n] - tuned[n] for n in LABELS}
    few, many = LABELS[0], LABELS[-1]
    return Finding(
        {"accuracy": found, "frozen_ahead": lead},
        "SimCLR learns from all images without labels. Then a linear classifier learns from the "
        "labels on its frozen features, to convergence; or the encoder learns on with a classifier "
        f"on top, at a gentle rate, for about {STEPS:,} steps.",
        f"Either way the best is {told(found)}. The frozen encoder is ahead of the fine-tuned one "
        f"by {', '.join(f'{100 * lead[n]:+.1f}' for n in LABELS)} points.",
        [table(lab, "Test accuracy %, from SimCLR's encoder", ("", found))],
        claims={
            23: (
                lead[few] > lead[many],
                f"{100 * lead[few]:+.1f} points with {int(few):,} labels, "
                f"{100 * lead[many]:+.1f} with {int(many):,}",
            )
        },
    )


def f3(lab: Lab) -> Finding:
    both = block(lab, FROM_SCRATCH, from_scratch)
    first = block(lab, PRETRAINED, pretrained)
    base = {"supervised": both.pop("supervised")}
    ahead = {n: best(first, n)[1] - best(both, n)[1] for n in LABELS}
    curves: dict[str, dict[str, list[float]]] = {
        name: {
            "labels": [float(n) for n in LABELS],
            "test": [statistics.mean(each[n]) for n in LABELS],
            "sd": [statistics.stdev(each[n]) if len(each[n]) > 1 else 0.0 for n in LABELS],
        }
        for name, each in {**base, **both, **first}.items()
    }
    few = LABELS[0]
    return Finding(
        {"accuracy": {**base, **both, **first}, "first_ahead": ahead},
        "The same figures in the form of the SimCLR paper's table 7. Beside its steps with labels "
        "SimCLR had its own without, more than any other here.",
        f"With {int(few):,} labels the best that learns from both at once is "
        f"{best(both, few)[0]} with {percent(best(both, few)[1])} %, the best that learns without "
        f"them first {best(first, few)[0]} with {percent(best(first, few)[1])} %.",
        [
            table(
                lab,
                "Test accuracy % by number of labels",
                ("Labels alone", base),
                ("Labels and the other images at once", both),
                ("The images without labels first", first),
            )
        ],
        [("test accuracy by number of labels", plots.label_curves_image(curves))],
        {
            22: (
                all(lead > 0 for lead in ahead.values()),
                "ahead by "
                + ", ".join(f"{100 * lead:+.1f}" for lead in ahead.values())
                + " points",
            )
        },
    )


EXPERIMENTS = [
    Experiment("F1", "Both at once", "Do images without a label help?", f1, 20),
    Experiment("F2", "Without labels first", "Frozen or fine-tuned?", f2, 8),
    Experiment("F3", "Side by side", "Which way needs the fewest labels?", f3, 0.2),
]
