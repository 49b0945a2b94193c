"""k-NN accuracy of learned metrics on scikit-learn's data sets, ours and metric-learn's LMNN.

All use the same standardized rows, three neighbors and five splits into 70 % training and 30 % test
rows. The options of each are chosen from a grid by cross-validation within the training rows of
each split; the test rows are scored once.

    python bench/metric_learning.py                writes results/metric_learning.json
    python bench/metric_learning.py --defaults     prints the best defaults of Mahalanobis
"""

from __future__ import annotations

import argparse
import inspect
import os
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import define_missing_operators
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from unlabeled.sklearn.metric_learning import LMNN, Mahalanobis
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

DATA = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
Grid = dict[str, list[Any]]
SHARES = [0.25, 0.5, 0.75]
SIDES: dict[str, tuple[Callable[[], Any], Grid]] = {
    "Euclidean": (FunctionTransformer, {}),
    "Mahalanobis (Xing)": (Mahalanobis, {"max_iter": [4, 8, 16], "ridge": [0.06, 0.2, 0.6, 2.0]}),
    "LMNN": (LMNN, {"weight": SHARES}),
}
"""The constructor of each metric, and the grid of its options."""
FOLDS = 3


def theirs() -> Any:
    """metric-learn's LMNN with as many target neighbors and its other defaults."""
    import metric_learn
    from metric_learn import _util

    for name in ("check_X_y", "check_array"):  # it passes arguments of an older scikit-learn
        check = getattr(_util, name)

        def renamed(
            *args: Any, check: Any = check, force_all_finite: Any = True, **rest: Any
        ) -> Any:
            return check(*args, ensure_all_finite=force_all_finite, **rest)

        if "force_all_finite" not in inspect.signature(check).parameters:
            setattr(_util, name, renamed)
    return metric_learn.LMNN(n_neighbors=3)


def search(make: Callable[[], Any], grid: Grid, folds: int = FOLDS) -> GridSearchCV:
    """Grid search over the options of scaler, metric and three neighbors by inner folds.

    The scaler and the metric learn from the inner training rows only.
    """
    steps = [
        ("scale", StandardScaler()),
        ("metric", make()),
        ("near", KNeighborsClassifier(3)),
    ]
    tried = {f"metric__{key}": values for key, values in grid.items()}
    inner = StratifiedKFold(folds, shuffle=True, random_state=0)
    return GridSearchCV(Pipeline(steps), tried, cv=inner, n_jobs=os.cpu_count())


def one(make: Callable[[], Any], grid: Grid, x: np.ndarray, y: np.ndarray, seed: int) -> Any:
    """Accuracy on a split's test rows, seconds of the last fit, and the options chosen."""
    x_fit, x_test, y_fit, y_test = train_test_split(
        x, y, test_size=0.3, random_state=seed, stratify=y
    )
    search_result = search(make, grid).fit(x_fit, y_fit)
    chosen = {key.partition("__")[2]: value for key, value in search_result.best_params_.items()}
    return search_result.score(x_test, y_test), search_result.refit_time_, chosen


def defaults() -> None:
    """Print the grid of Mahalanobis by mean accuracy over all sets, on training rows of split 0."""
    make, grid = SIDES["Mahalanobis (Xing)"]
    scores = []
    for load in DATA.values():
        x, y = load(return_X_y=True)
        x_fit, _, y_fit, _ = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
        found = search(make, grid, 5).fit(x_fit, y_fit).cv_results_
        scores.append(found["mean_test_score"])
    for mean, options in sorted(
        zip(np.mean(scores, 0), found["params"], strict=True), key=lambda pair: -pair[0]
    ):
        print(f"{100 * mean:.2f} %", options)


def main() -> None:
    """Compare all metrics on all data sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/metric_learning.json"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.defaults:
        return defaults()
    define_missing_operators()
    sides = SIDES | {"metric-learn's LMNN": (theirs, {"regularization": SHARES})}
    results: dict[str, dict[str, Any]] = {}
    for name, load in DATA.items():
        x, y = load(return_X_y=True)
        results[name] = {}
        for side, (make, grid) in sides.items():
            scores = [one(make, grid, x, y, seed) for seed in range(args.splits)]
            accuracy, seconds, chosen = zip(*scores, strict=True)
            results[name][side] = {
                "accuracy": statistics.mean(accuracy),
                "sd": statistics.stdev(accuracy),
                "seconds": statistics.median(seconds),
                "grid": grid,
                "chosen": chosen,
            }
            print(name, side, results[name][side], flush=True)
        write_json(
            args.out,
            {
                "command": "python bench/metric_learning.py",
                "splits": args.splits,
                "folds": FOLDS,
                "cores": os.cpu_count(),
                "versions": versions(),
                "found": results,
            },
        )


if __name__ == "__main__":
    main()
