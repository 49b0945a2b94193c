"""SimCLRv2 on Fashion-MNIST with 1 % and 10 % of the labels: pretrain, fine-tune, distill."""

import functools
import json
import math
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.augmentations import Augmentation, Compose
from unlabeled.data.dataset import Splits
from unlabeled.data.split import sample_labels
from unlabeled.evaluation.finetune import BATCH, STEPS, accuracy
from unlabeled.pipelines.simclr_v2 import accuracies, distill, finetune_from_middle
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, curve
from unlabeled.training.train import train
from unlabeled.utils.files import write_json

TITLE = "SimCLRv2: pretraining, fine-tuning and distillation with few labels"
LEAD = (
    "Most images have no label. SimCLRv2 pretrains on all images, fine-tunes with the few labels "
    "and distills into a student network. What does each step contribute?"
)
DATA = "fashion_mnist"
CLAIMS = {9: "Pretraining cuts the labels needed to a tenth."}
LABELS = ("1%", "10%")
PRETRAINING: dict[str, Any] = {"epochs": 20, "batch_size": 256, "temperature": 0.2}
HEAD = {"dim": 128, "head_layers": 3}
SCRATCH_RATES = (2e-3, 8e-3)


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    pretraining: dict[str, Any] = field(default_factory=PRETRAINING.copy)  #: arguments of SimCLR
    #: by share of labels, the number of folds for choosing the settings from scratch, and how many
    #: of them are held out in turn; no choice without folds
    folds: dict[str, tuple[int, int]] = field(default_factory=lambda: {"1%": (3, 3), "10%": (4, 1)})
    min_epochs: int = 20  #: least number of epochs with labels
    steps: int = STEPS  #: optimizer steps with labels, at least
    distill_epochs: int = 6  #: epochs of the student


SETTINGS = Settings()
QUICK = Settings(PRETRAINING | {"epochs": 1}, folds={}, min_epochs=2, steps=0, distill_epochs=1)
WAYS = {
    "scratch": "supervised, from scratch",
    "linear": "SimCLR, linear probe",
    "finetuned": "fine-tuned from the head's middle",
    "student": "student, distilled",
}


def of_seed(lab: Lab, seed: int, labels: str) -> dict[str, float]:
    """Test accuracies of all four models trained with the same labels."""
    options = lab.settings.pretraining | HEAD | {"seed": seed}
    pretrained = lab.run("pretrained", "simclr", **options)
    share = labels.rstrip("%")
    finetuned, distilled, from_scratch = (
        lab.out / "runs" / f"{way}-{share}-seed{seed}"
        for way in ("finetuned", "student", "scratch")
    )
    common: dict[str, Any] = {"seed": seed, "resume": True}
    _, epochs = lengths(lab, round(len(lab.data.train) * float(share) / 100))
    teacher = finetune_from_middle(
        pretrained, lab.data, labels, out=finetuned, epochs=epochs, **common
    )
    common["epochs"] = lab.settings.distill_epochs
    student = distill(teacher, lab.data, encoder="small", out=distilled, **common)
    figures = accuracies(pretrained, teacher, student, lab.data, labels, seed)
    augment, lr, _ = chosen(lab, labels)
    rows = sample_labels(lab.labels()[0], labels, seed)
    data = replace(lab.data, train=lab.data.train.take(rows))
    figures["scratch"] = scratch(lab, data, augment, lr, from_scratch, seed)
    return {way: figures[way] for way in WAYS}


