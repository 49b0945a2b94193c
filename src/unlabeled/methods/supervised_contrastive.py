"""Supervised contrastive learning: images of one class attract each other, as views do.

Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import sup_con
from unlabeled.parallel import gather


class SupervisedContrastive(Method):
    """SimCLR with all views of all images of the same class as positives.

    Args:
        dim: width of the projection.
        temperature: τ of the loss.
        augment: the views; the data set's own unless given.
    """

    supervised = True
    by_stage = True
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes: ClassVar = {"dsprites": MINUTES | {"epochs": 8, "lr": 4e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        temperature: float = 0.1,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.head = mlp(d, d, dim)
        self.temperature, self.augment = temperature, augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each, and the labels (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), self.augment(batch.x), batch.y

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The contrast of all views of the batch of all processes."""
        a, b, y = views
        z = gather(self.project(torch.cat([a, b])))  # (2B, dim)
        return sup_con(z, gather(y.repeat(2)), self.temperature)
