"""The protocol of a method, and the parts that methods share.

A method says how its views are made, what loss they give and what follows a step. Whatever runs it
(Lightning's learner, or ten lines of plain PyTorch) needs no more than that.
"""

from __future__ import annotations

import copy
import inspect
import math
import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.errors import UserError
from unlabeled.modality import Audio, Images, Modality, Text
from unlabeled.parallel import gather
from unlabeled.training.optim import LARS

Schedule = Callable[[float], float]
"""A function of progress: the share of training done, in [0, 1], to a value."""


class Batch(NamedTuple):
    """What a method's `views` receives, on the device."""

    x: Tensor  #: (B, C, H, W) float in [0, 1]
    index: Tensor  # type: ignore[assignment]  #: (B,) int64, the row of each image in the data set
    y: Tensor | None = None  #: (B,) int64, −1 unknown; None unless the method is supervised
    partners: Tensor | None = None
    """Partners of each sample, (B, K, …); None unless the method learns from pairs."""


def constant(value: float) -> Schedule:
    """The same value throughout."""
    return lambda t: value


def linear(start: float, end: float) -> Schedule:
    """A straight line from `start` to `end`."""
    return lambda t: start + (end - start) * t


def cosine(start: float, end: float) -> Schedule:
    """Half a cosine from `start` to `end`, as BYOL's momentum and SGDR's learning rate."""
    return lambda t: end + (start - end) * (1 + math.cos(math.pi * t)) / 2


def warmup_cosine(warmup: float = 0.1) -> Schedule:
    """Linear from 0 to 1 over the share `warmup`, then half a cosine to 0 (SimCLR, B.1)."""
    fall = cosine(1, 0)
    return lambda t: t / warmup if t < warmup else fall((t - warmup) / (1 - warmup))


def one_cycle(rise: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> Schedule:
    """Half a cosine up over the share `rise`, half a cosine down to almost 0 (Smith 2018)."""
    up, down = cosine(start, 1), cosine(1, end)
    return lambda t: up(t / rise) if t < rise else down((t - rise) / (1 - rise))


@dataclass(frozen=True)
class Recipe:
    """How a method is trained unless the user says otherwise. Each field is a flag of the command.

    Args:
        epochs: passes over the training images.
        batch_size: images per step; each gives as many views as the method makes.
        optimizer: the optimizer; SGD and LARS have momentum 0.9.
        lr: peak learning rate.
        schedule: schedule of the learning rate.
        weight_decay: weight decay of weight matrices and kernels, not of biases and norms.
        grad_clip_norm: largest norm of the gradient of an optimized module; 0 turns clipping off.
        beta1: decay rate of Adam's first moment; lower for adversarial training.
        labeled_fraction: share of labeled samples in each batch of a semi-supervised method.
    """

    epochs: int = 100
    batch_size: int = 256
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adamw"
    lr: float = 1e-3
    schedule: Literal["one_cycle", "warmup_cosine", "constant"] = "warmup_cosine"
    weight_decay: float = 1e-4
    grad_clip_norm: float = 0.0
    beta1: float = 0.9
    labeled_fraction: float = 0.0

    def make_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of all parameters of `module` that want a gradient."""
        wanted = [p for p in module.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in wanted if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in wanted if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.optimizer == "lars":
            groups[1]["adapt"] = False
            return LARS(groups, self.lr)
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=0.9, fused=True)
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return kind(groups, lr=self.lr, betas=(self.beta1, 0.999), fused=True)

    def lr_at(self, progress: float) -> float:
        """The learning rate when the share `progress` of training is done."""
        shapes = {
            "one_cycle": one_cycle(),
            "warmup_cosine": warmup_cosine(),
            "constant": constant(1.0),
        }
        return self.lr * shapes[self.schedule](progress)


MINUTES: dict[str, Any] = {
    "batch_size": 64,
    "optimizer": "adam",
    "schedule": "one_cycle",
    "weight_decay": 0.0,
}
"""What learns within minutes on two cores: small batches, one cycle of Adam."""
HALF_LABELED: dict[str, Any] = MINUTES | {"batch_size": 128, "labeled_fraction": 0.5}
"""The same where some have labels: as many of these in a step as a supervised method sees."""


ABOVE_ZERO = {"temperature", "student_temperature", "teacher_temperature", "epsilon", "xi", "lr"}
SHARES = {
    *("momentum", "center_momentum", "threshold", "dropout", "condition_dropout", "mask_ratio"),
    *("freeze_last_layer", "freeze_prototypes", "ramp_start", "ramp_end", "random_start"),
    *("replace_ratio", "tile_fraction", "pretext_weight", "rebalance"),
}
"""Options from 0 to 1; other numbers are at least 0."""


def check_options(function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Refuse numbers that no method can mean, by the names and annotations of its options.

    Args:
        function: a method's class, or the function that trains it.
        options: its keyword arguments.

    Raises:
        UserError: a number is out of range, not finite, or not whole where it must be.
    """
    known = inspect.signature(function).parameters
    for name, value in options.items():
        if name not in known or not isinstance(value, numbers.Real) or isinstance(value, bool):
            continue
        kind = str(known[name].annotation)
        if "float" not in kind and "int" not in kind:
            continue
        if not math.isfinite(value):
            raise UserError(f"{name} is {value}, but must be finite")
        if "float" not in kind:
            may_be_zero = getattr(function, "may_be_zero", ())
            least = 0 if name in may_be_zero or known[name].default in (0, None) else 1
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
}
"""The usual encoder for each modality; videos and pairs have that of images."""


