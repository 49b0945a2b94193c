"""Train any method with Lightning: device, precision, views, steps."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader

from unlabeled import parallel
from unlabeled.core import Batch, Method, Recipe
from unlabeled.data.dataset import Splits, to_input
from unlabeled.data.loader import label_factor, loader, needs_partners, say_left_out
from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError, is_out_of_memory, suggest
from unlabeled.training import health
from unlabeled.training.checkpoints import Keeper, not_finite, signals
from unlabeled.training.compiling import fused
from unlabeled.training.config import TrainConfig
from unlabeled.training.history import History
from unlabeled.training.online import OnlineProbe
from unlabeled.training.optim import learning_rate, make_optimizer
from unlabeled.training.provenance import why_stopped
from unlabeled.utils.native import keeping_memory
from unlabeled.utils.quiet import quiet
from unlabeled.utils.state import preserve_settings

LOGGERS = ("tensorboard", "csv", "wandb", "none")
TAKEN = {
    "max_epochs": "use --epochs",
    "precision": "use --precision",
    "accelerator": "use --accelerator",
    "logger": "use --logger",
    "default_root_dir": "use --out",
    "devices": "use --devices",
    "num_nodes": "use --nodes",
    "strategy": "processes share a batch by DDP; use --devices",
    "sync_batchnorm": "it is always on with several --devices",
    "use_distributed_sampler": "batches are already split among processes",
    "accumulate_grad_batches": "it would change every loss that compares the images of a batch",
}
"""Arguments of the Trainer that cannot be set, and why."""


class Learner(L.LightningModule):
    """Make views on the device, step each optimizer, set progress and learning rate."""

    def __init__(self, method: Method, recipe: Recipe, value_range: tuple[float, float], seed: int):
        super().__init__()
        self.automatic_optimization = False
        self.method = method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.value_range, self.seed = recipe, value_range, seed

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer for each optimized module."""
        return [
            make_optimizer(self.recipe, self.method.get_submodule(name))
            for name in self.method.optimized_modules
        ]

    def on_train_epoch_start(self) -> None:
        """Reset the sums of the epoch."""
        self.loss_sum = 0.0  # a float of 64 bits: in 32 the mean of 100,000 steps is off by 3e-4
        self.steps = 0

    def on_train_epoch_end(self) -> None:
        """Reset the step of the epoch."""
        self.steps = 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the position in the epoch."""
        position = {"epoch": self.current_epoch, "steps": self.steps, "loss_sum": self.loss_sum}
        checkpoint["in_epoch"] = position

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the position in the epoch."""
        self.steps = checkpoint["in_epoch"]["steps"]
        self.loss_sum = float(checkpoint["in_epoch"]["loss_sum"])

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        """Make the views of a batch as it is stored, outside autocast.

        The random seed of each step is (seed, epoch, step, rank), so that a resumed run gives the
        same result as an uninterrupted one.
        """
        position = [self.seed, self.current_epoch, self.steps, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(position).generate_state(1)[0]))
        with torch.no_grad():
            return self.method.views(batch._replace(x=to_input(batch.x, self.value_range)))

    def training_step(self, views: Any, step: int) -> None:
        """One step of every optimizer, then the update of the method."""
        steps = self.trainer.num_training_batches
        in_all = self.trainer.max_epochs * steps  # type: ignore[operator]
        self.method.progress = (self.current_epoch * steps + step) / in_all
        lr = learning_rate(self.recipe, self.method.progress + 0.5 / in_all)  # the step's middle
        several: Any = self.optimizers(use_pl_optimizer=True)
        optimizers = several if isinstance(several, list) else [several]
        optimizer_of = dict(zip(self.method.optimized_modules, optimizers, strict=True))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        for name, loss in self.method.optimizer_steps(views):
            mean_loss = parallel.mean_over(loss.detach())  # so that all processes stop together
            if not torch.isfinite(mean_loss):
                raise UserError(not_finite(f"loss became {mean_loss.item()}", self, step + 1))
            optimizer = optimizer_of[name]
            optimizer.zero_grad()
            self.manual_backward(loss)
            if self.recipe.grad_clip_norm:
                moving = self.method.get_submodule(name).parameters()
                torch.nn.utils.clip_grad_norm_(moving, self.recipe.grad_clip_norm)
            optimizer.step()
            self.loss_sum += float(mean_loss)
        with torch.no_grad():
            self.method.update()
        self.steps += 1


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
        what ended it, as `why_stopped` names it; None if all was done before.

    Raises:
        UserError: the loss is not finite, memory is out, the disk is full, or a flag is wrong.
        Stopped: a signal came and the run was saved.
    """
    rows = np.linspace(0, len(splits.train) - 1, min(health.SAMPLE, len(splits.train))).astype(int)
    sample = splits.train.take(rows)
    sample.x = sample.x[:]
    every = config.probe_every or 0
    history = History(out / "metrics.csv", sample, splits.value_range, probe, every)
    flags, processes = dict(config.trainer), config.devices * config.nodes
    done = (0, 0)
    if checkpoint:
        position = torch.load(checkpoint, map_location="cpu", weights_only=True)["in_epoch"]
        done = position["epoch"], position["steps"]
    batches = make_loader(method, splits, recipe, config.seed, steps_done=done, processes=processes)
    if method.supervised and method.samples_per_class > 1 and parallel.is_first():
        say_left_out(splits.train.factors[str(splits.target)], method.samples_per_class)
    parallel.synchronize(method, processes)
    if processes > 1:
        flags |= {"strategy": _ddp(method, config.accelerator), "use_distributed_sampler": False}
    with signals() as asked, exact_single_pixels(method), preserve_settings(), quiet():
        callbacks = [history, *callbacks, *flags.pop("callbacks", []), Keeper(out, asked)]
        try:
            precision = choose_precision(config.precision, config.accelerator)
            settings: dict[str, Any] = {
                "max_epochs": recipe.epochs,
                "accelerator": config.accelerator,
                "devices": config.devices,
                "num_nodes": config.nodes,
                "precision": "bf16-mixed" if precision == "bf16" else "32-true",
                "logger": _loggers(config.logger, out),
                "callbacks": callbacks,
                "default_root_dir": out,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 10**9,
            }
            trainer = L.Trainer(**settings | flags)
            learner = Learner(method, recipe, splits.value_range, config.seed)
            with keeping_memory(), fused(method, config.compile):
                trainer.fit(learner, batches, ckpt_path=checkpoint, weights_only=True)
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


def _ddp(method: Method, accelerator: str) -> Any:
    """Distributed data parallel training, one process per device.

    Methods gather what their buffers need, so these are not broadcast. Networks of other libraries
    can have weights without a gradient, which DDP then has to find.
    """
    from lightning.pytorch.strategies import DDPStrategy

    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return DDPStrategy(
        process_group_backend="nccl" if gpu else "gloo",
        broadcast_buffers=False,
        find_unused_parameters=len(method.optimized_modules) > 1
        or not isinstance(method.encoder, Encoder),
        gradient_as_bucket_view=True,
    )


@contextmanager
def exact_single_pixels(module: nn.Module) -> Iterator[None]:
    """Context in which strided convolutions of 1×1 maps run in float32.

    On CPUs, oneDNN's bf16 gradient of these leaves the weights that see only padding uninitialized.
    """

    def again(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if x.device.type != "cpu" or x.shape[-2:] != (1, 1) or output.dtype != torch.bfloat16:
            return output
        with torch.autocast("cpu", enabled=False):
            return layer._conv_forward(x.float(), layer.weight, layer.bias).bfloat16()

    hooks = [
        layer.register_forward_hook(again)
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_flags(flags: dict[str, Any], logger: str) -> None:
    """Check flags of Lightning's Trainer and names of loggers.

    Raises:
        UserError: one is unknown, or the flag is set in another way or would change the result.
    """
    for name in logger.split(","):
        if name not in LOGGERS:
            raise UserError(f"there is no logger '{name}'; {suggest(name, LOGGERS)}")
    known = inspect.signature(L.Trainer).parameters
    for flag in flags:
        if flag in TAKEN:
            raise UserError(f"--trainer.{flag} cannot be set; {TAKEN[flag]}")
        if flag not in known:
            advice = suggest(flag, known, "see the documentation of Lightning")
            raise UserError(f"Lightning's Trainer has no argument '{flag}'; {advice}")


def _loggers(names: str, out: Path) -> Any:
    """Loggers by name, several with commas between."""
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

    loggers: list[Any] = []
    for name in names.split(","):
        if name == "tensorboard":
            loggers.append(TensorBoardLogger(out, name="", version="tensorboard"))
        elif name == "csv":
            loggers.append(CSVLogger(out, name="", version="csv"))
        elif name == "wandb":
            try:
                loggers.append(WandbLogger(name=out.name, save_dir=out, project="unlabeled"))
            except ModuleNotFoundError as error:
                message = "logging to Weights & Biases needs wandb: pip install wandb"
                raise UserError(message) from error
    return loggers or False


def choose_precision(precision: str, accelerator: str) -> str:
    """'auto' -> bf16 where the hardware multiplies it faster than fp32, else fp32."""
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    gains = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if gains() else "fp32"
