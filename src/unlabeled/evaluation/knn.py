"""Nearest neighbors by cosine similarity."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.encoders.features import in_blocks, labeled, refuse_not_finite, unit
from unlabeled.errors import plural
from unlabeled.evaluation.probe import refuse_unseen
from unlabeled.utils.progress import track

NEIGHBORS = 20
AT_ONCE = 1 << 23
"""Similarities and values of the bank at a time: 32 MB of each."""


def nearest(
    bank: Float[np.ndarray, "n d"], queries: Float[np.ndarray, "m d"], k: int, block: int = 1024
) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:
    """The k rows of the bank most similar to each query: similarities and rows, best first.

    The bank is read once, a block of rows at a time, and may be on disk
    (`numpy.load(…, mmap_mode="r")`); memory grows with the queries, not with the bank.

    Args:
        bank: features that are searched.
        queries: features that are searched for.
        k: neighbors of each query; fewer if the bank has fewer rows.
        block: queries at a time.

    Raises:
        UserError: some features are NaN or infinite.
    """
    refuse_not_finite(bank, queries)
    k = min(k, len(bank))
    wanted = unit(torch.tensor(queries).float()).split(block)  # a copy: files are read-only
    best = [(torch.empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.long)) for q in wanted]
    rows = max(1, min(AT_ONCE // block, AT_ONCE // max(1, bank.shape[1])))
    parts, title = -(-len(bank) // rows), f"neighbors among {plural(len(bank), 'row')}"
    for part, z in track(in_blocks(bank, rows), title, parts):
        keys = unit(torch.tensor(z).float())
        for i, q in enumerate(wanted):
            similarity, indices = (q @ keys.T).topk(min(k, len(keys)))
            similarity = torch.cat([best[i][0], similarity], 1)
            indices = torch.cat([best[i][1], indices + part.start], 1)
            similarity, order = similarity.topk(min(k, similarity.shape[1]))
            best[i] = similarity, indices.gather(1, order)
    similarity, indices = (torch.cat(found) for found in zip(*best, strict=True))
    return similarity.numpy(), indices.numpy()


def knn_accuracy(
    bank: Float[np.ndarray, "n d"],
    bank_y: Int[np.ndarray, " n"],
    queries: Float[np.ndarray, "m d"],
    queries_y: Int[np.ndarray, " m"],
    k: int = NEIGHBORS,
    temperature: float = 0.07,
) -> float:
    """Share of queries that `knn_predict` classifies correctly; rows of class −1 are left out.

    Raises:
        UserError: none of their classes is in the bank, or some features are NaN or infinite.
    """
    queries, queries_y = labeled(queries, queries_y)
    refuse_unseen(labeled(bank, bank_y)[1], queries_y)
    return float((knn_predict(bank, bank_y, queries, k, temperature) == queries_y).mean())


def knn_predict(
    bank: Float[np.ndarray, "n d"],
    bank_y: Int[np.ndarray, " n"],
    queries: Float[np.ndarray, "m d"],
    k: int = NEIGHBORS,
    temperature: float = 0.07,
) -> Int[np.ndarray, " m"]:
    """The class that wins the vote of each query's k nearest neighbors.

    A neighbor of similarity s votes with weight exp(s/τ), τ = 0.07 (Wu et al. 2018, and DINO).
    Rows of class −1 have no label and do not vote.

    Raises:
        UserError: some features are NaN or infinite.
    """
    bank, bank_y = labeled(bank, bank_y)
    similarity, rows = nearest(bank, queries, k)
    labels = torch.from_numpy(bank_y)[torch.from_numpy(rows)]
    shares = votes(torch.from_numpy(similarity), labels, int(bank_y.max()) + 1, temperature)
    return shares.argmax(1).numpy()


def votes(similarity: Tensor, labels: Tensor, classes: int, temperature: float = 0.07) -> Tensor:
    """Shares of the votes of neighbors that each class has.

    Args:
        similarity: of the neighbors, (m, k).
        labels: their classes, (m, k).
        classes: their number, K.
        temperature: τ of the weight exp(s/τ).

    Returns:
        (m, K); each row sums to 1.
    """
    weights = (similarity / temperature).softmax(1)
    return torch.zeros(len(labels), classes).scatter_add_(1, labels, weights)
