"""BYOL: predict what a slow copy of yourself makes of another view; no negatives.

Grill et al. 2020, "Bootstrap Your Own Latent", sections 3.1–3.3.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, constant, cosine
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import cosine_distance


class BYOL(Method):
    """Two views, an online network with a predictor, and a target network that follows it.

    The loss is summed over both directions, as in the paper. Each view goes through the networks by
    itself, so BatchNorm never sees both.

    Args:
        dim: width of the projection.
        hidden: width of the hidden layer of head and predictor; 4096 in the paper.
        momentum: τ at the start of training; it rises to 1 along half a cosine. 0 stays, and
            makes the target the online network of the step before.
        predictor: without it the representation collapses (the paper's table 5b).
        stop_gradient: without it the target is the online network itself, gradient and all.
        augment: the views; the data set's own unless given.
    """

    by_stage = True
    # The paper's is LARS at 0.2 per 256 images, 1000 epochs on ImageNet, τ = 0.996.
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes: ClassVar = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden: int = 512,
        momentum: float = 0.99,
        predictor: bool = True,
        stop_gradient: bool = True,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp(self.encoder.dim, hidden, dim)
        self.predictor = mlp(dim, hidden, dim) if predictor else nn.Identity()
        self.target = EMA(nn.Sequential(self.encoder, self.head))
        self.momentum = cosine(momentum, 1.0) if momentum else constant(0.0)
        self.stop_gradient = stop_gradient
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Squared distance of normalized prediction and target, both ways."""
        z1, z2 = (self.project(x) for x in views)  # (B, dim) each
        t1, t2 = (self.target(x) for x in views) if self.stop_gradient else (z1, z2)
        return cosine_distance(self.predictor(z1), t2) + cosine_distance(self.predictor(z2), t1)

    def update(self) -> None:
        """The target follows."""
        self.target.update(nn.Sequential(self.encoder, self.head), self.momentum(self.progress))
