"""Variational autoencoder: squeeze an image into a few noisy numbers and draw it again.

Kingma, Welling 2014, "Auto-Encoding Variational Bayes"; β: Higgins et al. 2017, "β-VAE".
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.heads import deconv


class VAE(Method):
    """Two linear heads on the features give q(z|x) = N(μ(x), σ²(x)); a decoder draws p(x|z).

    The loss is the negative evidence lower bound, in nats an image: −log p(x|z) of one sample of z,
    summed over pixels, plus β times the divergence of q(z|x) from N(0, 1), summed over the code.

    The features are the encoder's output, as those of every other method, and so what the lectures'
    probe reads; the code's mean is `project`. It is a linear map of the features, from which a
    linear decoder can read no more than from them.

    Args:
        code_dim: numbers in z. More than an image needs do no harm: the divergence lets the rest be
            N(0, 1).
        beta: weight of the divergence; 1 gives a bound on log p(x).
        likelihood: of a pixel: "bernoulli" for black and white, "gaussian" with one learned
            standard deviation for all (σ-VAE, Rybkin et al. 2021).
        width: of the decoder's last layer; earlier ones are up to eight times as wide.
        shape: channels, height and width of the images; the data set's own unless given.
    """

    recipe = Recipe(epochs=100, batch_size=128, optimizer="adam", lr=1e-3, weight_decay=0.0)
    recipes: ClassVar = {
        "dsprites": {
            "epochs": 30,
            "batch_size": 128,
            "lr": 2e-3,
            "schedule": "one_cycle",
            "width": 8,
            "code_dim": 84,  # as the tutorial's
        }
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        code_dim: int = 64,
        beta: float = 1.0,
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        width: int = 16,
        shape: tuple[int, int, int] = (1, 64, 64),
    ) -> None:
        super().__init__(encoder)
        self.mean = nn.Linear(self.encoder.dim, code_dim)
        self.log_variance = nn.Linear(self.encoder.dim, code_dim)
        self.decoder = deconv(code_dim, shape, width)
        self.log_std = nn.Parameter(torch.tensor(-1.0), requires_grad=likelihood == "gaussian")
        self.code_dim, self.beta, self.likelihood = code_dim, beta, likelihood

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The images as they are (B, C, H, W), and noise for their samples (B, code_dim)."""
        noise = torch.randn(len(batch.x), self.code_dim, device=batch.x.device)
        return batch.x, noise

    def project(self, x: Tensor) -> Tensor:
        """The code's mean: (B, C, H, W) -> (B, code_dim)."""
        return self.mean(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Negative evidence lower bound, nats an image."""
        x, noise = views
        features = self.encoder(x)
        mean, log_variance = self.mean(features).float(), self.log_variance(features).float()
        drawn = self.decoder(mean + torch.exp(log_variance / 2) * noise).float()
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
        return (self.surprise(drawn, x) + self.beta * divergence).mean()

    def surprise(self, drawn: Tensor, x: Tensor) -> Tensor:
        """−log p(x|z) of each image (B,), from what the decoder drew (B, C, H, W)."""
        if self.likelihood == "bernoulli":
            pixels = F.binary_cross_entropy_with_logits(drawn, x, reduction="none")
        else:
            scaled = (x - drawn.sigmoid()) * torch.exp(-self.log_std)
            pixels = scaled**2 / 2 + self.log_std + math.log(2 * math.pi) / 2
        return pixels.flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, number: int) -> Tensor:
        """New images (number, C, H, W) in [0, 1], from z of N(0, 1): the means of p(x|z)."""
        noise = torch.randn(number, self.code_dim, device=self.log_std.device)
        return self.decoder(noise).float().sigmoid()

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """What it draws: each image beside its reconstruction, and samples from N(0, 1)."""
        again = self.decoder(self.project(x)).float().sigmoid()
        return {
            "image and reconstruction": torch.stack([x, again], 1),
            "samples": self.sample(len(x))[:, None],
        }
