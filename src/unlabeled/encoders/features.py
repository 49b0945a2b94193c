"""Features of an encoder in eval mode, and their normalization."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.dataset import LazyImages, Splits, blocks, to_float, to_input
from unlabeled.encoders.base import accepts_option, build
from unlabeled.errors import UserError, plural
from unlabeled.modality import Audio, Images, Text
from unlabeled.utils.progress import track
from unlabeled.utils.state import eval_mode

FITTED_DIM, FITTED_ROWS = 64, 5000
"""Features of PCA, ICA and k-means, and training samples that encoders are fitted on."""

AT_ONCE = 1 << 21
"""Values of samples at most of which features are computed at once: 500 images of 64×64 pixels."""

CACHED = 1 << 20
"""Values of features at most of a block: 4 MB."""


def build_for(name: str, splits: Splits) -> nn.Module:
    """The encoder of that name for a data set, with random weights or fitted to its training part.

    Raises:
        UserError: there is no such encoder, or it does not take such samples.
    """
    received = splits.modality.encoder_input
    options: dict[str, Any] = {}
    if isinstance(received, Text) and accepts_option(name, "vocabulary"):
        options["vocabulary"] = received.vocabulary
    if isinstance(received, Audio) and accepts_option(name, "sample_rate"):
        options["sample_rate"] = received.sample_rate
    if is_fitted := name in ("pca", "ica", "kmeans"):
        values = math.prod(splits.train.x.shape[1:])
        options["dim"] = min(FITTED_DIM, len(splits.train), values)
    encoder: Any = build(name, splits.channels, splits.size, **options)
    if not isinstance(received, getattr(encoder, "modality", (Images, Audio))):
        raise UserError(f"the encoder {name} does not take {splits.noun}; choose another")
    if is_fitted:
        # not the first ones, which are of a few classes where names begin with a folder
        few = torch.from_numpy(splits.train.x[splits.train.spread(FITTED_ROWS)])
        encoder.summary.fit(to_float(few, splits.value_range))
    return encoder.eval()


def labeled(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, …) and classes (N,) of the labeled rows, those whose class is not −1."""
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
    progress: bool | None = None,
) -> np.ndarray:
    """Compute features of samples: (N, C, H, W) -> (N, dim) float32.

    The encoder runs in eval mode, in float32 and on its device; the mode of each layer is restored.

    Args:
        encoder: the network.
        x: the samples.
        span: black and white of images that are not uint8.
        batch_size: samples at a time at most; of large ones fewer, so that memory stays the same.
        check_finite: whether to raise for features that are not finite.
        progress: whether to show a bar once it takes a few seconds (default: in commands only).

    Raises:
        UserError: some features are NaN or infinite.
    """
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    batch_size = max(1, min(batch_size, AT_ONCE // max(1, math.prod(x.shape[1:]))))
    z: Any = None  # filled in place: small arrays kept between large ones fragment the heap
    with eval_mode(encoder):
        batches = -(-len(x) // batch_size)
        title = f"features of {plural(len(x), 'sample')}"
        for i, part in enumerate(track(blocks(x, batch_size), title, batches, progress)):
            images = to_input(torch.from_numpy(part).to(device), span)
            features = encoder(images).float().cpu().numpy()
            z = np.empty((len(x), *features.shape[1:]), np.float32) if z is None else z
            z[i * batch_size : i * batch_size + len(part)] = features
    if z is None:
        z = np.zeros((0, encoder.dim), np.float32)
    if check_finite:
        refuse_not_finite(z)
    return z


def in_blocks(z: np.ndarray, rows: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows (N, …) some at a time: which, and the rows.

    Args:
        z: an array; a memory map is opened anew for each block, so that its pages do not add up.
        rows: at a time (default: what fits into a processor's cache, to be read only once).
    """
    rows = rows or max(64, CACHED // max(1, math.prod(z.shape[1:])))
    for start in range(0, len(z), rows):
        part = slice(start, start + rows)
        yield part, _mapped_anew(z, part) if _is_whole_map(z) else z[part]


def _is_whole_map(z: np.ndarray) -> bool:
    """Whether an array is a memory map of a file, and no view of a part of one."""
    if not isinstance(z, np.memmap) or z.filename is None or not z.flags.c_contiguous:
        return False
    return not isinstance(z.base, np.ndarray)


def _mapped_anew(z: Any, part: slice) -> np.ndarray:
    row = z.dtype.itemsize * math.prod(z.shape[1:])
    shape = (min(part.stop, len(z)) - part.start, *z.shape[1:])
    return np.memmap(z.filename, z.dtype, "r", z.offset + part.start * row, shape)


def refuse_not_finite(*features: np.ndarray | Tensor) -> None:
    """Raise UserError if rows of features (N, …) contain NaN or infinite values."""
    for z in features:
        if isinstance(z, Tensor):
            bad = int((~z.isfinite()).flatten(1).any(1).sum())
        else:
            finite = (torch.from_numpy(np.isfinite(part)) for _, part in in_blocks(z))
            bad = sum(int((~part).flatten(1).any(1).sum()) for part in finite if not part.all())
        if bad:
            raise UserError(
                f"{bad:,} of {len(z):,} rows of features contain NaN or infinite values: training "
                "diverged, or the data contain them; train again with a lower --lr, or check the "
                "data"
            )


def unit(z: Tensor) -> Tensor:
    """L2-normalize rows (…, d) of any scale; a row of zeros stays."""
    largest = z.abs().amax(-1, keepdim=True)
    exponent = torch.frexp(largest).exponent.clamp(-126, 126)
    return F.normalize(torch.ldexp(z, -exponent), dim=-1)  # squares could leave float32's range


def centered(z: Tensor, dim: int = 0) -> Tensor:
    """Subtract the mean along an axis, computed in float64; exactly 0 where nothing varies."""
    return z - z.mean(dim, keepdim=True, dtype=torch.float64).to(z.dtype)


def rounding(dtype: np.dtype) -> float:
    """Relative variation that can be due to rounding."""
    return 8 * float(np.finfo(np.result_type(dtype, np.float32)).eps)


def mean_of(z: np.ndarray) -> np.ndarray:
    """Mean of each feature, (n, d) -> (d,) float64."""
    total = np.zeros(z.shape[1])
    for _, part in in_blocks(z):
        total += part.sum(0, dtype=np.float64)
    return total / len(z)


def deviations(z: np.ndarray, mean: np.ndarray | None = None) -> np.ndarray:
    """Standard deviation of each feature, (n, d) -> (d,) float64; infinite if it is constant.

    Args:
        z: features.
        mean: of each, if it is known.
    """
    mean = mean_of(z) if mean is None else mean
    squares, largest = np.zeros(z.shape[1]), np.zeros(z.shape[1])
    for _, part in in_blocks(z):
        squares += ((part - mean) ** 2).sum(0)
        largest = np.maximum(largest, np.maximum(part.max(0), -part.min(0)))
    std = np.sqrt(squares / len(z))
    std[std <= rounding(z.dtype) * largest] = np.inf
    return std


class Standardized:
    """Features (n, d) less their mean and over their deviation, computed as they are read.

    Features that are constant in training are left out.

    Args:
        z: the features, in memory or on disk.
        mean: of each feature in training, (d,).
        std: of each feature in training, (d,), infinite if it is constant.
    """

    def __init__(self, z: np.ndarray, mean: np.ndarray, std: np.ndarray) -> None:
        self.z, self.varies = z, np.isfinite(std)
        self.mean, self.std = mean[self.varies], std[self.varies]
        self.shape = len(z), int(self.varies.sum())

    def __len__(self) -> int:
        return len(self.z)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of them, float64 or as asked."""
        return self._of(self.z).astype(np.float64 if dtype is None else dtype, copy=False)

    def blocks(
        self, rows: int | None = None, dtype: type[np.floating] = np.float32
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Some rows after the other, as by `in_blocks`: which, and their features."""
        for some, part in in_blocks(self.z, rows):
            yield some, self._of(part).astype(dtype, copy=False)

    def _of(self, part: np.ndarray) -> np.ndarray:
        part = part if self.varies.all() else part[:, self.varies]
        return (part - self.mean) / self.std


def standardized(train: np.ndarray, test: np.ndarray) -> tuple[Standardized, Standardized]:
    """Features by the mean and deviation of the training rows, (n, d) and (m, d).

    Raises:
        UserError: some features are NaN or infinite.
    """
    refuse_not_finite(train, test)
    mean = mean_of(train)
    std = deviations(train, mean)
    return Standardized(train, mean, std), Standardized(test, mean, std)


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `standardized`, in memory: (n, d), (m, d), float64.

    Raises:
        UserError: some features are NaN or infinite.
    """
    z, z_test = (np.asarray(part) for part in standardized(train, test))
    return z, z_test
