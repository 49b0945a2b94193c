"""Local learning rules: CLAPP's update of a layer, and a classifier that learns from reward."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unlabeled.objectives.precision import full_precision
from unlabeled.objectives.predictive import as_sequence


class PredictionStep(NamedTuple):
    """One prediction of a layer's activity from its own."""

    ahead: int  #: k, rows
    weight: Tensor  #: W_k, (D, D)
    shift: int  #: the negative (y = −1) is the image this number of rows later in the batch


@full_precision
def clapp_hinge(z: Float[Tensor, "b d r s"], steps: Sequence[PredictionStep]) -> Tensor:
    """CLAPP's loss, the mean over signs, positions and steps of max(0, 1 − y·u).

    Args:
        z: (B, D, R, S) activity of a layer on a grid of R rows and S columns.
        steps: the predictions.

    Source: Illing, Ventura, Bellec, Gerstner 2021, eq. 3.
    """
    losses = []
    for k, weight, shift in steps:
        predicted, target = as_sequence(z[:, :, :-k]) @ weight.T, as_sequence(z[:, :, k:])
        u = (predicted * target).sum(2)  # (B, positions)
        u_negative = (predicted * target.roll(-shift, 0)).sum(2)
        losses.append(((1 - u).relu().mean() + (1 + u_negative).relu().mean()) / 2)
    return torch.stack(losses).mean()


def apical_signals(
    z: Float[Tensor, "b d r s"], steps: Sequence[PredictionStep]
) -> tuple[Tensor, Float[Tensor, "b d r s"], list[Float[Tensor, "d d"]]]:
    """CLAPP's loss, the apical signal of each neuron, and the updates of the lateral weights.

    With u = z·W_k·c and γ = y where y·u < 1, else 0, the apical signal is γ (W_k c) for the neuron
    of z and γ (W_kᵀ z) for that of c, and ΔW_k = γ z cᵀ. Each is averaged over positions, signs and
    steps, so that their sum is the negative gradient of the mean hinge loss. As in the paper's
    CLAPP-s, feedback uses W_kᵀ; its plain CLAPP has separate feedback weights.

    Args:
        z: (B, D, R, S) activity of a layer on a grid of R rows and S columns.
        steps: the predictions.

    Returns:
        the mean hinge loss, the apical signal (B, D, R, S), and ΔW_k (D, D) of each step.

    Source: Illing, Ventura, Bellec, Gerstner 2021, eq. 6–8.
    """
    apical, updates = torch.zeros_like(z), []
    loss = z.new_zeros(())
    for k, weight, shift in steps:
        c, positive = z[:, :, :-k], z[:, :, k:]
        negative = positive.roll(-shift, 0)
        predicted = torch.einsum("ij,bjrs->birs", weight, c)
        u, u_negative = ((predicted * b).sum(1, keepdim=True) for b in (positive, negative))
        share = 1 / (2 * len(steps) * u.numel())
        gamma = share * (u < 1).to(z)  # of y = 1
        gamma_negative = -share * (u_negative > -1).to(z)  # of y = −1
        loss += share * ((1 - u).relu() + (1 + u_negative).relu()).sum()
        gated = gamma * positive + gamma_negative * negative
        apical[:, :, k:] += gamma * predicted + (gamma_negative * predicted).roll(shift, 0)
        apical[:, :, :-k] += torch.einsum("ij,birs->bjrs", weight, gated)
        updates.append(torch.einsum("birs,bjrs->ij", gated, c))
    return loss, apical, updates


def local_update(
    pre: Float[Tensor, "n c h w"],
    post: Float[Tensor, "n d h2 w2"],
    apical: Float[Tensor, "n d"],
    convolution: nn.Conv2d,
) -> tuple[Float[Tensor, "d c k k2"], Float[Tensor, " d"]]:
    """CLAPP's local learning rule: ΔW and Δb = Σ pre · ρ'(post) · apical signal, with ρ = ReLU.

    The activity of a neuron is the mean over the positions of its patch, which share the signal.

    Args:
        pre: (N, C, H, W) input of the convolution.
        post: (N, D, H', W') its output after ReLU.
        apical: (N, D) from `apical_signals`, which includes γ.
        convolution: the layer, for its kernel size, stride and padding.
    """
    size: tuple[int, int] = convolution.kernel_size  # type: ignore[assignment]
    padding: tuple[int, int] = convolution.padding  # type: ignore[assignment]
    unfolded = F.unfold(pre, size, padding=padding, stride=convolution.stride)
    positions = post.shape[2] * post.shape[3]
    active = (post > 0).to(pre.dtype).flatten(2) * apical[:, :, None] / positions
    update = torch.einsum("ndp,ncp->dc", active, unfolded)
    return update.view_as(convolution.weight), active.sum((0, 2))


def learn_from_reward(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    *,
    passes: int = 20,
    rate: float = 0.05,
    seed: int = 0,
) -> Float[np.ndarray, "e k"]:
    """Train a linear classifier by a three-factor rule that sees rewards instead of classes.

    One neuron per class, of which one is drawn by softmax; then ΔW = rate · (reward − expected) ·
    (drawn − probability) · input, where `expected` is a running mean of the reward.

    Args:
        z: (N, d) features, standardized here.
        y: (N,) classes from 0 on; they only define the reward, 1 if the drawn class is right.
        passes: over all rows, in a new order each.
        rate: of the first pass; it falls linearly to 0.
        seed: of the order and the draws.

    Returns:
        weights (d + 1, k) for features as given, the last row for a constant input.

    Source: Williams 1992, eq. 6; Frémaux, Gerstner 2016.
    """
    mean, deviation = z.mean(0), z.std(0) + 1e-6
    x = np.concatenate([(z - mean) / deviation, np.ones((len(z), 1))], 1) / z.shape[1] ** 0.5
    rng = np.random.default_rng(seed)
    k = int(y.max()) + 1
    weight, expected = np.zeros((x.shape[1], k)), 1 / k
    for epoch in range(passes):
        for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // 16)):
            logits = x[rows] @ weight
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            drawn = (p.cumsum(1) > rng.random((len(rows), 1))).argmax(1)
            reward = (drawn == y[rows]).astype(float)
            surprise = (reward - expected)[:, None]
            weight += rate * (1 - epoch / passes) * x[rows].T @ (surprise * (np.eye(k)[drawn] - p))
            expected += 0.05 * (reward.mean() - expected)
    weight /= z.shape[1] ** 0.5
    weight[:-1] /= deviation[:, None]
    weight[-1] -= mean @ weight[:-1]
    return weight


def predict_class(
    z: Float[np.ndarray, "n d"], weight: Float[np.ndarray, "e k"]
) -> Int[np.ndarray, " n"]:
    """Classes (N,) of features (N, d), by the weights of `learn_from_reward`."""
    return (z @ weight[:-1] + weight[-1]).argmax(1)
