"""Residual networks (He et al. 2016), with a stem for small images."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder, GlobalPool


def resnet18(channels: int = 3, size: tuple[int, int] = (224, 224), width: float = 1.0) -> Encoder:
    """ResNet-18: 512·width features. Images up to 64 px get a 3×3 stem without pooling."""
    return _resnet(basic_block, 1, [2, 2, 2, 2], channels, size, width)


def resnet34(channels: int = 3, size: tuple[int, int] = (224, 224), width: float = 1.0) -> Encoder:
    """ResNet-34: 512·width features. Images up to 64 px get a 3×3 stem without pooling."""
    return _resnet(basic_block, 1, [3, 4, 6, 3], channels, size, width)


def resnet50(channels: int = 3, size: tuple[int, int] = (224, 224), width: float = 1.0) -> Encoder:
    """ResNet-50: 2048·width features. Images up to 64 px get a 3×3 stem without pooling."""
    return _resnet(_bottleneck, 4, [3, 4, 6, 3], channels, size, width)


class ResidualBlock(nn.Module):
    """ReLU(body(x) + shortcut(x)), which begins as the identity (Goyal et al. 2017).

    Args:
        body: layers, the last of which is a BatchNorm.
        c_in: input channels.
        c_out: output channels.
        stride: of the body.
    """

    def __init__(self, body: list[nn.Module], c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv(c_in, c_out, 1, stride))
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


def basic_block(c_in: int, c: int, stride: int) -> ResidualBlock:
    """Residual block of two 3×3 convolutions with c channels."""
    body = [*conv(c_in, c, 3, stride), nn.ReLU(inplace=True), *conv(c, c, 3, 1)]
    return ResidualBlock(body, c_in, c, stride)


def _bottleneck(c_in: int, c: int, stride: int) -> ResidualBlock:
    """Residual block of 1×1, 3×3 and 1×1 convolutions with c, c and 4·c channels."""
    body = [
        *conv(c_in, c, 1, 1), nn.ReLU(inplace=True),
        *conv(c, c, 3, stride), nn.ReLU(inplace=True),
        *conv(c, 4 * c, 1, 1),
    ]  # fmt: skip
    return ResidualBlock(body, c_in, 4 * c, stride)


def conv(c_in: int, c_out: int, kernel: int, stride: int) -> list[nn.Module]:
    """A convolution without bias, and BatchNorm."""
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(c_out)]


def _resnet(
    block: Callable[[int, int, int], ResidualBlock],
    expansion: int,
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
            c_in = base * 2**i * expansion
        stages.append(nn.Sequential(*blocks))
    stages[0] = nn.Sequential(*stem, *stages[0].children())
    return Encoder(stages, GlobalPool(), dim=c_in)
