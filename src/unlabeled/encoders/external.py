"""Networks of timm and transformers by name; the libraries are imported on first use."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.encoders.channels import adapted_weights, fits_as_is
from unlabeled.errors import UserError, reason
from unlabeled.utils.quiet import quiet

SAFE_TYPES = re.compile(
    "beit|bit|clip_vision_model|convnext|convnextv2|data2vec-vision|deit|dinov2|"
    "dinov2_with_registers|dinov3_convnext|dinov3_vit|efficientnet|focalnet|ijepa|"
    "mobilenet_v1|mobilenet_v2|mobilevit|mobilevitv2|poolformer|pvt|pvt_v2|regnet|resnet|"
    "siglip_vision_model|swiftformer|swin|swinv2|vit|vit_mae|vit_msn"
)
"""Model types of transformers whose configuration cannot name other networks or code."""


UNREACHED = {
    *("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError"),
    *("ConnectTimeout", "ReadTimeout", "URLError"),
}
"""Exceptions of failed downloads in the libraries used."""
FAILURES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""Exceptions of a network's own code, or of a download."""
WITHOUT_NETWORK = {
    "timm": "a folder with config.json and model.safetensors, as timm:FOLDER",
    "hf": "a folder with config.json and model.safetensors, as hf:FOLDER",
}


class Backbone(nn.Module):
    """A network of another library with pooled output: (B, C, H, W) -> (B, dim).

    Args:
        net: the network, which returns (B, dim) or an output of transformers.
        rebuild: name and arguments, as stored in JSON, from which `build` makes the same
            architecture without pretrained weights.
        channels: that the network expects; gray images are repeated to as many.
        mean: by channel, of the images that it was pretrained on; None without such weights.
        std: by channel, of the same images.
        tokens: average the last tokens or map even if the network has its own pooling.
        call: further arguments of the network.
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
        """Images (B, C, H, W) in [0, 1] -> (B, dim)."""
        out = self.net(self._normalized(x), **self.call)
        return out if isinstance(out, Tensor) else self._pooled(out)

    @property
    def patch(self) -> int | None:
        """Side of a patch of a vision transformer; None of other networks."""
        sides = getattr(self._patch_embedding(), "patch_size", None)
        return sides if isinstance(sides, int | None) else int(sides[0])

    def encode_patches(
        self, x: Tensor, masked: Tensor | None = None, mask_token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `ViT.encode_patches`, of a vision transformer.

        Raises:
            UserError: the network merges patches.
        """
        patches: list[int] = []

        def hide(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
            patches.append(out.shape[1:-1].numel())  # (B, N, dim), or (B, rows, columns, dim)
            if masked is None or mask_token is None:
                return out
            return torch.where(masked.view(out.shape[:-1])[..., None], mask_token.to(out), out)

        embedding: Any = self._patch_embedding()
        handle = embedding.register_forward_hook(hide)
        try:
            x = self._normalized(x)
            if hasattr(self.net, "forward_features"):  # timm
                tokens = self.net.forward_features(x)  # type: ignore[operator]
                pooled = self.net.forward_head(tokens)  # type: ignore[operator]
            else:
                out = self.net(x, **self.call)
                tokens, pooled = out.last_hidden_state, self._pooled(out)
        finally:
            handle.remove()
        if tokens.ndim != 3 or tokens.shape[1] < patches[0]:
            raise UserError(
                f"{self.rebuild[0]} merges its patches, so that they cannot be masked one by one; "
                "give a plain vision transformer"
            )
        return pooled, tokens[:, tokens.shape[1] - patches[0] :]

    def _patch_embedding(self) -> nn.Module | None:
        own = getattr(self.net, "patch_embed", None)  # timm
        return own or getattr(getattr(self.net, "embeddings", None), "patch_embeddings", None)

    def _normalized(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            x = x.expand(-1, self.channels, -1, -1)
        return (x - self.mean) / self.std

    def _pooled(self, out: Any) -> Tensor:
        pooled = getattr(out, "pooler_output", None)
        if pooled is not None and not self.tokens:
            return pooled.flatten(1)
        last = out.last_hidden_state  # tokens (B, T, dim) or a map (B, dim, H', W')
        return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)


def is_external(name: str) -> bool:
    """Whether a name is `timm:NAME` or `hf:NAME`."""
    return name.startswith(("timm:", "hf:"))


def is_safe(name: str, args: Iterable[str] = ()) -> bool:
    """Whether building it needs no download, file or remote code, so that loading a run may."""
    source, _, rest = name.partition(":")
    if source == "timm":
        return re.fullmatch(r"[a-z0-9_]+", rest) is not None and "pretrained" not in args
    return source == "hf" and SAFE_TYPES.fullmatch(rest) is not None


def make(name: str, channels: int, size: tuple[int, int], **options: Any) -> Backbone:
    """Make a network of timm or transformers for images of that many channels and that size.

    Args:
        name: `timm:NAME` (an architecture of timm, `NAME.TAG` for particular weights),
            `timm:FOLDER`, `hf:TYPE` (a model type of transformers, random weights),
            `hf:OWNER/NAME` or `hf:FOLDER`. Folders hold config.json and model.safetensors. Weights
            are read from safetensors only, and code that comes with them is never run.
        channels: of the images; the first layer of pretrained weights for others is adapted (see
            `adapted_weights`), except that gray images are repeated for transformers.
        size: of the images, (height, width) in pixels.
        options: for timm `pretrained=True` (a FOLDER's weights are always read) and the arguments
            of the network; for hf the fields of its configuration, and `tokens=True` to average the
            last tokens instead of pooling.

    Raises:
        UserError: the package is missing, there is no such name or option, or its weights cannot be
            downloaded.
    """
    source, _, rest = name.partition(":")
    with _library(name):
        return (_timm if source == "timm" else _hf)(name, rest, channels, size, **options)


def native_shape(name: str) -> tuple[int, tuple[int, int]]:
    """Channels and size (height, width) of the images that a network was made for.

    Raises:
        UserError: as `make`.
    """
    source, _, rest = name.partition(":")
    with _library(name):
        if source == "timm":
            channels, height, width = _timm_cfg(name, rest)[1].get("input_size", (3, 224, 224))
            return channels, (height, width)
        from transformers import CONFIG_MAPPING, AutoConfig

        folder = Path(rest).expanduser()
        config = (
            AutoConfig.for_model(rest)
            if rest in CONFIG_MAPPING
            else AutoConfig.from_pretrained(
                str(folder) if folder.is_dir() else rest, trust_remote_code=False
            )
        )
        config = _vision_of(config)
        side = getattr(config, "image_size", None) or 224
        size = (side, side) if isinstance(side, int) else side
        return getattr(config, "num_channels", 3), (size[0], size[1])


@contextmanager
def _library(name: str) -> Iterator[None]:
    """Failures of timm or transformers in the user's words."""
    source, _, rest = name.partition(":")
    package = "timm" if source == "timm" else "transformers"
    if not rest:
        raise UserError(f"'{name}' lacks the name of a {package} model; give {source}:NAME")
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"the encoder '{name}' needs {package}; pip install 'unlabeled[{source}]'"
        ) from error
    try:
        with quiet():
            yield
    except UserError:
        raise
    except FAILURES as error:
        if is_offline(error):
            raise UserError(
                f"the weights of '{name}' are neither cached nor downloadable from this machine; "
                f"connect it once, or use {WITHOUT_NETWORK[source]}"
            ) from error
        raise UserError(f"{package} cannot make '{name}': {reason(error)}") from error


