"""DDPM: denoising diffusion probabilistic model, conditional or not (Ho et al. 2020).

Ho, Jain, Abbeel 2020, "Denoising Diffusion Probabilistic Models", algorithm 1; sampling of Song,
Meng, Ermon 2021, "Denoising Diffusion Implicit Models"; Ho, Salimans 2022, "Classifier-Free
Diffusion Guidance"; v of Salimans, Ho 2022, "Progressive Distillation for Fast Sampling of
Diffusion Models".
"""

import itertools
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Average, Batch, Method, Recipe
from unlabeled.encoders.unet import CaptionEmbedding, UNet, alpha_bar
from unlabeled.errors import UserError
from unlabeled.modality import Images


class Diffusion(Method):
    """A U-Net predicts v = √ᾱ · noise − √(1 − ᾱ) · image of a noisy image at a random time.

    DDPM predicts the noise, whose error is 1/√ᾱ times as large in the image; short trainings then
    end in images of extreme values.

    With a condition, the class or a caption is dropped for a fraction of the images, so that one
    network learns the conditional and the unconditional model for classifier-free guidance. The
    moving average of the weights is the result.

    Args:
        condition: "none", "class", or "words", the class's name as a caption.
        timesteps: T, of the diffusion process; sampling takes fewer.
        condition_dropout: probability by which a condition is dropped; 0.1 in the guidance paper.
        momentum: decay of the moving average of the weights; 0.9999 in the paper.
        classes: number of classes (default: the data set's).
        names: of the classes (default: the data set's).
        shape: channels, height and width of the images (default: the data set's).
    """

    modality = (Images,)
    default_encoder = {Images: "unet"}
    recipe = Recipe(
        epochs=100, batch_size=64, optimizer="adam", lr=1e-3, weight_decay=0.0,
        schedule="one_cycle", grad_clip_norm=1.0,
    )  # fmt: skip
    recipes = {"fashion_mnist": {"epochs": 8}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        condition: Literal["none", "class", "words"] = "none",
        timesteps: int = 1000,
        condition_dropout: float = 0.1,
        momentum: float = 0.999,
        classes: int = 10,
        names: tuple[str, ...] = (),
        shape: tuple[int, int, int] = (1, 28, 28),
    ) -> None:
        super().__init__(encoder)
        if not isinstance(encoder, UNet):
            raise UserError("diffusion needs a U-Net: omit --encoder, or use unet")
        if timesteps < 2:
            raise UserError(f"timesteps is {timesteps}, but must be at least 2")
        self.supervised = condition != "none"  # type: ignore[misc]
        embedding: nn.Module = nn.Identity()
        if condition == "class":
            embedding = nn.Embedding(classes + 1, encoder.condition_dim)
        elif condition == "words":
            if not names:
                raise UserError("condition words needs the names of the classes; give labeled data")
            embedding = CaptionEmbedding(names, encoder.condition_dim)
        self.net: Any = nn.ModuleDict({"unet": encoder, "condition": embedding})
        self.average = Average(self.net)
        self.encoder = self.average.module["unet"]  # type: ignore[index]
        self.condition, self.timesteps = condition, timesteps
        self.condition_dropout, self.momentum = condition_dropout, momentum
        self.classes, self.shape = classes, shape

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images in [−1, 1] and noise (B, C, H, W), times (B,), labels (B,); K: no condition."""
        x = 2 * batch.x - 1
        t = torch.randint(1, self.timesteps + 1, (len(x),), device=x.device)
        none = batch.y is None or not self.supervised
        labels = torch.full_like(t, self.classes) if none else batch.y.clone()  # type: ignore[union-attr]
        dropped = torch.rand(len(x), device=x.device) < self.condition_dropout
        labels[dropped | (labels < 0)] = self.classes
        return x, torch.randn_like(x), t / self.timesteps, labels

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Mean squared error of v, that is of the noise (eq. 14) over ᾱ."""
        x, noise, time, labels = views
        a = alpha_bar(time)[:, None, None, None]
        v = a.sqrt() * noise - (1 - a).sqrt() * x
        return F.mse_loss(self.velocity(self.net, add_noise(x, noise, time), time, labels), v)

    def velocity(self, net: Any, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """Predicted v of noisy images x at those times, conditioned on those labels."""
        condition = None if self.condition == "none" else net["condition"](labels)
        return net["unet"].velocity(x, time, condition).float()

    def noise(self, net: Any, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """Predicted noise in x, from v."""
        a = alpha_bar(time)[:, None, None, None]
        return a.sqrt() * self.velocity(net, x, time, labels) + (1 - a).sqrt() * x

    def sample(
        self, number: int, labels: Tensor | None = None, steps: int = 50, guidance: float = 2.0
    ) -> Tensor:
        """New images (number, C, H, W) in [0, 1], by deterministic DDIM (η = 0).

        Args:
            number: of images.
            labels: classes (number,) (default: unconditional).
            steps: of sampling.
            guidance: scale of classifier-free guidance; 1 is the conditional model.
        """
        *_, (_, clean) = self.sampling_steps(number, labels, steps, guidance)
        return clean

    @torch.no_grad()
    def sampling_steps(
        self, number: int, labels: Tensor | None = None, steps: int = 50, guidance: float = 2.0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Noisy images and the clean images predicted from them, at each step of `sample`."""
        net: Any = self.average.module
        x = torch.randn(number, *self.shape, device=next(self.parameters()).device)
        none = torch.full((number,), self.classes, device=x.device)
        times = torch.linspace(1, 0, steps + 1, device=x.device)
        for time, next_time in itertools.pairwise(times):
            t = time.expand(number)
            noise = self.noise(net, x, t, none if labels is None else labels)
            if labels is not None and guidance != 1:
                unconditional = self.noise(net, x, t, none)
                noise = unconditional + guidance * (noise - unconditional)
            a, next_a = alpha_bar(time), alpha_bar(next_time)
            clean = ((x - (1 - a).sqrt() * noise) / a.sqrt()).clamp(-1, 1)
            noise = (x - a.sqrt() * clean) / (1 - a).sqrt()
            yield ((x + 1) / 2).clamp(0, 1), ((clean + 1) / 2).clamp(0, 1)
            x = next_a.sqrt() * clean + (1 - next_a).sqrt() * noise

    def update(self) -> None:
        """Update the average, and what its features take for "no condition"."""
        self.average.update(self.net, self.momentum)
        if self.condition != "none":
            net: Any = self.average.module
            none = torch.tensor([self.classes], device=net["unet"].no_condition.device)
            net["unet"].no_condition.copy_(net["condition"](none)[0])

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        if self.condition == "none":
            return {"samples": self.sample(len(x))[:, None]}
        labels = torch.arange(len(x), device=x.device) % self.classes
        samples = self.sample(4 * len(x), labels.repeat_interleave(4))
        return {"samples of each class": samples.unflatten(0, (len(x), 4))}

    def animate(self, x: Tensor) -> dict[str, Tensor]:
        """Sampling from noise to image; images of other than 1 or 3 channels are videos."""
        number = min(6, len(x))
        every = torch.arange(number, device=x.device) * max(1, self.classes // number)
        labels = None if self.condition == "none" else every % self.classes
        if self.shape[0] not in (1, 3):
            return {"samples": self.sample(number, labels)[:, :, None]}
        noisy, clean = zip(*self.sampling_steps(number, labels), strict=True)
        return {"from noise to images": torch.stack([*noisy[::4], clean[-1]], 1)}


def add_noise(x: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Images with the noise of their time: √ᾱ · image + √(1 − ᾱ) · noise (Ho et al., eq. 4)."""
    a = alpha_bar(time)[:, None, None, None]
    return a.sqrt() * x + (1 - a).sqrt() * noise
