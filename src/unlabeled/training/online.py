"""Accuracy of k-NN and of a linear probe during training, on held-out labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from unlabeled.core import Method
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.split import SPLIT_SEED, sample_labels
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError, notice
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.utils.launch import is_first
from unlabeled.utils.state import preserve_rng

LEARNED, HELD_OUT = 5000, 1250
"""Maximum numbers of labeled samples that classifiers are trained and scored on."""
HELD_OUT_SHARE = 0.2
"""Share of the training labels that is held out if there is no validation part."""


@dataclass(frozen=True, eq=False)
class OnlineProbe:
    """Classifiers on labeled samples, scored on held-out ones.

    Args:
        train: training samples of the classifiers.
        held_out: samples for scoring, none from the test part.
        target: the factor to predict.
        value_range: black and white of images that are not uint8.
    """

    train: Samples
    held_out: Samples
    target: str
    value_range: tuple[float, float]

    def __len__(self) -> int:
        return len(self.train) + len(self.held_out)

    @preserve_rng()
    def measure(self, encoder: nn.Module) -> dict[str, float]:
        """Accuracies in [0, 1], NaN if a feature is not finite; the encoder is not changed.

        The keys are those of the metrics of `unlabeled evaluate`.
        """
        parts = self.train, self.held_out
        z, z_held = (embed(encoder, p.x, self.value_range, check_finite=False) for p in parts)
        y, y_held = (p.factors[self.target] for p in parts)
        if not (np.isfinite(z).all() and np.isfinite(z_held).all()):
            return {"knn": np.nan, "linear_probe": np.nan}
        return {
            "knn": knn_accuracy(z, y, z_held, y_held),
            "linear_probe": linear_probe(z, y, z_held, y_held).test,
        }


def hold_out(
    method: Method, name: str, splits: Splits, labels: str | None, seed: int
) -> OnlineProbe:
    """Choose the labels for an online probe: of the validation part, else of the training part.

    The method may train on the samples that the probe is scored on, but never on their labels. No
    group is on both sides.

    Args:
        method: the trained method.
        name: of the method.
        splits: the data, with all labels.
        labels: number of labels that a supervised method learns from (default: all).
        seed: with which those labels were drawn.

    Raises:
        UserError: there are no classes, or no label is left that the method does not learn from.
    """
    target, train = splits.target, splits.train
    if target is None or target == "shot" or train.factors[target].ndim > 1:
        raise UserError(
            f"probe_every needs samples with classes, but {splits.name} has none; omit it, or give "
            "labels with --labels-from"
        )
    y = train.factors[target]
    known = np.flatnonzero(train.known(target))
    if train.streamed:  # the first samples, which are in few shards
        known = known[: LEARNED + HELD_OUT]
    rng, codes = np.random.default_rng(SPLIT_SEED), train.group_codes()
    rows = rng.permutation(known)
    if codes is not None:  # group by group, so that few groups are cut
        rows = rows[np.argsort(rng.permutation(codes.max() + 1)[codes[rows]], kind="stable")]
    if method.supervised:
        used = known if labels is None else sample_labels(y, labels, seed)
        learned, others = rows[np.isin(rows, used)], rows[~np.isin(rows, used)]
        if codes is not None:
            others = others[~np.isin(codes[others], codes[learned])]
    else:
        number = min(HELD_OUT, round(HELD_OUT_SHARE * len(rows)))
        learned, others = rows[number:], rows[:number]
        if codes is not None:
            learned = learned[~np.isin(codes[learned], codes[others])]
    held_out, origin = train.take(others[:HELD_OUT]), "held out from the training part"
    validation = splits.validation
    if len(validation) and np.isin(validation.factors[target], y[known]).any():
        part = validation.labeled(target)
        order = np.random.default_rng(SPLIT_SEED).permutation(len(part))
        held_out, origin = part.take(np.sort(order[:HELD_OUT])), "of the validation part"
        learned = learned if method.supervised else rows
    learned = learned[:LEARNED]
    if not np.isin(held_out.factors[target], y[learned]).any():
        raise UserError(
            f"probe_every needs labels that {name} does not learn from, but {splits.name} has none "
            "to spare; omit it, or give data with a validation part"
        )
    if is_first():
        notice(
            f"while training, k-NN and a linear probe learn from {len(learned):,} labels of the "
            f"training part and are scored on {len(held_out):,} {origin}; none of the test part"
        )
    return OnlineProbe(train.take(learned), held_out, target, splits.value_range)
