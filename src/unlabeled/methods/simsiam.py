"""SimSiam: a predictor and a stopped gradient are enough.

Chen, He 2021, "Exploring Simple Siamese Representation Learning", algorithm 1.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import cosine_distance


class SimSiam(Method):
    """Two views; each, through a predictor, should meet the other, which takes no gradient.

    The loss is the paper's −cos, the mean of both directions, in [−1, 1].

    Args:
        dim: width of the projection; 2048 in the paper.
        hidden: width of the predictor's bottleneck; a quarter of `dim` in the paper.
        stop_gradient: without it the representation collapses (the paper's figure 2).
        augment: the views; the data set's own unless given.
    """

    by_stage = True
    # The paper's is SGD at 0.05 per 256 images, its predictor's rate constant.
    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.03, weight_decay=5e-4)
    recipes: ClassVar = {"dsprites": MINUTES | {"epochs": 38, "lr": 1e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 512,
        hidden: int = 128,
        stop_gradient: bool = True,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp(self.encoder.dim, dim, dim, dim, last_norm=True)
        self.predictor = mlp(dim, hidden, dim)
        self.stop_gradient = stop_gradient
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """−cos of prediction and the other's projection, mean of both ways."""
        z1, z2 = (self.project(x) for x in views)  # (B, dim) each
        t1, t2 = (z1.detach(), z2.detach()) if self.stop_gradient else (z1, z2)
        both = cosine_distance(self.predictor(z1), t2) + cosine_distance(self.predictor(z2), t1)
        return both / 4 - 1
