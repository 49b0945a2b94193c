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
    """Context in which the networks of a method run through `torch.compile`.

    Neither their names nor their weights change.

    Args:
        method: a method, or any network.
        wanted: whether to compile.
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
    """The call of a network with its hooks; PyTorch does not compile functions of its own."""

    def call(*inputs: Any, **further: Any) -> Any:
        return network._call_impl(*inputs, **further)

    call.__code__ = call.__code__.replace()  # PyTorch caches eight versions of each code object
    return call


def networks(method: nn.Module) -> list[nn.Module]:
    """The networks of a method: the encoder, moving averages, other networks of its kind or with
    convolutions, and the stages of each, since some methods call these.
    """
    encoder = getattr(method, "encoder", method)
    result = [encoder]
    children = [child for child in method.children() if child is not encoder]
    while children:
        child = children.pop()
        if isinstance(child, EMA):
            children.append(child.module)
        elif isinstance(child, nn.ModuleList | nn.ModuleDict):
            children += child.children()
        elif isinstance(child, Method):
            result += networks(child)
        elif any(isinstance(m, (type(encoder), _ConvNd)) for m in child.modules()):
            result.append(child)
    parts = [m for network in result for m in network.modules()]
    stages = [s for m in parts for name in ("stages", "bodies") for s in getattr(m, name, ())]
    return list(dict.fromkeys([*result, *stages]))


def check_compiles() -> None:
    """Check that PyTorch finds a C++ compiler, which `compile` needs on CPUs.

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
