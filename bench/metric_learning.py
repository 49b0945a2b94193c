"""Nearest neighbours by learnt metrics on scikit-learn's data sets, beside metric-learn's LMNN.

Every side gets the same standardised rows, three neighbours and ten splits (70 % to learn from).

    python bench/metric_learning.py                writes results/metric_learning.json
"""

from __future__ import annotations

import argparse
import inspect
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import define_missing_operators
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from unlabeled.files import write_json
from unlabeled.metric_learning import LMNN, Mahalanobis
from unlabeled.training import versions

DATA = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
SIDES: dict[str, Callable[[], Any]] = {
    "Euclidean": FunctionTransformer,
    "Mahalanobis (Xing)": Mahalanobis,
    "LMNN": LMNN,
}


def theirs() -> Any:
    """metric-learn's LMNN with as many target neighbours and its other defaults."""
    import metric_learn
    from metric_learn import _util

    for name in ("check_X_y", "check_array"):  # it knows an older scikit-learn's arguments
        check = getattr(_util, name)

        def renamed(
            *args: Any, check: Any = check, force_all_finite: Any = True, **rest: Any
        ) -> Any:
            return check(*args, ensure_all_finite=force_all_finite, **rest)

        if "force_all_finite" not in inspect.signature(check).parameters:
            setattr(_util, name, renamed)
    return metric_learn.LMNN(n_neighbors=3)


def one(make: Callable[[], Any], x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float, float]:
    """Accuracy on a split, and the seconds that fitting took."""
    parts = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
    x_fit, x_test, y_fit, y_test = parts
    scaler = StandardScaler().fit(x_fit)
    x_fit, x_test = scaler.transform(x_fit), scaler.transform(x_test)
    started = time.perf_counter()
    metric = make().fit(x_fit, y_fit)
    spent = time.perf_counter() - started
    knn = KNeighborsClassifier(3).fit(metric.transform(x_fit), y_fit)
    return knn.score(metric.transform(x_test), y_test), spent


def main() -> None:
    """All sides on all data sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("results/metric_learning.json"))
    args = parser.parse_args()
    define_missing_operators()
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, Any]] = {}
    for name, load in DATA.items():
        x, y = load(return_X_y=True)
        found[name] = {}
        for side, make in (SIDES | {"metric-learn's LMNN": theirs}).items():
            scores = [one(make, x, y, seed) for seed in range(args.splits)]
            accuracy, seconds = zip(*scores, strict=True)
            found[name][side] = {
                "accuracy": statistics.mean(accuracy),
                "sd": statistics.stdev(accuracy),
                "seconds": statistics.median(seconds),
            }
            print(name, side, found[name][side], flush=True)
        write_json(
            args.out,
            {
                "command": "python bench/metric_learning.py",
                "splits": args.splits,
                "cores": os.cpu_count(),
                "versions": versions(),
                "found": found,
            },
        )


if __name__ == "__main__":
    main()
