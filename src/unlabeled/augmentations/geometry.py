"""Resample a batch of images, each by its own affine map."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from unlabeled.augmentations import kernel

CHUNK = 64
"""Images resampled at a time on a CPU, whose coordinates fit a core's cache."""


def resample(
    x: Float[Tensor, "b c h w"] | UInt8[Tensor, "b c h w"],
    matrix: Float[Tensor, "b 2 3"],
    mode: Literal["nearest", "bilinear"] = "bilinear",
    size: tuple[int, int] | None = None,
) -> Float[Tensor, "b c *size"]:
    """Resample each image by its own affine map, filling with 0.

    On a CPU this runs in C++ if that could be built (see `kernel.implementation`); nearest then
    gives the same pixels, bilinear agrees to 1e-5.

    Args:
        x: images; bytes are divided by 255.
        matrix: from output to input coordinates (x, y), as in
            `torch.nn.functional.affine_grid(align_corners=False)`.
        mode: nearest keeps binary images binary and is several times faster.
        size: height and width of the output (default: the input's).
    """
    size = size or (x.shape[2], x.shape[3])
    supported = x.dtype in (torch.float32, torch.uint8) and x.device.type == "cpu"
    if supported and not x.requires_grad and (run := kernel.compiled()):
        return run(x, matrix, mode == "bilinear", size)
    if x.dtype == torch.uint8:
        x = x.float() / 255
    sample = _nearest if mode == "nearest" else _bilinear
    n = CHUNK if x.device.type == "cpu" else max(1, len(x))
    return torch.cat([sample(p, m, size) for p, m in zip(x.split(n), matrix.split(n), strict=True)])


def _coordinates(matrix: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Input coordinates (B, 2, *size) in pixels; (0, 0) is the center of the first pixel."""
    height, width = size
    half = matrix.new_tensor([x.shape[3] / 2, x.shape[2] / 2])[:, None]
    across = (torch.arange(width, device=matrix.device) + 0.5) / (width / 2) - 1
    down = (torch.arange(height, device=matrix.device) + 0.5) / (height / 2) - 1
    columns = matrix[:, :, :1] * across * half  # (B, 2, W)
    rows = (matrix[:, :, 1:2] * down + matrix[:, :, 2:] + 1) * half - 0.5  # (B, 2, H)
    return columns[:, :, None, :] + rows[:, :, :, None]


def _nearest(x: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    # Gather from images with a border of zeros, to which outside coordinates are clamped.
    b, c, h, w = x.shape
    xy = _coordinates(matrix, x, size).add_(1.5)
    column = xy[:, 0].clamp_(0, w + 1).floor_()
    row = xy[:, 1].clamp_(0, h + 1).floor_()
    index = column.add_(row, alpha=w + 2).long().view(b, 1, -1).expand(b, c, -1)
    return F.pad(x, (1, 1, 1, 1)).flatten(2).gather(2, index).view(b, c, *size)


def _bilinear(x: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    xy = _coordinates(matrix, x, size)
    sides = matrix.new_tensor([x.shape[3], x.shape[2]])[:, None, None]
    grid = ((xy + 0.5) * 2 / sides - 1).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid.to(x.dtype), mode="bilinear", align_corners=False)


def affine_matrix(
    angle: Float[Tensor, " b"],
    shift: Float[Tensor, "b 2"],
    scale: Float[Tensor, " b"],
    aspect: float = 1.0,
) -> Float[Tensor, "b 2 3"]:
    """Maps from output to input coordinates that rotate, scale and then translate images.

    Args:
        angle: clockwise, in radians.
        shift: to the right and down, as fractions of the image's sides.
        scale: above 1 enlarges.
        aspect: the image's width over its height.
    """
    cos, sin = angle.cos() / scale, angle.sin() / scale
    dx, dy = (2 * shift).unbind(1)  # the side is 2 long
    right, down = sin / aspect, sin * aspect  # both sides are 2 long, whatever their pixels
    x_row = torch.stack([cos, right, -cos * dx - right * dy], 1)
    y_row = torch.stack([-down, cos, down * dx - cos * dy], 1)
    return torch.stack([x_row, y_row], 1)


def crop_matrix(
    center: Float[Tensor, "b 2"], size: Float[Tensor, "b 2"], flip: Float[Tensor, " b"]
) -> Float[Tensor, "b 2 3"]:
    """Maps from output to input coordinates that crop a box and resize it to the image's size.

    Args:
        center: of the box (x, y), in coordinates from −1 to 1.
        size: of the box (width, height), as fractions of the image's.
        flip: 1, or −1 for a horizontal flip.
    """
    zero = torch.zeros_like(flip)
    x_row = torch.stack([size[:, 0] * flip, zero, center[:, 0]], 1)
    y_row = torch.stack([zero, size[:, 1], center[:, 1]], 1)
    return torch.stack([x_row, y_row], 1)
