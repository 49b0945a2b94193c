"""Objectives of labeled embeddings: rows of equal `y` are positives.

All are finite, with a gradient of zero, if a batch has no pair of the kind they need. `z` are
embeddings (n, d), `y` their labels (n,). Each returns a scalar, ≥ 0 except for `mahalanobis`.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.objectives.checks import objective
from unlabeled.objectives.similarity import NONE, log_sums, safe_sqrt, squared_distances

Triplets = Literal["all", "hard", "semi-hard"]


@objective(least=2)
def koleo(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Kozachenko-Leonenko entropy estimator (KoLeo): −1/n Σ_i log min_{j≠i} ‖z_i − z_j‖.

    Rows, which are normalized here, are spread over the sphere. As in DINOv2's code, 1e-8 is added
    to the distance. May be negative; labels play no part.

    Source: Sablayrolles, Douze, Schmid, Jégou 2019, eq. 4; Oquab et al. 2024, section 4.
    """
    z = F.normalize(z, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    nearest = z[(z.detach() @ z.detach().T).masked_fill(itself, -2).argmax(1)]
    return -(safe_sqrt((z - nearest).pow(2).sum(1)) + 1e-8).log().mean()


@objective()
def contrastive(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], margin: float = 1.0
) -> Float[Tensor, ""]:
    """Contrastive loss: ½ d² of positive pairs, ½ max(0, m − d)² of negative ones.

    d is the Euclidean distance. All pairs of the batch are used; positives and negatives are
    averaged separately, since there are far more negatives. pytorch-metric-learning has d and
    max(0, m − d), not squared, and excludes zeros from its mean.

    Args:
        margin: m, beyond which negatives cost nothing.

    Source: Hadsell, Chopra, LeCun 2006, eq. 4.
    """
    squared, same, other = _pairs(z, y)
    near, far = squared[same], (margin - safe_sqrt(squared[other])).relu().pow(2)
    return (_mean(near) + _mean(far)) / 2


@objective()
def siamese(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], weight: float = 1.0
) -> Float[Tensor, ""]:
    """Verification loss of siamese networks: s·d² of positive pairs, max(0, 1 − d²) of others.

    d is the Euclidean distance. All pairs of the batch are used; positives and negatives are
    averaged separately. This is the lectures' loss; Chopra, Hadsell, LeCun 2005 square the hinge of
    d instead, as `contrastive` does.

    Args:
        weight: s.
    """
    squared, same, other = _pairs(z, y)
    near, far = squared[same], (1 - squared[other]).relu()
    return weight * near.sum() / max(1, len(near)) + _mean(far)


@objective()
def triplet(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], margin: float = 0.2, mining: Triplets = "all"
) -> Float[Tensor, ""]:
    """Triplet loss max(0, ‖z_a − z_p‖² − ‖z_a − z_n‖² + ε), with mining within the batch.

    z is not normalized here; FaceNet normalizes it. The triplets are:

    - all: all; the mean is over those of positive loss (Hermans et al. 2017, "batch all").
    - hard: for each anchor the farthest positive and the nearest negative ("batch hard", eq. 5,
      there with the distance instead of its square).
    - semi-hard: for each anchor and positive the nearest negative that is farther than the positive
      (FaceNet, section 3.2); pairs without one are skipped, for which TensorFlow's code takes the
      farthest negative.

    Args:
        margin: ε.
        mining: which triplets are used.

    Source: Schroff, Kalenichenko, Philbin 2015 (FaceNet), eq. 3.
    """
    squared = squared_distances(z)
    same = y[:, None] == y
    positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    if mining == "hard":
        farthest = squared.masked_fill(~positive, -torch.inf).amax(1)
        nearest = squared.masked_fill(same, torch.inf).amin(1)
        costs = (farthest - nearest + margin).relu()[positive.any(1) & ~same.all(1)]
        return _mean(costs)
    anchors, partners = positive.nonzero(as_tuple=True)
    near, far = squared[anchors, partners][:, None], squared[anchors]  # (p, 1), (p, n)
    valid = ~same[anchors]
    if mining == "semi-hard":
        valid &= far > near
        far = far.masked_fill(~valid, torch.inf)
        costs = (near[:, 0] - far.amin(1) + margin).relu()[valid.any(1)] if len(far) else near
        return _mean(costs)
    costs = (near - far + margin).relu().masked_fill(~valid, 0)
    return costs.sum() / (costs > 0).sum().clamp(min=1)


