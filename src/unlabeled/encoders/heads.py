"""Small networks that sit on an encoder while it learns and are thrown away afterwards."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unlabeled.errors import UserError


def mlp(*dims: int, last_norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths; BatchNorm and ReLU between them, nothing after the last.

    `mlp(128, 512, 64)` maps (B, 128) -> (B, 64). Layers before a BatchNorm have no bias.

    Args:
        dims: width of the input, of each hidden layer and of the output.
        last_norm: end with a BatchNorm without learned scale, as SimSiam's head does.

    Raises:
        UserError: a width below 1.
    """
    if min(dims) < 1:
        raise UserError(f"a layer cannot have {min(dims)} outputs; give at least 1")
    *hidden, last = itertools.pairwise(dims)
    layers: list[nn.Module] = []
    for d_in, d_out in hidden:
        layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU(inplace=True)]
    if last_norm:
        norm = nn.BatchNorm1d(last[1], affine=False)
        return nn.Sequential(*layers, nn.Linear(*last, bias=False), norm)
    return nn.Sequential(*layers, nn.Linear(*last))


class PrototypeHead(nn.Module):
    """DINO's: three layers, a sphere, and prototypes on the sphere, (B, dim) -> (B, classes).

    Scores are cosines, in float32. Caron et al. 2021, appendix C.

    Args:
        dim: width of the input.
        hidden: of the first two layers.
        bottleneck: of the sphere.
        classes: number of prototypes.
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.last = nn.Parameter(torch.randn(classes, bottleneck) * 0.02)
        self.moves = 1.0  # share of the prototypes' gradient that is passed on

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim) -> (B, classes)."""
        last = self.last.detach().lerp(self.last, self.moves)
        place = F.normalize(self.body(x).float(), dim=1)
        with torch.autocast(x.device.type, enabled=False):
            return place @ F.normalize(last, dim=1).T


def deconv(dim: int, shape: tuple[int, int, int], width: int = 16) -> nn.Sequential:
    """A decoder: features (B, dim) -> images (B, *shape), unbounded.

    A linear layer to a small map, then transposed convolutions that double it, 4×4 with BatchNorm
    and ReLU, until it covers the image; what is too much is cut off at the right and bottom.
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
    for c_in, c_out in itertools.pairwise([*widths, channels]):
        layers.append(nn.ConvTranspose2d(c_in, c_out, 4, 2, 1))
        if len(layers) < 4 + 3 * (doublings - 1):
            layers += [nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, Cut(height, width_px))


class Cut(nn.Module):
    """The top left corner of a map, (B, C, H, W) -> (B, C, height, width)."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, height, width)."""
        return x[..., : self.height, : self.width]


class Critic(nn.Module):
    """LazyImages (B, *shape) -> a score each (B, 1): strided convolutions of spectral norm 1.

    Miyato, Kataoka, Koyama, Yoshida 2018, "Spectral Normalization for Generative Adversarial
    Networks". Norms follow the weights in `follow`, to be called after each step, so that a forward
    pass changes nothing.

    Args:
        shape: channels, height and width of the images.
        width: channels of the first layer; later ones have up to eight times as many.
        code: numbers that come with each image and are judged together with it.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 32, code: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in, (rows, columns), c_out = shape[0], shape[1:], width
        while min(rows, columns) > 4:
            layers += [_spectral(nn.Conv2d(c_in, c_out, 4, 2, 1)), nn.LeakyReLU(0.1, inplace=True)]
            c_in, c_out, rows, columns = c_out, min(8 * width, 2 * c_out), rows // 2, columns // 2
        self.map = nn.Sequential(*layers)
        hidden = 8 * width
        joint = [_spectral(nn.Linear(c_in * rows * columns + code, hidden)), nn.LeakyReLU(0.1)]
        flat = hidden if code else c_in * rows * columns
        self.last = nn.Sequential(*joint * bool(code), _spectral(nn.Linear(flat, 1)))

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """(B, C, H, W), and codes (B, code) if it has any -> (B, 1)."""
        features = self.map(x).flatten(1)
        if code is not None:
            features = torch.cat([features, code.to(features.dtype)], 1)
        return self.last(features)

    def update(self) -> None:
        """One step of the power method for each layer."""
        for layer in self.modules():
            if parametrize.is_parametrized(layer, "weight"):
                held: Any = layer.parametrizations["weight"]  # type: ignore[index]
                held[0].update(held.original)


def _spectral(layer: nn.Module) -> nn.Module:
    """The layer, its weight divided by its largest singular value."""
    parametrize.register_parametrization(layer, "weight", _Spectral(layer.weight))  # type: ignore[arg-type]
    return layer


class _Spectral(nn.Module):
    """W -> W / σ(W), σ by singular vectors that the power method holds."""

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
        """One step of the power method."""
        matrix = weight.flatten(1)
        self.right.copy_(F.normalize(matrix.T @ self.left, dim=0))
        self.left.copy_(F.normalize(matrix @ self.right, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight of norm 1."""
        return weight / (self.left @ weight.flatten(1) @ self.right)
