"""Train any method with Lightning: device, precision, views, steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from unlabeled import parallel
from unlabeled.core import Batch, Method, Recipe
from unlabeled.data.dataset import Splits, to_input
from unlabeled.data.loader import label_factor, loader, needs_partners, say_left_out
from unlabeled.encoders.base import channels_last
from unlabeled.errors import UserError, is_out_of_memory, notice, plural
from unlabeled.training import health
from unlabeled.training.accumulation import Accumulation
from unlabeled.training.checkpointing import recomputed
from unlabeled.training.checkpoints import Keeper, not_finite, signals
from unlabeled.training.compiling import fused
from unlabeled.training.config import TrainConfig
from unlabeled.training.history import History
from unlabeled.training.online import OnlineProbe
from unlabeled.training.optim import make_optimizer, set_rates
from unlabeled.training.precision import (
    SMALLEST_SCALE,
    choose_precision,
    exact_single_pixels,
    say_skipped,
)
from unlabeled.training.provenance import why_stopped
from unlabeled.training.sharding import Sharding
from unlabeled.training.trainer import ddp, fsdp, make_trainer
from unlabeled.utils.launch import is_first
from unlabeled.utils.native import keeping_memory
from unlabeled.utils.quiet import quiet
from unlabeled.utils.state import preserve_settings, seed_generators


class Learner(L.LightningModule):
    """Make views on the device, step each optimizer, set progress and learning rate."""

    def __init__(
        self,
        method: Method,
        recipe: Recipe,
        value_range: tuple[float, float],
        seed: int,
        accumulate: int = 1,
        sharding: Sharding | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.method = channels_last(method)
        self.recipe, self.value_range, self.seed = recipe, value_range, seed
        self.accumulate, self.skipped, self.sharding = accumulate, 0, sharding

    def configure_model(self) -> None:
        """Shard the weights over the processes, if requested."""
        if self.sharding:
            self.sharding.apply(self.method, self.device_mesh["data_parallel"])  # type: ignore[index]

    def complete(self) -> AbstractContextManager[Method]:
        """Context with the method and its complete weights, which all processes enter."""
        return self.sharding.gathered(self.method) if self.sharding else nullcontext(self.method)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer for each optimized module."""
        # Fused optimizers unscale gradients only after clipping, and PyTorch has no fused SGD for
        # sharded weights.
        fused = not self.scaler and not (self.sharding and self.recipe.optimizer == "sgd")
        return [
            make_optimizer(self.recipe, self.method.get_submodule(name), fused=fused)
            for name in self.method.optimized_modules
        ]

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The gradient scaler of fp16."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def on_fit_start(self) -> None:
        """Prepare the computation in parts."""
        scale: Any = self.scaler.scale if self.scaler else None
        self.accumulation = Accumulation(self.method, self.accumulate, scale)

    def on_train_epoch_start(self) -> None:
        """Reset the sums of the epoch."""
        self.loss_sum = 0.0  # float64: in float32 the mean of 100,000 steps is off by 3e-4
        self.steps = 0

    def on_train_epoch_end(self) -> None:
        """Reset the step of the epoch."""
        self.steps = 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the position in the epoch, but not the elapsed time of max_time."""
        position = {"epoch": self.current_epoch, "steps": self.steps, "loss_sum": self.loss_sum}
        checkpoint["in_epoch"] = position | {"skipped": self.skipped}
        checkpoint["callbacks"].pop(Timer.__qualname__, None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the position in the epoch."""
        self.steps = checkpoint["in_epoch"]["steps"]
        self.loss_sum = float(checkpoint["in_epoch"]["loss_sum"])
        self.skipped = checkpoint["in_epoch"].get("skipped", 0)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        """Make the views of a stored batch, outside autocast.

        The random seed of each step is (seed, epoch, step, rank), so that a resumed run gives the
        same result as an uninterrupted one.
        """
        position = [self.seed, self.current_epoch, self.steps, self.global_rank]
        seed_generators(int(np.random.SeedSequence(position).generate_state(1)[0]))
        with torch.no_grad():
            if self.accumulate == 1:
                return self.method.views(batch._replace(x=to_input(batch.x, self.value_range)))
            fields = [
                [None] * self.accumulate if t is None else t.chunk(self.accumulate) for t in batch
            ]
            parts = [Batch(*rows) for rows in zip(*fields, strict=True)]
            return [
                self.method.views(part._replace(x=to_input(part.x, self.value_range)))
                for part in parts
            ]

    def training_step(self, views: Any, step: int) -> None:
        """One step of every optimizer, then the update of the method."""
        steps = self.trainer.num_training_batches
        in_all = self.trainer.max_epochs * steps  # type: ignore[operator]
        self.method.progress = (self.current_epoch * steps + step) / in_all
        middle = self.method.progress + 0.5 / in_all  # of the step
        several: Any = self.optimizers(use_pl_optimizer=True)
        optimizers = several if isinstance(several, list) else [several]
        optimizer_of = dict(zip(self.method.optimized_modules, optimizers, strict=True))
        for optimizer in optimizers:
            set_rates(self.recipe, optimizer, middle)
        gradients = self._gradients if self.accumulate == 1 else self._gradients_in_parts
        try:
            for name, mean_loss in gradients(views, optimizer_of):
                self._step(optimizer_of[name])
                self.loss_sum += mean_loss
        except torch.linalg.LinAlgError as error:  # of NaN, or of a singular matrix
            message = not_finite("loss could not be computed", self, self.steps + 1)
            raise UserError(message) from error
        with torch.no_grad():
            self.method.update()
        self.steps += 1

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient, which is already unscaled in fp16."""
        if self.recipe.grad_clip_norm:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.grad_clip_norm)

    def _gradients(self, views: Any, optimizer_of: dict[str, Any]) -> Iterator[tuple[str, float]]:
        """Yield name and mean loss of each optimized module after computing its gradient."""
        for name, loss in self.method.optimizer_steps(views):
            mean_loss = self._mean(loss)
            optimizer_of[name].zero_grad()
            self.manual_backward(loss)
            yield name, mean_loss

    def _gradients_in_parts(
        self, views: Any, optimizer_of: dict[str, Any]
    ) -> Iterator[tuple[str, float]]:
        """As `_gradients`, with the views of each part."""
        more, number = True, 0
        while more:
            name, loss, more = self.accumulation.step(views, number)
            mean_loss = self._mean(loss)
            parallel.average_gradients(self.method.get_submodule(name))
            yield name, mean_loss
            number += 1

    def _mean(self, loss: Tensor) -> float:
        """The mean loss of all processes; they stop together if it is not finite."""
        mean_loss = float(parallel.mean_over(loss.detach()))
        if not math.isfinite(mean_loss):
            raise UserError(not_finite(f"loss became {mean_loss}", self, self.steps + 1))
        return mean_loss

    def _step(self, optimizer: Any) -> None:
        """A step of an optimizer, which fp16 skips if a gradient overflows."""
        before = self.scaler.get_scale() if self.scaler else 0.0
        optimizer.step()
        if self.scaler and self.scaler.get_scale() < before:
            self.skipped += 1
            if self.scaler.get_scale() < SMALLEST_SCALE:
                raise UserError(not_finite("gradients overflow at any scale", self, self.steps + 1))


def make_loader(
    method: Method, splits: Splits, recipe: Recipe, seed: int = 0, **options: Any
) -> DataLoader:
    """Batches of the training samples as a method takes them; options are those of `loader`."""
    return loader(
        splits.train,
        recipe.batch_size,
        seed,
        label_factor(method, splits),
        partners=needs_partners(method),
        samples_per_class=method.samples_per_class,
        clip_length=method.clip_length,
        max_frame_stride=method.max_frame_stride,
        labeled_fraction=recipe.labeled_fraction,
        **options,
    )


def fit(
    method: Method,
    splits: Splits,
    recipe: Recipe,
    config: TrainConfig,
    out: Path,
    checkpoint: Path | None,
    callbacks: Sequence[Callback],
    probe: OnlineProbe | None = None,
) -> str | None:
    """Train in place; leave checkpoints, `metrics.csv` and the logger's files in `out`.

    A probe, if any, measures every `config.probe_every` epochs.

    Returns:
        what ended the training, by `why_stopped`; None if it was already complete.

    Raises:
        UserError: the loss is not finite, memory or disk space is exhausted, or a flag is invalid.
        Stopped: a signal was received and the run was saved.
    """
    sample = splits.train.take(splits.train.spread(health.SAMPLE))
    sample.x = sample.x[:]
    every = config.probe_every or 0
    history = History(out / "metrics.csv", sample, splits.value_range, probe, every)
    processes = config.devices * config.nodes
    sharding = Sharding(method) if config.strategy == "fsdp" else None
    method = sharding.copy() if sharding else method
    done: tuple[int, int] | None = None
    if checkpoint:
        position = torch.load(checkpoint, map_location="cpu", weights_only=True)["in_epoch"]
        done = position["epoch"], position["steps"]
    shared = {"processes": processes, "nodes": config.nodes, "steps_done": done or (0, 0)}
    batches = make_loader(method, splits, recipe, config.seed, **shared)
    check_parts(method, int(batches.batch_size or 1), config.accumulate, processes)
    if method.supervised and method.samples_per_class > 1 and is_first():
        say_left_out(splits.train.factors[str(splits.target)], method.samples_per_class)
    gpu = config.accelerator in ("auto", "gpu") and torch.cuda.is_available()
    parallel.synchronize(method, processes, cuda=gpu)
    strategy = None
    if processes > 1:
        backend = "nccl" if gpu else "gloo"
        wrapped = config.accumulate == 1
        strategy = fsdp(processes, backend) if sharding else ddp(method, backend, wrapped)
    in_bf16 = choose_precision(config.precision, config.accelerator) == "bf16"
    exact = exact_single_pixels(method) if in_bf16 and not gpu else nullcontext()
    with signals() as asked, exact, preserve_settings(), quiet():
        users = config.trainer.get("callbacks", [])
        hooks = [history, *callbacks, *users, Keeper(out, asked, done)]
        try:
            trainer = make_trainer(config, recipe.epochs, out, hooks, strategy)
            learner = Learner(
                method, recipe, splits.value_range, config.seed, config.accumulate, sharding
            )
            with (
                keeping_memory(),
                recomputed(method, config.gradient_checkpointing),
                fused(method, config.compile),
            ):
                trainer.fit(learner, batches, ckpt_path=checkpoint, weights_only=True)
            if learner.skipped and is_first():
                say_skipped(learner.skipped, trainer.global_step)
            with learner.complete():
                pass  # copies the sharded weights back into the method
            trainer.strategy.barrier()  # files written now are visible to all
            return why_stopped(trainer, recipe.epochs) if history.began else None
        except SystemExit as error:  # Lightning's answer to any KeyboardInterrupt
            raise error.__context__ or KeyboardInterrupt() from None
        except MisconfigurationException as error:
            raise UserError(f"Lightning refuses these settings: {error}") from error
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise UserError(
                    f"out of memory with batches of {recipe.batch_size} images: try "
                    f"--batch-size {recipe.batch_size // 2}, or smaller images with --size"
                ) from error
            raise
        finally:
            parallel.restore(method)


def check_parts(method: Method, rows: int, accumulate: int, processes: int) -> None:
    """Check that a process's rows of a batch can be split into parts; warn about BatchNorm.

    Raises:
        UserError: they cannot.
    """
    if accumulate == 1:
        return
    if rows % (accumulate * method.clip_length):
        divisor = accumulate * processes * method.clip_length
        batch = rows * processes
        raise UserError(
            f"a batch of {batch} is not divided by {accumulate} parts"
            f"{f' of {processes} processes' if processes > 1 else ''}; give --batch-size "
            f"{batch // divisor * divisor or divisor}"
        )
    if is_first() and any(isinstance(m, _BatchNorm) for m in method.modules()):
        part = plural(rows // accumulate * processes, "samples")
        notice(
            f"BatchNorm normalizes each of the {accumulate} parts of a batch, {part}, by itself; "
            "the gradient is otherwise exactly that of the whole batch"
        )
    if method.inexact_across_processes and is_first():
        notice(f"in parts of a batch, {method.inexact_across_processes.replace('process', 'part')}")
