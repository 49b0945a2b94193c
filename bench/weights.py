"""Make the small weights in the package, `ul.load("unlabeled:NAME")`: train, evaluate, store.

python bench/weights.py            all; finished trainings in build/weights are taken as they are
python bench/weights.py NAME …     only these
python bench/weights.py --again    evaluate what is stored again and write the cards; trains nothing

Weights are stored in 16 bits if the linear probe of what is stored agrees to 0.1 percentage points
with that of the trained encoder, else in 32. The record in config.json has both figures.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import unlabeled as ul
from unlabeled.cli import main
from unlabeled.data.dataset import Splits
from unlabeled.evaluation.evaluate import compute, measure_encoders
from unlabeled.evaluation.metric import Subject
from unlabeled.runs.card import public_record
from unlabeled.runs.published import CONFIG, OURS, PACKAGED, Published, write_folder
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
        "No license of CIFAR-10 is known to this project; its page asks to cite Krizhevsky 2009, "
        "“Learning Multiple Layers of Features from Tiny Images”.",
        "By linear probe, a histogram of colors and edges is nearly as good on these images "
        "(results/photographs.json).",
    ],
}
BEFORE = "The training was run by a development version between 0.1.0 and 0.2.0, numbered 0.1.0."
"""A note for weights whose record says 0.1.0 but has options that came with 0.2.0."""
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


def probe(run: Run, splits: Splits) -> float:
    """Linear probe accuracy alone."""
    subject = Subject(str(run.config["method"]), splits.labeled(), run.encoder)
    return float(compute(subject)["linear_probe"].value or 0)


def figures(run: Run, splits: Splits) -> dict[str, Any]:
    """What `unlabeled evaluate` measures: metrics with intervals, beside the baselines."""
    return measure_encoders({str(run.config["method"]): run}, splits).to_json()


def store(name: str) -> None:
    """Write the weights of a name into the package."""
    run, folder = trained(name), PACKAGED / name
    splits = ul.open_data(run.config["data"])
    full = probe(run, splits)
    aside = BUILD / f"{name}-stored"
    for dtype in (torch.float16, None):
        shutil.rmtree(aside, ignore_errors=True)
        record = public_record(run.config, None)
        encoder = Published(run.encoder.cpu(), run.inputs, record)
        write_folder(aside, encoder, name, LICENSE, dtype)
        stored = ul.load(aside)
        rounded = probe(stored, splits)
        print(f"{name}: linear probe {full:.4f}, of {dtype or 'float32'} {rounded:.4f}")
        if abs(full - rounded) <= AGREE:
            break
    shutil.rmtree(folder, ignore_errors=True)
    write(name, run, figures(stored, splits), full, dtype)


def write(
    name: str, run: Run, result: dict[str, Any], before: float, dtype: torch.dtype | None
) -> None:
    """Write the folder of a name.

    Args:
        name: in `TRAININGS`.
        run: the encoder.
        result: its evaluation.
        before: linear probe accuracy of the encoder that was trained, in 32 bits.
        dtype: of the stored weights.
    """
    record = public_record(run.config, result) | {"made_by": "python bench/weights.py"}
    record["linear_probe_before_storing"] = before
    notes = list(NOTES.get(name, ()))
    if record["versions"].get("unlabeled") == "0.1.0":
        notes.append(BEFORE)
    published = Published(run.encoder.cpu(), run.inputs, record)
    write_folder(PACKAGED / name, published, f"unlabeled:{name}", LICENSE, dtype, notes)


def store_again(name: str) -> None:
    """Evaluate the stored weights of a name, and write their record and card; weights stay."""
    run = ul.load(f"unlabeled:{name}")
    result = figures(run, ul.open_data(run.config["data"]))
    stored = load_file(PACKAGED / name / "model.safetensors")
    is_half = any(value.dtype == torch.float16 for value in stored.values())
    record = json.loads((PACKAGED / name / CONFIG).read_text(encoding="utf-8"))[OURS]["record"]
    before = record["linear_probe_before_storing"]
    write(name, run, result, before, torch.float16 if is_half else None)


def store_all(words: list[str]) -> None:
    """Write weights of some names and check the size of all."""
    again, names = "--again" in words, [word for word in words if word != "--again"]
    for name in names or TRAININGS:
        (store_again if again else store)(name)
    size = sum(path.stat().st_size for path in PACKAGED.rglob("*") if path.is_file())
    print(f"{size:,} bytes in {PACKAGED}")
    if size > MOST:
        raise SystemExit(f"that is more than {MOST:,}")


if __name__ == "__main__":
    store_all(sys.argv[1:])
