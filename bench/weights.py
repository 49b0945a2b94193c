"""Make the small weights in the package, `ul.load("unlabeled:NAME")`: train, evaluate, store.

python bench/weights.py            all; finished trainings in build/weights are taken as they are
python bench/weights.py NAME …     only these

Weights are stored in 16 bits if the linear probe of what is stored agrees to 0.1 percentage points
with that of the trained encoder, else in 32. The record in config.json has both figures.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import unlabeled as ul
from unlabeled.cli import main
from unlabeled.data.dataset import Splits
from unlabeled.evaluation.evaluate import compute
from unlabeled.evaluation.knn import NEIGHBORS
from unlabeled.evaluation.metric import Subject
from unlabeled.runs.card import public_record
from unlabeled.runs.published import PACKAGED, Published, write_folder
from unlabeled.runs.run import Run

BUILD = Path("build/weights")
TRAININGS = {
    "simclr-dsprites": ["simclr", "--data", "dsprites"],
    "simclr-cifar10": ["simclr", "--data", "cifar10", "--epochs", "40"],
}
NOTES = {
    "simclr-cifar10": [
        "The images were those of CIFAR-10 encoded again as JPEG, so figures are close to those on "
        "the original, but not the same.",
        "CIFAR-10 is published for research with a request to cite Krizhevsky 2009, “Learning "
        "Multiple Layers of Features from Tiny Images”.",
    ],
}
LICENSE = "apache-2.0"
"""Of this project, whose weights these are."""
AGREE = 1e-3
MOST = 3_000_000
"""Bytes of all weights together."""


def trained(name: str) -> Run:
    """The finished training of that name, which is run now if there is none."""
    folder = BUILD / name
    if not (folder / "encoder.safetensors").is_file():
        words = ["train", *TRAININGS[name], "--out", str(folder)]
        resume = ["--resume"] if (folder / "last.ckpt").is_file() else []
        if status := main([*words, *resume]):
            raise SystemExit(status)
    return ul.load(folder)


def figures(run: Run, splits: Splits) -> dict[str, Any]:
    """Metrics with intervals; probes have the penalty of the demo."""
    subject = Subject(
        str(run.config["method"]), splits.labeled(), run.encoder, None, 1.0, NEIGHBORS
    )
    metrics = {key: asdict(value) for key, value in compute(subject).items()}
    counts = {"n_train": len(splits.train), "n_test": len(splits.test)}
    about = {"data": splits.name, "test_data": splits.name, "target": splits.target}
    return {**about, **counts, "metrics": metrics}


def store(name: str) -> None:
    """Write the weights of a name into the package."""
    run, folder = trained(name), PACKAGED / name
    splits = ul.open_data(run.config["data"])
    full = figures(run, splits)
    aside = BUILD / f"{name}-stored"
    for dtype in (torch.float16, None):
        shutil.rmtree(aside, ignore_errors=True)
        record = public_record(run.config, full)
        encoder = Published(run.encoder.cpu(), run.inputs, record)
        write_folder(aside, encoder, name, LICENSE, dtype)
        kept = figures(ul.load(aside), splits)
        probes = [each["metrics"]["linear_probe"]["value"] for each in (full, kept)]
        print(f"{name}: linear probe {probes[0]:.4f}, of {dtype or 'float32'} {probes[1]:.4f}")
        if abs(probes[0] - probes[1]) <= AGREE:
            break
    title = f"unlabeled:{name}"
    record = public_record(run.config, kept) | {"made_by": "python bench/weights.py"}
    record["linear_probe_before_storing"] = probes[0]
    shutil.rmtree(folder, ignore_errors=True)
    published = Published(run.encoder.cpu(), run.inputs, record)
    write_folder(folder, published, title, LICENSE, dtype, NOTES.get(name, ()))


def store_all(names: list[str]) -> None:
    """Write weights of some names and check the size of all."""
    for name in names or TRAININGS:
        store(name)
    size = sum(path.stat().st_size for path in PACKAGED.rglob("*") if path.is_file())
    print(f"{size:,} bytes in {PACKAGED}")
    if size > MOST:
        raise SystemExit(f"that is more than {MOST:,}")


if __name__ == "__main__":
    store_all(sys.argv[1:])
