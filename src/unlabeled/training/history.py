"""Measurements after every epoch, and warnings of collapse."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from unlabeled.core import Batch, Method
from unlabeled.data.dataset import Samples, to_input
from unlabeled.encoders.features import embed
from unlabeled.errors import notice
from unlabeled.modality import Pairs
from unlabeled.training import health
from unlabeled.training.online import OnlineProbe
from unlabeled.training.optim import learning_rate
from unlabeled.utils.files import write_csv
from unlabeled.utils.state import eval_mode, preserve_rng

Row = dict[str, float]


class History(Callback):
    """Record loss, learning rate, speed and health after each epoch, as CSV and in the loggers.

    Warns when the representation collapses. A probe measures before the first epoch, after every
    `every` epochs, and after the last.
    """

    def __init__(
        self,
        path: Path,
        sample: Samples,
        value_range: tuple[float, float],
        probe: OnlineProbe | None = None,
        every: int = 0,
    ) -> None:
        self.path, self.sample, self.value_range = path, sample, value_range
        self.probe, self.every = probe, every
        self.rows: list[Row] = []
        self.alarm: str | None = None
        self.began = False  #: whether this process has trained an epoch

    def state_dict(self) -> dict[str, Any]:
        """The rows are saved in the checkpoint, so that a resumed run continues its curves."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of the checkpoint."""
        self.rows = list(state_dict["rows"])

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Row 0 is measured with random weights, as a reference."""
        if not self.rows:
            with pl_module.complete() as method:
                if trainer.is_global_zero:
                    self.rows = [{"epoch": 0.0} | self.measure(method) | self.accuracy(method)]
        self.started, self.steps_before = time.perf_counter(), getattr(pl_module, "steps", 0)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start the timer."""
        self.started, self.steps_before, self.began = time.perf_counter(), 0, True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Measure, record and warn, in the first process."""
        with pl_module.complete() as method:
            if trainer.is_global_zero:
                self.record(trainer, pl_module, method)

    def record(self, trainer: L.Trainer, pl_module: Any, method: Method) -> None:
        """Measure a method after an epoch, record that and warn."""
        seconds = time.perf_counter() - self.started
        steps = pl_module.steps - self.steps_before
        epochs = trainer.current_epoch + pl_module.steps / int(trainer.num_training_batches)
        batch_size = trainer.train_dataloader.batch_size * trainer.world_size  # type: ignore[union-attr]
        row: Row = {
            "epoch": epochs,
            "loss": float(pl_module.loss_sum / max(1, pl_module.steps)),
            "lr": learning_rate(pl_module.recipe, pl_module.method.progress),
            "samples_per_second": steps * batch_size / seconds,
        } | self.measure(method)
        begun = math.ceil(epochs)
        if self.every and (begun % self.every == 0 or begun == trainer.max_epochs):
            row |= self.accuracy(method)
        self.rows.append(row)
        write_csv(self.path, self.rows)
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "epoch"}, begun)
        alarm = health.alarm(row, self.rows[:-1])
        if alarm and not self.alarm:
            notice(f"epoch {row['epoch']:.0f}: {alarm}")
        self.alarm = alarm

    def measure(self, method: Method) -> Row:
        """Health of the features of the sample, and of projections if the loss compares these."""
        device = next(method.parameters()).device
        row = health.summary(self.embed(method.encoder))
        if type(method).project is not Method.project:
            seen = self.embed(_Projection(method))
            row["projection_std"] = health.feature_std(seen)
            row["projection_spread"] = health.rankme(seen - seen.mean(0))
        if method.supervised or Pairs in method.modality:
            return row
        with preserve_rng(seed=0):
            x = to_input(torch.from_numpy(self.sample.x).to(device), self.value_range)
            views = method.views(Batch(x, torch.arange(len(x), device=device)))
        if _two_views(views, x):
            a, b = (_features(method.encoder, v) for v in views[:2])
            row["alignment"] = health.alignment(a, b)
        return row

    def accuracy(self, method: Method) -> Row:
        """Accuracies by the probe, if there is one."""
        return {} if self.probe is None else self.probe.measure(method.encoder)

    def embed(self, network: nn.Module) -> Tensor:
        """Features (N, d) of the sample, which may be infinite."""
        z = embed(
            network, self.sample.x, self.value_range, check_finite=False, progress=False
        )  # next to the progress bar of the training
        return torch.from_numpy(z)


class _Projection(nn.Module):
    """The network from samples to what the loss of a method compares."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, x: Tensor) -> Tensor:
        return self.method.project(x)


def _two_views(views: Any, x: Tensor) -> bool:
    if not isinstance(views, tuple | list) or len(views) < 2 or not x.is_floating_point():
        return False
    return all(
        isinstance(v, Tensor) and (v.shape, v.dtype) == (x.shape, x.dtype) for v in views[:2]
    )


@torch.no_grad()
def _features(encoder: torch.nn.Module, x: Tensor) -> Tensor:
    with eval_mode(encoder):
        z: Tensor = encoder(x).float().cpu()
    return z
