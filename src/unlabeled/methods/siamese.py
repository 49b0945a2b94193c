"""Siamese verification: do two images show the same person, or the same character?

The lectures' cost, s·d² for pairs that match and max(1 − d², 0) for those that do not; after
Bromley et al. 1993 and Chopra, Hadsell, LeCun 2005.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import Batch, Method, Recipe
from unlabeled.objectives import siamese
from unlabeled.parallel import gather


class Siamese(Method):
    """The same network sees both images; their features should be near or far.

    It learns from identities, such as a folder for each person (`--labels-from folders`), and is
    asked about people it never saw. All pairs of a batch are used, in which four images of each
    identity stand.

    Args:
        weight: s, of the pairs that match.
        augment: the views; the data set's for labeled training unless given.
    """

    supervised = True
    weak_augment = True
    samples_per_class = 4
    recipe = Recipe(epochs=40, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes: ClassVar = {"omniglot": {"epochs": 60, "schedule": "one_cycle"}}

    def __init__(
        self, encoder: nn.Module, *, weight: float = 1.0, augment: Augmentation | None = None
    ) -> None:
        super().__init__(encoder)
        self.weight, self.augment = weight, augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, W), and whose it is (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The cost of all pairs of the batch of all processes."""
        x, y = views
        return siamese(gather(self.encoder(x)), gather(y), self.weight)
