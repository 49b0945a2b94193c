"""Losses are computed in full precision, whatever the networks run in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Tensor])


def full_precision(objective: F) -> F:
    """Switch autocast off inside an objective, and raise low-precision inputs.

    Floats become float32, or stay float64; whole numbers become int64.
    """

    @functools.wraps(objective)
    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        given = (*args, *kwargs.values())
        device = next(a.device.type for a in given if isinstance(a, Tensor))
        with torch.autocast(device, enabled=False):
            return objective(*map(_raise, args), **{k: _raise(v) for k, v in kwargs.items()})

    return wrapped  # type: ignore[return-value]


def _raise(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dtype in (torch.float32, torch.float64, torch.int64):
        return value
    return value.float() if value.is_floating_point() else value.long()
