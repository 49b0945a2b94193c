"""Base class of augmentations, and their composition."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


class Augmentation:
    """A random change of a batch (B, C, H, W) in [0, 1], on its device; its output is a view.

    Subclasses are frozen dataclasses, whose fields can be set on the command line and in YAML.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return a view of each sample, each by its own random draw; the shape stays."""
        raise NotImplementedError


@dataclass(frozen=True)
class Compose(Augmentation):
    """Apply several augmentations in order."""

    transforms: list[Augmentation] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x


def uniform(x: Tensor, low: float, high: float, *shape: int) -> Tensor:
    """Numbers drawn from [low, high) for each row of x, (B, *shape)."""
    return torch.rand(len(x), *shape, device=x.device) * (high - low) + low


def random_rows(x: Tensor, p: float) -> Tensor:
    """Indices of the rows that an augmentation of probability p changes, drawn independently."""
    return (torch.rand(len(x), device=x.device) < p).nonzero().squeeze(1)
