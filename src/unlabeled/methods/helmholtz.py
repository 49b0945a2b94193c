"""Helmholtz machine trained by the wake-sleep algorithm (Hinton et al. 1995).

Hinton, Dayan, Frey, Neal 1995, "The Wake-Sleep Algorithm for Unsupervised Neural Networks".
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


class Helmholtz(Method):
    """A recognition network and a generative network of binary units.

    In the wake phase hidden states are sampled by recognition, and generative weights learn to
    reconstruct the layer below. In the sleep phase a fantasy is generated, and recognition weights
    learn to recover its hidden states. Both are the local delta rule, the gradient of the loss.

    Args:
        shape: channels, height and width of the images (default: the data set's).
    """

    modality = (Images,)
    default_encoder = {Images: "dense"}
    encoder_args = {"widths": (200, 50)}
    inexact_across_processes = (
        "samples drawn within the loss differ by process, so gradients agree in expectation only"
    )
    recipe = Recipe(
        epochs=60, batch_size=64, optimizer="adam", lr=1e-3, schedule="one_cycle", weight_decay=0.0
    )
    recipes = {"fashion_mnist": {"epochs": 20}}

    def __init__(self, encoder: nn.Module, *, shape: tuple[int, int, int] = (1, 28, 28)) -> None:
        super().__init__(encoder)
        layers = list(getattr(encoder, "stages", []))
        if not layers or not all(isinstance(layer, SigmoidLayer) for layer in layers):
            raise UserError("a Helmholtz machine is of dense layers: use --encoder dense")
        self.recognition = nn.ModuleList(layer.linear for layer in layers)
        widths = [math.prod(shape), *(layer.linear.out_features for layer in layers)]
        self.generative = nn.ModuleList(nn.Linear(b, a) for a, b in itertools.pairwise(widths))
        self.top_bias = nn.Parameter(torch.zeros(widths[-1]))
        self.shape = shape

    def views(self, batch: Batch) -> Tensor:
        """Pixels sampled black or white by their brightness, (B, pixels)."""
        return torch.bernoulli(batch.x.flatten(1).clamp(0, 1))

    def loss(self, views: Tensor) -> Tensor:
        """The losses of wake and sleep phase, nats per image."""
        with torch.no_grad():
            recognized, fantasy = self.recognize(views), self.generate(len(views))
        wake = -self.log_generative(recognized).mean()
        sleep = -self.log_recognition(fantasy).mean()
        return wake + sleep

    def recognize(self, v: Tensor) -> list[Tensor]:
        """Layers from pixels up, sampled by the recognition network: (B, units) each."""
        layers = [v]
        for linear in self.recognition:
            layers.append(torch.bernoulli(linear(layers[-1]).float().sigmoid()))
        return layers

    def generate(self, n: int) -> list[Tensor]:
        """Layers of fantasies from pixels up, sampled by the generative network from the top."""
        layers = [torch.bernoulli(self.top_bias.sigmoid().expand(n, -1))]
        for linear in reversed(self.generative):
            layers.append(torch.bernoulli(linear(layers[-1]).float().sigmoid()))
        return layers[::-1]

    def log_generative(self, layers: list[Tensor]) -> Tensor:
        """Log p of all layers (B,), by the generative network."""
        log_p = log_bernoulli(self.top_bias.expand_as(layers[-1]), layers[-1])
        for linear, below, above in zip(self.generative, layers, layers[1:], strict=False):
            log_p = log_p + log_bernoulli(linear(above), below)
        return log_p

    def log_recognition(self, layers: list[Tensor]) -> Tensor:
        """Log q of the layers above the pixels (B,), by the recognition network."""
        steps = zip(self.recognition, layers, layers[1:], strict=False)
        return torch.stack([log_bernoulli(f(below), above) for f, below, above in steps]).sum(0)

    @torch.no_grad()
    def bound(self, x: Tensor, draws: int = 1) -> Tensor:
        """Lower bound of log p(x) in nats, E_q[log p(x, h) − log q(h|x)], (B,), over `draws`."""
        v = torch.bernoulli(x.flatten(1).clamp(0, 1))
        bounds = []
        for _ in range(draws):
            layers = self.recognize(v)
            bounds.append(self.log_generative(layers) - self.log_recognition(layers))
        return torch.stack(bounds).mean(0)

    @torch.no_grad()
    def sample(self, number: int) -> Tensor:
        """Fantasies: pixel probabilities (number, C, H, W)."""
        h = self.generate(number)[1]
        return self.generative[0](h).float().sigmoid().view(-1, *self.shape)

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        v = torch.bernoulli(x.flatten(1).clamp(0, 1))
        reconstruction = self.generative[0](self.recognize(v)[1]).float().sigmoid()
        return {
            "image and reconstruction": torch.stack([x, reconstruction.view_as(x)], 1),
            "samples": self.sample(len(x))[:, None],
        }


def log_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Log p of binary units x (B, n) with these logits: (B,)."""
    nll = F.binary_cross_entropy_with_logits(logits.float(), x.float(), reduction="none")
    return -nll.sum(1)
