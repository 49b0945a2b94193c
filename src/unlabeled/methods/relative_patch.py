"""Relative patch: which of the eight places around it does this patch come from?

Doersch, Gupta, Efros 2015, "Unsupervised Visual Representation Learning by Context Prediction".
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip
from unlabeled.augmentations.patches import drop_colors, tiles
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp

PLACES = (0, 1, 2, 3, 5, 6, 7, 8)
"""Of the nine tiles, those around the middle one."""


class RelativePatch(Method):
    """A middle patch and one of its eight neighbors go through the same encoder.

    A gap, a jitter of each patch and the loss of colors keep the answer from being read off edges
    that go on, or off a lens's color fringes.

    Args:
        share: of a cell's side that a patch takes; 1 leaves no gap and no jitter.
        drop_color: probability that a patch keeps one of its colors only.
        tile: side to which patches are resized; half of the image's unless given. An encoder of
            one size only needs that size.
        hidden: width of the hidden layer above both patches.
        shape: channels, height and width of the images; the data set's own unless given.
        weak: the view that is cut; mirroring unless given.
    """

    # The paper's is SGD with batch normalization for weeks.
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes: ClassVar = {
        name: MINUTES | {"epochs": 20, "lr": 2e-3} for name in ("fashion_mnist", "cifar10")
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        share: float = 0.75,
        drop_color: float = 0.5,
        tile: int | None = None,
        hidden: int = 256,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = mlp(2 * self.encoder.dim, hidden, len(PLACES))
        self.share, self.drop_color = share, drop_color
        self.tile = tile or min(shape[1:]) // 2
        self.weak = weak or RandomHorizontalFlip()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The middle patch and another of each image (B, 2, C, s, s), and its place (B,)."""
        cut = tiles(self.weak(batch.x), 3, self.share, self.tile)
        place = torch.randint(len(PLACES), (len(cut),), device=cut.device)
        other = torch.tensor(PLACES, device=cut.device)[place]
        rows = torch.arange(len(cut), device=cut.device)
        pair = torch.stack([cut[:, 4], cut[rows, other]], 1)
        # Each patch by itself: noise with the mean of the whole image would tell its place.
        mono = drop_colors(pair.flatten(0, 1)).view_as(pair)
        dropped = torch.rand(*pair.shape[:2], 1, 1, 1, device=pair.device) < self.drop_color
        return torch.where(dropped, mono, pair), place

    def scores(self, x: Tensor) -> Tensor:
        """Of each place: (B, 2, C, s, s) -> (B, 8)."""
        features = self.encoder(x.flatten(0, 1)).view(len(x), -1)
        return self.classifier(features).float()

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of the eight places."""
        return F.cross_entropy(self.scores(views[0]), views[1])

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """LazyImages, their middle patch and another, each in the place that the network says."""
        views, _ = self.views(Batch(x, torch.arange(len(x), device=x.device)))
        said = self.scores(views).argmax(1)
        size = self.tile
        sheet = x.new_full((len(x), x.shape[1], 3 * size, 3 * size), 0.5)
        for row, (pair, place) in enumerate(zip(views, said.tolist(), strict=True)):
            for patch, cell in zip(pair, (4, PLACES[place]), strict=True):
                top, left = size * (cell // 3), size * (cell % 3)
                sheet[row, :, top : top + size, left : left + size] = patch
        shown = F.interpolate(sheet, x.shape[2:], mode="nearest")
        return {"image, and where its patch was put": torch.stack([x, shown], 1)}