def is_offline(error: BaseException | None) -> bool:
    """Whether it was caused by a missing connection or by HF_HUB_OFFLINE."""
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

    architecture, cfg, weights = _timm_cfg(name, rest)
    own = {"num_classes", "in_chans", *inspect.signature(timm.create_model).parameters}
    _refuse(name, set(options) & (own | set(inspect.signature(build_model_with_cfg).parameters)))
    shape: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    if cfg.get("fixed_input_size"):
        shape["img_size"] = tuple(size)
    pretrained = pretrained or weights is not None
    if pretrained:
        file = str(weights or _download(name, cfg))
        cfg = cfg | {"file": file, "custom_load": False, "hf_hub_id": None}
    net = timm.create_model(
        architecture, pretrained=pretrained, pretrained_cfg=cfg, **(shape | options)
    )
    mean, std = (cfg.get("mean"), cfg.get("std")) if pretrained else (None, None)
    return Backbone(net, (f"timm:{architecture}", options), channels, mean, std)


def _timm_cfg(name: str, rest: str) -> tuple[str, dict[str, Any], Path | None]:
    """Architecture, timm's description of its weights, and their file if they are in a folder."""
    import timm

    folder = Path(rest).expanduser()
    if (folder / "config.json").is_file():
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architecture, described = record.get("architecture"), record.get("pretrained_cfg", {})
        if not (isinstance(architecture, str) and timm.is_model(architecture)):
            raise UserError(f"{folder}/config.json names no architecture of timm")
        keys = ("input_size", "mean", "std", "first_conv", "classifier", "num_classes")
        known = {key: described[key] for key in keys if key in described}
        fixed = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
        same = {key: getattr(fixed, key, None) for key in ("fixed_input_size", *keys[-3:-1])}
        return architecture, same | known, folder / "model.safetensors"
    architecture = rest.partition(".")[0]
    if not timm.is_model(architecture):
        raise _unknown(name, architecture, timm.list_models())
    cfg: Any = timm.get_pretrained_cfg(rest, allow_unregistered=False)
    return architecture, cfg.to_dict(), None


