"""Barlow twins: the same dimension of two views agrees, different ones have nothing in common.

Zbontar, Jing, Misra, LeCun, Deny 2021, "Barlow Twins: Self-Supervised Learning via Redundancy
Reduction", algorithm 1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import barlow_twins
from unlabeled.parallel import gather


class BarlowTwins(Method):
    """Two views, whose correlation over the batch should be the identity matrix.

    Args:
        dim: width of the projector's three layers; 8192 in the paper.
        redundancy: λ, weight of the entries off the diagonal.
        scale: of the whole loss, which grows with `dim`; 0.024 in the authors' code with LARS.
        augment: the views; the data set's own unless given.
    """

    by_stage = True
    # The paper's is LARS at 0.2 per 256 images, 1000 epochs on ImageNet, batch 2048.
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    # Correlations are estimated from 64 images: with more dimensions their noise is all there is.
    recipes: ClassVar = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "dim": 128}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 512,
        redundancy: float = 5e-3,
        scale: float = 0.024,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp(self.encoder.dim, dim, dim, dim)
        self.redundancy, self.scale = redundancy, scale
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Distance of the correlation matrix of the batch of all processes from the identity."""
        a, b = (gather(self.project(x)) for x in views)  # (B, dim) each
        return self.scale * barlow_twins(a, b, self.redundancy)
