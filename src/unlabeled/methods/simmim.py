"""SimMIM: a simple framework for masked image modeling (Xie et al. 2022).

Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu 2022, "SimMIM: A Simple Framework for Masked Image
Modeling", section 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, Compose, RandomResizedCrop
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.decoders import patchify, unpatchify
from unlabeled.encoders.vit import with_patch_features
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.parallel import mean_of


class SimMIM(Method):
    """A transformer sees a token in place of masked patches, and a linear layer predicts pixels.

    The loss is the mean absolute error of raw pixels of masked patches. Masks are of squares that
    are larger than a patch, since a small hole is filled from its edge. The features of an image
    are the mean of its patches.

    Args:
        mask_ratio: fraction of the squares that are masked, rounded up; the paper's 0.6.
        mask_size: side of a square in patches; 2 in the paper, which is 32 pixels.
        shape: channels, height and width of the images (default: the data set's).
        weak: augmentation of the images (default: none); the paper crops and flips.
    """

    modality = (Images,)
    default_encoder = {Images: "vit"}
    encoder_args = {"pool": "mean"}
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes = {name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")}
    presets = {
        "paper": {  # the authors' rate falls to a tenth in epoch 700 and has no half a cosine
            "encoder": "vit_base", "encoder_args": {"patch": 16, "pool": "mean", "drop_path": 0.1},
            "size": 224, "weak": RandomResizedCrop((0.67, 1.0)),
            "epochs": 800, "batch_size": 2048, "optimizer": "adamw", "lr": 4e-4,
            "lr_scaling": "linear", "warmup_epochs": 10, "weight_decay": 0.05,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask_ratio: float = 0.6,
        mask_size: int = 2,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        vit = with_patch_features(encoder)
        channels, height, width = shape
        self.patch_size, self.mask_size = vit.patch, mask_size
        self.grid = height // self.patch_size, width // self.patch_size
        self.squares = math.ceil(self.grid[0] / mask_size), math.ceil(self.grid[1] / mask_size)
        squares = math.prod(self.squares)
        if squares < 2:
            raise UserError(
                f"squares of {mask_size} patches leave none visible of {self.grid[0]}×"
                f"{self.grid[1]}; give a smaller --mask-size"
            )
        self.masked = max(1, min(squares - 1, math.ceil(mask_ratio * squares)))
        self.mask_token = nn.Parameter(torch.randn(vit.dim) * 0.02)
        self.head = nn.Linear(vit.dim, channels * self.patch_size**2)
        self.weak = weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W), and which of their patches are masked (B, N)."""
        x = self.weak(batch.x)
        n = len(x), math.prod(self.squares)
        order = torch.rand(n, device=x.device).argsort(1)
        masked = (order < self.masked).view(-1, 1, *self.squares)
        masked = masked.repeat_interleave(self.mask_size, 2).repeat_interleave(self.mask_size, 3)
        return x, masked[:, 0, : self.grid[0], : self.grid[1]].flatten(1)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Mean absolute error of the pixels of masked patches."""
        x, masked = views
        target = patchify(x, self.patch_size).float()
        errors = (self.reconstruct(x, masked) - target).abs().mean(2)  # (B, N)
        return mean_of(errors.flatten(), masked.flatten())

    def reconstruct(self, x: Tensor, masked: Tensor) -> Tensor:
        """Predicted pixels of all patches, (B, N, C·p·p)."""
        return self.head(self.encoder.encode_patches(x, masked, self.mask_token)[1]).float()

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        _, masked = self.views(Batch(x, torch.arange(len(x), device=x.device)))
        rows, columns = (side * self.patch_size for side in self.grid)
        x = x[:, :, :rows, :columns]
        drawn = unpatchify(self.reconstruct(x, masked).clamp(0, 1), self.grid, self.patch_size)
        holes = F.interpolate(masked.view(-1, 1, *self.grid).float(), (rows, columns)).bool()
        images = [x, torch.where(holes, 0.5, x), torch.where(holes, drawn, x)]
        return {"image, masked, reconstruction": torch.stack(images, 1)}
