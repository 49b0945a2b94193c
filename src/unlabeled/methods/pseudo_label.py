"""Pseudo-labels: what the network believes of an image without a label is taken for its label.

Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
Networks", eq. 15 and 16.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe
from unlabeled.errors import UserError
from unlabeled.objectives import labeled_cross_entropy
from unlabeled.parallel import mean_of


class PseudoLabel(Method):
    """Cross-entropy with the labels, and with the likeliest class of images that have none.

    Only images without a label get a pseudo-label, as in the paper. Its weight is 0 at first,
    while the network knows nothing, then rises along a line.

    Args:
        weight: of the pseudo-labels once it has risen, the paper's α_f.
        begin: share of training after which it rises, T₁; 100 epochs in the paper.
        full: share of training after which it has risen, T₂; 600 epochs in the paper.
        classes: number of classes; the data set's own unless given.
        augment: the views; the data set's for labeled training unless given. The
            paper has none, but dropout.
    """

    supervised = True
    weak_augment = True
    # 32 images with labels beside 256 without, section 3.
    recipe = Recipe(epochs=100, batch_size=288, lr=2e-3, labeled_fraction=1 / 9)
    recipes: ClassVar = {"dsprites": HALF_LABELED | {"epochs": 5, "lr": 4e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        weight: float = 3.0,
        begin: float = 0.1,
        full: float = 0.6,
        classes: int = 10,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not 0 <= begin < full:
            raise UserError(f"the weight rises from begin {begin} to full {full}; give full more")
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.weight, self.begin, self.full = weight, begin, full
        self.augment = augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, W), and its label or −1 (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Eq. 15: the mean over rows with a label, and α times that over the others."""
        x, y = views
        logits = self.classifier(self.encoder(x)).float()  # (B, classes)
        guess = logits.detach().argmax(1)
        each = F.cross_entropy(logits, guess, reduction="none")  # (B,)
        return labeled_cross_entropy(logits, y) + self.alpha() * mean_of(each, y < 0)

    def alpha(self) -> float:
        """Eq. 16: the weight at this progress."""
        risen = (self.progress - self.begin) / (self.full - self.begin)
        return self.weight * min(max(risen, 0.0), 1.0)
