"""Sprites with a caption in words, such as "a large heart, top left"."""

import numpy as np
import torch
import torch.nn.functional as F

from unlabeled.augmentations import Compose, RandomAffine
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.sets import dsprites
from unlabeled.data.targets import Classes

SIZES = ("small", "large")
PLACES = ("top left", "top right", "bottom left", "bottom right")
SIDE = 32


def words() -> list[str]:
    """Every caption, by its class."""
    return [
        f"a {size} {shape}, {location}"
        for shape in dsprites.SHAPES
        for size in SIZES
        for location in PLACES
    ]


def caption_of(factors: dict[str, np.ndarray]) -> np.ndarray:
    """The class of each image's caption: three smaller scales, three larger, four quadrants."""
    large = factors["scale"] >= 3
    location = 2 * (factors["y"] >= 16) + (factors["x"] >= 16)
    return ((2 * factors["shape"] + large) * 4 + location).astype(np.int64)


def load(location: str | None = None, images: int = 20_000) -> Splits:
    """Half the side of dSprites, 32×32 in shades of gray; the target is the caption.

    Args:
        location: as for `dsprites`.
        images: how many at most.
    """
    sprites = dsprites.load(location, images)

    def captioned(part: Samples) -> Samples:
        factors = part.factors | {"caption": caption_of(part.factors)}
        targets = part.targets | {"caption": Classes(tuple(words()))}
        return Samples(shrunk(part.x[:]), factors, targets=targets)

    return Splits(
        "captions" if location is None else f"captions:{location}",
        captioned(sprites.train),
        captioned(sprites.test),
        target="caption",
        augment=RandomAffine(interpolation="bilinear"),
        augment_labeled=Compose([]),  # a caption tells the size and the location
    )


def shrunk(x: np.ndarray) -> np.ndarray:
    """Masks (N, C, 2H, 2W) of 0 and 1 or 255 -> shades (N, C, H, W) of 0 to 255."""
    bright = torch.from_numpy((x > 0).astype(np.float32))
    return (255 * F.avg_pool2d(bright, 2)).round().byte().numpy()
