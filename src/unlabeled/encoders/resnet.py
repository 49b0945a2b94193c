"""Residual networks (He et al. 2016), with the stem that small images need."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder, GlobalPool


def resnet18(channels: int = 3, size: tuple[int, int] = (224, 224), width: float = 1.0) -> Encoder:
    """ResNet-18: 512·width features. Images up to 64 px get the 3×3 stem without pooling."""
    return _resnet(BasicBlock, [2, 2, 2, 2], channels, size, width)


def resnet34(channels: int = 3, size: tuple[int, int] = (224, 224), width: float = 1.0) -> Encoder:
    """ResNet-34: 512·width features. Images up to 64 px get the 3×3 stem without pooling."""
    return _resnet(BasicBlock, [3, 4, 6, 3], channels, size, width)


def resnet50(channels: int = 3, size: tuple[int, int] = (224, 224), width: float = 1.0) -> Encoder:
    """ResNet-50: 2048·width features. Images up to 64 px get the 3×3 stem without pooling."""
    return _resnet(_Bottleneck, [3, 4, 6, 3], channels, size, width)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, c_in: int, c: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv(c_in, c, 3, stride), nn.ReLU(inplace=True), *conv(c, c, 3, 1)
        )
        self.shortcut = _shortcut(c_in, c, stride)
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]  # each block starts as the identity (Goyal 2017)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, c_in: int, c: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv(c_in, c, 1, 1),
            nn.ReLU(inplace=True),
            *conv(c, c, 3, stride),
            nn.ReLU(inplace=True),
            *conv(c, 4 * c, 1, 1),
        )
        self.shortcut = _shortcut(c_in, 4 * c, stride)
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


def conv(c_in: int, c_out: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(c_out)]


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    if c_in == c_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(*conv(c_in, c_out, 1, stride))


def _resnet(
    block: type[BasicBlock] | type[_Bottleneck],
    depths: list[int],
    channels: int,
    size: tuple[int, int],
    width: float,
) -> Encoder:
    base = round(64 * width)
    if max(size) <= 64:
        stem = [*conv(channels, base, 3, 1), nn.ReLU(inplace=True)]
    else:
        stem = [*conv(channels, base, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    stages: list[nn.Module] = []
    c_in = base
    for i, depth in enumerate(depths):
        blocks = []
        for j in range(depth):
            stride = 2 if i > 0 and j == 0 else 1
            blocks.append(block(c_in, base * 2**i, stride))
            c_in = base * 2**i * block.expansion
        stages.append(nn.Sequential(*blocks))
    stages[0] = nn.Sequential(*stem, *stages[0].children())
    return Encoder(stages, GlobalPool(), dim=c_in)
