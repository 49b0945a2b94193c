"""TiCo: transformation invariance and covariance contrast (Zhu et al. 2022).

Zhu, Moraes, Karakulak, Sobol, Canziani, LeCun 2022, "TiCo: Transformation Invariance and Covariance
Contrast for Self-Supervised Visual Representation Learning", algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, cosine
from unlabeled.encoders.heads import mlp
from unlabeled.parallel import gather


class TiCo(Method):
    """Embeddings agree with those of a momentum encoder, and avoid directions that are much used.

    L = 1 − mean z·t + ρ mean zᵀ C z. C ← β C + (1 − β) mean z zᵀ is an exponential moving average
    of the second moments of all embeddings z; zᵀ C z is the mean of squared similarities with all
    embeddings seen, as if a memory bank had all of them. The batch enters C before the loss and has
    a gradient through it, that of earlier batches has none.

    Args:
        dim: width of the embeddings; 256 in the paper.
        hidden_dim: width of the projector's hidden layer; 4096 in the paper.
        momentum: of the momentum encoder at the start, rising to 1 along half a cosine; 0.99.
        covariance_momentum: β; the paper's 0.9.
        contrast: ρ, weight of the covariance contrast; the paper's 8.
        augment: random augmentation of each view (default: the data set's).
        second_augment: that of the momentum encoder's view, where it differs.
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        momentum: float = 0.99,
        covariance_momentum: float = 0.9,
        contrast: float = 8.0,
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(self.encoder.dim, hidden_dim, dim)
        self.target = EMA(nn.Sequential(self.encoder, self.projector))
        self.covariance: Tensor
        self.register_buffer("covariance", torch.zeros(dim, dim))
        self.momentum, self.covariance_momentum = cosine(momentum, 1.0), covariance_momentum
        self.contrast = contrast
        self.augment = augment or SimCLRAugment()
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.second_augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Invariance and covariance contrast over all processes' batch."""
        outputs = self.project(views[0]), self.target(views[1])
        z, t = (gather(F.normalize(out.float(), dim=1)) for out in outputs)  # (B, dim) each
        with torch.autocast(z.device.type, enabled=False):
            moments = z.T @ z / len(z)  # (dim, dim)
            covariance = self.covariance.lerp(moments, 1 - self.covariance_momentum)
            contrast = ((z @ covariance) * z).sum(1).mean()
        self.moments = moments.detach()[None]  # one row for each part of the batch
        return 1 - (z * t).sum(1).mean() + self.contrast * contrast

    def update(self) -> None:
        """Update the momentum encoder and the covariance matrix."""
        online = nn.Sequential(self.encoder, self.projector)
        self.target.update(online, self.momentum(self.progress))
        self.covariance.lerp_(self.moments.mean(0), 1 - self.covariance_momentum)
