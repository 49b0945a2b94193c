"""Helmholtz machine: recognize while awake, dream while asleep, and learn each from the other.

Hinton, Dayan, Frey, Neal 1995, "The Wake-Sleep Algorithm for Unsupervised Neural Networks".
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


class Helmholtz(Method):
    """Two nets of binary units, one from images up to causes, one from causes down to images.

    Awake, causes are drawn by recognition and the generative weights learn to predict the layer
    below; asleep, an image is dreamt and the recognition weights learn what it was dreamt from.
    Both are one delta rule, the gradient of the loss here.

    Args:
        shape: channels, height and width of the images; the data set's own unless given.
    """

    default_encoder: ClassVar = {Images: "dense"}
    encoder_args: ClassVar = {"widths": (200, 50)}
    inexact_across_processes: ClassVar[str] = (
        "samples drawn within the loss differ by process, so gradients agree in expectation only"
    )
    recipe = Recipe(
        epochs=60, batch_size=64, optimizer="adam", lr=1e-3, schedule="one_cycle", weight_decay=0.0
    )
    recipes: ClassVar = {"fashion_mnist": {"epochs": 20}}

    def __init__(self, encoder: nn.Module, *, shape: tuple[int, int, int] = (1, 28, 28)) -> None:
        super().__init__(encoder)
        layers = list(getattr(encoder, "stages", []))
        if not layers or not all(isinstance(layer, SigmoidLayer) for layer in layers):
            raise UserError("a Helmholtz machine is of dense layers: use --encoder dense")
        self.up = nn.ModuleList(layer.linear for layer in layers)
        widths = [math.prod(shape), *(layer.linear.out_features for layer in layers)]
        self.down = nn.ModuleList(nn.Linear(b, a) for a, b in itertools.pairwise(widths))
        self.top = nn.Parameter(torch.zeros(widths[-1]))
        self.shape = shape

    def views(self, batch: Batch) -> Tensor:
        """Pixels drawn black or white by their brightness, (B, pixels)."""
        return torch.bernoulli(batch.x.flatten(1).clamp(0, 1))

    def loss(self, views: Tensor) -> Tensor:
        """The wake phase's cost and the sleep phase's, nats an image."""
        with torch.no_grad():
            awake, asleep = self.recognize(views), self.dream(len(views))
        wake = -self.log_generative(awake).mean()
        sleep = -self.log_recognition(asleep).mean()
        return wake + sleep

    def recognize(self, v: Tensor) -> list[Tensor]:
        """Layers from pixels up, each drawn by recognition: (B, units) each."""
        layers = [v]
        for up in self.up:
            layers.append(torch.bernoulli(up(layers[-1]).float().sigmoid()))
        return layers

    def dream(self, n: int) -> list[Tensor]:
        """Layers from pixels up, each drawn by the generative net from the one above."""
        layers = [torch.bernoulli(self.top.sigmoid().expand(n, -1))]
        for down in reversed(self.down):
            layers.append(torch.bernoulli(down(layers[-1]).float().sigmoid()))
        return layers[::-1]

    def log_generative(self, layers: list[Tensor]) -> Tensor:
        """Log p of all layers (B,), by the generative net."""
        likely = log_bernoulli(self.top.expand_as(layers[-1]), layers[-1])
        for down, below, above in zip(self.down, layers, layers[1:], strict=False):
            likely = likely + log_bernoulli(down(above), below)
        return likely

    def log_recognition(self, layers: list[Tensor]) -> Tensor:
        """Log q of the layers above the pixels (B,), by recognition."""
        each = zip(self.up, layers, layers[1:], strict=False)
        return torch.stack([log_bernoulli(up(below), above) for up, below, above in each]).sum(0)

    @torch.no_grad()
    def bound(self, x: Tensor, draws: int = 1) -> Tensor:
        """A lower bound of log p(x), nats: E_q[log p(x, h) − log q(h|x)], (B,), by some draws."""
        v = torch.bernoulli(x.flatten(1).clamp(0, 1))
        found = []
        for _ in range(draws):
            layers = self.recognize(v)
            found.append(self.log_generative(layers) - self.log_recognition(layers))
        return torch.stack(found).mean(0)

    @torch.no_grad()
    def sample(self, number: int) -> Tensor:
        """Dreams: probabilities of white (number, C, H, W)."""
        return self.down[0](self.dream(number)[1]).float().sigmoid().view(-1, *self.shape)

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """Dreams, and images with what their causes bring to mind."""
        v = torch.bernoulli(x.flatten(1).clamp(0, 1))
        again = self.down[0](self.recognize(v)[1]).float().sigmoid()
        return {
            "image and what it brings to mind": torch.stack([x, again.view_as(x)], 1),
            "samples": self.sample(len(x))[:, None],
        }


def log_bernoulli(scores: Tensor, drawn: Tensor) -> Tensor:
    """Log p of binary units (B, n) whose scores are before the sigmoid: (B,)."""
    return -F.binary_cross_entropy_with_logits(scores.float(), drawn.float(), reduction="none").sum(
        1
    )
