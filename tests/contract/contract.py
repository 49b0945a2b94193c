"""Every method that the contract holds, built small, with a batch that suits it."""

import functools
import inspect
import os

import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.augmentations import Augmentation, RandomAffine
from unlabeled.core import Batch, Method
from unlabeled.encoders.base import build
from unlabeled.modality import Pairs, Series, Table, Text

TOKENS = 300
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "clip-siglip": ("clip", {"objective": "siglip"}),
    "distill-mse": ("distill", {"objective": "mse"}),
    "ibot-two-heads": ("ibot", {"shared_head": False}),
}
"""Methods with other arguments, which change what is compared or kept; the contract holds them,
too."""


def names() -> list[str]:
    """All registered methods, or those named in UNLABELED_METHOD, such as ./my_method.py:Mine."""
    if own := os.environ.get("UNLABELED_METHOD"):
        return own.split(",")
    listed = sorted(registry.listing("methods"))
    return [name for name in listed if inspect.isclass(find(name))] + [*VARIANTS]


def find(name: str) -> type[Method]:
    if name not in VARIANTS:
        return registry.find("methods", name)
    method, options = VARIANTS[name]
    cls = registry.find("methods", method)
    init = functools.partialmethod(cls.__init__, **options)
    return type(cls.__name__, (cls,), {"__init__": init, "__doc__": cls.__doc__})


def make(
    cls: type[Method],
    encoder: str | None = None,
    exact: bool = False,
    channels: int | None = None,
    augment: Augmentation | None = None,
    **options: object,
) -> Method:
    """The method with seed 0 on a narrow encoder of its own kind, or on another one.

    Args:
        cls: the method.
        encoder: a name, instead of its default.
        exact: without dropout and with all terms of the loss, so that gradients can be compared.
        channels: of images (default: 1, or 3 where it needs color).
        augment: of methods that take one (default: an affine one).
        options: of the encoder.
    """
    torch.manual_seed(0)
    shape = (channels or (3 if cls.needs_color else 1), *size_of(cls))
    known = {"classes": 3, "augment": augment or RandomAffine(), "shape": shape, "bank_size": 40}
    known |= {"partner_shape": (2, 8), "vocabulary": TOKENS}
    if "teacher" in inspect.signature(cls).parameters:
        known |= {"teacher": build("small", shape[0], shape[1:], width=2), "queue_size": 30}
    known |= {"freeze_patches": False}  # what is frozen on purpose cannot learn
    if exact:  # a threshold little above chance, so that some rows are surer
        known |= {"bn_splits": 1, "threshold": 0.34, "dropout": 0.0, "view": "synonyms"}
    arguments = {k: v for k, v in known.items() if k in inspect.signature(cls).parameters}
    network = encoder or cls.encoder_for(cls.modality[0])
    widths = {"small": {"width": 4}, "patches": {"width": 4}, "vit": {"width": 24, "depth": 2}}
    narrow: dict[str, object] = dict(widths.get(network, {}))
    if network in ("unet", "mlp"):
        narrow = {"width": 8}
    if network == "dilated":
        narrow = {"width": 8, "dim": 12}
    if network == "vit_video":
        narrow = {"width": 24, "depth": 2, "frames": 4}
    if network in ("wave_transformer", "mel_transformer"):  # of 1,024 samples
        narrow = {"width": 8, "context": 16, "depth": 2}
        frames = {"kernels": (10, 8), "strides": (5, 4)}
        narrow |= {"window_ms": 4, "hop_ms": 1} if network == "mel_transformer" else frames
    if cls.modality == (Text,):
        narrow = {"vocabulary": TOKENS, "width": 16, "layers": 2}
        narrow |= {"dropout": 0.0} if exact else {}
    method = cls(
        build(network, shape[0], shape[1:], **cls.encoder_args | narrow | options), **arguments
    )
    method.progress = 0.8 if exact else 0.0
    return method


def size_of(cls: type[Method] | Method) -> tuple[int, int]:
    sizes = {(Text,): (4, 12), (Series,): (1, 24), (Table,): (1, 24)}
    return sizes.get(cls.modality, (32, 32))


def batch_of(method: Method, n: int = 12, channels: int | None = None) -> Batch:
    """Images of black and white, tokens, or pairs; labels only where the method is supervised."""
    g = torch.Generator().manual_seed(1)
    index = torch.arange(n)
    if method.modality == (Text,):
        return Batch(torch.randint(5, TOKENS, (n, *size_of(method)), generator=g), index)
    channels = channels or (3 if method.needs_color else 1)
    x = (torch.rand(n, channels, *size_of(method), generator=g) > 0.7).float()
    y = labels(method, n) if method.supervised else None
    partners = None
    if method.modality == (Pairs,):
        partners = torch.randint(5, TOKENS, (n, 2, 8), generator=g)
        partners[1::4], x[3] = partners[0, 0], x[10]  # equal ones in several processes
    return Batch(x, index, y, partners)


def labels(method: Method, n: int) -> Tensor:
    """Of three classes, half of them unknown where the method also learns from unlabeled rows."""
    y = torch.arange(n) % 3
    if method.recipe.labeled_fraction:
        y[::2] = -1
    return y


def optimizers_of(method: Method) -> dict[str, torch.optim.Optimizer]:
    return {
        name: torch.optim.Adam(method.get_submodule(name).parameters(), 3e-3)
        for name in method.optimized_modules
    }


def step(method: Method, optimizers: dict[str, torch.optim.Optimizer], batch: Batch) -> None:
    """One training step, as the learner does it."""
    for name, loss in method.optimizer_steps(method.views(batch)):
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()
    with torch.no_grad():
        method.update()
