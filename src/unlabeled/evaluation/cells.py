"""Which rows are compared: all with all, or, of many, only those of nearby cells.

With 1,000,000 rows there are 10¹² pairs. Rows are therefore sorted into cells by k-means, and those
of a cell are compared with those of nearby cells: an inverted file (Jégou, Douze & Schmid 2011,
"Product Quantization for Nearest Neighbor Search", section IV).
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from unlabeled.utils.quiet import quiet

EXACT = 60_000
"""Maximum number of rows that are all compared with each other."""
COMPARED = 4_096
"""Minimum number of rows that each is compared with, if there are more than `EXACT`."""
PAIRS = 2**22
"""Number of similarities computed at a time, 16 MB."""
FITTED = 64
"""Number of rows per cell that cells are fitted on."""


def comparisons(
    rows: Float[Tensor, "n d"], seed: int = 0, compared: int | None = None
) -> Iterator[tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]]:
    """Yield blocks of rows, and the sorted rows to compare each with, the block included.

    Args:
        rows: of unit length.
        seed: of the cells.
        compared: minimum number of rows that each is compared with if there are more than 60,000
            (default: 4,096).
    """
    n = len(rows)
    if n <= EXACT:
        every = np.arange(n)
        for start in range(0, n, max(64, PAIRS // n)):
            yield every[start : start + max(64, PAIRS // n)], every
        return
    pieces, centers = _cells(rows, seed)
    sizes = np.array([len(piece) for piece in pieces])
    for piece, center in zip(pieces, centers, strict=True):
        order = (centers - center).square().sum(1).argsort(stable=True).numpy()
        last = int(np.searchsorted(sizes[order].cumsum(), compared or COMPARED)) + 1
        around = np.sort(np.concatenate([pieces[i] for i in order[:last]]))
        for start in range(0, len(piece), max(64, PAIRS // len(around))):
            part = piece[start : start + max(64, PAIRS // len(around))]
            yield part, around if np.isin(part[0], around) else np.union1d(part, around)


def _cells(rows: Tensor, seed: int) -> tuple[list[np.ndarray], Float[Tensor, "p d"]]:
    """Sorted rows of each cell, and its center; very large cells are split."""
    n = len(rows)
    k = round(n**0.5)
    some = np.random.default_rng(seed).permutation(n)[: FITTED * k]
    with quiet():  # fewer distinct rows than cells
        model = MiniBatchKMeans(k, batch_size=4096, max_iter=10, n_init=1, random_state=seed)
        model.fit(rows[np.sort(some)].numpy())
    centers = torch.from_numpy(model.cluster_centers_).to(rows.dtype)
    half = centers.square().sum(1) / 2
    label = torch.cat([(block @ centers.T - half).argmax(1) for block in rows.split(PAIRS // k)])
    order = label.argsort(stable=True).numpy()
    counts = label.bincount(minlength=k).numpy()
    pieces, middle = [], []
    for c, members in enumerate(np.split(order, counts.cumsum()[:-1])):
        for start in range(0, len(members), COMPARED):
            pieces.append(members[start : start + COMPARED])
            middle.append(c)
    return pieces, centers[middle]
