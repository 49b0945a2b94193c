"""Suspected label errors: of 5 % flipped labels, which are found, and what else is.

UNLABELED_DATA=… python bench/label_errors.py      writes results/label_errors.json

The test images of Fashion-MNIST and of CIFAR-10 (10,000 each) with features of several strengths.
Labels are flipped to another class at random, and all flagged others count as mistakes, though some
real labels are wrong, too. Beside the rule: confident learning without its margin and without the
check whether the features are strong enough. Margin and check were chosen on digits and training
images.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from unlabeled.data import open_data
from unlabeled.encoders.features import build_for, centered, embed
from unlabeled.evaluation import label_errors
from unlabeled.evaluation.intervals import wilson
from unlabeled.evaluation.label_errors import suspected_labels
from unlabeled.evaluation.structure import neighbors
from unlabeled.utils.files import write_json

DATA = Path(os.environ.get("UNLABELED_DATA", "../shared/data"))
SETS, ENCODERS, SHARES, SEED, VOTERS = (
    {"Fashion-MNIST": "fashion_mnist:fashion-mnist", "CIFAR-10": "cifar10:cifar10"},
    ("pca", "histogram", "small"),
    (0.02, 0.05, 0.1),
    0,
    20,
)


def flipped(y: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is another class, and whether each is."""
    rng = np.random.default_rng(SEED)
    rows = rng.permutation(len(y))[: round(share * len(y))]
    changed, is_flipped = y.copy(), np.zeros(len(y), bool)
    changed[rows] = (y[rows] + rng.integers(1, y.max() + 1, len(rows))) % (y.max() + 1)
    is_flipped[rows] = True
    return changed, is_flipped


def scored(rows: np.ndarray, is_flipped: np.ndarray) -> dict[str, Any]:
    """Precision and recall of flags, with Wilson intervals."""
    hits = int(is_flipped[rows].sum())
    return {
        "flagged": len(rows),
        "precision": hits / len(rows) if len(rows) else None,
        "precision_interval": wilson(hits, len(rows)) if len(rows) else None,
        "recall": hits / int(is_flipped.sum()),
        "recall_interval": wilson(hits, int(is_flipped.sum())),
    }


def main() -> None:
    """Measure, print, write."""
    results: dict[str, Any] = {}
    for name, location in SETS.items():
        kind, _, folder = location.partition(":")
        splits = open_data(f"{kind}:{DATA / folder}")
        y = splits.test.factors[str(splits.target)]
        for encoder in ENCODERS:
            torch.manual_seed(SEED)
            z = embed(build_for(encoder, splits), splits.test.x, splits.value_range)
            near = neighbors(centered(torch.from_numpy(z)).numpy(), VOTERS)
            for share in SHARES:
                labels, is_flipped = flipped(y, share)
                rule = suspected_labels(*near, labels)
                with patch.multiple(label_errors, MARGIN=1e-9, AGREEMENT=0.0):
                    plain = suspected_labels(*near, labels)
                key = f"{name}, {encoder}, {100 * share:g} % flipped"
                results[key] = {
                    "agreement": rule.agreement,
                    "too_weak": rule.too_weak,
                    "rule": scored(rule.rows, is_flipped),
                    "without_margin_and_check": scored(plain.rows, is_flipped),
                }
                print(key, results[key], flush=True)
    write_json(
        Path("results/label_errors.json"),
        {
            "command": "python bench/label_errors.py",
            "samples": 10_000,
            "neighbors": VOTERS,
            "seed": SEED,
            "found": results,
        },
    )


if __name__ == "__main__":
    main()
