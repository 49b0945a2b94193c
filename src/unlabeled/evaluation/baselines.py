"""The untrained and fitted encoders that a run is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import nn

from unlabeled.data.dataset import Splits, to_float
from unlabeled.encoders.base import build, is_rebuildable, reinitialize
from unlabeled.errors import UserError, notice
from unlabeled.evaluation.sound import Kind, Spectral
from unlabeled.modality import Audio, Images, Modality, Text, require_part
from unlabeled.runs.run import Run
from unlabeled.utils.state import preserve_rng

RANDOM_SEED = 1234
"""Of the random encoder's weights."""
USUAL: dict[type[Modality], tuple[str, ...]] = {
    Images: ("raw", "pca", "random"),
    Audio: ("mfcc", "mel", "random"),
    Text: ("random",),
}
RAW_DIM = 4096
"""Pixels at most; more are averaged down, or the linear probe takes an hour."""
FITTED_DIM, FITTED_ROWS = 64, 5000
"""Features of PCA, ICA and k-means, and training samples that they are fitted on."""


def baselines(run: Run, splits: Splits, names: Sequence[str] | None = None) -> dict[str, nn.Module]:
    """Encoders to compare a run with, by their names.

    Args:
        run: its encoder's architecture with random weights is `random`.
        splits: the data.
        names: of raw (pixels), pca, ica, kmeans (fitted on training samples), random and, for
            audio, mel, mfcc and "mfcc and deltas"; the usual ones unless given.
    """
    if names is None:
        names = USUAL[type(splits.modality.encoder_input)]
    shape = splits.channels, splits.size
    encoders: dict[str, nn.Module] = {}
    for name in names:
        if name == "random":
            encoders[name] = random_of(run, splits)
        elif name == "raw":
            encoders[name] = _raw(splits)
        elif name in get_args(Kind):
            try:
                rate = require_part(splits.modality, Audio).sample_rate
                encoders[name] = Spectral(rate, name)  # type: ignore[arg-type]
            except UserError as error:
                notice(str(error))
        else:
            pixels = math.prod(splits.train.x.shape[1:])
            encoders[name] = build(name, *shape, dim=min(FITTED_DIM, len(splits.train), pixels))
            few = torch.from_numpy(splits.train.x[:FITTED_ROWS])
            encoders[name].summary.fit(to_float(few, splits.range))  # type: ignore[operator, union-attr]
    return encoders


def random_of(run: Run, splits: Splits) -> nn.Module:
    """The architecture of a run's encoder with random weights."""
    name, args = run.inputs["encoder"], run.inputs["args"]
    with preserve_rng(RANDOM_SEED):
        if is_rebuildable(name, args):
            return build(name, splits.channels, splits.size, **args)
        return reinitialize(run.encoder)


def _raw(splits: Splits) -> nn.Module:
    """The pixels, averaged down to at most `RAW_DIM` values."""
    raw = build("raw", splits.channels, splits.size)
    if raw.dim > RAW_DIM:  # type: ignore[operator]
        side = int(math.sqrt(RAW_DIM / splits.channels))
        raw = build(nn.Sequential(nn.AdaptiveAvgPool2d(side), raw), splits.channels, splits.size)
    return raw
