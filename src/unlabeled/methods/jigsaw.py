"""Jigsaw: representation learning by solving jigsaw puzzles (Noroozi, Favaro 2016).

Noroozi, Favaro 2016, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip, patches
from unlabeled.augmentations.patches import mosaic, standardize_tiles, tiles
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import encode_tiles, mlp
from unlabeled.modality import Images


class Jigsaw(Method):
    """Tiles of an image are shuffled; a head on their concatenated features predicts the order.

    All tiles go through the same encoder. The set of permutations has a large Hamming distance.
    Gaps, random positions and normalized tiles keep edges and brightness from telling the order.

    Args:
        grid: tiles along each side; the paper's 3.
        permutations: number of permutations to choose from; 1000 in the paper.
        tile_fraction: side of a tile as a fraction of its cell's; the paper's 64 of 75 pixels are
            0.85, half leaves small images no edges and colors that continue from tile to tile.
        tile_size: side in pixels to which tiles are resized (default: half of the image's). An
            encoder of a fixed input size needs that size.
        hidden_dim: width of the hidden layer on all tiles' features.
        shape: channels, height and width of the images (default: the data set's).
        weak: augmentation before the image is cut (default: horizontal flips).
    """

    modality = (Images,)
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {name: MINUTES | {"epochs": 12, "lr": 2e-3} for name in ("fashion_mnist", "cifar10")}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        grid: int = 3,
        permutations: int = 64,
        tile_fraction: float = 0.5,
        tile_size: int | None = None,
        hidden_dim: int = 512,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.permutations: Tensor
        orders = torch.from_numpy(patches.permutations(grid**2, permutations))
        self.register_buffer("permutations", orders, persistent=False)
        self.classifier = mlp(grid**2 * self.encoder.dim, hidden_dim, len(orders))
        self.grid, self.tile_fraction = grid, tile_fraction
        self.tile_size = tile_size or min(shape[1:]) // 2
        self.weak = weak or RandomHorizontalFlip()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Shuffled tiles of each image (B, n², C, s, s), and the permutation's index (B,)."""
        x = tiles(self.weak(batch.x), self.grid, self.tile_fraction, self.tile_size)
        x = standardize_tiles(x)
        index = torch.randint(len(self.permutations), (len(x),), device=x.device)
        rows = torch.arange(len(x), device=x.device)[:, None]
        return x[rows, self.permutations[index]], index

    def scores(self, x: Tensor) -> Tensor:
        """Logits of the permutations: (B, n², C, s, s) -> (B, permutations)."""
        return self.classifier(encode_tiles(self.encoder, x)).float()

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        x, index = views
        return F.cross_entropy(self.scores(x), index)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        shuffled, _ = self.views(Batch(x, torch.arange(len(x), device=x.device)))
        predicted = self.permutations[self.scores(shuffled).argmax(1)]  # (B, n²)
        rows = torch.arange(len(x), device=x.device)[:, None]
        solved = shuffled[rows, predicted.argsort(1)]
        images = torch.stack([to_image(t) for t in (shuffled, solved)], 1)
        return {"puzzle and solution": images}


def to_image(t: Tensor) -> Tensor:
    """Normalized tiles (B, n², C, s, s) as images in [0, 1] (B, C, n·s, n·s)."""
    lowest, highest = t.amin((1, 2, 3, 4), True), t.amax((1, 2, 3, 4), True)
    return mosaic((t - lowest) / (highest - lowest).clamp(min=1e-6))
