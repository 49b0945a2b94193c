"""Images in arrays, whatever their layout."""

import functools
import math
import operator
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image

from unlabeled.data.dataset import LazyImages, Samples, blocks
from unlabeled.data.readers import audio
from unlabeled.data.readers.labels import add, is_multi_label
from unlabeled.errors import UserError, notice
from unlabeled.modality import Images

IMAGES = ("x", "X", "images", "imgs", "data", "arr_0")
LEAST = 16
"""Side of an array (H, W, 3) from which on it looks like one image rather than like several."""
LABELS = ("y", "labels", "label", "targets", "target", "arr_1")


def read(
    path: Path,
    channels: int | None = None,
    labels_from: Any = None,
    dtype: str | None = None,
    value_range: tuple[float, float] | None = None,
    rate: int | None = None,
) -> Samples:
    """Open a `.npy` of images, left on disk, or an `.npz` with images and perhaps labels.

    An `.npz` that holds a `rate` is audio, as `audio.from_arrays` reads it. Never unpickles.

    Args:
        path: the file.
        channels: number of channels, if known.
        labels_from: labels, or the `.npy` file that holds them.
        dtype: what an encoder was trained on; see `conversion`.
        value_range: black and white; see `conversion`.
        rate: samples per second to which audio is resampled.

    Raises:
        UserError: the file is damaged, holds objects, or holds no images.
    """
    x, y = loaded(path, labels_from)
    if isinstance(x, audio.Recordings):
        return audio.from_memory(x, labels_from, rate=rate)
    return from_memory(x if y is None else (x, y), channels, dtype, value_range)


def loaded(path: Path, labels_from: Any = None) -> tuple[Any, Any]:
    """The array of a file, left on disk where it is a `.npy`, and its labels, None without any.

    Args:
        path: the file; an `.npz` that holds a `rate` gives `Recordings`.
        labels_from: labels, or the `.npy` file that holds them.

    Raises:
        UserError: the file is damaged, holds objects, or no array of a known name.
    """
    try:
        if path.suffix == ".npy":
            x, y = np.load(path, mmap_mode="r", allow_pickle=False), None
        else:
            with np.load(path, allow_pickle=False) as content:
                if (recorded := audio.from_arrays(content, path)) is not None:
                    return recorded, None
                key = next((k for k in IMAGES if k in content), None)
                if key is None:
                    raise UserError(
                        f"{path} has no array of samples (arrays: {', '.join(content.files)}); "
                        f"name it one of {', '.join(IMAGES)}"
                    )
                x = content[key]
                y = next((content[k] for k in LABELS if k in content), None)
        if labels_from is not None:
            y = labels_from
            if isinstance(labels_from, str | Path):
                y = np.load(Path(labels_from).expanduser(), allow_pickle=False)
    except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
        if isinstance(error, UserError):
            raise
        named = path if labels_from is None else f"{path} or {labels_from}"
        why = str(error).rstrip(".")
        raise UserError(f"{named} cannot be read as an array ({why}); save it again") from error
    return x, y


def from_memory(
    data: Any,
    channels: int | None = None,
    dtype: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> Samples:
    """An array or tensor of images, a pair (images, labels), or a torch Dataset of either.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) of any number type and become (N, C, H, W).
    The channel axis is the one of length `channels` if that is known, else the one of at most 4,
    else the shortest of the first and the last. The type becomes uint8, uint16 or float32; uint8 of
    zeros and ones (a mask, dSprites) becomes 0 and 255. A memory-mapped array stays on disk.

    Args:
        data: the images.
        channels: number of channels, if known.
        dtype: type of other images of the same kind (mask, uint8, uint16 or float32), so that a
            dark image is not read as a mask or as fewer bits.
        value_range: black and white, of those other images or as the user says; see `conversion`.

    Raises:
        UserError: neither the layout nor the type can be understood.
    """
    y = None
    if isinstance(data, torch.utils.data.Dataset):
        data = _collect(data)
    if isinstance(data, tuple) and len(data) == 2:
        data, y = data
    x, modality = _as_stored(data, channels, dtype, value_range)
    if y is None:
        return Samples(x, modality=modality)
    y = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)
    if y.shape != (len(x),) and not is_multi_label(y, len(x)):
        raise UserError(f"{len(x)} images have labels of shape {y.shape}; give one label per image")
    samples = Samples(x, modality=modality)
    add(samples, {"label": y})
    return samples


def _collect(data: Any) -> Any:
    """A torch Dataset, read once into memory: items are images or (image, label, …)."""
    if isinstance(data, torch.utils.data.IterableDataset) or not len(data):
        raise UserError("give a torch Dataset with a length above 0 and items by number")
    items = [data[i] for i in range(len(data))]
    alone = not isinstance(items[0], tuple | list)
    try:
        images = np.stack([np.asarray(item if alone else item[0]) for item in items])
    except ValueError as error:
        raise UserError(f"images in memory must have one shape: {error}") from error
    if alone:
        return images
    if len(items[0]) < 2:
        return images
    labels = [item[1] for item in items]
    if not any(map(np.ndim, labels)):
        return images, np.asarray([getattr(y, "item", lambda y=y: y)() for y in labels])
    if len(set(map(np.shape, labels))) == 1:
        several = np.stack([np.asarray(y) for y in labels])
        if is_multi_label(several, len(items)):
            return images, several
    notice(
        f"the second part of an item of the data set, of shape {tuple(np.shape(labels[0]))}, is no "
        "label and is left out"
    )
    return images


