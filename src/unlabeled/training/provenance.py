"""Provenance of a run: command, settings, hardware, the user's own files, and what ended it.

It is part of config.json, besides the settings that determine the result. It may change when a run
is resumed.
"""

from __future__ import annotations

import platform
import subprocess
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Timer

from unlabeled.data.open import is_program
from unlabeled.training.checkpoints import is_complete
from unlabeled.training.config import TrainConfig
from unlabeled.utils import command
from unlabeled.utils.launch import slurm_job

SETTINGS = ("accelerator", "strategy", "workers", "logger", "probe_every", "trainer")
"""Fields of `TrainConfig` that may change when a run is resumed."""
ENDS = ("epochs", "max_steps", "max_time", "callback")
"""Possible ends of a training, besides signals and errors."""
GIT_SECONDS = 10


def provenance(
    method: Any, data: Any, config: TrainConfig, options: dict[str, Any]
) -> dict[str, Any]:
    """Describe how a run is trained, for its config.json.

    Args:
        method: as for `train`.
        data: as for `train`.
        config: of the training.
        options: fields of the recipe and arguments of the method.

    Returns:
        `command` (or "Python"), `settings`, `hardware`; `in_memory`, the arguments that were
        objects of a program; `git`, commit and whether it was changed, by each file of the user's
        own (None outside of a repository); and `stopped_by`, which is set at the end.
    """
    arguments = {f.name: getattr(config, f.name) for f in fields(config)} | options
    arguments |= {"method": method, "data": data}
    words = (method, config.encoder, data, config.test)
    own = [str(word) for word in words if isinstance(word, str | Path) and is_program(str(word))]
    return {
        "command": command.current(),
        "settings": {name: _plain(getattr(config, name)) for name in SETTINGS},
        "hardware": _hardware(config.accelerator),
        "in_memory": sorted(name for name, value in arguments.items() if not _is_plain(value)),
        "git": {word: git_state(file_of(word)) for word in own},
        "slurm_job": slurm_job(),
        "stopped_by": None,
    }


def file_of(program: str) -> Path:
    """The file of `./file.py` or `./file.py:Name`."""
    return Path(program.rpartition(".py")[0] + ".py").expanduser()


def git_state(file: Path) -> dict[str, Any] | None:
    """Commit of the repository that a file is in, and whether it or tracked files were changed.

    None without a repository, a commit, or git.
    """

    def git(*words: str) -> str:
        run = subprocess.run(
            ["git", "-C", str(file.resolve().parent), *words],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
        return run.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
        tracked = git("ls-files", "--", file.name)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changed) or not tracked}


def why_stopped(trainer: L.Trainer, epochs: int) -> str:
    """Which of `ENDS` ended a training."""
    if trainer.current_epoch >= epochs and is_complete(trainer):
        return "epochs"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return "max_steps"
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined]
    if any((timer.time_remaining() or 0) <= 0 for timer in timers):
        return "max_time"
    return "callback"


def _hardware(accelerator: str) -> list[str]:
    """Names of the GPUs that are used or could be, else that of the processor."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [platform.processor() or platform.machine()]


def _is_plain(value: Any) -> bool:
    """Whether a value can be recorded: numbers, strings, paths and the library's augmentations."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        own = type(value).__module__.startswith("unlabeled.augmentations.")
        return own and all(_is_plain(getattr(value, f.name)) for f in fields(value))
    return isinstance(value, str | Path | int | float | bool | np.generic | None)


def _plain(value: Any) -> Any:
    """A value for JSON; an object is named by its class."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__
