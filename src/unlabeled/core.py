"""The protocol of a method, and the parts that methods share.

A method defines its views, the loss of these views, and an update after each step. Whatever trains
it (the Lightning learner, or ten lines of plain PyTorch) needs no more than that.
"""

from __future__ import annotations

import copy
import inspect
import math
import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlabeled.errors import UserError
from unlabeled.modality import Audio, Images, Modality, Series, Table, Text
from unlabeled.parallel import gather, own

Schedule = Callable[[float], float]
"""A function from progress, the fraction of training done, in [0, 1], to a value."""


class Batch(NamedTuple):
    """What `Method.views` receives, on the device."""

    x: Tensor
    """Images (B, C, H, W) in [0, 1], audio (B, 1, 1, T), tokens (B, S, L) int64, series
    (B, C, 1, T), or rows of tables (B, 1, 1, D)."""
    index: Tensor  # type: ignore[assignment]  #: (B,) int64, rows of the samples in the data set
    y: Tensor | None = None  #: (B,) int64, −1 unknown; None unless the method is supervised
    partners: Tensor | None = None
    """Partners of each sample, (B, K, …); None unless the method learns from pairs."""


def constant(value: float) -> Schedule:
    """A constant value."""
    return lambda t: value


def linear(start: float, end: float) -> Schedule:
    """Linear from `start` to `end`."""
    return lambda t: start + (end - start) * t


def cosine(start: float, end: float) -> Schedule:
    """Half a cosine from `start` to `end`, as BYOL's momentum and SGDR's learning rate."""
    return lambda t: end + (start - end) * (1 + math.cos(math.pi * t)) / 2


def warmup_cosine(warmup: float = 0.1, end: float = 0.0) -> Schedule:
    """Linear from 0 to 1 over the fraction `warmup`, then half a cosine to `end` (SimCLR, B.1)."""
    fall = cosine(1, end)
    return lambda t: t / warmup if t < warmup else fall((t - warmup) / (1 - warmup))


