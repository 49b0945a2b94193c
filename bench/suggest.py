"""Accuracy with labels of suggested samples, and of as many random ones.

Each draw is another 10,000 training images without labels. 50 samples are suggested and labeled,
then 50 more with those known, then 100 more; a linear classifier of each set is scored on the test
images. "typical" are suggestions by typicality alone, whatever the number of labels.

    python bench/suggest.py                        Fashion-MNIST, histogram features
    python bench/suggest.py --run RUN --data cifar10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from unlabeled.data import open_data
from unlabeled.encoders.features import embed
from unlabeled.evaluation.classify import train_classifier
from unlabeled.evaluation.suggest import to_label, typical
from unlabeled.runs.run import load
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

BUDGETS = (50, 100, 200)
POOL = 10_000


def accuracy(
    z: np.ndarray, y: np.ndarray, rows: np.ndarray, z_test: np.ndarray, y_test: np.ndarray
) -> float:
    """Test accuracy of a linear classifier of those rows; classes that they lack are wrong."""
    classes, codes = np.unique(y[rows], return_inverse=True)
    classifier, _ = train_classifier(z[rows], codes, [str(c) for c in classes])
    return float((classes[classifier.logits(z_test).argmax(1)] == y_test).mean())


def interval(values: list[float]) -> dict[str, float]:
    """Mean of draws and its 95 % interval by Student's t."""
    mean, error = float(np.mean(values)), float(stats.sem(values))
    half = error * float(stats.t.ppf(0.975, len(values) - 1))
    return {"value": mean, "low": mean - half, "high": mean + half}


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="histogram")
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("results/suggest.json"))
    args = parser.parse_args()
    run = load(args.run, data=args.data)
    splits = open_data(args.data, like=run.modality)
    z, z_test = (embed(run.encoder, p.x, splits.value_range) for p in (splits.train, splits.test))
    y, y_test = (p.factors[str(splits.target)] for p in (splits.train, splits.test))
    results: dict[str, dict[int, list[float]]] = {
        name: {budget: [] for budget in BUDGETS} for name in ("suggested", "typical", "random")
    }
    classes: dict[str, list[int]] = {name: [] for name in results}
    for draw in range(args.draws):
        pool = np.random.default_rng(draw).permutation(len(z))[:POOL]
        part, y_part = z[pool], y[pool]
        chosen, alike = np.zeros(POOL, bool), np.zeros(POOL, bool)
        for budget in BUDGETS:
            more = budget - int(chosen.sum())
            chosen[to_label(part, np.where(chosen, y_part, -1), more, draw)] = True
            alike[typical(part, alike, more, draw)] = True
            sets = {
                "suggested": np.flatnonzero(chosen),
                "typical": np.flatnonzero(alike),
                "random": np.arange(budget),
            }
            for name, rows in sets.items():
                results[name][budget].append(accuracy(part, y_part, rows, z_test, y_test))
                if budget == BUDGETS[0]:
                    classes[name].append(len(np.unique(y_part[rows])))
        print(
            draw, {name: [v[-1] for v in by.values()] for name, by in results.items()}, flush=True
        )
    result = {
        str(budget): {name: interval(results[name][budget]) for name in results}
        | {
            "difference": interval(
                list(np.subtract(results["suggested"][budget], results["random"][budget]))
            )
        }
        for budget in BUDGETS
    }
    for labels, values in result.items():
        print(labels, values)
    name = Path(args.run).name
    command = "python bench/suggest.py"
    if args.run != parser.get_default("run"):
        command += f" --run {name} --data {args.data}"
    write_json(
        args.out,
        {
            "command": command,
            "data": args.data,
            "encoder": name,
            "pool": POOL,
            "draws": args.draws,
            "versions": versions(),
            "accuracy": result,
            "classes_among_the_first": {n: float(np.mean(v)) for n, v in classes.items()},
        },
    )


if __name__ == "__main__":
    main()
