"""Restricted Boltzmann machine: hidden units that explain images, and dream of them.

Hinton 2002, "Training Products of Experts by Minimizing Contrastive Divergence"; its likelihood by
annealed importance sampling, Salakhutdinov, Murray 2008.
"""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.dense import SigmoidLayer
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.parallel import gather


class RBM(Method):
    """Pixels are probabilities of black and white; binary hidden units are the features.

    The energy of pixels v and hidden units h is −hᵀWv − aᵀv − bᵀh. The loss is the difference of
    the free energies of images and of what the machine makes of them in k steps, whose gradient
    is that of contrastive divergence; `persistent` chains go on from step to step (Tieleman 2008).

    Args:
        steps: k, of Gibbs sampling.
        persistent: how many chains go on; 0 starts anew from each batch.
        shape: channels, height and width of the images; the data set's own unless given.
    """

    default_encoder: ClassVar = {Images: "dense"}
    inexact_across_processes: ClassVar[str] = (
        "samples drawn within the loss differ by process, so gradients agree in expectation only"
    )
    recipe = Recipe(
        epochs=30, batch_size=128, optimizer="sgd", lr=0.01, schedule="one_cycle", weight_decay=1e-4
    )
    recipes: ClassVar = {"fashion_mnist": {"epochs": 15}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        steps: int = 1,
        persistent: int = 0,
        shape: tuple[int, int, int] = (1, 28, 28),
    ) -> None:
        super().__init__(encoder)
        layers = list(getattr(encoder, "stages", []))
        if len(layers) != 1 or not isinstance(layers[0], SigmoidLayer):
            raise UserError("an rbm is one layer: use --encoder dense with one width")
        self.hidden: nn.Linear = layers[0].linear
        nn.init.normal_(self.hidden.weight, std=0.01)
        nn.init.zeros_(self.hidden.bias)
        self.visible_bias = nn.Parameter(torch.zeros(math.prod(shape)))
        self.steps, self.shape = steps, shape
        self.chains: Tensor
        self.register_buffer(
            "chains", torch.bernoulli(torch.full((persistent, math.prod(shape)), 0.5))
        )

    def views(self, batch: Batch) -> Tensor:
        """Pixels drawn black or white by their brightness, (B, pixels)."""
        return torch.bernoulli(batch.x.flatten(1).clamp(0, 1))

    def loss(self, views: Tensor) -> Tensor:
        """Mean free energy of the images less that of the machine's own."""
        with torch.no_grad():
            self.made = self.gibbs(self.chains if len(self.chains) else views, self.steps)
        return self.free_energy(views).mean() - self.free_energy(self.made).mean()

    def update(self) -> None:
        """Chains go on, the same ones in all processes."""
        if len(self.chains):
            self.chains.copy_(gather(self.made)[: len(self.chains)])

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) = −aᵀv − Σ_j log(1 + exp(b_j + W_j v)), p(v) ∝ exp(−F(v)): (B, pixels) -> (B,)."""
        v = v.float()
        with torch.autocast(v.device.type, enabled=False):
            return -v @ self.visible_bias - F.softplus(self.hidden(v)).sum(1)

    def gibbs(self, v: Tensor, steps: int, heat: float = 1.0) -> Tensor:
        """Pixels after some steps of sampling hidden units and pixels in turn.

        Args:
            v: pixels (B, pixels).
            steps: how many.
            heat: inverse temperature β of weights and hidden biases.
        """
        for _ in range(steps):
            h = torch.bernoulli((heat * self.hidden(v).float()).sigmoid())
            v = torch.bernoulli(self.pixels(h, heat))
        return v

    def pixels(self, h: Tensor, heat: float = 1.0) -> Tensor:
        """Probability of white, from hidden units (B, units): (B, pixels)."""
        return (heat * F.linear(h, self.hidden.weight.T).float() + self.visible_bias).sigmoid()

    @torch.no_grad()
    def log_partition(self, chains: int = 100, temperatures: int = 1000) -> float:
        """Log Z by annealed importance sampling from the machine without weights (their eq. 4–7).

        Args:
            chains: independent estimates whose mean is taken.
            temperatures: intermediate distributions.
        """
        start = self.visible_bias.expand(chains, -1)
        v = torch.bernoulli(start.sigmoid())
        units = self.hidden.out_features
        weight = torch.full((chains,), F.softplus(self.visible_bias).sum().item(), device=v.device)
        weight = weight.double() + units * math.log(2)
        heats = torch.linspace(0, 1, temperatures + 1).tolist()
        for cold, warm in itertools.pairwise(heats):
            drive = self.hidden(v).double()
            weight += (F.softplus(warm * drive) - F.softplus(cold * drive)).sum(1)
            v = self.gibbs(v, 1, warm)
        return float(weight.logsumexp(0) - math.log(chains))

    @torch.no_grad()
    def sample(self, number: int, steps: int = 1000) -> Tensor:
        """Probabilities of white (number, C, H, W) after long chains of Gibbs sampling, which begin
        where only the pixels' biases count.
        """
        v = torch.bernoulli(self.visible_bias.sigmoid().expand(number, -1))
        return self.pixels(self.hidden(self.gibbs(v, steps)).float().sigmoid()).view(
            -1, *self.shape
        )

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """Images and what one step makes of them; dreams of long chains; some filters."""
        v = torch.bernoulli(x.flatten(1).clamp(0, 1))
        again = self.pixels(self.hidden(v).float().sigmoid())
        dreams = self.pixels(self.hidden(self.gibbs(v.roll(1, 0), 500)).float().sigmoid())
        weights = self.hidden.weight[: len(x)].float()
        filters = (weights / (2 * weights.abs().amax(1, keepdim=True).clamp(min=1e-6)) + 0.5).clamp(
            0, 1
        )
        return {
            "image and reconstruction": torch.stack([x, again.view_as(x)], 1),
            "samples": dreams.view(-1, 1, *self.shape),
            "filters": filters.view(-1, 1, *self.shape),
        }
