"""Baselines without training: pixels, their principal and independent components, clusters."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import decomposition
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder
from unlabeled.modality import Audio, Images, Series, Table
from unlabeled.utils.quiet import quiet


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
        """Fit scikit-learn's PCA, seeded, to images (N, C, H, W), N at least `dim`."""
        model = decomposition.PCA(self.components.shape[1], random_state=0)
        model.fit(x.flatten(1).double().numpy())  # float32 loses digits in sums over all rows
        self.mean = torch.from_numpy(model.mean_).float()
        self.components = torch.from_numpy(model.components_.T.copy()).float()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - self.mean) @ self.components


class ICA(PCA):
    """Independent components of the pixels, (B, C, H, W) -> (B, dim)."""

    def fit(self, x: Tensor) -> ICA:
        """Fit scikit-learn's FastICA, seeded, to images (N, C, H, W), N at least `dim`.

        It is applied to whitened principal components, since many pixels never vary.
        """
        dim = self.components.shape[1]
        whitening = decomposition.PCA(dim, whiten=True, random_state=0)
        white = whitening.fit_transform(x.flatten(1).double().numpy())
        model = decomposition.FastICA(whiten=False, random_state=0, tol=1e-3)
        with quiet():  # it may warn that it did not converge
            model.fit(white)
        scaled = whitening.components_ / np.sqrt(whitening.explained_variance_)[:, None]
        self.mean = torch.from_numpy(whitening.mean_).float()
        self.components = torch.from_numpy(scaled.T @ model.components_.T).float()
        return self


class Clusters(nn.Module):
    """Activation of `dim` k-means centers, (B, C, H, W) -> (B, dim).

    max(0, mean distance − distance), the "triangle" of Coates, Lee, Ng 2011, section 3.2.
    """

    centers: Tensor

    def __init__(self, channels: int, size: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.zeros(dim, channels * size[0] * size[1]))

    def fit(self, x: Tensor) -> Clusters:
        """Fit scikit-learn's mini-batch k-means, seeded, to images (N, C, H, W), N ≥ `dim`."""
        model = MiniBatchKMeans(len(self.centers), random_state=0, n_init=1)
        model.fit(x.flatten(1).numpy())
        self.centers = torch.from_numpy(model.cluster_centers_).float()
        return self

    def forward(self, x: Tensor) -> Tensor:
        distance = torch.cdist(x.flatten(1), self.centers)
        return (distance.mean(1, keepdim=True) - distance).relu()


class Fixed(Encoder):
    """An encoder that is not trained: it has no stages, and takes anything but tokens."""

    modality = (Images, Audio, Series, Table)

    def __init__(self, summary: nn.Module, dim: int) -> None:
        super().__init__([], summary, dim)


class Spectrum(nn.Module):
    """Mean, deviation and logarithm of the power spectrum of each channel: (B, C, 1, T) -> (B, d).

    The spectrum is that of the differences to the mean, averaged in at most `bands` bands.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        mean, deviation = x.mean(2, keepdim=True), x.std(2, keepdim=True)
        power = torch.fft.rfft(x - mean, norm="ortho").abs().square()[:, :, 1:]
        bands = F.adaptive_avg_pool1d(power, self.bands) if self.bands else power[:, :, :0]
        return torch.cat([mean, deviation, (bands + 1e-6).log()], 2).flatten(1)


def spectrum(channels: int = 1, size: tuple[int, int] = (1, 128), bands: int = 64) -> Encoder:
    """Power spectrum, mean and deviation of time series, without any training.

    Args:
        bands: of frequencies, at most as many as there are.
    """
    bands = min(bands, size[0] * size[1] // 2)
    return Fixed(Spectrum(bands), channels * (bands + 2))


def raw(channels: int = 3, size: tuple[int, int] = (64, 64)) -> Encoder:
    """The pixels, or other values, as one vector, the baseline of every representation."""
    return Fixed(nn.Flatten(), dim=channels * size[0] * size[1])


def pca(channels: int = 3, size: tuple[int, int] = (64, 64), dim: int = 64) -> Encoder:
    """Principal components of the pixels, fitted to the training images."""
    return Fixed(PCA(channels, size, dim), dim=dim)


def ica(channels: int = 3, size: tuple[int, int] = (64, 64), dim: int = 64) -> Encoder:
    """Independent components of the pixels, fitted to the training images."""
    return Fixed(ICA(channels, size, dim), dim=dim)


def kmeans(channels: int = 3, size: tuple[int, int] = (64, 64), dim: int = 64) -> Encoder:
    """Activations of k-means centers, fitted to the training images."""
    return Fixed(Clusters(channels, size, dim), dim=dim)
