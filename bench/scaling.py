"""How time and memory of a SimCLR training grow with images, pixels, batch and processes.

    python bench/scaling.py steps     writes its part of results/scaling.json
    python bench/scaling.py files     likewise, opening folders of up to a million images
    python bench/scaling.py page      writes the tables of docs/scaling.md from the results

Each point is a process of its own on one thread. Time is that of the processor (user and system),
which other work on the machine hardly changes; memory is the peak of resident pages.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "scaling.json"
SEED, WARM, STEPS = 0, 3, 10
POINTS: list[dict[str, Any]] = [
    *({"encoder": "small", "size": size, "batch_size": 64} for size in (32, 64, 96, 128, 224)),
    *({"encoder": "small", "size": 32, "batch_size": batch} for batch in (16, 256, 1024, 4096)),
    *({"encoder": "resnet18", "size": size, "batch_size": 64} for size in (32, 64, 96)),
    *({"encoder": "vit_tiny", "size": size, "batch_size": 16} for size in (64, 128, 224)),
]
FILES = (1_000, 10_000, 100_000, 1_000_000)


def peak() -> int:
    """Peak resident bytes of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def steps(point: dict[str, Any]) -> dict[str, Any]:
    """Seconds an image of a step takes, and peak memory."""
    import torch

    from unlabeled.augmentations import SimCLRAugment
    from unlabeled.core import Batch
    from unlabeled.encoders.base import build
    from unlabeled.methods.simclr import SimCLR
    from unlabeled.utils.native import keeping_memory

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    size, batch = point["size"], point["batch_size"]
    args: dict[str, Any] = {"small": {"width": 32}, "vit_tiny": {"patch": 16}}.get(
        point["encoder"], {}
    )
    network = build(point["encoder"], 3, (size, size), **args)
    method = SimCLR(network, augment=SimCLRAugment(strength=0.25, grayscale=0.1))
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(method.parameters(), 1e-3)
    x, rows = torch.rand(batch, 3, size, size), torch.arange(batch)
    before = peak()
    with keeping_memory():
        for step in range(WARM + STEPS):
            if step == WARM:
                started = time.process_time()
            with torch.no_grad():
                views = method.views(Batch(x, rows))
            loss = method.loss(views)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = (time.process_time() - started) / STEPS
    return {"ms_per_image": 1000 * seconds / batch, "peak_bytes": peak(), "before_bytes": before}


def files(number: int, folder: Path) -> dict[str, Any]:
    """Seconds and memory of opening a folder, first and again."""
    from unlabeled.data import open_data

    started = processor_seconds()
    found = len(open_data(str(folder), workers=1).train)
    return {"opened": found, "seconds": processor_seconds() - started, "peak_bytes": peak()}


def make_files(number: int, folder: Path) -> None:
    """A tree of PNGs, most of them further links to the same few files."""
    from PIL import Image

    rng = np.random.default_rng(SEED)
    first = folder / "0"
    first.mkdir(parents=True)
    for i in range(50):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(first / f"{i:07}.png")
    for i in range(50, number):
        subfolder = folder / str(i // 1000)
        if i % 1000 == 0:
            subfolder.mkdir()
        os.link(first / f"{i % 50:07}.png", subfolder / f"{i:07}.png")


def child(*words: str, **environment: str) -> dict[str, Any]:
    """A measurement in a process of its own."""
    command = [sys.executable, __file__, *words]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | environment
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def save(part: str, rows: list[dict[str, Any]]) -> None:
    """Write a part of the results."""
    result = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    result |= {part: rows, "seed": SEED, "cores": os.cpu_count(), "versions": versions()}
    write_json(RESULTS, result)


def measure_files() -> list[dict[str, Any]]:
    rows = []
    for number in FILES:
        with tempfile.TemporaryDirectory() as place:
            folder, cache = Path(place) / "images", Path(place) / "cache"
            make_files(number, folder)
            for again in (False, True):
                row = child("--files", str(number), str(folder), UNLABELED_CACHE=str(cache))
                rows.append({"images": number, "again": again} | row)
                print(rows[-1], flush=True)
    return rows


def page() -> None:
    """Write the tables into docs/scaling.md."""
    result, path = json.loads(RESULTS.read_text()), ROOT / "docs" / "scaling.md"
    text = path.read_text(encoding="utf-8")
    for name, lines in tables(result).items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, figures, after = rest.partition(end)
        if not figures:
            raise SystemExit(f"{path} has no place for the table '{name}'")
        text = before + begin + "\n".join(lines) + "\n" + end + after
    path.write_text(text, encoding="utf-8")


def tables(result: dict[str, Any]) -> dict[str, list[str]]:
    """Lines of each table, by its name in the page."""
    memory = json.loads((ROOT / "results" / "memory.json").read_text())["rows"]
    growth = [
        "| network | pixels | batch | ms per image | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    growth += [
        f"| {row['encoder']} | {row['size']}×{row['size']} | {row['batch_size']:,} | "
        f"{row['ms_per_image']:.2f} | {row['peak_bytes'] / 1e9:.2f} GB |"
        for row in result["steps"]
    ]
    opened = ["| images | first | again | peak memory |", "|---:|---:|---:|---:|"]
    for first, again in zip(result["files"][::2], result["files"][1::2], strict=True):
        peak_bytes = max(first["peak_bytes"], again["peak_bytes"])
        opened.append(
            f"| {first['images']:,} | {first['seconds']:.1f} s | {again['seconds']:.1f} s | "
            f"{peak_bytes / 1e9:.2f} GB |"
        )
    large = ["| | size | in all | first | again |", "|---|---:|---:|---:|---:|"]
    for first, again in zip(memory[::2], memory[1::2], strict=True):
        most = [max(r["peak_bytes"], r["peak_bytes_of_a_worker"]) / 1e9 for r in (first, again)]
        note = ", only opened" if first.get("steps") == 0 else ""
        large.append(
            f"| `{first['case']}` | {first['size']}{note} | {first['bytes'] / 1e9:.2f} GB | "
            f"{most[0]:.2f} GB | {most[1]:.2f} GB |"
        )
    evaluated = json.loads((ROOT / "results" / "large_features.json").read_text())["figures"]
    sizes = list(next(iter(evaluated.values())))
    features = [
        "| | " + " | ".join(f"{size} rows" for size in sizes) + " |",
        "|---|" + "---:|" * len(sizes),
    ]
    for name, rows in evaluated.items():
        cells = (f"{row['seconds']:.0f} s, {row['gb']:.2f} GB" for row in rows.values())
        features.append(f"| {name} | {' | '.join(cells)} |")
    return {"steps": growth, "files": opened, "memory": large, "evaluation": features}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=["steps", "files", "page"])
    parser.add_argument("--point", help="one point, as JSON")
    parser.add_argument("--files", nargs=2, help="number and folder")
    args = parser.parse_args()
    if args.point:
        print(json.dumps(steps(json.loads(args.point))))
    elif args.files:
        print(json.dumps(files(int(args.files[0]), Path(args.files[1]))))
    elif args.part == "page":
        page()
    elif args.part == "files":
        save("files", measure_files())
    else:
        rows = []
        for point in POINTS:
            rows.append(point | child("--point", json.dumps(point)))
            print(rows[-1], flush=True)
        save("steps", rows)


if __name__ == "__main__":
    main()
