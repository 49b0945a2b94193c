"""Encoded images to arrays. Worker processes import this: Pillow and numpy, nothing heavy."""

import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps

# Pillow's decoders raise all of these on damaged files.
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RuntimeError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
GRAY = ("1", "L", "LA", "La", "I", "F")
FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""Pillow tries no others: some would start a program."""
try:
    import tifffile
except ImportError:
    tifffile = None  # type: ignore[assignment]
else:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # damage is ours to report
try:
    import simplejpeg
except ImportError:
    simplejpeg = None
try:
    import pillow_heif
except ImportError:
    HEIF_IS_READ = ""
else:
    pillow_heif.register_heif_opener()
    FORMATS += ("HEIF",)
    HEIF_IS_READ = pillow_heif.__version__

ORIENTATION = 0x0112
"""Number of the EXIF tag."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NO_TIFF = "TIFF of a kind that pip install 'unlabeled[tiff]' makes readable"
NO_HEIC = "HEIC, which pip install 'unlabeled[heic]' makes readable"
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")


def reader() -> tuple[str | int | None, ...]:
    """What decoding depends on beside the files: versions, and the largest image allowed."""
    tiff = tifffile.__version__ if tifffile else ""
    return PIL.__version__, HEIF_IS_READ, tiff, Image.MAX_IMAGE_PIXELS


class Header(NamedTuple):
    """What an image says of itself before it is decoded."""

    channels: int
    kind: str  #: of number, as numpy calls it: u1, u2 or f4
    size: tuple[int, int]  #: width and height in pixels
    pages: bool  #: more than one; the first is taken
    cut: bool = False  #: whether 8 of its 16 bits are lost


class UnfitError(ValueError):
    """An undamaged image that cannot be read as asked; the message says why."""


class Member(NamedTuple):
    """An image inside an uncompressed tar."""

    tar: str
    start: int  #: its first byte
    length: int  #: in bytes


Encoded = Path | bytes | Member
"""An encoded image: a file, its content, or where it lies in a tar."""


def look(chunk: Sequence[Encoded]) -> list[Header | str]:
    """Of each image its header, or why there is none; not for threads, as `decode`."""
    with _silenced():
        return [_guarded(_header, image) for image in chunk]


def decode(
    chunk: Sequence[Encoded], channels: int, size: tuple[int, int], kind: str
) -> tuple[np.ndarray, list[str | None]]:
    """Images, cropped at the center and scaled to (height, width); not for threads.

    Returns:
        those that can be read, (n, channels, *size) of the `kind` u1, u2 or f4; and for each
        image of the chunk None, or why it cannot be read.
    """
    with _silenced():
        results = [decode_fitted(image, channels, size, kind) for image in chunk]
    images = [x for x in results if not isinstance(x, str)]
    x = np.stack(images) if images else np.empty((0, channels, *size), kind)
    return x, [reason if isinstance(reason, str) else None for reason in results]


def decode_fitted(
    image: Encoded, channels: int, size: tuple[int, int], kind: str
) -> np.ndarray | str:
    """An image, cropped at the center and scaled to (height, width); or why it cannot be read."""
    x: np.ndarray | str = _guarded(_decode, image, channels, size, kind)
    return x


def decode_full(image: Encoded, channels: int, kind: str, least: int) -> np.ndarray | str:
    """An image in full, (channels, h, w); or why it cannot be read.

    Where a JPEG can be decoded at a fraction whose shorter side is at least `least`, it is.
    """
    x: np.ndarray | str = _guarded(_full, image, channels, kind, least)
    return x


@contextmanager
def _silenced() -> Iterator[None]:
    """Context without warnings of decoders; it changes those of all threads."""
    with warnings.catch_warnings():
        silence()
        yield


def silence() -> None:
    """Turn the warnings of decoders off, for good: threads cannot do so for themselves."""
    warnings.filterwarnings("ignore", module=r"(PIL|tifffile|pillow_heif)(\.|$)")


def _opened(image: Encoded) -> BinaryIO | Path:
    if isinstance(image, Member):
        with Path(image.tar).open("rb") as file:
            file.seek(image.start)
            image = file.read(image.length)
    return image if isinstance(image, Path) else io.BytesIO(image)


