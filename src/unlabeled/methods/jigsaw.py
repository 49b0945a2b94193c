"""Jigsaw: the tiles of an image were shuffled; in which order?

Noroozi, Favaro 2016, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles".
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip
from unlabeled.augmentations.patches import permutations, standardize_tiles, tiles
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp


class Jigsaw(Method):
    """All tiles go through the same encoder; a head sees them side by side and names the order.

    Orders are as unlike each other as possible; tiles are normalized one by one, with gap and
    jitter, so that neither edges nor brightness give them away.

    Args:
        pieces: down and across.
        orders: how many there are to choose from; 1000 in the paper.
        share: of a cell's side that a tile takes.
        tile: side to which tiles are resized; half of the image's unless given. An encoder of one
            size only needs that size.
        hidden: width of the hidden layer above all tiles.
        shape: channels, height and width of the images; the data set's own unless given.
        weak: the view that is cut; mirroring unless given.
    """

    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes: ClassVar = {
        name: MINUTES | {"epochs": 12, "lr": 2e-3} for name in ("fashion_mnist", "cifar10")
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        pieces: int = 3,
        orders: int = 64,
        share: float = 0.8,
        tile: int | None = None,
        hidden: int = 512,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.orders: Tensor
        found = torch.from_numpy(permutations(pieces**2, orders))
        self.register_buffer("orders", found, persistent=False)
        self.classifier = mlp(pieces**2 * self.encoder.dim, hidden, len(found))
        self.pieces, self.share = pieces, share
        self.tile = tile or min(shape[1:]) // 2
        self.weak = weak or RandomHorizontalFlip()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Shuffled tiles of each image (B, n², C, s, s), and which order it is (B,)."""
        cut = standardize_tiles(tiles(self.weak(batch.x), self.pieces, self.share, self.tile))
        order = torch.randint(len(self.orders), (len(cut),), device=cut.device)
        rows = torch.arange(len(cut), device=cut.device)[:, None]
        return cut[rows, self.orders[order]], order

    def scores(self, x: Tensor) -> Tensor:
        """Of each order: (B, n², C, s, s) -> (B, orders)."""
        features = self.encoder(x.flatten(0, 1)).view(len(x), -1)
        return self.classifier(features).float()

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of the orders."""
        return F.cross_entropy(self.scores(views[0]), views[1])

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """Puzzles, and how the network solved them."""
        shuffled, _ = self.views(Batch(x, torch.arange(len(x), device=x.device)))
        said = self.orders[self.scores(shuffled).argmax(1)]  # (B, n²): tile i belongs at said[i]
        solved = shuffled[torch.arange(len(x), device=x.device)[:, None], said.argsort(1)]
        sheets = [self._laid(t) for t in (shuffled, solved)]
        return {"puzzle and solution": torch.stack(sheets, 1)}

    def _laid(self, t: Tensor) -> Tensor:
        """Tiles (B, n², C, s, s) as one image in [0, 1] (B, C, n·s, n·s)."""
        n = self.pieces
        lowest, highest = t.amin((1, 2, 3, 4), True), t.amax((1, 2, 3, 4), True)
        t = (t - lowest) / (highest - lowest).clamp(min=1e-6)
        rows = t.unflatten(1, (n, n)).permute(0, 3, 1, 4, 2, 5)  # (B, C, n, s, n, s)
        return rows.flatten(4, 5).flatten(2, 3)
