"""I-JEPA: image-based joint-embedding predictive architecture (Assran et al. 2023).

Assran et al. 2023, "Self-Supervised Learning from Images with a Joint-Embedding Predictive
Architecture", section 3.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, Compose, RandomResizedCrop
from unlabeled.augmentations.masks import choose_patches, draw_block_size, random_blocks
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, linear
from unlabeled.encoders.decoders import BlockPredictor
from unlabeled.encoders.vit import with_patch_features
from unlabeled.errors import UserError
from unlabeled.modality import Images

TARGET_SCALE, TARGET_ASPECT, CONTEXT_SCALE = (0.15, 0.2), (0.75, 1.5), (0.85, 1.0)
"""Ranges of area, as a fraction of the image's, and of aspect ratio (section 3)."""


class IJEPA(Method):
    """From one block of an image, representations of other blocks are predicted.

    The context encoder sees a large block without the patches of the target blocks, a narrow
    transformer predicts each target block's patches from it and from their positions. Targets are
    those of a moving average of the encoder that sees the whole image, normalized by LayerNorm
    without weights. The target encoder is the result. Blocks have one size in a batch, as in the
    authors' code; theirs never touch the last row and column, and from the larger contexts of a
    batch the last rows are cut, here random patches.

    Args:
        targets: M, number of target blocks; the paper's 4.
        predictor_width: width of the predictor; 384 in the paper.
        predictor_depth: blocks of the predictor; 6 in the paper for ViT-B.
        distance: "smooth_l1" as in the authors' code, or "l2", the squared distance of equation 1;
            means over dimensions.
        momentum: of the target encoder, rising linearly to 1; 0.996 in the paper.
        shape: channels, height and width of the images (default: the data set's).
        weak: augmentation of the images (default: none); the paper crops, and changes no color.
    """

    modality = (Images,)
    default_encoder = {Images: "vit"}
    encoder_args = {"pool": "mean"}
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes = {name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")}
    presets = {
        "paper": {
            "encoder": "vit_base", "size": 224, "predictor_width": 384, "predictor_depth": 6,
            "encoder_args": {"patch": 16, "pool": "mean", "positions": "sincos"},
            "weak": RandomResizedCrop((0.3, 1.0), flip=0.0), "momentum": 0.996,
            "epochs": 600, "batch_size": 2048, "optimizer": "adamw", "lr": 1e-3, "final_lr": 1e-6,
            "lr_scaling": "linear", "warmup_epochs": 15, "weight_decay": 0.04,
            "final_weight_decay": 0.4,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        targets: int = 4,
        predictor_width: int = 96,
        predictor_depth: int = 2,
        distance: Literal["smooth_l1", "l2"] = "smooth_l1",
        momentum: float = 0.99,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        vit = with_patch_features(encoder)
        self.grid = shape[1] // vit.patch, shape[2] // vit.patch
        if min(self.grid) < 4:
            raise UserError(
                f"{self.grid[0]}×{self.grid[1]} patches are too few for blocks of them; give a "
                "smaller --patch, so that there are at least 4×4"
            )
        self.context_encoder = vit
        self.target_encoder = EMA(vit)
        self.encoder = self.target_encoder.module
        self.predictor = BlockPredictor(vit.dim, predictor_width, predictor_depth, self.grid)
        self.targets, self.distance = targets, distance
        self.momentum, self.weak = linear(momentum, 1.0), weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, C, H, W), patches of the context (B, n), of the target blocks (B, M, k)."""
        device, (rows, columns) = batch.x.device, self.grid
        height, width = draw_block_size(self.grid, TARGET_SCALE, TARGET_ASPECT)
        context_size = draw_block_size(self.grid, CONTEXT_SCALE, (1.0, 1.0))
        least = max(1, rows * columns // 16)  # of the context; 10 of 256 in the authors' code
        few = torch.ones(len(batch.x), dtype=torch.bool, device=device)
        targets = few.new_zeros(len(few), self.targets, rows, columns)
        allowed = few.new_zeros(len(few), rows, columns)
        for _ in range(1000):
            sides = [few.new_full((int(few.sum()), 1), s, dtype=torch.long) for s in context_size]
            shape = int(few.sum()), self.targets
            blocks = [few.new_full(shape, s, dtype=torch.long) for s in (height, width)]
            targets[few] = random_blocks(blocks[0], blocks[1], self.grid)
            allowed[few] = random_blocks(sides[0], sides[1], self.grid)[:, 0] & ~targets[few].any(1)
            few = allowed.sum((1, 2)) < least
            if not few.any():
                break
        else:
            raise UserError(f"{self.targets} target blocks cover all patches; give fewer --targets")
        context = choose_patches(allowed.flatten(1))
        where = targets.flatten(2).float().argsort(dim=2, descending=True, stable=True)
        return self.weak(batch.x), context, where[:, :, : height * width]

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Distance of predicted and target representations, mean over blocks and patches."""
        x, context, blocks = views
        rows = torch.arange(len(x), device=x.device)[:, None, None]
        distance = F.smooth_l1_loss if self.distance == "smooth_l1" else F.mse_loss
        return distance(self.predict(x, context, blocks), self.represent(x)[rows, blocks])

    def predict(self, x: Tensor, context: Tensor, blocks: Tensor) -> Tensor:
        """Predicted representations of the blocks, (B, M, k, dim)."""
        tokens = self.context_encoder.encode_visible(x, context)[1]  # (B, dim, n)
        features = self.context_encoder.patch_features(tokens)  # (B, n, dim)
        return self.predictor(features, context, blocks).float()

    @torch.no_grad()
    def represent(self, x: Tensor) -> Tensor:
        """The target encoder's patches of whole images, normalized, (B, N, dim)."""
        patches = self.encoder.patch_features(self.encoder.patch_map(x).flatten(2)).float()
        return F.layer_norm(patches, patches.shape[2:])

    def update(self) -> None:
        """Update the target encoder."""
        self.target_encoder.update(self.context_encoder, self.momentum(self.progress))
