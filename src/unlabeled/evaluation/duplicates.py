"""Near-duplicates of images: copies that were recompressed, resized, cropped, mirrored or rotated.

They are found by pixels alone, independent of any encoder.

1. Each image is described by the lowest frequencies of its gray thumbnail, and compared with all
   others in its eight mirrored and rotated versions, which in the frequency domain only swap axes
   and signs.
2. The most similar few are aligned: one of the two is a window of the other, and the normalized
   cross-correlation of their details decides. Details are the image minus its local mean: coarse
   shapes, such as a horizon, agree in unrelated images.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from unlabeled.data.dataset import LazyImages, blocks
from unlabeled.encoders.features import unit
from unlabeled.errors import notice
from unlabeled.evaluation.cells import EXACT, comparisons

SIDE = 32
"""Side of the thumbnails in pixels."""
FREQUENCIES = 6
"""Number of lowest frequencies along each axis that describe an image."""
CANDIDATES = 8
"""Number of most similar images that are aligned with each image."""
LIKELY = 0.6
"""Minimum cosine of two descriptions for images to be aligned."""
GRID = 16
"""Side in pixels at which details are compared."""
LOCAL = 9
"""Side of the window of the local mean in thumbnail pixels."""
SIZES = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Sides of tried windows relative to the image; they start at multiples of STEP."""
STEP = 0.05
CORRELATION = 0.8
"""Minimum correlation of details of near-duplicates."""
ROUGH, ROUGH_SIZES = 0.75, (1.0, 0.9)
"""Of more than 60,000 images, each is first aligned with the most similar one by fewer windows.
This is the minimum correlation of details to continue."""
ALIGNED = 100_000
"""Maximum number of pairs that continue, the most similar ones, which bounds the time."""
COMPARED = 2048
"""Minimum number of images that each of more than 60,000 is compared with."""
SPECIFIC = 0.2
"""Maximum distance (1 − correlation) of near-duplicates relative to that of the 8th most similar
image, since images of silhouettes or characters all correlate."""
SAME = 0.005
"""Distance up to which images are near-duplicates regardless of others. This and the two constants
above were chosen on training images by `bench/duplicates.py`, which reports results on others."""
FAINT = 4 / 255
"""Standard deviation of gray below which an image is blank except for noise, and of color below
which it is gray."""
COLOR = 0.6
"""Maximum difference in color relative to the more colorful of both, if neither is gray."""
BLOCK = 1024
"""Number of images described, and of pairs aligned, at a time."""
PAIRS = 2**16
"""Number of pairs whose view is determined at a time."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601)."""
CHANGES = ("", "mirrored")
TURNS = ("", "turned 90°", "turned 180°", "turned 270°")


@dataclass(frozen=True)
class Duplicates:
    """Groups of near-duplicate images.

    Args:
        groups: rows of each group in order; the largest group first.
        changes: for each group, what differs between its images besides details: "mirrored",
            "turned 90°", "cropped", …; empty if they differ only in size, quality or color.
    """

    groups: list[np.ndarray]
    changes: list[list[str]]

    def __len__(self) -> int:
        return len(self.groups)


