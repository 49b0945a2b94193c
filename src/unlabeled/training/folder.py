"""The run folder of a training: created, recorded, resumed or refused."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlabeled import registry
from unlabeled.augmentations import kernel
from unlabeled.core import Recipe
from unlabeled.data.dataset import Splits
from unlabeled.data.readers.patterns import is_pattern
from unlabeled.data.readers.remote import is_remote
from unlabeled.errors import UserError, notice
from unlabeled.runs.safety import refuse_unopened
from unlabeled.training.checkpoints import epochs_begun, last_checkpoint
from unlabeled.utils import command
from unlabeled.utils.files import write_json
from unlabeled.utils.launch import is_started_again, slurm_job
from unlabeled.version import __version__

MAY_CHANGE = ("recipe", "devices", "nodes")
"""Settings that may change when a run is resumed."""
LEFTOVER = re.compile(r"last\.tmp|\.[\w.-]+\.[0-9a-f]{8}\.tmp")
"""Files that a killed run may leave incomplete."""


def prepare_folder(folder: Path, config: dict[str, Any], resume: bool) -> Path | None:
    """Make the run folder; returns the checkpoint to resume from, if any.

    A folder is changed only if it is empty or contains a run that ended before its first
    checkpoint.

    Raises:
        UserError: the folder holds something else, or a run with other arguments.
    """
    record = folder / "config.json"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose a folder with --out")
    begun = any((folder / name).is_file() for name in ("last.ckpt", "previous.ckpt"))
    if begun and resume:
        before = expected = read_record(folder, config)
        if by_learner := "devices" in config:
            may_change = {name: config[name] for name in ("devices", "nodes")}
            recipe = before["recipe"] | {"epochs": config["recipe"]["epochs"]}
            expected = before | may_change | {"recipe": recipe}
        refuse_other(folder, expected, config)
        if checkpoint := last_checkpoint(folder):
            if by_learner:
                _say_changes(folder, before, config, checkpoint)
            return checkpoint
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    leftovers = {name for name in held if LEFTOVER.fullmatch(name)}
    if begun or (held - leftovers and not _is_abandoned(record)):
        remedy = "continue it with --resume, or choose another" if begun else "choose an empty"
        raise UserError(f"{folder} is not empty; {remedy} folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    for name in leftovers:
        (folder / name).unlink()
    if (folder / "tensorboard").is_symlink():
        raise UserError(f"{folder / 'tensorboard'} is a link; remove it")
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    write_config(folder, config, {"command": command.current()})
    return None


def write_config(folder: Path, config: dict[str, Any], record: dict[str, Any]) -> None:
    """Write config.json: settings that determine the result, versions, and provenance."""
    write_json(folder / "config.json", config | {"versions": versions()} | record)


def write_resumed(folder: Path, config: dict[str, Any]) -> None:
    """Record the command that resumes a run, and which settings it changes."""
    before = read_record(folder, config)
    changed = [key for key in MAY_CHANGE if before.get(key, config[key]) != config[key]]
    entry = {"command": command.current(), "changed": changed}
    resumed = [*before.get("resumed", []), entry]
    now = {"resumed": resumed, "slurm_job": slurm_job(), "stopped_by": None}
    write_json(folder / "config.json", before | now)


def write_stopped_by(folder: Path, reason: str) -> None:
    """Record what ended a training; failing to write must not hide the original error."""
    path = folder / "config.json"
    with contextlib.suppress(OSError, ValueError):
        write_json(path, json.loads(path.read_text()) | {"stopped_by": reason})


def _is_abandoned(record: Path) -> bool:
    """Whether a config.json is that of a run that ended before its first checkpoint."""
    try:
        known = json.loads(record.read_text())
    except (OSError, ValueError):
        return False
    ours = isinstance(known, dict) and {"method", "recipe", "versions"} <= set(known)
    products = ("encoder.safetensors", "vectors.bin")
    return ours and not any(record.with_name(name).exists() for name in products)


def is_of_this_job(folder: Path) -> bool:
    """Whether this is a restart by SLURM of the job that trained this run."""
    if not is_started_again():
        return False
    try:
        job = json.loads((folder / "config.json").read_text())["slurm_job"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return bool(job == slurm_job())


def recorded_test(folder: Path) -> str | None:
    """The separate test data of a run to resume, if it has any."""
    try:
        test = json.loads((folder / "config.json").read_text()).get("test")
    except (OSError, ValueError, AttributeError):  # reported elsewhere
        return None
    return None if test is None else refuse_unopened(folder, test)


def _say_changes(
    folder: Path, before: dict[str, Any], config: dict[str, Any], checkpoint: Path
) -> None:
    """Report how a resumed run differs from its beginning; UserError if it cannot be resumed."""
    done, steps = epochs_begun(checkpoint)
    begun = done + (steps > 0)
    epochs, planned = config["recipe"]["epochs"], before["recipe"]["epochs"]
    if epochs < begun:
        state = f"is in epoch {begun} already" if steps else f"has done {done} epochs"
        raise UserError(
            f"{folder} {state}, which cannot become {epochs} epochs in all; give --epochs {begun} "
            "or more, or another --out"
        )
    if epochs != planned:
        notice(
            f"{folder} goes on from epoch {done} to {epochs} instead of {planned}; schedules, such "
            f"as the learning rate's, are those of {epochs} epochs from here"
        )
    for name in ("devices", "nodes"):  # older records have neither
        if before.get(name) not in (None, config[name]):
            notice(
                f"{folder} began with {name} = {before[name]} and goes on with {config[name]}; "
                "random views differ from here on, so the result is not that of one uninterrupted "
                "run"
            )


def write_changes(folder: Path, config: dict[str, Any]) -> None:
    """Record the changed settings of a resumed run, after it has finished."""
    before = read_record(folder, config)
    changed = {k: config[k] for k in MAY_CHANGE if before.get(k) != config[k]}
    if changed:
        write_json(folder / "config.json", before | changed)


def read_record(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run, with defaults for fields that an older record lacks."""
    record = folder / "config.json"
    try:
        before = dict(json.loads(record.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{record} is damaged ({error}); choose another --out") from error
    known = {k: v for k, v in asdict(Recipe()).items() if k in config["recipe"]}
    before["recipe"] = known | before.get("recipe", {})  # it may have fewer fields
    return before


def refuse_other(folder: Path, before: dict[str, Any], config: dict[str, Any]) -> None:
    for key, now in config.items():
        if key != "data" or now is not None:
            _refuse_change(folder, key, before.get(key), now)


def _refuse_change(folder: Path, key: str, before: Any, now: Any) -> None:
    if isinstance(before, dict) and isinstance(now, dict):
        for inner in dict.fromkeys((*before, *now)):
            _refuse_change(folder, inner, before.get(inner), now.get(inner))
    elif before != now:
        values = ("the default" if value is None else value for value in (before, now))
        raise UserError(
            f"{folder} was made with {key} = {', not '.join(map(str, values))}; use the same value "
            "to resume it, or choose another --out"
        )


def versions() -> dict[str, str]:
    """Versions of the software that the result depends on."""
    import lightning

    return {
        "unlabeled": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "platform": platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "resampling": kernel.implementation_used(),
    }


def as_json(value: Any) -> Any:
    """Convert for JSON: an augmentation becomes its name and fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"view": type(value).__name__} | {
            f.name: as_json(getattr(value, f.name)) for f in fields(value)
        }
    if isinstance(value, dict):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def record_data(data: Any) -> str | None:
    """A name or absolute path from which data or labels can be reopened; None for arrays."""
    if isinstance(data, Splits):  # part of a data set, such as the labeled samples: the data set
        known = data.name.partition(":")[0] in registry.listing("datasets")
        return record_data(data.name) if known or Path(data.name).exists() else None
    if not isinstance(data, str | Path):
        return None
    if is_remote(data):
        return str(data)
    path = Path(data).expanduser()
    file, colon, column = str(path).rpartition(":")  # labels.csv:breed
    if colon and Path(file).is_file():
        return f"{Path(file).resolve()}:{column}"
    name, colon, location = str(data).partition(":")
    if isinstance(data, str) and name in registry.listing("datasets"):
        path = Path(location).expanduser()
        return f"{name}:{path.resolve()}" if location and path.exists() else data
    return str(path.resolve()) if path.exists() or is_pattern(path) else str(data)
