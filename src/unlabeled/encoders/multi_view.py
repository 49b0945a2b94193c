"""What methods share that are one objective of the projections of several views."""

from torch import Tensor, cat, nn, stack

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.errors import UserError
from unlabeled.parallel import gather


class MultiView(Method):
    """Random views of each image go through an encoder and a projector; a subclass compares them.

    All views form one batch for BatchNorm.

    Args:
        dims: widths of the projector's layers.
        number: of views of each image, at least 2.
        augment: random augmentation of each view (default: the data set's).
    """

    by_stage = True
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3}}

    def __init__(
        self, encoder: nn.Module, dims: tuple[int, ...], number: int, augment: Augmentation | None
    ) -> None:
        super().__init__(encoder)
        if number < 2:
            raise UserError(f"views is {number}, but must be at least 2")
        self.projector = mlp(self.encoder.dim, *dims)
        self.number, self.augment = number, augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Random views of each image, (B, C, H, W) each."""
        return tuple(self.augment(batch.x) for _ in range(self.number))

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """The objective of all processes' projections."""
        z = self.project(cat(views)).chunk(len(views))  # (B, dim) each
        return self.objective(gather(stack(z, 1)))

    def objective(self, z: Tensor) -> Tensor:
        """The loss of projections (B, views, dim)."""
        raise NotImplementedError
