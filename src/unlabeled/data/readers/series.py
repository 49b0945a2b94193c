"""Time series in arrays (N, T) and (N, T, C), some of them shorter or with gaps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.dataset import Samples
from unlabeled.data.readers import arrays, audio, groups, labels
from unlabeled.errors import UserError, notice, plural
from unlabeled.modality import Series

ENDINGS = (".npy", ".npz")
LEAST = 1e-6
"""Of an observed timestamp that would be 0 in all channels, which means missing."""


def read(
    data: Any, like: Series | None, labels_from: Any = None, groups_from: Any = None
) -> Samples:
    """Read time series, NaN where they are missing; not yet standardized, which `convert` does.

    Args:
        data: a `.npy` or `.npz`, an array or tensor (N, T) or (N, T, C), a list of arrays (T,) or
            (T, C) of different lengths, or a pair of one of these and labels.
        like: what an encoder learned from.
        labels_from: labels, or the `.npy` file that holds them.
        groups_from: groups likewise.

    Raises:
        UserError: they cannot be read, or are no series.
    """
    y = None
    if isinstance(data, str | Path):
        x, y = arrays.loaded(Path(data).expanduser())
        if isinstance(x, audio.Recordings):
            x, y = x.waves, x.labels
    else:
        x, y = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    x = _stacked(x)
    if like is not None and x.shape[1] != like.channels:
        raise UserError(
            f"the series have {plural(x.shape[1], 'channel')}, but the encoder learned from "
            f"{like.channels}; give (N, T, {like.channels})"
        )
    samples = Samples(x, modality=Series(x.shape[1], x.shape[3]))
    _say_missing(x)
    y = y if labels_from is None else labels_from
    if y is not None:
        labels.add(samples, {"label": labels.array(y, len(x))})
    groups.attach(samples, groups_from, data)
    return samples


def _stacked(data: Any) -> np.ndarray:
    """Series as float64 (N, C, 1, T), NaN behind those that are shorter."""
    if hasattr(data, "detach"):
        data = data.detach().cpu().double().numpy()
    if isinstance(data, Sequence) and len({np.shape(x)[:1] for x in data}) > 1:
        parts = [np.asarray(x, np.float64) for x in data]
        parts = [part[:, None] if part.ndim == 1 else part for part in parts]
        if any(part.ndim != 2 or part.shape[1] != parts[0].shape[1] for part in parts):
            raise UserError(
                "series in a list are (T,) or (T, C), of the same channels; reshape them"
            )
        x = np.full((len(parts), max(map(len, parts)), parts[0].shape[1]), np.nan)
        for row, part in enumerate(parts):
            x[row, : len(part)] = part
    else:
        x = np.asarray(data)
    if x.dtype.kind not in "buif" or x.ndim not in (2, 3) or 0 in x.shape:
        raise UserError(
            f"an array of {x.dtype} {x.shape} holds no series; give numbers (N, T) or (N, T, C)"
        )
    x = x[:, :, None] if x.ndim == 2 else x
    if x.shape[1] < x.shape[2]:
        notice(
            f"series of shape {x.shape} are read as (N, T, C), "
            f"{plural(x.shape[1], 'timestamp')} of {x.shape[2]:,} channels; transpose (N, C, T)"
        )
    x = np.ascontiguousarray(x.transpose(0, 2, 1)[:, :, None], np.float64)
    if np.isinf(x).any():
        raise UserError("the series hold infinite values; write NaN where a value is missing")
    if np.isnan(x).all((1, 2, 3)).any():
        empty = int(np.isnan(x).all((1, 2, 3)).sum())
        raise UserError(f"{empty:,} of {len(x):,} series hold no value at all; remove them")
    return x


def _say_missing(x: np.ndarray) -> None:
    missing = np.isnan(x[:, :, 0])
    gaps = missing.all(1)
    parts = []
    if gaps.any():
        parts.append(
            f"{int(gaps.sum()):,} of {gaps.size:,} timestamps are missing, in "
            f"{int(gaps.any(1).sum()):,} of {len(x):,} series, and are masked"
        )
    if single := int((missing & ~gaps[:, None]).sum()):
        parts.append(
            f"{plural(single, 'value')} missing beside other channels, for which the training mean "
            "stands"
        )
    if parts:
        notice("; ".join(parts))


def learn(train: Samples) -> Series:
    """What is learned from: mean and deviation of each channel, over all training timestamps."""
    assert isinstance(train.modality, Series)
    channels = train.x[:].swapaxes(0, 1).reshape(train.modality.channels, -1)
    means, scales = np.nanmean(channels, 1), np.nanstd(channels, 1)
    if not np.isfinite([means, scales]).all():
        raise UserError("a channel has no value in training, or too large ones; leave it out")
    still = scales <= 1e-12 * np.abs(means)
    if still.any():
        numbers = ", ".join(map(str, np.flatnonzero(still)[:3]))
        notice(f"{plural(int(still.sum()), 'channel')} the same in all training series: {numbers}")
    scales[still] = 1
    modality = train.modality
    return Series(modality.channels, modality.length, tuple(means.tolist()), tuple(scales.tolist()))


def convert(samples: Samples, like: Series) -> np.ndarray:
    """Series that `read` returned, float32 (N, C, 1, T), standardized and of that length."""
    means, scales = (np.array(v)[:, None, None] for v in (like.means, like.scales))
    full = samples.x[:]
    x, cut = full[..., : like.length], (~np.isnan(full[..., like.length :])).any((1, 2, 3))
    if cut.any():
        notice(
            f"{int(cut.sum()):,} of {len(full):,} series are longer than the {like.length:,} "
            "timestamps that the encoder learned from, and are cut to these"
        )
    observed = ~np.isnan(x).all(1, keepdims=True)
    z = np.nan_to_num((x - means) / scales).astype(np.float32)
    z[:, :1][observed & ~z.any(1, keepdims=True)] = LEAST
    return np.pad(z, ((0, 0), (0, 0), (0, 0), (0, like.length - z.shape[3])))
