"""Similarity of representations: memory and time of 20,000 × 512 features, and rsatoolbox's.

python bench/similarity.py                     writes results/similarity.json
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.evaluation.rdm import rdm
from unlabeled.evaluation.rdm_comparison import METHODS, compare_rdms
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

SAMPLES, DIM = 20_000, 512
CALLS = {
    "rdm, correlation": "rdm(a)",
    "rdm, euclidean": "rdm(a, 'euclidean')",
    "cka": "cka(a, b)",
    "cka, debiased": "cka(a, b, debiased=True)",
    "cca": "cca(a, b)",
    "svcca": "cca(a, b, 'svcca')",
    "pwcca": "cca(a, b, 'pwcca')",
}
ROWS, CONDITIONS = 2_000, 100


def large(call: str) -> dict[str, float]:
    """Seconds and gibibytes at the peak, imports and features included, in its own process."""
    code = (
        "import resource, time, numpy as np; from unlabeled.evaluation.rdm import rdm; "
        "from unlabeled.evaluation.similarity import cca, cka; "
        "a, b = (np.random.default_rng(i).random("
        f"({SAMPLES}, {DIM}), np.float32) for i in (0, 1)); "
        f"started = time.perf_counter(); {call}; seconds = time.perf_counter() - started; "
        "print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, gibibytes = map(float, done.stdout.split())
    return {"seconds": seconds, "peak_gibibytes": gibibytes}


def beside_rsatoolbox(rounds: int) -> dict[str, Any]:
    """Largest difference, and how many times ours rsatoolbox takes, alternated."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import RDMs, calc_rdm, compare

    rng = np.random.default_rng(0)
    z = rng.normal(size=(ROWS, DIM))
    data, results = Dataset(z), {}

    def calc(metric: str) -> np.ndarray:
        return calc_rdm(data, metric).get_matrices()[0]

    for metric in ("correlation", "euclidean"):
        results[f"rdm, {metric}"] = _both(partial(rdm, z, metric), partial(calc, metric), rounds)
    first, second = (rdm(z[:CONDITIONS] + s * rng.normal(size=(CONDITIONS, DIM))) for s in (0, 1))
    theirs = [RDMs(m[np.triu_indices(CONDITIONS, 1)][None]) for m in (first, second)]
    for method in METHODS:
        if method != "corr":  # another name for Pearson's
            name = {"pearson": "corr"}.get(method, method)
            results[f"compare, {method}"] = _both(
                partial(compare_rdms, first, second, method, interval=False),
                partial(compare, *theirs, name),
                rounds,
            )
    return results


def _both(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> dict[str, float]:
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        values = []
        for side, call in enumerate((ours, theirs)):
            started = time.perf_counter()
            values.append(call())
            times[side].append(time.perf_counter() - started)
    return {
        "largest_difference": float(np.abs(np.subtract(*values)).max()),
        "ratio": float(np.median(np.divide(times[1], times[0]))),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/similarity.json"))
    args = parser.parse_args()
    results: dict[str, Any] = {
        "samples_20000_features_512": {name: large(call) for name, call in CALLS.items()},
        "beside_rsatoolbox": beside_rsatoolbox(args.rounds),
    }
    for part in results.values():
        for name, value in part.items():
            print(name, value)
    about = {"command": "python bench/similarity.py", "rounds": args.rounds}
    write_json(args.out, about | {"cores": os.cpu_count(), "versions": versions(), **results})


if __name__ == "__main__":
    main()
