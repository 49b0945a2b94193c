"""What tests of methods of two views share: small methods, images, encoders without BatchNorm."""

import torch
from torch import nn

from unlabeled import registry
from unlabeled.augmentations import RandomAffine
from unlabeled.core import Method
from unlabeled.encoders.base import build

SIZE = (32, 32)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def plain() -> nn.Module:
    """An encoder without BatchNorm: every row goes by itself."""
    return build(nn.Sequential(nn.Conv2d(1, 6, 8, 8), nn.Tanh(), Mean()), 1, SIZE)


def make(name: str, **arguments) -> Method:
    """The method on that encoder, in float64, with seed 0."""
    torch.manual_seed(0)
    method = registry.find("methods", name)(plain(), **{"augment": RandomAffine()} | arguments)
    return method.double()


def images(n: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 1, *SIZE, generator=torch.Generator().manual_seed(seed)).double()


def two_views(n: int = 8, number: int = 2) -> tuple[torch.Tensor, ...]:
    return tuple(images(n, seed) for seed in range(1, number + 1))


def unit(z: torch.Tensor) -> torch.Tensor:
    """Rows of length 1, one by one."""
    return torch.stack([row / row.norm() for row in z])


def updated(method: Method, views) -> None:
    """What follows a step, without the step."""
    method.loss(views)
    with torch.no_grad():
        method.update()
