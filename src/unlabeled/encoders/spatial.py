"""A residual network with a fine feature map, and what methods of positions on maps share."""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.encoders.resnet import basic_block, conv
from unlabeled.errors import UserError
from unlabeled.utils.state import eval_mode


def spatial_resnet(channels: int = 3, width: int = 32, blocks: int = 2) -> Encoder:
    """Residual network on a map of a quarter of the image's side: 2·width features (64).

    Args:
        width: channels of the first of two strided convolutions; the map has twice as many.
        blocks: number of residual blocks on the map.
    """
    stem = [
        *conv(channels, width, 5, 2), nn.ReLU(inplace=True),
        *conv(width, 2 * width, 3, 2), nn.ReLU(inplace=True),
    ]  # fmt: skip
    stages = [nn.Sequential(*stem), *(basic_block(2 * width, 2 * width, 1) for _ in range(blocks))]
    return Encoder(stages, GlobalPool(), dim=2 * width)


def stage_channels(encoder: nn.Module, shape: tuple[int, int, int]) -> list[int]:
    """Channels of an encoder's map after each stage, of images of that shape; none without maps."""
    if not hasattr(getattr(encoder, "network", encoder), "maps_and_features"):
        return []
    with eval_mode(encoder), torch.no_grad():
        maps, _ = encoder.maps_and_features(torch.zeros(2, *shape))  # type: ignore[operator]
    are_maps = all(each.ndim == 4 and len(each) == 2 for each in maps)
    return [each.shape[1] for each in maps] if are_maps else []


def feature_map_size(
    encoder: nn.Module, shape: tuple[int, int, int], method: str, least: int = 4
) -> tuple[int, int, int]:
    """Channels, height and width of an encoder's feature map of images of that shape.

    Raises:
        UserError: it has no map, one with a side of fewer than `least` positions, or layers after
            it, which `method` would not train.
    """
    channels, height, width = _size_of("map", encoder, shape, method)
    summary = getattr(getattr(encoder, "network", encoder), "summary", None)
    if summary is not None and any(True for _ in summary.parameters()):
        raise UserError(
            f"this encoder has layers after its feature map, which {method} would not train, "
            "though its features come from them: use spatial_resnet, or a resnet"
        )
    if min(height, width) < least:
        raise UserError(
            f"the encoder's feature map is {height}×{width}, but must be at least "
            f"{least}×{least}; use --encoder spatial_resnet, or larger images"
        )
    return channels, height, width


def grid_size(encoder: nn.Module, shape: tuple[int, int, int], method: str) -> tuple[int, int, int]:
    """Channels, rows and columns of `Encoder.map_and_features` of images of that shape.

    Raises:
        UserError: the encoder has no map, or one of a single position.
    """
    size = _size_of("map_and_features", encoder, shape, method)
    if size[1:] == (1, 1):
        raise UserError(
            f"the encoder's feature map is 1×1, of which {method} compares no positions; use "
            "--encoder spatial_resnet, or larger images"
        )
    return size


def _size_of(
    function: str, encoder: nn.Module, shape: tuple[int, int, int], method: str
) -> tuple[int, int, int]:
    """Size of the map that a function of the encoder returns."""
    with eval_mode(encoder), torch.no_grad():
        try:
            features = getattr(encoder, function)(torch.zeros(1, *shape))
        except (AttributeError, RuntimeError) as error:
            raise UserError(
                f"{method} needs an encoder with a feature map: use spatial_resnet, or a resnet"
            ) from error
    features = features[0] if isinstance(features, tuple) else features
    _, channels, height, width = features.shape
    return channels, height, width


def at_positions(z: Tensor, index: Tensor) -> Tensor:
    """Vectors (B, n, d) of positions by index (B, n), of those of all positions (B, N, d)."""
    return z.gather(1, index[:, :, None].expand(-1, -1, z.shape[2]))


@torch.no_grad()
def nearest_positions(a: Tensor, b: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Pairs of positions that are nearest to each other.

    Args:
        a: (B, N, d) vectors of positions, such as locations or embeddings.
        b: (B, M, d) those of other positions, of which each of a takes the nearest.
        number: of pairs, those of the smallest distance.

    Returns:
        (B, number) each, positions of a in their order, and their nearest positions of b.
    """
    with torch.autocast(a.device.type, enabled=False):
        # By products of matrices, distances of near locations would be rounded; those of wide
        # embeddings are several times as fast on a CPU.
        by_products = a.shape[2] > 8 and a.device.type == "cpu"
        mode = f"{'use' if by_products else 'donot_use'}_mm_for_euclid_dist"
        distance, partner = torch.cdist(a.float(), b.float(), compute_mode=mode).min(2)
    chosen = distance.argsort(dim=1, stable=True)[:, :number].sort(1).values
    return chosen, partner.gather(1, chosen)


def dense_map(network: Callable[[Tensor], Tensor], x: Tensor, stride: int, dim: int) -> Tensor:
    """Features of every pixel by a network with a stride: (B, C, H, W) -> (B, dim, H, W).

    The maps of the image shifted by each number of pixels below the stride are interleaved.
    """
    height, width = x.shape[2:]
    bottom, right = (-side % stride + stride - 1 for side in (height, width))
    padded = F.pad(x, (0, right, 0, bottom), mode="replicate")
    rows, columns = height + bottom - stride + 1, width + right - stride + 1
    features = x.new_empty(len(x), dim, rows, columns)
    for i, j in itertools.product(range(stride), repeat=2):
        shifted = padded[:, :, i : i + rows, j : j + columns]
        features[:, :, i::stride, j::stride] = network(shifted)
    return features[:, :, :height, :width]
