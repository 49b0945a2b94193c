"""Colorization: which colors had this gray image?

Zhang, Isola, Efros 2016, "Colorful Image Colorization", sections 2.1–2.3.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip
from unlabeled.augmentations.color import color_bins, lab_to_rgb, rgb_to_lab, soft_bins, to_gray
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import deconv
from unlabeled.parallel import mean_over

AT_MOST = 16
"""Side of the map of colors that is predicted; colors vary less than lightness."""


class Colorization(Method):
    """The encoder sees the image in gray; a decoder says how likely each bin of colors is.

    Rare colors weigh more, else all becomes brown: a pixel's weight is 1/((1 − λ) p + λ/Q) by the
    share p of its bin among the training images, measured while it learns. The encoder sees the
    gray of whatever it is given, afterwards too.

    Args:
        rebalance: λ; 1 weighs all colors alike.
        temperature: of the annealed mean, which turns probabilities into a color.
        width: of the decoder's last layer.
        shape: channels, height and width of the images; the data set's own unless given.
        weak: the view that loses its colors; mirroring unless given.
    """

    needs_color = True
    encoder_args: ClassVar = {"gray": True}
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=1e-4)
    recipes: ClassVar = {"cifar10": MINUTES | {"epochs": 12, "lr": 1e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        rebalance: float = 0.5,
        temperature: float = 0.38,
        width: int = 32,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.centers: Tensor
        self.shares: Tensor
        bins = color_bins()
        self.register_buffer("centers", bins.clone(), persistent=False)
        self.register_buffer("shares", torch.full((len(bins),), 1 / len(bins)))
        side = (min(AT_MOST, shape[1]), min(AT_MOST, shape[2]))
        self.decoder = deconv(self.encoder.dim, (len(bins), *side), width)
        self.rebalance, self.temperature, self.side = rebalance, temperature, side
        self.weak = weak or RandomHorizontalFlip()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """LazyImages (B, 3, H, W), and the colors to be told (B, 2, h, w) of a smaller map."""
        x = self.weak(batch.x)
        return x, F.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], self.side)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy with the soft bins, each pixel by its color's weight (eq. 2)."""
        x, ab = views
        target = soft_bins(ab.movedim(1, 3).flatten(0, 2), self.centers)  # (n, Q)
        self.seen = target.mean(0)
        scores = self.scores(x).movedim(1, 3).flatten(0, 2)  # (n, Q)
        weight = self.weights()[target.argmax(1)]
        return (weight * F.cross_entropy(scores, target, reduction="none")).mean()

    def weights(self) -> Tensor:
        """Of each bin (Q,); the mean over the training images is 1 (eq. 4)."""
        each = 1 / ((1 - self.rebalance) * self.shares + self.rebalance / len(self.shares))
        return each / (self.shares * each).sum()

    def update(self) -> None:
        """The bins' shares follow what was seen."""
        self.shares.lerp_(mean_over(self.seen), 0.02)

    def scores(self, x: Tensor) -> Tensor:
        """Of each bin: images, of which the gray is seen, (B, 3, H, W) -> (B, Q, h, w)."""
        return self.decoder(self.encoder(to_gray(x))).float()  # an encoder may see colors otherwise

    def colors(self, x: Tensor) -> Tensor:
        """The annealed mean of the bins (eq. 5): images (B, 3, H, W) -> a*, b* (B, 2, H, W)."""
        likely = (self.scores(x) / self.temperature).softmax(1)
        ab = torch.einsum("bqhw,qc->bchw", likely, self.centers)
        return F.interpolate(ab, x.shape[2:], mode="bilinear", align_corners=False)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """LazyImages, their gray, and the colors that were told."""
        told = lab_to_rgb(torch.cat([rgb_to_lab(x)[:, :1], self.colors(x)], 1))
        return {"image, gray, colors told": torch.stack([x, to_gray(x), told], 1)}
