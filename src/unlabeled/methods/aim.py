"""AIM: scalable pre-training of large autoregressive image models (El-Nouby et al. 2024).

El-Nouby, Klein, Zhai, Bautista, Toshev, Shankar, Susskind, Joulin 2024, "Scalable Pre-training of
Large Autoregressive Image Models", section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, Compose, RandomResizedCrop
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.decoders import PixelHead, normalized_patches, unpatchify
from unlabeled.encoders.vit import with_patch_features
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.parallel import mean_of


class AIM(Method):
    """Each patch predicts the pixels of the next one, in raster order, by causal attention.

    A random number of patches at the start, the prefix, attend to each other in both directions and
    are not predicted, so that the transformer can attend in both directions afterwards; its
    features are the mean of the patches then. A head of residual MLPs predicts from each patch by
    itself. Targets are normalized by a patch's mean and standard deviation; the loss is the mean
    over all predicted patches of the batch. The authors published no code of the training. That of
    lightly predicts each patch from itself and counts the prefix; the paper is followed here.

    Args:
        head_width: width of the head; 2048 in the paper.
        head_depth: number of its MLP blocks; 12 in the paper.
        shape: channels, height and width of the images (default: the data set's).
        weak: augmentation of the images (default: none); the paper crops and flips.
    """

    modality = (Images,)
    default_encoder = {Images: "vit"}
    encoder_args = {"pool": "mean"}
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes = {name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")}
    presets = {
        "paper": {  # for the largest transformer here; 2 billion images, in epochs of ImageNet
            "encoder": "vit_base", "size": 224, "head_width": 2048, "head_depth": 12,
            "encoder_args": {"patch": 14, "pool": "mean", "positions": "sincos"},
            "weak": RandomResizedCrop((0.4, 1.0)),
            "epochs": 1600, "batch_size": 4096, "optimizer": "adamw", "lr": 1e-3, "beta2": 0.95,
            "lr_scaling": "linear", "warmup_epochs": 100, "weight_decay": 0.05,
            "grad_clip_norm": 1.0,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        head_width: int = 96,
        head_depth: int = 2,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        vit = with_patch_features(encoder)
        channels, height, width = shape
        self.patch_size = vit.patch
        self.grid = height // vit.patch, width // vit.patch
        pixels = channels * vit.patch**2
        if self.grid[0] * self.grid[1] < 2 or pixels < 2:
            raise UserError(
                f"patches of {vit.patch} pixels in images of {height}×{width} leave none to "
                "predict; give another --patch"
            )
        self.head = PixelHead(vit.dim, head_width, head_depth, self.grid, pixels)
        self.weak = weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W), and the number of patches of their prefix (B,), from 1 to N − 1."""
        x = self.weak(batch.x)
        patches = self.grid[0] * self.grid[1]
        return x, torch.randint(1, patches, (len(x),), device=x.device)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the normalized pixels of the patches after the prefix."""
        x, known = views
        target, _, _ = normalized_patches(x, self.patch_size)
        errors = (self.predict(x, known)[:, :-1] - target[:, 1:]).pow(2).mean(2)  # (B, N − 1)
        number = torch.arange(1, target.shape[1], device=x.device)
        return mean_of(errors.flatten(), (number >= known[:, None]).flatten())

    def predict(self, x: Tensor, known: Tensor) -> Tensor:
        """What each patch predicts of the next one, normalized pixels (B, N, C·p·p)."""
        return self.head(self.encoder.encode_causal(x, known)).float()

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        patches = self.grid[0] * self.grid[1]
        known = torch.full((len(x),), patches // 2, device=x.device)
        target, mean, deviation = normalized_patches(x, self.patch_size)
        drawn = torch.cat([target[:, :1], self.predict(x, known)[:, :-1]], 1) * deviation + mean
        hidden = (torch.arange(patches, device=x.device) >= patches // 2).view(1, 1, *self.grid)
        pixels = unpatchify(drawn, self.grid, self.patch_size).clamp(0, 1)
        x, holes = x[:, :, : pixels.shape[2], : pixels.shape[3]], hidden.float()
        holes = F.interpolate(holes, pixels.shape[2:]).bool()
        images = [x, torch.where(holes, 0.5, x), torch.where(holes, pixels, x)]
        return {"image, prefix, each patch from those before": torch.stack(images, 1)}
