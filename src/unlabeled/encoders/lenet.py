"""The encoder of the lecture's tutorial, for reference."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder


def lenet(channels: int = 1, size: tuple[int, int] = (64, 64)) -> Encoder:
    """LeNet of the lecture's tutorial: 84 features, 344,476 parameters on 1×64×64.

    Two blocks of 5×5 convolution, ReLU and average pooling, then three of linear layer and ReLU.
    Each block ends in a BatchNorm without scale and shift (Neuromatch Academy).
    """

    def stage(c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, 5),
            nn.ReLU(inplace=True),
            FastAvgPool2d(2),
            nn.BatchNorm2d(c_out, affine=False),
        )

    def dense(d_in: int, d_out: int) -> list[nn.Module]:
        return [nn.Linear(d_in, d_out), nn.ReLU(), nn.BatchNorm1d(d_out, affine=False)]

    height, width = (((s - 4) // 2 - 4) // 2 for s in size)
    summary = nn.Sequential(
        nn.Flatten(), *dense(16 * height * width, 120), *dense(120, 84), *dense(84, 84)
    )
    return Encoder([stage(channels, 6), stage(6, 16)], summary, dim=84)


class FastAvgPool2d(nn.AvgPool2d):
    """AvgPool2d(2) whose training on CPUs is two to five times as fast for few channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2), rounded down."""
        even = x.shape[2] % 2 == x.shape[3] % 2 == 0
        if not (even and x.device.type == "cpu" and x.requires_grad):
            return super().forward(x)
        return _AveragePool2.apply(x)


class _AveragePool2(torch.autograd.Function):
    """Forward as a depthwise convolution, backward by repeated columns and rows: both vectorize."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(x, x.new_full((channels, 1, 2, 2), 0.25), stride=2, groups=channels)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        quarter = grads[0].permute(0, 2, 3, 1) * 0.25  # (B, H, W, C), the memory layout
        b, h, w, c = quarter.shape
        rows = torch.cat([quarter, quarter], 3).reshape(b, h, 1, 2 * w * c)
        return torch.cat([rows, rows], 2).view(b, 2 * h, 2 * w, c).permute(0, 3, 1, 2)
