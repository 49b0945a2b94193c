"""What every objective is called with: shapes that pair, labels of whole numbers, sane numbers.

Only shapes, types and plain numbers are looked at, never a tensor's values: no device waits.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.objectives.precision import full_precision

F = TypeVar("F", bound=Callable[..., Tensor])
ABOVE_ZERO = ("temperature", "scale")
ANY_SIGN = ("log_partition",)
"""Numbers of which 0 means nothing, and of which negative ones do; all others are at least 0."""


class Rows(NamedTuple):
    """A tensor argument."""

    axes: tuple[str, ...]
    whole: bool  #: whether it holds whole numbers
    optional: bool  #: it may be None, or empty


def objective(least: int = 1) -> Callable[[F], F]:
    """Check what an objective is called with, by its annotations, and compute in full precision.

    Axes of one name are equally long; `n` counts the rows. Every decorated objective raises
    UserError (a ValueError) where shapes, types or numbers cannot be meant.

    Args:
        least: rows that the formula needs.
    """

    def decorate(function: F) -> F:
        name = function.__name__
        hints = get_type_hints(function)
        names = tuple(inspect.signature(function).parameters)
        tensors = {key: rows for key in names if (rows := _rows(hints[key]))}
        numbers = [key for key in names if float in (hints[key], *get_args(hints[key]))]
        choices = {key: get_args(hints[key]) for key in names if get_origin(hints[key]) is Literal}
        precise = full_precision(function)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Tensor:
            given = dict(zip(names, args, strict=False)) | kwargs
            _check_rows(name, tensors, given, least)
            for key in numbers:
                if key in given:
                    _check_number(name, key, given[key])
            for key, allowed in choices.items():
                if given.get(key, allowed[0]) not in allowed:
                    raise UserError(
                        f"{key} of {name} is {given[key]!r}; choose one of "
                        + ", ".join(map(str, allowed))
                    )
            return precise(*args, **kwargs)

        return checked  # type: ignore[return-value]

    return decorate


def _rows(hint: Any) -> Rows | None:
    """What an annotation says of a tensor; None of anything else."""
    options = get_args(hint) or (hint,)
    kind = next((kind for kind in options if hasattr(kind, "dim_str")), None)
    if kind is None:
        return None
    return Rows(tuple(kind.dim_str.split()), "float32" not in kind.dtypes, type(None) in options)


def _check_rows(name: str, tensors: dict[str, Rows], given: dict[str, Any], least: int) -> None:
    sizes: dict[str, int] = {}
    for key, (axes, whole, optional) in tensors.items():
        if key not in given or (optional and given[key] is None):
            continue
        value = given[key]
        wanted = f"({', '.join(axes)})"
        if not isinstance(value, Tensor):
            raise UserError(f"{key} of {name} is a {type(value).__name__}; give a tensor {wanted}")
        if value.is_complex() or value.is_floating_point() == whole or value.dtype == torch.bool:
            kind = "whole numbers, as y.long()" if whole else "floats, as z.float()"
            raise UserError(f"{key} of {name} is of {value.dtype}; give {kind}")
        if value.ndim != len(axes):
            raise UserError(f"{key} of {name} is {tuple(value.shape)}; give a tensor {wanted}")
        for axis, size in zip(axes, value.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                shapes = [f"{k} {tuple(given[k].shape)}" for k in tensors if _has_shape(given, k)]
                meant = [f"{k} ({', '.join(tensors[k].axes)})" for k in tensors if k in given]
                raise UserError(
                    f"the shapes {', '.join(shapes)} do not fit in {name}; give {', '.join(meant)}"
                )
            fewest = least if axis == "n" else 0 if optional else 1
            if size < fewest:
                raise UserError(
                    f"{key} of {name} is {tuple(value.shape)}; give at least {fewest} of {axis} "
                    f"in {wanted}"
                )


def _has_shape(given: dict[str, Any], key: str) -> bool:
    return isinstance(given.get(key), Tensor)


def _check_number(name: str, key: str, value: Any) -> None:
    if isinstance(value, Tensor):  # learned, perhaps on a device
        if value.numel() != 1:
            raise UserError(f"{key} of {name} is {tuple(value.shape)}; give one number")
        return
    bound = "be finite"
    sane = math.isfinite(value)
    if key in ABOVE_ZERO:
        bound, sane = "be above 0", 0 < value < math.inf
    elif (name, key) == ("lmnn", "weight"):
        bound, sane = "be from 0 to 1", 0 <= value <= 1
    elif key not in ANY_SIGN:
        bound, sane = "be finite and at least 0", 0 <= value < math.inf
    if not sane:
        raise UserError(f"{key} of {name} is {value}, but must {bound}")
