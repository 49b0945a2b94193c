"""SupCon: supervised contrastive learning (Khosla et al. 2020).

Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2.
"""

import torch
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import sup_con
from unlabeled.parallel import gather


class SupervisedContrastive(Method):
    """SimCLR in which all views of all images of the same class are positives.

    Args:
        dim: width of the projection; the paper's 128.
        temperature: τ of the loss; the paper's 0.1.
        augment: random augmentation of each view (default: the data set's).
    """

    supervised = True
    by_stage = True
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 8, "lr": 4e-3}}

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
        return self.head(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The supervised contrastive loss of all processes' views."""
        x1, x2, y = views
        z = gather(self.project(torch.cat([x1, x2])))  # (2B, dim)
        return sup_con(z, gather(y.repeat(2)), self.temperature)
