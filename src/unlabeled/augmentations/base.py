"""What a view is: a random change of a batch of images, drawn anew for each image."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


class Augmentation:
    """From images (B, C, H, W) in [0, 1] to changed ones of the same shape, on their device.

    Subclasses are frozen dataclasses; their fields are what the command line and YAML can set.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Change each image by its own random draw."""
        raise NotImplementedError


@dataclass(frozen=True)
class Compose(Augmentation):
    """One view after another.

    Args:
        views: in the order in which they are applied.
    """

    views: list[Augmentation] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply them in order."""
        for view in self.views:
            x = view(x)
        return x


def random_rows(x: Tensor, p: float) -> Tensor:
    """Indices of the images that a view of probability p changes, each drawn by itself."""
    return (torch.rand(len(x), device=x.device) < p).nonzero().squeeze(1)
