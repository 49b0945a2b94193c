"""BYOL: bootstrap your own latent, without negatives (Grill et al. 2020).

Grill et al. 2020, "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", sections
3.1–3.3.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, constant, cosine
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import cosine_distance


class BYOL(Method):
    """An online network predicts the target network's projection of another view.

    The target network is an exponential moving average of the online encoder and projector and
    takes no gradient. The loss is symmetrized by summing both directions, as in the paper. Each
    view is a separate batch, so that BatchNorm never mixes both.

    Args:
        dim: width of the projection; 256 in the paper.
        hidden_dim: width of the hidden layer of projector and predictor; 4096 in the paper.
        momentum: τ of the target network at the start, rising to 1 along half a cosine; 0.996 in
            the paper. 0 stays 0: the target is then the online network of the previous step.
        predictor: whether there is a predictor; without, features collapse (the paper's table 5b).
        stop_gradient: whether there is a target network; otherwise targets have a gradient, too.
        augment: random augmentation of each view (default: the data set's).
        second_augment: that of the second view, where it differs.
    """

    by_stage = True
    # The paper uses LARS at 0.2 per 256 images, 1000 epochs on ImageNet, τ = 0.996.
    base_lr = {"lars": 0.2}
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3}}
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "dim": 256, "hidden_dim": 4096, "momentum": 0.996,
            "augment": BYOLAugment(), "second_augment": BYOLAugment(blur=0.1, solarize=0.2),
            "epochs": 1000, "batch_size": 4096, "optimizer": "lars", "lr": 3.2, "warmup_epochs": 10,
            "weight_decay": 1.5e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        momentum: float = 0.99,
        predictor: bool = True,
        stop_gradient: bool = True,
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(self.encoder.dim, hidden_dim, dim)
        self.predictor = mlp(dim, hidden_dim, dim) if predictor else nn.Identity()
        self.target = EMA(nn.Sequential(self.encoder, self.projector))
        self.momentum = cosine(momentum, 1.0) if momentum else constant(0.0)
        self.stop_gradient = stop_gradient
        self.augment = augment or SimCLRAugment()
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.second_augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Squared distance of normalized predictions and targets, summed over both directions."""
        z1, z2 = (self.project(x) for x in views)  # (B, dim) each
        t1, t2 = (self.target(x) for x in views) if self.stop_gradient else (z1, z2)
        return cosine_distance(self.predictor(z1), t2) + cosine_distance(self.predictor(z2), t1)

    def update(self) -> None:
        """Update the target network: ξ ← τ ξ + (1 − τ) θ."""
        online = nn.Sequential(self.encoder, self.projector)
        self.target.update(online, self.momentum(self.progress))
