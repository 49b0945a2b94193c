"""CLAPP: contrastive, local and predictive plasticity (Illing et al. 2021).

Illing et al. 2021, "Local plasticity rules can learn deep representations using
self-supervised contrastive predictions".
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.patches import join_patches, split_patches, stage_layers
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.objectives import local_rule
from unlabeled.objectives.predictive import check_steps
from unlabeled.parallel import gather, own, world_size


class CLAPP(Method):
    """Each layer minimizes max(0, 1 − y·u), u = z·W_k·c: y = 1 k steps on, −1 in another image.

    The context c is the layer's activity z at the position from which is predicted (eq. 3). No
    gradient goes from layer to layer. The paper's CLAPP shows positive and negative samples in
    alternation; here both signs are in every step, and feedback is symmetric, as in its CLAPP-s.

    Args:
        prediction_steps: K, the farthest patch or frame of audio that is predicted; the paper's 5.
        skip_steps: nearest steps that are not predicted (default: those of patches that share
            pixels with the context's, one of audio).
        rule: "autograd", or "hebbian", the explicit local learning rule (eq. 6–8), which gives the
            same gradients for layers of convolution and ReLU without backpropagation.
        crop_length: samples of a random crop of each recording; 0 takes all of it (default: 32 of
            the encoder's frames, 0.32 seconds).
        patch_augment: augmentation of every patch by itself (default: none).
        weak: augmentation of images or recordings (default: horizontal flips of images).
    """

    default_encoder = {Images: "patches"}
    may_be_zero = ("skip_steps",)
    recipe = Recipe(epochs=50, batch_size=64, optimizer="adam", lr=2e-4, weight_decay=0.0)
    recipes = {name: MINUTES | {"epochs": 4, "lr": 1e-3} for name in ("cifar10", "fashion_mnist")}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        prediction_steps: int = 3,
        skip_steps: int | None = None,
        rule: Literal["autograd", "hebbian"] = "autograd",
        crop_length: int | None = None,
        patch_augment: Augmentation | None = None,
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not hasattr(encoder, "to_grid"):
            raise UserError("clapp predicts audio or patches: use --encoder patches or wave")
        skip = getattr(encoder, "overlap", 1) if skip_steps is None else skip_steps
        check_steps(prediction_steps, skip)
        self.predictors = nn.ModuleList(
            nn.ModuleList(nn.Linear(c, c, bias=False) for _ in range(prediction_steps - skip))
            for c in self.encoder.widths
        )
        self.skip_steps, self.rule = skip, rule
        own = getattr(encoder, "crop_length", 0)
        self.crop_length = own if crop_length is None else crop_length
        self.patch_augment, self.weak = patch_augment, weak or self.encoder.default_augmentation()
        if rule == "hebbian":
            for stage in self.encoder.stages:
                stage_layers(stage)  # raises where the rule does not apply

    def views(self, batch: Batch) -> Tensor:
        """Patches (B, C, p, P·p), side by side, or crops of audio (B, 1, 1, T)."""
        return self.encoder.segments(self.weak(batch.x), self.crop_length, self.patch_augment)

    def loss(self, views: Tensor) -> Tensor:
        return torch.stack(self.losses(views)).sum()

    def losses(self, views: Tensor) -> list[Tensor]:
        """The loss of each layer; none has a gradient in the layers below."""
        losses, x = [], views
        for stage, predictors in zip(self.encoder.stages, self.predictors, strict=True):
            if self.rule == "hebbian":
                loss, x = self.hebbian_loss(stage, predictors, x)
            else:
                x = stage(x.detach())
                z = gather(self.encoder.to_grid(x))
                loss = local_rule.clapp_hinge(z, self.predictions(predictors, z))
            losses.append(loss)
        return losses

    def predictions(self, predictors: Any, z: Tensor) -> list[local_rule.PredictionStep]:
        """The predictions possible in activity z (B, D, R, S), each with another image as negative.

        Raises:
            UserError: there is no other image, or no position so far ahead.
        """
        if len(z) < 2:
            raise UserError(
                "clapp contrasts each image with another of the batch, which holds 1; give a "
                "--batch-size of at least 2"
            )
        predictions = [
            local_rule.PredictionStep(k, predict.weight, int(torch.randint(1, len(z), ())))
            for k, predict in enumerate(predictors, self.skip_steps + 1)
            if k < z.shape[2]
        ]
        if not predictions:
            raise UserError(
                f"{z.shape[2]} positions are too few to predict {self.skip_steps + 1} ahead; give "
                "smaller patches, a larger --crop-length, or smaller --skip-steps"
            )
        return predictions

    def hebbian_loss(self, stage: nn.Module, predictors: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's loss, whose gradient is the local learning rule's −ΔW, and its activity.

        ΔW is computed in the forward pass; Σ (W − stop_gradient(W))·ΔW has it as gradient.
        """
        number, pool, convolution = stage_layers(stage)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            pre = pool(split_patches(x.to(convolution.weight.dtype), number))  # (B·P, C, p, p)
            post = convolution(pre).relu()
            x = join_patches(post, number)
            z = gather(self.encoder.to_grid(x))
            predictions = self.predictions(predictors, z)
            value, apical, lateral = local_rule.apical_signals(z, predictions)
            apical = own(apical) * world_size()  # gradients are averaged over processes
            apical = apical.flatten(2).transpose(1, 2).flatten(0, 1)  # (B·P, D)
            changes = [*local_rule.local_update(pre, post, apical, convolution), *lateral]
        weights: list[Any] = [convolution.weight, convolution.bias]
        weights += [prediction.weight for prediction in predictions]
        terms = [((w - w.detach()) * dw).sum() for w, dw in zip(weights, changes, strict=True)]
        return value - torch.stack(terms).sum(), x
