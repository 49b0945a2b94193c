"""GAN: a generator makes images from noise, a critic tells them from real ones.

Goodfellow et al. 2014, "Generative Adversarial Nets"; the hinge loss of Lim, Ye 2017 and Miyato et
al. 2018; with `bigan` Donahue, Krähenbühl, Darrell 2017, "Adversarial Feature Learning".
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Average, Batch, Method, Recipe
from unlabeled.encoders.heads import Critic, deconv

SETTLING = 16
"""Batches of noise from which the average learns the statistics of its BatchNorms."""


class GAN(Method):
    """Generator and critic take turns; spectral norms keep the critic from diverging.

    The encoder learns which noise an image came from. Without `bigan` it regresses the noise of
    generated images and has no part in the game (the paper's "latent regressor"); with it, the
    critic judges images together with their codes, and encoder and generator fool it together.

    Args:
        code: numbers of noise that an image is made from.
        width: of the generator's last layer and the critic's first.
        bigan: whether the encoder plays.
        momentum: of the moving average of the generator, from which samples are drawn.
        shape: channels, height and width of the images; the data set's own unless given.
    """

    optimized_modules = ("generator", "critic")
    recipe = Recipe(
        epochs=100, batch_size=64, optimizer="adam", lr=2e-4, weight_decay=0.0,
        schedule="constant", beta1=0.5,
    )  # fmt: skip
    recipes: ClassVar = {"fashion_mnist": {"epochs": 25, "lr": 4e-4}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        code: int = 64,
        width: int = 32,
        bigan: bool = False,
        momentum: float = 0.999,
        shape: tuple[int, int, int] = (3, 32, 32),
    ) -> None:
        super().__init__(encoder)
        self.generator = nn.ModuleDict(
            {
                "images": deconv(code, shape, width),
                "encoder": self.encoder,
                "codes": nn.Linear(self.encoder.dim, code),
            }
        )
        self.critic = Critic(shape, width, code if bigan else 0)
        self.average = Average(self.generator["images"])
        self.code, self.bigan, self.momentum = code, bigan, momentum

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Real images (B, C, H, W), and noise for as many others (B, code)."""
        return batch.x, torch.randn(len(batch.x), self.code, device=batch.x.device)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The generator's, and the encoder's."""
        real, noise = views
        made = self.made(noise)
        if self.bigan:
            real_score, false_score = self.judged(real, self.codes(real), made, noise)
            return real_score.mean() - false_score.mean()
        guessed = self.codes(made.detach())
        return F.mse_loss(guessed, noise) - self.critic(made).float().mean()

    def optimizer_steps(self, views: tuple[Tensor, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The generator, then the critic on what the generator makes now."""
        yield "generator", self.loss(views)
        real, noise = views
        with torch.no_grad():
            made = self.made(noise)
            codes = self.codes(real) if self.bigan else None
        real_score, false_score = self.judged(real, codes, made, noise)
        yield "critic", (1 - real_score).relu().mean() + (1 + false_score).relu().mean()

    def update(self) -> None:
        """Spectral norms follow the critic, the average follows the generator."""
        self.critic.update()
        self.average.update(self.generator["images"], self.momentum)

    def made(self, noise: Tensor) -> Tensor:
        """Noise (B, code) -> images in [0, 1]."""
        return self.generator["images"](noise).float().sigmoid()

    def codes(self, x: Tensor) -> Tensor:
        """The noise that images seem to come from, (B, code)."""
        return self.generator["codes"](self.encoder(x)).float()

    def judged(
        self, real: Tensor, codes: Tensor | None, made: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The critic's scores of real and of made images, (B, 1) each."""
        both = torch.cat([codes, noise]) if self.bigan and codes is not None else None
        real_score, false_score = self.critic(torch.cat([real, made]), both).float().chunk(2)
        return real_score, false_score

    @torch.no_grad()
    def sample(self, number: int) -> Tensor:
        """New images (number, C, H, W) in [0, 1], by the generator's average."""
        device = next(self.parameters()).device
        noise = torch.randn(number, self.code, device=device)
        return self.settled()(noise).float().sigmoid()

    @torch.no_grad()
    def settled(self) -> nn.Module:
        """The generator's average, its BatchNorms told what they meet in it, since no step of
        training goes through it ("standing statistics", Brock, Donahue, Simonyan 2019).
        """
        net = copy.deepcopy(self.average.module).train()
        for norm in net.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.reset_running_stats()
                norm.momentum = None  # the mean over all that follows
        fixed = torch.Generator().manual_seed(0)  # the same net whenever it is asked for
        for noise in torch.randn(SETTLING, 64, self.code, generator=fixed):
            net(noise.to(next(net.parameters()).device))
        return net.eval()

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """New images; and images, encoded and made again."""
        again = self.settled()(self.codes(x)).float().sigmoid()
        return {
            "samples": self.sample(len(x))[:, None],
            "image, encoded and made again": torch.stack([x, again], 1),
        }
