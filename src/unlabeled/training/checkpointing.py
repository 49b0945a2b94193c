"""Gradient checkpointing: compute activations again in the backward pass instead of storing them.

Chen, Xu, Zhang, Guestrin 2016, "Training Deep Nets with Sublinear Memory Cost". The input of each
block is stored; results are the same, random ones such as dropout included.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unlabeled.encoders.attention import TransformerBlock
from unlabeled.encoders.external import Backbone
from unlabeled.encoders.resnet import ResidualBlock
from unlabeled.encoders.sparse import current_visible, visible_only
from unlabeled.errors import UserError
from unlabeled.utils.state import untracked

BLOCKS: dict[type[nn.Module], str] = {TransformerBlock: "forward_cached", ResidualBlock: "forward"}
"""Blocks whose activations are computed again, and the name of the function that does it."""


@contextmanager
def recomputed(method: nn.Module, wanted: bool) -> Iterator[None]:
    """Context in which the blocks of a method's networks store their inputs only.

    Only the class of a block is changed, and restored afterwards.

    Args:
        method: a method, or any network.
        wanted: whether to enable it.

    Raises:
        UserError: its encoder has no such blocks.
    """
    modules = list(method.modules()) if wanted else []
    blocks = {m: type(m) for m in modules if isinstance(m, tuple(BLOCKS))}
    backbones = [m.net for m in modules if isinstance(m, Backbone) and _switch(m.net, True)]
    if wanted and not any(m in blocks or m in backbones for m in method.encoder.modules()):  # type: ignore[union-attr]
        raise UserError(
            "this encoder has no blocks whose activations could be computed again; omit "
            "--gradient-checkpointing, or use a resnet or a transformer"
        )
    for block, kind in blocks.items():
        name = next(name for base, name in BLOCKS.items() if isinstance(block, base))
        block.__class__ = _checkpointed(kind, name)
    try:
        yield
    finally:
        for block, kind in blocks.items():
            block.__class__ = kind
        for net in backbones:
            _switch(net, False)


def _switch(net: Any, on: bool) -> bool:
    """Switch checkpointing of a timm or transformers network; False if it does not support it."""
    if hasattr(net, "set_grad_checkpointing"):  # timm
        try:
            net.set_grad_checkpointing(on)
        except (AssertionError, NotImplementedError):  # how timm reports that it cannot
            return False
        return True
    if getattr(net, "supports_gradient_checkpointing", False):  # transformers
        if on:
            net.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            net.gradient_checkpointing_disable()
        return True
    return False


@contextmanager
def _again(block: nn.Module, visible: Tensor | None) -> Iterator[None]:
    """Context of the second forward pass of a block, which must not update BatchNorm again."""
    with untracked(block), visible_only(visible, block):
        yield


def _checkpointed(kind: Any, name: str) -> type[nn.Module]:
    """A subclass of a block whose function of that name stores only its inputs."""
    function = getattr(kind, name)

    def call(self: nn.Module, *inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(self, *inputs, **options)
        visible = current_visible()
        return checkpoint(
            functools.partial(function, self),
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _again(self, visible)),
            **options,
        )

    return type(kind.__name__, (kind,), {name: call, "__module__": kind.__module__})
