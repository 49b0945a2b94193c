"""Evaluation of features that are larger than memory should have to be: time and peak memory.

python bench/large_features.py [--rows N …]     writes results/large_features.json

Features of 512 dimensions on disk (generated clusters of 10 classes, float32): linear probe of all
rows, k-NN of 10,000 queries among them, class-similarity gap, RankMe and CKA with other features,
each in a fresh process that opens them by `numpy.load(…, mmap_mode="r")`. Peak memory is that of
the process, resident, with the pages of the file that it holds at that moment; `start` is what it
needs before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

RESULT = Path(__file__).parent.parent / "results" / "large_features.json"
DIM, CLASSES, QUERIES, SEED = 512, 10, 10_000, 0
CASES = ("linear probe", "k-NN", "class-similarity gap", "RankMe", "CKA")


def write(folder: Path, rows: int) -> None:
    """Features, others of the same samples, classes, and queries with theirs."""
    rng = np.random.default_rng(SEED)
    centers, turn = rng.normal(size=(CLASSES, DIM)), rng.normal(size=(DIM, DIM)) / DIM**0.5
    y = rng.integers(0, CLASSES, rows)
    shape = (rows, DIM)
    z, other = (
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        for name in ("z", "other")
    )
    for start in range(0, rows, 50_000):
        part = slice(start, start + 50_000)
        z[part] = 0.1 * centers[y[part]] + rng.normal(size=(len(y[part]), DIM))
        other[part] = z[part] @ turn + 0.5 * rng.normal(size=(len(y[part]), DIM))
    tested = rng.integers(0, CLASSES, QUERIES)
    np.save(folder / "queries.npy", (0.1 * centers[tested] + rng.normal(size=(QUERIES, DIM))))
    np.savez(folder / "classes.npz", y=y, tested=tested)


def run(case: str, folder: Path) -> float:
    """The figure itself."""
    import torch

    from unlabeled.evaluation.knn import knn_accuracy
    from unlabeled.evaluation.metrics.spectrum import ROWS
    from unlabeled.evaluation.probe import linear_probe
    from unlabeled.evaluation.rsa import gap
    from unlabeled.evaluation.similarity import cka
    from unlabeled.training.health import rankme

    z, other = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("z", "other"))
    queries = np.load(folder / "queries.npy").astype(np.float32)
    classes = np.load(folder / "classes.npz")
    y, tested = classes["y"], classes["tested"]
    if case == "linear probe":
        return linear_probe(z, y, queries, tested).test
    if case == "k-NN":
        return knn_accuracy(z, y, queries, tested)
    if case == "class-similarity gap":
        return gap(z, y, "centered").gap
    if case == "RankMe":
        return rankme(torch.from_numpy(np.array(z[:ROWS])))
    return float(cka(z, other))


def peak_memory() -> float:
    """Largest resident memory of this process so far, GB; Linux only.

    `ru_maxrss` would include that of the process which started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        import unlabeled.evaluation.evaluate  # noqa: F401  what a process needs to start

        start = peak_memory()
        started = time.perf_counter()
        value = run(args.case, Path(args.folder))
        seconds = time.perf_counter() - started
        peak = peak_memory()
        print(json.dumps({"value": value, "seconds": seconds, "gb": peak, "start": start}))
        return
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), rows)
            for case in CASES:
                words = [sys.executable, __file__, "--case", case, "--folder", folder]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                figures.setdefault(case, {})[f"{rows:,}"] = json.loads(done.stdout)
                print(f"{rows:,} rows, {case}: {done.stdout.strip()}", flush=True)
    size = {"dim": DIM, "classes": CLASSES, "queries": QUERIES}
    command = f"python bench/{Path(__file__).name}"
    result = {"command": command, "features": size, "figures": figures}
    write_json(RESULT, result | {"cores": os.cpu_count(), "versions": versions()})


if __name__ == "__main__":
    main()
