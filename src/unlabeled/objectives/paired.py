"""Objectives of two views: row i of `a` (n, d) and row i of `b` (n, d) are a positive pair.

Each returns a scalar, the mean over i, ≥ 0 where nothing else is said.
"""

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
    """Normalized temperature-scaled cross-entropy loss (NT-Xent), SimCLR's loss.

    ℓ(i, j) = −log( exp(s_ij/τ) / Σ_{k≠i} exp(s_ik/τ) ), s the cosine similarity, k over all 2n
    views; the mean over the 2n ordered pairs. The sum excludes the view itself but includes its
    positive. Google's code adds the means of both directions, which is twice this; lightly and
    solo-learn return this value. Large batches need no matrix of similarities (see
    `similarity.backend`).

    Args:
        temperature: τ > 0.
        negatives: number of negatives, from 0 to n − 1: the other views of as many images that
            follow in the batch, whose order is random. All 2n − 2 by default; with 0 only the
            attraction −s_ij/τ remains, which collapses.
        keep_positive: whether the sum includes the positive. The lecture tutorial's code with two
            negatives excludes it, as does decoupled contrastive learning (Yeh et al. 2022); the
            loss may then be negative.

    Returns:
        a scalar, ≥ 0 if the positive is in the sum; log(2n − 1) if all similarities are equal.

    Raises:
        UserError: (a ValueError) the shapes differ, the temperature is not positive, or there are
            not that many negatives.

    Source: Chen et al. 2020, eq. 1 and algorithm 1.
    """
    if negatives is not None and not 0 <= negatives < len(a):
        raise UserError(f"{len(a)} pairs have 0 to {len(a) - 1} negatives, not {negatives}")
    z = F.normalize(torch.cat([a, b]), dim=1) / temperature**0.5  # (2n, d)
    za, zb = z.chunk(2)
    positive = (za * zb).sum(1)  # (n,), the same for i→j and j→i
    if negatives == 0 or (len(a) == 1 and not keep_positive):
        return -positive.mean()
    if negatives is not None:
        other = torch.cat([zb, za])  # (2n, d)
        follow = (torch.arange(len(a))[:, None] + torch.arange(1, negatives + 1)) % len(a)
        rows = torch.cat([follow, follow + len(a)]).to(z.device)  # (2n, negatives)
        similarity = (z @ other.T).gather(1, rows)  # (2n, negatives)
        if keep_positive:
            similarity = torch.cat([similarity, positive.repeat(2)[:, None]], 1)
        sums = similarity.logsumexp(1)
    elif keep_positive:
        sums = log_sums(z, which="others")
    else:
        sums = log_sums(z, which="different", y=torch.arange(len(a), device=z.device).repeat(2))
    return sums.mean() - positive.mean()


@objective(least=2)
def dclw(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], temperature: float = 0.1, sigma: float = 0.5
) -> Float[Tensor, ""]:
    """Weighted decoupled contrastive loss (DCLW), of at least 2 rows.

    `nt_xent` without the positive in the sum (DCL), whose attraction −s_i/τ of pair i has the
    weight 2 − exp(s_i/σ) / mean_j exp(s_j/σ): more where the views are far from each other. The
    weight has a gradient, as in the authors' code.

    Args:
        temperature: τ > 0.
        sigma: σ > 0.

    Source: Yeh et al. 2022, eq. 6 and section 3.2.
    """
    s = F.cosine_similarity(a, b, dim=1)
    weight = 2 - len(s) * (s / sigma).softmax(0)
    dcl = nt_xent(a, b, temperature, keep_positive=False)
    return dcl + ((1 - weight) * s).mean() / temperature


