"""Random changes of clips, whose frames are channels: (B, T, H, W).

What stays the same in two views is what an encoder that joins them must keep.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.augmentations.base import Augmentation
from unlabeled.augmentations.image import RandomAffine


@dataclass(frozen=True)
class OwnWay(Augmentation):
    """The same object, gliding otherwise: with a velocity of its own, elsewhere, turned and nearer
    or further.

    Args:
        speed: of the object in any of its frames, in pixels a frame at most, in x and in y.
        place: of the whole clip.
    """

    speed: float = 1.0
    place: RandomAffine = field(
        default_factory=lambda: RandomAffine(translation=0.15, scale=(0.8, 1.25), mode="bilinear")
    )

    def __call__(self, x: Tensor) -> Tensor:
        """One frame of each clip glides; what comes in from outside is black."""
        b, t = x.shape[:2]
        frame = torch.randint(t, (b,), device=x.device)
        still = x[torch.arange(b, device=x.device), frame][:, None].expand(-1, t, -1, -1)
        velocity = self.speed * (2 * torch.rand(b, 1, 2, device=x.device) - 1)
        since = torch.arange(t, device=x.device)[:, None] - (t - 1) / 2  # the middle of the clip
        return self.place(shifted(still, (velocity * since).round().long()))


@dataclass(frozen=True)
class OtherShape(Augmentation):
    """The same movement of another object: all frames blurred by one random kernel, and shifted.

    A sum of a few random blobs takes the place of every point, so that the outline is no longer
    the sprite's; the way from frame to frame stays as it was.

    Args:
        blobs: how many points there are of each.
        reach: how far they lie apart, in pixels at most.
        shift: of the whole clip.
    """

    blobs: int = 4
    reach: int = 4
    shift: int = 4

    def __call__(self, x: Tensor) -> Tensor:
        """One kernel and one shift for each clip."""
        b, t = x.shape[:2]
        side = 2 * self.reach + 1
        kernel = torch.zeros(b, side * side, device=x.device)
        place = torch.randint(side * side, (b, self.blobs), device=x.device)
        kernel.scatter_(1, place, 0.3 + 0.7 * torch.rand(b, self.blobs, device=x.device))
        frames = x.transpose(0, 1)  # each clip is a group of its own
        blurred = F.conv2d(
            frames, kernel.view(b, 1, side, side).to(x.dtype), padding=self.reach, groups=b
        ).transpose(0, 1)
        blurred = blurred / blurred.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
        one = _offsets(b, 1, self.shift, x).expand(-1, t, -1)
        return shifted(blurred, one)


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """Every frame moved by so many pixels down and right: x (B, T, H, W), by (B, T, 2)."""
    height, width = x.shape[2:]
    down = torch.arange(height, device=x.device) - by[:, :, :1]  # (B, T, H), where it comes from
    right = torch.arange(width, device=x.device) - by[:, :, 1:]
    inside = ((down >= 0) & (down < height))[..., None] & ((right >= 0) & (right < width))[
        :, :, None
    ]
    moved = x.gather(2, down.clamp(0, height - 1)[..., None].expand(-1, -1, -1, width))
    moved = moved.gather(3, right.clamp(0, width - 1)[:, :, None].expand(-1, -1, height, -1))
    return moved * inside


def _offsets(b: int, t: int, shift: int, x: Tensor) -> Tensor:
    return torch.randint(-shift, shift + 1, (b, t, 2), device=x.device)
