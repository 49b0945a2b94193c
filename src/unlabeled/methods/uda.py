"""UDA: an image and a strong change of it should be named alike.

Xie, Dai, Hovy, Luong, Le 2020, "Unsupervised Data Augmentation for Consistency Training", eq. 1.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop, SimCLRAugment
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe, Schedule, constant, linear
from unlabeled.parallel import mean_of

ANNEALING: dict[str, Schedule] = {
    "none": constant(1.0),
    "log": lambda t: 1 - math.exp(-5 * t),
    "linear": linear(0.0, 1.0),
    "exp": lambda t: math.exp(5 * (t - 1)),
}
"""How far the ceiling of training signal annealing has risen by progress (the paper's α_t)."""


class UDA(Method):
    """The sharpened prediction of a weak view, where it is sure, is the target of a strong one.

    Every image of the batch counts as one without a label, as in the authors' data, where those
    with one are among the others. Training signal annealing leaves an image with a label out as
    long as the network is surer of it than a ceiling that rises, so that few labels are not learned
    by heart at once.

    Args:
        weight: of the consistency, λ.
        temperature: of the target; below 1 is sharper.
        threshold: probability above which the likeliest class is sure, β.
        annealing: how the ceiling rises; "exp" is late, for few labels, "log" early.
        classes: number of classes; the data set's own unless given.
        weak: the view of what has a label and of the target; the data set's for labeled training
            unless given.
        augment: the strong view; the data set's own unless given.
    """

    supervised = True
    # The authors' code for CIFAR-10 but for its steps and Nesterov's momentum; the share of labels
    # is FixMatch's, which compares with it at that.
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
        temperature: float = 0.4,
        threshold: float = 0.8,
        annealing: Literal["none", "log", "linear", "exp"] = "none",
        classes: int = 10,
        weak: Augmentation | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.weight, self.temperature, self.threshold = weight, temperature, threshold
        self.risen, self.chance = ANNEALING[annealing], 1 / classes
        self.weak, self.augment = weak or RandomCrop(), augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A weak and a strong view of each image, (B, C, H, W) each; its label or −1 (B,)."""
        assert batch.y is not None
        return self.weak(batch.x), self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Cross-entropy where there are labels, and λ KL(target ‖ strong) where it is sure."""
        weak, strong, y = views
        logits = self.classifier(self.encoder(torch.cat([weak, strong]))).float()
        ours, theirs = logits.chunk(2)  # (B, classes) each
        sure = ours.detach().softmax(1).amax(1) > self.threshold  # (B,)
        target = (ours.detach() / self.temperature).softmax(1)
        each = F.kl_div(theirs.log_softmax(1), target, reduction="none").sum(1)
        return self.known(ours, y) + self.weight * (each * sure).mean()

    def known(self, logits: Tensor, y: Tensor) -> Tensor:
        """The mean cross-entropy of labeled rows whose p(y) is not above the ceiling, 0 of none.

        The ceiling α (1 − 1/K) + 1/K rises from chance to 1.
        """
        ceiling = 1 - (1 - self.chance) * (1 - self.risen(self.progress))
        each = F.cross_entropy(logits, y, ignore_index=-1, reduction="none")  # −log p(y), 0 at −1
        return mean_of(each, (y >= 0) & (torch.exp(-each.detach()) <= ceiling))