def _download(name: str, cfg: dict[str, Any]) -> str:
    """The weights of timm on the hub, as safetensors."""
    from huggingface_hub import hf_hub_download

    if not cfg.get("hf_hub_id"):
        raise UserError(f"timm has no weights of '{name}' as safetensors; name others, or a folder")
    return hf_hub_download(cfg["hf_hub_id"], "model.safetensors")


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
    source = str(folder) if folder.is_dir() else rest
    fresh = rest in CONFIG_MAPPING
    if not fresh and "/" not in rest and not folder.is_dir():
        raise _unknown(name, rest, CONFIG_MAPPING)
    # Masked autoencoders mask random patches in evaluation, too.
    shape: dict[str, Any] = {"mask_ratio": 0.0}
    try:
        if fresh:
            fields = _fields(AutoConfig.for_model(rest))
            side = size[0] if size[0] == size[1] else tuple(size)
            shape |= {"image_size": side, "num_channels": channels}
        else:
            config = _vision_of(AutoConfig.from_pretrained(source, trust_remote_code=False))
            fields = _fields(config)
        _refuse(name, set(options) - set(fields))
        options = {key: value for key, value in shape.items() if key in fields} | options
        if fresh:
            config = AutoConfig.for_model(rest, **options)
        else:
            config.update(options)
    except StrictDataclassError as error:
        raise UserError(f"transformers cannot make '{name}': {reason(error)}") from error
    mean = std = None
    if fresh:
        net = AutoModel.from_config(config, trust_remote_code=False)
    else:
        net, report = AutoModel.from_pretrained(
            source,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        missing = {key.partition(".")[0] for key in report["missing_keys"]}
        if missing - {"pooler"}:
            raise UserError(f"the weights of '{name}' lack those of its {min(missing)}")
        tokens = tokens or bool(missing)  # an untrained pooling is useless
        mean, std = _normalization(source)
        if not fits_as_is(getattr(config, "num_channels", channels), channels):
            config.update({"num_channels": channels})
            weights, net = net.state_dict(), AutoModel.from_config(config, trust_remote_code=False)
            net.load_state_dict(adapted_weights(weights, net.state_dict()))
    rebuild = _fields(config) | ({"tokens": True} if tokens else {})
    expected = getattr(config, "num_channels", channels)
    accepts = "interpolate_pos_encoding" in inspect.signature(net.forward).parameters
    trained_at = getattr(config, "image_size", None)
    stretched = accepts and trained_at not in (None, size[0], tuple(size), list(size))
    call = {"interpolate_pos_encoding": True} if stretched else {}
    return Backbone(net, (f"hf:{config.model_type}", rebuild), expected, mean, std, tokens, call)


def _vision_of(config: Any) -> Any:
    """The configuration of the image encoder of models of images and text, such as CLIP."""
    return getattr(config, "vision_config", config)


def _fields(config: Any) -> dict[str, Any]:
    """The fields that define the architecture: no labels, types, or references to code."""
    from transformers import AutoConfig, PreTrainedConfig

    shaping = (
        AutoConfig.for_model(config.model_type).to_dict().keys() - PreTrainedConfig().to_dict()
    )
    return {key: value for key, value in config.to_dict().items() if key in shaping}


def _normalization(source: str) -> tuple[list[float] | None, list[float] | None]:
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:  # none is stored with the weights
        return None, None
    return settings.get("image_mean"), settings.get("image_std")


def _by_channel(values: Iterable[float], channels: int) -> Tensor:
    """Values as (C, 1, 1); their mean if their number is not that of the channels."""
    per_channel = torch.tensor(list(values))
    if len(per_channel) != channels:
        per_channel = per_channel.mean().expand(channels)
    return per_channel.reshape(-1, 1, 1).clone()


def _refuse(name: str, options: Iterable[str]) -> None:
    if options := sorted(options):
        raise UserError(f"the encoder '{name}' has no argument '{options[0]}'")


def _unknown(name: str, wanted: str, known: Iterable[str]) -> UserError:
    near = difflib.get_close_matches(wanted, list(known), cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return UserError(f"there is no encoder '{name}'{hint}")
