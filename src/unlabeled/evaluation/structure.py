"""Structure of a set of images by their features, without labels.

Neighbors, clusters, outliers, and a two-dimensional map. Everything depends only on the features
and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from unlabeled.encoders.features import refuse_not_finite, unit
from unlabeled.errors import UserError, suggest
from unlabeled.evaluation.cells import PAIRS, comparisons
from unlabeled.evaluation.knn import nearest
from unlabeled.utils.quiet import quiet

Layout = Literal["auto", "pca", "tsne", "umap"]

NEIGHBORS = 12
"""Number of neighbors of each image that are stored for the page."""
DENSITY = 10
"""Number of neighbors whose mean distance is the outlier score."""
FAR = 3.5
"""Minimum robust z-score of an outlier (Iglewicz & Hoaglin 1993)."""
COUNTS = (3, 4, 5, 6, 8, 10, 12)
"""Numbers of clusters that are tried."""
NEARLY = 0.8
"""Minimum silhouette relative to the best one to prefer more clusters."""
SAMPLE = 2_000
"""Number of images on which they are tried; the silhouette compares all pairs."""
MOST_CLUSTERS = 60
EXAMPLES = 16
TSNE_LIMIT = 20_000
"""Maximum number of images for which t-SNE is the default: minutes on one core."""
PLACED_BY = 10
"""Number of fitted neighbors that determine the position of other images."""
BLOCK = 20_000
"""Number of images projected at a time."""
COMPONENTS = 50
"""Number of principal components that t-SNE receives (Kobak & Berens 2019)."""


@dataclass(frozen=True)
class Clusters:
    """A partition of images, the largest cluster first.

    Args:
        labels: the cluster of each image, (N,).
        examples: of each cluster the rows nearest to its center, nearest first.
    """

    labels: np.ndarray
    examples: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.examples)


def check_features(z: np.ndarray) -> None:
    """Raise UserError if features (N, d) are not finite or all the same."""
    refuse_not_finite(z)
    if np.ptp(_unit(z), axis=0).max(initial=0) < 1e-6:
        raise UserError(
            "all images get the same features (a collapsed encoder), so there is nothing to map; "
            "train again, or give another run"
        )


def neighbors(
    z: Float[np.ndarray, "n d"], k: int = NEIGHBORS, seed: int = 0
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """The k other rows most similar to each row: cosine similarities and indices, best first.

    Exact up to 60,000 rows, beyond that among the rows of nearby cells (`cells.comparisons`); the
    matrix of all pairs is never stored. Fewer than k if there are fewer rows.
    """
    refuse_not_finite(z)
    keys = unit(torch.from_numpy(z).float())
    k = min(k, len(keys) - 1)
    best, indices = np.empty((len(keys), k), np.float32), np.empty((len(keys), k), np.int32)
    for rows, others in comparisons(keys, seed):
        similarity = keys[rows] @ (keys if len(others) == len(keys) else keys[others]).T
        similarity[torch.arange(len(rows)), np.searchsorted(others, rows)] = -torch.inf
        values, columns = similarity.topk(k)
        best[rows], indices[rows] = values.clamp(-1, 1).numpy(), others[columns.numpy()]
    return best, indices


def neighbor_recall(
    z: Float[np.ndarray, "n d"],
    approximate: Int[np.ndarray, "n k"],
    rows: Int[np.ndarray, " m"],
) -> float:
    """Recall of `neighbors`: share of the exact nearest neighbors of some rows."""
    _, exact = nearest(z, z[rows], approximate.shape[1] + 1, block=64)
    shares = [
        np.isin(others[others != row][: approximate.shape[1]], approximate[row]).mean()
        for others, row in zip(exact, rows, strict=True)
    ]
    return float(np.mean(shares))


def choose_layout(layout: str, n: int) -> Literal["pca", "tsne", "umap"]:
    """The layout to use for n images; checks that it is available.

    "auto" is UMAP if installed, else t-SNE up to 20,000 images, else PCA.

    Raises:
        UserError: no such layout, or UMAP is not installed.
    """
    known = get_args(Layout)
    if layout not in known:
        raise UserError(f"there is no layout '{layout}'; {suggest(layout, known)}")
    installed = find_spec("umap") is not None
    if layout == "umap" and not installed:
        raise UserError(
            "the layout umap needs a package of its own: pip install 'unlabeled[umap]', "
            "or take the layout tsne"
        )
    if layout != "auto":
        return layout  # type: ignore[return-value]
    return "umap" if installed else "tsne" if n <= TSNE_LIMIT else "pca"


def project(
    z: Float[np.ndarray, "n d"],
    layout: Literal["pca", "tsne", "umap"],
    seed: int = 0,
    fitted: Int[np.ndarray, " m"] | None = None,
) -> Float[np.ndarray, "n 2"]:
    """Project images to a map in [−1, 1], both axes on the same scale.

    Features have unit length, so that distances correspond to cosine similarity. PCA: the first two
    components. t-SNE (van der Maaten & Hinton 2008) and UMAP (McInnes et al. 2018) receive up to 50
    components and are initialized by the first two, which makes the map stable between runs and
    preserves more of the global structure (Kobak & Linderman 2021).

    Args:
        z: features.
        layout: of the map.
        seed: random seed.
        fitted: rows that it is fitted on (default: all). By PCA the others are projected, else each
            is placed at the median of its 10 nearest fitted ones (Kobak & Berens 2019).
    """
    fitted = np.arange(len(z)) if fitted is None else fitted
    rows = _unit(z[fitted])
    components = min(COMPONENTS, *rows.shape)
    pca = PCA(components, random_state=seed)
    reduced = pca.fit_transform(rows)
    scale = max(float(reduced[:, 0].std()), 1e-12)
    reduced /= scale
    flat = np.zeros((len(z), 2), np.float32)
    flat[fitted, : min(2, components)] = reduced[:, :2]
    if layout == "tsne":
        flat[fitted] = TSNE(
            init=flat[fitted] * np.float32(1e-4),  # scale of scikit-learn's own initialization
            perplexity=min(30.0, (len(fitted) - 1) / 3),
            max_iter=750,  # as openTSNE; converged long before
            random_state=seed,
        ).fit_transform(reduced)
    elif layout == "umap":
        from umap import UMAP

        flat[fitted] = UMAP(
            init=flat[fitted], n_neighbors=min(15, len(fitted) - 1), random_state=seed, n_jobs=1
        ).fit_transform(reduced)
    others = np.setdiff1d(np.arange(len(z)), fitted)
    for start in range(0, len(others), BLOCK):
        part = others[start : start + BLOCK]
        if layout == "pca":
            two = pca.transform(_unit(z[part]))[:, :2] / scale
            flat[part, : two.shape[1]] = two
        else:
            near = nearest(z[fitted], z[part], PLACED_BY, block=PAIRS // len(fitted))[1]
            flat[part] = np.median(flat[fitted[near]], axis=1)
    low, high = flat.min(0), flat.max(0)
    half = max(float((high - low).max()) / 2, 1e-12)
    return ((flat - (low + high) / 2) / half).astype(np.float32)


def cluster(
    z: Float[np.ndarray, "n d"],
    k: int | None = None,
    seed: int = 0,
    fitted: Int[np.ndarray, " m"] | None = None,
) -> Clusters:
    """k-means of features of unit length.

    Args:
        z: features.
        k: number of clusters; None takes the largest from 3 to 12 whose mean silhouette (Rousseeuw
            1987) on at most 2,000 rows is at least 0.8 of the best, since a finer partition that is
            hardly worse shows more.
        seed: of the initializations and of the rows.
        fitted: rows that the centers are fitted on (default: all); others belong to the nearest.

    Raises:
        UserError: k is below 2, above 60, or not below the number of images.
    """
    fitted = np.arange(len(z)) if fitted is None else fitted
    check_clusters(k, len(fitted))
    rows = _unit(z[fitted])
    model = _kmeans(rows, k or _best_count(rows, seed), seed, starts=4)
    nearest_center, distance = np.empty(len(z), np.int64), np.empty(len(z), np.float32)
    nearest_center[fitted] = model.labels_
    distance[fitted] = np.linalg.norm(rows - model.cluster_centers_[model.labels_], axis=1)
    others = np.setdiff1d(np.arange(len(z)), fitted)
    for start in range(0, len(others), BLOCK):
        part = others[start : start + BLOCK]
        away = model.transform(_unit(z[part]))
        nearest_center[part], distance[part] = away.argmin(1), away.min(1)
    labels, counts = np.unique(nearest_center, return_counts=True)
    order = labels[np.argsort(-counts, kind="stable")]  # the largest first, without empty ones
    rank = np.full(model.n_clusters, -1)
    rank[order] = np.arange(len(order))
    by_distance = np.argsort(distance, kind="stable")
    examples = [by_distance[nearest_center[by_distance] == label][:EXAMPLES] for label in order]
    return Clusters(rank[nearest_center], examples)


def check_clusters(k: int | None, n: int) -> None:
    """Raise UserError if n images cannot form k clusters."""
    most = min(MOST_CLUSTERS, n - 1)
    if k is not None and not 2 <= k <= most:
        raise UserError(f"clusters is {k}, but must be from 2 to {most} for {n:,} images")


def outliers(
    similarity: Float[np.ndarray, "n k"],
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " n"]]:
    """Images far from all others: their rows, farthest first, and robust z-scores of all.

    The score of an image is its mean distance (1 − cosine) to its 10 nearest neighbors
    (Angiulli & Pizzuti 2002), as (score − median) / (1.4826 · median absolute deviation); an
    outlier has 3.5 or more.

    Args:
        similarity: of each image's nearest neighbors, best first, as `neighbors` gives it.
    """
    score = (1 - similarity[:, :DENSITY].astype(np.float64)).mean(1)
    off = score - np.median(score)
    scale = 1.4826 * np.median(np.abs(off))
    z = off / scale if scale > 1e-9 else np.zeros_like(off)
    rows = np.argsort(-z, kind="stable")
    rows = rows[z[rows] >= FAR]
    return rows, z


def _unit(z: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    refuse_not_finite(z)
    return unit(torch.from_numpy(np.ascontiguousarray(z, np.float32))).numpy()


def _kmeans(rows: np.ndarray, k: int, seed: int, starts: int) -> KMeans:
    with quiet():  # fewer distinct images than clusters: those that stay empty are dropped
        return KMeans(k, n_init=starts, random_state=seed).fit(rows)


def _best_count(rows: np.ndarray, seed: int) -> int:
    some = np.random.default_rng(seed).permutation(len(rows))[:SAMPLE]
    part = rows[np.sort(some)]
    scores = {}
    for k in COUNTS:
        if k < len(part):
            labels = _kmeans(part, k, seed, starts=2).labels_
            if 1 < len(np.unique(labels)) < len(part):
                scores[k] = float(silhouette_score(part, labels))
    good = [k for k, score in scores.items() if score >= NEARLY * max(scores.values())]
    return max(good, default=2)
