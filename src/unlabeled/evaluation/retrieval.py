"""Retrieval: are a row's nearest neighbours of its class, or its partner's nearest its own?

Musgrave, Belongie, Lim 2020, "A Metric Learning Reality Check", section 2.2, for mAP@R.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.evaluation.features import labeled
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
        y: classes; rows of class −1 are left out.
        at: the k.
        nearness: cosine of the features, or Euclidean distance.
        block: rows compared at a time.

    Returns:
        `recall@k` for each k and `map@r`, in [0, 1].

    Raises:
        UserError: no two rows are of one class.
    """
    z, y = labeled(z, y)
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


def paired_retrieval(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "n d"],
    at: Sequence[int] = (1, 5, 10),
    y: Int[np.ndarray, " n"] | None = None,
) -> dict[str, float]:
    """Of each row of a, is its partner in b among its k nearest by cosine, and the other way?

    Of rows with the very same likeness it is drawn who comes first, so that features that are all
    alike retrieve by chance.

    Args:
        a: features of one sense.
        b: of the other; row i belongs to row i of a.
        at: the k.
        y: classes, where any row of the same class is a right answer, and the nearest of them
            counts.

    Returns:
        `there@k`, from a to b, `back@k`, and `chance@k` for each k, in [0, 1].

    Raises:
        UserError: the features are not finite, or not as many.
    """
    if len(a) != len(b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("partners are retrieved by finite features, as many of each sense")
    one, other = (
        torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(z)).double(), dim=1)
        for z in (a, b)
    )
    alone = torch.arange(len(a))
    labels = alone if y is None else torch.from_numpy(y)
    labels = torch.where(labels < 0, -1 - alone, labels)  # without a class, its partner alone
    right = labels[:, None] == labels  # (n, n)
    near = one @ other.T
    found: dict[str, float] = {}
    for way, scores in (("there", near), ("back", near.T)):
        best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        ahead = (~right & (scores > best + 1e-12)).sum(1)
        same = (scores - best).abs() <= 1e-12
        own, others = (right & same).sum(1), (~right & same).sum(1)
        found |= {f"{way}@{k}": float(drawn(k - ahead, own, others).mean()) for k in at}
    many = right.sum(1)
    return found | {f"chance@{k}": float(drawn(k, many, len(a) - many).mean()) for k in at}


def drawn(places: Tensor | int, right: Tensor, wrong: Tensor) -> Tensor:
    """The probability that one of the right (n,) is among so many, drawn of right and wrong."""
    left, missed = wrong.double(), torch.ones_like(wrong, dtype=torch.double)
    places = torch.as_tensor(places).expand_as(wrong)
    for i in range(int(places.max())):
        miss = (left - i).clamp(min=0) / (left + right - i).clamp(min=1)
        missed = torch.where(i < places, missed * miss, missed)
    return 1 - missed
