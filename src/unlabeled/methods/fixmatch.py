"""FixMatch: be sure of an image, then name it when it is hardly to be recognized.

Sohn et al. 2020, "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
algorithm 1.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop, SimCLRAugment
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe
from unlabeled.objectives import labeled_cross_entropy


class FixMatch(Method):
    """The class of a weak view, where it is sure, is the label of a strong view.

    Every image of the batch counts as one without a label: the paper, too, puts those with one
    among the others (section 2, footnote). Both views go through the network as one batch, so that
    BatchNorm sees them together, as in the authors' code. That code judges a moving average of the
    weights; here it is the network itself.

    Args:
        weight: of the strong views' loss, λ_u.
        threshold: probability from which on a class is sure, τ.
        classes: number of classes; the data set's own unless given.
        weak: the weak view; the data set's for labeled training unless given.
        augment: the strong view; the data set's own unless given.
    """

    supervised = True
    # The paper's but for its 2²⁰ steps and Nesterov's momentum (table 4): μ = 7 images without a
    # label for each with one.
    recipe = Recipe(
        epochs=100,
        batch_size=512,
        optimizer="sgd",
        lr=0.03,
        weight_decay=5e-4,
        labeled_fraction=1 / 8,
    )
    recipes: ClassVar = {"dsprites": HALF_LABELED | {"epochs": 5, "lr": 4e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        weight: float = 1.0,
        threshold: float = 0.95,
        classes: int = 10,
        weak: Augmentation | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.weight, self.threshold = weight, threshold
        self.weak, self.augment = weak or RandomCrop(), augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A weak and a strong view of each image, (B, C, H, W) each; its label or −1 (B,)."""
        assert batch.y is not None
        return self.weak(batch.x), self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """ℓ_s + λ_u ℓ_u, eq. 3 and 4; rows below the threshold count as zeros in the latter."""
        weak, strong, y = views
        logits = self.classifier(self.encoder(torch.cat([weak, strong]))).float()
        ours, theirs = logits.chunk(2)  # (B, classes) each
        sure, guess = ours.detach().softmax(1).max(1)  # (B,) each
        each = F.cross_entropy(theirs, guess, reduction="none")
        consistency = (each * (sure >= self.threshold)).mean()
        return labeled_cross_entropy(ours, y) + self.weight * consistency
