"""Retrieval of samples of the same class, and of partners of pairs.

Musgrave, Belongie, Lim 2020, "A Metric Learning Reality Check", section 2.2, for mAP@R.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unlabeled.encoders.features import centered, labeled, refuse_not_finite, unit
from unlabeled.errors import UserError
from unlabeled.evaluation.verification import Nearness


def retrieval(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    at: Sequence[int] = (1, 5, 10),
    nearness: Nearness = "cosine",
    block: int = 1024,
    draws: int = 0,
) -> dict[str, float]:
    """Recall@k and mAP@R of all rows among all others.

    Recall@k is the share of rows with one of their class among their k nearest. With R others of
    its class, a row's AP@R is the mean over i ≤ R of the precision at i where the i-th nearest is
    of its class, 0 where it is not. Rows without another of their class are not queries.

    Args:
        z: features.
        y: classes; rows of class −1 are left out.
        at: the k.
        nearness: cosine of the features, or Euclidean distance.
        block: rows compared at a time.
        draws: of a bootstrap over classes; 0 for no interval. The rows searched stay the same.

    Returns:
        `recall@k` for each k and `map@r`, in [0, 1]; with draws also `low` and `high`, the 95 %
        interval of recall at the first k.

    Raises:
        UserError: no two rows are of one class, or some features are NaN or infinite.
    """
    z, y = labeled(z, y)
    refuse_not_finite(z)
    rows, labels = torch.from_numpy(np.ascontiguousarray(z)), torch.from_numpy(y)
    # Distances in float64: in float32 they vanish beside a large mean.
    rows = unit(rows.float()) if nearness == "cosine" else centered(rows.double())
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
    rank = torch.arange(1, k + 1)
    precision = hit.cumsum(1) / rank
    ap = (precision * (hit & (rank <= r))).sum(1) / r[:, 0]
    metrics = {f"recall@{n}": float(hit[:, :n].any(1).float().mean()) for n in at}
    metrics["map@r"] = float(ap.mean())
    if draws:
        first = hit[:, : at[0]].any(1).numpy()
        metrics |= zip(("low", "high"), interval(first, y[others.numpy() > 0], draws), strict=True)
    return metrics


def interval(
    hits: Bool[np.ndarray, " n"], y: Int[np.ndarray, " n"], draws: int = 1000
) -> tuple[float, float]:
    """95 % interval of the share of hits: percentiles of a bootstrap over classes.

    Rows of a class stand or fall together, so that whole classes are drawn, with replacement.

    Args:
        hits: whether each row is one.
        y: its class.
        draws: how often classes are drawn; seed 0.
    """
    _, group = np.unique(y, return_inverse=True)
    sizes, sums = np.bincount(group), np.bincount(group, hits)
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), draws)
    low, high = np.percentile(times @ sums / (times @ sizes), [2.5, 97.5])
    return float(low), float(high)


def paired_retrieval(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "n d"],
    at: Sequence[int] = (1, 5, 10),
    y: Int[np.ndarray, " n"] | Sequence[Int[np.ndarray, " n"]] | None = None,
    names: tuple[str, str] = ("a", "b"),
) -> dict[str, float]:
    """Recall@k in both directions: is the partner of a row among its k nearest by cosine?

    Rows of the same similarity are ranked at random, so that constant features retrieve by chance.

    Args:
        a: features of one modality.
        b: features of the other; row i belongs to row i of a.
        at: the k.
        y: classes, where any row of the same class is correct, and the nearest of them
            counts; of several arrays, such as of equal captions and of equal images, in any.
        names: names of the modalities in the keys.

    Returns:
        `a_to_b_recall_at_k`, `b_to_a_recall_at_k` and `chance_recall_at_k` for each k, in [0, 1].

    Raises:
        UserError: the features are not finite, or not as many.
    """
    return {key: float(hits.mean()) for key, hits in partner_hits(a, b, at, y, names).items()}


def partner_hits(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "n d"],
    at: Sequence[int] = (1, 5, 10),
    y: Int[np.ndarray, " n"] | Sequence[Int[np.ndarray, " n"]] | None = None,
    names: tuple[str, str] = ("a", "b"),
) -> dict[str, Float[np.ndarray, " n"]]:
    """What `paired_retrieval` averages: the probability of a hit for each row."""
    if len(a) != len(b):
        raise UserError(f"partners are as many of each modality, but there are {len(a)}, {len(b)}")
    refuse_not_finite(a, b)
    one, other = (unit(torch.from_numpy(np.ascontiguousarray(z)).double()) for z in (a, b))
    alone = torch.arange(len(a))
    right = torch.eye(len(a), dtype=torch.bool)  # (n, n)
    for classes in [] if y is None else [y] if isinstance(y, np.ndarray) else y:
        labels = torch.from_numpy(classes)
        labels = torch.where(labels < 0, -1 - alone, labels)  # without a class, its partner alone
        right |= labels[:, None] == labels
    near = one @ other.T
    hits: dict[str, np.ndarray] = {}
    ways = ("{}_to_{}".format(*names), near), ("{1}_to_{0}".format(*names), near.T)
    for way, scores in ways:
        best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        ahead = (~right & (scores > best + 1e-12)).sum(1)
        same = (scores - best).abs() <= 1e-12
        own, others = (right & same).sum(1), (~right & same).sum(1)
        hits |= {f"{way}_recall_at_{k}": drawn(k - ahead, own, others).numpy() for k in at}
    many = right.sum(1)
    return hits | {f"chance_recall_at_{k}": drawn(k, many, len(a) - many).numpy() for k in at}


def equal_rows(x: np.ndarray) -> Int[np.ndarray, " n"]:
    """A number for each row (n, …), the same where all values are; for `paired_retrieval`."""
    return np.unique(x.reshape(len(x), -1), axis=0, return_inverse=True)[1].reshape(-1)


def drawn(ranks: Tensor | int, right: Tensor, wrong: Tensor) -> Tensor:
    """Probability that this many rows, drawn without replacement, include a correct one, (n,)."""
    left, missed = wrong.double(), torch.ones_like(wrong, dtype=torch.double)
    ranks = torch.as_tensor(ranks).expand_as(wrong)
    for i in range(int(ranks.max())):
        miss = (left - i).clamp(min=0) / (left + right - i).clamp(min=1)
        missed = torch.where(i < ranks, missed * miss, missed)
    return 1 - missed
