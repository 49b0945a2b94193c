"""Encoded pictures to arrays. Worker processes import this: Pillow and numpy, nothing heavy."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

# Pillow's decoders raise all of these on damaged files.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
GREY = ("1", "L", "LA", "La", "I", "F")


FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""Pillow tries no others: some would start a program."""


class Header(NamedTuple):
    """What a picture says of itself before it is decoded."""

    grey: bool
    deep: bool  #: 16 bits
    size: tuple[int, int]  #: width and height in pixels
    pages: bool  #: more than one; the first is taken


@dataclass(frozen=True)
class Files:
    """Pictures that are files in a folder."""

    folder: str
    names: tuple[str, ...]

    def open(self) -> Iterator[BinaryIO | Path]:
        """Each picture, in order."""
        return (Path(self.folder, name) for name in self.names)


@dataclass(frozen=True)
class Members:
    """Pictures inside an uncompressed tar, by their places in it."""

    tar: str
    names: tuple[str, ...]
    places: tuple[tuple[int, int], ...]  #: first byte and number of bytes

    def open(self) -> Iterator[BinaryIO | Path]:
        """Each picture, in order."""
        with Path(self.tar).open("rb") as file:
            for start, length in self.places:
                file.seek(start)
                yield io.BytesIO(file.read(length))


@dataclass(frozen=True)
class Held:
    """Pictures that were read already, or that a table names by their paths."""

    names: tuple[str, ...]
    contents: tuple[bytes | Path, ...]

    def open(self) -> Iterator[BinaryIO | Path]:
        """Each picture, in order."""
        return (c if isinstance(c, Path) else io.BytesIO(c) for c in self.contents)


Chunk = Files | Members | Held
"""Pictures that one task of a worker reads."""


def look(chunk: Chunk) -> list[Header | str]:
    """Of each picture its header, or why there is none."""
    return [_guarded(_header, source) for source in chunk.open()]


def decode(
    chunk: Chunk, channels: int, size: tuple[int, int], deep: bool
) -> tuple[np.ndarray, list[str | None]]:
    """Pictures of a chunk, cropped at the centre and scaled to (height, width).

    Returns:
        those that can be read, (n, channels, *size), uint8 or with `deep` uint16; and for each
        picture of the chunk None, or why it cannot be read.
    """
    found = [_guarded(_decode, source, channels, size, deep) for source in chunk.open()]
    pictures = [p for p in found if not isinstance(p, str)]
    blank = np.empty((0, channels, *size), np.uint16 if deep else np.uint8)
    return np.stack(pictures) if pictures else blank, [
        p if isinstance(p, str) else None for p in found
    ]


def _guarded(task: Any, source: BinaryIO | Path, *arguments: Any) -> Any:
    """The task's result, or in a few words why the picture is damaged."""
    try:
        if not (source.stat().st_size if isinstance(source, Path) else source.getbuffer()):  # type: ignore[attr-defined]
            return "empty"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as image:
                return task(image, *arguments)
    except Image.UnidentifiedImageError:
        return "no picture of a known format"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"enormous: more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    except FileNotFoundError:
        return f"missing: {source}"[:200]
    except (PermissionError, MemoryError):  # not the picture's fault
        raise
    except UNREADABLE as error:
        return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"[:200]


def _header(image: Image.Image) -> Header:
    deep = image.mode.startswith("I")
    pages = getattr(image, "is_animated", False)
    return Header(deep or image.mode in GREY, deep, image.size, pages)


def _decode(image: Image.Image, channels: int, size: tuple[int, int], deep: bool) -> np.ndarray:
    mode = "L" if channels == 1 else "RGB"
    height, width = size
    image.draft(mode, (2 * width, 2 * height))  # JPEG alone: large photos decode at a fraction
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        image = _sixteen_bits(image) if deep else _high_byte(image)
    elif image.mode == "F":
        raise ValueError("32-bit float pictures have no known white; save them as an array")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != "F":
        image = image.convert(mode)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS, _middle(image, size), 3.0)
    x = np.asarray(image)
    if deep:
        x = x.round().clip(0, 65535).astype(np.uint16)
    return x.reshape(height, width, channels).transpose(2, 0, 1)


def _middle(image: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box at the centre with the proportions of `size`."""
    height, width = size
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    return left, top, left + scale * width, top + scale * height


def _sixteen_bits(image: Image.Image) -> Image.Image:
    x = np.asarray(image)
    if x.min() < 0 or x.max() > 65535:
        raise ValueError("values beyond 16 bits")
    return Image.fromarray(x.astype(np.float32))


def _high_byte(image: Image.Image) -> Image.Image:
    """Where 8-bit pictures lie beside it; Pillow's own conversion would clip it to white."""
    return Image.fromarray((np.asarray(_sixteen_bits(image)).astype(np.uint16) >> 8).astype("u1"))
