"""Rotation: by how many quarter turns was the image turned?

Gidaris, Singh, Komodakis 2018, "Unsupervised Representation Learning by Predicting Image
Rotations".
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip
from unlabeled.augmentations.image import rotate90
from unlabeled.core import MINUTES, Batch, Method, Recipe


class Rotation(Method):
    """Whoever can say which way is up has to know what is shown.

    Each image is seen in all four orientations, as in the paper. It cannot work where things lie
    any way round, as sprites do.

    Args:
        weak: the view that is then turned; mirroring unless given.
    """

    # The paper's is SGD at 0.1 for 100 epochs, divided by 5 at epochs 30, 60 and 80.
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=5e-4)
    recipes: ClassVar = {
        name: MINUTES | {"epochs": 10, "lr": 2e-3} for name in ("fashion_mnist", "cifar10")
    }

    def __init__(self, encoder: nn.Module, *, weak: Augmentation | None = None) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, 4)
        self.weak = weak or RandomHorizontalFlip()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each image in its four orientations (4B, C, H, H), and how far it was turned (4B,)."""
        x = self.weak(batch.x)
        turns = torch.arange(4, device=x.device).repeat_interleave(len(x))
        return rotate90(x.repeat(4, 1, 1, 1), turns), turns

    def scores(self, x: Tensor) -> Tensor:
        """Of each orientation: (B, C, H, H) -> (B, 4)."""
        return self.classifier(self.encoder(x)).float()

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of the four orientations."""
        return F.cross_entropy(self.scores(views[0]), views[1])

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """Turned images, and the same turned back by what the network says."""
        turns = torch.arange(len(x), device=x.device) % 4
        turned = rotate90(x, turns)
        said = self.scores(turned).argmax(1)
        return {"turned, and turned back": torch.stack([turned, rotate90(turned, -said % 4)], 1)}
