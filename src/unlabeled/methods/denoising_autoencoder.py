"""Denoising autoencoder: draw the clean image from a damaged one.

Vincent, Larochelle, Lajoie, Bengio, Manzagol 2010, "Stacked Denoising Autoencoders", sections 3–4.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import deconv
from unlabeled.errors import UserError
from unlabeled.utils.state import eval_mode


class DenoisingAutoencoder(Method):
    """The encoder sees a damaged image, a decoder draws what it was.

    Trained end to end, or greedily as in the paper: each stage of the encoder in turn, from the
    clean output of those before it, damaged again, while those before it rest.

    Args:
        noise: "masking" sets a share of the pixels to 0, "salt_pepper" sets it to 0 or 1,
            "gaussian" adds noise of that deviation.
        level: the share of pixels, or the deviation.
        cost: "cross_entropy" of each pixel, for images of black and white; "mse" for others.
        stacked: whether stages are trained one after another, the same time each.
        width: of the decoder's last layer.
        shape: channels, height and width of the images; the data set's own unless given.
    """

    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes: ClassVar = {
        "dsprites": MINUTES | {"epochs": 20, "lr": 2e-3, "cost": "cross_entropy"},
        "fashion_mnist": MINUTES | {"epochs": 12, "lr": 2e-3},
        "cifar10": MINUTES | {"epochs": 12, "lr": 2e-3, "noise": "gaussian", "level": 0.4},
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        noise: Literal["masking", "salt_pepper", "gaussian"] = "masking",
        level: float = 0.3,
        cost: Literal["cross_entropy", "mse"] = "mse",
        stacked: bool = False,
        width: int = 16,
        shape: tuple[int, int, int] = (3, 32, 32),
    ) -> None:
        super().__init__(encoder)
        if not 0 < level < 1:
            raise UserError(f"a level of {level} damages nothing or everything; give 0 to 1")
        self.noise, self.level, self.cost = noise, level, cost
        self.decoder = deconv(self.encoder.dim, shape, width)
        self.back = nn.ModuleList(_ways_back(self.encoder, shape) if stacked else [])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Damaged images and clean ones, (B, C, H, W) each."""
        return self.damage(batch.x), batch.x

    def damage(self, x: Tensor) -> Tensor:
        """Noise of the chosen kind on images or maps (B, C, H, W)."""
        if self.noise == "gaussian":
            return x + self.level * torch.randn_like(x)
        hit = torch.rand_like(x[:, :1]) < self.level
        if self.noise == "masking":
            return x.masked_fill(hit, 0)
        return torch.where(hit, (torch.rand_like(x[:, :1]) < 0.5).to(x), x)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The reconstruction's cost: of the whole, or of the stage whose turn it is."""
        damaged, clean = views
        turn = int(self.progress * (len(self.back) + 1))
        if turn < len(self.back):
            return self.stage_loss(turn, damaged, clean)
        return self.price(self.decoder(self.encoder(damaged)).float(), clean)

    def stage_loss(self, turn: int, damaged: Tensor, clean: Tensor) -> Tensor:
        """How well a stage's output tells its clean input, from a damaged one."""
        if turn:
            before = self.encoder.stages[:turn]
            with torch.no_grad(), eval_mode(before):  # their BatchNorm rests, too
                for stage in before:
                    clean = stage(clean)
            damaged = self.damage(clean)
        again = self.back[turn](self.encoder.stages[turn](damaged))
        return F.mse_loss(again.float(), clean.float())

    def price(self, drawn: Tensor, clean: Tensor) -> Tensor:
        """The mean cost of a pixel; `drawn` is before the sigmoid."""
        if self.cost == "mse":
            return F.mse_loss(drawn.sigmoid(), clean)
        return F.binary_cross_entropy_with_logits(drawn, clean)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """LazyImages, damaged and drawn anew."""
        damaged = self.damage(x)
        again = self.decoder(self.encoder(damaged)).float().sigmoid()
        return {"clean, damaged, drawn anew": torch.stack([x, damaged.clamp(0, 1), again], 1)}


def _ways_back(encoder: Any, shape: tuple[int, int, int]) -> list[nn.Module]:
    """For each stage a small decoder from its map to its input's."""
    if not hasattr(encoder, "stages"):
        raise UserError("this encoder has no stages to be stacked; leave stacked away")
    ways: list[nn.Module] = []
    with eval_mode(encoder), torch.no_grad():
        x = torch.zeros(2, *shape)
        for stage in encoder.stages:
            y = stage(x)
            ways.append(
                nn.Sequential(
                    nn.Upsample(tuple(x.shape[2:]), mode="nearest"),
                    nn.Conv2d(y.shape[1], x.shape[1], 3, padding=1),
                )
            )
            x = y
    return ways
