"""SwAV: swapping assignments between views of an image (Caron et al. 2020).

Caron et al. 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.augmentations.image import halved
from unlabeled.core import MINUTES, Batch, Method, Recipe, sinkhorn
from unlabeled.encoders.heads import mlp


class SwAV(Method):
    """The code of one view, its soft assignment to prototypes, is predicted from the other view.

    Codes are computed online by the Sinkhorn-Knopp algorithm, which assigns the images of a batch
    equally to all prototypes and so prevents collapse. Of local crops, if any, only predictions are
    made (multi-crop, section 3.2).

    Args:
        dim: width of the projection; 128 in the paper.
        prototypes: number of prototypes; 3000 in the paper.
        temperature: τ of the prediction; the paper's 0.1.
        epsilon: ε, entropy regularization of the codes; smaller is sharper; the paper's 0.05.
        sinkhorn_iterations: iterations of the Sinkhorn-Knopp algorithm; the paper's 3.
        freeze_prototypes: fraction of training with frozen prototypes; one epoch in the paper.
        local_crops: number of local crops of each image; 6 in the paper.
        local_augment: augmentation of a local crop, which is halved in size unless it is smaller.
        augment: random augmentation of each view (default: the data set's).
    """

    may_be_zero = ("local_crops",)
    # The paper uses LARS at 4.8 for 4096 images, 800 epochs on ImageNet, with six small crops.
    base_lr = {"lars": 0.3}
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "prototypes": 64}}
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "prototypes": 3000, "local_crops": 6,
            "freeze_prototypes": 1 / 800,  # one epoch
            "augment": SimCLRAugment((0.14, 1.0), strength=1.0, blur=0.5),
            "local_augment": SimCLRAugment((0.05, 0.14), strength=1.0, blur=0.5, size=96),
            "epochs": 800, "batch_size": 4096, "optimizer": "lars", "lr": 4.8, "final_lr": 4.8e-3,
            "warmup_epochs": 10, "weight_decay": 1e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        prototypes: int = 300,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        sinkhorn_iterations: int = 3,
        freeze_prototypes: float = 0.01,
        local_crops: int = 0,
        local_augment: Augmentation | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.head = mlp(d, d, dim)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, dim), dim=1))
        self.temperature, self.epsilon = temperature, epsilon
        self.sinkhorn_iterations, self.freeze_prototypes = sinkhorn_iterations, freeze_prototypes
        self.local_crops = local_crops
        self.local_augment = local_augment or SimCLRAugment(scale=(0.05, 0.14))
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Two random views (B, C, H, W), then local crops (B, C, H/2, W/2) or of their own size."""
        crops = (halved(self.local_augment(batch.x), batch.x) for _ in range(self.local_crops))
        return self.augment(batch.x), self.augment(batch.x), *crops

    def project(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Swapped prediction: cross-entropy of each view's prediction and another view's code."""
        trainable = float(self.progress >= self.freeze_prototypes)
        prototypes = self.prototypes.detach().lerp(self.prototypes, trainable)
        z = self.project(torch.cat(views[:2]))
        if views[2:]:
            z = torch.cat([z, self.project(torch.cat(views[2:]))])
        z = F.normalize(z.float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):
            scores = (z @ prototypes.T).chunk(len(views))  # (B, K) each
        log_p = [F.log_softmax(s / self.temperature, 1) for s in scores]
        codes = [self.sinkhorn(s) for s in scores[:2]]
        pairs = [(q, p) for i, q in enumerate(codes) for j, p in enumerate(log_p) if i != j]
        return -torch.stack([(q * p).sum(1).mean() for q, p in pairs]).mean()

    def sinkhorn(self, scores: Tensor) -> Tensor:
        """Codes (B, K) of scores (B, K); over all processes, prototypes are used equally."""
        return sinkhorn(scores / self.epsilon, self.sinkhorn_iterations)

    def update(self) -> None:
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
