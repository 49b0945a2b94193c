"""Objectives of labeled rows: those with equal `y` belong together.

All are finite, with a gradient of zero, where a batch has no pair of the kind they need.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.objectives.checks import objective
from unlabeled.objectives.similarity import NONE, log_sums, root, squared_distances

Triplets = Literal["all", "hard", "semi-hard"]


@objective()
def contrastive(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], margin: float = 1.0
) -> Float[Tensor, ""]:
    """½ d² of rows that belong together, ½ max(0, m − d)² of others (Hadsell et al. 2006, eq. 4).

    d is the Euclidean distance. All pairs of the batch are taken; those of each kind are averaged
    by themselves, since there are far more of the second. pytorch-metric-learning's has d and
    max(0, m − d), not squared, and leaves zeros out of its mean.

    Args:
        z: embeddings.
        y: labels.
        margin: m; others farther apart cost nothing.

    Returns:
        a scalar ≥ 0.
    """
    squared, same, other = _pairs(z, y)
    near, far = squared[same], (margin - root(squared[other])).relu().pow(2)
    return (near.sum() / max(1, len(near)) + far.sum() / max(1, len(far))) / 2


@objective()
def siamese(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], weight: float = 1.0
) -> Float[Tensor, ""]:
    """Verification: s·d² where two rows show the same, max(1 − d², 0) where they do not.

    d is the Euclidean distance of two rows. All pairs of the batch are taken; those of each kind
    are averaged by themselves, since there are far more of the second. (The lectures' cost; Chopra,
    Hadsell, LeCun 2005 square the hinge of d instead, as `contrastive` does.)

    Args:
        z: embeddings.
        y: identities.
        weight: s.

    Returns:
        a scalar ≥ 0.
    """
    squared, same, other = _pairs(z, y)
    near, far = squared[same], (1 - squared[other]).relu()
    return weight * near.sum() / max(1, len(near)) + far.sum() / max(1, len(far))


@objective()
def triplet(
    z: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    margin: float = 0.2,
    mining: Triplets = "all",
) -> Float[Tensor, ""]:
    """max(0, ‖z_a − z_p‖² − ‖z_a − z_n‖² + ε) (Schroff, Kalenichenko, Philbin 2015, eq. 3).

    z is taken as it is; FaceNet normalizes it. Which triplets of the batch count:

    - all: every one; the mean over those that cost something (Hermans et al. 2017, "batch all").
    - hard: for each anchor its farthest positive and its nearest negative ("batch hard", eq. 5,
      there with the distance itself).
    - semi-hard: for each anchor and positive the nearest negative that is farther than the positive
      (FaceNet's section 3.2); pairs without such a one are left out, where TensorFlow's code takes
      the farthest negative.

    Args:
        z: embeddings.
        y: labels.
        margin: ε.
        mining: which triplets count.

    Returns:
        a scalar ≥ 0.
    """
    squared = squared_distances(z)
    same = y[:, None] == y
    positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    if mining == "hard":
        farthest = squared.masked_fill(~positive, -torch.inf).amax(1)
        nearest = squared.masked_fill(same, torch.inf).amin(1)
        costs = (farthest - nearest + margin).relu()[positive.any(1) & ~same.all(1)]
        return costs.sum() / max(1, len(costs))
    anchors, partners = positive.nonzero(as_tuple=True)
    near, far = squared[anchors, partners][:, None], squared[anchors]  # (p, 1), (p, n)
    valid = ~same[anchors]
    if mining == "semi-hard":
        valid &= far > near
        far = far.masked_fill(~valid, torch.inf)
        costs = (near[:, 0] - far.amin(1) + margin).relu()[valid.any(1)] if len(far) else near
        return costs.sum() / max(1, len(costs))
    costs = (near - far + margin).relu().masked_fill(~valid, 0)
    return costs.sum() / (costs > 0).sum().clamp(min=1)


@objective()
def lifted_structure(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], margin: float = 1.0
) -> Float[Tensor, ""]:
    """Each pair against all negatives of both its rows (Song et al. 2016, eq. 4).

    1/(2|P|) Σ_{(i,j)∈P} max(0, J_ij)², where J_ij = log( Σ_{k∉class(i)} exp(α − D_ik) +
    Σ_{l∉class(j)} exp(α − D_jl) ) + D_ij; D is the Euclidean distance, P the pairs of a class.

    Args:
        z: embeddings.
        y: labels.
        margin: α.

    Returns:
        a scalar ≥ 0.
    """
    squared, same, _ = _pairs(z, y)
    distance = root(squared)
    negatives = (margin - distance).masked_fill(y[:, None] == y, NONE).logsumexp(1)  # (n,)
    i, j = same.nonzero(as_tuple=True)
    costs = (torch.logaddexp(negatives[i], negatives[j]) + distance[i, j]).relu().pow(2)
    return costs.sum() / max(1, 2 * len(costs))


@objective()
def soft_nearest_neighbor(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """−log of the chance that a row's random neighbor is of its class (Frosst et al. 2019, eq. 1).

    −log( Σ_{j≠i, y_j=y_i} exp(−‖z_i − z_j‖²/T) / Σ_{k≠i} exp(−‖z_i − z_k‖²/T) ), the mean over the
    rows that have another of their class. Salakhutdinov, Hinton 2007 maximize the sum of the
    chances themselves. For large batches no matrix is held.

    Args:
        z: embeddings.
        y: labels.
        temperature: T, above 0.

    Returns:
        a scalar ≥ 0.
    """
    length, one = z.pow(2).sum(1, keepdim=True) / temperature, z.new_ones(len(z), 1)
    left = torch.cat([2 * z / temperature, -length, one], 1)  # left_i · right_j = −‖z_i − z_j‖²/T
    right = torch.cat([z, one, -length], 1)
    below = log_sums(left, right, "others")
    above = log_sums(left, right, "same", y)
    paired = above > NONE / 2
    return (below - above)[paired].sum() / paired.sum().clamp(min=1)


@objective()
def sup_con(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Supervised contrastive loss with the sum outside (Khosla et al. 2020, eq. 2, L_out).

    For each row the mean over its positives p of −log( exp(z_i·z_p/τ) / Σ_{a≠i} exp(z_i·z_a/τ) ),
    z normalized; the mean over the rows that have a positive. The authors' code multiplies by
    τ/0.07 besides, which this does not. With two views and every image its own label, it is
    SimCLR's loss. For large batches no matrix is held.

    Args:
        z: projections.
        y: labels.
        temperature: τ, above 0.

    Returns:
        a scalar ≥ 0.
    """
    z = F.normalize(z, dim=1) / temperature**0.5
    _, group = y.unique(return_inverse=True)  # (n,)
    sums = z.new_zeros(int(group.max()) + 1, z.shape[1]).index_add(0, group, z)  # of each class
    partners = group.bincount()[group] - 1  # (n,)
    mean = (z * (sums[group] - z)).sum(1) / partners.clamp(min=1)
    paired = partners > 0
    return (log_sums(z, which="others") - mean)[paired].sum() / paired.sum().clamp(min=1)


@objective()
def mahalanobis(z: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Rows of a class near, others not all at one point (Xing, Ng, Jordan, Russell 2002, 2.1).

    Σ_same d² − log Σ_other d, d the Euclidean distance. For z = x Lᵀ it is their cost of the metric
    A = LᵀL; they state it for diagonal A, and add distances where this takes the mean, so that the
    size of the batch changes nothing but a constant.

    Args:
        z: embeddings.
        y: labels.
    """
    squared, same, other = _pairs(z, y)
    near, far = squared[same], root(squared[other])
    apart = far.sum() / max(1, len(far))
    return near.sum() / max(1, len(near)) - apart.clamp(min=1e-12).log()


@objective()
def lmnn(
    z: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    targets: Int[Tensor, "n k"],
    weight: float = 0.5,
) -> Float[Tensor, ""]:
    """Large margin nearest neighbors: (1 − μ) pull + μ push (Weinberger, Saul 2009, eq. 11–13).

    Pull: Σ of the squared distances of rows and their target neighbors. Push: Σ over those pairs
    and all rows l of other classes of max(0, 1 + d²(i, target) − d²(i, l)). Both are divided by the
    number of pairs.

    Args:
        z: embeddings.
        y: labels.
        targets: row numbers of the neighbors of its class that each row should have.
        weight: μ.

    Returns:
        a scalar ≥ 0.
    """
    squared = squared_distances(z)
    near = squared.gather(1, targets)  # (n, k)
    push = squared.new_zeros(())
    for column in near.unbind(1):
        costs = (1 + column[:, None] - squared).relu()  # (n, n)
        push = push + costs.masked_fill(y[:, None] == y, 0).sum()
    return ((1 - weight) * near.sum() + weight * push) / max(1, near.numel())


def _pairs(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances (n, n), and which pairs i < j are of one class and of two."""
    same = y[:, None] == y
    above = torch.ones_like(same).triu(1)
    return squared_distances(z), same & above, ~same & above