def _as_stored(
    data: Any, channels: int | None, dtype: str | None, value_range: tuple[float, float] | None
) -> tuple[np.ndarray | LazyImages, Images]:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) of any number type -> (N, C, H, W)."""
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu()
        data = (data.float() if data.dtype == torch.bfloat16 else data).numpy()
    if hasattr(data, "tocsr"):
        raise UserError("sparse input is not supported: give images as a dense array")
    if isinstance(data, Image.Image):
        data = [data]
    try:
        x = data if isinstance(data, np.memmap) else np.asarray(data)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"images in memory must have one shape: {error}") from error
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if x.dtype.kind == "c":
        raise UserError("Complex data not supported: give real parts, or channels")
    if x.dtype.kind == "U":
        raise UserError(
            "words are no images; of files give their folder, or a quoted pattern such as "
            "'photos/*.jpg', and texts to learn from as text:FILE"
        )
    if x.dtype == object or x.dtype.kind not in "buif":
        raise UserError(
            f"images are arrays of numbers, but these have the type {x.dtype}; give numbers, files "
            "as a folder or a pattern, texts to learn from as text:FILE"
        )
    if x.ndim == 3:
        if x.shape[2] in (3, 4) and min(x.shape[:2]) >= LEAST:
            notice(
                f"an array of shape {x.shape} is read as {x.shape[0]:,} gray images of "
                f"{x.shape[1]}×{x.shape[2]}; of one image in color give x[None]"
            )
        elif channels == 3 and x.shape[0] == 3:
            notice(
                f"an array of shape {x.shape} is read as 3 gray images; of one image in color give "
                "x[None]"
            )
        x, channels = x[:, None], 1
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise UserError(
            f"the array has shape {x.shape}, but images are (N, H, W), (N, H, W, C) or "
            "(N, C, H, W); reshape it"
        )
    first, last = (n == channels if channels else n <= 4 for n in (x.shape[1], x.shape[3]))
    if first and last and x.shape[1] != x.shape[3]:
        notice(f"images of shape {x.shape} are read as (N, C, H, W)")
    if last and not first:
        x = x.transpose(0, 3, 1, 2)
    elif not first and channels is None and x.shape[3] < min(x.shape[1:3]):
        notice(f"images of shape {x.shape} are read as (N, H, W, C)")
        x = x.transpose(0, 3, 1, 2)
    elif not first and (channels or x.shape[1] >= min(x.shape[2:])):
        needed = f"{channels} channel{'s' * (channels > 1)}" if channels else "at most 4 channels"
        raise UserError(f"images of shape {x.shape} have no axis of {needed}; give (N, C, H, W)")
    convert, output = conversion(x, dtype, value_range)
    size = x.shape[2], x.shape[3]
    images = Images(x.shape[1], size, dtype="mask" if convert is _from_mask else output.__name__)
    if isinstance(x, np.memmap):
        return LazyImages(x, convert=convert, dtype=output), images
    return np.ascontiguousarray(convert(x) if convert else x), images


Convert = Callable[[np.ndarray], np.ndarray]


def conversion(
    x: np.ndarray | LazyImages, dtype: str | None, value_range: tuple[float, float] | None
) -> tuple[Convert | None, type]:
    """From the numbers of images to uint8, uint16 or float32.

    Without `dtype`, uint8 and uint16 are unchanged, other integers from 0 to 255 become uint8, and
    zeros and ones are a mask. With only `value_range`, set by the user, all numbers are values in
    that range, and those outside are clipped. With both, images are converted to what the encoder
    was trained on:

    | trained on | uint8 | other integers, bool | floats |
    |---|---|---|---|
    | uint8, a mask | as they are | 0 to 255; bool is a mask | 0 to 1, or 0 to 255 |
    | uint16 | 255 is white | values in its range | values in its range, or 0 to 1 |
    | float32 in 0 to 1 | 255 is white | 255 is white; 0 and 1 alone are values | as with uint8 |
    | float32 in another range | values in its range | values in its range | values in its range |

    Of alternatives in the table, the data decides, with a warning. Values outside the range are
    clipped and counted in a warning. It is an error if most integers are outside the range, or if
    values are below 0 or above 255 where 0 to 1 or 0 to 255 is needed.

    Args:
        x: images (N, C, H, W) of any number type.
        dtype: what the encoder was trained on: mask, uint8, uint16 or float32.
        value_range: black and white, of the encoder's images or as set by the user.

    Returns:
        a function that converts some images of `x` (None if none is needed), and its output type.

    Raises:
        UserError: the values fit no row of the table.
    """
    if value_range is not None and dtype in (None, "uint16", "float32"):
        return _into(x, dtype, value_range)
    if x.dtype.kind == "f":
        if dtype in ("uint8", "mask") and _low_high(x)[1] > 2:
            return _by_255(x, "8-bit images, 0 to 255 or as floats 0 to 1"), np.float32
        if dtype in ("uint8", "mask"):
            _refuse_unless(_low_high(x), (-0.1, 2), "8-bit images, 0 to 255 or as floats 0 to 1")
        return (None if x.dtype == np.float32 else _cast(np.float32)), np.float32
    if x.dtype == np.uint16 and dtype is None and any(part.max() > 255 for part in blocks(x)):
        return None, np.uint16
    may_be_mask = dtype in (None, "mask") or x.dtype == bool
    if x.dtype == np.uint8 and not may_be_mask:
        return None, np.uint8
    low, high = 0, 0
    for part in blocks(x):
        low, high = min(low, int(part.min())), max(high, int(part.max()))
        if x.dtype == np.uint8 and high > 1:
            return None, np.uint8
    if dtype is not None:
        _refuse_unless((low, high), (0, 255), "8-bit images, 0 to 255 or as floats 0 to 1")
    if low < 0 or high > 255:
        raise UserError(
            f"the images contain integers from {low} to {high}; give uint8 (0 to 255), uint16 or "
            "floats, or set the values of black and white with --value-range LOW,HIGH"
        )
    return (_from_mask if high <= 1 and may_be_mask else _cast(np.uint8)), np.uint8


def _into(
    x: np.ndarray | LazyImages, dtype: str | None, value_range: tuple[float, float]
) -> tuple[Convert | None, type]:
    """Convert to the value range of an encoder, or to the one that the user sets."""
    low, high = _low_high(x)
    unit = value_range == (0.0, 1.0)
    is_whole = x.dtype.kind != "f"
    wide = dtype == "uint16"
    if dtype is not None and x.dtype == np.uint8 and (wide or (unit and high > 1)):
        notice(f"8-bit images are given to an encoder that learned from {dtype}: 255 is white")
        return None, np.uint8
    if dtype is not None and unit and (high > 2 or (is_whole and high > 1)):
        convert = _by_255(x, "values from 0 to 1, or 8-bit images")
        notice(f"values from {low:g} to {high:g} are given to an encoder of 0 to 1: 255 is white")
        return convert, np.float32
    if wide and not is_whole and value_range[1] > 2 >= high and low >= 0:
        notice(f"floats from {low:g} to {high:g} are given to an encoder of uint16: 1 is white")
        return functools.partial(_scaled, by=value_range[1]), np.float32
    output = np.uint16 if wide and is_whole else np.float32
    if (low >= value_range[0] and high <= value_range[1]) or (
        dtype is not None and unit and low >= 0
    ):
        return (None if x.dtype == output else _cast(output)), output
    outside = sum(
        int(((part < value_range[0]) | (part > value_range[1])).sum()) for part in blocks(x)
    )
    if dtype is not None and is_whole and 2 * outside > math.prod(x.shape):
        ends = f"{value_range[0]:g} to {value_range[1]:g}"
        _refuse_unless((low, high), value_range, f"{dtype} from {ends}")
    notice(
        f"{outside:,} of {math.prod(x.shape):,} values lie outside "
        f"{value_range[0]:g} to {value_range[1]:g} ({low:g} to {high:g}) and are clipped"
    )
    return functools.partial(clipped, value_range=value_range), np.float32


def _low_high(x: np.ndarray | LazyImages) -> tuple[float, float]:
    """The smallest and the largest value; 0 of no images.

    Raises:
        UserError: there are NaN or infinite values.
    """
    ends = np.array([(part.min(), part.max()) for part in blocks(x)] or [(0, 0)], np.float64)
    if not np.isfinite(ends).all():
        raise UserError("the images contain NaN or infinite values; remove or replace them")
    return float(ends[:, 0].min()), float(ends[:, 1].max())


def _by_255(x: np.ndarray | LazyImages, learned: str) -> Convert:
    """A function that scales values from 0 to 255 to 0 to 1."""
    _refuse_unless(_low_high(x), (0, 255), learned)
    return functools.partial(_scaled, by=1 / 255)


def _refuse_unless(ends: tuple[float, float], fits: tuple[float, float], learned: str) -> None:
    if ends[0] < fits[0] or ends[1] > fits[1]:
        raise UserError(
            f"the images hold values from {ends[0]:g} to {ends[1]:g}, but the encoder learned "
            f"from {learned}; convert them to that"
        )


def _cast(dtype: type) -> Convert:
    return operator.methodcaller("astype", dtype)  # a lambda could not be sent to a process


def _scaled(x: np.ndarray, by: float) -> np.ndarray:
    return x.astype(np.float32) * np.float32(by)


def clipped(x: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Values as floats, those outside of a range at its ends."""
    return x.astype(np.float32).clip(*map(np.float32, value_range))


def _from_mask(x: np.ndarray) -> np.ndarray:
    return x.astype(np.uint8) * np.uint8(255)
