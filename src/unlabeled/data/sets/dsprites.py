"""dSprites: one white shape on black, rendered from its five latent factors.

Matthey, Higgins, Hassabis, Lerchner 2017: 737,280 binary images of 64×64, every combination of 3
shapes, 6 scales, 40 orientations and 32×32 positions. They are rendered, not stored: the originals
are polygons, filled by a graphics card. All constants were fitted on real images.
"""

import functools
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from unlabeled.augmentations import RandomAffine
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers.arrays import from_memory
from unlabeled.data.sets.polygons import fill
from unlabeled.data.split import SPLIT_SEED, TEST_SHARE
from unlabeled.data.targets import Classes, Numbers, Target
from unlabeled.errors import UserError
from unlabeled.modality import Images

SHAPES = ("square", "ellipse", "heart")
SIZES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
TARGETS: dict[str, Target] = {
    "shape": Classes(SHAPES),
    "scale": Numbers(),
    "orientation": Numbers(period=39.0),
    "x": Numbers(),
    "y": Numbers(),
}
RADIUS = 9.6  # half the side of the largest square, in pixels


def outline(shape: int) -> np.ndarray:
    """Vertices (2, V) of a shape at scale 1, upright, in pixels from its center, y down."""
    if shape == 0:
        return RADIUS * np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]])
    t = np.linspace(0, 2 * np.pi, 100 if shape == 1 else 150, endpoint=False)
    if shape == 1:
        return RADIUS * np.stack([1.33 * np.cos(t), np.sin(t) / 1.33])
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return RADIUS * np.stack([np.sin(t) ** 3, -0.15 - y * 2 / 29])


@functools.cache
def _turned(shape: int) -> np.ndarray:
    """The outline at each scale and orientation, (6, 40, 2, V)."""
    scale = (0.5 + 0.1 * np.arange(6))[:, None, None]
    angle = (np.arange(40) * 2 * np.pi / 39)[:, None]  # orientation 39 is orientation 0 again
    u, v = outline(shape)
    x = scale * (u * np.cos(angle) + v * np.sin(angle))
    y = scale * (v * np.cos(angle) - u * np.sin(angle))
    return np.stack([x, y], 2)


def render(classes: Any) -> np.ndarray:
    """Images of the given latent classes.

    Args:
        classes: integers (N, 5): shape 0–2, scale 0–5, orientation 0–39, x 0–31, y 0–31, as the
            original's `latents_classes` without its first column, color.

    Returns:
        uint8 (N, 64, 64) of 0 and 1. Classes out of range raise UserError.
    """
    classes = np.asarray(classes)
    if classes.shape[1:] != (5,) or classes.dtype.kind not in "iu":
        raise UserError(f"classes are integers (N, 5), these are {classes.dtype} {classes.shape}")
    for (name, size), column in zip(SIZES.items(), classes.T, strict=True):
        if (bad := (column < 0) | (column >= size)).any():
            raise UserError(f"{name} goes from 0 to {size - 1}, but {column[bad][0]} was given")
    images = np.empty((len(classes), 64, 64), np.uint8)
    for shape in range(3):
        chosen = np.flatnonzero(classes[:, 0] == shape)
        for rows in np.split(chosen, range(2048, len(chosen), 2048)):
            _, scale, orientation, *location = classes[rows].T
            center = 16 + 32 * np.stack(location, 1) / 31
            images[rows] = fill(_turned(shape)[scale, orientation] + center[:, :, None])
    return images


def classes_of(index: Any) -> np.ndarray:
    """Latent classes (N, 5) of rows of the full grid, in the original's order."""
    return np.stack(np.unravel_index(np.asarray(index), tuple(SIZES.values())), -1)


class Grid:
    """All 737,280 images as a lazy array (737280, 64, 64) of 0 and 1, rendered when indexed."""

    shape = (737280, 64, 64)
    dtype = np.dtype(np.uint8)
    ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """An integer gives (64, 64); a slice, integers or a mask give (N, 64, 64)."""
        rows = np.arange(len(self))[index]
        return render(classes_of(rows.reshape(-1))).reshape(*rows.shape, 64, 64)


def load(location: str | None = None, images: int = 20_000) -> Splits:
    """A random part of the grid, 80 % to train and 20 % to test; labels are the five factors.

    One permutation by a fixed seed orders the whole grid, and the part is its first `images`: so
    no test image of a file is among the rendered training images.

    Args:
        location: a folder with the original `.npz` or parts of it, or such a file (default: the
            images are rendered).
        images: how many at most.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(Grid()))
    if location is None:
        rows, x = order[:images], Grid()[order[:images]]
    else:
        rows, x = _read(Path(location).expanduser(), np.argsort(order), images)
    factors = dict(zip(SIZES, classes_of(rows).T.copy(), strict=True))
    samples = Samples(
        from_memory(x).x, factors, targets=TARGETS, modality=Images(1, (64, 64), dtype="mask")
    )
    cut = round((1 - TEST_SHARE) * len(samples))
    return Splits(
        "dsprites" if location is None else f"dsprites:{location}",
        samples.take(np.arange(cut)),
        samples.take(np.arange(cut, len(samples))),
        target="shape",
        augment=RandomAffine(),
        augment_labeled=RandomAffine(degrees=20.0, translate=0.05, scale=(0.9, 1.1)),
    )


def _read(location: Path, rank: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and images of the files there, by rank, each once; `metadata`, a pickle, is left."""
    arrays = []
    for path in sorted(location.glob("*.npz")) if location.is_dir() else [location]:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                if {"imgs", "latents_values"} <= set(content.files):
                    rows = rows_of(content["latents_values"][:, -5:])
                    first = np.argsort(rank[rows])[:most]
                    arrays.append((rows[first], content["imgs"][first]))
        except (ValueError, OSError, BadZipFile, zlib.error) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(
                f"{path} cannot be read as dSprites ({why}); give its .npz file or folder"
            ) from error
    if not arrays:
        raise UserError(f"{location} holds no dSprites .npz with imgs and latents_values")
    rows, images = (np.concatenate(parts) for parts in zip(*arrays, strict=True))
    _, first = np.unique(rank[rows], return_index=True)
    return rows[first[:most]], images[first[:most]]


def rows_of(values: np.ndarray) -> np.ndarray:
    """Rows of the grid from latent values: a part may count its classes by a coarser grid."""
    classes = np.rint((values - [1, 0.5, 0, 0, 0]) / [1, 0.1, 2 * np.pi / 39, 1 / 31, 1 / 31])
    return np.ravel_multi_index(tuple(classes.astype(np.int64).T), tuple(SIZES.values()))
