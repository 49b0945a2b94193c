"""A folder of 10,000 mixed real images, 100 of them damaged: python bench/folder.py.

Makes the folder from real data sets, then decodes, trains, embeds and explores it with the
installed command. Records whether the 100 are listed, the peak memory of each step, and the decoded
images per second of this library and of a torch DataLoader with Pillow and as many workers,
alternated. Writes results/folder.json.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("UNLABELED_DATA", ROOT.parent / "shared" / "data"))
SEED, TOTAL, WORKERS, SIDE, ROUNDS = 0, 10_000, 2, 48, 3


def sources() -> list[tuple[str, list[bytes] | np.ndarray]]:
    """Real images: JPEG files, and arrays in color, gray and binary."""
    held = np.load(DATA / "cifar10" / "cifar10_jpeg.npz")
    content, offsets = held["train_jpeg"], held["train_offsets"]
    jpegs = [content[offsets[i] : offsets[i + 1]].tobytes() for i in range(4500)]
    emoji = np.load(DATA / "emoji" / "emoji64.npz")["images"]
    with gzip.open(DATA / "fashion-mnist" / "train-images-idx3-ubyte.gz") as file:
        clothes = np.frombuffer(file.read(16 + 2300 * 784), np.uint8, offset=16)
    video = np.load(DATA / "video" / "videos_small.npz")
    frames = next(video[k] for k in video.files if video[k].ndim == 4)
    return [
        ("cifar", jpegs),
        ("emoji", emoji[:3000]),
        ("clothes", clothes.reshape(-1, 28, 28)),
        ("frames", frames[:1000]),
    ]


def write(folder: Path) -> None:
    """10,000 files in nested folders, in every mode and format, 100 of them damaged in ten ways."""
    draw = random.Random(SEED)
    number = 0
    for name, images in sources():
        for i in range(len(images)):
            if number == TOTAL:
                break
            directory = folder / name / f"{number % 7}"
            directory.mkdir(parents=True, exist_ok=True)
            _save(directory / f"{number:05}", images[i], number)
            number += 1
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    assert len(files) == TOTAL, len(files)
    for k, path in enumerate(draw.sample(files, 100)):
        _damage(path, k % 10, draw)


def _save(stem: Path, content: bytes | np.ndarray, number: int) -> None:
    if isinstance(content, bytes) and number % 3:
        stem.with_suffix(".jpg").write_bytes(content)
        return
    image = (
        Image.open(io.BytesIO(content)) if isinstance(content, bytes) else Image.fromarray(content)
    )
    kind = number % 8
    if kind == 0:
        image.save(stem.with_suffix(".png"))
    elif kind == 1:
        image.save(stem.with_suffix(".webp"))
    elif kind == 2:
        image.convert("CMYK").save(stem.with_suffix(".jpg"))
    elif kind == 3:
        image.convert("RGBA").save(stem.with_suffix(".png"))
    elif kind == 4:
        image.quantize(32).save(stem.with_suffix(".gif"))
    elif kind == 5:
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        image.convert("RGB").save(stem.with_suffix(".jpg"), exif=exif)
    elif kind == 6:
        deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
        Image.fromarray(deep).save(stem.with_suffix(".tif"))
    else:
        larger = image.convert("RGB").resize((640, 480))
        larger.save(stem.with_suffix(".jpg"), quality=90)


def _damage(path: Path, way: int, draw: random.Random) -> None:
    content = path.read_bytes()
    if way == 0:
        path.write_bytes(b"")
    elif way == 1:
        path.write_bytes(content[: len(content) // 2])
    elif way == 2:
        path.write_bytes(content[:20])
    elif way == 3:
        path.write_bytes(bytes(len(content)))
    elif way == 4:
        path.write_text("this is no image")
    elif way == 5:
        path.write_bytes(draw.randbytes(len(content)))
    elif way == 6:
        path.write_bytes(b"<html><body>404 Not Found</body></html>")
    elif way == 7:
        path.unlink()
        path.symlink_to(path.with_name("gone.png"))
    elif way == 8:
        path.write_bytes(_bomb())
    else:
        path.write_bytes(content[len(content) // 3 :])


def _bomb() -> bytes:
    """A small PNG whose header claims 3.6 billion pixels."""
    small = io.BytesIO()
    Image.new("L", (8, 8)).save(small, "PNG")
    content = bytearray(small.getvalue())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


class Plain(torch.utils.data.Dataset):
    """Decode with Pillow, without this library."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        try:
            with Image.open(self.paths[row]) as image:
                fitted = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
        return torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1)


