"""Which rows are compared with which: all with all, or of many those of nearby cells alone.

With 1,000,000 rows there are 10¹² pairs. They are therefore sorted into cells by k-means, and those
of a cell are compared with those of the cells around: an inverted file (Jégou, Douze & Schmid 2011,
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
"""Rows up to which all are compared with all."""
COMPARED = 4_096
"""Rows at least, if there are more than `EXACT`, that each is compared with
            (default: 4,096)."""
PAIRS = 2**22
"""Compared at a time: 16 MB of similarities."""
FITTED = 64
"""Rows for each cell that cells are fitted on."""


def comparisons(
    rows: Float[Tensor, "n d"], seed: int = 0, compared: int | None = None
) -> Iterator[tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]]:
    """Blocks of rows, each once, and the rows to compare them with, in order and themselves among.

    Args:
        rows: of length 1.
        seed: of the cells.
        compared: rows at least, if there are more than 60,000, that each is compared with
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
    """Rows of each cell in order, and its center; cells of very many rows in pieces."""
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