@objective()
def lifted_structure(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], margin: float = 1.0
) -> Float[Tensor, ""]:
    """Lifted structured loss: each positive pair against all negatives of both its rows.

    1/(2|P|) Σ_{(i,j)∈P} max(0, J_ij)², where J_ij = log( Σ_{k∉class(i)} exp(α − D_ik) +
    Σ_{l∉class(j)} exp(α − D_jl) ) + D_ij; D is the Euclidean distance, P the positive pairs.

    Args:
        margin: α.

    Source: Song et al. 2016, eq. 4.
    """
    squared, same, _ = _pairs(z, y)
    distance = safe_sqrt(squared)
    negatives = (margin - distance).masked_fill(y[:, None] == y, NONE).logsumexp(1)  # (n,)
    i, j = same.nonzero(as_tuple=True)
    costs = (torch.logaddexp(negatives[i], negatives[j]) + distance[i, j]).relu().pow(2)
    return costs.sum() / max(1, 2 * len(costs))


@objective()
def soft_nearest_neighbor(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Soft nearest neighbor loss: −log p that a row's random neighbor has its label.

    −log( Σ_{j≠i, y_j=y_i} exp(−‖z_i − z_j‖²/T) / Σ_{k≠i} exp(−‖z_i − z_k‖²/T) ), the mean over the
    rows that have a positive. Salakhutdinov, Hinton 2007 maximize the sum of the probabilities
    instead. Large batches need no matrix of distances.

    Args:
        temperature: T > 0.

    Source: Frosst, Papernot, Hinton 2019, eq. 1.
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
    """Supervised contrastive loss (SupCon, L_out).

    For each row the mean over its positives p of −log( exp(z_i·z_p/τ) / Σ_{a≠i} exp(z_i·z_a/τ) ),
    z normalized; the mean over the rows that have a positive. The authors' code also multiplies by
    τ/0.07. With two views of each image and the image as the label it is `nt_xent`. Large batches
    need no matrix of similarities.

    Args:
        temperature: τ > 0.

    Source: Khosla et al. 2020, eq. 2.
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
    """Mahalanobis metric learning loss: mean d² of positive pairs − log mean d of negative ones.

    d is the Euclidean distance. For z = x Lᵀ it is the paper's loss of the metric A = LᵀL, which is
    stated for diagonal A and with sums instead of means, so that the batch size adds a constant.

    Source: Xing, Ng, Jordan, Russell 2002, section 2.1.
    """
    squared, same, other = _pairs(z, y)
    near, far = squared[same], safe_sqrt(squared[other])
    return _mean(near) - _mean(far).clamp(min=1e-12).log()


@objective()
def lmnn(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], targets: Int[Tensor, "n k"], weight: float = 0.5
) -> Float[Tensor, ""]:
    """Large margin nearest neighbor loss (LMNN): (1 − μ) pull + μ push.

    Pull: Σ of the squared distances of rows to their target neighbors. Push: Σ over those pairs
    and all rows l of other classes of max(0, 1 + d²(i, target) − d²(i, l)). Both are divided by the
    number of pairs.

    Args:
        targets: (n, k) row indices of each row's target neighbors, of its class.
        weight: μ, from 0 to 1.

    Source: Weinberger, Saul 2009, eq. 11–13.
    """
    squared = squared_distances(z)
    near = squared.gather(1, targets)  # (n, k)
    push = squared.new_zeros(())
    for column in near.unbind(1):
        costs = (1 + column[:, None] - squared).relu()  # (n, n)
        push = push + costs.masked_fill(y[:, None] == y, 0).sum()
    return ((1 - weight) * near.sum() + weight * push) / max(1, near.numel())


def _pairs(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances (n, n), and masks of positive and negative pairs i < j."""
    same = y[:, None] == y
    above = torch.ones_like(same).triu(1)
    return squared_distances(z), same & above, ~same & above


def _mean(values: Tensor) -> Tensor:
    """The mean, 0 if there are no values."""
    return values.sum() / max(1, len(values))
