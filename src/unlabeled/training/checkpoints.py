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
from lightning.pytorch.plugins import TorchCheckpointIO

from unlabeled.errors import Stopped, UserError, notice, signal_name
from unlabeled.training.sharding import local_part
from unlabeled.utils.launch import stop_signals

SAVE_EVERY = 300.0
"""Seconds after which a checkpoint is saved within an epoch."""
AGREE_EVERY = 10
"""Number of steps after which several processes agree on whether to stop."""


class Keeper(Checkpoint):
    """Save `last.ckpt`, keep the previous one as `previous.ckpt`, and stop on signals.

    Saves after each epoch, every few minutes within a long one, where a training ends within one,
    and on Ctrl-C, SIGTERM, SIGHUP, or SLURM's SIGUSR1. A checkpoint is written to another file,
    then renamed, so that it is always complete.

    Args:
        folder: of the run.
        asked: signals received; any stops the run after the current step.
        done: epoch and its steps in the checkpoint that this process resumes from, if any.
    """

    def __init__(self, folder: Path, asked: list[int], done: tuple[int, int] | None = None) -> None:
        self.folder, self.asked, self.done = folder, asked, done

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Check that all processes resume from the same checkpoint: disks may not be shared."""
        same = trainer.strategy.broadcast(self.done) == self.done
        if not trainer.strategy.reduce_boolean_decision(same, all=True):
            raise UserError(
                f"{self.folder} does not hold the same checkpoint on every machine; put it on a "
                "disk that all of them share, or copy it from the first to the others"
            )

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
        """Save within an epoch if due; the last step is saved at the end of the epoch."""
        due = bool(self.asked) or time.monotonic() - self.saved > SAVE_EVERY
        if trainer.world_size > 1:  # all save together; agreeing at each step would be slow
            due = batch_idx % AGREE_EVERY == 0 and _latest(trainer, int(due)) > 0
        ends = trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step
        if (due or ends) and batch_idx + 1 < trainer.num_training_batches:
            self.save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save, after all other callbacks; an incomplete epoch has been saved as such."""
        if is_complete(trainer):
            self.save(trainer, pl_module)

    def save(self, trainer: L.Trainer, learner: Any) -> None:
        """Save a checkpoint if all weights are finite, then stop if a signal was received."""
        step = learner.steps or int(trainer.num_training_batches)
        parts = map(local_part, learner.method.parameters())
        if _latest(trainer, int(not all(bool(torch.isfinite(p).all()) for p in parts))):
            raise UserError(not_finite("weights are no longer finite", learner, step))
        asked = _latest(trainer, self.asked[0] if self.asked else 0)
        with checkpoint_file(self.folder, trainer.is_global_zero) as aside:
            trainer.save_checkpoint(aside)
        self.saved = time.monotonic()
        if asked:
            raise Stopped(
                f"stopped in epoch {learner.current_epoch + 1} after step {step} and saved in "
                f"{self.folder}; run the same command with --resume to continue",
                asked,
            )


def is_complete(trainer: L.Trainer) -> bool:
    """Whether all batches of the epoch are done; limits on steps or time may prevent that."""
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(batches.processed >= trainer.num_training_batches)


def _latest(trainer: L.Trainer, here: int) -> int:
    """The largest number of all processes."""
    number = torch.tensor(here, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(number, reduce_op="max"))


class InPlace(TorchCheckpointIO):
    """Write checkpoints where they belong, and read them from there.

    Lightning's own writes into the system's folder for temporary files first, which may be small
    and keeps the file from other users, ignores a lack of permission, and takes a folder `http-1`
    for an address.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        write_state(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Read a checkpoint into memory."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state


def write_state(path: Path, state: dict[str, Any]) -> None:
    """`torch.save` to a file, where a full disk is an OSError and not an error of PyTorch's."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


@contextmanager
def checkpoint_file(folder: Path, first: bool = True) -> Iterator[Path]:
    """Context with a path for a new checkpoint, which becomes `last.ckpt`; that, `previous.ckpt`.

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
            with aside.open("r+b") as file:  # Windows syncs only what is open for writing
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
    """Collect Ctrl-C, SIGTERM and SIGHUP, in SLURM also SIGUSR1, instead of terminating.

    A second Ctrl-C terminates at once. Ignored signals stay ignored, as SIGHUP under nohup.

    Raises:
        Stopped: a signal was received but not handled.
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
    heard = [n for n in stop_signals() if signal.getsignal(n) not in (signal.SIG_IGN, None)]
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
