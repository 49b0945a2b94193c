"""SwAV: say from one view to which prototypes the other was assigned.

Caron et al. 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
algorithm 1.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.parallel import gather, own


class SwAV(Method):
    """Prototypes are learned; a batch is spread evenly over them, which keeps it from collapse.

    Args:
        dim: width of the projection.
        prototypes: how many; 3000 in the paper.
        temperature: τ of the prediction.
        smoothness: ε of the even assignment; small is sharp.
        rounds: of Sinkhorn and Knopp's normalization.
        frozen: share of training before the prototypes move; one epoch in the paper.
        augment: the views; the data set's own unless given.
    """

    # The paper's is LARS at 0.6 per 256 images, 800 epochs on ImageNet, with six small crops.
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes: ClassVar = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "prototypes": 64}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        prototypes: int = 300,
        temperature: float = 0.1,
        smoothness: float = 0.05,
        rounds: int = 3,
        frozen: float = 0.01,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.head = mlp(d, d, dim)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, dim), dim=1))
        self.temperature, self.smoothness = temperature, smoothness
        self.rounds, self.frozen = rounds, frozen
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of each view's prediction with the other's assignment."""
        moves = float(self.progress >= self.frozen)
        prototypes = self.prototypes.detach().lerp(self.prototypes, moves)
        z = F.normalize(self.project(torch.cat(views)).float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):
            a, b = (z @ prototypes.T).chunk(2)  # (B, K) each
        p, q = (F.log_softmax(scores / self.temperature, 1) for scores in (a, b))
        return -((self.assign(a) * q).sum(1) + (self.assign(b) * p).sum(1)).mean() / 2

    @torch.no_grad()
    def assign(self, scores: Tensor) -> Tensor:
        """Shares (B, K) of each image in the prototypes, each used alike by the whole batch."""
        log_q = gather(scores) / self.smoothness  # its exponential may be beyond float32
        for _ in range(self.rounds):
            log_q = log_q.log_softmax(0).log_softmax(1)
        return own(log_q.softmax(1))

    def update(self) -> None:
        """Prototypes stay on the sphere."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
