"""Retrieval: are a row's nearest neighbours of its class? Asked within one set of rows.

Musgrave, Belongie, Lim 2020, "A Metric Learning Reality Check", section 2.2, for mAP@R.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from unlabeled.errors import UserError
from unlabeled.evaluation.verification import Nearness


def retrieval(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    at: Sequence[int] = (1, 5, 10),
    nearness: Nearness = "cosine",
    block: int = 1024,
) -> dict[str, float]:
    """Recall@k and mAP@R of all rows among all others.

    Recall@k is the share of rows with one of their class among their k nearest. With R others of
    its class, a row's AP@R is the mean over i ≤ R of the precision at i where the i-th nearest is
    of its class, 0 where it is not. Rows without another of their class ask nothing.

    Args:
        z: features.
        y: classes.
        at: the k.
        nearness: cosine of the features, or Euclidean distance.
        block: rows compared at a time.

    Returns:
        `recall@k` for each k and `map@r`, in [0, 1].

    Raises:
        UserError: no two rows are of one class.
    """
    rows, labels = torch.from_numpy(np.ascontiguousarray(z)).float(), torch.from_numpy(y)
    if nearness == "cosine":
        rows = torch.nn.functional.normalize(rows, dim=1)
    _, group, counts = labels.unique(return_inverse=True, return_counts=True)
    others = counts[group] - 1  # (n,), R
    if not others.any():
        raise UserError("retrieval needs rows of one class; each of these has a class of its own")
    k = min(max(*at, int(others.max())), len(rows) - 1)
    hits = []
    for part in torch.arange(len(rows)).split(block):
        if nearness == "cosine":
            near = rows[part] @ rows.T
        else:
            near = -torch.cdist(rows[part], rows)
        near[torch.arange(len(part)), part] = -torch.inf
        hits.append(labels[near.topk(k).indices] == labels[part][:, None])
    hit, r = torch.cat(hits)[others > 0], others[others > 0][:, None]  # (m, k), (m, 1)
    place = torch.arange(1, k + 1)
    precision = hit.cumsum(1) / place
    ap = (precision * (hit & (place <= r))).sum(1) / r[:, 0]
    recall = {f"recall@{n}": float(hit[:, :n].any(1).float().mean()) for n in at}
    return recall | {"map@r": float(ap.mean())}
