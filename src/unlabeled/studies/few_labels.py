"""Few labels: semi-supervised learning compared with self-supervised pretraining.

Table 7 of the SimCLR paper on dSprites.
"""

import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, curve
from unlabeled.studies.lectures import percent
from unlabeled.training.resolve import resolve
from unlabeled.training.train import reopen

TITLE = "Few labels: semi-supervised learning or self-supervised pretraining"
LEAD = (
    "16,000 images of white sprites, of which few have a label. Semi-supervised methods use the "
    "unlabeled images while they learn from the labels; self-supervised learning uses them before. "
    "Which classifies new images better?"
)
DATA = "dsprites"
CLAIMS = {
    21: "Unlabeled images help: each semi-supervised method beats training on the same labels "
    "alone.",
    22: "With few labels, self-supervised pretraining beats the semi-supervised methods.",
    23: "The fewer the labels, the better a frozen encoder is compared to a fine-tuned one.",
}


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    #: numbers of labels: by default two and ten of each shape, 1 % and 10 % of all
    labels: tuple[str, ...] = ("6", "30", "160", "1600")
    #: optimizer steps of each training, approximately; SimCLR has 9,500 of its own
    steps: int = 1250


SETTINGS = Settings()
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
"""Accuracies by model and number of labels, one for each seed."""


def epochs(lab: Lab, data: Splits, method: str) -> int:
    """Number of epochs that take about the steps of the settings."""
    cls = registry.find("methods", method)
    recipe = resolve(cls, data, {})[0]
    fraction = recipe.labeled_fraction
    batches = loader(data.train, recipe.batch_size, 0, data.target, labeled_fraction=fraction)
    return max(1, round(lab.settings.steps / len(batches)))


def labeled_only(lab: Lab, labels: str, seed: int) -> Splits:
    """The labeled images only, repeated to the number of all images."""
    y = lab.labels("shape")[0]
    rows = np.resize(sample_labels(y, labels, seed), len(y))
    return replace(lab.data, train=lab.data.train.take(rows))


def classifier_accuracy(run: Run, data: Splits) -> float:
    """Test accuracy of the classifier of a supervised or semi-supervised run."""
    run.method = run.method or reopen(run)
    return accuracy(run, data)


@functools.lru_cache(maxsize=256)
def from_scratch(lab: Lab, name: str, labels: str, seed: int) -> float:
    """Test accuracy of training from random weights with the labels (and unlabeled images)."""
    method = FROM_SCRATCH[name]
    only = method == "supervised"
    data = labeled_only(lab, labels, seed) if only else lab.data
    options: dict[str, Any] = {} if only else {"labels": labels}
    options["epochs"] = epochs(lab, data, method)
    run = lab.run(f"{method}-{labels}", method, seed, data, quick_epochs=1, **options)
    return classifier_accuracy(run, data)


@functools.lru_cache(maxsize=256)
def pretrained(lab: Lab, name: str, labels: str, seed: int) -> float:
    """Test accuracy of a linear probe of SimCLR, or of SimCLR fine-tuned."""
    run = lab.run("simclr", "simclr", seed, quick_epochs=6)
    if name == "SimCLR, linear probe":
        y, y_test = lab.labels("shape")
        rows = sample_labels(y, labels, seed)
        z, z_test = lab.features(f"SimCLR {seed}", run.encoder)
        return linear_probe(z[rows], y[rows], z_test, y_test).test
    data = labeled_only(lab, labels, seed)
    options: dict[str, Any] = {"init": run, "epochs": epochs(lab, data, "supervised")}
    options |= {"lr": RATES["finetuned"], "optimizer": "adamw", "weight_decay": 1e-4}
    tuned = lab.run(f"finetuned-{labels}", "supervised", seed, data, quick_epochs=1, **options)
    return classifier_accuracy(tuned, data)


def block(lab: Lab, names: Any, accuracy_of: Any) -> Accuracies:
    """Accuracies of several models with every number of labels."""
    return {
        name: {
            labels: [accuracy_of(lab, name, labels, seed) for seed in lab.seeds]
            for labels in lab.settings.labels
        }
        for name in names
    }


def columns(lab: Lab) -> list[str]:
    """Column titles: numbers of labels, with round shares."""
    shares = {labels: 100 * int(labels) / len(lab.data.train) for labels in lab.settings.labels}
    return [
        f"{int(labels):,} labels" + f" ({share:.0f} %)" * (share in (1, 10))
        for labels, share in shares.items()
    ]


def table(lab: Lab, caption: str, *blocks: tuple[str, Accuracies]) -> Table:
    """A table of blocks, each under a line with its title."""
    lines: list[list[str]] = []
    for title, results in blocks:
        lines += [[f"{title}:", *[""] * len(lab.settings.labels)]] if title else []
        lines += Table.of(title, [], results, ".2%").rows
    return Table(caption, ["", *columns(lab)], lines)


