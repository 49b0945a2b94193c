"""SparK: designing BERT for convolutional networks, sparse and hierarchical (Tian et al. 2023).

Tian, Jiang, Diao, Lin, Wang, Yuan 2023, "Designing BERT for Convolutional Networks: Sparse and
Hierarchical Masked Modeling", section 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, Compose
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.decoders import PyramidDecoder, normalized_patches, patchify, unpatchify
from unlabeled.encoders.sparse import enlarged, pyramid_of, stage_maps, visible_only
from unlabeled.modality import Images


class SparK(Method):
    """A convolutional network encodes visible patches, a decoder of its maps draws the masked ones.

    A patch is what one position of the last map stands for. Sparse convolutions are those of the
    authors' code: maps are masked again after every convolution and pooling, and BatchNorm has the
    statistics of visible positions. So neither does the mask vanish with depth, nor do statistics
    differ from those of complete images. The decoder adds maps of finer resolutions on its way up.
    The loss is on masked patches, each normalized by its mean and standard deviation. Images are
    filled up with black at the right and the bottom until they have whole patches.

    Args:
        mask_ratio: fraction of the patches that are masked; the paper's 0.6.
        decoder_width: channels of the decoder at the coarsest map, halved with each doubling of the
            resolution; 768 in the paper.
        shape: channels, height and width of the images (default: the data set's).
        weak: augmentation of the images (default: none); the paper crops and flips.
    """

    modality = (Images,)
    default_encoder = {Images: "spatial_resnet"}
    # The paper has LAMB, which is not here, at 2e-4 per 256 images: 1600 epochs of batches of 4096,
    # weight decay from 0.04 to 0.2.
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes = {name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask_ratio: float = 0.6,
        decoder_width: int = 64,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.patch_size, self.grid, channels = pyramid_of(encoder, shape, "spark")
        patches = math.prod(self.grid)
        self.visible = max(1, min(patches - 1, round((1 - mask_ratio) * patches)))
        self.decoder = PyramidDecoder(channels, decoder_width, self.patch_size, shape[0])
        self.weak = weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W), and which of their patches are visible (B, rows, columns)."""
        x = self.weak(batch.x)
        order = torch.rand(len(x), math.prod(self.grid), device=x.device).argsort(1)
        return x, (order.argsort(1) < self.visible).unflatten(1, self.grid)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the normalized pixels of masked patches."""
        x, visible = views
        target, _, _ = normalized_patches(self.filled(x), self.patch_size)
        errors = (self.reconstruct(x, visible) - target).pow(2).mean(2)  # (B, N)
        return errors[~visible.flatten(1)].mean()  # as many in each image

    def reconstruct(self, x: Tensor, visible: Tensor) -> Tensor:
        """Normalized pixels of all patches, (B, N, C·p·p), from the visible ones."""
        seen = torch.where(enlarged(visible, self.patch_size), self.filled(x), 0.0)
        with visible_only(visible, self.encoder):
            maps = stage_maps(self.encoder, seen)
        return patchify(self.decoder(maps, visible).float(), self.patch_size)

    def filled(self, x: Tensor) -> Tensor:
        """Images with black rows and columns, so that they have whole patches."""
        down, right = (p * self.patch_size - s for p, s in zip(self.grid, x.shape[2:], strict=True))
        return F.pad(x, (0, right, 0, down))

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        _, visible = self.views(Batch(x, torch.arange(len(x), device=x.device)))
        _, mean, deviation = normalized_patches(self.filled(x), self.patch_size)
        patches = self.reconstruct(x, visible) * deviation + mean  # the true ones, as in the paper
        height, width = x.shape[2:]
        drawn = unpatchify(patches, self.grid, self.patch_size).clamp(0, 1)[:, :, :height, :width]
        seen = enlarged(visible, self.patch_size)[:, :, :height, :width]
        images = [x, torch.where(seen, x, 0.5), torch.where(seen, x, drawn)]
        return {"image, masked, reconstruction": torch.stack(images, 1)}
