"""CLAPP: contrastive, local and predictive plasticity; every layer learns by itself.

Illing, Ventura, Bellec, Gerstner 2021, "Local plasticity rules can learn deep representations using
self-supervised contrastive predictions".
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.patches import PerPatch, join_patches, split_patches
from unlabeled.errors import UserError
from unlabeled.methods.cpc import check_steps, lanes
from unlabeled.modality import Images
from unlabeled.objectives.local_rule import PredictionStep, apical_signals, local_update
from unlabeled.objectives.precision import full_precision
from unlabeled.parallel import gather, own, world_size


class CLAPP(Method):
    """In each stage u = z·W_k·c and max(0, 1 − y·u): y = 1 k steps on, −1 in another image.

    c is the same stage's activity z at the place from which is predicted (eq. 3; the lecture says
    "lateral connections"). No gradient goes from stage to stage. The lecture shows a positive or a
    negative example in turn, as does the paper's CLAPP; here both signs stand in every step, as in
    the paper's CLAPP-s, whose feedback is symmetric too: what predicts also carries back.

    Args:
        steps: how many patches, or frames of sound, are predicted ahead.
        skip: nearest steps that are left out; unless given, those of patches that share pixels with
            where is predicted from, and one of audio.
        rule: "autograd", or "hebbian": the explicit local rule (eq. 6–8), the same to the last
            digits, for stages of convolution and ReLU. Then nothing is propagated back.
        samples: length of the pieces of sound that are learned from; 0 takes recordings whole.
        jitter: view of every patch by itself; none unless given.
        weak: view of whole images or recordings; mirroring of images unless given.
    """

    default_encoder: ClassVar = {Images: "patches"}
    may_be_zero = ("skip",)
    recipe = Recipe(epochs=50, batch_size=64, optimizer="adam", lr=2e-4, weight_decay=0.0)
    recipes: ClassVar = {
        name: MINUTES | {"epochs": 4, "lr": 1e-3} for name in ("cifar10", "fashion_mnist")
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        steps: int = 3,
        skip: int | None = None,
        rule: Literal["autograd", "hebbian"] = "autograd",
        samples: int = 2560,
        jitter: Augmentation | None = None,
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not hasattr(encoder, "to_grid"):
            raise UserError("clapp predicts sound or patches: use --encoder patches or wave")
        skip = getattr(encoder, "overlap", 1) if skip is None else skip
        check_steps(steps, skip)
        self.predictors = nn.ModuleList(
            nn.ModuleList(nn.Linear(c, c, bias=False) for _ in range(steps - skip))
            for c in self.encoder.widths
        )
        self.skip, self.rule, self.samples = skip, rule, samples
        self.jitter, self.weak = jitter, weak or self.encoder.default_augmentation()
        if rule == "hebbian":
            for stage in self.encoder.stages:
                parts(stage)  # or say what is amiss

    def views(self, batch: Batch) -> Tensor:
        """Patches (B, C, p, P·p), side by side, or pieces of sound (B, 1, 1, samples)."""
        return self.encoder.segments(self.weak(batch.x), self.samples, self.jitter)

    def loss(self, views: Tensor) -> Tensor:
        """The sum over stages."""
        return torch.stack(self.losses(views)).sum()

    def losses(self, views: Tensor) -> list[Tensor]:
        """Of each stage; none has a gradient in the stages below."""
        found, x = [], views
        for stage, predictors in zip(self.encoder.stages, self.predictors, strict=True):
            if self.rule == "hebbian":
                loss, x = self.by_rule(stage, predictors, x)
            else:
                x = stage(x.detach())
                z = gather(self.encoder.to_grid(x))
                loss = hinge(z, self.steps(predictors, z))
            found.append(loss)
        return found

    def steps(self, predictors: Any, z: Tensor) -> list[PredictionStep]:
        """Those that there are in places z (B, D, R, S), each against another image.

        Raises:
            UserError: there is no other image, or no place so far ahead.
        """
        if len(z) < 2:
            raise UserError(
                "clapp contrasts each image with another of the batch, which holds 1; give a "
                "--batch-size of at least 2"
            )
        found = [
            PredictionStep(k, predict.weight, int(torch.randint(1, len(z), ())))
            for k, predict in enumerate(predictors, self.skip + 1)
            if k < z.shape[2]
        ]
        if not found:
            raise UserError(
                f"{z.shape[2]} places are too few to predict {self.skip + 1} ahead; give smaller "
                "patches, longer pieces, or a smaller --skip"
            )
        return found

    def by_rule(self, stage: nn.Module, predictors: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """A stage's loss, which carries the rule's changes as its gradient, and what it gives.

        All is computed forward; Σ (W − W)·ΔW is what is left to differentiate.
        """
        number, pool, convolution = parts(stage)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            pre = pool(split_patches(x.to(convolution.weight.dtype), number))  # (B·P, C, p, p)
            post = convolution(pre).relu()
            x = join_patches(post, number)
            z = gather(self.encoder.to_grid(x))
            steps = self.steps(predictors, z)
            value, heard, lateral = apical_signals(z, steps)
            heard = own(heard) * world_size()  # gradients are averaged over processes
            apical = heard.flatten(2).transpose(1, 2).flatten(0, 1)  # (B·P, D)
            changes = [*local_update(pre, post, apical, convolution), *lateral]
        weights: list[Any] = [convolution.weight, convolution.bias]
        weights += [step.weight for step in steps]
        moves = zip(weights, changes, strict=True)
        return value - torch.stack([((w - w.detach()) * d).sum() for w, d in moves]).sum(), x


@full_precision
def hinge(z: Tensor, steps: list[PredictionStep]) -> Tensor:
    """Mean over both signs, all places and steps of max(0, 1 − y·u); z is (B, D, R, S)."""
    losses = []
    for k, weight, shift in steps:
        a, b = lanes(z[:, :, :-k]) @ weight.T, lanes(z[:, :, k:])  # (B, places, D)
        near, far = (a * b).sum(2), (a * b.roll(-shift, 0)).sum(2)  # u of both signs
        losses.append(((1 - near).relu().mean() + (1 + far).relu().mean()) / 2)
    return torch.stack(losses).mean()


def parts(stage: nn.Module) -> tuple[int, nn.Module, nn.Conv2d]:
    """Number of patches, what comes before the convolution, and that, of a stage of patches.

    Raises:
        UserError: it is no convolution that ends in ReLU.
    """
    each: Any = stage[-1] if isinstance(stage, nn.Sequential) else stage
    layers: list[Any] = [*each.network.children()] if isinstance(each, PerPatch) else []
    fixed = layers and not list(layers[0].parameters())  # a pooling, or contrast
    pool = layers.pop(0) if fixed else nn.Identity()
    if [type(layer) for layer in layers] != [nn.Conv2d, nn.ReLU]:
        raise UserError(
            "the rule knows stages of convolution and ReLU only: use --encoder patches without a "
            "norm, or --rule autograd"
        )
    return each.number, pool, layers[0]
