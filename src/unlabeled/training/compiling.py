"""`torch.compile` for the networks of a method."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from unlabeled.core import EMA, Method
from unlabeled.errors import UserError, reason
from unlabeled.utils.native import compiler


@contextlib.contextmanager
def fused(method: nn.Module, wanted: bool, **options: Any) -> Iterator[None]:
    """Within it, the networks of a method go through `torch.compile`, if that is wanted.

    They stay what they are: neither their names nor their weights change.

    Args:
        method: whose `networks` are meant; or any network.
        wanted: whether to do it at all.
        options: of `torch.compile`.

    Raises:
        UserError: PyTorch cannot compile one of them.
    """
    chosen = networks(method) if wanted else []
    for network in chosen:
        network._compiled_call_impl = torch.compile(_calling(network), **options)
    try:
        yield
    except RuntimeError as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            why = reason(error).partition(" Set TORCHDYNAMO")[0][:200]
            raise UserError(f"these networks cannot be compiled ({why}); omit compile") from error
        raise
    finally:
        for network in chosen:
            network._compiled_call_impl = None


def _calling(network: nn.Module) -> Callable[..., Any]:
    """A call of it, hooks and all, as a function of ours: PyTorch compiles none of its own, and so
    no `nn.Sequential` by itself.
    """

    def call(*inputs: Any, **further: Any) -> Any:
        return network._call_impl(*inputs, **further)

    call.__code__ = call.__code__.replace()  # a code of its own: for each, eight are kept at most
    return call


def networks(method: nn.Module) -> list[nn.Module]:
    """What does the work of a step: the encoder, whatever holds one like it, such as a student or a
    moving average, and all that convolves; and the stages of each, since some methods call these.
    """
    encoder = getattr(method, "encoder", method)
    found = [encoder]
    children = [child for child in method.children() if child is not encoder]
    while children:
        child = children.pop()
        if isinstance(child, EMA):
            children.append(child.module)
        elif isinstance(child, nn.ModuleList | nn.ModuleDict):
            children += child.children()
        elif isinstance(child, Method):
            found += networks(child)
        elif any(isinstance(m, (type(encoder), _ConvNd)) for m in child.modules()):
            found.append(child)
    parts = [m for network in found for m in network.modules()]
    stages = [s for m in parts for name in ("stages", "bodies") for s in getattr(m, name, ())]
    return list(dict.fromkeys([*found, *stages]))


def check_compiles() -> None:
    """Refuse `compile` where PyTorch would find no C++ compiler, which it needs on a processor.

    Raises:
        UserError: there is none that works.
    """
    if not torch.cuda.is_available():
        try:
            compiler()
        except UserError as error:
            raise UserError(
                f"{error}, which compile needs; omit compile, steps are only slower, or install g++"
            ) from error
