"""Fraction of real dSprites images that the renderer reproduces exactly, and its speed.

UNLABELED_DATA=… python bench/renderer.py        writes results/renderer.json
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import numpy as np

from unlabeled.data.sets.dsprites import SHAPES, Grid, classes_of, rows_of
from unlabeled.utils.files import write_json


def main() -> None:
    """Compare, time and write the result."""
    folder = Path(os.environ["UNLABELED_DATA"]) / "dsprites"
    grid = Grid()
    exact: dict[str, list[bool]] = {shape: [] for shape in SHAPES}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as real:
            if "imgs" not in real:
                continue
            rows, images = rows_of(real["latents_values"]), real["imgs"]
        same = (grid[rows] == images).all((1, 2))
        for shape, hit in zip(classes_of(rows)[:, 0], same, strict=True):
            exact[SHAPES[shape]].append(bool(hit))
    rows = np.random.default_rng(0).permutation(len(grid))[:20_000]
    speeds = []
    for _ in range(5):
        started = time.perf_counter()
        grid[rows]
        speeds.append(len(rows) / (time.perf_counter() - started))
    result = {
        "command": "python bench/renderer.py",
        "real_images": sum(map(len, exact.values())),
        "exact": {shape: float(np.mean(hits)) for shape, hits in exact.items()},
        "different": sum(not hit for hits in exact.values() for hit in hits),
        "samples_per_second": round(statistics.median(speeds)),
        "threads": 1,
        "cores": os.cpu_count(),
    }
    write_json(Path("results/renderer.json"), result)
    print(result)


if __name__ == "__main__":
    main()
