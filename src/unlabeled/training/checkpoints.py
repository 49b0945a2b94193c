"""Checkpoints that survive interruptions, and signals that stop a training."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from unlabeled.errors import Stopped, UserError, notice, signal_name

SAVE_EVERY = 300.0
"""Seconds after which a checkpoint is saved within an epoch."""
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
"""Signals that stop a training after it is saved; Windows has no SIGHUP."""
AGREE_EVERY = 10
"""Number of steps after which several processes agree on whether to stop."""


class Keeper(Checkpoint):
    """Save `last.ckpt`, keep the previous one as `previous.ckpt`, and stop on signals.

    Saves after each epoch, every few minutes within a long one, and on Ctrl-C, SIGTERM or SIGHUP. A
    checkpoint is written to another file, then renamed, so that it is always complete.

    Args:
        folder: of the run.
        asked: signals received; any ends the run after the step.
    """

    def __init__(self, folder: Path, asked: list[int]) -> None:
        self.folder, self.asked = folder, asked

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start the timer.

        With several processes, Lightning's handler of SIGTERM would exit unsaved, or deadlock.
        """
        self.saved = time.monotonic()
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda number, frame: self.asked.append(number))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an epoch, if it is time; the last step is saved at the end of the epoch."""
        due = bool(self.asked) or time.monotonic() - self.saved > SAVE_EVERY
        if trainer.world_size > 1:  # all processes save together; asking each time would cost
            due = batch_idx % AGREE_EVERY == 0 and _any(trainer, due)
        if due and batch_idx + 1 < trainer.num_training_batches:
            self.save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save, after all other callbacks."""
        self.save(trainer, pl_module)

    def save(self, trainer: L.Trainer, learner: Any) -> None:
        """Save a checkpoint if all weights are finite, then stop if a signal was received."""
        step = learner.steps or int(trainer.num_training_batches)
        if not all(bool(torch.isfinite(p).all()) for p in learner.method.parameters()):
            raise UserError(not_finite("weights are no longer finite", learner, step))
        asked = _any(trainer, bool(self.asked))
        with kept(self.folder, trainer.is_global_zero) as aside:
            trainer.save_checkpoint(aside)
        self.saved = time.monotonic()
        if asked:
            raise Stopped(
                f"stopped in epoch {learner.current_epoch + 1} after step {step} and saved in "
                f"{self.folder}; run the same command with --resume to continue",
                (self.asked or [signal.SIGTERM])[0],
            )


def _any(trainer: L.Trainer, here: bool) -> bool:
    """Whether it is so in any process."""
    return trainer.strategy.reduce_boolean_decision(here, all=False)


@contextmanager
def kept(folder: Path, first: bool = True) -> Iterator[Path]:
    """The path to write a checkpoint to, which then is `last.ckpt`, and that `previous.ckpt`.

    Args:
        folder: of the run.
        first: whether this process renames the file.

    Raises:
        UserError: it cannot be written; the previous checkpoint is kept.
    """
    aside, last = folder / "last.tmp", folder / "last.ckpt"
    if first:
        aside.unlink(missing_ok=True)
    try:
        yield aside
        if first:
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            if last.exists():
                last.replace(folder / "previous.ckpt")
            aside.replace(last)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise UserError(
            f"the checkpoint cannot be written to {folder} ({error.strerror}); free some space, "
            "then continue with --resume (the previous checkpoint is kept)"
        ) from error


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is not damaged; None if there is none.

    Raises:
        UserError: all are damaged.
    """
    paths = [p for p in (folder / "last.ckpt", folder / "previous.ckpt") if p.is_file()]
    for path in paths:
        try:
            with zipfile.ZipFile(path) as content:
                bad = content.testzip()
            if bad is None:
                torch.load(path, map_location="cpu", weights_only=True)["in_epoch"]
                return path
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, RuntimeError) as e:
            bad = str(e)
        except pickle.UnpicklingError:
            bad = "it holds more than tensors"
        message = f"{path} is damaged ({' '.join(str(bad).split())[:100]})"
        notice(f"{message}; using the previous one if there is one")
    if paths:
        raise UserError(
            f"all checkpoints in {folder} are damaged; remove "
            f"{' and '.join(p.name for p in paths)} to start again, or choose another --out"
        )
    return None


def epochs_begun(checkpoint: Path) -> tuple[int, int]:
    """Number of complete epochs in a checkpoint, and of steps of the next one."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    done = state["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return int(done), int(state["in_epoch"]["steps"])


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect Ctrl-C, SIGTERM and SIGHUP instead of dying of them.

    A second Ctrl-C is heard at once. What is ignored stays so, as SIGHUP under nohup.

    Raises:
        Stopped: one came that nobody acted upon.
    """
    asked: list[int] = []

    def hear(number: int, frame: Any) -> None:
        if asked and number == signal.SIGINT:
            raise Stopped(
                "stopped at once by a second Ctrl-C; run the same command with --resume to "
                "continue from the last checkpoint"
            )
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    heard = [n for n in SIGNALS if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, hear) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Stopped(
            f"stopped by {signal_name(asked[0])} when training had ended; run the same command "
            "with --resume to finish",
            asked[0],
        )


def not_finite(what: str, learner: Any, step: int) -> str:
    """Message about a loss or weights that are NaN or infinite."""
    return (
        f"the {what} in epoch {learner.current_epoch + 1}, step {step}; try a lower --lr or "
        "--precision fp32, with another --out (the last checkpoint is kept)"
    )
