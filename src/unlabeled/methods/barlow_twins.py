"""Barlow Twins: self-supervised learning via redundancy reduction (Zbontar et al. 2021).

Zbontar et al. 2021, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", algorithm 1.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import barlow_twins
from unlabeled.parallel import gather


class BarlowTwins(Method):
    """Two views of each image go through the encoder and a projector.

    The cross-correlation matrix of both views' embeddings over the batch is pushed towards the
    identity: its diagonal makes them invariant, its other entries reduce redundancy.

    Args:
        dim: width of the projector's three layers; 8192 in the paper.
        redundancy: λ, weight of the off-diagonal entries; the paper's 5e-3.
        scale: factor of the whole loss, which grows with `dim`; 0.024 in the authors' code.
        augment: random augmentation of each view (default: the data set's).
        second_augment: that of the second view, where it differs.
    """

    by_stage = True
    # The paper uses LARS at 0.2 per 256 images, 1000 epochs on ImageNet, batch size 2048.
    base_lr = {"lars": 0.2}
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    # Correlations are estimated from 64 images; with more dimensions they are mostly noise.
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "dim": 128}}
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "dim": 8192,
            "augment": BYOLAugment(), "second_augment": BYOLAugment(blur=0.1, solarize=0.2),
            "epochs": 1000, "batch_size": 2048, "optimizer": "lars", "lr": 1.6, "final_lr": 1.6e-3,
            "lr_factors": {"biases": 0.024}, "warmup_epochs": 10, "weight_decay": 1.5e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 512,
        redundancy: float = 5e-3,
        scale: float = 0.024,
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(self.encoder.dim, dim, dim, dim)
        self.redundancy, self.scale = redundancy, scale
        self.augment = augment or SimCLRAugment()
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.second_augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Distance of the cross-correlation matrix over all processes' batch from the identity."""
        z_a, z_b = (gather(self.project(x)) for x in views)  # (B, dim) each
        return self.scale * barlow_twins(z_a, z_b, self.redundancy)
