"""Check the arguments of objectives: shapes, types and ranges of numbers.

The values of tensors are never read, so that no device has to synchronize.
"""

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
ABOVE_ZERO = ("temperature", "scale", "sigma", "epsilon")
ANY_SIGN = ("log_partition", "bias")
"""Numbers that must be positive, and numbers that may be negative; all others are at least 0."""


class TensorSpec(NamedTuple):
    """A tensor argument."""

    axes: tuple[str, ...]
    integer: bool  #: whether it holds integers
    optional: bool  #: whether it may be None or empty


def objective(least: int = 1) -> Callable[[F], F]:
    """Decorate an objective: check its arguments by its annotations, compute in full precision.

    Axes of the same name must have the same length; `n` counts the rows. A decorated objective
    raises UserError (a ValueError) for wrong shapes, types or numbers.

    Args:
        least: number of rows that the formula needs.
    """

    def decorate(function: F) -> F:
        name = function.__name__
        hints = get_type_hints(function)
        names = tuple(inspect.signature(function).parameters)
        tensors = {key: spec for key in names if (spec := parse_annotation(hints[key]))}
        numbers = [key for key in names if float in (hints[key], *get_args(hints[key]))]
        choices = {key: get_args(hints[key]) for key in names if get_origin(hints[key]) is Literal}
        precise = full_precision(function)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Tensor:
            values = dict(zip(names, args, strict=False)) | kwargs
            _check_rows(name, tensors, values, least)
            for key in numbers:
                if key in values:
                    _check_number(name, key, values[key])
            for key, allowed in choices.items():
                if values.get(key, allowed[0]) not in allowed:
                    named = ", ".join(map(str, allowed))
                    raise UserError(f"{key} of {name} is {values[key]!r}; choose one of {named}")
            return precise(*args, **kwargs)

        return checked  # type: ignore[return-value]

    return decorate


def parse_annotation(hint: Any) -> TensorSpec | None:
    """The annotation of a tensor, parsed; None for other annotations."""
    options = get_args(hint) or (hint,)
    kind = next((kind for kind in options if hasattr(kind, "dim_str")), None)
    if kind is None:
        return None
    axes = tuple(kind.dim_str.split())
    return TensorSpec(axes, "float32" not in kind.dtypes, type(None) in options)


def _check_rows(
    name: str, tensors: dict[str, TensorSpec], values: dict[str, Any], least: int
) -> None:
    sizes: dict[str, int] = {}
    for key, (axes, integer, optional) in tensors.items():
        if key not in values or (optional and values[key] is None):
            continue
        value = values[key]
        wanted = f"({', '.join(axes)})"
        if not isinstance(value, Tensor):
            raise UserError(f"{key} of {name} is a {type(value).__name__}; give a tensor {wanted}")
        if value.is_complex() or value.is_floating_point() == integer or value.dtype == torch.bool:
            kind = "whole numbers, as y.long()" if integer else "floats, as z.float()"
            raise UserError(f"{key} of {name} is of {value.dtype}; give {kind}")
        if value.ndim != len(axes):
            raise UserError(f"{key} of {name} is {tuple(value.shape)}; give a tensor {wanted}")
        for axis, size in zip(axes, value.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                actual = {k: values[k] for k in tensors if isinstance(values.get(k), Tensor)}
                shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in actual.items())
                axes_of = {k: ", ".join(tensors[k].axes) for k in tensors if k in values}
                fitting = ", ".join(f"{k} ({names})" for k, names in axes_of.items())
                raise UserError(f"the shapes {shapes} do not fit in {name}; give {fitting}")
            fewest = least if axis == "n" else 0 if optional else 1
            if size < fewest:
                raise UserError(
                    f"{key} of {name} is {tuple(value.shape)}; give at least {fewest} of {axis} "
                    f"in {wanted}"
                )


def _check_number(name: str, key: str, value: Any) -> None:
    if isinstance(value, Tensor):  # learned
        if value.numel() != 1:
            raise UserError(f"{key} of {name} is {tuple(value.shape)}; give one number")
        return
    bound = "be finite"
    valid = math.isfinite(value)
    if key in ABOVE_ZERO:
        bound, valid = "be above 0", 0 < value < math.inf
    elif (name, key) == ("lmnn", "weight"):
        bound, valid = "be from 0 to 1", 0 <= value <= 1
    elif key not in ANY_SIGN:
        bound, valid = "be finite and at least 0", 0 <= value < math.inf
    if not valid:
        raise UserError(f"{key} of {name} is {value}, but must {bound}")
