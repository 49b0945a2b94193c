"""Nearest neighbors by cosine similarity."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.encoders.features import labeled, refuse_not_finite, unit
from unlabeled.evaluation.probe import refuse_unseen

NEIGHBORS = 20


def nearest(
    bank: Float[np.ndarray, "n d"], queries: Float[np.ndarray, "m d"], k: int, block: int = 1024
) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:
    """The k rows of the bank most similar to each query: similarities and rows, best first.

    Raises:
        UserError: some features are NaN or infinite.
    """
    refuse_not_finite(bank, queries)
    keys = unit(torch.from_numpy(bank).float())
    k = min(k, len(keys))
    best = [(unit(q) @ keys.T).topk(k) for q in torch.from_numpy(queries).float().split(block)]
    similarity, rows = (torch.cat(parts) for parts in zip(*best, strict=True))
    return similarity.numpy(), rows.numpy()


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
