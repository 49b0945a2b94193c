"""Restricted Boltzmann machine trained by contrastive divergence (Hinton 2002).

Hinton 2002, "Training Products of Experts by Minimizing Contrastive Divergence"; likelihood by
annealed importance sampling, Salakhutdinov, Murray 2008, "On the Quantitative Analysis of Deep
Belief Networks".
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.dense import SigmoidLayer
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.parallel import gather


class RBM(Method):
    """Binary visible and hidden units with energy −hᵀWv − aᵀv − bᵀh; p(h|v) are the features.

    Brightness is the probability of a white pixel. The loss is the difference of the free energies
    of images and of samples after k steps of Gibbs sampling (CD-k); its gradient is that of
    contrastive divergence. With persistent chains, sampling continues from step to step (PCD,
    Tieleman 2008).

    Args:
        gibbs_steps: k, steps of Gibbs sampling.
        persistent_chains: number of persistent chains; 0 starts from each batch.
        shape: channels, height and width of the images (default: the data set's).
    """

    modality = (Images,)
    default_encoder = {Images: "dense"}
    inexact_across_processes = (
        "samples drawn within the loss differ by process, so gradients agree in expectation only"
    )
    recipe = Recipe(
        epochs=30, batch_size=128, optimizer="sgd", lr=0.01, schedule="one_cycle", weight_decay=1e-4
    )
    recipes = {"fashion_mnist": {"epochs": 15, "lr": 0.05}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        gibbs_steps: int = 1,
        persistent_chains: int = 0,
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
        self.gibbs_steps, self.shape = gibbs_steps, shape
        self.chains: Tensor
        half = torch.full((persistent_chains, math.prod(shape)), 0.5)
        self.register_buffer("chains", torch.bernoulli(half))

    def views(self, batch: Batch) -> Tensor:
        """Pixels sampled black or white by their brightness, (B, pixels)."""
        return torch.bernoulli(batch.x.flatten(1).clamp(0, 1))

    def loss(self, views: Tensor) -> Tensor:
        """Mean free energy of the images minus that of the model's samples."""
        with torch.no_grad():
            start = self.chains if len(self.chains) else views
            self.samples = self.gibbs(start, self.gibbs_steps)
        return self.free_energy(views).mean() - self.free_energy(self.samples).mean()

    def update(self) -> None:
        """Continue persistent chains, the same in all processes."""
        if len(self.chains):
            self.chains.copy_(gather(self.samples)[: len(self.chains)])

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) = −aᵀv − Σ_j log(1 + exp(b_j + W_j v)), p(v) ∝ exp(−F(v)): (B, pixels) -> (B,)."""
        v = v.float()
        with torch.autocast(v.device.type, enabled=False):
            return -v @ self.visible_bias - F.softplus(self.hidden(v)).sum(1)

    def gibbs(self, v: Tensor, steps: int, beta: float = 1.0) -> Tensor:
        """Pixels after alternately sampling hidden and visible units.

        Args:
            v: pixels (B, pixels).
            steps: of both.
            beta: inverse temperature β of weights and hidden biases.
        """
        for _ in range(steps):
            h = torch.bernoulli((beta * self.hidden(v).float()).sigmoid())
            v = torch.bernoulli(self.pixels(h, beta))
        return v

    def pixels(self, h: Tensor, beta: float = 1.0) -> Tensor:
        """Pixel probabilities p(v = 1|h): (B, units) -> (B, pixels)."""
        return (beta * F.linear(h, self.hidden.weight.T).float() + self.visible_bias).sigmoid()

    def reconstruct(self, v: Tensor) -> Tensor:
        """Pixel probabilities given mean hidden activity: (B, pixels) -> (B, pixels)."""
        return self.pixels(self.hidden(v).float().sigmoid())

    @torch.no_grad()
    def log_partition(self, chains: int = 100, temperatures: int = 1000) -> float:
        """Log Z by annealed importance sampling from the machine without weights (their eq. 4–7).

        Args:
            chains: independent estimates whose mean is taken.
            temperatures: intermediate distributions.
        """
        v = torch.bernoulli(self.visible_bias.expand(chains, -1).sigmoid())
        log_z = F.softplus(self.visible_bias).sum().double()  # without weights
        weight = log_z.repeat(chains) + self.hidden.out_features * math.log(2)
        betas = torch.linspace(0, 1, temperatures + 1).tolist()
        for previous, beta in itertools.pairwise(betas):
            inputs = self.hidden(v).double()
            weight += (F.softplus(beta * inputs) - F.softplus(previous * inputs)).sum(1)
            v = self.gibbs(v, 1, beta)
        return float(weight.logsumexp(0) - math.log(chains))

    @torch.no_grad()
    def sample(self, number: int, steps: int = 1000) -> Tensor:
        """Pixel probabilities (number, C, H, W) after long Gibbs chains from the visible biases."""
        v = torch.bernoulli(self.visible_bias.sigmoid().expand(number, -1))
        return self.reconstruct(self.gibbs(v, steps)).view(-1, *self.shape)

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        v = torch.bernoulli(x.flatten(1).clamp(0, 1))
        samples = self.reconstruct(self.gibbs(v.roll(1, 0), 500))
        weights = self.hidden.weight[: len(x)].float()
        scale = 2 * weights.abs().amax(1, keepdim=True).clamp(min=1e-6)
        filters = (weights / scale + 0.5).clamp(0, 1)
        return {
            "image and reconstruction": torch.stack([x, self.reconstruct(v).view_as(x)], 1),
            "samples": samples.view(-1, 1, *self.shape),
            "filters": filters.view(-1, 1, *self.shape),
        }
