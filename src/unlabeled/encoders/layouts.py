"""How the weights of encoders are stored, so that timm or transformers loads what is theirs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from unlabeled.encoders.external import Backbone
from unlabeled.encoders.timm_weights import RESNETS, load_timm, resnet_to_timm, to_timm
from unlabeled.modality import EncoderInput

VITS = {name: f"{name}_patch16_224" for name in ("vit_tiny", "vit_small", "vit_base")}
"""Architectures of timm with the sizes of these encoders."""
CIFAR_STEM = 64
"""Side of images up to which a ResNet has a 3×3 stem, which those of timm lack."""

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """Names of weights and the fields of config.json by which a library rebuilds the network.

    Args:
        library: that loads it: timm, transformers or unlabeled.
        save: the weights of an encoder, by the names in the file.
        load: copy such weights into an encoder.
        config: fields of config.json for that library.
    """

    library: str
    save: Callable[[Any], dict[str, Tensor]]
    load: Callable[[Any, Weights], Any]
    config: Callable[[nn.Module], dict[str, Any]]


def layout_of(name: str, args: dict[str, Any], modality: EncoderInput) -> Layout:
    """The layout of an encoder, which depends on its name, arguments and input only.

    Args:
        name: of the encoder, as in encoder.json.
        args: its arguments.
        modality: what it receives.
    """
    height, width = modality.size
    source, _, architecture = name.partition(":")
    if args.get("gray"):
        return OWN
    if name in VITS:
        fields = _vit_fields(args, modality.size)
        return Layout("timm", to_timm, load_timm, _config_of(VITS[name], fields, modality))
    is_full = name in RESNETS and args.get("width", 1.0) == 1.0
    if is_full and max(height, width) > CIFAR_STEM:
        return Layout("timm", resnet_to_timm, _load_resnet, _config_of(name, {}, modality))
    if source == "timm":
        described = _config_of(architecture, args, modality)
        return Layout("timm", _net_weights, _load_net, described)
    if source == "hf":
        return Layout("transformers", _net_weights, _load_net, _transformers_config)
    return OWN


def _own_weights(encoder: nn.Module) -> dict[str, Tensor]:
    return dict(encoder.state_dict())


OWN = Layout("unlabeled", _own_weights, nn.Module.load_state_dict, lambda encoder: {})
"""The names of the encoder itself; no other library rebuilds it."""


def _net_weights(encoder: Backbone) -> dict[str, Tensor]:
    return dict(encoder.net.state_dict())


def _load_net(encoder: Backbone, weights: Weights) -> None:
    encoder.net.load_state_dict(weights)


def _load_resnet(encoder: nn.Module, weights: Weights) -> None:
    names = resnet_to_timm({key: key for key in encoder.state_dict()})
    encoder.load_state_dict({own: weights[name] for name, own in names.items()})


def _vit_fields(args: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Arguments of timm's VisionTransformer that make ours."""
    registers, is_mean = args.get("registers", 0), args.get("pool", "token") == "mean"
    return {
        "img_size": list(size),
        "patch_size": args.get("patch", 0) or max(1, min(16, min(size) // 8)),
        "init_values": args.get("layer_scale", 0.0) or None,
        "reg_tokens": registers,
        "no_embed_class": bool(registers),
        "global_pool": "avg" if is_mean else "token",
    }


def _config_of(
    architecture: str, fields: dict[str, Any], modality: EncoderInput
) -> Callable[[nn.Module], dict[str, Any]]:
    """What timm needs to make a network without classifier and to load its weights."""

    def described(encoder: nn.Module) -> dict[str, Any]:
        channels = encoder.channels if isinstance(encoder, Backbone) else modality.channels
        mean, std = normalization_of(encoder, channels)
        own: dict[str, Any] = {
            "input_size": [channels, *modality.size],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": mean,
            "std": std,
            "num_classes": 0,
        }
        if channels != 3:
            own["first_conv"] = None  # or timm would convert it as if it were of three channels
        is_fixed = any("img_size" in part for part in (fields, _parameters(encoder)))
        size = {"img_size": list(modality.size)} if is_fixed else {}
        return {
            "architecture": architecture,
            "num_classes": 0,
            "num_features": encoder.dim,
            "model_args": fields | size | {"in_chans": channels},
            "pretrained_cfg": own,
        }

    return described


def _parameters(encoder: nn.Module) -> Mapping[str, Any]:
    """Arguments of the network inside that are known to fix the size of images."""
    net = getattr(encoder, "net", None)
    return inspect.signature(type(net).__init__).parameters if net is not None else {}


def _transformers_config(encoder: nn.Module) -> dict[str, Any]:
    assert isinstance(encoder, Backbone)
    name, args = encoder.rebuild
    fields = {key: value for key, value in args.items() if key != "tokens"}
    kind = type(encoder.net).__name__
    return fields | {"model_type": name.partition(":")[2], "architectures": [kind]}


def normalization_of(encoder: nn.Module, channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation by channel that are to be applied to images in [0, 1]."""
    if isinstance(encoder, Backbone):
        return encoder.mean.flatten().tolist(), encoder.std.flatten().tolist()
    return [0.0] * channels, [1.0] * channels