def _guarded(task: Any, image: Encoded, *arguments: Any) -> Any:
    """The task's result, or in a few words why the image is damaged."""
    source = _opened(image)
    try:
        if not (source.stat().st_size if isinstance(source, Path) else source.getbuffer()):  # type: ignore[attr-defined]
            return "empty"
        if tifffile and _first_bytes(source)[:4] in TIFF:
            with _tiff(source) as stack:
                if stack is not None:
                    return task(stack, *arguments)
            if not isinstance(source, Path):
                source.seek(0)
        with Image.open(source, formats=FORMATS) as opened:
            if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError  # of which Pillow only warns
            return task(opened, *arguments)
    except UnfitError as error:
        return str(error)
    except Image.UnidentifiedImageError:
        first = _first_bytes(source)
        if not HEIF_IS_READ and first[4:] in HEIC:
            return NO_HEIC
        if not tifffile and first[:4] in TIFF:
            return NO_TIFF
        return "not an image in a known format"
    except Image.DecompressionBombError:
        return f"enormous: more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    except FileNotFoundError:
        return f"missing: {source}"[:200]
    except (PermissionError, MemoryError):  # not the image's fault
        raise
    except UNREADABLE as error:
        return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"[:200]


def _first_bytes(source: BinaryIO | Path) -> bytes:
    """The first twelve, which tell formats apart whatever the ending."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.read(12)
    source.seek(0)
    first = source.read(12)
    source.seek(0)
    return first


@dataclass(frozen=True)
class Stack:
    """A TIFF that Pillow does not keep: floats, 16-bit colors, more channels than three."""

    series: Any
    channels: int
    kind: str
    size: tuple[int, int]  #: width and height in pixels
    pages: bool
    alpha: bool

    def read(self) -> np.ndarray:
        """Its values, (channels, H, W)."""
        axes = self.series.axes
        try:
            x = self.series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise UnfitError(
                "TIFF, compressed as only imagecodecs reads it; pip install 'unlabeled[tiff]'"
            ) from error
        x = x[tuple(slice(None) if axis in "YXSC" else 0 for axis in axes)]
        axes = [axis for axis in axes if axis in "YXSC"]
        if len(axes) == 2:
            x = x[None]
        else:
            x = np.moveaxis(x, next(i for i, axis in enumerate(axes) if axis in "SC"), 0)
        if self.alpha:  # laid on white
            *colors, opaque = x.astype(np.float64)
            white = np.iinfo(x.dtype).max if x.dtype.kind == "u" else 1.0
            x = np.stack(colors) * (opaque / white) + white - opaque
        return x.astype(self.kind)


@contextmanager
def _tiff(source: BinaryIO | Path) -> Iterator[Stack | None]:
    """What a TIFF holds that Pillow would lose; None for others, and for damaged ones."""
    with ExitStack() as opened:
        try:
            stack = _stack(opened.enter_context(tifffile.TiffFile(source)))
        except UnfitError:
            raise
        except (tifffile.TiffFileError, *UNREADABLE):
            stack = None
        yield stack


def _stack(tiff: Any) -> Stack | None:
    page, series = tiff.pages[0], tiff.series[0]
    plain = page.photometric.name in ("MINISBLACK", "RGB")
    lengths = dict(zip(series.axes, series.shape, strict=True))
    if not plain or not {"Y", "X"} <= set(lengths) or series.dtype.kind not in "uif":
        return None
    if {"S", "C"} <= set(lengths):
        raise UnfitError("TIFF with two axes of channels; save one of them")
    channels = lengths.get("S", lengths.get("C", 1))
    alpha = "S" in lengths and any(e.name.endswith("ALPHA") for e in page.extrasamples)
    kept = series.dtype.str[1:]
    if (kept == "u1" and (channels in (1, 3) or alpha)) or (kept == "u2" and channels == 1):
        return None
    width, height = lengths["X"], lengths["Y"]
    if width * height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError
    others = math.prod(n for axis, n in lengths.items() if axis not in "YXSC")
    kind = kept if kept in ("u1", "u2") else "f4"
    return Stack(series, int(channels or 1) - int(alpha), kind, (width, height), others > 1, alpha)


def _header(image: Image.Image | Stack) -> Header:
    if isinstance(image, Stack):
        return Header(image.channels, image.kind, image.size, image.pages)
    kind = "u2" if image.mode.startswith("I") else "f4" if image.mode == "F" else "u1"
    if image.mode == "I" and any(raw in _raw(image) for raw in ("16S", "32")):
        kind = "f4"  # signed, or beyond 16 bits
    pages = getattr(image, "is_animated", False)
    channels = 1 if kind != "u1" or image.mode in GRAY else 3
    return Header(channels, kind, image.size, pages, kind == "u1" and ";16" in _raw(image))


def _raw(image: Image.Image) -> str:
    """How the file holds its numbers, as Pillow calls it, such as RGB;16B."""
    return str([part[-1] for part in getattr(image, "tile", [])])


def _decode(
    image: Image.Image | Stack, channels: int, size: tuple[int, int], kind: str
) -> np.ndarray:
    if (x := _unusual(image, channels, kind)) is not None:
        return _fitted(x, size)
    assert isinstance(image, Image.Image)
    height, width = size
    image = _converted(image, channels, kind, (2 * width, 2 * height))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS, _middle(image, size), 3.0)
    x = np.asarray(image)
    if kind == "u2":
        x = x.round().clip(0, 65535).astype(np.uint16)
    return x.reshape(height, width, channels).transpose(2, 0, 1)


def _full(image: Image.Image | Stack, channels: int, kind: str, least: int) -> np.ndarray:
    if (x := _unusual(image, channels, kind)) is not None:
        return x
    assert isinstance(image, Image.Image)
    x = _fast(image, channels, least)
    if x is None:
        x = np.array(_converted(image, channels, kind, (least, least)))
    return x.reshape(*x.shape[:2], channels).transpose(2, 0, 1)


def _fast(image: Image.Image, channels: int, least: int) -> np.ndarray | None:
    """Upright JPEGs by simplejpeg, which gives the same pixels sooner; None for others."""
    plain = image.format == "JPEG" and image.mode in ("L", "RGB")
    if simplejpeg is None or not plain or image.getexif().get(ORIENTATION, 1) != 1:
        return None
    file: Any = getattr(image, "fp")  # noqa: B009  of image files only
    file.seek(0)
    colors = "GRAY" if channels == 1 else "RGB"
    x: np.ndarray = simplejpeg.decode_jpeg(
        file.read(), colors, min_height=least, min_width=least, min_factor=1
    )
    return x


def _unusual(image: Image.Image | Stack, channels: int, kind: str) -> np.ndarray | None:
    """What Pillow cannot convert, (channels, h, w); None for the usual images.

    Raises:
        UnfitError: the image is of another kind than asked for.
    """
    header = _header(image)
    if isinstance(image, Stack) or header.kind == "f4":
        if (header.channels, header.kind) != (channels, kind):
            raise UnfitError(
                f"{header.channels} channels of {np.dtype(header.kind)} where the others have "
                f"{channels} of {np.dtype(kind)}"
            )
        return image.read() if isinstance(image, Stack) else np.asarray(image, kind)[None]
    if channels not in (1, 3) or (channels, kind) == (3, "u2") or kind == "f4":
        raise UnfitError(f"an image of 8 bits where the others have {channels} of {np.dtype(kind)}")
    return None


def _converted(image: Image.Image, channels: int, kind: str, least: tuple[int, int]) -> Image.Image:
    """Upright, on white, in the mode of so many channels; u2 as floats.

    JPEGs alone are decoded at a fraction, of at least that width and height.
    """
    mode = "L" if channels == 1 else "RGB"
    cut = _header(image).cut
    image.draft(mode, least)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        image = _sixteen_bits(image) if kind == "u2" else _high_byte(image)
    elif cut:
        _refuse_dark(int(np.asarray(image).max()))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "F" else image.convert(mode)


def _fitted(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Channels (C, H, W) of any kind, cropped at the center and scaled, each by itself."""
    height, width = size
    if x.shape[1:] == size:
        return x
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in x]
    box = _middle(planes[0], size)
    out = np.stack(
        [np.asarray(p.resize((width, height), Image.Resampling.LANCZOS, box, 3.0)) for p in planes]
    ).clip(x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True))
    return (out if x.dtype.kind == "f" else out.round()).astype(x.dtype)


def _middle(image: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box at the center with the proportions of `size`."""
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
    """Where 8-bit images are wanted; Pillow's own conversion would clip it to white."""
    x = np.asarray(_sixteen_bits(image)).astype(np.uint16) >> 8
    _refuse_dark(int(x.max()))
    return Image.fromarray(x.astype("u1"))


def _refuse_dark(brightest: int) -> None:
    """Refuse 16-bit images whose high byte is nearly black: they have 12 bits or fewer."""
    if 0 < brightest < 16:
        raise UnfitError(
            "12 bits or fewer in a file of 16, whose white is not known; save it in 8 bits"
        )
