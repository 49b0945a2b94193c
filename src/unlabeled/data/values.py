"""The value range of images that are not 8-bit."""

import functools
import math

import numpy as np

from unlabeled.data.dataset import LazyImages, blocks
from unlabeled.errors import UserError, notice

FIRST = 256
"""Number of streamed images, in few shards, that determine the value range of all."""


def find_value_range(x: np.ndarray | LazyImages, warn: bool = False) -> tuple[float, float]:
    """Find black and white of images that are not uint8.

    Floats: (0, 1) if they lie within, otherwise their minimum and maximum. uint16: 0 and the
    largest value of the smallest sufficient number of bits, such as 4095 for a camera of 12 bits.

    The first streamed images decide; a notice counts others with values outside.

    Args:
        x: images (N, C, H, W).
        warn: whether to warn if outliers determine the range.

    Raises:
        UserError: there are NaN or infinite values.
    """
    if isinstance(x, LazyImages) and x.streamed:
        value_range = find_value_range(first_of(x), warn)
        x.streamed.value_range = value_range if x.convert is None else None
        return value_range
    low, high = math.inf, -math.inf
    some = []
    thinned = max(1, math.prod(x.shape) // 1_000_000)
    for part in blocks(x):
        ends = float(part.min()), float(part.max())
        if not np.isfinite(ends).all():
            raise UserError("the images contain NaN or infinite values; remove or replace them")
        low, high = min(low, ends[0]), max(high, ends[1])
        some.append(part.ravel()[::thinned])
    if warn and (x.dtype == np.uint16 or low < 0 or high > 1):
        _say_stray(x, np.concatenate(some), low, high)
    if x.dtype == np.uint16:
        return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def first_of(x: LazyImages) -> np.ndarray:
    """The first images, which determine the value range of all streamed ones."""
    return x[: min(FIRST, len(x))]


def filled(x: LazyImages) -> LazyImages:
    """Replace NaN and infinite values of images by the smallest finite value.

    A notice counts them.
    """
    if x.dtype.kind != "f":
        return x
    low, number, images = math.inf, 0, 0
    for part in blocks(x):
        finite = np.isfinite(part)
        low = min(low, float(part.min(initial=np.inf, where=finite)))
        number += int((~finite).sum())
        images += int((~finite).any((1, 2, 3)).sum())
    if not number:
        return x
    notice(
        f"{number:,} values in {images:,} of {len(x):,} images are NaN or infinite; the smallest "
        f"other value, {low:g}, takes their place"
    )
    return x.converted(functools.partial(_without, low=low))


def _without(x: np.ndarray, low: float) -> np.ndarray:
    return np.where(np.isfinite(x), x, np.float32(low))


def as_range(value: str | tuple[float, float] | None) -> tuple[float, float] | None:
    """Parse a range of values, such as "0,4095".

    Raises:
        UserError: it is not a range.
    """
    if value is None:
        return None
    try:
        low, high = map(float, value.split(",") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"--value-range is '{value}'; give LOW,HIGH, such as 0,4095")
    return low, high


def _say_stray(x: np.ndarray | LazyImages, some: np.ndarray, low: float, high: float) -> None:
    """Warn if the smallest or largest value is far from all others, such as a "no data" value.

    Far means a distance larger than the range of 99.8 % of the others.
    """
    others = some[(some != low) & (some != high)]
    if not others.size:
        return
    start, end = (float(q) for q in np.quantile(others, [0.001, 0.999]))
    far = [v for v in (low, high) if v and not 2 * start - end <= v <= 2 * end - start]
    if far and end > start:
        times = [sum(int((part == v).sum()) for part in blocks(x)) for v in far]
        counted = " and ".join(f"{v:g} ({n:,} times)" for v, n in zip(far, times, strict=True))
        notice(
            f"black and white are set by {counted}, while nearly all other values lie from "
            f"{start:g} to {end:g}; if that means no data, give --value-range={start:g},{end:g}"
        )