def plain(folder: Path) -> float:
    """Seconds of one epoch of a torch DataLoader."""
    started = time.perf_counter()
    paths = sorted(p for p in folder.rglob("*") if p.suffix)
    loader = torch.utils.data.DataLoader(Plain(paths), 64, num_workers=WORKERS)
    assert sum(len(batch) for batch in loader) == TOTAL
    return time.perf_counter() - started


def ours(folder: Path) -> float:
    """Seconds to open the folder with an empty cache: list, decode, write and check."""
    from unlabeled.data.readers.images import read

    with tempfile.TemporaryDirectory() as cache:
        os.environ["UNLABELED_CACHE"] = cache
        started = time.perf_counter()
        assert len(read(folder, 3, (SIDE, SIDE), workers=WORKERS)) == TOTAL - 100
        return time.perf_counter() - started


def again(folder: Path) -> float:
    """Seconds to open it from the cache."""
    from unlabeled.data.readers.images import read

    with tempfile.TemporaryDirectory() as cache:
        os.environ["UNLABELED_CACHE"] = cache
        read(folder, 3, (SIDE, SIDE), workers=WORKERS)
        started = time.perf_counter()
        read(folder, 3, (SIDE, SIDE), workers=WORKERS)
        return time.perf_counter() - started


def step(directory: Path, *words: str) -> dict[str, Any]:
    """Run a command; its time, and the peak memory of it and its workers."""
    environment = os.environ | {"UNLABELED_CACHE": str(directory / "cache")}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "unlabeled", *words],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    messages = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    print(words[0], f"{seconds:.0f} s", done.stdout.strip().splitlines()[-1:], flush=True)
    return {
        "command": " ".join(["unlabeled", *words]),
        "seconds": round(seconds, 1),
        "largest_process_so_far_mb": round(peak / 1e6),
        "messages": [line.replace(str(directory), "…") for line in messages],
    }


def main() -> None:
    """Make the folder, measure and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write(directory / "photos")
        size = sum(p.stat().st_size for p in (directory / "photos").rglob("*.*") if p.exists())
        train = ("train", "simclr", "--data", "photos", "--size", str(SIDE), "--epochs", "3")
        steps = [
            step(directory, *train, "--workers", str(WORKERS)),
            step(directory, "embed", "runs/simclr", "photos", "--out", "features.npz"),
            step(directory, "explore", "runs/simclr", "photos", "--out", "map.html"),
        ]
        (listed,) = (directory / "cache").glob("*/skipped.csv")
        with listed.open(newline="") as file:
            skipped = list(csv.DictReader(file))
        reasons = sorted({row["reason"].partition(":")[0] for row in skipped})
        page = (directory / "map.html").stat().st_size
        rows = np.load(directory / "features.npz")["features"].shape
        shutil.rmtree(directory / "cache")
        rounds = [(ours(directory / "photos"), plain(directory / "photos")) for _ in range(ROUNDS)]
        from_cache = again(directory / "photos")
    mine, theirs = (statistics.median(side) for side in zip(*rounds, strict=True))
    result = {
        "command": "python bench/folder.py",
        "images": TOTAL,
        "bytes": size,
        "listed_as_left_out": len(skipped),
        "reasons": reasons,
        "steps": steps,
        "features": list(rows),
        "page_bytes": page,
        "decoding": {
            "workers": WORKERS,
            "side": SIDE,
            "rounds": ROUNDS,
            "samples_per_second": round(TOTAL / mine),
            "plain_dataloader_images_per_second": round(TOTAL / theirs),
            "ratio": round(theirs / mine, 2),
            "opened_again_seconds": round(from_cache, 2),
        },
        "cores": os.cpu_count(),
        "seed": SEED,
    }
    write_json(ROOT / "results" / "folder.json", result)
    print(result["decoding"], len(skipped), "listed")


if __name__ == "__main__":
    main()
