"""A residual network that keeps places apart, for what asks where something is."""

from __future__ import annotations

from torch import nn

from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.encoders.resnet import BasicBlock, conv


def spatial_resnet(channels: int = 3, width: int = 32, blocks: int = 2) -> Encoder:
    """Two strided convolutions and residual blocks on a map of a quarter of the side: 2·width
    features (64), the mean of all places.

    Args:
        channels: of the images.
        width: of the first convolution; the map is twice as wide.
        blocks: on the map, each of two 3×3 convolutions.
    """
    stem = [
        *conv(channels, width, 5, 2), nn.ReLU(inplace=True),
        *conv(width, 2 * width, 3, 2), nn.ReLU(inplace=True),
    ]  # fmt: skip
    stages = [nn.Sequential(*stem), *(BasicBlock(2 * width, 2 * width, 1) for _ in range(blocks))]
    return Encoder(stages, GlobalPool(), dim=2 * width)
