"""Networks of timm and transformers by their name there; neither is imported until one is named."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError, reason
from unlabeled.utils.quiet import quiet

SAFE_TYPES = re.compile(
    "beit|bit|clip_vision_model|convnext|convnextv2|data2vec-vision|deit|dinov2|"
    "dinov2_with_registers|dinov3_convnext|dinov3_vit|efficientnet|focalnet|ijepa|"
    "mobilenet_v1|mobilenet_v2|mobilevit|mobilevitv2|poolformer|pvt|pvt_v2|regnet|resnet|"
    "siglip_vision_model|swiftformer|swin|swinv2|vit|vit_mae|vit_msn"
)
"""Of transformers: built from their settings alone, no other network or code named in those."""


UNREACHED = {
    *("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError"),
    *("ConnectTimeout", "ReadTimeout", "URLError"),
}
"""What downloads raise where nothing answers, by any of the libraries that make them."""
WITHOUT_NETWORK = {
    "timm": "it without pretrained weights",
    "hf": "a folder with config.json and model.safetensors, as hf:FOLDER",
}


class Backbone(nn.Module):
    """A network of another library, its answer pooled: (B, C, H, W) -> (B, dim).

    Args:
        net: the network, which gives (B, dim) or an output of transformers.
        rebuild: the name and arguments that `build` makes the same architecture from, without
            weights from elsewhere; JSON has them.
        channels: that the network takes; gray images are repeated to as many.
        mean: of the images that its weights come from, by channel; none without such weights.
        std: the same.
        tokens: average the last tokens or map, though the network has a pooling of its own.
        call: what else the network is called with.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        rebuild: tuple[str, dict[str, Any]],
        channels: int,
        mean: Iterable[float] | None = None,
        std: Iterable[float] | None = None,
        tokens: bool = False,
        call: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.rebuild, self.channels = net, rebuild, channels
        self.tokens, self.call = tokens, call or {}
        self.register_buffer("mean", _by_channel(mean or [0.0], channels))
        self.register_buffer("std", _by_channel(std or [1.0], channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), black 0 and white 1 -> (B, dim)."""
        if x.shape[1] == 1:
            x = x.expand(-1, self.channels, -1, -1)
        out = self.net((x - self.mean) / self.std, **self.call)
        if isinstance(out, Tensor):
            return out
        pooled = getattr(out, "pooler_output", None)
        if pooled is not None and not self.tokens:
            return pooled.flatten(1)
        last = out.last_hidden_state  # tokens (B, T, dim) or a map (B, dim, H', W')
        return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)


def is_external(name: str) -> bool:
    """Whether it names a network of another library, as `timm:NAME` or `hf:NAME`."""
    return name.startswith(("timm:", "hf:"))


def is_safe(name: str, args: Iterable[str] = ()) -> bool:
    """Whether a stranger's run folder may have it built: no download, no file, nobody's code."""
    source, _, rest = name.partition(":")
    if source == "timm":
        return re.fullmatch(r"[a-z0-9_]+", rest) is not None and "pretrained" not in args
    return source == "hf" and SAFE_TYPES.fullmatch(rest) is not None


def make(name: str, channels: int, size: tuple[int, int], **options: Any) -> Backbone:
    """The network of that name for images of that many channels and that size.

    Args:
        name: `timm:NAME` (an architecture of timm, `NAME.TAG` for particular weights), `hf:TYPE` (a
            model type of transformers, random weights), `hf:OWNER/NAME` or `hf:FOLDER` (weights in
            safetensors; code that comes with them is never run).
        channels: of the images.
        size: of the images, in pixels.
        options: timm: `pretrained=True` and the arguments of the network. hf: fields of its
            configuration; `tokens=True` averages the last tokens instead of the pooling.

    Raises:
        UserError: the package is missing, there is no such name, its weights cannot be had, or an
            option is not known.
    """
    source, _, rest = name.partition(":")
    package = "timm" if source == "timm" else "transformers"
    if not rest:
        raise UserError(f"'{name}' lacks the name of a {package} model; give {source}:NAME")
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"the encoder '{name}' needs {package}: pip install 'unlabeled[{source}]'"
        ) from error
    try:
        with quiet():
            return (_timm if source == "timm" else _hf)(name, rest, channels, size, **options)
    except UserError:
        raise
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # whatever a network's own arguments or a download bring up
        if _is_unreached(error):
            raise UserError(
                f"the weights of '{name}' are not in the cache of this machine, and cannot be "
                f"downloaded from here; connect it once, or name {WITHOUT_NETWORK[source]}"
            ) from error
        raise UserError(f"{package} cannot make '{name}': {reason(error)}") from error


def _is_unreached(error: BaseException | None) -> bool:
    """Whether it comes of a network that is not there, or forbidden by HF_HUB_OFFLINE."""
    while error is not None:
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & UNREACHED:
            return True
        error = error.__cause__ or error.__context__
    return False


def _timm(
    name: str,
    rest: str,
    channels: int,
    size: tuple[int, int],
    pretrained: bool = False,
    **options: Any,
) -> Backbone:
    import timm
    from timm.models import build_model_with_cfg

    architecture = rest.partition(".")[0]
    if not timm.is_model(architecture):
        raise _unknown(name, architecture, timm.list_models())
    own = {"num_classes", "in_chans", *inspect.signature(timm.create_model).parameters}
    _refuse(name, set(options) & (own | set(inspect.signature(build_model_with_cfg).parameters)))
    fixed = getattr(timm.get_pretrained_cfg(architecture), "fixed_input_size", False)
    shape = {"num_classes": 0, "in_chans": channels} | ({"img_size": tuple(size)} if fixed else {})
    net = timm.create_model(rest, pretrained=pretrained, **(shape | options))
    weights = net.pretrained_cfg if pretrained else {}
    rebuild = f"timm:{architecture}", options
    return Backbone(net, rebuild, channels, weights.get("mean"), weights.get("std"))


def _hf(
    name: str,
    rest: str,
    channels: int,
    size: tuple[int, int],
    tokens: bool = False,
    **options: Any,
) -> Backbone:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

    folder = Path(rest).expanduser()
    place = str(folder) if folder.is_dir() else rest
    fresh = rest in CONFIG_MAPPING
    if not fresh and "/" not in rest and not folder.is_dir():
        raise _unknown(name, rest, CONFIG_MAPPING)
    # Masked autoencoders hide patches at random, in evaluation too.
    shape: dict[str, Any] = {"mask_ratio": 0.0}
    try:
        if fresh:
            known = _fields(AutoConfig.for_model(rest))
            side = size[0] if size[0] == size[1] else tuple(size)
            shape |= {"image_size": side, "num_channels": channels}
        else:
            known = _fields(AutoConfig.from_pretrained(place, trust_remote_code=False))
        _refuse(name, set(options) - set(known))
        options = {key: value for key, value in shape.items() if key in known} | options
        if fresh:
            config = AutoConfig.for_model(rest, **options)
        else:
            config = AutoConfig.from_pretrained(place, trust_remote_code=False, **options)
    except StrictDataclassError as error:
        raise UserError(f"transformers cannot make '{name}': {reason(error)}") from error
    mean = std = None
    if fresh:
        net = AutoModel.from_config(config, trust_remote_code=False)
    else:
        net, report = AutoModel.from_pretrained(
            place,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        missing = {key.partition(".")[0] for key in report["missing_keys"]}
        if missing - {"pooler"}:
            raise UserError(f"the weights of '{name}' lack those of its {min(missing)}")
        tokens = tokens or bool(missing)  # a pooling that was never trained says nothing
        mean, std = _normalization(place)
    rebuild = _fields(config) | ({"tokens": True} if tokens else {})
    taken = getattr(config, "num_channels", channels)
    accepts = "interpolate_pos_encoding" in inspect.signature(net.forward).parameters
    trained_at = getattr(config, "image_size", None)
    stretched = accepts and trained_at not in (None, size[0], tuple(size), list(size))
    call = {"interpolate_pos_encoding": True} if stretched else {}
    return Backbone(net, (f"hf:{config.model_type}", rebuild), taken, mean, std, tokens, call)


def _fields(config: Any) -> dict[str, Any]:
    """The settings that shape that kind of network: no labels, types, or code to fetch."""
    from transformers import AutoConfig, PreTrainedConfig

    shaping = (
        AutoConfig.for_model(config.model_type).to_dict().keys() - PreTrainedConfig().to_dict()
    )
    return {key: value for key, value in config.to_dict().items() if key in shaping}


def _normalization(place: str) -> tuple[list[float] | None, list[float] | None]:
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(place)
    except OSError:  # none is stored beside the weights
        return None, None
    return found.get("image_mean"), found.get("image_std")


def _by_channel(values: Iterable[float], channels: int) -> Tensor:
    """(C, 1, 1); the mean of all values where there are not as many as channels."""
    per_channel = torch.tensor(list(values))
    if len(per_channel) != channels:
        per_channel = per_channel.mean().expand(channels)
    return per_channel.reshape(-1, 1, 1).clone()


def _refuse(name: str, options: Iterable[str]) -> None:
    if options := sorted(options):
        raise UserError(f"the encoder '{name}' takes no '{options[0]}'")


def _unknown(name: str, wanted: str, known: Iterable[str]) -> UserError:
    near = difflib.get_close_matches(wanted, list(known), cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return UserError(f"there is no encoder '{name}'{hint}")
