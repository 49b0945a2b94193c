"""Rotation prediction, also called RotNet (Gidaris et al. 2018).

Gidaris et al. 2018, "Unsupervised Representation Learning by Predicting Image Rotations".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip
from unlabeled.augmentations.image import rotate90
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.modality import Images


class Rotation(Method):
    """The encoder classifies by which multiple of 90° an image was rotated.

    Each image is seen in all four rotations, as in the paper. It needs data with an upright
    orientation; sprites that occur in every orientation have none.

    Args:
        weak: augmentation before the rotation (default: horizontal flips).
    """

    modality = (Images,)
    # The paper uses SGD at 0.1 for 100 epochs, divided by 5 at epochs 30, 60 and 80.
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=5e-4)
    recipes = {name: MINUTES | {"epochs": 10, "lr": 2e-3} for name in ("fashion_mnist", "cifar10")}

    def __init__(self, encoder: nn.Module, *, weak: Augmentation | None = None) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, 4)
        self.weak = weak or RandomHorizontalFlip()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each image in four rotations (4B, C, H, H), and how many quarter turns (4B,)."""
        x = self.weak(batch.x)
        turns = torch.arange(4, device=x.device).repeat_interleave(len(x))
        return rotate90(x.repeat(4, 1, 1, 1), turns), turns

    def scores(self, x: Tensor) -> Tensor:
        """Logits of the four rotations: (B, C, H, H) -> (B, 4)."""
        return self.classifier(self.encoder(x)).float()

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        x, rotation = views
        return F.cross_entropy(self.scores(x), rotation)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        rotated = rotate90(x, torch.arange(len(x), device=x.device) % 4)
        predicted = self.scores(rotated).argmax(1)
        restored = rotate90(rotated, -predicted % 4)
        return {"rotated, and rotated back": torch.stack([rotated, restored], 1)}
