"""Local learning rules: what changes a weight is known where the weight is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class PredictionStep(NamedTuple):
    """What one set of lateral weights predicts."""

    ahead: int  #: k, rows
    weight: Tensor  #: W_k, (D, D)
    shift: int  #: the image so many rows on in the batch is the other one (y = −1)


def apical_signals(
    z: Float[Tensor, "b d r s"], steps: Sequence[PredictionStep]
) -> tuple[Tensor, Float[Tensor, "b d r s"], list[Float[Tensor, "d d"]]]:
    """What lateral weights tell each neuron in CLAPP, and how they change themselves.

    With u = z·W_k·c and γ = y where y·u < 1, else 0 (Illing et al. 2021, eq. 6–8):
    the neuron of z hears γ (W_k c), that of c hears γ (W_kᵀ z), and ΔW_k = γ z cᵀ. Each is averaged
    over places, signs and steps, so that their sum is the negative gradient of the mean hinge. The
    paper's plain CLAPP has weights of their own for the way back; its CLAPP-s, as here, Wᵀ.

    Args:
        z: a layer's activity in places of R rows and S columns.
        steps: how far ahead, by which weights, against which other image.

    Returns:
        the mean hinge, what each neuron hears in each place, and ΔW of each step.
    """
    heard, changes = torch.zeros_like(z), []
    loss = z.new_zeros(())
    for k, weight, shift in steps:
        c, came = z[:, :, :-k], z[:, :, k:]
        other = came.roll(-shift, 0)
        predicted = torch.einsum("ij,bjrs->birs", weight, c)
        near, far = ((predicted * b).sum(1, keepdim=True) for b in (came, other))  # u
        share = 1 / (2 * len(steps) * near.numel())
        gate, off = share * (near < 1).to(z), -share * (far > -1).to(z)  # γ for y = 1 and y = −1
        loss += share * ((1 - near).relu() + (1 + far).relu()).sum()
        seen = gate * came + off * other
        heard[:, :, k:] += gate * predicted + (off * predicted).roll(shift, 0)
        heard[:, :, :-k] += torch.einsum("ij,birs->bjrs", weight, seen)
        changes.append(torch.einsum("birs,bjrs->ij", seen, c))
    return loss, heard, changes


def local_update(
    pre: Float[Tensor, "n c h w"],
    post: Float[Tensor, "n d h2 w2"],
    apical: Float[Tensor, "n d"],
    convolution: nn.Conv2d,
) -> tuple[Float[Tensor, "d c k k2"], Float[Tensor, " d"]]:
    """ΔW and Δb = Σ pre · ρ'(post) · what the neuron hears; ρ is ReLU.

    The activity of a neuron is the mean over the places of its patch, each of which hears the same.

    Args:
        pre: what the convolution sees.
        post: what ReLU makes of it.
        apical: from `apical_signals`, γ already in it.
        convolution: whose kernel, stride and padding are meant.
    """
    size: tuple[int, int] = convolution.kernel_size  # type: ignore[assignment]
    padding: tuple[int, int] = convolution.padding  # type: ignore[assignment]
    seen = F.unfold(pre, size, padding=padding, stride=convolution.stride)
    places = post.shape[2] * post.shape[3]
    active = (post > 0).to(pre.dtype).flatten(2) * apical[:, :, None] / places
    change = torch.einsum("ndp,ncp->dc", active, seen)
    return change.view_as(convolution.weight), active.sum((0, 2))


def learn_from_reward(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    *,
    passes: int = 20,
    rate: float = 0.05,
    seed: int = 0,
) -> Float[np.ndarray, "e k"]:
    """A read-out that is never told the answer, only whether its own was right.

    One neuron a class, of which one is drawn by softmax; then ΔW = rate · (reward − expected) ·
    (drawn − probability) · input: a three-factor rule of what came in, what was done, and a
    global signal (Williams 1992, eq. 6; Frémaux, Gerstner 2016). `expected` is a running mean.

    Args:
        z: features, standardized here.
        y: classes from 0 on; used for the reward alone, 1 where the draw is right, else 0.
        passes: over all rows, in new order each.
        rate: of the first pass; it falls linearly to 0.
        seed: of order and draws.

    Returns:
        weights (d + 1, k), the last row for a constant input, for features as they were given.
    """
    mean, deviation = z.mean(0), z.std(0) + 1e-6
    x = np.concatenate([(z - mean) / deviation, np.ones((len(z), 1))], 1) / z.shape[1] ** 0.5
    rng = np.random.default_rng(seed)
    k = int(y.max()) + 1
    weight, expected = np.zeros((x.shape[1], k)), 1 / k
    for done in range(passes):
        for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // 16)):
            drive = x[rows] @ weight
            p = np.exp(drive - drive.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            done_by = (p.cumsum(1) > rng.random((len(rows), 1))).argmax(1)
            reward = (done_by == y[rows]).astype(float)
            surprise = (reward - expected)[:, None]
            weight += rate * (1 - done / passes) * x[rows].T @ (surprise * (np.eye(k)[done_by] - p))
            expected += 0.05 * (reward.mean() - expected)
    weight /= z.shape[1] ** 0.5
    weight[:-1] /= deviation[:, None]
    weight[-1] -= mean @ weight[:-1]
    return weight


def predict_class(
    z: Float[np.ndarray, "n d"], weight: Float[np.ndarray, "e k"]
) -> Int[np.ndarray, " n"]:
    """The class whose neuron is driven most, (n,)."""
    return (z @ weight[:-1] + weight[-1]).argmax(1)
