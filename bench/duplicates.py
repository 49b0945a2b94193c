"""Near-duplicates of seven kinds among 1,000 real images: which are found, and what else is.

UNLABELED_DATA=… python bench/duplicates.py      writes results/duplicates.json

Of each data set, 1,000 images and changed copies of 60 of them, one kind of change at a time.
Recall is the share of the 60 that stand in a group with their source, precision the share of pairs
within groups that are an image and its copy. The thresholds of `unlabeled.evaluation.duplicates`
were chosen on the training images; the test images are others, and emoji are only reported. Emoji
that equal others turned or mirrored count as mistakes.
"""

from __future__ import annotations

import gzip
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance

from unlabeled.evaluation.duplicates import near_duplicates
from unlabeled.evaluation.intervals import wilson
from unlabeled.report.tiles import to_compare
from unlabeled.utils.files import write_json

DATA = Path(os.environ.get("UNLABELED_DATA", "../shared/data"))
IMAGES, COPIES, SEED, LARGE = 1000, 60, 0, 50_000

Rng = np.random.Generator


def recompressed(image: Image.Image, rng: Rng) -> Image.Image:
    """JPEG of quality 50."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=50)
    return Image.open(content)


def resized(image: Image.Image, rng: Rng) -> Image.Image:
    """Half as wide and high, and enlarged again as reading a folder does."""
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return half.resize(image.size, Image.Resampling.LANCZOS)


def brightness(image: Image.Image, rng: Rng) -> Image.Image:
    """0.7 or 1.4 times as bright."""
    return ImageEnhance.Brightness(image).enhance(float(rng.choice([0.7, 1.4])))


def cropped(image: Image.Image, rng: Rng) -> Image.Image:
    """A window of 90 % of the sides, anywhere, enlarged again."""
    width, height = image.size
    x, y = rng.random(2) * [0.1 * width, 0.1 * height]
    window = (x, y, x + 0.9 * width, y + 0.9 * height)
    return image.resize(image.size, Image.Resampling.LANCZOS, window)


def mirrored(image: Image.Image, rng: Rng) -> Image.Image:
    """Left to right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def turned(image: Image.Image, rng: Rng) -> Image.Image:
    """By 90°."""
    return image.transpose(Image.Transpose.ROTATE_90)


def gray(image: Image.Image, rng: Rng) -> Image.Image:
    """Without color; of gray images an exact copy."""
    return image.convert("L").convert(image.mode)


KINDS: dict[str, Callable[[Image.Image, Rng], Image.Image]] = {
    change.__name__: change
    for change in (recompressed, resized, brightness, cropped, mirrored, turned, gray)
}


def cifar(part: str, n: int = IMAGES) -> list[Image.Image]:
    """The first images of a part of CIFAR-10."""
    with np.load(DATA / "cifar10" / "cifar10_jpeg.npz") as real:
        content, offsets = real[f"{part}_jpeg"], real[f"{part}_offsets"]
    return [
        Image.open(io.BytesIO(content[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")
        for i in range(n)
    ]


def clothes(part: str) -> list[Image.Image]:
    """The first images of a part of Fashion-MNIST."""
    with gzip.open(DATA / "fashion-mnist" / f"{part}-images-idx3-ubyte.gz") as file:
        array = np.frombuffer(file.read(16 + IMAGES * 784), np.uint8, offset=16)
    return [Image.fromarray(x) for x in array.reshape(-1, 28, 28)]


def emoji() -> list[Image.Image]:
    """Of each family that differs in skin tone only the first."""
    with np.load(DATA / "emoji" / "emoji64.npz") as real:
        _, first = np.unique(real["family"], return_index=True)
        return [Image.fromarray(x) for x in real["images"][first[:IMAGES]]]


def array(images: list[Image.Image]) -> np.ndarray:
    """Images of one size as uint8 (N, C, H, W)."""
    x = np.stack([np.asarray(image) for image in images])
    return np.ascontiguousarray(x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2))


def groups_of(images: list[Image.Image]) -> list[np.ndarray]:
    """Groups of near-duplicates, as the page finds them."""
    return near_duplicates(to_compare(array(images), (0, 255))).groups


def measure(images: list[Image.Image]) -> dict[str, Any]:
    """Recall and precision by kind of copy, with Wilson intervals."""
    results: dict[str, Any] = {}
    for kind, change in KINDS.items():
        rng = np.random.default_rng(SEED)
        sources = rng.choice(len(images), COPIES, replace=False)
        copies = [change(images[i], rng).convert(images[i].mode) for i in sources]
        root = np.concatenate([np.arange(len(images)), sources])
        groups = groups_of([*images, *copies])
        hits, pairs, right = 0, 0, 0
        for rows in groups:
            same = root[rows][:, None] == root[rows]
            hits += int((same.sum(1)[rows >= len(images)] > 1).sum())
            pairs += len(rows) * (len(rows) - 1) // 2
            right += int((same.sum() - len(rows)) // 2)
        results[kind] = {
            "recall": hits / COPIES,
            "recall_interval": wilson(hits, COPIES),
            "precision": right / pairs if pairs else None,
            "precision_interval": wilson(right, pairs) if pairs else None,
            "wrong_pairs": pairs - right,
        }
        print(kind, results[kind], flush=True)
    return results


def main() -> None:
    """Measure, write."""
    chosen_on = {"CIFAR-10, training": cifar("train"), "Fashion-MNIST, training": clothes("train")}
    reported_on = {
        "CIFAR-10, test": cifar("test"),
        "Fashion-MNIST, test": clothes("t10k"),
        "emoji": emoji(),
    }
    result: dict[str, Any] = {
        "command": "python bench/duplicates.py",
        "images": IMAGES,
        "copies_of_each_kind": COPIES,
        "seed": SEED,
        "chosen_on": {name: measure(images) for name, images in chosen_on.items()},
        "reported_on": {name: measure(images) for name, images in reported_on.items()},
        "seconds": {},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    for n in (IMAGES, LARGE):
        small = to_compare(array(cifar("train", n)), (0, 255))
        started = time.perf_counter()
        number = len(near_duplicates(small))
        seconds = round(time.perf_counter() - started, 1)
        result["seconds"][f"{n}"] = {"seconds": seconds, "groups": number}
        print(n, result["seconds"][f"{n}"], flush=True)
    write_json(Path("results/duplicates.json"), result)


if __name__ == "__main__":
    main()
