"""SimCLRv2 on Fashion-MNIST: pretrain, fine-tune from the head's middle, distil; 1 % and 10 %."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from unlabeled.evaluation.finetune import BATCH, STEPS, accuracy
from unlabeled.methods.simclr_v2 import distil, judge, tune_from_middle
from unlabeled.report import plots
from unlabeled.studies.study import Experiment, Finding, Lab, Table
from unlabeled.training import train

TITLE = "SimCLRv2: few labels, three steps"
LEAD = (
    "Most pictures of clothes have no label. A network that first looks at all of them, then at a "
    "few labels, and then teaches another one: what is each step worth?"
)
DATA = "fashion_mnist"
CLAIMS = {9: "Pretraining cuts the labels needed to a tenth."}
LABELS = ("1%", "10%")
PRETRAINING: dict[str, Any] = {"epochs": 20, "batch_size": 256, "temperature": 0.2}
HEAD = {"dim": 128, "layers": 3}
SCRATCH_LR = 2e-3
DISTIL_EPOCHS = 10
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
    rows = round(len(lab.data.train) * float(share) / 100)
    batch = min(BATCH, rows)
    epochs = 2 if lab.quick else max(20, math.ceil(STEPS / (rows // batch)))
    teacher = tune_from_middle(
        pretrained, lab.data, labels, out=folder / f"finetuned-{tail}", epochs=epochs, **common
    )
    student = distil(
        teacher,
        lab.data,
        encoder="small",
        out=folder / f"student-{tail}",
        epochs=1 if lab.quick else DISTIL_EPOCHS,
        **common,
    )
    figures = judge(pretrained, teacher, student, lab.data, labels, seed)
    figures["scratch"] = scratch(lab, labels, epochs, batch, folder / f"scratch-{tail}", common)
    return {way: figures[way] for way in WAYS}


def scratch(
    lab: Lab, labels: str, epochs: int, batch: int, out: Path, common: dict[str, Any]
) -> float:
    """The same network and as many steps, from random weights."""
    run = train(
        "supervised",
        lab.data,
        labels=labels,
        epochs=epochs,
        batch_size=batch,
        lr=SCRATCH_LR,
        schedule="one_cycle",
        out=out,
        **common,
    )
    return accuracy(run, lab.data)


def v2(lab: Lab) -> Finding:
    found = {n: [of_seed(lab, seed, n) for seed in lab.seeds] for n in LABELS}
    means = {n: {w: statistics.mean(f[w] for f in of) for w in WAYS} for n, of in found.items()}
    few, more = (means[n] for n in LABELS)

    def told(labels: str, way: str) -> str:
        values = [100 * f[way] for f in found[labels]]
        sd = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.2f}{sd}"

    return Finding(
        {"seeds": lab.seeds, "test": found, "mean": means},
        f"SimCLR with a head of three layers learns from {len(lab.data.train):,} pictures; the "
        "encoder with the head's first layer is fine-tuned with 1 % or 10 % of the labels; a fresh "
        "network learns from all pictures to say what that one says. From scratch, the same "
        "network gets the same labels and as many steps.",
        f"With 1 % of the labels fine-tuning gives {100 * few['finetuned']:.2f} % and learning "
        f"from scratch {100 * few['scratch']:.2f} %; with 10 % {100 * more['finetuned']:.2f} % and "
        f"{100 * more['scratch']:.2f} %. The student comes to {100 * few['student']:.2f} % and "
        f"{100 * more['student']:.2f} %.",
        [
            Table(
                "Test accuracy %, by share of the labels",
                ["", *(n.replace("%", " %") for n in LABELS)],
                [[title, *(told(n, way) for n in LABELS)] for way, title in WAYS.items()],
            )
        ],
        [("test accuracy by number of labels", plots.label_curves_picture(curves(lab, found)))],
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
