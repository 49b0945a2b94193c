"""Find labels that are likely wrong, by the labels of each sample's neighbors."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

TEMPERATURE = 0.07
"""Temperature of the votes, as in `unlabeled.evaluation.knn`."""
MARGIN = 0.6
"""Minimum margin of a suspected label."""
AGREEMENT = 0.7
"""Minimum agreement for labels to be suspected. Both were chosen on training images of digits and
Fashion-MNIST with 5 % flipped labels, such that, with features that reach this agreement, at least
half of the suspected labels were wrong; `bench/label_errors.py` reports results on others."""


@dataclass(frozen=True)
class Suspects:
    """Labels that are likely wrong, the most likely first.

    Args:
        rows: of the samples, (m,).
        suggested: the class of their neighbors, (m,).
        margins: probability of that class minus that of the label, (m,), in 0..1.
        agreement: share of labeled samples whose neighbors' most probable class is their label,
            among those with a labeled neighbor; NaN if there are none.
        too_weak: whether that is below 0.7, so that no label is suspected.
    """

    rows: np.ndarray
    suggested: np.ndarray
    margins: np.ndarray
    agreement: float
    too_weak: bool = False

    def __str__(self) -> str:
        """Summary in one line."""
        if self.too_weak:
            return (
                "the features are too weak to judge labels: the neighbors' most probable class is "
                f"the label of {100 * self.agreement:.0f} %, and at least {100 * AGREEMENT:.0f} % "
                "are needed"
            )
        return f"{len(self.rows):,} suspected label{'s' * (len(self.rows) != 1)}"


def probabilities(
    similarity: Float[np.ndarray, "n k"],
    neighbors: Int[np.ndarray, "n k"],
    y: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "n c"]:
    """Probability of each class for each sample, by the votes of its neighbors alone.

    A neighbor of similarity s votes with weight exp(s/0.07) (Wu et al. 2018); neighbors without a
    label, −1, do not vote. Rows without any vote are zero.
    """
    labels = y[neighbors]
    weights = np.exp((similarity - similarity[:, :1]) / TEMPERATURE) * (labels >= 0)
    votes = np.zeros((len(y), int(y.max(initial=0)) + 1), np.float32)
    rows = np.broadcast_to(np.arange(len(y))[:, None], labels.shape)
    np.add.at(votes, (rows, np.maximum(labels, 0)), weights)
    return votes / np.maximum(votes.sum(1, keepdims=True), 1e-12)


def suspected_labels(
    similarity: Float[np.ndarray, "n k"],
    neighbors: Int[np.ndarray, "n k"],
    y: Int[np.ndarray, " n"],
) -> Suspects:
    """Labels that confident learning finds to be wrong.

    The threshold of a class is the mean probability of that class over the samples labeled so. A
    label is suspected if another class has the largest probability among those that reach their
    threshold, and that is at least 0.6 above the probability of the label. The probabilities of a
    sample come from its neighbors, never from its own label; samples without a labeled neighbor
    have none, and do not count. If the most probable class is the label of fewer than 70 %, the
    features do not separate the classes, and none is suspected.

    Args:
        similarity: of the nearest neighbors of each sample, best first.
        neighbors: their rows.
        y: class of each sample, −1 without one.

    Source: Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", equations 1 and 2; ordered by their normalized margin.
    """
    p = probabilities(similarity, neighbors, y)
    known = np.flatnonzero((y >= 0) & p.any(1))
    p = p[known]
    label = y[known]
    own = p[np.arange(len(p)), label]
    counts = np.bincount(label, minlength=p.shape[1])
    threshold = np.bincount(label, own, minlength=p.shape[1]) / np.maximum(counts, 1)
    confident = np.where((p >= threshold) & (p > 0) & (counts > 0), p, -1)
    best = confident.argmax(1)
    value = confident[np.arange(len(p)), best]
    wrong = np.flatnonzero((value > 0) & (best != label))
    margins = value[wrong] - own[wrong]
    order = np.argsort(-margins, kind="stable")
    agreement = float((p.argmax(1) == label).mean()) if len(p) else float("nan")
    too_weak = agreement < AGREEMENT
    order = order[:0] if too_weak else order[margins[order] >= MARGIN]
    return Suspects(known[wrong[order]], best[wrong[order]], margins[order], agreement, too_weak)
