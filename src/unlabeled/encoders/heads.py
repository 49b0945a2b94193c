"""Heads, decoders and discriminators that are trained with an encoder and discarded afterwards."""

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unlabeled.errors import UserError


def mlp(*dims: int, last_norm: bool = False) -> nn.Sequential:
    """Multilayer perceptron; BatchNorm and ReLU follow each linear layer but the last.

    `mlp(128, 512, 64)` maps (B, 128) -> (B, 64). Layers before a BatchNorm have no bias.

    Args:
        dims: width of the input, of each hidden layer and of the output.
        last_norm: end with a BatchNorm without learned scale and shift, as SimSiam's head does.

    Raises:
        UserError: a width is below 1.
    """
    if min(dims) < 1:
        raise UserError(f"a layer cannot have {min(dims)} outputs; give at least 1")
    *hidden, last = itertools.pairwise(dims)
    layers: list[nn.Module] = []
    for d_in, d_out in hidden:
        layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(*last, bias=not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(last[1], affine=False))
    return nn.Sequential(*layers)


def classify_views(encoder: nn.Module, classifier: nn.Module, *views: Tensor) -> tuple[Tensor, ...]:
    """Logits (B, classes) of several views (B, C, H, W), which form one batch for BatchNorm."""
    return classifier(encoder(torch.cat(views))).float().chunk(len(views))


def encode_tiles(encoder: nn.Module, tiles: Tensor) -> Tensor:
    """Features of all tiles of an image side by side: (B, n, C, s, s) -> (B, n · dim)."""
    return encoder(tiles.flatten(0, 1)).view(len(tiles), -1)


class PrototypeHead(nn.Module):
    """DINO's head: an MLP, L2 normalization, and cosines with prototypes.

    (B, dim) -> (B, prototypes). The cosines are computed in float32.

    Args:
        dim: width of the input.
        hidden_dim: width of the first two layers.
        bottleneck_dim: dimension of the normalized output and of the prototypes.
        prototypes: number of prototypes.

    Source: Caron et al. 2021, appendix C.
    """

    def __init__(self, dim: int, hidden_dim: int, bottleneck_dim: int, prototypes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim), nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck_dim) * 0.02)
        self.gradient_scale = 1.0  # of the prototypes; 0 freezes them

    def forward(self, x: Tensor) -> Tensor:
        prototypes = self.prototypes.detach().lerp(self.prototypes, self.gradient_scale)
        z = F.normalize(self.body(x).float(), dim=1)
        with torch.autocast(x.device.type, enabled=False):
            return z @ F.normalize(prototypes, dim=1).T


def deconv(dim: int, shape: tuple[int, int, int], width: int = 16) -> nn.Sequential:
    """Deconvolutional decoder: features (B, dim) -> unbounded images (B, *shape).

    A linear layer to a small map, then 4×4 transposed convolutions of stride 2 with BatchNorm and
    ReLU until the map covers the image, which is cropped from its top left corner. A side that
    fewer doublings cover is doubled by the last ones only.
    """
    channels, height, width_px = shape
    doublings = max(1, math.ceil(math.log2(max(height, width_px) / 4)))
    rows, columns = (math.ceil(side / 2**doublings) for side in (height, width_px))
    widths = [width * min(8, 2 ** (doublings - 1 - i)) for i in range(doublings)]
    layers: list[nn.Module] = [
        nn.Linear(dim, widths[0] * rows * columns),
        nn.Unflatten(1, (widths[0], rows, columns)),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
    ]
    needed = [math.ceil(math.log2(side)) for side in (height, width_px)]
    for i, (c_in, c_out) in enumerate(itertools.pairwise([*widths, channels])):
        down, across = (2 if doublings - i <= number else 1 for number in needed)
        kernel = 2 + down, 2 + across  # 4 doubles a side, 3 keeps it
        layers.append(nn.ConvTranspose2d(c_in, c_out, kernel, (down, across), 1))
        if len(layers) < 4 + 3 * (doublings - 1):
            layers += [nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, CropTo(height, width_px))


class CropTo(nn.Module):
    """Crop a map to its top left corner, (B, C, H, W) -> (B, C, height, width)."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.height, : self.width]


class Discriminator(nn.Module):
    """Convolutional discriminator with spectral normalization: images (B, *shape) -> scores (B, 1).

    A forward pass does not change the estimated norms; call `update` after each optimizer step.

    Args:
        shape: channels, height and width of the images.
        width: channels of the first layer; later layers have up to eight times as many.
        latent_dim: dimension of a latent vector that is scored with each image; 0 for none.

    Source: Miyato, Kataoka, Koyama, Yoshida 2018, "Spectral Normalization for Generative
    Adversarial Networks".
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 32, latent_dim: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in, (rows, columns), c_out = shape[0], shape[1:], width
        while min(rows, columns) > 4:
            layers += [_spectral(nn.Conv2d(c_in, c_out, 4, 2, 1)), nn.LeakyReLU(0.1, inplace=True)]
            c_in, c_out, rows, columns = c_out, min(8 * width, 2 * c_out), rows // 2, columns // 2
        self.map = nn.Sequential(*layers)
        hidden, flat = 8 * width, c_in * rows * columns
        joint = [_spectral(nn.Linear(flat + latent_dim, hidden)), nn.LeakyReLU(0.1)]
        last = _spectral(nn.Linear(hidden if latent_dim else flat, 1))
        self.last = nn.Sequential(*joint * bool(latent_dim), last)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), and latent vectors (B, latent_dim) if any -> (B, 1)."""
        features = self.map(x).flatten(1)
        if z is not None:
            features = torch.cat([features, z.to(features.dtype)], 1)
        return self.last(features)

    def update(self) -> None:
        """One power iteration for each layer."""
        for layer in self.modules():
            if parametrize.is_parametrized(layer, "weight"):
                weight: Any = layer.parametrizations["weight"]  # type: ignore[index]
                weight[0].update(weight.original)


def _spectral(layer: nn.Module) -> nn.Module:
    """Divide a layer's weight by its largest singular value."""
    parametrize.register_parametrization(layer, "weight", _Spectral(layer.weight))  # type: ignore[arg-type]
    return layer


class _Spectral(nn.Module):
    """W -> W / σ(W), with σ from singular vectors estimated by power iteration."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.left: Tensor
        self.right: Tensor
        self.register_buffer("left", F.normalize(torch.randn(len(matrix)), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(matrix.shape[1]), dim=0))
        for _ in range(10):
            self.update(weight)

    @torch.no_grad()
    def update(self, weight: Tensor) -> None:
        matrix = weight.flatten(1)
        self.right.copy_(F.normalize(matrix.T @ self.left, dim=0))
        self.left.copy_(F.normalize(matrix @ self.right, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        return weight / (self.left @ weight.flatten(1) @ self.right)
