"""Lightning's Trainer: its flags, its loggers, and how processes share a training."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from unlabeled.core import Method
from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError, reason, suggest
from unlabeled.training.checkpoints import InPlace
from unlabeled.training.config import TrainConfig
from unlabeled.training.precision import choose_precision, precision_of

LOGGERS = ("tensorboard", "csv", "wandb", "none")
TAKEN = {
    "max_epochs": "use --epochs",
    "precision": "use --precision",
    "accelerator": "use --accelerator",
    "logger": "use --logger",
    "default_root_dir": "use --out",
    "devices": "use --devices",
    "num_nodes": "use --nodes",
    "strategy": "use --devices and --strategy",
    "sync_batchnorm": "it is always on with several --devices",
    "use_distributed_sampler": "batches are already split among processes",
    "accumulate_grad_batches": "use --accumulate, which is exact for losses that compare samples",
    "gradient_clip_val": "use --grad-clip-norm",
    "val_check_interval": "nothing is validated in training; use --probe-every",
}
"""Arguments of the Trainer that cannot be set, and the alternative."""


def make_trainer(
    config: TrainConfig, epochs: int, out: Path, callbacks: Sequence[Callback], strategy: Any
) -> L.Trainer:
    """Lightning's trainer, with the user's flags.

    Raises:
        UserError: it refuses one of them.
    """
    precision = choose_precision(config.precision, config.accelerator)
    settings: dict[str, Any] = {
        "max_epochs": epochs,
        "accelerator": config.accelerator,
        "devices": config.devices,
        "num_nodes": config.nodes,
        **precision_of(precision, config.accelerator),
        "logger": _loggers(config.logger, out),
        "default_root_dir": out,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 10**9,
        **config.trainer,
        "callbacks": list(callbacks),
    }
    if strategy is not None:
        settings |= {"strategy": strategy, "use_distributed_sampler": False}
    try:
        trainer = L.Trainer(**settings)
    except (TypeError, ValueError) as error:  # as of a word in place of a number
        given = ", ".join(f"--trainer.{name}" for name in config.trainer)
        raise UserError(f"Lightning refuses {given} ({reason(error)}); omit it") from error
    trainer.strategy.checkpoint_io = InPlace()
    return trainer


def ddp(method: Method, backend: str, wrapped: bool) -> Any:
    """Distributed data parallel training, one process per device.

    Buffers are not broadcast, since methods gather what they need for them. Networks of other
    libraries can have unused weights, which DDP then has to find, as those of stages whose turn it
    is not. Without the wrapper, gradients are averaged by `parallel.average_gradients`.
    """
    from lightning.pytorch.strategies import DDPStrategy

    class Unwrapped(DDPStrategy):
        def configure_ddp(self) -> None:
            """Do not wrap the module, which has several backward passes."""

    return (DDPStrategy if wrapped else Unwrapped)(
        process_group_backend=backend,
        broadcast_buffers=False,
        find_unused_parameters=len(method.optimized_modules) > 1
        or method.trains_in_turns
        or not isinstance(method.encoder, Encoder),
        gradient_as_bucket_view=True,
    )


def fsdp(processes: int, backend: str) -> Any:
    """Fully sharded data parallel training, whose checkpoints are like those of one process."""
    from lightning.pytorch.strategies import ModelParallelStrategy

    return ModelParallelStrategy(
        data_parallel_size=processes,
        tensor_parallel_size=1,
        save_distributed_checkpoint=False,
        process_group_backend=backend,
    )


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
    if flags.get("limit_train_batches") == 0:
        raise UserError("--trainer.limit_train_batches 0 leaves nothing to learn from; omit it")


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
                message = "logging to Weights & Biases needs pip install 'unlabeled[wandb]'"
                raise UserError(message) from error
    return loggers or False
