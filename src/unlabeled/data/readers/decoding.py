"""Decode images to arrays. Worker processes import this module: only Pillow and numpy."""

import importlib.util
import io
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps

from unlabeled.data.readers import dicom, npy, tiff
from unlabeled.data.readers.cropping import fitted, middle
from unlabeled.data.readers.planes import UNREADABLE, Box, Planes, UnfitError, inside, on_white

GRAY = ("1", "L", "LA", "La", "I", "F")
FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""Formats that Pillow may open; some others would start a program."""
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

VERSION = 2
"""Of what this module decodes; images of an earlier one are not taken from the cache."""
DEEP_IS_READ = importlib.util.find_spec("imagecodecs") is not None
"""Whether 16-bit colors in PNGs are read."""
ORIENTATION = 0x0112
"""Number of the EXIF tag."""
TURNED = (5, 6, 7, 8)
"""Values of the tag by which height and width are exchanged."""
NO_HEIC = "HEIC, which pip install 'unlabeled[heic]' makes readable"
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")


def reader() -> tuple[str | int | None, ...]:
    """What decoding depends on besides the files: versions, and the largest image allowed."""
    tifffile = tiff.tifffile.__version__ if tiff.tifffile else ""
    deep = "16-bit PNG" if DEEP_IS_READ else ""
    return (
        VERSION,
        PIL.__version__,
        HEIF_IS_READ,
        tifffile,
        deep,
        dicom.version(),
        Image.MAX_IMAGE_PIXELS,
    )


class Header(NamedTuple):
    """Header of an image, which is read before it is decoded."""

    channels: int
    kind: str  #: of number, as numpy calls it: u1, u2 or f4
    size: tuple[int, int]  #: width and height in pixels
    pages: bool  #: more than one; the first is taken
    cut: bool = False  #: whether 8 of its 16 bits are lost, where it is read as 8-bit
    frames: int = 1  #: samples in the file
    units: bool = False  #: whether its values have a physical unit, which conversion preserves


class Member(NamedTuple):
    """An image inside an uncompressed tar."""

    tar: str
    start: int  #: its first byte
    length: int  #: in bytes


File = Path | bytes | Member
"""An encoded image: a file, its content, or its position in a tar."""


class Part(NamedTuple):
    """A part of an encoded image, or an image of more pixels than Pillow allows."""

    file: File
    frame: int = 0
    box: Box | None = None  #: for a header any box
    max_pixels: int | None = None  #: default: Pillow's limit


Encoded = File | Part


def look(chunk: Sequence[Encoded]) -> list[Header | str]:
    """The header of each image, or the reason why it has none; not thread-safe, as `decode`."""
    with _silenced():
        return [_guarded(_header, image) for image in chunk]


def decode(
    chunk: Sequence[Encoded], channels: int, size: tuple[int, int], kind: str
) -> tuple[np.ndarray, list[str | None]]:
    """Decode images, crop them at the center and resize them to (height, width); not thread-safe.

    Returns:
        the readable images, (n, channels, *size) of the `kind` u1, u2 or f4; and for each image
        of the chunk None, or the reason why it cannot be read.
    """
    with _silenced():
        results = [decode_fitted(image, channels, size, kind) for image in chunk]
    images = [x for x in results if not isinstance(x, str)]
    x = np.stack(images) if images else np.empty((0, channels, *size), kind)
    return x, [reason if isinstance(reason, str) else None for reason in results]


def decode_fitted(
    image: Encoded, channels: int, size: tuple[int, int], kind: str
) -> np.ndarray | str:
    """An image cropped at the center and resized to (height, width), or why it cannot be read."""
    x: np.ndarray | str = _guarded(_decode, image, channels, size, kind)
    return x


def decode_full(image: Encoded, channels: int, kind: str, least: int) -> np.ndarray | str:
    """A full-size image (channels, h, w), or the reason why it cannot be read.

    A JPEG is decoded at the smallest fraction whose shorter side is at least `least`.
    """
    x: np.ndarray | str = _guarded(_full, image, channels, kind, least)
    return x


@contextmanager
def _silenced() -> Iterator[None]:
    """Context without warnings of decoders, in all threads."""
    with warnings.catch_warnings():
        silence()
        yield


def silence() -> None:
    """Disable the warnings of decoders permanently; threads cannot disable only their own."""
    warnings.filterwarnings("ignore", module=r"(PIL|tifffile|pillow_heif|pydicom)(\.|$)")


def _opened(image: File) -> BinaryIO | Path:
    if isinstance(image, Member):
        with Path(image.tar).open("rb") as file:
            file.seek(image.start)
            image = file.read(image.length)
    return image if isinstance(image, Path) else io.BytesIO(image)


def _guarded(task: Any, image: Encoded, *arguments: Any) -> Any:
    """The task's result, or a short reason why the image cannot be read."""
    part = image if isinstance(image, Part) else Part(image)
    limit = part.max_pixels or Image.MAX_IMAGE_PIXELS or math.inf
    source = _opened(part.file)
    try:
        if not (source.stat().st_size if isinstance(source, Path) else source.getbuffer()):  # type: ignore[attr-defined]
            return "empty"
        first = _first_bytes(source)
        if dicom.is_dicom(first):
            return task(dicom.opened(source, part.frame, limit), part, *arguments)
        if first.startswith(npy.MAGIC):
            return task(npy.opened(source), part, *arguments)
        if tiff.tifffile and first[:4] in tiff.MAGIC:
            with tiff.opened(source, limit, part.box is not None) as stack:
                if stack is not None:
                    return task(stack, part, *arguments)
            if not isinstance(source, Path):
                source.seek(0)
        with _limited_to(part.max_pixels), Image.open(source, formats=FORMATS) as opened:
            if opened.width * opened.height > limit:
                raise Image.DecompressionBombError  # of which Pillow only warns
            return task(opened, part, *arguments)
    except UnfitError as error:
        return str(error)
    except Image.UnidentifiedImageError:
        first = _first_bytes(source)
        if not HEIF_IS_READ and first[4:12] in HEIC:
            return NO_HEIC
        if not tiff.tifffile and first[:4] in tiff.MAGIC:
            return tiff.NO_TIFF
        return "not an image in a known format"
    except Image.DecompressionBombError:
        return f"enormous: more than {limit:,} pixels"
    except FileNotFoundError:
        return f"missing: {source}"[:200]
    except (PermissionError, MemoryError):  # not the image's fault
        raise
    except UNREADABLE as error:
        return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"[:200]


