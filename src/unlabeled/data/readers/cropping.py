"""Crops at the center of an image, resized. Worker processes import this: only Pillow and numpy."""

import numpy as np
from PIL import Image


def fitted(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Channels (C, H, W) of any number type, cropped at the center and resized one by one."""
    height, width = size
    if x.shape[1:] == size:
        return x
    finite = np.isfinite(x) if x.dtype.kind == "f" else None
    if finite is not None and not finite.all():  # they would spread over their neighbors
        filled = np.where(finite, x, x.min(initial=np.inf, where=finite))
        return np.where(_nearest(finite, size), fitted(filled, size), np.float32(np.nan))
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in x]
    box = middle(planes[0], size)
    out = np.stack(
        [np.asarray(p.resize((width, height), Image.Resampling.LANCZOS, box, 3.0)) for p in planes]
    ).clip(x.min((1, 2), keepdims=True), x.max((1, 2), keepdims=True))
    return (out if x.dtype.kind == "f" else out.round()).astype(x.dtype)


def _nearest(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Booleans (C, H, W), cropped at the center and scaled without interpolation."""
    height, width = size
    planes = [Image.fromarray(plane) for plane in x]
    box = middle(planes[0], size)
    return np.stack(
        [np.asarray(p.resize((width, height), Image.Resampling.NEAREST, box)) for p in planes]
    ).astype(bool)


def middle(image: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box at the center with the proportions of `size`."""
    height, width = size
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
    left, top = max(0.0, left), max(0.0, top)  # not by rounding outside of the image
    right, bottom = left + scale * width, top + scale * height
    return left, top, min(right, image.width), min(bottom, image.height)
