"""Resample a batch of images, each by its own affine map, and record where a view comes from."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from unlabeled.augmentations import kernel

CHUNK = 64
"""Images resampled at a time on a CPU, whose coordinates fit a core's cache."""


class Geometry:
    """Where the views of a batch come from.

    Args:
        matrix: (B, 2, 3), from coordinates (x, y) of a view, from −1 to 1, to pixels of its image,
            counted from the image's center.
    """

    def __init__(self, matrix: Float[Tensor, "b 2 3"]) -> None:
        self.matrix = matrix


_recorded: ContextVar[Geometry | None] = ContextVar("recorded", default=None)


@contextmanager
def recorded_geometry(x: Tensor) -> Iterator[Geometry]:
    """Context in which it is recorded how augmentations of images (B, C, H, W) move pixels.

    Nothing else changes, including random draws. An augmentation that moves pixels without
    `resample` must call `record`.
    """
    half = torch.tensor([[x.shape[3] / 2], [x.shape[2] / 2]], device=x.device)
    geometry = Geometry((torch.eye(2, 3, device=x.device) * half).repeat(len(x), 1, 1))
    token = _recorded.set(geometry)
    try:
        yield geometry
    finally:
        _recorded.reset(token)


def record(matrix: Float[Tensor, "b 2 3"]) -> None:
    """Report to an enclosing `recorded_geometry` that images are moved.

    Args:
        matrix: from output to input coordinates (x, y), both from −1 to 1.
    """
    if (geometry := _recorded.get()) is not None:
        linear, offset = geometry.matrix.split([2, 1], 2)
        # No matrix product, which some GPUs round to 10 bits.
        moved = (linear[:, :, :, None] * matrix.to(linear)[:, None]).sum(2)  # (B, 2, 3)
        geometry.matrix = torch.cat([moved[:, :, :2], moved[:, :, 2:] + offset], 2)


def grid_locations(
    matrix: Float[Tensor, "b 2 3"], grid: tuple[int, int]
) -> Float[Tensor, "b cells 2"]:
    """Where the cells of a grid over each view are in its image.

    Args:
        matrix: `Geometry.matrix`.
        grid: rows and columns of cells.

    Returns:
        (x, y) of the cells' centers in pixels of the image, row by row.
    """
    down, across = ((torch.arange(n, device=matrix.device) + 0.5) * 2 / n - 1 for n in grid)
    points = torch.cartesian_prod(down, across).flip(1)[None, :, None]  # (1, cells, 1, 2)
    return (matrix[:, None, :, :2] * points).sum(3) + matrix[:, None, :, 2]


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
    record(matrix)
    size = size or (x.shape[2], x.shape[3])
    supported = x.dtype in (torch.float32, torch.uint8) and x.device.type == "cpu"
    if supported and not x.requires_grad and (run := kernel.compiled()):
        return run(x, matrix, mode == "bilinear", size)
    if x.dtype == torch.uint8:
        x = x.float() / 255
    sample = _nearest if mode == "nearest" else _bilinear
    n = CHUNK if x.device.type == "cpu" else max(1, len(x))
    return torch.cat([sample(p, m, size) for p, m in zip(x.split(n), matrix.split(n), strict=True)])


def translate(
    x: Float[Tensor, "b c h w"], shift: Int[Tensor, "b 2"], edge: int = 0
) -> Float[Tensor, "b c h w"]:
    """Move each image by whole pixels to the right and down, filling with 0.

    Args:
        x: images.
        shift: of each.
        edge: pixels around an image that repeat its outermost ones before there are zeros.
    """
    h, w = x.shape[2:]
    padded = F.pad(x, (edge,) * 4, "replicate") if edge else x
    share = shift / shift.new_tensor([w + 2 * edge, h + 2 * edge])
    zero, one = share.new_zeros(len(x)), torch.ones_like(share)
    growth = one.new_tensor([1 + 2 * edge / w, 1 + 2 * edge / h]) * one
    record(crop_matrix(0 * one, growth, zero + 1))  # what is resampled is the larger image
    moved = resample(padded, affine_matrix(zero, share, zero + 1), "nearest")
    record(crop_matrix(0 * one, 1 / growth, zero + 1))
    return moved[:, :, edge : edge + h, edge : edge + w]


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


def flip_matrix(flip: Bool[Tensor, " b"]) -> Float[Tensor, "b 2 3"]:
    """Maps from output to input coordinates that flip some images horizontally."""
    sign = torch.where(flip, -1.0, 1.0)
    one = torch.ones_like(sign)[:, None].expand(-1, 2)
    return crop_matrix(0 * one, one, sign)


def box_matrix(
    boxes: Int[Tensor, "b 4"],
    sides: Int[Tensor, "b 2"],
    flip: Bool[Tensor, " b"],
    size: tuple[int, int],
) -> Float[Tensor, "b 2 3"]:
    """As `crop_matrix`, of boxes in images of different sizes.

    Input coordinates are 0 at the center of an image; from −1 to 1 are as many pixels as in an
    image of `size`.

    Args:
        boxes: top, left, height and width in pixels.
        sides: height and width of each image in pixels.
        flip: whether each is flipped horizontally.
        size: height and width in pixels.
    """
    corner, box = boxes[:, :2], boxes[:, 2:]
    unit = torch.tensor(size) / 2
    center, share = (corner + box / 2 - sides / 2) / unit, box / 2 / unit
    return crop_matrix(center.flip(1), share.flip(1), torch.where(flip, -1.0, 1.0))
