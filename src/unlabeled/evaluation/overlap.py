"""Intersection over union and average precision of masks and boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
"""IoU thresholds of COCO's average precision."""
RECALLS = np.linspace(0, 1, 101)


@dataclass
class Boxes:
    """Detected boxes of N images.

    Args:
        boxes: float32 (N, D, 4), left, top, right, bottom in pixels.
        scores: float32 (N, D).
        classes: int64 (N, D), −1 for none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def mask_iou(
    guess: UInt8[np.ndarray, "n h w"], truth: UInt8[np.ndarray, "n h w"], classes: int
) -> Float[np.ndarray, " c"]:
    """Intersection over union of each class, over the pixels of all images (Pascal VOC).

    NaN for a class that is neither present nor predicted.
    """
    pairs = np.bincount(
        classes * truth.ravel().astype(np.int64) + guess.ravel(), minlength=classes**2
    ).reshape(classes, classes)
    both = np.diag(pairs)
    with np.errstate(invalid="ignore"):
        return both / (pairs.sum(0) + pairs.sum(1) - both)


def box_iou(
    a: Float[np.ndarray, "*batch n 4"], b: Float[np.ndarray, "*batch m 4"]
) -> Float[np.ndarray, "*batch n m"]:
    """Intersection over union of all pairs of boxes."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = sides.clip(0).prod(-1)
    area_a, area_b = ((v[..., 2:] - v[..., :2]).prod(-1) for v in (a, b))
    return both / np.maximum(area_a + area_b - both, 1e-12)


def average_precision(
    detections: Boxes,
    boxes: Float[np.ndarray, "n k 4"],
    classes: Int[np.ndarray, "n k"],
    of: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> Float[np.ndarray, " t"]:
    """Average precision of one class at each threshold of IoU, as COCO defines it.

    In each image, detections in decreasing order of score are matched to the unmatched true box of
    the largest IoU, if it reaches the threshold. Over all images, the result is the mean over 101
    recalls of the best precision at that recall or a higher one.

    Args:
        found: the detections.
        boxes: true ones.
        classes: of the true ones, −1 for none.
        of: the class.
        thresholds: minimum IoU of a match.

    Returns:
        values in [0, 1]; NaN if there is no true box of the class.
    """
    is_true, is_found = classes == of, detections.classes == of
    if not is_true.any():
        return np.full(len(thresholds), np.nan)
    scores = np.where(is_found, detections.scores, -np.inf)
    iou = np.where(is_true[:, None], box_iou(detections.boxes, boxes), -1.0)  # (N, D, K)
    limit = np.array(thresholds)
    hit = np.zeros((len(limit), *is_found.shape), bool)
    free = np.broadcast_to(is_true, (len(limit), *is_true.shape)).copy()
    images = np.arange(len(boxes))
    for d in np.argsort(-scores, axis=1, kind="stable").T:  # (N,), the next best of each image
        overlap = np.where(free, iou[images, d], -1.0)  # (T, N, K)
        best = overlap.argmax(-1)
        met = (overlap.max(-1) >= limit[:, None]) & is_found[images, d]
        hit[:, images, d] = met
        t, n = np.nonzero(met)
        free[t, n, best[t, n]] = False
    order = np.argsort(-scores[is_found], kind="stable")
    hits = hit[:, is_found][:, order].cumsum(1)  # (T, detections)
    return np.array([_area(h, int(is_true.sum())) for h in hits])


def _area(hits: np.ndarray, true: int) -> float:
    """Mean of the interpolated precision at 101 recalls, from the hits up to each detection."""
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / true, RECALLS)
    return float(np.append(best, 0.0)[at].mean())
