"""Speed of evaluation: k-NN and scikit-learn's, similarity analysis and rsatoolbox's.

python bench/evaluation.py                     writes results/bench_evaluation.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import define_missing_operators

from unlabeled.evaluation import rsa
from unlabeled.evaluation.knn import nearest
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

BANK, QUERIES, DIM, K = 20_000, 5_000, 128, 20
RSA_ROWS, RSA_DIM = 4_000, 512
LARGE = 20_000


def neighbors() -> tuple[dict[str, Callable[[], np.ndarray]], float]:
    """Both implementations, and the fraction of neighbors on which they agree."""
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    bank, queries = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (BANK, QUERIES))
    units = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    theirs = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(units)
    sides = {
        "ours": lambda: nearest(bank, queries, K)[1],
        "scikit-learn": lambda: theirs.kneighbors(asked, return_distance=False),
    }
    same = float((sides["ours"]() == sides["scikit-learn"]()).mean())
    return sides, same


def similarities() -> tuple[dict[str, Callable[[], np.ndarray]], float]:
    """Both implementations of Pearson's similarity of all pairs, and their largest difference."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    z = np.random.default_rng(0).normal(size=(RSA_ROWS, RSA_DIM)).astype(np.float32)
    data = Dataset(z)
    sides = {
        "ours": lambda: rsa.similarity_matrix(z, "pearson"),
        "rsatoolbox": lambda: 1 - calc_rdm(data, method="correlation").get_matrices()[0],
    }
    return sides, float(np.abs(sides["ours"]() - sides["rsatoolbox"]()).max())


def alternate(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Median seconds of each, alternated, and the ratio of the peer's to ours."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - started)
    ours, peer = times.values()
    results: dict[str, Any] = {name: statistics.median(values) for name, values in times.items()}
    return results | {"ratio": statistics.median(np.divide(peer, ours))}


def large() -> float:
    """Peak memory in GiB of a similarity matrix of 20,000 × 512, in a separate process."""
    code = (
        "import numpy as np, resource; from unlabeled.evaluation import rsa; "
        f"z = np.random.default_rng(0).normal(size=({LARGE}, {RSA_DIM})).astype(np.float32); "
        "rsa.similarity_matrix(z, 'pearson'); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def startup(rounds: int) -> dict[str, float]:
    """Median seconds of `unlabeled --help` and of an empty Python program, alternated."""
    lines = {"unlabeled --help": ["-m", "unlabeled", "--help"], "python": ["-c", "pass"]}
    times: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(rounds):
        for name, line in lines.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *line], check=True, capture_output=True)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/bench_evaluation.json"))
    args = parser.parse_args()
    define_missing_operators()
    knn, same = neighbors()
    matrix, difference = similarities()
    results = {
        "knn": alternate(knn, args.rounds) | {"same_neighbors": same},
        "rsa": alternate(matrix, args.rounds) | {"largest_difference": difference},
        "rsa_of_20000_gigabytes": large(),
        "startup_seconds": startup(args.rounds),
    }
    for name, value in results.items():
        print(name, value)
    write_json(
        args.out,
        {
            "command": "python bench/evaluation.py",
            "rounds": args.rounds,
            "cores": os.cpu_count(),
            "versions": versions(),
            **results,
        },
    )


if __name__ == "__main__":
    main()