@objective()
def info_nce(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    temperature: float = 0.2,
    negatives: Float[Tensor, "k d"] | None = None,
    rows: Int[Tensor, " n"] | None = None,
    negative_rows: Int[Tensor, " k"] | None = None,
) -> Float[Tensor, ""]:
    """InfoNCE: cross-entropy of the positive key among all candidates of a query.

    −log( exp(a_i·b_i/τ) / Σ_k exp(a_i·k/τ) ), the mean over i. a and b are not normalized here. The
    candidates of query i are b_i and the `negatives`, such as MoCo's queue (He et al. 2020, eq. 1);
    without any, all rows of b. Large batches need no matrix of similarities.

    Args:
        a: (n, d) queries.
        b: (n, d) their keys.
        temperature: τ > 0.
        negatives: (k, d) keys of other images; b_i must not be among them, unless rows are given.
        rows: (n,) the image of each query. A negative of the same image is excluded from that
            query's candidates only. This computes the (n, k) matrix of similarities.
        negative_rows: (k,) the image of each negative; required with `rows`.

    Returns:
        a scalar ≥ 0; the logarithm of the number of candidates if all are equal.

    Raises:
        UserError: (a ValueError) one of `rows` and `negative_rows` is given without the other, or
            without negatives.

    Source: van den Oord, Li, Vinyals 2018, eq. 4.
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
    """CLIP's loss: symmetric InfoNCE at a temperature that may be learned.

    The mean of the cross-entropies of the rows and of the columns of s·a bᵀ, whose targets lie on
    the diagonal. Equal samples are no negatives: if the samples of rows i and j are equal in one
    modality, both are targets of each other, with equal probability (as the samples of a class in
    Yang et al. 2022, UniCL, eq. 3). The target's entropy, a constant, is subtracted, so that the
    minimum is 0. Without equal samples this is open_clip's formula.

    Args:
        a: (n, d) unit vectors of one modality.
        b: (n, d) unit vectors of the other.
        scale: s = 1/τ.
        same_a: (n,) identities of the samples of a; all differ by default.
        same_b: (n,) identities of the samples of b.

    Returns:
        a scalar ≥ 0; log n if all vectors are equal and all samples differ.

    Source: Radford et al. 2021, figure 3.
    """
    a = a * scale
    if same_a is None and same_b is None:
        positive = (a * b).sum(1)
        return ((log_sums(a, b) + log_sums(b, a)) / 2 - positive).mean()
    rows = torch.arange(len(a), device=a.device)
    of_a, of_b = (rows if same is None else same for same in (same_a, same_b))
    both = torch.stack([of_a, of_b], 1).unique(dim=0, return_inverse=True)[1]
    ones = torch.ones_like(a[:, :1])
    count = _positives(ones, of_a, of_b, both)  # (n, 1)
    to_b = (a * _positives(b, of_a, of_b, both) / count).sum(1)
    to_a = (b * _positives(a, of_a, of_b, both) / count).sum(1)
    loss = log_sums(a, b) - to_b + log_sums(b, a) - to_a
    return (loss / 2 - count[:, 0].log()).mean()


def _positives(x: Tensor, of_a: Tensor, of_b: Tensor, both: Tensor) -> Tensor:
    """For each row the sum of the rows of x (n, d) of equal samples in either modality: (n, d)."""

    def sums(same: Tensor) -> Tensor:
        numbers, row = same.unique(return_inverse=True)
        return x.new_zeros(len(numbers), x.shape[1]).index_add(0, row, x)[row]

    return sums(of_a) + sums(of_b) - sums(both)


@objective()
def siglip(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    scale: float | Tensor = 10.0,
    bias: float | Tensor = -10.0,
    same_a: Int[Tensor, " n"] | None = None,
    same_b: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """SigLIP's loss: each of the n² pairs of rows is classified by itself, as matching or not.

    −1/n Σ_i Σ_j log σ(z_ij (t·a_i·b_j + c)), z_ij = 1 on the diagonal and −1 elsewhere: a sum over
    j, of which the mean over i is taken. No row is normalized by the others. As in `clip`, samples
    that are equal in one modality match each other; big_vision and open_clip do not look for such.

    Args:
        a: (n, d) unit vectors of one modality.
        b: (n, d) unit vectors of the other.
        scale: t > 0, usually learned.
        bias: c, usually learned; at −10 all pairs are first taken for not matching, as most are.
        same_a: (n,) identities of the samples of a; all differ by default.
        same_b: (n,) identities of the samples of b.

    Source: Zhai, Mustafa, Kolesnikov, Beyer 2023, section 3.2 and algorithm 1.
    """
    matches = torch.eye(len(a), dtype=torch.bool, device=a.device)
    for same in (same_a, same_b):
        if same is not None:
            matches = matches | (same[:, None] == same)
    logits = scale * a @ b.T + bias  # (n, n)
    return F.softplus(torch.where(matches, -logits, logits)).sum(1).mean()


@objective()
def n_pair(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], regularization: float = 0.0
) -> Float[Tensor, ""]:
    """Multi-class N-pair loss: log(1 + Σ_{j≠i} exp(a_i·b_j − a_i·b_i)).

    The mean over n pairs of n classes. It is InfoNCE of rows that are not normalized at τ = 1.

    Args:
        a: (n, d) anchors.
        b: (n, d) their positives.
        regularization: weight of the mean squared norm of the rows of a and of b (section 3.2.2).
            TensorFlow's code uses a quarter of it, times 0.002.

    Source: Sohn 2016, eq. 7.
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
    """Noise-contrastive estimation (NCE): binary classification of the true key and noise.

    −log h(a_i, b_i) − Σ_k log(1 − h(a_i, noise_k)), the mean over i, where h = σ(G − log k) and
    G = a·b/τ − c is the log-ratio of the densities of the model and the noise. The noise samples
    are the `negatives`; without any, the other rows of b, so that k is n − 1.

    Args:
        a: (n, d) queries.
        b: (n, d) their keys.
        temperature: τ > 0.
        negatives: (k, d) keys drawn as noise.
        log_partition: c, the logarithm of the partition function; a tensor is learned, as in the
            paper.

    Source: Gutmann, Hyvärinen 2010, eq. 1–3; 2012 for k noise samples.
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
    """Hinge loss of CLAPP: max(0, 1 − a_i·b_i) + the mean over k of max(0, 1 + a_i·b_k).

    In the paper a is a prediction W c, b the activity that it predicts, and one negative is drawn.

    Args:
        a: (n, d) predictions.
        b: (n, d) their positives.
        negatives: (n, k, d) of each row; all other rows of b by default.

    Source: Illing, Ventura, Bellec, Gerstner 2021, eq. 3.
    """
    near = (1 - (a * b).sum(1)).relu()
    if negatives is None:
        itself = torch.eye(len(a), dtype=torch.bool, device=a.device)
        far = (1 + a @ b.T).relu().masked_fill(itself, 0).sum(1) / max(1, len(a) - 1)
    else:
        far = (1 + torch.einsum("nd,nkd->nk", a, negatives)).relu().sum(1)
        far = far / max(1, negatives.shape[1])
    return (near + far).mean()


@objective()
def dino(
    a: Float[Tensor, "n k"], b: Float[Tensor, "n k"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """DINO's loss: cross-entropy of student and teacher, −Σ_k b_k log softmax(a/τ)_k.

    Args:
        a: (n, k) logits of the student.
        b: (n, k) probabilities of the teacher, centered and sharpened by the caller.
        temperature: τ of the student.

    Returns:
        a scalar, at least the teacher's entropy.

    Source: Caron et al. 2021, eq. 1.
    """
    return F.cross_entropy(a / temperature, b)


@objective()
def cosine_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """BYOL's loss ‖a/‖a‖ − b/‖b‖‖² = 2 − 2 cos(a, b), the mean over rows.

    BYOL adds both directions. SimSiam's −cos (Chen, He 2021, eq. 1) is half of this, minus 1.

    Args:
        a: (n, d) predictions.
        b: (n, d) targets.

    Returns:
        a scalar from 0 to 4.

    Source: Grill et al. 2020, eq. 2.
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
    """Variance-invariance-covariance regularization (VICReg), of at least 2 rows.

    The conventions are those of the authors' code, for which the published coefficients were tuned:
    the invariance term is the mean over rows and dimensions, where eq. 5 has the mean over rows of
    the squared distance; the variance terms of both views are averaged, where eq. 6 adds them. The
    paper's λ, μ, ν are thus λ·d, 2μ, ν here.

    Args:
        invariance: weight of the mean squared difference.
        variance: weight of max(0, 1 − σ), σ the standard deviation √(var + 1e-4) of a dimension
            (not its variance, whose gradient would vanish at collapse).
        covariance: weight of Σ_{i≠j} C_ij² / d, added for both views; C is centered, over n − 1.

    Source: Bardes, Ponce, LeCun 2022, eq. 1–6.
    """
    difference = F.mse_loss(a, b)
    spread = (_variance_hinge(a) + _variance_hinge(b)) / 2
    redundancy = _off_diagonal(a) + _off_diagonal(b)
    return invariance * difference + variance * spread + covariance * redundancy


def _variance_hinge(z: Tensor) -> Tensor:
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def _off_diagonal(z: Tensor) -> Tensor:
    z = z - z.mean(0)
    c = z.T @ z / (len(z) - 1)  # (d, d)
    return (c.pow(2).sum() - c.diagonal().pow(2).sum()) / z.shape[1]


@objective(least=2)
def barlow_twins(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], redundancy: float = 5e-3
) -> Float[Tensor, ""]:
    """Barlow Twins loss of at least 2 rows: Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij².

    C is the cross-correlation matrix of the dimensions of both views over the batch, with standard
    deviations over n, as in BatchNorm and the authors' code.

    Args:
        redundancy: λ.

    Source: Zbontar et al. 2021, eq. 1.
    """
    a, b = (F.batch_norm(z, None, None, training=True) for z in (a, b))
    c = a.T @ b / len(a)  # (d, d)
    invariance = (1 - c.diagonal()).pow(2).sum()
    return invariance + redundancy * (c.pow(2).sum() - c.diagonal().pow(2).sum())
