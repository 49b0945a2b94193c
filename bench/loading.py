"""Images a second from JPEG files to two augmented views: ours, and a PyTorch DataLoader's.

Photos of about 500 pixels a side become two views of 224 pixels by SimCLR's augmentation. The peer
is torchvision on Pillow in the worker processes of a DataLoader, as in the examples of PyTorch and
of lightly; ours decodes in as many threads and augments the batch. Both run until all photos have
been read once, in turns; the views stay on the CPU. The photos are images of CIFAR-10, enlarged and
with noise.

    python bench/loading.py [--workers 2]          writes results/bench_loading.json
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import define_missing_operators
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset

from unlabeled.augmentations import SimCLRAugment
from unlabeled.data import open_data
from unlabeled.data.loader import loader
from unlabeled.data.readers import decoding
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json
from unlabeled.utils.native import keeping_memory

SIZE, BATCH = 224, 64
SIDES = ((375, 500), (500, 375), (333, 500), (500, 500))
"""Heights and widths of the photos."""


def make_photos(folder: Path, number: int) -> None:
    """Write photos as JPEGs of quality 90."""
    images = open_data("cifar10").train.x[:number]
    rng = np.random.default_rng(0)
    for i, image in enumerate(images):
        height, width = SIDES[i % len(SIDES)]
        photo = Image.fromarray(image.transpose(1, 2, 0)).resize((width, height), 3)
        noisy = np.asarray(photo) + rng.normal(0, 6, (height, width, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
            folder / f"{i:05}.jpg", quality=90
        )


def pillow_blur(image: Image.Image) -> Image.Image:
    """Gaussian blur of SimCLR's range, by Pillow's approximation."""
    return image.filter(ImageFilter.GaussianBlur(0.1 + 1.9 * float(torch.rand(()))))


class Photos(Dataset):
    """Two views of each file, by torchvision."""

    def __init__(self, files: list[Path], scale: tuple[float, float]) -> None:
        from torchvision import transforms as T

        self.files = files
        self.transform = T.Compose(
            [
                T.RandomResizedCrop(SIZE, scale),
                T.RandomHorizontalFlip(),
                T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
                T.RandomGrayscale(0.2),
                T.RandomApply([pillow_blur], p=0.5),  # several times faster than torchvision's
                T.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.set_num_threads(1)
        image = Image.open(self.files[row]).convert("RGB")
        return self.transform(image), self.transform(image)


def sides(folder: Path, workers: int, scale: tuple[float, float]) -> dict[str, Callable[[], int]]:
    """Functions that make two views of every photo, by name; they return the number of photos."""
    define_missing_operators()
    files = sorted(folder.iterdir())
    peers = DataLoader(Photos(files, scale), BATCH, shuffle=True, num_workers=workers)
    augment = SimCLRAugment(scale=scale, strength=1.0, blur=0.5)
    samples = open_data(folder, size=(SIZE, SIZE), decoding="on_the_fly", workers=workers).train

    def torchvision() -> int:
        return sum(len(first) for first, _ in peers)

    def ours(fast: bool = True) -> int:
        held, decoding.simplejpeg = decoding.simplejpeg, decoding.simplejpeg if fast else None
        try:
            batches = loader(samples, BATCH, seed=0)
            with keeping_memory():  # as in training
                return sum(min(len(augment(b.x)), len(augment(b.x))) for b in batches)
        finally:
            decoding.simplejpeg = held

    return {
        "torchvision": torchvision,
        "ours": ours,
        "ours, without simplejpeg": lambda: ours(fast=False),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=512)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/bench_loading.json"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), args.photos)
        for scale in ((0.08, 1.0), (0.2, 1.0)):
            tasks = sides(Path(folder), args.workers, scale)
            rates: dict[str, list[float]] = {name: [] for name in tasks}
            for _ in range(args.rounds):
                for name, task in tasks.items():
                    started = time.perf_counter()
                    number = task()
                    rates[name].append(number / (time.perf_counter() - started))
            medians = {name: statistics.median(rate) for name, rate in rates.items()}
            results[f"crops of {scale[0]:.0%} to 100 %"] = {
                "images_per_second": rates,
                "median": medians,
                "ratio": {n: r / medians["torchvision"] for n, r in medians.items()},
            }
            print(scale, {name: round(rate, 1) for name, rate in medians.items()})
    write_json(
        args.out,
        {
            "command": f"python bench/loading.py --photos {args.photos} --workers {args.workers}",
            "photos": args.photos,
            "workers": args.workers,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "results": results,
            "versions": versions(),
        },
    )


if __name__ == "__main__":
    main()
