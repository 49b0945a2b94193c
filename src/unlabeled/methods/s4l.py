"""S4L-Rotation: name what has a label, and say of everything by how far it was turned.

Zhai, Oliver, Kolesnikov, Beyer 2019, "S4L: Self-Supervised Semi-Supervised Learning", eq. 1 and 2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.augmentations.image import rotate90
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe
from unlabeled.objectives import labeled_cross_entropy


class S4L(Method):
    """A classifier and a head that tells four turns, on all four turns of each image.

    The turns of images with a label are told, too, and named in all four, as in the authors'
    code. Images that occur in every orientation, as dSprites do, do not show whether they were
    turned: there the second task is pure chance and can only tell what the labels tell.

    Args:
        weight: of the turns' loss, w.
        classes: number of classes; the data set's own unless given.
        augment: the view that is then turned; the data set's for labeled training unless given.
    """

    supervised = True
    weak_augment = True
    # The paper's is SGD at 0.1 for 256 images, weight decay 2e-4 (10 % of ImageNet's labels).
    # As many images with labels as without, section 3.
    recipe = Recipe(epochs=100, batch_size=128, lr=2e-3, labeled_fraction=0.5)
    # As many images pass through the network in a step as with two views of 128.
    recipes: ClassVar = {"dsprites": HALF_LABELED | {"epochs": 3, "batch_size": 64, "lr": 4e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        weight: float = 1.0,
        classes: int = 10,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.turns_head = nn.Linear(self.encoder.dim, 4)
        self.weight, self.augment = weight, augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, H), and its label or −1 (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """L_l + w L_rot: cross-entropy of the classes and of the turns, both over all turns."""
        x, y = views
        turns = torch.arange(4, device=x.device).repeat_interleave(len(x))  # (4B,)
        h = self.encoder(rotate90(x.repeat(4, 1, 1, 1), turns))  # (4B, dim)
        told = F.cross_entropy(self.turns_head(h).float(), turns)
        return labeled_cross_entropy(self.classifier(h), y.repeat(4)) + self.weight * told
