"""Random augmentations of video clips, whose frames are channels: (B, T, H, W).

What two views share is what an encoder that matches them must represent.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.augmentations.base import Augmentation
from unlabeled.augmentations.image import RandomAffine

CLIP_AFFINE = RandomAffine(translate=0.15, scale=(0.8, 1.25), interpolation="bilinear")


@dataclass(frozen=True)
class RandomMotion(Augmentation):
    """Same object, other motion: one frame of the clip moves with a random constant velocity.

    Args:
        speed: largest velocity along each axis, in pixels per frame.
        affine: augmentation of the whole clip.
    """

    speed: float = 1.0
    affine: RandomAffine = CLIP_AFFINE

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, H, W) -> (B, T, H, W); pixels from outside are black."""
        b, t = x.shape[:2]
        frame = torch.randint(t, (b,), device=x.device)
        still = x[torch.arange(b, device=x.device), frame][:, None].expand(-1, t, -1, -1)
        velocity = self.speed * (2 * torch.rand(b, 1, 2, device=x.device) - 1)
        time = torch.arange(t, device=x.device)[:, None] - (t - 1) / 2  # 0 in the middle
        return self.affine(shift_frames(still, (velocity * time).round().long()))


@dataclass(frozen=True)
class RandomShape(Augmentation):
    """Same motion, other object: all frames convolved with one random kernel, and shifted.

    The kernel replaces every point by a few random ones, which changes the outline of the object
    but not its path from frame to frame.

    Args:
        points: number of points of the kernel.
        radius: of the kernel, in pixels.
        shift: largest shift of the whole clip along each axis, in pixels.
    """

    points: int = 4
    radius: int = 4
    shift: int = 4

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, H, W) -> (B, T, H, W), with one kernel and one shift per clip."""
        b, t = x.shape[:2]
        side = 2 * self.radius + 1
        kernel = torch.zeros(b, side * side, device=x.device)
        position = torch.randint(side * side, (b, self.points), device=x.device)
        kernel.scatter_(1, position, 0.3 + 0.7 * torch.rand(b, self.points, device=x.device))
        kernel = kernel.view(b, 1, side, side).to(x.dtype)
        clips = x.transpose(0, 1)  # each clip is a group of the convolution
        blurred = F.conv2d(clips, kernel, padding=self.radius, groups=b).transpose(0, 1)
        blurred = blurred / blurred.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
        shift = torch.randint(-self.shift, self.shift + 1, (b, 1, 2), device=x.device)
        return shift_frames(blurred, shift.expand(-1, t, -1))


def augment_clips(x: Tensor, length: int, augment: Augmentation) -> Tensor:
    """Frames (B, C, H, W) as clips (n, length, C, H, W), all frames of one augmented alike.

    Args:
        x: clips of consecutive frames, one after another; frames that fill no clip are left out.
        length: of a clip, in frames.
        augment: geometric, since it gets the frames of a clip as the channels of an image.
    """
    clips = x[: len(x) // length * length].unflatten(0, (-1, length))
    return augment(clips.flatten(1, 2)).unflatten(1, (length, -1))


def shift_frames(x: Tensor, shift: Tensor) -> Tensor:
    """Shift every frame by whole pixels, filling with 0.

    Args:
        x: (B, T, H, W) clips.
        shift: (B, T, 2) pixels down and to the right.
    """
    height, width = x.shape[2:]
    row = torch.arange(height, device=x.device) - shift[:, :, :1]  # (B, T, H), of the source
    column = torch.arange(width, device=x.device) - shift[:, :, 1:]
    row_inside, column_inside = (row >= 0) & (row < height), (column >= 0) & (column < width)
    moved = x.gather(2, row.clamp(0, height - 1)[..., None].expand(-1, -1, -1, width))
    moved = moved.gather(3, column.clamp(0, width - 1)[:, :, None].expand(-1, -1, height, -1))
    return moved * (row_inside[..., None] & column_inside[:, :, None])
