"""What an encoder sees, in eval mode, and what every measure of features begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.dataset import LazyImages, blocks, to_input
from unlabeled.errors import UserError
from unlabeled.utils.state import eval_mode


def labeled(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have a label: features (N, …) and classes (N,) without those of class −1."""
    known = y >= 0
    return (z, y) if known.all() else (z[known], y[known])


@torch.no_grad()
def embed(
    encoder: nn.Module,
    x: np.ndarray | LazyImages,
    span: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 500,
    *,
    check_finite: bool = True,
) -> np.ndarray:
    """Features of images: (N, C, H, W) -> (N, dim) float32.

    In eval mode, in float32 and on the encoder's device; afterwards each layer is in the mode it
    was in.

    Args:
        encoder: the network.
        x: the images.
        span: black and white of those that are not uint8.
        batch_size: images at a time.
        check_finite: whether to refuse features that are not.

    Raises:
        UserError: some features are NaN or infinite.
    """
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    parts = []
    with eval_mode(encoder):
        for part in blocks(x, batch_size):
            images = to_input(torch.from_numpy(part).to(device), span)
            parts.append(encoder(images).float().cpu().numpy())
    if not parts:
        none: tuple[int, Any] = (0, encoder.dim)
        parts.append(np.zeros(none, np.float32))
    z = np.concatenate(parts)
    if check_finite:
        refuse_not_finite(z)
    return z


def refuse_not_finite(*features: np.ndarray | Tensor) -> None:
    """Raise UserError where rows of features (N, …) hold NaN or infinite values."""
    for z in features:
        finite = torch.from_numpy(np.isfinite(z)) if isinstance(z, np.ndarray) else z.isfinite()
        if not finite.all():
            bad = int((~finite.flatten(1).all(1)).sum())
            raise UserError(
                f"{bad:,} of {len(z):,} rows of features hold NaN or infinite values: the training "
                "diverged, or the images hold such values; train again with a lower --lr, or check "
                "the data"
            )


def unit(z: Tensor) -> Tensor:
    """Rows (…, d) of length 1, however long or short they are; a row of zeros stays."""
    largest = z.abs().amax(-1, keepdim=True)
    exponent = torch.frexp(largest).exponent.clamp(-126, 126)
    return F.normalize(torch.ldexp(z, -exponent), dim=-1)  # else squares leave float32's range


def centered(z: Tensor, dim: int = 0) -> Tensor:
    """Minus the mean along an axis, summed in float64; exactly 0 where nothing varies."""
    return z - z.mean(dim, keepdim=True, dtype=torch.float64).to(z.dtype)


def rounding(dtype: np.dtype) -> float:
    """What varies by no more than this share of its largest value varies by rounding alone."""
    return 8 * float(np.finfo(np.result_type(dtype, np.float32)).eps)


def deviations(z: np.ndarray) -> np.ndarray:
    """Standard deviation of each feature (n, d) -> (d,) float64; infinite where it never varies."""
    std = z.std(0, dtype=np.float64)
    std[std <= rounding(z.dtype) * np.maximum(z.max(0), -z.min(0))] = np.inf
    return std


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features with the training rows' mean and deviation taken out: (n, d), (m, d), float64.

    Whatever the scale of a feature; those that never vary in training are left out.

    Raises:
        UserError: some features are NaN or infinite.
    """
    refuse_not_finite(train, test)
    mean, std = train.mean(0, dtype=np.float64), deviations(train)
    varies = np.isfinite(std)
    z, z_test = ((part[:, varies] - mean[varies]) / std[varies] for part in (train, test))
    return z, z_test
