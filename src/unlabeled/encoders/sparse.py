"""Convolutional networks on visible patches only, as with sparse convolutions (Tian et al. 2023).

Every map is 0 at hidden positions: it is masked again after each convolution and pooling, so that
nothing spreads there. BatchNorm normalizes visible positions by their own statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlabeled.encoders.spatial import feature_map_size
from unlabeled.errors import UserError
from unlabeled.utils.state import eval_mode

MASKED = nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d
"""Layers whose output is masked."""
_visible: Tensor | None = None


def current_visible() -> Tensor | None:
    """What `visible_only` was given, within it; else None."""
    return _visible


@contextmanager
def visible_only(visible: Tensor | None, *networks: nn.Module) -> Iterator[None]:
    """Context in which networks compute visible positions only.

    Args:
        visible: (B, rows, columns), true at visible patches, as many in each image; None for no
            change. Maps must have k · rows and k · columns positions for some k.
        networks: of convolutions, poolings, BatchNorm and functions that map 0 to 0, such as ReLU.
    """
    global _visible
    before, _visible = _visible, visible
    handles = []
    for layer in (m for network in networks if visible is not None for m in network.modules()):
        if isinstance(layer, _BatchNorm):
            handles += [layer.register_forward_pre_hook(_gather)]
            handles += [layer.register_forward_hook(_scatter)]
        elif isinstance(layer, MASKED):
            handles += [layer.register_forward_hook(_mask)]
    try:
        yield
    finally:
        _visible = before
        for handle in handles:
            handle.remove()


def enlarged(visible: Tensor, factor: int) -> Tensor:
    """Patches (B, rows, columns) as positions (B, 1, factor · rows, factor · columns)."""
    return visible.repeat_interleave(factor, 1).repeat_interleave(factor, 2)[:, None]


def stage_maps(encoder: nn.Module, x: Tensor) -> list[Tensor]:
    """The last map of each resolution, coarsest first."""
    maps: dict[int, Tensor] = {}
    for stage in encoder.stages:  # type: ignore[union-attr]
        x = stage(x)
        maps[x.shape[2]] = x
    return list(maps.values())[::-1]


class Pyramid(NamedTuple):
    """Patches of an image and the maps of an encoder over them."""

    patch: int  #: side in pixels, a power of 2, of what a position of the last map stands for
    grid: tuple[int, int]  #: rows and columns of patches, of images filled up to whole ones
    channels: dict[int, int]  #: of each map, by the number of its positions on a patch's side


def pyramid_of(encoder: nn.Module, shape: tuple[int, int, int], method: str) -> Pyramid:
    """The pyramid of an encoder for images of that shape.

    Raises:
        UserError: the encoder's stages are not what `visible_only` knows, or their maps do not have
            1, 2, 4, … positions on a patch's side.
    """
    _check_layers(encoder, method)
    channels, height, width = shape
    _, rows, columns = feature_map_size(encoder, shape, method, least=2)
    patch = 2 ** math.ceil(math.log2(max(height / rows, width / columns)))
    grid = -(-height // patch), -(-width // patch)
    with eval_mode(encoder), torch.no_grad():
        maps = stage_maps(encoder, torch.zeros(1, channels, patch * grid[0], patch * grid[1]))
    sizes = {m.shape[2] // grid[0]: m.shape for m in maps}
    for factor, (_, _, down, across) in sizes.items():
        is_whole = (down, across) == (factor * grid[0], factor * grid[1])
        if patch < 2 or 1 not in sizes or factor & (factor - 1) or not is_whole:
            raise UserError(
                f"a feature map of the encoder has {down}×{across} positions for {grid[0]}×"
                f"{grid[1]} patches, but {method} needs 1, 2, 4, … on a patch's side; use "
                "--encoder spatial_resnet, small, or a resnet"
            )
    return Pyramid(patch, grid, {factor: size[1] for factor, size in sizes.items()})


def _check_layers(encoder: nn.Module, method: str) -> None:
    stages = getattr(encoder, "stages", None)
    layers = list(stages.modules()) if isinstance(stages, nn.ModuleList) and len(stages) else []
    own = (layer for layer in layers if any(True for _ in layer.parameters(recurse=False)))
    is_known = all(isinstance(layer, nn.Conv2d | _BatchNorm) for layer in own)
    if not layers or not is_known or any(isinstance(layer, nn.GroupNorm) for layer in layers):
        raise UserError(
            f"{method} masks every map of a convolutional network with BatchNorm: use --encoder "
            "spatial_resnet, small, or a resnet"
        )


def _mask(layer: nn.Module, inputs: Any, out: Tensor) -> Tensor | None:
    if _visible is None:
        return None
    return out * enlarged(_visible, out.shape[2] // _visible.shape[1]).to(out.dtype)


def _gather(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    """The visible positions of a map (B, C, H, W), as (B, C, n, 1)."""
    if _visible is None:
        return None
    x = inputs[0]
    index = _positions(_visible, x.shape[2] // _visible.shape[1])
    return (x.flatten(2).gather(2, index.expand(-1, x.shape[1], -1))[..., None],)


def _scatter(layer: nn.Module, inputs: Any, out: Tensor) -> Tensor | None:
    """Undo `_gather`, with 0 at hidden positions."""
    if _visible is None:
        return None
    _, rows, columns = _visible.shape
    factor = math.isqrt(out.shape[2] // int(_visible[0].sum()))
    index = _positions(_visible, factor).expand(-1, out.shape[1], -1)
    empty = out.new_zeros(*out.shape[:2], factor * rows * factor * columns)
    return empty.scatter(2, index, out[..., 0]).unflatten(2, (factor * rows, factor * columns))


def _positions(visible: Tensor, factor: int) -> Tensor:
    """Indices of visible positions of a map enlarged by a factor, (B, 1, n)."""
    number = int(visible[0].sum()) * factor**2
    order = enlarged(visible, factor).flatten(2).byte().argsort(dim=2, descending=True, stable=True)
    return order[:, :, :number]
