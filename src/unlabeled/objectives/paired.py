"""Objectives of two views: row i of `a` and row i of `b` show the same thing."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.objectives.checks import objective
from unlabeled.objectives.similarity import NONE, log_sums


@objective()
def nt_xent(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    temperature: float = 0.5,
    negatives: int | None = None,
    keep_positive: bool = True,
) -> Float[Tensor, ""]:
    """Normalized-temperature cross-entropy, SimCLR's loss (Chen et al. 2020, eq. 1, algorithm 1).

    ℓ(i, j) = −log( exp(s_ij/τ) / Σ_{k≠i} exp(s_ik/τ) ), s the cosine similarity, k over all 2n
    views; the mean over the 2n ordered pairs. Only the view itself is left out of the sum, the
    positive stays. Google's code adds the means of both directions, which is twice this; lightly
    and solo-learn give this value.

    With `negatives` of 0 nothing but the attraction −s_ij/τ is left, which collapses. With some,
    the sum has, beside the positive, the other view of that many images only:
    those that follow in the batch, whose order is random. Without `keep_positive` the positive is
    left out of the sum, as in the lecture tutorial's code with two negatives: the loss then has no
    lower bound of 0 (decoupled contrastive learning, Yeh et al. 2022, does so on purpose).

    Large batches hold no matrix of similarities: `similarity.path` says from when on.

    Args:
        a: projections of one view.
        b: projections of the other, row by row.
        temperature: τ, above 0.
        negatives: how many of the 2n − 2 there are, from 0 to n − 1; all unless given.
        keep_positive: whether the positive stays in the sum.

    Returns:
        a scalar, ≥ 0 with the positive in the sum; log(2n − 1) when all similarities are equal.

    Raises:
        UserError: (a ValueError) the shapes differ, the temperature is not positive, or there are
            not that many negatives.
    """
    if negatives is not None and not 0 <= negatives < len(a):
        raise UserError(f"{len(a)} pairs have 0 to {len(a) - 1} negatives, not {negatives}")
    z = F.normalize(torch.cat([a, b]), dim=1) / temperature**0.5  # (2n, d)
    za, zb = z.chunk(2)
    positive = (za * zb).sum(1)  # (n,), the same for i→j and j→i
    if negatives == 0:
        return -positive.mean()
    if negatives is not None:
        other = torch.cat([zb, za])  # (2n, d)
        follow = (torch.arange(len(a))[:, None] + torch.arange(1, negatives + 1)) % len(a)
        rows = torch.cat([follow, follow + len(a)]).to(z.device)  # (2n, negatives)
        similarity = torch.einsum("nd,nkd->nk", z, other[rows])
        if keep_positive:
            similarity = torch.cat([similarity, positive.repeat(2)[:, None]], 1)
        sums = similarity.logsumexp(1)
    elif keep_positive:
        sums = log_sums(z, which="others")
    else:
        sums = log_sums(z, which="different", y=torch.arange(len(a), device=z.device).repeat(2))
    return sums.mean() - positive.mean()


@objective()
def info_nce(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    temperature: float = 0.2,
    negatives: Float[Tensor, "k d"] | None = None,
    rows: Int[Tensor, " n"] | None = None,
    negative_rows: Int[Tensor, " k"] | None = None,
) -> Float[Tensor, ""]:
    """Which of some candidates belongs to the query? (van den Oord et al. 2018, eq. 4.)

    −log( exp(a_i·b_i/τ) / Σ_k exp(a_i·k/τ) ), the mean over i; a and b are taken as they are, so
    normalize them for cosines. The candidates of query i are b_i and the `negatives`, such as
    MoCo's queue (He et al. 2020, eq. 1); without any, all rows of b. Large batches hold no matrix.

    Args:
        a: queries.
        b: their keys, row by row.
        temperature: τ, above 0.
        negatives: keys of other images; b_i must not be among them, unless rows are given.
        rows: which image each query is of. A negative of the same image is left out of that query's
            candidates, and of no other's. The (n, k) similarities are then held.
        negative_rows: which image each negative is of; needed with `rows`.

    Returns:
        a scalar ≥ 0; the logarithm of the number of candidates where all are alike.

    Raises:
        UserError: (a ValueError) one of `rows` and `negative_rows` is given without the other, or
            without negatives.
    """
    if len({rows is None, negative_rows is None}) == 2 or (rows is not None and negatives is None):
        raise UserError("rows and negative_rows go together, and with negatives; give all three")
    positive = (a * b).sum(1) / temperature  # (n,)
    if negatives is None:
        return log_sums(a / temperature, b).mean() - positive.mean()
    if rows is None or negative_rows is None:
        others = log_sums(a / temperature, negatives)
    else:
        own = rows[:, None] == negative_rows  # (n, k)
        others = (a / temperature @ negatives.T).masked_fill(own, NONE).logsumexp(1)
    return (torch.logaddexp(positive, others) - positive).mean()


@objective()
def clip(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    scale: float | Tensor = 1 / 0.07,
    same_a: Int[Tensor, " n"] | None = None,
    same_b: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """InfoNCE both ways, averaged, at a temperature that may be learned (Radford 2021, figure 3).

    Half the cross-entropy of the rows of s·a bᵀ and half that of its columns; pair i is the answer
    to row i and to column i. Equal partners are no negatives: where rows i and j are equal in one
    sense, j is as right an answer to i as i itself, and the target is spread evenly over them (as
    over a class in Yang et al. 2022, UniCL, eq. 3). The target's entropy is taken off, which
    changes no gradient, so that 0 remains the best there is. Where no rows are equal this is
    open_clip's formula.

    Args:
        a: unit vectors of one sense.
        b: those of the other, row by row.
        scale: s = 1/τ.
        same_a: a number for each row of a, the same where they show the same; all differ unless
            given.
        same_b: likewise for the rows of b.

    Returns:
        a scalar ≥ 0; log n where all are alike and no rows are equal.
    """
    a = a * scale
    if same_a is None and same_b is None:
        positive = (a * b).sum(1)
        return ((log_sums(a, b) + log_sums(b, a)) / 2 - positive).mean()
    each = torch.arange(len(a), device=a.device)
    of_a, of_b = (each if same is None else same for same in (same_a, same_b))
    both = torch.stack([of_a, of_b], 1).unique(dim=0, return_inverse=True)[1]
    one = torch.ones_like(a[:, :1])
    count = _positives(one, of_a, of_b, both)  # (n, 1)
    to_b = (a * _positives(b, of_a, of_b, both) / count).sum(1)
    to_a = (b * _positives(a, of_a, of_b, both) / count).sum(1)
    loss = log_sums(a, b) - to_b + log_sums(b, a) - to_a
    return (loss / 2 - count[:, 0].log()).mean()


def _positives(x: Tensor, of_a: Tensor, of_b: Tensor, both: Tensor) -> Tensor:
    """Sum of the rows of x (n, d) that are equal to each row in either sense: (n, d)."""

    def sums(same: Tensor) -> Tensor:
        numbers, row = same.unique(return_inverse=True)
        return x.new_zeros(len(numbers), x.shape[1]).index_add(0, row, x)[row]

    return sums(of_a) + sums(of_b) - sums(both)


@objective()
def n_pair(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], regularization: float = 0.0
) -> Float[Tensor, ""]:
    """Multi-class N-pair: log(1 + Σ_{j≠i} exp(a_i·b_j − a_i·b_i)) (Sohn 2016, eq. 7).

    The mean over i of n pairs from n classes. It is InfoNCE at τ = 1, not normalized, for which the
    paper keeps the lengths of the rows small.

    Args:
        a: anchors.
        b: their positives, row by row.
        regularization: weight of the mean squared length of the rows of a and of b, added; the
            paper's section 3.2.2. TensorFlow's code takes a quarter of it, times 0.002.

    Returns:
        a scalar ≥ 0.
    """
    lengths = a.pow(2).sum(1).mean() + b.pow(2).sum(1).mean()
    return (log_sums(a, b) - (a * b).sum(1)).mean() + regularization * lengths


@objective()
def nce(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    temperature: float = 0.1,
    negatives: Float[Tensor, "k d"] | None = None,
    log_partition: float | Tensor = 0.0,
) -> Float[Tensor, ""]:
    """Is this the true key or noise? (Gutmann, Hyvärinen 2010, eq. 1–3; 2012 for k to one.)

    −log h(a_i, b_i) − Σ_k log(1 − h(a_i, noise_k)), the mean over i, where h = σ(G − log k) and
    G = a·b/τ − c is the logarithm of the model's density over the noise's. Noise are the
    `negatives`; without any, the other rows of b, so that k is n − 1.

    Args:
        a: queries.
        b: their keys, row by row.
        temperature: τ, above 0.
        negatives: keys drawn as noise.
        log_partition: c, the logarithm of the normalization; a tensor learns it as the paper does.

    Returns:
        a scalar ≥ 0.
    """
    noise = a @ (b if negatives is None else negatives).T / temperature - log_partition
    k = noise.shape[1] - (negatives is None)
    shift = math.log(max(1, k))
    costs = F.softplus(noise - shift)  # −log(1 − h)
    if negatives is None:
        costs = costs.masked_fill(torch.eye(len(a), dtype=torch.bool, device=a.device), 0)
    true = (a * b).sum(1) / temperature - log_partition - shift
    return (F.softplus(-true) + costs.sum(1)).mean()


@objective()
def hinge(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    negatives: Float[Tensor, "n k d"] | None = None,
) -> Float[Tensor, ""]:
    """max(0, 1 − a_i·b_i) + the mean over k of max(0, 1 + a_i·b_k); CPC's question with a hinge.

    Illing, Ventura, Bellec, Gerstner 2021 (CLAPP), eq. 3, where a is W c, the prediction, b what
    came, and one negative is drawn; they weight neither. Without `negatives` all other rows of b
    are taken.

    Args:
        a: predictions.
        b: what came, row by row.
        negatives: what came elsewhere, for each row.

    Returns:
        a scalar ≥ 0, the mean over i.
    """
    near = (1 - (a * b).sum(1)).relu()
    if negatives is not None:
        far = (1 + torch.einsum("nd,nkd->nk", a, negatives)).relu().sum(1)
        far = far / max(1, negatives.shape[1])
        return (near + far).mean()
    itself = torch.eye(len(a), dtype=torch.bool, device=a.device)
    far = (1 + a @ b.T).relu().masked_fill(itself, 0).sum(1) / max(1, len(a) - 1)
    return (near + far).mean()


@objective()
def dino(
    a: Float[Tensor, "n k"], b: Float[Tensor, "n k"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Cross-entropy of a student with its teacher: −Σ_k b_k log softmax(a/τ)_k (Caron 2021, eq. 1).

    Args:
        a: the student's scores.
        b: the teacher's probabilities (rows ≥ 0 of sum 1), centered and sharpened by the caller.
        temperature: τ of the student.

    Returns:
        a scalar, at least the teacher's entropy.
    """
    return F.cross_entropy(a / temperature, b)


