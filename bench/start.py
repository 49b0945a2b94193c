"""Time of what a user waits for before anything is learned: import, help, first step, evaluation.

python bench/start.py [--rounds 5]              writes results/bench_start.json

Every command is a process of its own, timed by the clock and by the processor (user and system);
medians over rounds, in which the commands alternate. Training is one step of SimCLR on 2,000 images
of a folder that was opened before, from the command line to the saved run; evaluation is that of
this run, with features computed anew the first time and kept from then on.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
SEED, IMAGES, SIDE = 0, 2_000, 32
STEP = """
import sys, unlabeled as ul
ul.train("simclr", sys.argv[1], out=sys.argv[2], trainer={"max_steps": 1}, progress=False)
"""


def write_images(folder: Path) -> None:
    """Noise in two classes of different brightness."""
    rng = np.random.default_rng(SEED)
    for number in range(IMAGES):
        place = folder / ("dark", "bright")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (SIDE, SIDE, 3)) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """By the clock and by the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time each command, alternating."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    python, command = sys.executable, [sys.executable, "-m", "unlabeled"]
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images, run = Path(folder) / "images", Path(folder) / "run"
        write_images(images)
        environment = os.environ | {"UNLABELED_CACHE": str(Path(folder) / "cache")}
        step = [python, "-c", STEP, str(images), str(run)]
        seconds(step, environment)  # fills the cache
        cases = {
            "python -c pass": [python, "-c", "pass"],
            "import unlabeled": [python, "-c", "import unlabeled"],
            "unlabeled --help": [*command, "--help"],
            "unlabeled train --help": [*command, "train", "--help"],
            "unlabeled train simclr --help": [*command, "train", "simclr", "--help"],
            "import torch, lightning": [python, "-c", "import torch, lightning"],
            "one step of SimCLR, data in the cache": [*step[:-1], ""],
            "unlabeled evaluate, features kept": [*command, "evaluate", str(run)],
        }
        seconds(cases["unlabeled evaluate, features kept"], environment)
        for number in range(args.rounds):
            cases["one step of SimCLR, data in the cache"][-1] = str(Path(folder) / f"run-{number}")
            for name, words in cases.items():
                found.setdefault(name, []).append(seconds(words, environment))
    rows: dict[str, dict[str, Any]] = {}
    for name, times in found.items():
        clock, processor = zip(*times, strict=True)
        rows[name] = {
            "seconds": statistics.median(clock),
            "least": min(clock),
            "most": max(clock),
            "processor_seconds": statistics.median(processor),
        }
        print(f"{name}: {rows[name]['seconds']:.2f} s ({min(clock):.2f}–{max(clock):.2f})")
    write_json(
        ROOT / "results" / "bench_start.json",
        {
            "command": "python bench/start.py",
            "rounds": args.rounds,
            "images": IMAGES,
            "seed": SEED,
            "cores": os.cpu_count(),
            "versions": versions(),
            "times": rows,
        },
    )


if __name__ == "__main__":
    main()
