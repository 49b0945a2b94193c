"""Weights of vision transformers and ResNets under the names of timm's networks."""

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from unlabeled.encoders.vit import ViT
from unlabeled.errors import UserError

T = TypeVar("T")
RESNETS = {"resnet18", "resnet34", "resnet50"}
NAMES = {
    "stages.0.project.": "patch_embed.proj.",
    ".out.": ".attn.proj.",
    ".qkv.": ".attn.qkv.",
    ".mlp.0.": ".mlp.fc1.",
    ".mlp.2.": ".mlp.fc2.",
    ".scale1.": ".ls1.",
    ".scale2.": ".ls2.",
}


def to_timm(encoder: ViT) -> dict[str, Tensor]:
    """Weights for `load_state_dict` of timm's VisionTransformer without a classifier.

    Its position embeddings are those with the class token (`no_embed_class=False`), or with
    registers those without.

    Raises:
        UserError: the encoder has no class token among its patches.
    """
    weights = {_timm_name(key, encoder): value for key, value in encoder.state_dict().items()}
    prefix, positions = weights.pop("prefix"), weights.pop("positions").flatten(2).transpose(1, 2)
    weights["cls_token"] = prefix[None, :1]
    if encoder.prefix > 1:
        weights["reg_token"] = prefix[None, 1:]
    else:
        positions = torch.cat([torch.zeros_like(positions[:, :1]), positions], 1)
    return weights | {"pos_embed": positions}


def load_timm(encoder: ViT, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of a timm VisionTransformer of the same size, without its classifier.

    Args:
        encoder: whose weights are replaced.
        weights: state of timm's network.

    Raises:
        UserError: they are of another architecture or size.
    """
    own, state = encoder.state_dict(), {}
    backbone = {k: v for k, v in weights.items() if not k.startswith("head.")}
    try:
        positions = backbone.pop("pos_embed")
        prefix = torch.cat(
            [backbone.pop("cls_token"), backbone.pop("reg_token", positions[:, :0])], 1
        )
        grid = own["stages.0.positions"].shape
        embedded = positions.shape[1] - grid[2] * grid[3]  # tokens of the prefix with a position
        prefix = prefix + torch.nn.functional.pad(
            positions[:, :embedded], (0, 0, 0, prefix.shape[1] - embedded)
        )
        state["stages.0.prefix"] = prefix[0]
        state["stages.0.positions"] = positions[:, embedded:].transpose(1, 2).reshape(grid)
        for key in own.keys() - state.keys():
            state[key] = backbone.pop(_timm_name(key, encoder))
        if backbone:
            raise UserError(f"the weights have {min(backbone)}, which this encoder lacks")
        encoder.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"the weights do not fit this encoder ({error}); build it with the same size, patch, "
            "layer_scale, registers and pool"
        ) from error


def _timm_name(key: str, encoder: ViT) -> str:
    if not encoder.prefix:
        raise UserError("only vit_tiny, vit_small and vit_base have the weights of timm's networks")
    if key in ("stages.0.prefix", "stages.0.positions"):
        return key.removeprefix("stages.0.")
    for own, timm in NAMES.items():
        key = key.replace(own, timm)
    mean = getattr(encoder.summary, "pool", "") == "mean"
    key = key.replace("summary.norm.", "fc_norm." if mean else "norm.")
    return re.sub(r"^stages\.(\d+)\.", lambda match: f"blocks.{int(match[1]) - 1}.", key)


def resnet_to_timm(weights: Mapping[str, T] | nn.Module, stem: int = 4) -> dict[str, T]:
    """Weights of a ResNet under the names of torchvision and timm, without a classifier.

    Args:
        weights: by name, or the network that has them.
        stem: number of layers before the blocks: 4, or 3 of those for small images.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    return {_resnet_name(key, stem): value for key, value in state.items()}


def _resnet_name(key: str, stem: int) -> str:
    stage, place, *rest = key.removeprefix("stages.").split(".")
    block = int(place) - (stem if stage == "0" else 0)
    if block < 0:
        return ".".join([("conv1", "bn1")[int(place)], *rest])
    part, k, leaf = rest
    layer = (
        f"downsample.{k}"
        if part == "shortcut"
        else f"{('conv', 'bn')[int(k) % 3]}{int(k) // 3 + 1}"
    )
    return f"layer{int(stage) + 1}.{block}.{layer}.{leaf}"