def best(results: Accuracies, labels: str) -> tuple[str, float]:
    means = {name: statistics.mean(each[labels]) for name, each in results.items()}
    name = max(means, key=lambda n: means[n])
    return name, means[name]


def best_by_labels(results: Accuracies, labels: Sequence[str]) -> str:
    """The best model for each number of labels."""
    winners = {number: best(results, number) for number in labels}
    return ", ".join(
        f"{percent(share)} % with {int(n):,} ({name})" for n, (name, share) in winners.items()
    )


def f1(lab: Lab) -> Finding:
    labels = lab.settings.labels
    results = block(lab, FROM_SCRATCH, from_scratch)
    base = results.pop("supervised")
    gains = {
        name: {n: statistics.mean(each[n]) - statistics.mean(base[n]) for n in labels}
        for name, each in results.items()
    }
    least = {name: min(gain.values()) for name, gain in gains.items()}
    worst = min(least, key=lambda n: least[n])
    gain = f"the smallest gain over all numbers of labels is {100 * least[worst]:+.1f} points"
    return Finding(
        {"accuracy": {"supervised": base, **results}, "gains": gains},
        f"Each network is trained from random weights for about {lab.settings.steps:,} steps. The "
        "supervised one repeats the labeled images, with the data set's augmentation for labeled "
        "training. The others take a part of each batch from the labeled images and the rest from "
        "all images without labels. S4L predicts the rotation of an image, which cannot be seen in "
        "sprites of any orientation.",
        f"The best semi-supervised method reaches {best_by_labels(results, labels)}; the same "
        f"labels alone give {', '.join(f'{percent(base[n])} %' for n in labels)}.",
        [table(lab, "Test accuracy from random weights, %", ("", {"supervised": base} | results))],
        claims={21: (least[worst] > 0, f"{gain}, {worst}")},
    )


def f2(lab: Lab) -> Finding:
    labels = lab.settings.labels
    results = block(lab, PRETRAINED, pretrained)
    frozen, tuned = ({n: statistics.mean(results[name][n]) for n in labels} for name in PRETRAINED)
    lead = {n: frozen[n] - tuned[n] for n in labels}
    few, many = labels[0], labels[-1]
    why = (
        f"{100 * lead[few]:+.1f} points with {int(few):,} labels, "
        f"{100 * lead[many]:+.1f} with {int(many):,}"
    )
    return Finding(
        {"accuracy": results, "frozen_lead": lead},
        "SimCLR is trained on all images without labels. Then a linear probe is trained to "
        "convergence on its frozen features with few labels; or encoder and classifier are "
        f"fine-tuned at a small learning rate for about {lab.settings.steps:,} steps.",
        f"The better of the two reaches {best_by_labels(results, labels)}. Frozen minus "
        f"fine-tuned: {', '.join(f'{100 * lead[n]:+.1f}' for n in labels)} points.",
        [table(lab, "Test accuracy from SimCLR's encoder, %", ("", results))],
        claims={23: (lead[few] > lead[many], why)},
    )


def f3(lab: Lab) -> Finding:
    labels = lab.settings.labels
    semi = block(lab, FROM_SCRATCH, from_scratch)
    pretrained_ = block(lab, PRETRAINED, pretrained)
    base = {"supervised": semi.pop("supervised")}
    lead = {n: best(pretrained_, n)[1] - best(semi, n)[1] for n in labels}
    every = {**base, **semi, **pretrained_}
    counts = [float(n) for n in labels]
    curves = {name: curve(counts, list(each.values())) for name, each in every.items()}
    few = labels[0]
    leads = ", ".join(f"{100 * value:+.1f}" for value in lead.values())
    blocks = {
        "Labels only": base, "Semi-supervised": semi, "Pretrained without labels": pretrained_
    }  # fmt: skip
    return Finding(
        {"accuracy": every, "pretrained_lead": lead},
        "The same figures as in table 7 of the SimCLR paper. SimCLR has more steps in total than "
        "the others, because of its steps without labels.",
        f"With {int(few):,} labels the best semi-supervised method is {best(semi, few)[0]} with "
        f"{percent(best(semi, few)[1])} %, the best pretrained one {best(pretrained_, few)[0]} "
        f"with {percent(best(pretrained_, few)[1])} %.",
        [table(lab, "Test accuracy by number of labels, %", *blocks.items())],
        [("test accuracy by number of labels", plots.label_curves_image(curves))],
        {22: (min(lead.values()) > 0, f"the lead is {leads} points")},
    )


EXPERIMENTS = [
    Experiment("F1", "Semi-supervised", "Do unlabeled images help?", f1, 20),
    Experiment("F2", "Pretrained", "Frozen or fine-tuned?", f2, 8),
    Experiment("F3", "Side by side", "Which needs the fewest labels?", f3, 0.2),
]
