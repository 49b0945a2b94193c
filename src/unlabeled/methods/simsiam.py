"""SimSiam: exploring simple Siamese representation learning (Chen, He 2021).

Chen, He 2021, "Exploring Simple Siamese Representation Learning", algorithm 1.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import cosine_distance


class SimSiam(Method):
    """A predictor maps one view's projection to the other's, which takes no gradient.

    The loss is the paper's −cos, averaged over both directions, in [−1, 1].

    Args:
        dim: width of the projection; 2048 in the paper.
        hidden_dim: width of the predictor's bottleneck; a quarter of `dim` in the paper.
        stop_gradient: whether targets are detached; else features collapse (the paper's figure 2).
        augment: random augmentation of each view (default: the data set's).
    """

    by_stage = True
    # The paper uses SGD at 0.05 per 256 images, and a constant rate for the predictor.
    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.03, weight_decay=5e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 1e-3}}
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "dim": 2048, "hidden_dim": 512,
            "augment": SimCLRAugment((0.2, 1.0), strength=0.5, blur=0.5),
            "epochs": 100, "batch_size": 256, "optimizer": "sgd", "lr": 0.05, "warmup_epochs": 0,
            "weight_decay": 1e-4, "decay_biases": True, "constant_lr": ["predictor"],
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 512,
        hidden_dim: int = 128,
        stop_gradient: bool = True,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(self.encoder.dim, dim, dim, dim, last_norm=True)
        self.predictor = mlp(dim, hidden_dim, dim)
        self.stop_gradient = stop_gradient
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """−cos of each prediction and the other view's projection, mean of both directions."""
        z1, z2 = (self.project(x) for x in views)  # (B, dim) each
        t1, t2 = (z1.detach(), z2.detach()) if self.stop_gradient else (z1, z2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return (cosine_distance(p1, t2) + cosine_distance(p2, t1)) / 4 - 1
