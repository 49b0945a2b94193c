"""The default encoder of images, small enough for two CPU cores."""

from torch import nn

from unlabeled.encoders.base import Encoder, GlobalPool


def small(channels: int = 3, width: int = 16) -> Encoder:
    """Four strided convolutions and global average pooling: 8·width features (128).

    5×5, then 3×3 kernels of stride 2; width, 2·, 4·, 8·width channels; BatchNorm and ReLU.
    """
    widths = [width, 2 * width, 4 * width, 8 * width]
    kernels = [5, 3, 3, 3]
    stages = []
    for c_in, c_out, k in zip([channels, *widths], widths, kernels, strict=False):
        convolution = nn.Conv2d(c_in, c_out, k, stride=2, padding=k // 2, bias=False)
        stages.append(nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)))
    return Encoder(stages, GlobalPool(), dim=8 * width)
