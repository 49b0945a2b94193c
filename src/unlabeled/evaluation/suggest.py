"""Which samples to label next."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.cluster import KMeans, MiniBatchKMeans

from unlabeled.encoders.features import embed, refuse_not_finite, unit
from unlabeled.errors import UserError
from unlabeled.evaluation.classify import train_classifier
from unlabeled.evaluation.evaluate import open_for
from unlabeled.runs.run import Run
from unlabeled.utils.quiet import quiet

MOST_CLUSTERS, SMALLEST, NEIGHBORS, EXACT = 500, 5, 20, 50
"""Of TypiClust: clusters at most, samples that a cluster needs, neighbors of the typicality, and
clusters up to which k-means is not of mini-batches."""
FEW = 10
"""Labels per class from which on uncertain samples are suggested. The evidence is weak: on training
images of CIFAR-10, four draws with PCA improved by it, two with histograms did not."""
ROWS = 2000
"""Members of a cluster whose distances are computed; of a larger one those nearest its center."""


def suggest(
    run: Run, data: Any, number: int, *, labels_from: Any = None, seed: int = 0
) -> list[str]:
    """Names of the unlabeled training samples to label next, the most useful first.

    Args:
        run: the encoder; it is not changed.
        data: samples, of which some or none have a label (default: the training's).
        number: of samples to suggest.
        labels_from: source of labels of samples in files, as for `unlabeled.train`.
        seed: of the clusters.

    Raises:
        UserError: there are fewer samples without a label.
    """
    splits = open_for(run, data, labels_from)
    parts = [splits.train, splits.test] if splits.target else [splits.train]
    z = np.concatenate([embed(run.encoder, part.x, splits.value_range) for part in parts])
    known, y = np.zeros(len(z), bool), np.full(len(z), -1)
    if splits.target:
        known = np.concatenate([part.known(splits.target) for part in parts])
        codes = splits.train.factors[splits.target]
        if codes.dtype.kind in "iu" and codes.ndim == 1:
            y[: len(codes)] = codes
    known[len(splits.train) :] = True  # those to test on are not learned from
    left = int((~known).sum())
    if not 1 <= number <= left:
        remedy = "give a number from 1 to that" if left else "label others, or give more data"
        raise UserError(
            f"suggest is {number}, but {left:,} of {len(z):,} {splits.noun} have no label; {remedy}"
        )
    rows = to_label(z, y, number, seed, known)
    names = splits.train.names or [str(row) for row in range(len(splits.train))]
    return [names[row] for row in rows]


def to_label(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    number: int,
    seed: int = 0,
    known: Bool[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " number"]:
    """Samples of clusters that have the fewest labels: typical ones, later uncertain ones.

    While there are fewer than 10 labels a class, those of `typical`, which suit few labels. From
    then on, in the same order of the clusters, those of the least margin: the difference of the two
    largest probabilities of a linear classifier that is trained on the labels and calibrated.

    Args:
        z: features.
        y: classes, −1 without one.
        number: how many rows are returned, the first to label first.
        seed: of k-means and the classifier.
        known: whether a sample needs no label (default: those with a class).

    Source: Hacohen, Dekel, Weinshall 2022, figure 1: typical samples are best at few labels, and
    uncertain ones at many; margins of Scheffer, Decomain, Wrobel 2001, diverse by clusters as in
    Citovsky et al. 2021, "Batch Active Learning at Scale".
    """
    known = y >= 0 if known is None else known
    classes, codes = np.unique(y[y >= 0], return_inverse=True)
    if len(classes) < 2 or len(codes) < FEW * len(classes):
        return typical(z, known, number, seed)
    classifier, _ = train_classifier(z[y >= 0], codes, [str(c) for c in classes], seed=seed)
    logits = torch.from_numpy(classifier.logits(z)).double()
    margin, gap = (v[:, 0] - v[:, 1] for v in (logits.softmax(1).topk(2)[0], logits.topk(2)[0]))
    order = np.lexsort((gap, margin))  # by the logits where probabilities are rounded to 0 and 1
    return _from_clusters(z, known, number, seed, np.argsort(order))


def typical(
    z: Float[np.ndarray, "n d"], known: Bool[np.ndarray, " n"], number: int, seed: int = 0
) -> Int[np.ndarray, " number"]:
    """Typical samples of clusters that have no label yet: TypiClust, without its own features.

    k-means of features of unit length into as many clusters as there are labels and suggestions,
    at most 500. From the cluster with the fewest labels, the largest first, the sample with the
    least mean distance to its 20 nearest neighbors in the cluster is taken. Clusters of fewer than
    5 samples come last.

    Args:
        z: features.
        known: whether a sample has a label.
        number: how many rows are returned, the first to label first; none has a label.
        seed: of k-means.

    Source: Hacohen, Dekel, Weinshall 2022, "Active Learning on a Budget: Opposite Strategies Suit
    High and Low Budgets", algorithm 1.
    """
    return _from_clusters(z, known, number, seed)


def _from_clusters(
    z: np.ndarray, known: np.ndarray, number: int, seed: int, margins: np.ndarray | None = None
) -> np.ndarray:
    """Samples of the least margin, or typical ones, from the clusters with the fewest labels."""
    refuse_not_finite(z)
    rows = unit(torch.from_numpy(np.ascontiguousarray(z, np.float32))).numpy()
    k = min(number + int(known.sum()), MOST_CLUSTERS, len(z))
    kmeans = KMeans if k <= EXACT else MiniBatchKMeans
    options = {} if k <= EXACT else {"batch_size": 5000}
    with quiet():  # fewer distinct samples than clusters
        model = kmeans(k, n_init=1, random_state=seed, **options).fit(rows)
    sizes = np.bincount(model.labels_, minlength=k)
    labeled = np.bincount(model.labels_[known], minlength=k)
    queues: list[list[int]] = [[] for _ in range(k)]
    is_ranked = np.zeros(k, bool)
    left = sizes - labeled
    chosen: list[int] = []
    while len(chosen) < number:
        order = np.lexsort((-sizes, labeled, sizes < SMALLEST, left == 0))
        c = int(order[0])
        if not is_ranked[c]:
            members = np.flatnonzero(model.labels_ == c)
            if margins is None:
                queues[c] = _by_typicality(rows, members, model.cluster_centers_[c], known)
            else:
                by_margin = members[np.argsort(margins[members], kind="stable")]
                queues[c] = by_margin[~known[by_margin]].tolist()
            is_ranked[c] = True
        chosen.append(queues[c].pop(0))
        labeled[c] += 1
        left[c] -= 1
    return np.array(chosen)


def _by_typicality(
    rows: np.ndarray, members: np.ndarray, center: np.ndarray, known: np.ndarray
) -> list[int]:
    """Unlabeled members of a cluster, the most typical first, then those that were not compared."""
    by_distance = members[np.argsort(np.linalg.norm(rows[members] - center, axis=1), kind="stable")]
    inner, outer = by_distance[:ROWS], by_distance[ROWS:]
    near = torch.from_numpy(rows[inner])
    # Not by products of matrices, whose rounding hides small distances.
    distance = torch.cdist(near, near, compute_mode="donot_use_mm_for_euclid_dist")
    count = min(NEIGHBORS, len(inner) - 1)
    mean = distance.topk(count + 1, largest=False).values[:, 1:].mean(1) if count else distance[0]
    ranked = inner[np.argsort(mean.numpy(), kind="stable")]
    return [int(row) for row in (*ranked, *outer) if not known[row]]
