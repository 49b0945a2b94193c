"""Diffusion: learn to take away noise, and images come out of it.

Ho, Jain, Abbeel 2020, "Denoising Diffusion Probabilistic Models", algorithm 1; sampling of Song,
Meng, Ermon 2021, "Denoising Diffusion Implicit Models"; guidance of Ho, Salimans 2022; v of
Salimans, Ho 2022, "Progressive Distillation for Fast Sampling of Diffusion Models".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Average, Batch, Method, Recipe
from unlabeled.encoders.unet import UNet, alpha_bar
from unlabeled.errors import UserError
from unlabeled.modality import Images


class Diffusion(Method):
    """The U-Net says which noise was added to an image at a random time.

    It says so by v = √ᾱ · noise − √(1 − ᾱ) · image. In the first paper it says the noise itself,
    whose error is 1/√ᾱ times as large in the image, so that short trainings end in images of
    nothing but black and white.

    Told a class, or the words of its name, it makes images of what is asked for; a share of the
    images is shown without, so that it can also be asked for nothing, and guidance goes further
    away from that. The moving average of its weights is what is kept and what draws.

    Args:
        condition: "none", "class", or "words" of the class's name, such as a caption.
        steps: of time that are learned; sampling takes fewer.
        dropped: share of images shown without their condition.
        momentum: of the moving average of the weights.
        classes: number of classes; the data set's own unless given.
        names: of the classes; the data set's own unless given.
        shape: channels, height and width of the images; the data set's own unless given.
    """

    default_encoder: ClassVar = {Images: "unet"}
    recipe = Recipe(
        epochs=100, batch_size=64, optimizer="adam", lr=1e-3, weight_decay=0.0,
        schedule="one_cycle", grad_clip_norm=1.0,
    )  # fmt: skip
    recipes: ClassVar = {"fashion_mnist": {"epochs": 8}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        condition: Literal["none", "class", "words"] = "none",
        steps: int = 1000,
        dropped: float = 0.1,
        momentum: float = 0.999,
        classes: int = 10,
        names: tuple[str, ...] = (),
        shape: tuple[int, int, int] = (1, 28, 28),
    ) -> None:
        super().__init__(encoder)
        if not isinstance(encoder, UNet):
            raise UserError("diffusion needs a U-Net: leave --encoder away, or use unet")
        if steps < 2:
            raise UserError(f"{steps} steps are no diffusion; give at least 2")
        self.supervised = condition != "none"  # type: ignore[misc]
        told: nn.Module = nn.Identity()
        if condition == "class":
            told = nn.Embedding(classes + 1, encoder.condition_dim)
        elif condition == "words":
            told = Words(names, encoder.condition_dim)
        self.net: Any = nn.ModuleDict({"unet": encoder, "condition": told})
        self.average = Average(self.net)
        self.encoder = self.average.module["unet"]  # type: ignore[index]
        self.condition, self.steps, self.dropped = condition, steps, dropped
        self.momentum, self.classes, self.shape = momentum, classes, shape

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images in [−1, 1] and noise (B, C, H, W), times (B,), and what is asked for (B,)."""
        x = 2 * batch.x - 1
        step = torch.randint(1, self.steps + 1, (len(x),), device=x.device)
        none = batch.y is None or not self.supervised
        asked = torch.full_like(step, self.classes) if none else batch.y.clone()  # type: ignore[union-attr]
        dropped = torch.rand(len(x), device=x.device) < self.dropped
        asked[dropped | (asked < 0)] = self.classes  # an unlabeled one is asked for nothing, too
        return x, torch.randn_like(x), step / self.steps, asked

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Mean squared error of v: that of the noise (eq. 14) over ᾱ."""
        x, noise, time, asked = views
        share = alpha_bar(time)[:, None, None, None]
        wanted = share.sqrt() * noise - (1 - share).sqrt() * x
        said = self.velocity(self.net, mixed(x, noise, time), time, asked)
        return F.mse_loss(said, wanted)

    def velocity(self, net: Any, x: Tensor, time: Tensor, asked: Tensor) -> Tensor:
        """What a net holds to be v in x at those times, asked for those classes."""
        told = None if self.condition == "none" else net["condition"](asked)
        return net["unet"].velocity(x, time, told).float()

    def noise(self, net: Any, x: Tensor, time: Tensor, asked: Tensor) -> Tensor:
        """The noise in x that goes with v."""
        share = alpha_bar(time)[:, None, None, None]
        return share.sqrt() * self.velocity(net, x, time, asked) + (1 - share).sqrt() * x

    def update(self) -> None:
        """The average follows."""
        self.average.update(self.net, self.momentum)

    def sample(
        self, number: int, asked: Tensor | None = None, steps: int = 50, guidance: float = 2.0
    ) -> Tensor:
        """New images (number, C, H, W) in [0, 1], by DDIM without noise between its steps.

        Args:
            number: how many.
            asked: classes (number,); nothing is asked for unless given.
            steps: of sampling.
            guidance: how far what is asked for is exaggerated; 1 is as learned.
        """
        *_, (_, clean) = self.way(number, asked, steps, guidance)
        return clean

    @torch.no_grad()
    def way(
        self, number: int, asked: Tensor | None = None, steps: int = 50, guidance: float = 2.0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What `sample` goes through: at each step the noisy images, and what is seen in them."""
        net: Any = self.average.module
        device = next(self.parameters()).device
        x = torch.randn(number, *self.shape, device=device)
        nothing = torch.full((number,), self.classes, device=device)
        times = torch.linspace(1, 0, steps + 1, device=device)
        for now, then in itertools.pairwise(times):
            time = now.expand(number)
            noise = self.noise(net, x, time, nothing if asked is None else asked)
            if asked is not None and guidance != 1:
                plain = self.noise(net, x, time, nothing)
                noise = plain + guidance * (noise - plain)
            share, next_share = alpha_bar(now), alpha_bar(then)
            clean = ((x - (1 - share).sqrt() * noise) / share.sqrt()).clamp(-1, 1)
            noise = (x - share.sqrt() * clean) / (1 - share).sqrt()
            yield ((x + 1) / 2).clamp(0, 1), ((clean + 1) / 2).clamp(0, 1)
            x = next_share.sqrt() * clean + (1 - next_share).sqrt() * noise

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """New images, of each class where it was told any."""
        if self.condition == "none":
            return {"samples": self.sample(len(x))[:, None]}
        asked = torch.arange(len(x), device=x.device) % self.classes
        drawn = self.sample(4 * len(x), asked.repeat_interleave(4))
        return {"samples, asked for each class": drawn.unflatten(0, (len(x), 4))}

    def animate(self, x: Tensor) -> dict[str, Tensor]:
        """From noise to images; images of other than 1 or 3 channels are videos themselves."""
        number = min(6, len(x))
        asked = torch.arange(number, device=x.device) * max(1, self.classes // number)
        told = None if self.condition == "none" else asked % self.classes
        if self.shape[0] not in (1, 3):
            return {"samples": self.sample(number, told)[:, :, None]}
        noisy, clean = zip(*self.way(number, told), strict=True)
        return {"from noise to images": torch.stack([*noisy[::4], clean[-1]], 1)}


def mixed(x: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Images with as much noise as belongs to their time (their eq. 4)."""
    share = alpha_bar(time)[:, None, None, None]
    return share.sqrt() * x + (1 - share).sqrt() * noise


class Words(nn.Module):
    """A caption as a vector: its words in order through a small recurrent net.

    Args:
        names: the captions of classes 0, 1, …; the class after the last has no words.
        dim: width of the vector.
    """

    def __init__(self, names: tuple[str, ...], dim: int) -> None:
        super().__init__()
        words = [name.lower().replace(",", " ").split() for name in names]
        known = sorted({word for caption in words for word in caption})
        longest = max((len(caption) for caption in words), default=1)
        rows = [[known.index(w) + 1 for w in c] + [0] * (longest - len(c)) for c in words]
        self.tokens: Tensor
        table = torch.tensor([*rows, [0] * longest])
        self.register_buffer("tokens", table, persistent=False)
        self.embed = nn.Embedding(len(known) + 1, dim // 2, padding_idx=0)
        self.read = nn.GRU(dim // 2, dim, batch_first=True)

    def forward(self, asked: Tensor) -> Tensor:
        """Classes (B,) -> (B, dim)."""
        return self.read(self.embed(self.tokens[asked]))[1][0]
