"""Linear probe and class-similarity gap of every stage of an encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.data.dataset import LazyImages, Splits, blocks, to_float
from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.encoders.features import refuse_not_finite
from unlabeled.errors import UserError
from unlabeled.evaluation import rsa
from unlabeled.evaluation.metric import Value, accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.tuning import tune
from unlabeled.utils.state import eval_mode


@dataclass(frozen=True)
class Layer:
    """Metrics of a stage, pooled over its positions."""

    stage: int  #: number, from 1
    dim: int  #: number of features
    linear_probe: Value  #: accuracy on the test part
    similarity_gap_centered: Value  #: of the test part
    #: of the probe, chosen by cross-validation on the training part; None for means over seeds
    penalty: float | None = None


@torch.no_grad()
def embed_stages(
    encoder: nn.Module,
    x: np.ndarray | LazyImages,
    span: tuple[float, float] = (0.0, 1.0),
) -> list[np.ndarray]:
    """Features of each stage, (N, dim) each: its map, pooled by the encoder's own summary.

    A summary with learned weights fits only the last stage; other maps are then averaged.

    Raises:
        UserError: the encoder has no stages, or some features are NaN or infinite.
    """
    if not isinstance(encoder, Encoder) or not len(encoder.stages):
        raise UserError("this encoder has no stages; --layers needs small, resnet18 or another")
    learned = any(True for _ in encoder.summary.parameters())
    pool = GlobalPool() if learned else encoder.summary
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    pooled: list[list[np.ndarray]] = [[] for _ in encoder.stages]
    with eval_mode(encoder):
        for part in blocks(x):
            h = to_float(torch.from_numpy(part).to(device), span)
            for i, stage in enumerate(encoder.stages):
                h = stage(h)
                pooled[i].append(pool(h).float().cpu().numpy())
    features = [np.concatenate(parts) for parts in pooled]
    refuse_not_finite(*features)
    return features


def evaluate_stages(encoder: nn.Module, splits: Splits) -> list[Layer]:
    """Linear probe and gap of every stage, for the target of the data.

    Raises:
        UserError: the data has no labels or no test part, or the encoder no stages.
    """
    target = splits.target
    if target is None or not len(splits.test):
        raise UserError(f"{splits.name} has no labels; say where they are with --labels-from")
    parts = [part.labeled(target) for part in (splits.train, splits.test)]
    y, y_test = (part.factors[target] for part in parts)
    both = (embed_stages(encoder, part.x, splits.value_range) for part in parts)
    groups = parts[1].group_codes()
    layers = []
    for stage, (z, z_test) in enumerate(zip(*both, strict=True), 1):
        penalty = tune(z, y, "linear", parts[0].group_codes()).value
        correct = linear_probe(z, y, z_test, y_test, penalty).predicted == y_test
        gap = rsa.gap(z_test, y_test, "centered", groups)
        values = accuracy(correct, groups), Value.of(gap.gap, gap.interval)
        layers.append(Layer(stage, z.shape[1], *values, penalty))
    return layers


def table(layers: list[Layer]) -> list[dict[str, Any]]:
    """As JSON."""
    return [asdict(layer) for layer in layers]
