"""Open run folders of unknown origin safely: nothing in them is trusted or executed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from unlabeled.data.open import is_program
from unlabeled.encoders.base import build
from unlabeled.errors import UserError, reason
from unlabeled.modality import from_json

JSON_BYTES = 1 << 20
SIDE, VALUES, FEATURES = 1 << 16, 1 << 24, 1 << 24
"""Maximum pixels of a side, values in an image (3×2364×2364), and features."""
NUMBER, ENTRIES, LETTERS = 1 << 20, 64, 500
"""Maximum number among an encoder's arguments, entries of a list, and length of a string."""
SPARE = 1 << 24
"""Maximum number of values of an encoder besides its weights, such as tables of positions."""
IN_MEMORY = "in memory"
"""Recorded in place of test data that has no path."""

Shapes = dict[str, tuple[int, ...]]


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, which need not exist; links and paths out of the folder are refused.

    Raises:
        UserError: the name leads elsewhere, or a link does.
    """
    path = folder
    for part in Path(name).parts:
        path = path / part
        if part == ".." or Path(part).is_absolute() or path.is_symlink():
            raise UserError(f"{path} leads out of the run folder; remove it, or copy its target")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of at most a megabyte, without NaN or infinity.

    Raises:
        UserError: it is something else.
    """
    try:
        if not path.is_file() or path.stat().st_size > JSON_BYTES:  # reading a pipe could hang
            raise ValueError(f"no file of at most {JSON_BYTES:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except (OSError, RecursionError, ValueError) as error:
        raise UserError(
            f"{path.parent} is damaged ({path.name}: {error}); train it again"
        ) from error
    return content


def check_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """The content of an encoder.json, if it can be one.

    Raises:
        UserError: a field is missing, of another type, or out of bounds.
    """
    name, args, dim = inputs.get("encoder"), inputs.get("args"), inputs.get("dim")
    if not (isinstance(name, str) and 0 < len(name) <= LETTERS):
        raise _damaged("encoder", name)
    if not isinstance(args, dict) or {"encoder", "channels", "size"} & set(args):
        raise _damaged("args", args)
    record = inputs.get("modality")
    try:
        modality = from_json(record)
    except ValueError as error:
        value = record.get(str(error)) if isinstance(record, dict) else record
        raise _damaged(f"modality.{error}", value) from error
    sides = modality.channels, *modality.size
    if max(sides) > SIDE or math.prod(sides) > VALUES:
        raise _damaged("modality.size", list(modality.size))
    if not _is_count(dim, FEATURES):
        raise _damaged("dim", dim)
    return inputs


def _damaged(field: str, value: Any) -> UserError:
    return UserError(
        f"encoder.json is damaged: {field} cannot be {repr(value)[:60]}; train it again"
    )


def check_config(config: dict[str, Any]) -> dict[str, Any]:
    """The content of a config.json, if it can be one.

    Raises:
        UserError: `method` is no string, or `data` or `test` neither a string nor null.
    """
    for field, types in (("method", str), ("data", str | None), ("test", str | None)):
        if not isinstance(config.get(field), types):
            raise UserError(f"config.json is damaged: {field} is not a string; train it again")
    return config


def refuse_unopened(folder: Path, test: str) -> str:
    """The test data that is on record in a run folder, if it can be opened from there.

    Raises:
        UserError: it was in memory, or is loaded by a program, which is not trusted.
    """
    if test == IN_MEMORY:
        raise UserError(f"{folder} was tested on an array in memory; give it again as test")
    if is_program(test):
        raise UserError(f"the test data of {folder} is loaded by a file; give it as --test {test}")
    return test


def read_shapes(path: Path) -> Shapes:
    """Name -> shape of the weights in a safetensors file, from its header alone.

    Raises:
        UserError: it is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path.parent} is damaged ({error}); train it again") from error


def build_checked(
    inputs: dict[str, Any],
    shapes: Shapes,
    stored: Callable[[nn.Module], Mapping[str, Tensor]] = nn.Module.state_dict,
) -> nn.Module:
    """Build the encoder of a checked encoder.json, after checking that its weights fit.

    It is first built without memory, and no larger than the weights, so that no width or depth in
    an untrusted file can cost more than the file itself.

    Args:
        inputs: from `check_inputs`; the name is one that `is_rebuildable` accepts.
        shapes: of the available weights, from `read_shapes`.
        stored: returns the weights of an encoder by their names in the file.

    Raises:
        UserError: they do not fit together.
    """
    name, args = inputs["encoder"], inputs["args"]
    problem = f"the weights do not fit the encoder {name} with {str(args)[:200]}"
    modality = from_json(inputs["modality"])
    if not _is_argument(args):
        raise UserError(f"{problem}: an argument is too large")
    try:
        with torch.device("meta"), _no_more_than(8 * len(shapes) + 1000):
            sketch = build(name, modality.channels, modality.size, **args)
        expected = {key: tuple(value.shape) for key, value in stored(sketch).items()}
    except UserError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # any error that an encoder's arguments may cause
        raise UserError(f"{problem}: {reason(error)}") from error
    for key in sorted(expected.keys() | shapes.keys()):
        if expected.get(key) != shapes.get(key):
            there, needed = shapes.get(key, "nothing"), expected.get(key, "nothing")
            raise UserError(f"{problem}: {key} is {there}, not {needed}; train it again")
    held = sum(t.numel() for t in (*sketch.parameters(), *sketch.buffers()))
    if held > sum(map(math.prod, shapes.values())) + SPARE:
        raise UserError(f"{problem}: it needs far more memory than they have")
    if sketch.dim != inputs["dim"]:
        raise UserError(f"{problem}: it gives {sketch.dim} features, not {inputs['dim']}")
    return build(name, modality.channels, modality.size, **args)


@contextmanager
def _no_more_than(parts: int) -> Iterator[None]:
    """Context in which building a module with more layers or weights fails."""
    left = parts

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError(f"it has more than {parts} parts")

    size = (
        hooks.register_module_module_registration_hook(count),
        hooks.register_module_parameter_registration_hook(count),
    )
    try:
        yield
    finally:
        for handle in size:
            handle.remove()


def _is_number(value: Any, limit: float) -> bool:
    return type(value) in (int, float) and -limit <= value <= limit


def _is_count(value: Any, limit: int) -> bool:
    return type(value) is int and 1 <= value <= limit


def _is_argument(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list | dict):
        entries = value.values() if isinstance(value, dict) else value
        return (
            depth < 3 and len(value) <= ENTRIES and all(_is_argument(e, depth + 1) for e in entries)
        )
    if isinstance(value, str):
        return len(value) <= LETTERS
    return value is None or isinstance(value, bool) or _is_number(value, NUMBER)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
