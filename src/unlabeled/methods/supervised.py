"""Supervised learning: cross-entropy with a linear classifier, the reference for other methods.

The classifier is discarded after training.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.modality import Audio, Images, Series, Table


class Supervised(Method):
    """An encoder and a linear classifier, trained with all labels of the training images.

    Args:
        classes: number of classes (default: the data set's).
        augment: random augmentation (default: the data set's for labeled training).
    """

    modality = (Images, Audio, Series, Table)
    supervised = True
    weak_augment = True
    by_stage = True
    base_lr = {"sgd": 0.1}  # Goyal et al. 2017
    recipe = Recipe(epochs=60, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 8, "lr": 4e-3}}

    def __init__(
        self, encoder: nn.Module, *, classes: int = 10, augment: Augmentation | None = None
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.augment = augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, W), and its label (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        x, y = views
        return F.cross_entropy(self.classifier(self.encoder(x)).float(), y)