_RAISED: list[int] = []
_LOCK = threading.RLock()


@contextmanager
def _limited_to(pixels: int | None) -> Iterator[None]:
    """Raise Pillow's limit, which all threads share, while any image needs it."""
    if pixels is None:
        yield
        return
    with _LOCK:
        if not _RAISED:
            _limited_to.usual = Image.MAX_IMAGE_PIXELS  # type: ignore[attr-defined]
        _RAISED.append(pixels)
        Image.MAX_IMAGE_PIXELS = max(_RAISED)
    try:
        yield
    finally:
        with _LOCK:
            _RAISED.remove(pixels)
            usual = _limited_to.usual  # type: ignore[attr-defined]
            Image.MAX_IMAGE_PIXELS = max(_RAISED) if _RAISED else usual


def _first_bytes(source: BinaryIO | Path) -> bytes:
    """The first bytes, which identify the format whatever the file name."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.read(132)
    source.seek(0)
    first = source.read(132)
    source.seek(0)
    return first


def _header(image: Image.Image | Planes, part: Part) -> Header:
    if isinstance(image, Planes):
        units = isinstance(image, dicom.Dicom) and image.channels == 1
        return Header(
            image.channels, image.kind, image.size, image.pages, frames=image.frames, units=units
        )
    kind = "u2" if image.mode.startswith("I") else "f4" if image.mode == "F" else "u1"
    if image.mode == "I" and any(raw in _raw(image) for raw in ("16S", "32")):
        kind = "f4"  # signed, or beyond 16 bits
    pages = getattr(image, "is_animated", False)
    channels = 1 if kind != "u1" or image.mode in GRAY else 3
    cut = kind == "u1" and ";16" in _raw(image)
    if cut and _is_deep(image):
        kind = "u2"
    size = _upright_size(image) if part.box else image.size
    return Header(channels, kind, size, pages, cut)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image after its EXIF rotation, as `_converted` applies it."""
    is_late = image.format == "PNG" and "exif" not in image.info  # it would decode the image
    if is_late or image.format == "TIFF":  # of which Pillow gives the upright size
        return image.size
    is_turned = image.getexif().get(ORIENTATION, 1) in TURNED
    return image.size[::-1] if is_turned else image.size


def _is_deep(image: Image.Image) -> bool:
    """Whether it is a PNG of 16-bit colors, or with transparency, that can be read at 16 bits."""
    return DEEP_IS_READ and image.format == "PNG" and ";16" in _raw(image)


def _raw(image: Image.Image) -> str:
    """Pillow's name for the number format of the file, such as RGB;16B."""
    return str([part[-1] for part in getattr(image, "tile", [])])


def _decode(
    image: Image.Image | Planes, part: Part, channels: int, size: tuple[int, int], kind: str
) -> np.ndarray:
    if (x := _unusual(image, part, channels, kind)) is not None:
        return fitted(_some_finite(x), size)
    assert isinstance(image, Image.Image)
    height, width = size
    if part.box:
        return fitted(inside(_full_size(image, part, channels, kind), part.box), size)
    image = _converted(image, channels, kind, (2 * width, 2 * height))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS, middle(image, size), 3.0)
    x = np.asarray(image)
    if kind == "u2":
        x = x.round().clip(0, 65535).astype(np.uint16)
    return x.reshape(height, width, channels).transpose(2, 0, 1)


