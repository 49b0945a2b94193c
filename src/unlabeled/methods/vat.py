"""VAT: what the network says of an image should not change in the direction that changes it most.

Miyato, Maeda, Koyama, Ishii 2018, "Virtual Adversarial Training: A Regularization Method for
Supervised and Semi-Supervised Learning", algorithm 1 and eq. 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe
from unlabeled.objectives import labeled_cross_entropy


class VAT(Method):
    """Cross-entropy with the labels, smoothness around all images, and sure predictions.

    All images count in the latter two, with a label or without, as in the paper. BatchNorm
    normalizes each pass by its own batch; only the pass of the images themselves moves its
    running statistics, so that no adversarial image enters them. (The authors' code leaves out
    those without a label, too.) All passes are in full precision, whatever the run's: the search
    for the direction takes differences of predictions that are almost alike.

    Args:
        weight: of the smoothness, α.
        entropy: weight of the entropy of predictions ("VAT+EntMin"); 0 is VAT alone.
        epsilon: length of the adversarial change, ε, in units where white is 1.
        step: length of the change by which its direction is found, ξ. The paper has 1e-6, which
            single precision cannot add to a white pixel.
        iterations: of the power method, K.
        classes: number of classes; the data set's own unless given.
        augment: the views; the data set's for labeled training unless given.
    """

    supervised = True
    may_be_zero = ("iterations",)
    weak_augment = True
    # 32 images with labels beside 128 without, in the authors' code.
    recipe = Recipe(epochs=100, batch_size=160, lr=2e-3, labeled_fraction=0.2)
    recipes: ClassVar = {"dsprites": HALF_LABELED | {"epochs": 5, "lr": 4e-3, "epsilon": 2.0}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        weight: float = 1.0,
        entropy: float = 1.0,
        epsilon: float = 8.0,
        step: float = 0.1,
        iterations: int = 1,
        classes: int = 10,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.weight, self.entropy = weight, entropy
        self.epsilon, self.step, self.iterations = epsilon, step, iterations
        self.augment = augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A view of each image (B, C, H, W), noise (B, C·H·W), and its label or −1 (B,)."""
        assert batch.y is not None
        x = self.augment(batch.x)
        return x, torch.randn_like(x).flatten(1), batch.y

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """ℓ + α R_vadv + H(y | x), each a mean over its images."""
        x, noise, y = views
        with torch.autocast(x.device.type, enabled=False):
            logits = self.classifier(self.encoder(x))  # (B, classes)
            now = logits.detach()
            with untracked(self.encoder):
                change = self.epsilon * self.direction(x, noise, now)
                smoothness = divergence(now, self.classifier(self.encoder(x + change))).mean()
            entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        known = labeled_cross_entropy(logits, y)
        return known + self.weight * smoothness + self.entropy * entropy

    def direction(self, x: Tensor, noise: Tensor, now: Tensor) -> Tensor:
        """Where predictions `now` (B, classes) change most: noise (B, C·H·W) -> (B, C, H, W).

        The power method, from the gradient of the divergence near 0. Each has length 1.
        """
        d = F.normalize(noise, dim=1)
        for _ in range(self.iterations):
            with torch.enable_grad():
                d = d.detach().requires_grad_()
                moved = self.classifier(self.encoder(x + self.step * d.view_as(x)))
                (gradient,) = torch.autograd.grad(divergence(now, moved).sum(), d)
            d = F.normalize(gradient, dim=1)
        return d.view_as(x)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(softmax p ‖ softmax q) of logits, (B, K) and (B, K) -> (B,)."""
    log_p = p.log_softmax(1)
    return (log_p.exp() * (log_p - q.log_softmax(1))).sum(1)


@contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """While this lasts, BatchNorm's running statistics stay as they are."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
