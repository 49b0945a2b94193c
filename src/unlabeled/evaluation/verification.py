"""Verification of pairs (same class or not), and one-shot classification."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from unlabeled.encoders.features import centered, refuse_not_finite
from unlabeled.errors import UserError
from unlabeled.evaluation import rsa
from unlabeled.evaluation.intervals import Groups, Interval, share

PAIRED = 2000
"""Rows at most of which all pairs are compared: two million."""
JACKKNIFED = 100
"""Rows, or groups, at most that are left out one at a time."""
ANSWERS = 3
"""Independent answers a sample at most that an interval counts on, where few pairs go wrong."""

Nearness = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class Pairs:
    """All pairs of some rows, i < j, and how near their features are."""

    first: np.ndarray  #: (P,) rows
    second: np.ndarray  #: (P,) rows
    near: np.ndarray  #: (P,) cosine of centered features, or minus their distance
    same: np.ndarray  #: (P,) whether they show the same

    @property
    def auc(self) -> float:
        """Area under the ROC curve: how often a matching pair is nearer than a non-matching one."""
        return float(self._correct[self.same].mean())

    @cached_property
    def _correct(self) -> Float[np.ndarray, " p"]:
        return ranked_correctly(self.near, self.same)

    def auc_interval(self, groups: Groups = None) -> Interval:
        """95 % interval of the area, over rows: all pairs of a row vary together.

        Args:
            groups: of all samples, those that are in no pair, too.
        """
        n = int(self.same.sum())
        weight = (self._correct - self.auc) / np.where(self.same, n, len(self.same) - n)
        ends = np.concatenate([self.first, self.second])
        rows, codes = np.unique(ends, return_inverse=True)
        influence = np.bincount(codes, np.tile(weight, 2))
        groups = None if groups is None else groups[rows]
        return share(self.auc, influence, groups, ANSWERS * len(rows))

    def threshold(self) -> float:
        """The nearness at which the false positive rate equals the false negative rate."""
        order = np.argsort(-self.near)
        same = self.same[order]
        missed = 1 - np.cumsum(same) / same.sum()
        false = np.cumsum(~same) / (~same).sum()
        return float(self.near[order][np.argmax(false >= missed)])


def ranked_correctly(
    scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Share of samples of the other kind that each is ranked correctly with; ties count half.

    Its mean over the positive ones, or over the others, is the area under the ROC curve.
    """
    order = np.argsort(scores)
    ranked, true = scores[order], positive[order]
    level = np.cumsum(np.diff(ranked, prepend=ranked[0]) > 0)  # those of the same score
    matching, other = np.bincount(level, true), np.bincount(level, ~true)
    lower = (np.cumsum(other) - other / 2) / other.sum()
    higher = 1 - (np.cumsum(matching) - matching / 2) / matching.sum()
    correct = np.empty(len(order))
    correct[order] = np.where(true, lower[level], higher[level])
    return correct


def pairs(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    nearness: Nearness = "cosine",
    seed: int = 0,
) -> Pairs:
    """Pairs of at most 2,000 rows, drawn by seed where there are more.

    Args:
        z: features.
        y: what each row shows; rows of −1 are in no pair.
        nearness: cosine of the features minus their mean, or Euclidean distance.
        seed: of the draw.

    Raises:
        UserError: no two rows show the same, or all do.
    """
    known = np.flatnonzero(y >= 0)
    rows = known[np.sort(np.random.default_rng(seed).permutation(len(known))[:PAIRED])]
    i, j = np.triu_indices(len(rows), 1)
    same = y[rows[i]] == y[rows[j]]
    if same.all() or not same.any():
        raise UserError("verification needs pairs that match and pairs that do not; give more")
    if nearness == "cosine":
        near = rsa.similarity_matrix(z[rows], "centered")[i, j]
    else:
        refuse_not_finite(z)
        part = centered(torch.from_numpy(np.ascontiguousarray(z[rows])).double())
        near = -torch.cdist(part, part).numpy()[i, j]
    return Pairs(rows[i], rows[j], near, same)


def auroc(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    groups: Groups = None,
    nearness: Nearness = "cosine",
) -> tuple[float, Interval]:
    """Area under the ROC curve of all pairs, and its 95 % interval over samples, or over groups.

    The mean of few features is itself uncertain, so that their area is too small, and varies more
    than its pairs do. Up to 100 rows are therefore left out one at a time, each time with the mean
    of the others: the variance of these areas is that of the interval, and its upper end is that of
    the area without its bias. Beyond 100 rows both matter little.

    Args:
        z: features.
        y: what each row shows; rows of −1 are in no pair.
        groups: the group of each row, such as a patient.
        nearness: as for `pairs`.

    Raises:
        UserError: no two rows show the same, or all do.

    Source: Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans", chapters 2 and 3.
    """
    compared = pairs(z, y, nearness)
    area, rows = compared.auc, np.flatnonzero(y >= 0)
    units = rows if groups is None else np.unique(groups[rows], return_inverse=True)[1]
    codes = np.unique(units)
    if not 2 < len(codes) <= JACKKNIFED or len(rows) > PAIRED:
        return area, compared.auc_interval(groups)
    areas = []
    for code in codes:
        rest = rows[units != code]
        try:
            areas.append(pairs(z[rest], y[rest], nearness).auc)
        except UserError:  # all others show the same
            areas.append(area)
    off, n = np.array(areas) - np.mean(areas), len(codes)
    influence = off * math.sqrt((n - 1) / n)
    unbiased = float(np.clip(n * area - (n - 1) * np.mean(areas), 0, 1))
    ends = [
        share(center, influence, None if groups is None else codes, ANSWERS * len(rows))
        for center in sorted((area, unbiased))
    ]
    return area, (min(ends[0][0], area), max(ends[1][1], area))


def one_shot(
    z: Float[np.ndarray, "n d"],
    support: Int[np.ndarray, "runs ways"],
    query: Int[np.ndarray, "runs queries"],
    answer: Int[np.ndarray, "runs queries"],
    nearness: Nearness = "cosine",
) -> tuple[float, Interval]:
    """Share of queries whose nearest support is the right one (Lake et al. 2015).

    Its 95 % interval is over runs, whose queries share their support.

    Args:
        z: features of all images.
        support: rows with one image of each class, for each run.
        query: rows to be named.
        answer: position in its run's support of the class of each query.
        nearness: as for `pairs`; features are centered by the mean of all rows.
    """
    refuse_not_finite(z)
    if nearness == "cosine":
        rows = rsa.unit_rows(z, "centered")
    else:
        rows = centered(torch.from_numpy(np.ascontiguousarray(z)).double())
    right = np.stack(
        [
            torch.cdist(rows[q], rows[s]).argmin(1).numpy() == a
            for s, q, a in zip(support, query, answer, strict=True)
        ]
    )
    value, of_run = float(right.mean()), np.repeat(np.arange(len(right)), right.shape[1])
    return value, share(value, (right.ravel() - value) / right.size, of_run)