class Method(nn.Module):
    """A way to learn without labels: one file, one subclass, read like its paper's algorithm box.

    A subclass writes `views` and `loss`; the rest has a default. Its keyword-only, annotated
    constructor arguments are its configuration: flags, help and documentation are made from them.
    `self.encoder` is the product, what is saved and judged; all else is scaffolding. A method whose
    product is another network than the one it was given assigns that one to `self.encoder`.
    """

    optimized_modules: ClassVar[tuple[str, ...]] = ("",)
    """One optimizer for each of these submodules; "" is the whole method."""
    supervised: ClassVar[bool] = False
    """Whether `batch.y` holds labels, −1 where the recipe lets a method learn from unlabeled ones
    too. They never reach a method that leaves this False."""
    weak_augment: ClassVar[bool] = False
    """Whether its `augment` is the data set's for labeled training unless given: weak, and such
    that no label changes. Others get the contrastive one."""
    samples_per_class: ClassVar[int] = 1
    """So many images of a class stand in a batch together, in a supervised method."""
    clip_length: ClassVar[int] = 1
    """So many frames of one shot stand in a batch together, in their order."""
    max_frame_stride: ClassVar[int] = 1
    """Frames from one of them to the next, at most; how many is drawn for each clip."""
    modality: ClassVar[tuple[type[Modality], ...]] = (Images, Audio)
    """What it can learn from. Frames of a video and the first of each pair count as images, where
    they are some. A method of pairs receives `batch.partners`."""
    min_sentences: ClassVar[int] = 1
    """Number of consecutive sentences that a text must have at least."""
    needs_color: ClassVar[bool] = False
    """Whether its images must have three colors."""
    default_encoder: ClassVar[dict[type[Modality], str]] = {}
    """Its encoder by modality, where that is not the one in `DEFAULT_ENCODERS`."""
    by_stage: ClassVar[bool] = False
    """Whether it sees its views through `self.encoder` only, so that each stage of an encoder can
    learn by it alone (`--local`)."""
    encoder_args: ClassVar[dict[str, Any]] = {}
    """Options that its encoder is built with, besides the user's."""
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    """Whole-number options that may be 0, besides those whose default is 0 or None."""
    inexact_across_processes: ClassVar[str] = ""
    """Why the gradient of several processes is not that of one with the same batch, where so."""
    recipe: ClassVar[Recipe] = Recipe()
    """The paper's, or what we found good; the file says which."""
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}
    """By name of a data set: fields of the recipe and arguments of the method that suit it."""

    progress: float = 0.0
    """The share of training done, set by whatever runs the method."""

    def __new__(cls, *encoder: Any, **options: Any) -> Any:
        """Refuse numbers that no method can mean, before anything is built of them."""
        check_options(cls, options)
        return super().__new__(cls)

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder: Any = encoder

    @classmethod
    def encoder_for(cls, modality: type[Modality]) -> str:
        """Name of its encoder for a modality, unless the user names another."""
        return (DEFAULT_ENCODERS | cls.default_encoder).get(modality) or cls.encoder_for(Images)

    def views(self, batch: Batch) -> Any:
        """What the networks see, made from a batch: random, on the device, touching no state."""
        raise NotImplementedError

    def project(self, x: Tensor) -> Tensor:
        """What the loss compares of images (B, C, H, W), where that is not the features (B, dim).

        It is watched in training, since it may collapse and leave the encoder no gradient.
        """
        return self.encoder(x)

    def loss(self, views: Any) -> Tensor:
        """The scalar to minimize. Pure: it mutates no buffer but BatchNorm's running statistics."""
        raise NotImplementedError

    def optimizer_steps(self, views: Any) -> Iterator[tuple[str, Tensor]]:
        """Who moves and what it minimizes. Lazy, so that an adversary sees the updated critic."""
        yield "", self.loss(views)

    def update(self) -> None:
        """After each step, without gradient: moving averages, queues, centers."""

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """What the method makes of images (B, C, H, W), for the report; nothing unless it draws.

        By title (B, k, C, H, W) in [0, 1]: k images that belong together, such as an image and
        its reconstruction. Called in eval mode after training, without gradient.
        """
        return {}

    def animate(self, x: Tensor) -> dict[str, Tensor]:
        """What moves, made of images (B, C, H, W), for the report; nothing unless it does.

        By title (B, T, C, H, W) in [0, 1]: B videos side by side. Called as `images` is; a method
        of clips gets neighbors of one shot.
        """
        return {}


