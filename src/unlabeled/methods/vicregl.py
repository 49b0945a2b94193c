"""VICRegL: self-supervised learning of local visual features (Bardes, Ponce, LeCun 2022).

Bardes, Ponce, LeCun 2022, "VICRegL: Self-Supervised Learning of Local Visual Features", section 3.
"""

import torch
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.augmentations.geometry import grid_locations, recorded_geometry
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.spatial import at_positions, grid_size, nearest_positions
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.objectives import vicreg
from unlabeled.parallel import gather


class VICRegL(Method):
    """VICReg of whole views, and of matching positions of their feature maps.

    Each position of one view is matched with the nearest of the other, once by its location in the
    image and once by the distance of local embeddings; of these pairs the nearest are kept. Views
    take both parts. A position is located at the center of its cell of a grid over the view.
    Variance and covariance are over the batch, for each kept pair by itself.

    As in the authors' code, for which the coefficients were tuned, the covariance terms of both
    views are averaged, where `vicreg` adds them, and all positions are matched by embedding. Unlike
    there, locations take flips into account (their `--no-flip-grid` is on), both directions of two
    views keep as many pairs (their second one keeps those of a small crop), and the loss of
    positions has the weight of the paper, 1 − α (there half of it: of both orders of the views only
    the last is kept, then divided by two). There are no small crops, as for their ResNet-50.

    Args:
        dim: width of the expander's three layers; 8192 in the paper.
        local_dim: width of the local expander's three layers; 512 in the paper.
        global_weight: α, weight of the loss of whole views, that of positions being 1 − α; the
            paper's 0.75.
        matches: γ, number of pairs that are kept by location; 20 of 49 in the paper (default: as
            large a share).
        feature_matches: number of pairs that are kept by embedding (default: all).
        invariance: λ, weight of the mean squared distance; the paper's 25.
        variance: μ, weight of the hinge that keeps standard deviations at 1; the paper's 25.
        covariance: ν, weight of the squared off-diagonal covariances; the paper's 1.
        shape: channels, height and width of the images (default: the data set's).
        augment: random augmentation of each view (default: the data set's).
        second_augment: that of the second view, where it differs.
    """

    modality = (Images,)
    base_lr = {"lars": 0.2}
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3}}
    presets = {
        "paper": {  # of the authors' command for ResNet-50
            "encoder": "resnet50", "size": 224, "dim": 8192, "local_dim": 512, "matches": 20,
            "augment": BYOLAugment(), "second_augment": BYOLAugment(blur=0.1, solarize=0.2),
            "epochs": 300, "batch_size": 2048, "optimizer": "lars", "lr": 1.6, "final_lr": 1.6e-3,
            "warmup_epochs": 10, "weight_decay": 1e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 512,
        local_dim: int = 128,
        global_weight: float = 0.75,
        matches: int | None = None,
        feature_matches: int | None = None,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        shape: tuple[int, int, int] = (3, 32, 32),
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        channels, rows, columns = grid_size(encoder, shape, "vicregl")
        positions = rows * columns
        for name, number in (("matches", matches), ("feature_matches", feature_matches)):
            if number == 0:
                raise UserError(f"{name} is 0, but must be at least 1")
        if (most := max(matches or 1, feature_matches or 1)) > positions:
            raise UserError(
                f"{most} matches are more than the {positions} positions of the encoder's feature "
                "map; give fewer --matches and --feature-matches"
            )
        self.expander = mlp(self.encoder.dim, dim, dim, dim)
        self.local_expander = mlp(channels, local_dim, local_dim, local_dim)
        self.matches = matches or max(1, round(20 / 49 * positions))
        self.feature_matches = feature_matches or positions
        self.global_weight = global_weight
        self.weights = invariance, variance, covariance / 2  # `vicreg` adds both views' covariances
        self.augment = augment or SimCLRAugment()
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Two random views of each image (B, C, H, W), and where they come from (B, 2, 3)."""
        views, matrices = [], []
        for augment in (self.augment, self.second_augment):
            with recorded_geometry(batch.x) as geometry:
                views.append(augment(batch.x))
            matrices.append(geometry.matrix)
        return *views, *matrices

    def project(self, x: Tensor) -> Tensor:
        return self.expander(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """α times VICReg of both views, 1 − α times that of their matching positions."""
        pooled, local, location = [], [], []
        for x, matrix in zip(views[:2], views[2:], strict=True):
            features, whole = self.encoder.map_and_features(x)
            pooled.append(gather(self.expander(whole)))  # (B, dim)
            rows = self.local_expander(features.movedim(1, 3).flatten(0, 2))
            local.append(rows.unflatten(0, (len(x), -1)))  # (B, N, local_dim)
            location.append(grid_locations(matrix, (features.shape[2], features.shape[3])))
        there = self.local_loss(*local, *location)
        back = self.local_loss(*local[::-1], *location[::-1])
        whole_loss = vicreg(pooled[0], pooled[1], *self.weights)
        return self.global_weight * whole_loss + (1 - self.global_weight) * (there + back) / 2

    def local_loss(
        self, z: Tensor, other: Tensor, location: Tensor, other_location: Tensor
    ) -> Tensor:
        """VICReg of positions of one view and their matches in the other, by both distances.

        Args:
            z: (B, N, local_dim) embeddings of the view's positions.
            other: (B, N', local_dim) of the other view's.
            location: (B, N, 2) in the image.
            other_location: (B, N', 2).
        """
        by_location = nearest_positions(location, other_location, self.matches)
        by_feature = nearest_positions(z, other, self.feature_matches)
        loss = z.new_zeros(())
        for index, partner in (by_location, by_feature):
            a = gather(at_positions(z, index))  # (B, pairs, local_dim)
            b = gather(at_positions(other, partner))
            each_pair = torch.vmap(lambda p, q: vicreg(p, q, *self.weights), in_dims=1)
            loss = loss + each_pair(a, b).mean()
        return loss
