"""Contrastive predictive coding: tell what comes from what cannot come.

Van den Oord, Li, Vinyals 2018, "Representation Learning with Contrastive Predictive Coding"; for
patches also Hénaff et al. 2020, "Data-Efficient Image Recognition with CPC" (v2).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.objectives.predictive import NegativeSource, predictive_hinge, predictive_info_nce
from unlabeled.parallel import gather

TURNS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((0, 1),),
    4: ((0, 1), (0, -1), (1, 1), (1, -1)),
}
"""Of the places (B, D, R, S): whether rows and columns change places, and which way one reads."""


class CPC(Method):
    """z = encoder, c = what was seen until now; W_k c is to be like z, k steps ahead.

    Sound goes forward in time, from a GRU's states. Patches of an image are predicted downwards
    from a context of their own row and the two above, where v2's sees all rows above, or in four
    directions, each from a context of its own (v2).

    A context never sees a pixel of the patches that it predicts: of patches that overlap by half,
    the nearest rows are not predicted, as in v2, whose code ignores them. Of audio all frames are,
    as in the paper, though the receptive fields of the next two still share samples with the
    context's last frame.

    Args:
        steps: how many are predicted, each by its own W_k.
        skip: nearest steps that are left out; unless given, those of patches that share pixels with
            the context's, and none of audio.
        negatives: from other places of the "same" recording or image, from the same place of
            "others", or "both".
        objective: InfoNCE over all negatives, or a hinge with one of them.
        directions: 1 (downwards, forward) or 4.
        samples: length of the pieces of sound that are learned from; 0 takes recordings whole.
        jitter: view of every patch by itself, as v2's patch augmentation; none unless given.
        weak: view of whole images or recordings; mirroring of images unless given.
    """

    default_encoder: ClassVar = {Images: "patches"}
    by_stage = True
    recipe = Recipe(epochs=50, batch_size=64, optimizer="adam", lr=1e-3, weight_decay=0.0)
    recipes: ClassVar = {
        "spoken_digits": MINUTES | {"epochs": 40, "lr": 2e-3, "steps": 12},
        "cifar10": MINUTES | {"epochs": 4},
        "fashion_mnist": MINUTES | {"epochs": 4},
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        steps: int = 8,
        skip: int | None = None,
        negatives: NegativeSource = "others",
        objective: Literal["info_nce", "hinge"] = "info_nce",
        directions: Literal[1, 4] = 1,
        samples: int = 2560,
        jitter: Augmentation | None = None,
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not hasattr(encoder, "latents_and_context"):
            raise UserError("cpc predicts sound or patches: use --encoder wave or patches")
        skip = getattr(encoder, "overlap", 0) if skip is None else skip
        check_steps(steps, skip)
        z, c = self.encoder.latent_dims
        self.turns_of = TURNS[directions]
        self.contexts = nn.ModuleList(self.encoder.make_context() for _ in self.turns_of)
        self.predictors = nn.ModuleList(
            nn.ModuleList(nn.Linear(c, z, bias=False) for _ in range(steps - skip))
            for _ in self.turns_of
        )
        self.skip, self.negatives, self.samples = skip, negatives, samples
        self.says = predictive_info_nce if objective == "info_nce" else predictive_hinge
        self.jitter, self.weak = jitter, weak or self.encoder.default_augmentation()

    def views(self, batch: Batch) -> Tensor:
        """Pieces of sound (B, 1, 1, samples), or patches (B, C, p, P·p), side by side."""
        return self.encoder.segments(self.weak(batch.x), self.samples, self.jitter)

    def loss(self, views: Tensor) -> Tensor:
        """The mean over directions and over the steps that there are."""
        z, c = self.encoder.latents_and_context(views)  # (B, D, R, S), R the way that is predicted
        losses = [
            loss
            for turn, context, predictors in zip(
                self.turns_of, self.contexts, self.predictors, strict=True
            )
            for loss in self.ahead(turned(z, turn), context(turned(c, turn)), predictors)
        ]
        # Predictors beyond the last row get a gradient of 0, since DDP waits for all.
        idle = 0 * torch.stack([w.sum() for w in self.predictors.parameters()]).sum()
        return torch.stack(losses).mean() + idle

    def ahead(self, z: Tensor, c: Tensor, predictors: Any) -> list[Tensor]:
        """The loss of each step k: c of row r is asked for z of row r + k."""
        found = []
        # The farthest step of a single lane has one place, and no other of its own sequence.
        rows = z.shape[2] - (self.negatives == "same" and z.shape[3] == 1)
        for k, predict in enumerate(predictors, self.skip + 1):
            if k < rows:
                a, b = predict(lanes(c[:, :, :-k])), lanes(z[:, :, k:])  # (B, rows · S, D)
                found.append(self.says(gather(a), gather(b), self.negatives))
        if not found:
            raise UserError(
                f"{z.shape[2]} places are too few to predict {self.skip + 1} ahead; give longer "
                "pieces with --samples, smaller patches, or a smaller --skip"
            )
        return found


def check_steps(steps: int, skip: int) -> None:
    """Raises UserError where none of the steps is left."""
    if not 0 <= skip < steps:
        raise UserError(
            f"of {steps} steps none is left with skip {skip}; give more steps, or fewer to skip"
        )


def turned(x: Tensor, turn: tuple[int, int]) -> Tensor:
    """Places (B, D, R, S) so that a direction leads down."""
    x = x.transpose(2, 3) if turn[0] else x
    return x.flip(2) if turn[1] < 0 else x


def lanes(x: Tensor) -> Tensor:
    """Places (B, D, R, S) as a row (B, R · S, D)."""
    return x.flatten(2).transpose(1, 2)