class EMA(nn.Module):
    """A copy of a module that follows it slowly and takes no gradient: θ' ← m θ' + (1 − m) θ.

    It starts as an exact copy. Parameters are averaged. Buffers are not: BatchNorm's running
    statistics in the copy come from the copy's own activations.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, momentum: float) -> None:
        """Move towards `module`; a momentum of 1 stays, 0 copies."""
        pairs = zip(self.module.parameters(), module.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - momentum)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """The copy's output, without gradient."""
        return self.module(*inputs)


class Average(EMA):
    """The weights of a network over its last steps, to be used in its place.

    At first it follows faster, so that short trainings forget what they began with: the momentum is
    at most (1 + n)/(10 + n) after n steps, as TensorFlow's moving averages have it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def update(self, module: nn.Module, momentum: float) -> None:
        """Move towards `module`."""
        self.steps += 1
        n = int(self.steps)
        super().update(module, min(momentum, (1 + n) / (10 + n)))


class MemoryBank(nn.Module):
    """A unit vector for each image of the data, which moves towards the image's embeddings.

    Wu et al. 2018, section 3.

    Args:
        images: number of rows.
        dim: their width.
        momentum: share of a row that stays when its image is seen again.
    """

    def __init__(self, images: int, dim: int, momentum: float) -> None:
        super().__init__()
        self.rows: Tensor
        self.register_buffer("rows", F.normalize(torch.randn(images, dim), dim=1))
        self.momentum = momentum

    def draw(self, number: int) -> Tensor:
        """Row numbers at random, (number,)."""
        return torch.randint(len(self.rows), (number,), device=self.rows.device)

    @torch.no_grad()
    def update(self, index: Tensor, z: Tensor) -> None:
        """Rows of the images just seen, by all processes, move towards z (B, dim)."""
        index, z = gather(index), gather(z)
        self.rows[index] = F.normalize(self.rows[index].lerp(z, 1 - self.momentum), dim=1)
