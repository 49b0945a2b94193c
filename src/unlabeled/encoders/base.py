"""The base class of encoders, and how to build one from a name or from a user's module."""

from __future__ import annotations

import copy
import inspect
import itertools
import zlib
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled import registry
from unlabeled.augmentations.color import rgb_to_grayscale, to_gray
from unlabeled.encoders import external
from unlabeled.errors import UserError, is_out_of_memory, reason, suggest
from unlabeled.modality import Audio, Images, Modality, Text
from unlabeled.utils.state import eval_mode


class Encoder(nn.Module):
    """Successive stages, then a summary: (B, C, H, W) -> (B, dim).

    Args:
        stages: modules from feature map to feature map; local learning and layer-wise probes use
            the maps between them.
        summary: from the last map (B, C', H', W') to features (B, dim), such as a pooling.
        dim: number of features.
    """

    modality: ClassVar[tuple[type[Modality], ...]] = (Images, Audio)
    """Modalities that it can encode."""

    def __init__(self, stages: Iterable[nn.Module], summary: nn.Module, dim: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.summary = summary
        self.dim = dim

    def map(self, x: Tensor) -> Tensor:
        """The last feature map, (B, C', H', W')."""
        for stage in self.stages:
            x = stage(x)
        return x

    def maps_and_features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The map after each stage, (B, C', H', W') each, and the features (B, dim)."""
        maps = list(itertools.accumulate(self.stages, lambda x, stage: stage(x), initial=x))[1:]
        return maps, self.summary(maps[-1])

    def map_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last map as a grid over the image, (B, C', rows, columns), and features (B, dim)."""
        maps, features = self.maps_and_features(x)
        return maps[-1], features

    def single_stage(self, stage: int, channels: int, dim: int) -> Encoder:
        """An encoder of one stage, which shares its layers.

        Args:
            stage: index of the stage.
            channels: of its map.
            dim: number of features that the summary returns for it.
        """
        return Encoder([self.stages[stage]], self.summary, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim)."""
        return self.summary(self.map(x))


class GlobalPool(nn.Module):
    """Global average pooling: (B, C, H, W) -> (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Grayscaled(nn.Module):
    """An encoder of images converted to gray: (B, 3, H, W) -> (B, dim)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def map(self, x: Tensor) -> Tensor:
        """The network's last feature map, (B, C', H', W')."""
        return self.network.map(to_gray(x))  # type: ignore[operator]

    def maps_and_features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """As `Encoder.maps_and_features`, of the network."""
        return self.network.maps_and_features(to_gray(x))  # type: ignore[operator]

    def map_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Encoder.map_and_features`, of the network."""
        return self.network.map_and_features(to_gray(x))  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim)."""
        return self.network(to_gray(x))


class AtOwnSize(nn.Module):
    """A network for images of one size and 1 or 3 channels, which gets others converted to these.

    Args:
        network: (B, channels, *size) -> (B, dim).
        channels: that it takes.
        size: that it takes, (height, width) in pixels.
        dim: number of its features.
    """

    def __init__(self, network: nn.Module, channels: int, size: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.network, self.channels, self.size, self.dim = network, channels, size, dim

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> features (B, dim)."""
        if (x.shape[1], self.channels) == (3, 1):
            x = rgb_to_grayscale(x)
        elif x.shape[1] == 1:
            x = x.expand(-1, self.channels, -1, -1)
        if x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        return self.network(x)


def build(
    encoder: str | nn.Module | Callable[..., nn.Module],
    channels: int,
    size: tuple[int, int],
    *,
    gray: bool = False,
    **options: Any,
) -> nn.Module:
    """Build an encoder for images of that many channels and that size.

    Args:
        encoder: a name of `unlabeled list encoders`, `timm:NAME`, `hf:NAME`, `./file.py:Net`, a
            class or function that returns a module, or a module, which is copied.
        channels: of the images.
        size: of the images, (height, width) in pixels.
        gray: convert images of three channels to gray first.
        options: arguments of the encoder, such as `width`.

    Returns:
        the module, with an attribute `dim`.

    Raises:
        UserError: there is no such name or option, no encoder with these options, or the module
            does not map (B, C, H, W) to (B, dim).
    """
    if gray:
        return _with_dim(Grayscaled(build(encoder, channels, size, **options)), channels, size)
    if isinstance(encoder, nn.Module):
        return _with_dim(_copied(encoder), channels, size)
    if isinstance(encoder, str) and external.is_external(encoder):
        return _with_dim(external.make(encoder, channels, size, **options), channels, size)
    make = registry.find("encoders", encoder) if isinstance(encoder, str) else encoder
    accepted = inspect.signature(make).parameters
    arguments = {"channels": channels, "size": size} | options
    if unknown := set(options) - set(accepted):
        raise UserError(
            f"the encoder has no argument '{min(unknown)}'; {suggest(min(unknown), accepted)}"
        )
    arguments = {name: value for name, value in arguments.items() if name in accepted}
    is_named = isinstance(encoder, str) and encoder in registry.listing("encoders")
    module = _made(encoder, make, arguments, options) if is_named else make(**arguments)
    if not isinstance(encoder, str | type):  # a function may return the same module each time
        module = _copied(module)
    return _with_dim(module, channels, size)


def accepts_option(encoder: Any, option: str) -> bool:
    """Whether the function that `build` would call has an argument of that name."""
    is_name = isinstance(encoder, str)
    if isinstance(encoder, nn.Module) or (is_name and external.is_external(encoder)):
        return False
    make = registry.find("encoders", encoder) if is_name else encoder
    return option in inspect.signature(make).parameters


def is_rebuildable(name: str, args: Iterable[str] = ()) -> bool:
    """Whether `build` needs only the name and arguments, so that runs need not store it."""
    return name in registry.listing("encoders") or external.is_safe(name, args)


def channels_last(module: Any) -> Any:
    """The module, its weights of two-dimensional convolutions in the layout that is fastest.

    `module.to` would fail at those of three-dimensional ones.
    """
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return module


def checksum(encoder: nn.Module) -> int:
    """CRC-32 of all weights and buffers."""
    crc = 0
    for _, value in sorted(encoder.state_dict().items()):
        if isinstance(value, Tensor):
            content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            crc = zlib.crc32(content.numpy().tobytes(), crc)
    return crc


def reinitialize(encoder: nn.Module) -> nn.Module:
    """A copy with random weights.

    Layers with `reset_parameters` are reset; the entries of all other weights are shuffled.
    """
    fresh = copy.deepcopy(encoder)
    for weight in fresh.parameters():
        order = torch.randperm(weight.numel()).to(weight.device)
        weight.data = weight.data.flatten()[order].view_as(weight)
    for layer in fresh.modules():
        for name in ("reset_parameters", "reset_running_stats"):
            if callable(reset := getattr(layer, name, None)):
                reset()
    return fresh


def _made(
    name: Any, make: Callable[..., nn.Module], arguments: dict[str, Any], options: dict[str, Any]
) -> nn.Module:
    """An encoder of the library; one sentence if its layers refuse the options."""
    try:
        return make(**arguments)
    except UserError:
        raise
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as e:
        if is_out_of_memory(e) or not options:
            raise
        given = ", ".join(f"{option}={value}" for option, value in options.items())
        raise UserError(f"{name} cannot be built with {given}: {reason(e)}; change them") from e


def _copied(module: nn.Module) -> nn.Module:
    """A deep copy, so that training does not change the user's module."""
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"the encoder {type(module).__name__} cannot be copied ({error}); "
            "give a class that makes it"
        ) from error


def _blank(module: nn.Module, channels: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Two samples of zeros, as the module receives them."""
    if Text in getattr(module, "modality", ()):
        return torch.zeros(2, *size, dtype=torch.long, device=device)
    return torch.zeros(2, channels, *size, device=device)


def _with_dim(module: nn.Module, channels: int, size: tuple[int, int]) -> nn.Module:
    """Call the module on two blank images and set its attribute `dim`."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    device = next((t.device for t in tensors), torch.device("cpu"))
    with eval_mode(module), torch.no_grad():
        try:
            out = module(_blank(module, channels, size, device))
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"the encoder cannot take images of {channels}×{size[0]}×{size[1]}: {reason(error)}"
            ) from error
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 2:
        returned = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise UserError(
            f"an encoder maps (B, C, H, W) to (B, dim), but this one returned {returned} for "
            "B = 2; end it with pooling and nn.Flatten()"
        )
    module.dim = out.shape[1]  # type: ignore[assignment]
    return module
