"""Relative patch location, also called context prediction (Doersch et al. 2015).

Doersch, Gupta, Efros 2015, "Unsupervised Visual Representation Learning by Context Prediction".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip
from unlabeled.augmentations.patches import drop_colors, mosaic, tiles
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import encode_tiles, mlp
from unlabeled.modality import Images

CENTER, NEIGHBORS = 4, (0, 1, 2, 3, 5, 6, 7, 8)
"""Of the nine tiles, the middle one and those around it."""


class RelativePatch(Method):
    """The position of a patch relative to the center patch, one of eight, is predicted.

    Both patches go through the same encoder. A gap, random positions and color dropping keep the
    network from trivial solutions by continuing edges or chromatic aberration.

    Args:
        tile_fraction: side of a patch as a fraction of its cell's; 1 has no gap and no jitter.
        drop_color: probability of color dropping, by which a patch keeps one channel.
        tile_size: side in pixels to which patches are resized (default: half of the image's). An
            encoder of a fixed input size needs that size.
        hidden_dim: width of the hidden layer on both patches' features.
        shape: channels, height and width of the images (default: the data set's).
        weak: augmentation before the image is cut (default: horizontal flips).
    """

    modality = (Images,)
    # The paper uses SGD with batch normalization for weeks.
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {name: MINUTES | {"epochs": 20, "lr": 2e-3} for name in ("fashion_mnist", "cifar10")}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        tile_fraction: float = 0.75,
        drop_color: float = 0.5,
        tile_size: int | None = None,
        hidden_dim: int = 256,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = mlp(2 * self.encoder.dim, hidden_dim, len(NEIGHBORS))
        self.tile_fraction, self.drop_color = tile_fraction, drop_color
        self.tile_size = tile_size or min(shape[1:]) // 2
        self.weak = weak or RandomHorizontalFlip()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Center patch and a neighbor of each image (B, 2, C, s, s), and its position (B,)."""
        patches = tiles(self.weak(batch.x), 3, self.tile_fraction, self.tile_size)
        position = torch.randint(len(NEIGHBORS), (len(patches),), device=patches.device)
        neighbor = torch.tensor(NEIGHBORS, device=patches.device)[position]
        rows = torch.arange(len(patches), device=patches.device)
        pair = torch.stack([patches[:, CENTER], patches[rows, neighbor]], 1)
        # Each patch on its own: noise with the mean of the whole image would reveal the position.
        mono = drop_colors(pair.flatten(0, 1)).view_as(pair)
        dropped = torch.rand(*pair.shape[:2], 1, 1, 1, device=pair.device) < self.drop_color
        return torch.where(dropped, mono, pair), position

    def scores(self, x: Tensor) -> Tensor:
        """Logits of the eight positions: (B, 2, C, s, s) -> (B, 8)."""
        return self.classifier(encode_tiles(self.encoder, x)).float()

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        pair, position = views
        return F.cross_entropy(self.scores(pair), position)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        pair, _ = self.views(Batch(x, torch.arange(len(x), device=x.device)))
        predicted = torch.tensor(NEIGHBORS, device=x.device)[self.scores(pair).argmax(1)]
        patches = pair.new_full((len(x), 9, *pair.shape[2:]), 0.5)
        patches[:, CENTER] = pair[:, 0]
        patches[torch.arange(len(x), device=x.device), predicted] = pair[:, 1]
        layout = F.interpolate(mosaic(patches), x.shape[2:], mode="nearest")
        return {"image, and its patches at the predicted position": torch.stack([x, layout], 1)}
