"""The encoder of the lecture's own tutorial, for reference."""

from __future__ import annotations

from torch import nn

from unlabeled.encoders.base import Encoder


def lenet(channels: int = 1, size: tuple[int, int] = (64, 64)) -> Encoder:
    """The tutorial's LeNet: 344,476 parameters and 84 signed features on 1×64×64.

    Two blocks of 5×5 convolution, ReLU, average pooling; three of linear, ReLU. BatchNorm without
    learned scale ends each block (Neuromatch Academy, self-supervised day).
    """

    def stage(c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(c_in, c_out, 5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.BatchNorm2d(c_out, affine=False),
        )

    def dense(d_in: int, d_out: int) -> list[nn.Module]:
        return [nn.Linear(d_in, d_out), nn.ReLU(), nn.BatchNorm1d(d_out, affine=False)]

    height, width = (((s - 4) // 2 - 4) // 2 for s in size)
    summary = nn.Sequential(
        nn.Flatten(), *dense(16 * height * width, 120), *dense(120, 84), *dense(84, 84)
    )
    return Encoder([stage(channels, 6), stage(6, 16)], summary, dim=84)