def lengths(lab: Lab, rows: int) -> tuple[int, int]:
    """Batch size and number of epochs of trainings with that many labels."""
    batch = min(BATCH, rows)
    return batch, max(lab.settings.min_epochs, math.ceil(lab.settings.steps / (rows // batch)))


def scratch(lab: Lab, data: Splits, augment: str, lr: float, out: Path, seed: int = 0) -> float:
    """Test accuracy of supervised training from random weights with the steps of fine-tuning."""
    batch, epochs = lengths(lab, len(data.train))
    options: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "schedule": "one_cycle"}
    options |= {"lr": lr, "augment": augments(lab)[augment]}
    return accuracy(train("supervised", data, out=out, seed=seed, resume=True, **options), data)


def augments(lab: Lab) -> dict[str, Augmentation]:
    """Augmentations that are tried for training from scratch."""
    weak, contrastive = lab.data.augment_labeled, lab.data.augment
    return {"none": Compose([]), "weak": weak, "contrastive": contrastive}


@functools.lru_cache(maxsize=16)
def chosen(lab: Lab, labels: str) -> tuple[str, float, dict[str, float]]:
    """Augmentation and learning rate from scratch, with the accuracies on held-out labels.

    They are chosen by cross-validation on the labels of the first seed, without test images.
    """
    if not lab.settings.folds:
        return "weak", SCRATCH_RATES[0], {}
    path = lab.out / "choice.json"
    choices: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}
    train_part, target = lab.data.train, str(lab.data.target)
    rows = sample_labels(train_part.factors[target], labels, 0)
    parts, held_out = lab.settings.folds[labels]
    fold = folds(train_part.factors[target][rows], parts)
    results = choices.setdefault(labels, {})
    settings = {f"{a}, {lr:g}": (a, lr) for a in augments(lab) for lr in SCRATCH_RATES}
    for title, (augment, lr) in settings.items():
        if title in results:
            continue
        scores = []
        for held in range(held_out):
            some, others = (train_part.take(rows[m]) for m in (fold != held, fold == held))
            out = lab.out / "runs" / f"choice-{labels.rstrip('%')}-{augment}-{lr:g}-{held}"
            data = replace(lab.data, train=some, test=others)
            scores.append(scratch(lab, data, augment, lr, out))
        results[title] = statistics.mean(scores)
        write_json(path, choices)
    return *settings[max(results, key=lambda title: results[title])], results


def folds(y: np.ndarray, parts: int) -> np.ndarray:
    """Fold of each sample (N,), stratified by class."""
    fold = np.empty(len(y), np.int64)
    fold[np.argsort(y, kind="stable")] = np.arange(len(y)) % parts
    return fold


def v2(lab: Lab) -> Finding:
    results = {n: [of_seed(lab, seed, n) for seed in lab.seeds] for n in LABELS}
    means = {n: {w: statistics.mean(f[w] for f in of) for w in WAYS} for n, of in results.items()}
    few, more = (means[n] for n in LABELS)

    def with_spread(labels: str, way: str) -> str:
        values = [100 * f[way] for f in results[labels]]
        mean = statistics.mean(values)
        of_test = 1.96 * math.sqrt(mean * (100 - mean) / len(lab.data.test))
        spread = statistics.stdev(values) if len(values) > 1 else of_test
        return f"{mean:.2f} ± {spread:.2f}"

    choices = {n: chosen(lab, n) for n in LABELS}
    settings = list(choices[LABELS[0]][2])
    seeds = len(lab.seeds)
    over_seeds = f"standard deviation over {seeds} seeds"
    spread = over_seeds if seeds > 1 else "95 % interval over test images"
    columns = ["", *(n.replace("%", " %") for n in LABELS)]
    keys = ("augment", "lr", "held_out")
    from_scratch = {n: dict(zip(keys, choice, strict=True)) for n, choice in choices.items()}
    counts = [len(lab.data.train) * float(n.rstrip("%")) / 100 for n in LABELS]
    curves = {
        title: curve(counts, [[f[way] for f in results[n]] for n in LABELS])
        for way, title in WAYS.items()
    }
    why = (
        f"fine-tuned with 1 %: {100 * few['finetuned']:.2f} %; from scratch with 10 %: "
        f"{100 * more['scratch']:.2f} %"
    )
    return Finding(
        {"seeds": lab.seeds, "test": results, "mean": means, "scratch": from_scratch},
        f"SimCLR with a three-layer head is pretrained on {len(lab.data.train):,} images. The "
        "encoder with the first layer of the head is fine-tuned with 1 % or 10 % of the labels. A "
        "new network is distilled from its predictions for all images. Training from scratch uses "
        "the same network, labels and number of steps, with the augmentation and learning rate "
        "that are best on held-out labels (three folds of the 1 %, a quarter of the 10 %). The "
        "others use their defaults.",
        f"Fine-tuning reaches {100 * few['finetuned']:.2f} % with 1 % of the labels and "
        f"{100 * more['finetuned']:.2f} % with 10 %, training from scratch "
        f"{100 * few['scratch']:.2f} % and {100 * more['scratch']:.2f} %, the student "
        f"{100 * few['student']:.2f} % and {100 * more['student']:.2f} %.",
        [
            Table(
                f"Test accuracy by share of labels, %; ± {spread}",
                columns,
                [[title, *(with_spread(n, way) for n in LABELS)] for way, title in WAYS.items()],
            ),
            Table(
                "From scratch: accuracy on held-out labels by augmentation and learning rate, %",
                columns,
                [[t, *(f"{100 * choices[n][2][t]:.2f}" for n in LABELS)] for t in settings],
            ),
        ],
        [("test accuracy by number of labels", plots.label_curves_image(curves))],
        claims={9: (few["finetuned"] >= more["scratch"], why)},
    )


EXPERIMENTS = [Experiment("S1", "SimCLRv2", "What does each of its steps contribute?", v2, 14)]