def near_duplicates(thumbnails: UInt8[np.ndarray, "n c 32 32"]) -> Duplicates:
    """Groups of near-duplicates: connected components of the pairs of near-duplicates.

    Two images are near-duplicates where one of them, mirrored or turned by multiples of 90° and
    seen through a window of at least 80 % of its sides, has details that correlate with those of
    the other by at least 0.8, their colors agree or one is gray, and their distance
    (1 − correlation) is at most a fifth of that to the 8th most similar image of either, or
    0.005. More than 8 copies of one image that differ by more are therefore not found. Blank images
    are near-duplicates of those of the same color. Of more than 60,000 images only those in nearby
    cells are compared, and only with the most similar one, unless that is a copy.

    Args:
        thumbnails: small versions of the images in gray (c = 1) or color (c = 3).
    """
    n = len(thumbnails)
    coefficients, blank = _describe(thumbnails)
    one, other, view, is_likely = candidates(coefficients)
    keep = ~(blank[one] | blank[other])
    one, other, view, is_likely = (part[keep] for part in (one, other, view, is_likely))
    distance, window = np.full(len(one), np.inf, np.float32), np.ones(len(one), np.float32)
    todo = np.arange(len(one))
    sizes: tuple[float, ...] = SIZES
    if n > EXACT:
        todo = _most_alike(thumbnails, one, other, view, np.flatnonzero(is_likely))
    while len(todo):  # then all pairs of images that have a copy, as it is judged by the others
        correlation, window[todo] = align(thumbnails, one[todo], other[todo], view[todo], sizes)
        distance[todo] = 1 - correlation
        close = distance <= 1 - CORRELATION
        has_copy = np.zeros(n, bool)
        has_copy[one[close]] = has_copy[other[close]] = True
        todo = np.flatnonzero((has_copy[one] | has_copy[other]) & np.isinf(distance))
        sizes = ROUGH_SIZES
    usual = _usual(distance, one, other, n)
    limit = np.maximum(SPECIFIC * np.minimum(usual[one], usual[other]), SAME)
    same = np.flatnonzero(distance <= np.minimum(limit, 1 - CORRELATION))
    same = same[_colors_agree(thumbnails, one[same], other[same], view[same])]
    one, other, view, window = (part[same] for part in (one, other, view, window))
    empty = np.flatnonzero(blank)
    mean = np.round(thumbnails[empty].mean((2, 3)) / (255 * FAINT))
    _, first, group = np.unique(mean, axis=0, return_index=True, return_inverse=True)
    ends = np.concatenate([one, empty[first][group.ravel()]]), np.concatenate([other, empty])
    links = coo_array((np.ones(len(ends[0])), ends), shape=(n, n))
    _, label = connected_components(links, directed=False)
    order = np.argsort(label, kind="stable")
    _, starts, counts = np.unique(label[order], return_index=True, return_counts=True)
    groups = [order[s : s + c] for s, c in zip(starts, counts, strict=True) if c > 1]
    groups.sort(key=lambda rows: (-len(rows), rows[0]))
    changes: dict[int, set[str]] = {}
    for i, v, w in zip(one, view, window, strict=True):
        changes.setdefault(int(label[i]), set()).update(_change(int(v), float(w)))
    return Duplicates(groups, [sorted(changes.get(int(label[rows[0]]), ())) for rows in groups])


def identical(x: np.ndarray | LazyImages) -> Duplicates:
    """Groups of identical samples (N, …), the largest first."""
    rows_of: dict[bytes, list[int]] = {}
    for row, sample in enumerate(itertools.chain.from_iterable(blocks(x))):
        rows_of.setdefault(hashlib.sha256(sample.tobytes()).digest(), []).append(row)
    groups = [np.array(rows) for rows in rows_of.values() if len(rows) > 1]
    groups.sort(key=lambda rows: (-len(rows), rows[0]))
    return Duplicates(groups, [[] for _ in groups])


def candidates(
    coefficients: Float[Tensor, "n k k"],
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, " m"], np.ndarray]:
    """Pairs of images that may be near-duplicates: two rows, the lower first, a view, and a flag.

    The view says how the first is mirrored and turned to be like the second, as in `turned`; the
    flag, (m,) bool, whether one of the two is the most similar of the other. All images
    are compared with all up to 60,000, beyond with those in nearby cells (`cells.comparisons`) of
    what mirroring and turning does not change.
    """
    n, k = len(coefficients), min(CANDIDATES, len(coefficients) - 1)
    keys = unit(coefficients.flatten(1))
    cosine, indices = np.empty((n, k), np.float32), np.empty((n, k), np.int32)
    for rows, others in comparisons(_invariant(coefficients), compared=COMPARED):
        theirs = (keys if len(others) == n else keys[others]).T
        best = keys[rows] @ theirs
        other_view = torch.empty_like(best)  # memory that is touched once, not for each view
        for view in range(1, 8):
            turned_keys = unit(turned_frequencies(coefficients[rows], view).flatten(1))
            torch.mm(turned_keys, theirs, out=other_view)
            torch.maximum(best, other_view, out=best)
        best[torch.arange(len(rows)), np.searchsorted(others, rows)] = -torch.inf
        values, columns = best.topk(k)
        cosine[rows], indices[rows] = values.numpy(), others[columns.numpy()]
    row, rank = np.nonzero(cosine >= LIKELY)
    ends = np.sort(np.stack([row, indices[row, rank]]), axis=0)
    order = np.lexsort((rank, ends[1], ends[0]))
    ends, rank = ends[:, order], rank[order]
    first = np.flatnonzero(np.diff(ends, axis=1, prepend=-1).any(0))  # of each pair the best rank
    one, other = ends[:, first]
    which = np.empty(len(one), np.int64)
    for start in range(0, len(one), PAIRS):
        part = slice(start, start + PAIRS)
        a, b = coefficients[one[part]], keys[other[part]]
        views = [unit(turned_frequencies(a, view).flatten(1)) for view in range(8)]
        which[part] = torch.stack([(v * b).sum(1) for v in views]).argmax(0).numpy()
    return one, other, which, rank[first] == 0


