"""Default settings by method, data and hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from unlabeled import registry
from unlabeled.core import DEFAULT_ENCODERS, Method
from unlabeled.data.dataset import Splits
from unlabeled.errors import UserError, plural, suggest
from unlabeled.modality import Images

NAMES = ["auto", "quick", "paper"]
LARGEST = {"cpu": 64, "gpu": 224}
"""Maximum side of images in files by default, in pixels."""
LARGE, MANY = 128, 100_000
"""Minimum side, or number, of images for the paper's settings to be the default on a GPU."""
BATCH = 256
"""Batch size per GPU of the paper's settings, unless the preset was requested."""
WIDTH = 32
"""Width of the network `small` for photographs; elsewhere 16."""
PIXELS = 2_000_000 * 32**2
"""Pixels that a quick training processes: about 20 minutes of SimCLR on two cores."""
FEWEST, MOST = 10, 200
"""Minimum and maximum epochs of a quick training."""


@dataclass(frozen=True)
class Choice:
    """A preset and its settings.

    Args:
        name: quick or paper.
        settings: fields of the recipe, arguments of the method, `encoder`, `encoder_args`, `size`.
        batch_size: replaces the preset's, with a scaled learning rate (default: the preset's).
        notes: a sentence on what was chosen and why; "" if nothing was.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    notes: str = ""


def device_of(accelerator: str) -> str:
    """The hardware, "cpu" or "gpu", that a training with this accelerator uses."""
    asked = accelerator in ("auto", "gpu", "cuda")
    return "gpu" if asked and torch.cuda.is_available() else "cpu"


def named(cls: type[Method], name: str, preset: str) -> Choice | None:
    """A preset that does not depend on the data; None for "auto" and "quick".

    Raises:
        UserError: the method has no such preset.
    """
    if preset in ("auto", "quick"):
        return None
    if preset not in cls.presets:
        known = [n for n in registry.listing("methods") if preset in _presets(n)]
        raise UserError(
            f"{name} has no preset '{preset}'; "
            + (f"{', '.join(known)} have one" if known else suggest(preset, NAMES))
        )
    return Choice(preset, cls.presets[preset])


def _presets(name: str) -> dict[str, Any]:
    return getattr(registry.find("methods", name), "presets", {})


def choose(
    cls: type[Method],
    splits: Splits,
    device: str,
    processes: int = 1,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> Choice:
    """Choose settings for a data set and the hardware.

    The paper's settings on a GPU for photographs that are large or many, where the method has some;
    else the quick ones. Photographs are color images that are no named data set; a quick training
    of these has a wider network, and as many epochs as make a certain number of pixels.

    Args:
        cls: the method.
        splits: its data.
        device: cpu or gpu.
        processes: that share each batch.
        given: fields of the recipe that the user gave; the sentence has these.
    """
    images = splits.modality
    name = splits.name.partition(":")[0]
    if (
        not isinstance(images, Images)
        or images.channels != 3
        or name in registry.listing("datasets")
    ):
        return Choice("quick")
    n, side = len(splits.train), min(images.size)
    size = "×".join(map(str, images.size))
    if device == "gpu" and "paper" in cls.presets and (side >= LARGE or n >= MANY):
        settings = {k: v for k, v in cls.presets["paper"].items() if k != "size"}
        batch = given.get("batch_size", min(settings["batch_size"], BATCH * processes))
        note = (
            f"preset paper, since there is a GPU and {n:,} images of {size}: "
            f"{settings['encoder']}, {given.get('epochs', settings['epochs'])} epochs, batches of "
            f"{batch:,}"
            + ("" if batch == settings["batch_size"] else f" (paper: {settings['batch_size']:,})")
            + "; --preset quick trains a small network"
        )
        return Choice("paper", settings, batch, note)
    if cls.encoder_for(Images) != DEFAULT_ENCODERS[Images]:
        return Choice("quick")
    epochs = round(PIXELS / (n * images.size[0] * images.size[1]))
    epochs = given.get("epochs", min(MOST, max(FEWEST, epochs)))
    note = (
        f"preset quick: network small of width {WIDTH}, {plural(epochs, 'epoch')} of {n:,} images "
        f"of {size}; --epochs, --size and --encoder choose others"
    )
    return Choice("quick", {"encoder_args": {"width": WIDTH}, "epochs": epochs}, None, note)
