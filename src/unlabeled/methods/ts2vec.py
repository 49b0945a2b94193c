"""TS2Vec: hierarchical contrast of time series, over instances and timestamps (Yue et al. 2022).

Yue, Wang, Duan, Yang, Huang, Tong, Xu 2022, "TS2Vec: Towards Universal Representation of Time
Series", algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.dilated import observed
from unlabeled.errors import UserError
from unlabeled.modality import Series
from unlabeled.parallel import gather

SHORTEST = 2
"""Timestamps that two crops have in common, at least."""
Views = tuple[Tensor, Tensor, Tensor, Tensor, int]


class TS2Vec(Method):
    """Two crops of a series, masked at random, agree in each timestamp that they share.

    Each timestamp is contrasted with the others of its series (temporal contrast) and with the same
    one of other series (instance-wise contrast), at every scale of a max-pooling over time. Both
    crops give anchors, as in the authors' code, where the paper writes those of one. Missing
    timestamps are masked and take part in no contrast, where the code contrasts them, too. The code
    also drops a tenth of each representation and averages the weights of all steps, which the paper
    does not name: here the last weights are the result, and nothing is dropped by default. On
    held-out rows of the generated series of `bench/series_tables.py` neither was a gain. With
    several processes the overlap is the shortest of theirs.

    Args:
        mask_prob: probability that a timestamp of a crop is masked, after the projection.
        dropout: of the representations that are compared; 0.1 in the authors' code.
    """

    modality = (Series,)
    recipe = Recipe(
        epochs=20, batch_size=16, optimizer="adamw", lr=1e-3, schedule="constant", weight_decay=0.01
    )

    def __init__(self, encoder: nn.Module, *, mask_prob: float = 0.5, dropout: float = 0.0) -> None:
        super().__init__(encoder)
        if not hasattr(encoder, "map"):
            raise UserError("ts2vec needs features of each timestamp; use --encoder dilated")
        self.mask_prob, self.dropout = mask_prob, nn.Dropout(dropout)

    def views(self, batch: Batch) -> Views:
        """Two crops (B, C, 1, T₁), (B, C, 1, T₂), the timestamps of each that are not masked, and
        how many they share: the last ones of the first, the first ones of the second.

        All rows have the same lengths, and each a place of its own.
        """
        x = batch.x
        total = x.shape[3]
        a1, a2, b1, b2 = bounds(total)
        place = torch.randint(total - b2 + a1 + 1, (len(x),), device=x.device)  # of a1
        crops = [cut(x, place, b1 - a1), cut(x, place + a2 - a1, b2 - a2)]
        keep = [torch.rand(len(x), c.shape[3], device=x.device) >= self.mask_prob for c in crops]
        return crops[0], crops[1], keep[0], keep[1], b1 - a2

    def loss(self, views: Views) -> Tensor:
        """The hierarchical contrast of what both crops say of the timestamps that they share."""
        first, second, keep_first, keep_second, shared = views
        own = torch.full((1, 1), shared, device=first.device)
        length = int(gather(own).min())
        z1 = self.dropout(self.encoder.map(first, keep_first))[:, :, 0, -shared:]
        z2 = self.dropout(self.encoder.map(second, keep_second))[:, :, 0, :shared]
        known = observed(second)[:, 0, 0, :shared]  # (B, shared)
        a, b = (gather(z[:, :, :length].transpose(1, 2).float()) for z in (z1, z2))
        with torch.autocast(a.device.type, enabled=False):
            return hierarchical_contrast(a, b, gather(known[:, :length]))


def bounds(total: int) -> tuple[int, int, int, int]:
    """Random ends a1 ≤ a2 < b1 ≤ b2 of two crops [a1, b1) and [a2, b2) of `total` timestamps."""
    shared = int(torch.randint(min(SHORTEST, total), total + 1, ()))
    a2 = int(torch.randint(total - shared + 1, ()))
    b1 = a2 + shared
    a1, b2 = int(torch.randint(a2 + 1, ())), int(torch.randint(b1, total + 1, ()))
    return a1, a2, b1, b2


def cut(x: Tensor, start: Tensor, length: int) -> Tensor:
    """Timestamps from `start` (B,) of series (B, C, 1, T): (B, C, 1, length)."""
    index = start[:, None] + torch.arange(length, device=x.device)  # (B, length)
    return x.gather(3, index[:, None, None].expand(-1, x.shape[1], 1, -1))


def hierarchical_contrast(a: Tensor, b: Tensor, known: Tensor) -> Tensor:
    """The mean over scales of temporal and instance-wise contrast; equation 3 and algorithm 1.

    Args:
        a: representations of one crop, (B, T, D).
        b: of the other.
        known: timestamps that are not missing, (B, T).
    """
    losses = []
    while True:
        over_instances = (v.transpose(0, 1) for v in (a, b, known))
        losses.append(contrast(a, b, known) + contrast(*over_instances))
        if a.shape[1] == 1:
            return torch.stack(losses).mean()
        lowest = torch.finfo(a.dtype).min  # of missing ones, which are no maximum
        a, b = (pooled(z.masked_fill(~known[:, :, None], lowest)) for z in (a, b))
        known = pooled(known[:, :, None].to(a.dtype))[:, :, 0] > 0
        a, b = (z.masked_fill(~known[:, :, None], 0) for z in (a, b))


def pooled(z: Tensor) -> Tensor:
    """Maxima of each two timestamps, (B, T, D) -> (B, T // 2, D)."""
    return F.max_pool1d(z.transpose(1, 2), 2).transpose(1, 2)


def contrast(a: Tensor, b: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of each row's counterpart among the known rows of its group in both views.

    −log( exp(a_k·b_k) / (Σ_l exp(a_k·b_l) + Σ_{l≠k} exp(a_k·a_l)) ), the mean over the known rows
    of a and of b; equations 1 and 2.

    Args:
        a: (G, K, D): K timestamps of G series, or of K series at G timestamps.
        b: (G, K, D).
        known: (G, K).
    """
    z, known = torch.cat([a, b], 1), torch.cat([known, known], 1)  # (G, 2K, D), (G, 2K)
    rows = torch.arange(z.shape[1], device=z.device)
    logits = z @ z.transpose(1, 2)  # (G, 2K, 2K)
    itself = torch.eye(len(rows), dtype=torch.bool, device=z.device)
    logits = logits.masked_fill(itself | ~known[:, None], torch.finfo(z.dtype).min)
    log_p = logits.log_softmax(2)[:, rows, rows.roll(a.shape[1])]  # (G, 2K)
    return -log_p[known].sum() / known.sum().clamp(min=1)
