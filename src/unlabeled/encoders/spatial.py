"""A residual network with a fine feature map, and maps of features for each pixel."""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.encoders.resnet import basic_block, conv
from unlabeled.errors import UserError
from unlabeled.utils.state import eval_mode


def spatial_resnet(channels: int = 3, width: int = 32, blocks: int = 2) -> Encoder:
    """Residual network on a map of a quarter of the image's side: 2·width features (64).

    Args:
        width: channels of the first of two strided convolutions; the map has twice as many.
        blocks: number of residual blocks on the map.
    """
    stem = [
        *conv(channels, width, 5, 2), nn.ReLU(inplace=True),
        *conv(width, 2 * width, 3, 2), nn.ReLU(inplace=True),
    ]  # fmt: skip
    stages = [nn.Sequential(*stem), *(basic_block(2 * width, 2 * width, 1) for _ in range(blocks))]
    return Encoder(stages, GlobalPool(), dim=2 * width)


def feature_map_size(
    encoder: nn.Module, shape: tuple[int, int, int], method: str
) -> tuple[int, int, int]:
    """Channels, height and width of an encoder's feature map of images of that shape.

    Raises:
        UserError: it has no map, one of fewer than 4 × 4 positions, or layers after it, which
            `method` would not train.
    """
    with eval_mode(encoder), torch.no_grad():
        try:
            features = encoder.map(torch.zeros(1, *shape))  # type: ignore[operator]
        except (AttributeError, RuntimeError) as error:
            raise UserError(
                f"{method} needs an encoder with a feature map: use spatial_resnet, or a resnet"
            ) from error
    summary = getattr(getattr(encoder, "network", encoder), "summary", None)
    if summary is not None and any(True for _ in summary.parameters()):
        raise UserError(
            f"this encoder has layers after its feature map, which {method} would not train, "
            "though its features come from them: use spatial_resnet, or a resnet"
        )
    _, channels, height, width = features.shape
    if min(height, width) < 4:
        raise UserError(
            f"the encoder's feature map is {height}×{width}, but must be at least 4×4; use "
            "--encoder spatial_resnet, or larger frames"
        )
    return channels, height, width


def dense_map(network: Callable[[Tensor], Tensor], x: Tensor, stride: int, dim: int) -> Tensor:
    """Features of every pixel by a network with a stride: (B, C, H, W) -> (B, dim, H, W).

    The maps of the image shifted by each number of pixels below the stride are interleaved.
    """
    height, width = x.shape[2:]
    bottom, right = (-side % stride + stride - 1 for side in (height, width))
    padded = F.pad(x, (0, right, 0, bottom), mode="replicate")
    rows, columns = height + bottom - stride + 1, width + right - stride + 1
    features = x.new_empty(len(x), dim, rows, columns)
    for i, j in itertools.product(range(stride), repeat=2):
        shifted = padded[:, :, i : i + rows, j : j + columns]
        features[:, :, i::stride, j::stride] = network(shifted)
    return features[:, :, :height, :width]
