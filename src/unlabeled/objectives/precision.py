"""Compute losses in full precision, whatever the precision of the networks."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Tensor])


def full_precision(objective: F) -> F:
    """Decorate an objective to run without autocast on float32 or float64 and int64 inputs."""

    @functools.wraps(objective)
    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        inputs = (*args, *kwargs.values())
        device = next(a.device.type for a in inputs if isinstance(a, Tensor))
        with torch.autocast(device, enabled=False):
            return objective(*map(_upcast, args), **{k: _upcast(v) for k, v in kwargs.items()})

    return wrapped  # type: ignore[return-value]


def _upcast(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dtype in (torch.float32, torch.float64, torch.int64):
        return value
    return value.float() if value.is_floating_point() else value.long()