def align(
    thumbnails: UInt8[np.ndarray, "n c 32 32"],
    one: Int[np.ndarray, " m"],
    other: Int[np.ndarray, " m"],
    view: Int[np.ndarray, " m"],
    sizes: tuple[float, ...] = SIZES,
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The best correlation of details of pairs, and the side of the window that it is found at.

    Either image may be the window of the other.
    """
    best, size = np.full(len(one), -1, np.float32), np.ones(len(one), np.float32)
    for start in range(0, len(one), BLOCK):
        part = slice(start, start + BLOCK)
        a, b = (_details(_gray(thumbnails[rows[part]])) for rows in (one, other))
        for v in np.unique(view[part]):
            of_view = torch.from_numpy(np.flatnonzero(view[part] == v))
            a[of_view] = turned(a[of_view], int(v))
        for side in sizes:
            both = torch.maximum(_through_windows(a, b, side), _through_windows(b, a, side)).numpy()
            better = both > best[part]
            best[part][better], size[part][better] = both[better], side
    return best, size


def turned(x: Tensor, view: int) -> Tensor:
    """Images (…, H, H) mirrored left to right if view ≥ 4, then turned by view mod 4 times 90°."""
    return torch.rot90(x.flip(-1) if view >= 4 else x, view % 4, (-2, -1))


def turned_frequencies(x: Tensor, view: int) -> Tensor:
    """Coefficients (…, K, K) of the cosine transform of images that are turned as by `turned`.

    Mirroring an axis changes the sign of its odd frequencies, a quarter turn also swaps the axes.
    """
    sign = (-1.0) ** torch.arange(x.shape[-1])
    x = x * sign if view >= 4 else x
    for _ in range(view % 4):
        x = x.mT * sign[:, None]
    return x


def _gray(thumbnails: np.ndarray) -> Tensor:
    """Gray values (m, 32, 32) in 0..1 of thumbnails (m, c, 32, 32)."""
    x = torch.from_numpy(thumbnails).float() / 255
    return torch.einsum("nchw,c->nhw", x, torch.tensor(LUMA)) if x.shape[1] == 3 else x[:, 0]


def _color(thumbnails: np.ndarray) -> Tensor:
    """Color differences from gray, (m, 2, 4, 4); zero for gray images."""
    if thumbnails.shape[1] == 1:
        return torch.zeros(len(thumbnails), 2, 4, 4)
    x = torch.from_numpy(thumbnails).float() / 255
    return F.adaptive_avg_pool2d(x[:, ::2] - _gray(thumbnails)[:, None], 4)


def _describe(thumbnails: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Weighted lowest frequencies (n, K, K), and whether an image is blank, (n,) bool."""
    coefficients = np.empty((len(thumbnails), FREQUENCIES, FREQUENCIES), np.float32)
    blank = np.empty(len(thumbnails), bool)
    for start in range(0, len(thumbnails), BLOCK):
        gray = _gray(thumbnails[start : start + BLOCK])
        blank[start : start + BLOCK] = (gray.flatten(1).std(1, correction=0) < FAINT).numpy()
        coefficients[start : start + BLOCK] = frequencies(gray)
    return torch.from_numpy(coefficients), blank


def frequencies(gray: Float[Tensor, "n 32 32"]) -> Float[np.ndarray, "n k k"]:
    """Lowest coefficients of the cosine transform, weighted by the root of their frequency.

    Natural images have their power at the lowest; the mean, which is brightness, is left out.
    """
    low = dct(gray.numpy(), axis=1, norm="ortho")[:, :FREQUENCIES]
    low = dct(low, axis=2, norm="ortho")[:, :, :FREQUENCIES]
    axis = np.arange(FREQUENCIES)
    weights: np.ndarray = np.hypot(axis[:, None], axis) ** 0.5
    return (low * weights).astype(np.float32)


def _invariant(coefficients: Tensor) -> Tensor:
    """Unit vectors of the part of frequencies (n, K, K) invariant to mirroring and rotation."""
    size = coefficients.abs()
    i, j = torch.triu_indices(FREQUENCIES, FREQUENCIES)
    both = size[:, i, j], size[:, j, i]
    return unit(torch.cat([both[0] + both[1], (both[0] - both[1]).abs()], 1))


def _details(gray: Tensor) -> Tensor:
    """Images minus their local mean."""
    mean = F.avg_pool2d(gray[:, None], LOCAL, 1, LOCAL // 2, count_include_pad=False)[:, 0]
    return gray - mean


def _through_windows(x: Tensor, y: Tensor, side: float) -> Tensor:
    """Best correlation of windows of x with all of y, (m, H, H) both: (m,)."""
    starts = [STEP * i for i in range(round((1 - side) / STEP) + 1)]
    windows = torch.cat([_resampling(side, start) for start in starts])  # (S·G, H)
    full = _resampling(1.0, 0.0)
    target = (full @ y @ full.T).flatten(1)
    target = target - target.mean(1, keepdim=True)
    target = F.normalize(target, dim=1).view(-1, GRID, GRID)
    seen = (windows @ x @ windows.T).view(len(x), len(starts), GRID, len(starts), GRID)
    dot = torch.einsum("msitj,mij->mst", seen, target)
    square = seen.square().sum((2, 4)) - seen.sum((2, 4)).square() / GRID**2
    return (dot / square.clamp_min(1e-8).sqrt()).flatten(1).amax(1)


def _resampling(side: float, start: float) -> Tensor:
    """Weights (G, H) that resample an axis within a window, by a triangle as wide as a pixel."""
    step = side * SIDE / GRID
    centers = start * SIDE + step * (torch.arange(GRID) + 0.5)
    away = (torch.arange(SIDE) + 0.5 - centers[:, None]).abs()
    weights = (1 - away / max(1.0, step)).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)


def _most_alike(
    thumbnails: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    view: np.ndarray,
    pairs: np.ndarray,
) -> np.ndarray:
    """The pairs with the highest correlation through few windows, at most 100,000."""
    rough, _ = align(thumbnails, one[pairs], other[pairs], view[pairs], ROUGH_SIZES)
    order = np.argsort(-rough, kind="stable")
    order = order[rough[order] >= ROUGH]
    if len(order) > ALIGNED:
        notice(
            f"{len(order):,} pairs of images may be near-duplicates; the {ALIGNED:,} most similar "
            "of them are compared in full, so some of the others may be missed"
        )
    return np.sort(pairs[order[:ALIGNED]])


def _usual(distance: np.ndarray, one: np.ndarray, other: np.ndarray, n: int) -> np.ndarray:
    """The 8th smallest distance of each image, (n,); 1 if fewer were aligned with it."""
    ends, both = np.concatenate([one, other]), np.tile(distance, 2)
    order = np.lexsort((both, ends))
    starts, counts = np.searchsorted(ends[order], np.arange(n)), np.bincount(ends, minlength=n)
    usual, enough = np.ones(n, np.float32), counts >= CANDIDATES
    usual[enough] = both[order][starts[enough] + CANDIDATES - 1]
    return usual


def _colors_agree(
    thumbnails: np.ndarray, one: np.ndarray, other: np.ndarray, view: np.ndarray
) -> np.ndarray:
    agree = np.ones(len(one), bool)
    for start in range(0, len(one), BLOCK):
        part = slice(start, start + BLOCK)
        a, b = (_color(thumbnails[rows[part]]) for rows in (one, other))
        for v in np.unique(view[part]):
            of_view = torch.from_numpy(np.flatnonzero(view[part] == v))
            a[of_view] = turned(a[of_view], int(v))
        rms = [x.square().mean((1, 2, 3)).sqrt() for x in (a, b, a - b)]
        is_gray = torch.minimum(rms[0], rms[1]) < FAINT
        agree[part] = (is_gray | (rms[2] <= COLOR * torch.maximum(rms[0], rms[1]))).numpy()
    return agree


def _change(view: int, side: float) -> list[str]:
    """Words for the differences between the images of a pair."""
    words = [CHANGES[view // 4], TURNS[view % 4], "cropped" if side < 1 else ""]
    return [word for word in words if word]
