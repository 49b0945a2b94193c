"""VAE: variational autoencoder (Kingma, Welling 2014); with `beta` the β-VAE (Higgins et al. 2017).

Kingma, Welling 2014, "Auto-Encoding Variational Bayes"; Higgins et al. 2017, "β-VAE: Learning Basic
Visual Concepts with a Constrained Variational Framework".
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import deconv
from unlabeled.modality import Images


class VAE(Method):
    """Two linear heads on the features give q(z|x) = N(μ(x), σ²(x)); a decoder gives p(x|z).

    The loss is the negative evidence lower bound (ELBO) in nats per image: −log p(x|z) of one
    sample of z, summed over pixels, plus β times the KL divergence of q(z|x) from N(0, 1), summed
    over latent dimensions.

    The features are the encoder's output; the latent mean, `project`, is a linear map of them.

    Args:
        latent_dim: dimensions of z. Superfluous ones do no harm: their posterior becomes N(0, 1).
        beta: β, weight of the KL divergence; 1 bounds log p(x).
        likelihood: of a pixel: "bernoulli" for black and white, "gaussian" with one learned
            standard deviation for all (σ-VAE, Rybkin et al. 2021).
        decoder_width: channels of the decoder's last layer; earlier ones have up to 8 times as
            many.
        shape: channels, height and width of the images (default: the data set's).
    """

    modality = (Images,)
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adam", lr=1e-3, weight_decay=0.0)
    # 84 latent dimensions, as in the tutorial. On training images Muon reaches 139 nats in four
    # epochs, Adam at 2e-3 290.
    recipes = {
        "dsprites": MINUTES
        | {"epochs": 16, "batch_size": 128, "optimizer": "muon", "lr": 0.01}
        | {"decoder_width": 8, "latent_dim": 84}
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        latent_dim: int = 64,
        beta: float = 1.0,
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        decoder_width: int = 16,
        shape: tuple[int, int, int] = (1, 64, 64),
    ) -> None:
        super().__init__(encoder)
        self.mean = nn.Linear(self.encoder.dim, latent_dim)
        self.log_variance = nn.Linear(self.encoder.dim, latent_dim)
        self.decoder = deconv(latent_dim, shape, decoder_width)
        self.log_std = nn.Parameter(torch.tensor(-1.0), requires_grad=likelihood == "gaussian")
        self.latent_dim, self.beta, self.likelihood = latent_dim, beta, likelihood

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The images (B, C, H, W), and noise ε ~ N(0, 1) for their samples (B, latent_dim)."""
        return batch.x, torch.randn(len(batch.x), self.latent_dim, device=batch.x.device)

    def project(self, x: Tensor) -> Tensor:
        """The latent mean: (B, C, H, W) -> (B, latent_dim)."""
        return self.mean(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Negative evidence lower bound, nats per image."""
        x, epsilon = views
        features = self.encoder(x)
        mean, log_variance = self.mean(features).float(), self.log_variance(features).float()
        z = mean + torch.exp(log_variance / 2) * epsilon
        kl = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
        nll = self.negative_log_likelihood(self.decoder(z).float(), x)
        return (nll + self.beta * kl).mean()

    def negative_log_likelihood(self, logits: Tensor, x: Tensor) -> Tensor:
        """−log p(x|z) of each image (B,), from the decoder's output (B, C, H, W)."""
        if self.likelihood == "bernoulli":
            pixels = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        else:
            scaled = (x - logits.sigmoid()) * torch.exp(-self.log_std)
            pixels = scaled**2 / 2 + self.log_std + math.log(2 * math.pi) / 2
        return pixels.flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, number: int) -> Tensor:
        """New images (number, C, H, W) in [0, 1]: the means of p(x|z), z ~ N(0, 1)."""
        z = torch.randn(number, self.latent_dim, device=self.log_std.device)
        return self.decoder(z).float().sigmoid()

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        reconstruction = self.decoder(self.project(x)).float().sigmoid()
        return {
            "image and reconstruction": torch.stack([x, reconstruction], 1),
            "samples": self.sample(len(x))[:, None],
        }
