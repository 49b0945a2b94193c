"""SimCLRv2 on Fashion-MNIST: pretrain, fine-tune from the head's middle, distill; 1 % and 10 %."""

from __future__ import annotations

import functools
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.augmentations import Augmentation, Compose
from unlabeled.data.dataset import Splits
from unlabeled.data.split import sample_labels
from unlabeled.evaluation.finetune import BATCH, STEPS, accuracy
from unlabeled.pipelines.simclr_v2 import distill, judge, tune_from_middle
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training.train import train
from unlabeled.utils.files import write_json

TITLE = "SimCLRv2: few labels, three steps"
LEAD = (
    "Most images of clothes have no label. A network that first looks at all of them, then at a "
    "few labels, and then teaches another one: what is each step worth?"
)
DATA = "fashion_mnist"
CLAIMS = {9: "Pretraining cuts the labels needed to a tenth."}
LABELS = ("1%", "10%")
PRETRAINING: dict[str, Any] = {"epochs": 20, "batch_size": 256, "temperature": 0.2}
HEAD = {"dim": 128, "head_layers": 3}
SCRATCH_RATES = (2e-3, 8e-3)
FOLDS = {"1%": (3, 3), "10%": (4, 1)}
"""By share: into how many parts the labels are cut to choose from scratch's settings, and how many
of these are held out in turn."""
DISTIL_EPOCHS = 6
WAYS = {
    "scratch": "supervised, from scratch",
    "linear": "SimCLR, linear probe",
    "finetuned": "fine-tuned from the head's middle",
    "student": "student, distilled",
}


def of_seed(lab: Lab, seed: int, labels: str) -> dict[str, float]:
    """Test accuracies of all four ways with the same labels."""
    options = PRETRAINING | HEAD | {"seed": seed}
    pretrained = lab.run("pretrained", "simclr", quick_epochs=1, **options)
    share = labels.rstrip("%")
    folder = lab.out / "runs"
    tail = f"{share}-seed{seed}"
    common: dict[str, Any] = {"seed": seed, "resume": True}
    _, epochs = lengths(lab, round(len(lab.data.train) * float(share) / 100))
    teacher = tune_from_middle(
        pretrained, lab.data, labels, out=folder / f"finetuned-{tail}", epochs=epochs, **common
    )
    student = distill(
        teacher,
        lab.data,
        encoder="small",
        out=folder / f"student-{tail}",
        epochs=1 if lab.quick else DISTIL_EPOCHS,
        **common,
    )
    figures = judge(pretrained, teacher, student, lab.data, labels, seed)
    augment, lr, _ = chosen(lab, labels)
    y = lab.data.train.factors[str(lab.data.target)]
    same = lab.data.train.take(sample_labels(y, labels, seed))
    data = replace(lab.data, train=same)
    figures["scratch"] = scratch(lab, data, augment, lr, folder / f"scratch-{tail}", seed)
    return {way: figures[way] for way in WAYS}


