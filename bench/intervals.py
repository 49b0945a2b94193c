"""How often 95 % intervals cover the truth, and how often equal encoders are said to differ.

python bench/intervals.py      writes results/intervals.json

Classifiers of known accuracy are simulated, 2,000 test sets for each setting. Coverage is the share
of test sets whose interval holds the truth; it should be 93–97 %. Few answers take few values, so
that no interval of 20 answers covers an accuracy of 99 % that often. Features of the AUROC are
normal distributions around class means; its truth is that of 5 test sets of 2,000 samples. Two
encoders of equal accuracy, whose answers agree more or less, should be said to differ in at most
6 % of test sets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from unlabeled.evaluation.intervals import paired_difference, wilson
from unlabeled.evaluation.metric import Value, accuracy
from unlabeled.evaluation.metrics.linear_probe import balanced_accuracy
from unlabeled.evaluation.verification import auroc, pairs
from unlabeled.utils.files import write_json

DRAWS = 2000
AUROC_DRAWS = {30: 2000, 100: 400, 200: 400}
"""By the number of samples: all pairs are compared each time."""
RESULT = Path(__file__).parent.parent / "results/intervals.json"

Rng = np.random.Generator


def coverage(draw: Callable[[Rng], Value], truth: float, draws: int = DRAWS) -> dict[str, float]:
    """Share of intervals that hold the truth, its own interval, and their mean width."""
    rng = np.random.default_rng(0)
    values = [draw(rng) for _ in range(draws)]
    ends = np.array([(v.low, v.high) for v in values], float)
    hits = int(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).sum())
    low, high = wilson(hits, draws)
    width = float((ends[:, 1] - ends[:, 0]).mean())
    return {"truth": truth, "coverage": hits / draws, "low": low, "high": high, "width": width}


def accuracies() -> dict[str, dict[str, float]]:
    """Of n independent answers, right with probability p."""

    def draw(n: int, p: float, rng: Rng) -> Value:
        return accuracy(rng.random(n) < p)

    return {
        f"n {n}, p {p}": coverage(partial(draw, n, p), p)
        for n in (20, 100, 1000)
        for p in (0.5, 0.8, 0.95, 0.99)
    }


def grouped() -> dict[str, dict[str, float]]:
    """Of 20 answers from each group, whose own accuracy varies with a Beta(4, 1) distribution."""

    def draw(n: int, rng: Rng) -> Value:
        p = np.repeat(rng.beta(4, 1, n), 20)
        return accuracy(rng.random(20 * n) < p, np.repeat(np.arange(n), 20))

    return {f"{n} groups": coverage(partial(draw, n), 0.8) for n in (10, 30, 100)}


def balanced_accuracies() -> dict[str, dict[str, float]]:
    """Of classes of equal or unequal size, and of equal or unequal recall."""

    def draw(y: np.ndarray, p: np.ndarray, rng: Rng) -> Value:
        return balanced_accuracy(rng.random(len(y)) < p[y], y)

    results = {}
    for classes, each in ((2, 20), (5, 20), (20, 5), (20, 50)):
        sizes = {
            "equal": np.full(classes, each),
            "unequal": np.maximum(4, np.geomspace(1, 0.05, classes) * each * 2).astype(int),
        }
        recalls = {
            "0.8": np.full(classes, 0.8),
            "0.95": np.full(classes, 0.95),
            "0.4 to 0.99": np.linspace(0.4, 0.99, classes),
        }
        for size, counts in sizes.items():
            for recall, p in recalls.items():
                y = np.repeat(np.arange(classes), counts)
                name = f"{classes} classes of {size} size, {len(y)} samples, recall {recall}"
                results[name] = coverage(partial(draw, y, p), float(p.mean()))
    return results


def aurocs() -> dict[str, dict[str, float]]:
    """Of same-class pairs, for classes that overlap more or less."""
    means = np.random.default_rng(9).normal(size=(3, 8))

    def draw(rng: Rng, n: int, distance: float) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(3, size=n)
        return (distance * means[y] + rng.normal(size=(n, 8))).astype(np.float32), y

    def value(n: int, distance: float, rng: Rng) -> Value:
        return Value.of(*auroc(*draw(rng, n, distance)))

    results = {}
    for distance in (0.5, 1.0, 1.5, 2.0):
        rng = np.random.default_rng(1)
        truth = float(np.mean([pairs(*draw(rng, 2000, distance)).auc for _ in range(5)]))
        for n, draws in AUROC_DRAWS.items():
            covered = coverage(partial(value, n, distance), truth, draws)
            results[f"n {n}, AUROC {truth:.3f}"] = covered
    return results


def false_differences() -> dict[str, dict[str, float]]:
    """How often `paired_difference` calls two encoders of the same accuracy different."""
    results = {}
    for n in (20, 100, 1000):
        for p in (0.5, 0.8, 0.95):
            for agreement in (0.0, 0.8):
                rng, calls = np.random.default_rng(0), 0
                for _ in range(DRAWS):
                    shared, keep = rng.random(n) < p, rng.random((2, n)) < agreement**0.5
                    a, b = np.where(keep, shared, rng.random((2, n)) < p)
                    calls += paired_difference(a, b).p < 0.05
                low, high = wilson(calls, DRAWS)
                name = f"n {n}, p {p}, correlation {agreement}"
                results[name] = {"called": calls / DRAWS, "low": low, "high": high}
    return results


def main() -> None:
    """Simulate and write the results."""
    covered = {
        "accuracy": accuracies(),
        "accuracy_over_groups": grouped(),
        "balanced_accuracy": balanced_accuracies(),
        "auroc": aurocs(),
    }
    differences = false_differences()
    result = {
        "draws": DRAWS,
        "draws_of_auroc": AUROC_DRAWS,
        "coverage": covered,
        "false_differences": differences,
    }
    for metric, settings in covered.items():
        within = [s["coverage"] for s in settings.values()]
        inside = sum(0.93 <= c <= 0.97 for c in within)
        ends = f"{min(within):.3f} to {max(within):.3f}"
        print(f"{metric}: {inside} of {len(within)} in 93–97 %, {ends}")
    called = [s["called"] for s in differences.values()]
    print(f"equal encoders called different: at most {max(called):.3f}")
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