@objective()
def cosine_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """‖a/‖a‖ − b/‖b‖‖² = 2 − 2 cos(a, b), the mean over rows (BYOL, Grill et al. 2020, eq. 2).

    BYOL adds both directions. SimSiam's −cos (Chen, He 2021, eq. 1) is half of this, less 1.
    """
    return (2 - 2 * F.cosine_similarity(a, b, dim=1)).mean()


@objective(least=2)
def vicreg(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Float[Tensor, ""]:
    """Alike, yet spread out and without redundancy (Bardes, Ponce, LeCun 2022, eq. 1–6).

    The conventions are those of the authors' code, with which the published coefficients were
    found: the invariance term is the mean over rows and dimensions, where eq. 5 has the mean over
    rows of the squared distance; the variance terms of both views are averaged, where eq. 6 adds
    them. So the paper's λ, μ, ν are here λ·d, 2μ, ν.

    Args:
        a: projections of one view.
        b: projections of the other, row by row.
        invariance: weight of the mean squared difference.
        variance: weight of max(0, 1 − σ), σ the standard deviation √(var + 1e-4) of a dimension
            (not its variance, whose gradient would vanish at collapse).
        covariance: weight of Σ_{i≠j} C_ij² / d, added for both views; C is centered, over n − 1.
    """
    alike = F.mse_loss(a, b)
    spread = (_hinge(a) + _hinge(b)) / 2
    redundancy = _off_diagonal(a) + _off_diagonal(b)
    return invariance * alike + variance * spread + covariance * redundancy


def _hinge(z: Tensor) -> Tensor:
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def _off_diagonal(z: Tensor) -> Tensor:
    z = z - z.mean(0)
    c = z.T @ z / (len(z) - 1)  # (d, d)
    return (c.pow(2).sum() - c.diagonal().pow(2).sum()) / z.shape[1]


@objective(least=2)
def barlow_twins(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], redundancy: float = 5e-3
) -> Float[Tensor, ""]:
    """Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij² (Zbontar et al. 2021, eq. 1).

    C is the correlation of dimensions of one view with those of the other over the batch, with
    deviations over n, as BatchNorm has them and the authors' code does.

    Args:
        a: projections of one view.
        b: projections of the other, row by row.
        redundancy: λ.
    """
    a, b = (F.batch_norm(z, None, None, training=True) for z in (a, b))
    c = a.T @ b / len(a)  # (d, d)
    alike = (1 - c.diagonal()).pow(2).sum()
    return alike + redundancy * (c.pow(2).sum() - c.diagonal().pow(2).sum())
