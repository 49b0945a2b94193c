"""Speed of random augmentation: ours, torchvision's (one image at a time) and kornia's (batched).

Affine on binary 64×64, and SimCLR's crop, flip and color jitter on 32×32×3, with and without blur.
Ours runs compiled and in plain PyTorch; all use one thread, since torchvision uses no more.

    python bench/augmentation.py                   writes results/bench_augmentation.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import define_missing_operators
from PIL import Image
from torch import Tensor

from unlabeled.augmentations import Augmentation, RandomAffine, SimCLRAugment, kernel
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json
from unlabeled.utils.native import keeping_memory

IMAGES = 256
Make = Callable[[], Any]
"""A function that augments all images once."""


def batched(view: Augmentation, images: np.ndarray, plain: bool = False) -> Make:
    """Our augmentation, from uint8: affine maps convert it themselves, others need floats."""
    x = torch.from_numpy(images)
    build = kernel.compiled

    def make() -> Tensor:
        if plain:
            kernel.compiled = lambda: None  # type: ignore[assignment]
        try:
            return view(x if isinstance(view, RandomAffine) else x.float() / 255)
        finally:
            kernel.compiled = build

    return make


def one_by_one(transform: Any, images: np.ndarray) -> Make:
    """Torchvision's transform of one PIL image at a time."""
    pil = [Image.fromarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)) for p in images]
    return lambda: torch.stack([transform(image) for image in pil])


def kornias(transform: Any, images: np.ndarray) -> Make:
    """Kornia's transform of the batch."""
    x = torch.from_numpy(images)
    return lambda: transform(x.float() / 255)


def sides() -> dict[str, dict[str, Make]]:
    """Implementations of each augmentation; the others are compared with the first."""
    import kornia.augmentation as K
    from torchvision import transforms as T

    rng = np.random.default_rng(0)
    binary = (rng.random((IMAGES, 1, 64, 64)) > 0.9).astype(np.uint8) * 255
    color = rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)
    affine = T.Compose(
        [T.RandomAffine(180, translate=(0.3, 0.3), scale=(0.65, 1.35)), T.ToTensor()]
    )

    def photo(blur: float) -> Any:
        steps = [
            T.RandomResizedCrop(32, (0.2, 1.0)),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            T.RandomGrayscale(0.2),
        ]
        blurring = T.RandomApply([T.GaussianBlur(3, (0.1, 2.0))], p=blur)
        return T.Compose([*steps, *([blurring] if blur else []), T.ToTensor()])

    def theirs(blur: float) -> Any:
        steps = [
            K.RandomResizedCrop((32, 32), (0.2, 1.0)),
            K.RandomHorizontalFlip(),
            K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
            K.RandomGrayscale(p=0.2),
        ]
        blurring = [K.RandomGaussianBlur((3, 3), (0.1, 2.0), p=blur)] if blur else []
        return torch.nn.Sequential(*steps, *blurring)

    def set_of(view: Augmentation, peer: Any, kornia: Any, images: np.ndarray) -> Any:
        return {
            "ours, compiled": batched(view, images),
            "ours, plain": batched(view, images, plain=True),
            "torchvision": one_by_one(peer, images),
            "kornia": kornias(kornia, images),
        }

    turning = K.RandomAffine(180.0, (0.3, 0.3), (0.65, 1.35), resample="nearest", p=1.0)
    return {
        "affine 1×64×64": set_of(RandomAffine(), affine, turning, binary),
        "colors 3×32×32": set_of(SimCLRAugment(), photo(0.0), theirs(0.0), color),
        "colors and blur 3×32×32": set_of(SimCLRAugment(blur=0.5), photo(0.5), theirs(0.5), color),
    }


def alternate(makes: dict[str, Make], rounds: int) -> dict[str, list[float]]:
    """Views per second of each implementation, alternated; the first round is a warm-up."""
    speeds: dict[str, list[float]] = {name: [] for name in makes}
    for number in range(rounds + 1):
        for name, make in makes.items():
            started, done = time.perf_counter(), 0
            while not done or time.perf_counter() - started < 0.3:
                make()
                done += IMAGES
            if number:
                speeds[name].append(done / (time.perf_counter() - started))
    return speeds


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/bench_augmentation.json"))
    args = parser.parse_args()
    define_missing_operators()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for what, makes in sides().items():
        with keeping_memory():  # as in training; it is faster for all of them
            speeds = alternate(makes, args.rounds)
        results[what] = {}
        for name, values in speeds.items():
            mine = np.array([speeds["ours, compiled"], speeds["ours, plain"]])
            ratio = np.median(mine / np.array(values), axis=1)
            results[what][name] = {
                "views_per_second": statistics.median(values),
                "compiled_over_it": float(ratio[0]),
                "plain_over_it": float(ratio[1]),
            }
            print(what, name, results[what][name], flush=True)
    write_json(
        args.out,
        {
            "command": "python bench/augmentation.py",
            "resampling": kernel.implementation(),
            "threads": 1,
            "rounds": args.rounds,
            "cores": os.cpu_count(),
            "versions": versions(),
            "views": results,
        },
    )


if __name__ == "__main__":
    main()
