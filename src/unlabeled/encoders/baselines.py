"""What needs no training: the pixels themselves, and their principal components."""

from __future__ import annotations

import torch
from sklearn import decomposition
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder


class PCA(nn.Module):
    """The first `dim` principal components of the pixels, (B, C, H, W) -> (B, dim)."""

    mean: Tensor
    components: Tensor

    def __init__(self, channels: int, size: tuple[int, int], dim: int) -> None:
        super().__init__()
        pixels = channels * size[0] * size[1]
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", torch.eye(pixels, dim))

    def fit(self, x: Tensor) -> PCA:
        """Fit on pictures (N, C, H, W), N at least `dim`: scikit-learn's PCA, seeded."""
        model = decomposition.PCA(self.components.shape[1], random_state=0)
        model.fit(x.flatten(1).numpy())
        self.mean = torch.from_numpy(model.mean_).float()
        self.components = torch.from_numpy(model.components_.T.copy()).float()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return (x.flatten(1) - self.mean) @ self.components


def raw(channels: int = 3, size: tuple[int, int] = (64, 64)) -> Encoder:
    """The pixels themselves, as one long vector: what every representation has to beat."""
    return Encoder([], nn.Flatten(), dim=channels * size[0] * size[1])


def pca(channels: int = 3, size: tuple[int, int] = (64, 64), dim: int = 64) -> Encoder:
    """Principal components of the pixels, fitted on the training pictures; nothing is learnt."""
    return Encoder([], PCA(channels, size, dim), dim=dim)
