"""A folder of pictures, nested or flat. Its sub-folders are not taken for labels."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from unlabeled.datasets.base import Samples
from unlabeled.errors import Notice, UserError

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
LARGEST = 96
"""Pixels of a side, unless the user says otherwise: what two cores learn from in good time."""


def read(folder: Path, channels: int | None = None, size: tuple[int, int] | None = None) -> Samples:
    """All pictures below a folder, in the order of their paths.

    Grey if all of them are, else red, green, blue. Pictures of different sizes, or of more than 96
    pixels a side, are resized and cropped at the centre to the smallest side, at most 96.

    Raises:
        UserError: there are none, or none can be read.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not paths:
        raise UserError(
            f"{folder} holds no pictures ({', '.join(sorted(ENDINGS))}); give a folder that does"
        )
    headers = {path: header for path in paths if (header := _header(path))}
    if not headers:
        raise UserError(f"none of the {len(paths)} pictures in {folder} can be read")
    if channels is None:
        channels = 1 if all(grey for grey, _ in headers.values()) else 3
    if size is None:
        sides = {side for _, shape in headers.values() for side in shape}
        size = (min(LARGEST, min(sides)),) * 2
        if len(sides) > 1:
            told = f"pictures of {min(sides)} to {max(sides)} px a side are all fitted to {size[0]}"
            warnings.warn(told, Notice, stacklevel=2)
    mode = "L" if channels == 1 else "RGB"
    names, pictures = [], []
    for path in headers:
        try:
            with Image.open(path) as image:
                upright = _eight_bit(ImageOps.exif_transpose(image)).convert(mode)
                fitted = ImageOps.fit(upright, size[::-1], Image.Resampling.LANCZOS)
        except UNREADABLE:
            continue
        names.append(str(path.relative_to(folder)))
        pictures.append(np.asarray(fitted).reshape(*size, -1).transpose(2, 0, 1))
    if len(names) < len(paths):
        lost = sorted({str(p.relative_to(folder)) for p in paths} - set(names))
        warnings.warn(
            f"{len(lost)} pictures cannot be read and are left out: {lost[:5]}",
            Notice,
            stacklevel=2,
        )
    if not names:
        raise UserError(f"none of the {len(paths)} pictures in {folder} can be read")
    return Samples(np.stack(pictures), names=names)


def _header(path: Path) -> tuple[bool, tuple[int, int]] | None:
    """Whether a picture is grey, and its size, without decoding it; None if it is damaged."""
    try:
        with Image.open(path) as image:
            return image.mode in ("1", "L", "LA", "I;16", "I", "F"), image.size
    except UNREADABLE:
        return None


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey by its high byte; Pillow's own conversion would clip it to white."""
    if not image.mode.startswith(("I", "F")):
        return image
    if not image.mode.startswith("I;16"):
        raise ValueError(f"mode {image.mode} has no known white")
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
