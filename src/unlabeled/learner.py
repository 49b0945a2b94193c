"""Runs any method on Lightning: device, precision, checkpoints. It knows no method by name."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from unlabeled.core import Batch, Method, Recipe
from unlabeled.datasets.base import Samples, Splits, loader, to_float
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation import health
from unlabeled.evaluation.features import embed
from unlabeled.files import write_csv

Row = dict[str, float]


class Learner(L.LightningModule):
    """Draws views on the device, lets each player move, keeps progress and learning rate."""

    def __init__(self, method: Method, recipe: Recipe, span: tuple[float, float], seed: int):
        super().__init__()
        self.automatic_optimization = False
        self.method = method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.span, self.seed = recipe, span, seed

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimiser for each player."""
        return [
            self.recipe.make_optimizer(self.method.get_submodule(player))
            for player in self.method.players
        ]

    def on_train_epoch_start(self) -> None:
        """Draw from (seed, epoch, rank) alone, so that a resumed run goes on as it would have."""
        key = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank])
        torch.manual_seed(int(key.generate_state(1)[0]))
        self.loss_sum = torch.zeros((), device=self.device)
        self.steps = 0

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        """Pictures as stored -> views, outside autocast."""
        with torch.no_grad():
            return self.method.views(batch._replace(x=to_float(batch.x, self.span)))

    def training_step(self, views: Any, step: int) -> None:
        """One step of every player, then the method's own update."""
        steps = self.trainer.num_training_batches
        in_all = self.trainer.max_epochs * steps  # type: ignore[operator]
        self.method.progress = (self.current_epoch * steps + step) / in_all
        lr = self.recipe.lr_at(self.method.progress + 0.5 / in_all)  # the middle of the step
        optimizers: Any = self.optimizers(use_pl_optimizer=True)
        if not isinstance(optimizers, list):
            optimizers = [optimizers]
        by_player = dict(zip(self.method.players, optimizers, strict=True))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        for player, loss in self.method.turns(views):
            self._refuse_nan(loss, step)
            optimizer = by_player[player]
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.loss_sum += loss.detach()
        with torch.no_grad():
            self.method.update()
        self.steps += 1

    def _refuse_nan(self, loss: Tensor, step: int) -> None:
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss became {loss.item()} in epoch {self.current_epoch + 1}, "
                f"step {step + 1}; "
                "the last checkpoint is kept: "
                "try a lower --lr or --precision fp32, in another --out"
            )


class History(Callback):
    """One row an epoch: loss, learning rate, speed and health, as CSV and TensorBoard.

    It warns in plain words when the representation collapses.
    """

    def __init__(self, path: Path, sample: Samples, span: tuple[float, float]) -> None:
        self.path, self.sample, self.span = path, sample, span
        self.rows: list[Row] = []
        self.alarm: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """The rows travel with the checkpoint, so that a resumed run continues its curves."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of the checkpoint."""
        self.rows = list(state_dict["rows"])

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Row 0 is of random weights, to know what is getting worse."""
        self.rows = self.rows or [{"epoch": 0.0} | self.measure(pl_module.method)]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Measure, keep, warn."""
        seconds = time.perf_counter() - self.started
        row: Row = {
            "epoch": trainer.current_epoch + 1.0,
            "loss": float(pl_module.loss_sum / max(1, pl_module.steps)),
            "lr": pl_module.recipe.lr_at(pl_module.method.progress),
            "pictures_per_second": pl_module.steps * _batch_size(trainer) / seconds,
        } | self.measure(pl_module.method)
        self.rows.append(row)
        write_csv(self.path, self.rows)
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "epoch"}, int(row["epoch"]))
        alarm = health.alarm(row, self.rows[:-1])
        if alarm and not self.alarm:
            warnings.warn(f"epoch {row['epoch']:.0f}: {alarm}", Notice, stacklevel=1)
        self.alarm = alarm

    def measure(self, method: Method) -> Row:
        """Health of the features of the same pictures each time, on the encoder alone."""
        device = next(method.parameters()).device
        z = torch.from_numpy(embed(method.encoder, self.sample.x, self.span))
        row = health.summary(z)
        if method.supervised:
            return row
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            x = to_float(torch.from_numpy(self.sample.x).to(device), self.span)
            views = method.views(Batch(x, torch.arange(len(x), device=device)))
        if _two_views(views, x):
            a, b = (_features(method.encoder, v) for v in views[:2])
            row["alignment"] = health.alignment(a, b)
        return row


class LastCheckpoint(Checkpoint):
    """`last.ckpt` after each epoch: written aside, then renamed, so that it is never half there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save, last of all callbacks."""
        aside = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(aside)
        if trainer.is_global_zero:
            aside.replace(self.path)


def fit(
    method: Method,
    splits: Splits,
    recipe: Recipe,
    out: Path,
    *,
    seed: int,
    precision: str,
    accelerator: str,
    resume: bool,
    callbacks: Sequence[Callback],
) -> History:
    """Train in place; leave `last.ckpt`, `metrics.csv` and TensorBoard's files in `out`."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    rows = np.linspace(0, len(splits.train) - 1, min(health.SAMPLE, len(splits.train))).astype(int)
    history = History(out / "metrics.csv", splits.train.take(rows), splits.range)
    trainer = L.Trainer(
        max_epochs=recipe.epochs,
        accelerator=accelerator,
        devices=1,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        logger=TensorBoardLogger(out, name="", version="tensorboard"),
        callbacks=[history, *callbacks, LastCheckpoint(out / "last.ckpt")],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
        default_root_dir=out,
        num_sanity_val_steps=0,
        log_every_n_steps=10**9,
    )
    batches = loader(
        splits.train, recipe.batch_size, seed, splits.target if method.supervised else None
    )
    with warnings.catch_warnings():
        # Lightning would rather have workers and more frequent logs.
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch|torch\.")
        trainer.fit(
            Learner(method, recipe, splits.range, seed),
            batches,
            ckpt_path=out / "last.ckpt" if resume else None,
            weights_only=True,
        )
    return history


def choose_precision(precision: str, accelerator: str) -> str:
    """'auto' -> bf16 where the hardware multiplies it faster than fp32, else fp32."""
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    gains = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if gains() else "fp32"


def _batch_size(trainer: L.Trainer) -> int:
    return trainer.train_dataloader.batch_size  # type: ignore[union-attr]


def _two_views(views: Any, x: Tensor) -> bool:
    return (
        isinstance(views, tuple | list)
        and len(views) > 1
        and all(isinstance(v, Tensor) and v.shape == x.shape for v in views[:2])
    )


@torch.no_grad()
def _features(encoder: torch.nn.Module, x: Tensor) -> Tensor:
    was_training = encoder.training
    z = encoder.eval()(x).float().cpu()
    encoder.train(was_training)
    return z