def lengths(lab: Lab, rows: int) -> tuple[int, int]:
    """Batch size and epochs of every training with that many labels."""
    batch = min(BATCH, rows)
    return batch, 2 if lab.quick else max(20, math.ceil(STEPS / (rows // batch)))


def scratch(lab: Lab, data: Splits, augment: str, lr: float, out: Path, seed: int = 0) -> float:
    """Accuracy of the same network after as many steps as fine-tuned, from random weights."""
    batch, epochs = lengths(lab, len(data.train))
    run = train(
        "supervised",
        data,
        epochs=epochs,
        batch_size=batch,
        lr=lr,
        augment=augments(lab)[augment],
        schedule="one_cycle",
        out=out,
        seed=seed,
        resume=True,
    )
    return accuracy(run, data)


def augments(lab: Lab) -> dict[str, Augmentation]:
    """What from scratch may choose of."""
    return {
        "none": Compose([]),
        "weak": lab.data.augment_labeled,
        "contrastive": lab.data.augment,
    }


@functools.lru_cache(maxsize=16)
def chosen(lab: Lab, labels: str) -> tuple[str, float, dict[str, float]]:
    """From scratch's augmentation and learning rate, and the accuracy of each on held-out labels.

    All is chosen on the labels of the first seed, by training on some and asking for the others; no
    test image takes part. A quick study chooses nothing.
    """
    if lab.quick:
        return "weak", SCRATCH_RATES[0], {}
    path = lab.out / "choice.json"
    known: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}
    train_part, target = lab.data.train, str(lab.data.target)
    rows = sample_labels(train_part.factors[target], labels, 0)
    parts, asked = FOLDS[labels]
    fold = folds(train_part.factors[target][rows], parts)
    found = known.setdefault(labels, {})
    settings = {f"{a}, {lr:g}": (a, lr) for a in augments(lab) for lr in SCRATCH_RATES}
    for title, (augment, lr) in settings.items():
        if title in found:
            continue
        scores = []
        for held in range(asked):
            some, others = (train_part.take(rows[m]) for m in (fold != held, fold == held))
            out = lab.out / "runs" / f"choice-{labels.rstrip('%')}-{augment}-{lr:g}-{held}"
            data = replace(lab.data, train=some, test=others)
            scores.append(scratch(lab, data, augment, lr, out))
        found[title] = statistics.mean(scores)
        write_json(path, known)
    return *settings[max(found, key=lambda title: found[title])], found


def folds(y: np.ndarray, parts: int) -> np.ndarray:
    """The part of each row (N,), every class spread over all of them."""
    fold = np.empty(len(y), np.int64)
    fold[np.argsort(y, kind="stable")] = np.arange(len(y)) % parts
    return fold


def v2(lab: Lab) -> Finding:
    found = {n: [of_seed(lab, seed, n) for seed in lab.seeds] for n in LABELS}
    means = {n: {w: statistics.mean(f[w] for f in of) for w in WAYS} for n, of in found.items()}
    few, more = (means[n] for n in LABELS)

    def told(labels: str, way: str) -> str:
        values = [100 * f[way] for f in found[labels]]
        mean = statistics.mean(values)
        of_test = 1.96 * math.sqrt(mean * (100 - mean) / len(lab.data.test))
        spread = statistics.stdev(values) if len(values) > 1 else of_test
        return f"{mean:.2f} ± {spread:.2f}"

    choices = {n: chosen(lab, n) for n in LABELS}
    settings = list(choices[LABELS[0]][2])
    spread = (
        f"standard deviation over {len(lab.seeds)} seeds"
        if len(lab.seeds) > 1
        else "95 % interval of the test"
    )

    return Finding(
        {
            "seeds": lab.seeds,
            "test": found,
            "mean": means,
            "scratch": {
                n: {"augment": augment, "lr": lr, "held_out": held_out}
                for n, (augment, lr, held_out) in choices.items()
            },
        },
        f"SimCLR with a head of three layers learns from {len(lab.data.train):,} images; the "
        "encoder with the head's first layer is fine-tuned with 1 % or 10 % of the labels; a fresh "
        "network learns from all images to say what that one says. From scratch, the same "
        "network gets the same labels and as many steps, and the augmentation and learning rate "
        "that are best on held-out labels: three folds of the 1 %, a quarter of the 10 %. The "
        "others keep their own.",
        f"With 1 % of the labels fine-tuning gives {100 * few['finetuned']:.2f} % and learning "
        f"from scratch {100 * few['scratch']:.2f} %; with 10 % {100 * more['finetuned']:.2f} % and "
        f"{100 * more['scratch']:.2f} %. The student comes to {100 * few['student']:.2f} % and "
        f"{100 * more['student']:.2f} %.",
        [
            Table(
                f"Test accuracy %, by share of the labels; ± {spread}",
                ["", *(n.replace("%", " %") for n in LABELS)],
                [[title, *(told(n, way) for n in LABELS)] for way, title in WAYS.items()],
            ),
            Table(
                "From scratch: accuracy % on held-out labels by augmentation and learning rate",
                ["", *(n.replace("%", " %") for n in LABELS)],
                [[t, *(f"{100 * choices[n][2][t]:.2f}" for n in LABELS)] for t in settings],
            ),
        ],
        [("test accuracy by number of labels", plots.label_curves_image(curves(lab, found)))],
        claims={
            9: (
                few["finetuned"] >= more["scratch"],
                f"fine-tuned with 1 %: {100 * few['finetuned']:.2f} %; from scratch with 10 %: "
                f"{100 * more['scratch']:.2f} %",
            )
        },
    )


def curves(lab: Lab, found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Of each way, mean and deviation by the number of labels."""
    every = {way: [[f[way] for f in found[n]] for n in LABELS] for way in WAYS}
    return {
        WAYS[way]: {
            "labels": [len(lab.data.train) * float(n.rstrip("%")) / 100 for n in LABELS],
            "test": [statistics.mean(values) for values in by_share],
            "sd": [statistics.stdev(v) if len(v) > 1 else 0.0 for v in by_share],
        }
        for way, by_share in every.items()
    }


EXPERIMENTS = [
    Experiment("S1", "SimCLRv2", "What is each of its steps worth?", v2, 14),
]
