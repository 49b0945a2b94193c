"""Instance discrimination: every image is a class of its own, kept in a memory bank.

Wu, Xiong, Yu, Lin 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination".
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, MemoryBank, Method, Recipe
from unlabeled.objectives import info_nce


class InstanceDiscrimination(Method):
    """A view of an image should find the image's row in the bank among others' rows.

    The softmax of eq. 2 is taken over the own row and a random sample of others, anew in each step
    and from the whole bank; a row that was drawn is left out for its own image only. The paper
    approximates the same softmax over all rows by noise-contrastive estimation.

    Args:
        dim: width of the projection and of the bank.
        temperature: τ.
        negatives: rows drawn in each step; 4096 in the paper.
        momentum: share of a row that stays when its image is seen again.
        images: rows of the bank; those of the data set.
        augment: the view; the data set's own unless given.
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.03, weight_decay=5e-4)
    recipes: ClassVar = {"dsprites": MINUTES | {"epochs": 50, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        temperature: float = 0.07,
        negatives: int = 1024,
        momentum: float = 0.5,
        images: int = 10_000,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.head = nn.Linear(self.encoder.dim, dim)
        self.bank = MemoryBank(images, dim, momentum)
        self.temperature, self.negatives = temperature, negatives
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A random view of each image (B, C, H, W), its row (B,), and rows of others."""
        others = self.bank.draw(self.negatives)
        return self.augment(batch.x), batch.index, others

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """InfoNCE of each view, its own row and others'."""
        x, index, others = views
        z = F.normalize(self.project(x).float(), dim=1)  # (B, dim)
        self.seen = index, z.detach()
        own, noise = self.bank.rows[index], self.bank.rows[others]
        return info_nce(z, own, self.temperature, noise, index, others)

    def update(self) -> None:
        """Rows of the images just seen move towards their new embeddings."""
        self.bank.update(*self.seen)
