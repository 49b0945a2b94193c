"""UDA: unsupervised data augmentation for consistency training (Xie et al. 2020).

Xie, Dai, Hovy, Luong, Le 2020, "Unsupervised Data Augmentation for Consistency Training", eq. 1.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop, SimCLRAugment
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe, Schedule, constant, linear
from unlabeled.encoders.heads import classify_views
from unlabeled.parallel import mean_of

ANNEALING: dict[str, Schedule] = {
    "none": constant(1.0),
    "log": lambda t: 1 - math.exp(-5 * t),
    "linear": linear(0.0, 1.0),
    "exp": lambda t: math.exp(5 * (t - 1)),
}
"""Schedules of training signal annealing: the paper's α_t by progress."""


class UDA(Method):
    """A confident, sharpened prediction of a weak view is the target of a strongly augmented one.

    Labeled images are among the unlabeled ones, too, as in the authors' data. Training signal
    annealing (TSA) omits a labeled image while its predicted probability is above a threshold that
    rises during training, which delays overfitting to few labels.

    Args:
        weight: λ, of the consistency loss; the paper's 1.
        temperature: τ, sharpening of the target below 1; the paper's 0.4.
        threshold: β, probability above which a prediction is confident; the paper's 0.8.
        annealing: schedule of TSA: "exp" releases labels late, for few labels; "log" early.
        classes: number of classes (default: the data set's).
        weak: augmentation of labeled images and of the target's view (default: the data set's for
            labeled training).
        augment: strong augmentation (default: the data set's).
    """

    supervised = True
    # The authors' code for CIFAR-10 but for its steps and Nesterov momentum; the labeled fraction
    # is FixMatch's, which is compared with UDA at that.
    recipe = Recipe(
        epochs=100, batch_size=512, optimizer="sgd", lr=0.03, weight_decay=5e-4,
        labeled_fraction=1 / 8,
    )  # fmt: skip
    recipes = {"dsprites": HALF_LABELED | {"epochs": 5, "lr": 4e-3}}

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
        self.alpha, self.classes = ANNEALING[annealing], classes
        self.weak, self.augment = weak or RandomCrop(), augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A weak and a strong view of each image, (B, C, H, W) each; its label or −1 (B,)."""
        assert batch.y is not None
        return self.weak(batch.x), self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Supervised cross-entropy, and λ KL(target ‖ strong) where the target is confident."""
        x_weak, x_strong, y = views
        weak, strong = classify_views(self.encoder, self.classifier, x_weak, x_strong)
        confident = weak.detach().softmax(1).amax(1) > self.threshold  # (B,)
        target = (weak.detach() / self.temperature).softmax(1)
        divergence = F.kl_div(strong.log_softmax(1), target, reduction="none").sum(1)
        consistency = (divergence * confident).mean()
        return self.supervised_loss(weak, y) + self.weight * consistency

    def supervised_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of labeled rows whose p(y) is at most TSA's threshold; 0 of none.

        The threshold α (1 − 1/K) + 1/K rises from chance to 1.
        """
        threshold = 1 - (1 - 1 / self.classes) * (1 - self.alpha(self.progress))
        nll = F.cross_entropy(logits, y, ignore_index=-1, reduction="none")  # −log p(y), 0 at −1
        return mean_of(nll, (y >= 0) & (torch.exp(-nll.detach()) <= threshold))
