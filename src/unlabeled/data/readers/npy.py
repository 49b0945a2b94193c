"""An image in a `.npy` file."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unlabeled.data.readers.planes import Box, Planes, UnfitError, inside, kind_of

MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class Saved(Planes):
    """An array of one image.

    Args:
        x: (C, H, W), mapped into memory where it is a file.
    """

    x: np.ndarray = None  # type: ignore[assignment]  # always given

    def read(self, box: Box | None = None) -> np.ndarray:
        """Its values, (channels, H, W)."""
        x = inside(self.x, box)
        return x.astype(np.uint8) * np.uint8(255) if x.dtype == bool else x.astype(self.kind)


def opened(source: BinaryIO | Path) -> Saved:
    """An array (H, W), (C, H, W) or (H, W, C) as an image; never unpickles.

    The channel axis of three is the one of at most 4, else the shorter one of the first and the
    last.

    Raises:
        UnfitError: it is not an image.
        ValueError: it is damaged.
    """
    is_file = isinstance(source, Path)
    x: np.ndarray = np.load(source, mmap_mode="r" if is_file else None, allow_pickle=False)
    if x.dtype.kind not in "buif":
        raise UnfitError(f"an array of {x.dtype}, not of numbers")
    if x.ndim == 2:
        x = x[None]
    elif x.ndim == 3:
        few = [side <= 4 for side in (x.shape[0], x.shape[2])]
        last = few[1] if few[0] != few[1] else x.shape[2] < x.shape[0]
        x = np.moveaxis(x, 2, 0) if last else x
    if x.ndim != 3 or 0 in x.shape:
        raise UnfitError(f"an array of shape {x.shape}, not of one image; give the file itself")
    kind = "u1" if x.dtype == bool else kind_of(x.dtype)
    return Saved(len(x), kind, (x.shape[2], x.shape[1]), by_region=True, x=x)