def _full(
    image: Image.Image | Planes, part: Part, channels: int, kind: str, least: int
) -> np.ndarray:
    if (x := _unusual(image, part, channels, kind)) is not None:
        return _some_finite(x)
    assert isinstance(image, Image.Image)
    if part.box:
        return np.array(inside(_full_size(image, part, channels, kind), part.box))
    x = _fast(image, channels, least)
    if x is None:
        x = np.array(_converted(image, channels, kind, (least, least)))
    return x.reshape(*x.shape[:2], channels).transpose(2, 0, 1)


_FULL_SIZE: dict[Any, np.ndarray] = {}


def _full_size(image: Image.Image, part: Part, channels: int, kind: str) -> np.ndarray:
    """A full-size image (channels, H, W); the last one is cached for its other boxes."""
    key = part.file, channels, kind
    with _LOCK:
        if key not in _FULL_SIZE:
            _FULL_SIZE.clear()
            x = np.asarray(_converted(image, channels, kind, image.size))
            x = x.round().clip(0, 65535).astype(np.uint16) if kind == "u2" else x
            _FULL_SIZE[key] = x.reshape(*x.shape[:2], channels).transpose(2, 0, 1)
        return _FULL_SIZE[key]


def _fast(image: Image.Image, channels: int, least: int) -> np.ndarray | None:
    """Decode an upright JPEG by simplejpeg, which is faster; None for other images."""
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


def _unusual(
    image: Image.Image | Planes, part: Part, channels: int, kind: str
) -> np.ndarray | None:
    """Images (channels, h, w) that Pillow cannot convert; None for the usual ones.

    Raises:
        UnfitError: the image has other channels or another number type than requested.
    """
    if isinstance(image, Planes):
        is_gray = image.channels == 1 and channels == 3
        if image.channels != channels and not is_gray:
            raise UnfitError(
                f"{image.channels} channels of {np.dtype(image.kind)} where the others have "
                f"{channels} of {np.dtype(kind)}"
            )
        x = image.as_kind(image.read(part.box), kind)
        return np.repeat(x, 3, 0) if is_gray else x
    header = _header(image, part)
    if header.kind == "f4" or (header.cut and kind == "u2"):
        if (header.channels, header.kind) != (channels, kind):
            raise UnfitError(
                f"{header.channels} channels of {np.dtype(header.kind)} where the others have "
                f"{channels} of {np.dtype(kind)}"
            )
        return inside(_deep(image) if header.cut else np.asarray(image, kind)[None], part.box)
    is_wider = kind == "f4" or (kind == "u2" and (channels == 3 or header.kind == "u1"))
    if channels not in (1, 3) or is_wider:
        raise UnfitError(f"an image of 8 bits where the others have {channels} of {np.dtype(kind)}")
    return None


def _deep(image: Image.Image) -> np.ndarray:
    """A 16-bit PNG with colors or transparency, (C, H, W), which Pillow would cut to 8 bits."""
    import imagecodecs

    file: Any = getattr(image, "fp")  # noqa: B009  of image files only
    file.seek(0)
    x = np.moveaxis(np.atleast_3d(imagecodecs.png_decode(file.read())), 2, 0)
    return on_white(x).round().astype(np.uint16) if len(x) in (2, 4) else x


def _some_finite(x: np.ndarray) -> np.ndarray:
    """Return the image unchanged, unless all its values are NaN or infinite.

    Raises:
        UnfitError: it is.
    """
    if x.dtype.kind == "f" and not np.isfinite(x).any():
        raise UnfitError("without a finite value")
    return x


def _converted(image: Image.Image, channels: int, kind: str, least: tuple[int, int]) -> Image.Image:
    """Convert to upright, on white, in the mode with that many channels; u2 as floats.

    JPEGs are decoded at a fraction of at least that width and height.
    """
    mode = "L" if channels == 1 else "RGB"
    cut = image.mode != "F" and ";16" in _raw(image) and not image.mode.startswith("I")
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


def _sixteen_bits(image: Image.Image) -> Image.Image:
    x = np.asarray(image)
    if x.min() < 0 or x.max() > 65535:
        raise ValueError("values beyond 16 bits")
    return Image.fromarray(x.astype(np.float32))


def _high_byte(image: Image.Image) -> Image.Image:
    """16 bits to 8 bits; Pillow's own conversion would clip to white."""
    x = np.asarray(_sixteen_bits(image)).astype(np.uint16) >> 8
    _refuse_dark(int(x.max()))
    return Image.fromarray(x.astype("u1"))


def _refuse_dark(brightest: int) -> None:
    """Refuse 16-bit images whose high byte is nearly black: they have 12 bits or fewer."""
    if 0 < brightest < 16:
        raise UnfitError(
            "12 bits or fewer in a file of 16, whose white is not known; save it in 8 bits"
        )
