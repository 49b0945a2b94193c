"""VICReg: variance-invariance-covariance regularization (Bardes, Ponce, LeCun 2022).

Bardes et al. 2022, "VICReg: Variance-Invariance-Covariance Regularization for
Self-Supervised Learning", algorithm 1.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import vicreg
from unlabeled.parallel import gather


class VICReg(Method):
    """Two views of each image go through the encoder and an expander.

    Embeddings of both views are to be equal (invariance), while over the batch each dimension keeps
    its variance and different dimensions are uncorrelated (covariance).

    Args:
        dim: width of the expander's three layers; 8192 in the paper.
        invariance: λ, weight of the mean squared distance of both views; the paper's 25.
        variance: μ, weight of the hinge that keeps standard deviations at 1; the paper's 25.
        covariance: ν, weight of the squared off-diagonal covariances; the paper's 1.
        augment: random augmentation of each view (default: the data set's).
        second_augment: that of the second view, where it differs.
    """

    by_stage = True
    # The paper uses LARS at 0.2 per 256 images, 1000 epochs on ImageNet, batch size 2048.
    base_lr = {"lars": 0.2}
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3}}
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "dim": 8192,
            "augment": BYOLAugment(blur=0.5, solarize=0.1),
            "epochs": 1000, "batch_size": 2048, "optimizer": "lars", "lr": 1.6, "final_lr": 0.002,
            "warmup_epochs": 10, "weight_decay": 1e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 512,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.expander = mlp(self.encoder.dim, dim, dim, dim)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.augment = augment or SimCLRAugment()
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.second_augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.expander(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The weighted sum of the three terms over all processes' batch."""
        z_a, z_b = (gather(self.project(x)) for x in views)  # (B, dim) each
        return vicreg(z_a, z_b, self.invariance, self.variance, self.covariance)
