"""Metric learning: labels say what belongs together, and any objective of the shelf brings it near.

The seven losses of the lectures and their relatives; each function names its paper.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.objectives.named import ObjectiveName, check_options, loss_by_name
from unlabeled.parallel import gather


class Metric(Method):
    """One view of each image, four of a class in a batch, and the objective of all of them.

    It is judged on classes it never saw. Objectives of pairs take two images of each class at a
    time.

    Args:
        objective: what is minimized: `unlabeled list objectives` says what each is.
        dim: width of a linear projection; 0 compares the features themselves.
        margin: of the objective, where it has one; its own unless given.
        temperature: of the objective, where it has one; its own unless given.
        regularization: of the objective, where it has one; its own unless given.
        mining: which triplets count; "all", "hard" or "semi-hard".
        augment: the view; the data set's for labeled training unless given.
    """

    supervised = True
    weak_augment = True
    samples_per_class = 4
    recipe = Recipe(epochs=40, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes: ClassVar = {
        "omniglot": {"epochs": 20, "schedule": "one_cycle"},
        "dsprites": MINUTES | {"epochs": 8, "lr": 4e-3},
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        objective: ObjectiveName = "contrastive",
        dim: int = 0,
        margin: float | None = None,
        temperature: float | None = None,
        regularization: float | None = None,
        mining: str | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.head = nn.Linear(self.encoder.dim, dim) if dim else nn.Identity()
        self.objective = objective
        self.options = check_options(
            objective,
            {
                "margin": margin,
                "temperature": temperature,
                "regularization": regularization,
                "mining": mining,
            },
        )
        self.augment = augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, W), and its label (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The objective of the batch of all processes."""
        x, y = views
        return loss_by_name(self.objective, gather(self.project(x)), gather(y), **self.options)
