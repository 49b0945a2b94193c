"""The results of `explore` for each sample."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from unlabeled.data.dataset import Samples
from unlabeled.data.targets import Classes
from unlabeled.encoders.features import centered, embed
from unlabeled.errors import UserError, notice
from unlabeled.evaluation import duplicates, structure
from unlabeled.evaluation.cells import COMPARED, EXACT
from unlabeled.evaluation.duplicates import Duplicates
from unlabeled.evaluation.label_errors import Suspects, suspected_labels
from unlabeled.evaluation.structure import Clusters
from unlabeled.evaluation.suggest import to_label
from unlabeled.modality import Images
from unlabeled.report.tiles import to_compare
from unlabeled.runs.run import Run
from unlabeled.utils.progress import can_draw, line, status

MOST = 50_000
"""Maximum number of samples that the map and clusters are fitted on, and that a browser draws."""
VOTERS = 20
"""Number of neighbors whose labels are compared with each label."""
CHECKED = 500
"""Number of samples whose approximate neighbors are compared with exact ones."""
LAYOUTS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True)
class Findings:
    """Results for N samples.

    Args:
        z: features, (N, d).
        similarity: of the nearest neighbors by mean-centered features, best first, (N, 20).
        neighbors: their rows.
        xy: positions on the map, (N, 2).
        clusters: clusters, the largest first.
        outliers: rows of outliers, the farthest first.
        scores: outlier scores, (N,).
        copies: groups of near-duplicates.
        factor: the classes that labels are compared by, or None.
        suspects: labels that are likely wrong; None without classes.
        suggested: rows to label next, the first to label first.
        fitted: rows that the map and the clusters were fitted on, in order, (at most 50,000,).
        recall: share of exact neighbors that were found, if not all were compared; else 1.
    """

    z: Float[np.ndarray, "n d"]
    similarity: Float[np.ndarray, "n k"]
    neighbors: Int[np.ndarray, "n k"]
    xy: Float[np.ndarray, "n 2"]
    clusters: Clusters
    outliers: Int[np.ndarray, " o"]
    scores: Float[np.ndarray, " n"]
    copies: Duplicates
    factor: str | None
    suspects: Suspects | None
    suggested: Int[np.ndarray, " s"]
    fitted: Int[np.ndarray, " m"]
    recall: float


def find(
    run: Run,
    samples: Samples,
    layout: str = "auto",
    clusters: int | None = None,
    suggest: int | None = None,
    seed: int = 0,
) -> tuple[Findings, str]:
    """Compute everything that `explore` shows, for all samples, and choose the layout of the map.

    Map and clusters are fitted on at most 50,000 random samples, and the others are projected.
    Neighbors, outliers, near-duplicates and labels are searched in all samples, beyond 60,000 among
    those of nearby cells (`unlabeled.evaluation.cells`).

    Raises:
        UserError: as documented in `explore`.
    """
    n, noun = len(samples), run.modality.noun
    fitted = np.arange(n)
    if n > MOST:
        fitted = np.sort(np.random.default_rng(seed).permutation(n)[:MOST])
    chosen = structure.choose_layout(layout, len(fitted))
    structure.check_clusters(clusters, len(fitted))
    factor = class_factor(samples)
    y = samples.factors[factor] if factor else np.full(n, -1)
    if suggest is not None and not 1 <= suggest <= (left := int((y < 0).sum())):
        remedy = "give a number from 1 to that" if left else "all are labeled"
        raise UserError(
            f"suggest is {suggest}, but {left:,} of {n:,} {noun} have no label; {remedy}"
        )
    if n > MOST:
        notice(
            f"the map and the clusters are fitted on a random {MOST:,} of {n:,} {noun} and the "
            "others placed among them; the page shows those and all that it lists, and --table "
            "holds all"
        )
    if not can_draw():  # else `embed` shows a bar
        line(f"explore: features of {n:,} {noun}")
    z = embed(run.encoder, samples.x, run.value_range_of(samples.x))
    structure.check_features(z)
    with status("neighbors and outliers", "explore"):
        similarity, near, recall = _neighbors(z, seed, noun)
        # Not centered: samples near the mean would have no close neighbors, but are not outliers.
        far, scores = structure.outliers(structure.neighbors(z, structure.DENSITY, seed)[0])
    suspects = suspected_labels(similarity, near, y) if factor else None
    if suspects and suspects.too_weak:
        notice(str(suspects))
    with status("clusters", "explore"):
        grouped = structure.cluster(z, clusters, seed, fitted)
    with status(f"map by {LAYOUTS[chosen]}", "explore"):
        xy = structure.project(z, chosen, seed, fitted)
    with status("near-duplicates", "explore"):
        if isinstance(run.modality, Images):
            small = to_compare(samples.x, run.value_range_of(samples.x))
            copies = duplicates.near_duplicates(small)
        else:
            copies = duplicates.identical(samples.x)
    suggested = np.zeros(0, np.int64)
    if suggest is not None:
        with status("samples to label", "explore"):
            suggested = to_label(z, y, suggest, seed)
    return Findings(
        *(z, similarity, near, xy, grouped, far, scores, copies, factor, suspects, suggested),
        *(fitted, recall),
    ), chosen


def _neighbors(z: np.ndarray, seed: int, noun: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Similarity and rows of the nearest neighbors of mean-centered features, and their recall."""
    middle = centered(torch.from_numpy(z)).numpy()
    similarity, near = structure.neighbors(middle, VOTERS, seed)
    if len(z) <= EXACT:
        return similarity, near, 1.0
    some = np.random.default_rng(seed).permutation(len(z))[:CHECKED]
    recall = structure.neighbor_recall(middle, near, some)
    notice(
        f"of {len(z):,} {noun} neighbors and near-duplicates are searched among the {COMPARED:,} "
        f"or more nearest by cells: {100 * recall:.0f} % of the exact {VOTERS} neighbors of "
        f"{len(some)} random {noun} are found"
    )
    return similarity, near, recall


def class_factor(samples: Samples) -> str | None:
    """The first factor with several classes, which labels are compared by."""
    classes = (
        name
        for name, values in samples.factors.items()
        if isinstance(samples.targets.get(name), Classes)
        and values.ndim == 1
        and len(np.unique(values[values >= 0])) > 1
    )
    return next(classes, None)
