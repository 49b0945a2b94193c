"""How a training runs, besides its method, its data and its recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from torch import nn

from unlabeled.errors import UserError
from unlabeled.runs.run import Run


@dataclass(frozen=True)
class TrainConfig:
    """How a training runs, besides its method, its data and its recipe. Each field is a flag.

    Args:
        encoder: a name in `unlabeled list encoders`, or `./file.py:Class`; in Python also a class
            or a module, of which a copy is trained (entirely in train mode if the module itself is
            in eval mode) (default: what the method needs for the data).
        encoder_args: arguments of the encoder, such as {"width": 64}.
        init: a run to take the initial weights from, or an encoder by name, such as
            `timm:resnet18.a1_in1k`, with its own size and normalization.
        preset: quick, for minutes to hours on two cores; paper, the paper's settings for
            photographs: encoder, size, heads, augmentations, optimizer and schedule, for days on
            several GPUs; or auto, which takes those on a GPU for photographs that are large or
            many, and says so.
        seed: random seed of weights, batch order and views.
        size: side of the images in pixels (default: that of the data, for files at most 64 on CPUs
            and 224 on GPUs).
        value_range: values of black and white in images that are not 8-bit, as LOW,HIGH; values
            outside are clipped (default: the range of the data).
        labels_from: labels of samples in files, for evaluation and supervised methods: "folders", a
            .csv or .tsv (`labels.csv:breed` chooses a column), an array or .npy, or a column of a
            table. Samples without a label are used for training, too.
        groups_from: what samples have in common, such as a patient, a scene or a speaker, in any
            form of `labels_from`: samples of a group are never on both sides of the split.
        test: other data to test on, in any form of `data`; all of `data` is then used for training,
            or its training part if it has an official split.
        labels: number of labels for a supervised method, the same for each class: 160, or 1%
            (default: all).
        local: train each stage of the encoder by its own head, without gradient between stages.
        workers: number of processes or threads that decode files (default: the number of cores).
        decoding: when images in files are decoded: once, into the cache; on_the_fly, whenever they
            are read, with random crops from the full-size images; auto decodes once what needs less
            than 2 GB.
        tile: side in pixels of the squares that larger images in files are cut into, each a sample,
            which stay on one side of the split with the others of their file (default: images are
            whole).
        max_pixels: largest number of pixels of an image in a file; larger images are left out
            (default: 178,956,970, which guards against files that would fill the memory).
        precision: precision of the networks; losses are always in fp32. auto uses bf16 if the
            hardware is faster with it, and fp16 with a gradient scaler on GPUs without bf16.
        accumulate: parts of each batch that go through the networks one after another, which saves
            memory. The gradient is that of the whole batch, also where a loss compares samples.
        gradient_checkpointing: compute the activations of residual and transformer blocks again in
            the backward pass, which saves memory and takes about a third longer; same results.
        compile: use `torch.compile` for the encoder, its moving averages and decoders: it takes a
            minute or two at first, then steps are faster if layers are many and narrow; results
            agree to rounding.
        accelerator: hardware to train on, as Lightning names it.
        devices: number of GPUs, or of processes on CPUs, that share each batch; torchrun and SLURM
            are detected.
        nodes: number of machines, each with that many devices.
        strategy: how devices share the work: ddp, each with all weights; or fsdp, each with a part
            of the weights, of their gradients and of the optimizer's state, which saves memory. The
            result is the same; methods with a moving average of their networks need ddp.
        probe_every: epochs between measurements of k-NN and linear probe accuracy in training, on
            labels held out from it; the training stays the same, bit by bit (default: none).
        logger: tensorboard, csv, wandb or none; separate several by commas. metrics.csv is always
            written.
        trainer: further arguments of Lightning's Trainer, such as {"max_time": "00:01:00:00"},
            which counts from each start: a resumed run goes on for as long again.

    Raises:
        UserError: a number is out of range, or two fields exclude each other.
    """

    encoder: str | nn.Module | type[nn.Module] | None = None
    encoder_args: dict[str, Any] = field(default_factory=dict)
    init: str | Path | Run | None = None
    preset: str = "auto"
    seed: int = 0
    size: int | None = None
    value_range: str | tuple[float, float] | None = None
    labels_from: Any = None
    groups_from: Any = None
    test: Any = None
    labels: str | None = None
    local: bool = False
    workers: int | None = None
    decoding: Literal["auto", "once", "on_the_fly"] = "auto"
    tile: int | None = None
    max_pixels: int | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    accumulate: int = 1
    gradient_checkpointing: bool = False
    compile: bool = False
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    probe_every: int | None = None
    logger: str = "tensorboard"
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least_values = {"size": 4, "workers": 1, "devices": 1, "nodes": 1, "probe_every": 1}
        least_values |= {"accumulate": 1}
        for name, least in least_values.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} is {value}, but must be at least {least}")
        if self.gradient_checkpointing and self.compile:
            raise UserError("gradient_checkpointing and compile exclude each other; omit one")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}, but must be from 0 to {2**32 - 1}")
        if self.init is not None and self.value_range is not None:
            raise UserError("--init sets the range of values; omit --value-range")

    @classmethod
    def of(cls, options: dict[str, Any]) -> tuple[TrainConfig, dict[str, Any]]:
        """The configuration in some options, and the others: recipe and arguments of the method."""
        ours = {f.name: options[f.name] for f in fields(cls) if f.name in options}
        for name in ("encoder_args", "trainer"):
            ours[name] = ours.get(name) or {}
        return cls(**ours), {k: v for k, v in options.items() if k not in ours}