def one_cycle(rise: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> Schedule:
    """Half a cosine up over the fraction `rise`, then half a cosine to almost 0 (Smith 2018)."""
    up, down = cosine(start, 1), cosine(1, end)
    return lambda t: up(t / rise) if t < rise else down((t - rise) / (1 - rise))


@dataclass(frozen=True)
class Recipe:
    """Default hyperparameters of a training. Each field is a flag of the command.

    Args:
        epochs: passes over the training samples.
        batch_size: samples per step; the method makes its views of each.
        optimizer: the optimizer.
        lr: peak learning rate of batches of that size; it follows `lr_scaling` for other sizes.
        lr_scaling: how the rate grows with the batch: "linear" (Goyal et al. 2017), "sqrt", "none";
            "auto" is linear for SGD and LARS, and sqrt for Adam (Malladi et al. 2022) and Muon.
        schedule: schedule of the learning rate.
        warmup_epochs: epochs in which the rate rises (default: a tenth of all, of one_cycle 0.3).
        final_lr: learning rate at the end.
        lr_factors: factors of the rate by name of a submodule, such as {"predictor": 10}; "biases"
            are all biases and norms.
        constant_lr: names of submodules whose rate stays at its peak, such as ["predictor"].
        layer_decay: factor of the rate from each stage of the encoder to the one below (BEiT, Bao
            et al. 2022); 1 has none.
        weight_decay: weight decay of weight matrices and kernels.
        final_weight_decay: weight decay at the end, along half a cosine (default: constant).
        decay_biases: whether weight decay is of biases and norms, too, and LARS adapts their rate.
        grad_clip_norm: largest norm of the gradient of an optimized module; 0 turns clipping off.
        beta1: decay rate of Adam's first moment; lower for adversarial training.
        beta2: decay rate of Adam's second moment; 0.95 in MAE.
        sgd_momentum: momentum of SGD and LARS.
        nesterov: whether SGD's momentum is Nesterov's.
        labeled_fraction: share of labeled samples in each batch of a semi-supervised method.
    """

    epochs: int = 100
    batch_size: int = 256
    optimizer: Literal["adam", "adamw", "muon", "sgd", "lars"] = "adamw"
    lr: float = 1e-3
    lr_scaling: Literal["auto", "linear", "sqrt", "none"] = "auto"
    schedule: Literal["one_cycle", "warmup_cosine", "constant"] = "warmup_cosine"
    warmup_epochs: float | None = None
    final_lr: float = 0.0
    lr_factors: dict[str, float] = field(default_factory=dict)
    constant_lr: list[str] = field(default_factory=list)
    layer_decay: float = 1.0
    weight_decay: float = 1e-4
    final_weight_decay: float | None = None
    decay_biases: bool = False
    grad_clip_norm: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    sgd_momentum: float = 0.9
    nesterov: bool = False
    labeled_fraction: float = 0.0


MINUTES: dict[str, Any] = {
    "batch_size": 64,
    "optimizer": "adam",
    "schedule": "one_cycle",
    "weight_decay": 0.0,
}
"""Hyperparameters for minutes on two cores: small batches, Adam with a one-cycle schedule."""
HALF_LABELED: dict[str, Any] = MINUTES | {"batch_size": 128, "labeled_fraction": 0.5}
"""The same for semi-supervised methods: as many labeled samples in a step as above."""


ABOVE_ZERO = {
    *("temperature", "student_temperature", "teacher_temperature", "sharpening"),
    *("gumbel_temperature", "final_gumbel_temperature", "centroid_temperature"),
    *("epsilon", "sigma", "xi", "lr"),
}
SHARES = {
    *("momentum", "center_momentum", "threshold", "dropout", "condition_dropout", "mask_ratio"),
    *("mask_prob", "generator_ratio", "short_scale", "long_scale"),
    *("freeze_last_layer", "freeze_prototypes", "ramp_start", "ramp_end", "random_start"),
    *("replace_ratio", "tile_fraction", "pretext_weight", "rebalance", "trade_off"),
    *("final_momentum", "covariance_momentum", "group_momentum", "shrinkage"),
    *("dense_weight", "global_weight"),
}
"""Options that must be from 0 to 1; other numbers must be at least 0."""


def check_options(function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Check the range of numeric options by their names and annotations.

    Args:
        function: the class of a method, or the function that trains it.
        options: its keyword arguments.

    Raises:
        UserError: a number is out of range, not finite, or not whole where it must be.
    """
    parameters = inspect.signature(function).parameters
    for name, value in options.items():
        if name not in parameters or not isinstance(value, numbers.Real) or isinstance(value, bool):
            continue
        kind = str(parameters[name].annotation)
        if "float" not in kind and "int" not in kind:
            continue
        if not math.isfinite(value):
            raise UserError(f"{name} is {value}, but must be finite")
        if "float" not in kind:
            may_be_zero = getattr(function, "may_be_zero", ())
            least = 0 if name in may_be_zero or parameters[name].default in (0, None) else 1
            if not isinstance(value, numbers.Integral):
                raise UserError(f"{name} is {value}, but must be a whole number")
            if int(value) < least:
                raise UserError(f"{name} is {value}, but must be at least {least}")
        elif name in ABOVE_ZERO and float(value) <= 0:
            raise UserError(f"{name} is {value}, but must be above 0")
        elif name in SHARES and not 0 <= float(value) <= 1:
            raise UserError(f"{name} is {value}, but must be from 0 to 1")
        elif float(value) < 0:
            raise UserError(f"{name} is {value}, but must be at least 0")


DEFAULT_ENCODERS: dict[type[Modality], str] = {
    Images: "small",
    Audio: "wave",
    Text: "text_transformer",
    Series: "dilated",
    Table: "mlp",
}
"""The usual encoder for each modality; videos and pairs have that of images."""


class Method(nn.Module):
    """Base class of all methods.

    A subclass defines `views` and `loss`; everything else has a default. Its keyword-only,
    annotated constructor arguments are its configuration: flags, help and documentation are made
    from them. `self.encoder` is what is saved and evaluated; a method whose result is another
    network than the one that it was given assigns that network to `self.encoder`.
    """

    optimized_modules: ClassVar[tuple[str, ...]] = ("",)
    """Names of the submodules that have an optimizer each; "" is the whole method."""
    supervised: ClassVar[bool] = False
    """Whether `batch.y` holds labels; −1 for unlabeled samples, where `labeled_fraction` is set.
    Other methods never receive labels."""
    weak_augment: ClassVar[bool] = False
    """Whether `augment` defaults to the data set's `augment_labeled`, which is weak and changes no
    label, instead of its `augment`."""
    samples_per_class: ClassVar[int] = 1
    """Number of samples of the same class that each batch of a supervised method has together."""
    clip_length: int = 1
    """Number of consecutive frames of a shot that each batch has together, in order; of the class,
    or of its encoder. A value above 1 needs `modality = (Video,)`."""
    max_frame_stride: ClassVar[int] = 1
    """Maximum distance between consecutive frames of a clip; it is drawn for each clip."""
    modality: ClassVar[tuple[type[Modality], ...]] = (Images, Audio)
    """Types of data that it learns from. A method of images also learns from the frames of videos
    and from the images of pairs; a method of pairs receives `batch.partners`."""
    min_sentences: ClassVar[int] = 1
    """Minimum number of sentences of a text, for methods of texts."""
    needs_color: ClassVar[bool] = False
    """Whether it needs images of three channels."""
    default_encoder: ClassVar[dict[type[Modality], str]] = {}
    """Name of the default encoder by modality, where it differs from `DEFAULT_ENCODERS`."""
    trains_in_turns: bool = False
    """Whether at times some weights have no gradient; of the class, or of its options."""
    by_stage: ClassVar[bool] = False
    """Whether the views pass through `self.encoder` only, so that each stage of an encoder can be
    trained by itself (`--local`)."""
    encoder_args: ClassVar[dict[str, Any]] = {}
    """Default arguments of its encoder."""
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    """Integer options that may be 0, besides those whose default is 0 or None."""
    inexact_across_processes: ClassVar[str] = ""
    """Why the gradient of several processes is not that of one with the same batch, where so."""
    recipe: ClassVar[Recipe] = Recipe()
    """Default hyperparameters: the paper's or our own, as the file says."""
    base_lr: ClassVar[dict[str, float]] = {}
    """Learning rates for 256 samples with other optimizers than the recipe's, from the paper."""
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}
    """Other defaults by name of a data set: fields of the recipe and arguments of the method."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Other defaults by name; "paper" has those of the paper for photographs. Fields of the recipe,
    arguments of the method, `encoder`, `encoder_args` and `size`."""

    progress: float = 0.0
    """The fraction of training done, in [0, 1], set by whatever trains the method."""

    def __new__(cls, *encoder: Any, **options: Any) -> Any:
        """Check the options before anything is built."""
        check_options(cls, options)
        return super().__new__(cls)

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: Any = encoder

    @classmethod
    def encoder_for(cls, modality: type[Modality]) -> str:
        """Name of the default encoder for a modality."""
        return (DEFAULT_ENCODERS | cls.default_encoder).get(modality) or cls.encoder_for(Images)

    def views(self, batch: Batch) -> Any:
        """Make the input of `loss` from a batch; may draw at random, but changes no state."""
        raise NotImplementedError

    def project(self, x: Tensor) -> Tensor:
        """Compute what the loss compares, (B, d), from samples (default: the features).

        Training monitors it, since it can collapse.
        """
        return self.encoder(x)

    def loss(self, views: Any) -> Tensor:
        """Compute the scalar to minimize. Pure: only BatchNorm's running statistics may change."""
        raise NotImplementedError

    def optimizer_steps(self, views: Any) -> Iterator[tuple[str, Tensor]]:
        """Yield the name of an optimized module and its loss, one optimizer step after another.

        A generator, so that each loss is computed after the steps before it.
        """
        yield "", self.loss(views)

    def update(self) -> None:
        """Update moving averages, queues and the like after each step, without gradient.

        Tensors that `loss` leaves in attributes for it have rows, of samples or of means of equal
        numbers of them: with `--accumulate`, the rows of all parts of the batch are concatenated.
        """

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """Draw images for the report, such as reconstructions of images x (B, C, H, W).

        Called after training, in eval mode, without gradient.

        Returns:
            by title, (B, k, C, H, W) in [0, 1]: k images side by side for each of x.
        """
        return {}

    def animate(self, x: Tensor) -> dict[str, Tensor]:
        """Draw videos for the report, from images x (B, C, H, W).

        Called like `visualize`; a method of clips receives consecutive frames of a shot.

        Returns:
            by title, (B, T, C, H, W) in [0, 1]: B videos side by side.
        """
        return {}


class EMA(nn.Module):
    """Exponential moving average of a module's parameters: θ' ← m θ' + (1 − m) θ.

    It starts as a copy. Buffers are not averaged: BatchNorm's running statistics come from the
    activations of the average itself. It has no dropout and no stochastic depth, in train mode
    either, as the teachers of DINO, iBOT, DINOv2 and data2vec.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.train(module.training)

    def train(self, mode: bool = True) -> EMA:
        """Set the mode of BatchNorm; all other layers stay in eval mode."""
        super().train(mode)
        for layer in self.module.modules():
            layer.training = mode and isinstance(layer, _BatchNorm)
        return self

    @torch.no_grad()
    def update(self, module: nn.Module, momentum: float) -> None:
        """Update the average; a momentum of 1 keeps it, 0 copies `module`."""
        for slow, fast in zip(self.module.parameters(), module.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """Output of the averaged module, without gradient."""
        return self.module(*inputs)


class Average(EMA):
    """Moving average of a network's weights, to be used instead of them.

    The momentum after n steps is at most (1 + n)/(10 + n), so that short trainings forget the
    initial weights, as in TensorFlow's `ExponentialMovingAverage`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def update(self, module: nn.Module, momentum: float) -> None:
        """Update the average."""
        self.steps += 1
        n = int(self.steps)
        super().update(module, min(momentum, (1 + n) / (10 + n)))


@torch.no_grad()
def sinkhorn(logits: Tensor, iterations: int) -> Tensor:
    """Soft assignments (B, K), by the Sinkhorn-Knopp algorithm, which use all K equally.

    Over all processes' rows, and in the log domain: exp of sharp logits would overflow float32.

    Args:
        logits: (B, K) logarithms of the assignments before.
        iterations: number of normalizations of columns and rows; with 0 this is a softmax.

    Source: Caron et al. 2020 (SwAV), algorithm 1.
    """
    log_q = gather(logits)
    for _ in range(iterations):
        log_q = log_q.log_softmax(0).log_softmax(1)
    return own(log_q.softmax(1))


class MemoryBank(nn.Module):
    """Memory bank: a unit vector for each sample, a moving average of its embeddings.

    Wu et al. 2018, section 3.

    Args:
        images: number of samples.
        dim: of the embeddings.
        momentum: of the moving average.
    """

    def __init__(self, images: int, dim: int, momentum: float) -> None:
        super().__init__()
        self.rows: Tensor
        self.register_buffer("rows", F.normalize(torch.randn(images, dim), dim=1))
        self.momentum = momentum

    def draw(self, number: int) -> Tensor:
        """Draw rows at random, (number,)."""
        return torch.randint(len(self.rows), (number,), device=self.rows.device)

    @torch.no_grad()
    def update(self, index: Tensor, z: Tensor) -> None:
        """Update the rows of the samples in a batch, of all processes, with z (B, dim)."""
        index, z = gather(index), gather(z)
        self.rows[index] = F.normalize(self.rows[index].lerp(z, 1 - self.momentum), dim=1)
