"""Progress bar of a training: epoch, loss, samples per second, time left."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unlabeled.utils.progress import can_draw, line

LINE_EVERY = 15.0
"""Seconds between lines if standard error is not a terminal."""


class ProgressBar(Callback):
    """One bar over all epochs; plain lines if standard error is not a terminal."""

    def __init__(self, title: str, noun: str = "images") -> None:
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not can_draw(),
        )
        self.title, self.noun = title, noun

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start the bar at the progress of a resumed run."""
        self.steps = trainer.num_training_batches
        total = int(trainer.max_epochs * self.steps)  # type: ignore[operator]
        within = getattr(pl_module, "steps", 0)  # steps of the epoch that a checkpoint interrupted
        self.first = self.done = trainer.current_epoch * int(self.steps) + within
        self.task = self.bar.add_task(self.title, total=total, completed=self.done, status="")
        self.bar.start()
        self.total, self.started = total, time.perf_counter()
        self.printed = self.started

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance; read the loss only occasionally, since that synchronizes with the device."""
        self.done += 1
        now = time.perf_counter()
        due = self.done == self.total or now - self.printed > LINE_EVERY
        if due:
            self.printed = now
        elif self.done % 20:
            return
        size = trainer.train_dataloader.batch_size * trainer.world_size  # type: ignore[union-attr]
        speed = (self.done - self.first) * size / (now - self.started)
        loss = float(pl_module.loss_sum / pl_module.steps)
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        status = f"{epoch} · loss {loss:.3f} · {speed:,.0f} {self.noun}/s"
        self.bar.update(self.task, completed=self.done, status=status)
        if self.bar.disable and due:
            left = (now - self.started) / (self.done - self.first) * (self.total - self.done)
            share = self.done / self.total
            line(f"{self.title}: {share:.0%} · {status} · {left:.0f} s left")

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Stop the bar."""
        self.bar.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Stop the bar, which hides the cursor; Lightning tears nothing down after an error."""
        self.bar.stop()
