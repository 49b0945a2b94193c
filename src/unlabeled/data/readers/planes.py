"""Images as arrays, for formats that Pillow cannot read, or not without loss."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RuntimeError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
"""Errors of decoders on damaged files."""

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


class UnfitError(ValueError):
    """An undamaged image that cannot be read as requested; the message gives the reason."""


@dataclass(frozen=True)
class Planes:
    """An opened image that Pillow does not decode.

    Args:
        channels: of the image.
        kind: number type, as named by numpy: u1, u2 or f4.
        size: width and height in pixels.
        pages: whether there are more than one; the first is taken.
        frames: number of images in the file, each of which is a sample.
        by_region: whether a box is read without decoding the full image.
    """

    channels: int
    kind: str
    size: tuple[int, int]
    pages: bool = False
    frames: int = 1
    by_region: bool = False

    def read(self, box: Box | None = None) -> np.ndarray:
        """Its values, or those in a box, (channels, H, W) of the kind."""
        raise NotImplementedError

    def as_kind(self, x: np.ndarray, kind: str) -> np.ndarray:
        """Convert values that `read` returned to another number type.

        Raises:
            UnfitError: information would be lost.
        """
        if kind != self.kind:
            raise UnfitError(
                f"{self.channels} channels of {np.dtype(self.kind)} where the others have "
                f"{np.dtype(kind)}"
            )
        return x


def kind_of(dtype: Any) -> str:
    """The number type that represents a data type: u1, u2 or f4."""
    code = np.dtype(dtype).str[1:]
    return code if code in ("u1", "u2") else "f4"


def inside(x: np.ndarray, box: Box | None) -> np.ndarray:
    """The part of (..., H, W) in a box."""
    if box is None:
        return x
    top, left, height, width = box
    return x[..., top : top + height, left : left + width]


def on_white(x: np.ndarray) -> np.ndarray:
    """Composite channels (C + 1, H, W), the last one alpha, on white: (C, H, W) float64."""
    *colors, opaque = x.astype(np.float64)
    white = np.iinfo(x.dtype).max if x.dtype.kind == "u" else 1.0
    return np.stack(colors) * (opaque / white) + white - opaque
