"""How a training runs, besides its method, its data and its recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from unlabeled.errors import UserError
from unlabeled.runs.run import Run


@dataclass(frozen=True)
class TrainConfig:
    """Where training starts, what it is given, and what it runs on. Each field is a flag.

    Args:
        encoder: a name of `unlabeled list encoders`, or `./file.py:Net`; in Python also a class
            or a module, of which a copy is trained (all of it in train mode if the module as a
            whole is in eval mode); small unless given, or what the method needs.
        encoder_args: arguments of the encoder, such as width.
        start: a run whose encoder to begin with, instead of random weights.
        seed: of weights, order and views.
        size: side of the images in pixels; that of the data unless given, of files at most 96.
        value_range: black and white of images that are not 8-bit, as LOW,HIGH; values outside are
            clipped. What the data spans unless given.
        labels_from: where labels of images in files are, to judge by or for supervised methods:
            "folders", a .csv or .tsv (`labels.csv:breed` chooses a column), an array or .npy, or
            the column of a table. Samples without a label are learned from, too.
        test: other data to test on, in any form that `data` may have; then all of `data` is learned
            from, or its training part where it has an official split.
        labels: how many labels a supervised method gets, the same of each class: 160, or 1%; all
            unless given.
        local: whether each stage of the encoder learns by itself, from a head of its own: no
            gradient goes from one to the one below.
        workers: processes that decode files; as many as there are cores unless given.
        precision: bf16 is used where the hardware gains from it; losses are always in fp32.
        compile: whether `torch.compile` fuses the layers of the encoder, its moving averages, and
            decoders: a minute or two at first, then faster steps where layers are many and narrow;
            results agree to rounding.
        accelerator: cpu, gpu, mps or auto, as Lightning names them.
        devices: GPUs, or processes on CPUs, that share each batch; torchrun and SLURM are known.
        nodes: machines with so many devices each.
        logger: tensorboard, csv, wandb or none; several with commas between. metrics.csv is always
            written.
        trainer: further flags of Lightning's Trainer, such as {"max_time": "00:01:00:00"}.

    Raises:
        UserError: a number is out of range, or two fields exclude each other.
    """

    encoder: str | nn.Module | type[nn.Module] | None = None
    encoder_args: dict[str, Any] = field(default_factory=dict)
    start: str | Path | Run | None = None
    seed: int = 0
    size: int | None = None
    value_range: str | tuple[float, float] | None = None
    labels_from: Any = None
    test: Any = None
    labels: str | None = None
    local: bool = False
    workers: int | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    nodes: int = 1
    logger: str = "tensorboard"
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("size", 4), ("workers", 1), ("devices", 1), ("nodes", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} is {value}, but must be at least {least}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}, but must be from 0 to {2**32 - 1}")
        if self.start is not None and self.size is not None:
            raise UserError("--start sets the size of the images; omit --size")
        if self.start is not None and self.value_range is not None:
            raise UserError("--start sets the range of values; omit --value-range")

    @classmethod
    def of(cls, options: dict[str, Any]) -> tuple[TrainConfig, dict[str, Any]]:
        """The configuration in some options, and the others: recipe and arguments of the method."""
        known = {f.name for f in fields(cls)}
        ours = {k: v for k, v in options.items() if k in known}
        for name in ("encoder_args", "trainer"):
            ours[name] = ours.get(name) or {}
        return cls(**ours), {k: v for k, v in options.items() if k not in known}

    def but(self, **changes: Any) -> TrainConfig:
        """The same with other values of some fields."""
        return replace(self, **changes)
