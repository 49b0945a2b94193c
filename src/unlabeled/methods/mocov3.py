"""MoCo v3: momentum contrast without a queue, for vision transformers, too (Chen et al. 2021).

Chen, Xie, He 2021, "An Empirical Study of Training Self-Supervised Vision Transformers",
algorithm 1.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, cosine
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.vit import ViT
from unlabeled.objectives import info_nce
from unlabeled.parallel import gather


class MoCoV3(Method):
    """Queries of each view are contrasted with the batch's keys of the other view.

    Keys are of a moving average of encoder and projector; queries pass a predictor, too. The loss
    is symmetrized by a sum and scaled by 2τ. Of a transformer the patch projection keeps its random
    weights, without which training is unstable (section 4.2). Each view is a separate batch for
    BatchNorm, as in the authors' code.

    Args:
        dim: width of queries and keys; 256 in the paper.
        hidden_dim: width of the hidden layers of projector and predictor; 4096 in the paper.
        momentum: m of the keys' network, rising to 1 along half a cosine; 0.99 in the paper.
        temperature: τ; 0.2 in the paper for transformers, 1 in the authors' code for ResNet-50.
        freeze_patches: whether the patch projection of a transformer is frozen.
        augment: random augmentation of each view (default: the data set's).
        second_augment: that of the second view, where it differs.
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3}}
    presets = {
        "paper": {
            "encoder": "vit_base", "encoder_args": {"patch": 16, "positions": "sincos"},
            "size": 224, "dim": 256, "hidden_dim": 4096, "momentum": 0.99,
            "augment": BYOLAugment(), "second_augment": BYOLAugment(blur=0.1, solarize=0.2),
            "epochs": 300, "batch_size": 4096, "optimizer": "adamw", "lr": 2.4e-3,
            "lr_scaling": "linear", "warmup_epochs": 40, "weight_decay": 0.1,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        momentum: float = 0.99,
        temperature: float = 0.2,
        freeze_patches: bool = True,
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        hidden = [hidden_dim] * (2 if isinstance(encoder, ViT) else 1)
        self.projector = mlp(self.encoder.dim, *hidden, dim, last_norm=True)
        self.predictor = mlp(dim, hidden_dim, dim, last_norm=True)
        if isinstance(encoder, ViT) and freeze_patches:
            encoder.stages[0].project.requires_grad_(False)
        self.key_encoder = EMA(nn.Sequential(self.encoder, self.projector))
        self.momentum, self.temperature = cosine(momentum, 1.0), temperature
        self.augment = augment or SimCLRAugment()
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.second_augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """2τ · InfoNCE of queries and the other view's keys of all processes, both directions."""
        q1, q2 = (self.normalized(self.predictor(self.project(x))) for x in views)
        k1, k2 = (self.normalized(self.key_encoder(x)) for x in views)
        loss = info_nce(q1, k2, self.temperature) + info_nce(q2, k1, self.temperature)
        return 2 * self.temperature * loss

    def normalized(self, z: Tensor) -> Tensor:
        """Unit vectors of all processes' batch."""
        return gather(F.normalize(z.float(), dim=1))

    def update(self) -> None:
        """Update the network of the keys."""
        online = nn.Sequential(self.encoder, self.projector)
        self.key_encoder.update(online, self.momentum(self.progress))
