"""Calibration of classifiers on CIFAR-10, and equality of the exported logits.

The run is that of `unlabeled train simclr --data cifar10 --epochs 20 --out runs/cifar10-simclr`.

python bench/calibration.py runs/cifar10-simclr          writes results/calibration.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from scipy.special import softmax

from unlabeled.data import open_data
from unlabeled.evaluation.calibration import expected_calibration_error
from unlabeled.evaluation.classify import Kind, classify
from unlabeled.runs.export import export
from unlabeled.runs.run import Run, load
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

CHECKED = 1000
"""Test images whose logits are compared."""


def largest_difference(model: Run, x: np.ndarray, folder: Path) -> float:
    """Of the logits of ONNX and of ours, for the same images."""
    path = export(model, "onnx", folder / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = [session.run(["logits"], {"images": x[i : i + 100]})[0] for i in range(0, len(x), 100)]
    ours = model.require_classifier().logits(model.embed(x))
    return float(np.abs(np.concatenate(logits) - ours).max())


def measure(run: Run, kind: Kind, labels: str, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Figures of one classifier: before and after calibration, and exported."""
    started = time.perf_counter()
    model = classify(run, "cifar10", kind=kind, labels=labels)
    seconds = time.perf_counter() - started
    head = model.require_classifier()
    scores = head.logits(model.embed(x)).astype(np.float64) * head.temperature
    before = expected_calibration_error(softmax(scores, axis=1), y)
    with tempfile.TemporaryDirectory() as folder:
        off = largest_difference(model, x[:CHECKED], Path(folder))
    names = ("labels", "penalty", "neighbors", "accuracy", "most_frequent_class")
    return {name: head.figures[name] for name in names if name in head.figures} | {
        "expected_calibration_error": head.figures["expected_calibration_error"],
        "expected_calibration_error_at_temperature_1": before.value,
        "temperature": head.temperature,
        "largest_difference_of_onnx_logits": off,
        "seconds": seconds,
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--out", type=Path, default=Path("results/calibration.json"))
    args = parser.parse_args()
    run = load(args.run)
    splits = open_data("cifar10", like=run.modality)
    x, y = splits.test.x[:], splits.test.factors["class"]
    kinds: tuple[Kind, ...] = ("linear", "knn")
    results = {}
    for kind in kinds:
        for labels in ("500", "100%"):
            results[f"{kind}, {labels}"] = figures = measure(run, kind, labels, x, y)
            print(kind, labels, figures, flush=True)
    recipe = {key: run.config["recipe"][key] for key in ("epochs", "batch_size")}
    write_json(
        args.out,
        {
            "command": "python bench/calibration.py runs/cifar10-simclr",
            "run": f"{run.config['method']}, encoder {run.config['encoder']}",
            "recipe": recipe,
            "versions": versions(),
            "classifiers": results,
        },
    )


if __name__ == "__main__":
    main()
