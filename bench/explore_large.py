"""Time and memory of `explore` on 50,000 real images and on 1,000,000 patches of them.

UNLABELED_DATA=… python bench/explore_large.py      writes results/explore_large.json

The images are those of CIFAR-10; the patches are 8×8 windows of them in gray, 20 of each image at
multiples of 4 pixels, so that two share at most half. Of 1,000 patches mirrored copies take the
places of others: the share of them that stand in a group with their source is the recall of
near-duplicates. Each run is a process of its own, whose peak of resident memory is read, so that
building the data is not counted; pages of the array of patches, which is mapped from disk, count as
far as they are resident. Seconds are those of a clock and of the processor: they differ where other
programs run.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from unlabeled.report.explore import explore
from unlabeled.runs.run import load
from unlabeled.utils.files import write_json

DATA = Path(os.environ.get("UNLABELED_DATA", "../shared/data"))
IMAGES, EACH, COPIES, SEED = 50_000, 20, 1000, 0


def images() -> np.ndarray:
    """The training images, uint8 (50,000, 3, 32, 32)."""
    with np.load(DATA / "cifar10" / "cifar10_jpeg.npz") as real:
        content, offsets = real["train_jpeg"], real["train_offsets"]
    x = np.empty((IMAGES, 3, 32, 32), np.uint8)
    for i in range(IMAGES):
        image = Image.open(io.BytesIO(content[offsets[i] : offsets[i + 1]].tobytes()))
        x[i] = np.asarray(image).transpose(2, 0, 1)
    return x


def write_patches(x: np.ndarray, path: Path, each: int = EACH) -> None:
    """Patches uint8 (50,000 · each, 8, 8), the last 1,000 mirrored copies of the first."""
    rng = np.random.default_rng(SEED)
    gray = np.tensordot(np.array([0.299, 0.587, 0.114]), x, (0, 1)).round().astype(np.uint8)
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (len(x) * each, 8, 8))
    cells = np.stack([rng.permutation(49)[:each] for _ in range(len(x))])
    for k in range(each):
        for cell in range(49):
            rows = np.flatnonzero(cells[:, k] == cell)
            top, left = 4 * (cell // 7), 4 * (cell % 7)
            out[k * len(x) + rows] = gray[rows, top : top + 8, left : left + 8]
    out[-COPIES:] = out[:COPIES, :, ::-1]
    out.flush()


def run_one(path: str, layout: str) -> None:
    """Explore one array; print a line of JSON."""
    folder = Path(path).parent
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        run = load("pca", data=path)
        results = explore(
            run,
            path,
            folder / "page.html",
            table=folder / "table.parquet",
            layout=layout,  # type: ignore[arg-type]
            seed=SEED,
            progress=True,
        )
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1e6
    results.pop("suggested")
    print(
        json.dumps(
            results
            | {"seconds": round(seconds), "processor_seconds": round(time.process_time())}
            | {"peak_gigabytes": round(peak, 2)}
            | {"notices": [str(n.message) for n in notices if n.category.__name__ == "Notice"]}
        )
    )


def measure(path: Path, layout: str = "auto") -> dict[str, Any]:
    """Explore an array in a process of its own."""
    command = [sys.executable, __file__, str(path), layout]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    results: dict[str, Any] = json.loads(out.splitlines()[-1])
    table = path.parent / "table.parquet"
    results["rows_of_table"] = pq.read_metadata(table).num_rows
    results["table_megabytes"] = round(table.stat().st_size / 1e6, 1)
    print(results, flush=True)
    return results


def main() -> None:
    """Measure, write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = images()
        np.save(folder / "images.npy", x)
        write_patches(x, folder / "patches.npy")
        del x
        result: dict[str, Any] = {
            "command": "python bench/explore_large.py",
            "images": measure(folder / "images.npy"),
            "patches": measure(folder / "patches.npy"),
        }
        groups = pq.read_table(folder / "table.parquet")["duplicate_group"].to_numpy()
        same = groups[:COPIES] == groups[-COPIES:]  # NaN without a group
        result["recall_of_mirrored_patches"] = float(same.mean())
    result |= {
        "copies": COPIES,
        "seed": SEED,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    write_json(Path("results/explore_large.json"), result)


if __name__ == "__main__":
    run_one(*sys.argv[1:]) if len(sys.argv) > 1 else main()
