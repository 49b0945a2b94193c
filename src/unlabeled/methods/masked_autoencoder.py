"""MAE: masked autoencoders are scalable vision learners (He et al. 2022).

He, Chen, Xie, Li, Dollár, Girshick 2022, "Masked Autoencoders Are Scalable Vision Learners"; for
convolutional networks Xie et al. 2022, "SimMIM: A Simple Framework for Masked Image Modeling".
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.decoders import MAEDecoder, patchify, unpatchify
from unlabeled.encoders.heads import deconv
from unlabeled.encoders.vit import ViT
from unlabeled.errors import UserError


class MaskedAutoencoder(Method):
    """A transformer encodes visible patches; a small decoder reconstructs the masked ones.

    The class token, which is the representation, is computed from visible patches and goes into the
    decoder beside them (the paper's appendix A.1), so that it learns, too. A convolutional encoder
    sees the image with gray in place of masked patches. The loss is on masked patches alone.

    In the authors' code the encoder's last norm is on visible patches, too, before the decoder,
    whose positions are fixed; here it is on the class token only, and they are learned.

    Args:
        mask_ratio: fraction of patches that are masked; the paper's 0.75.
        normalize_pixels: whether the target is each patch normalized by its mean and standard
            deviation; patches of a single value are never normalized.
        decoder_width: width of the transformer decoder, or channels of the last layer of a
            convolutional one; 512 in the paper.
        decoder_depth: blocks of the transformer decoder; 8 in the paper.
        patch_size: side of a patch in pixels (default: the transformer's, else an eighth of
            the image's).
        shape: channels, height and width of the images (default: the data set's).
    """

    may_be_zero = ("decoder_depth",)
    # The paper uses AdamW at 1.5e-4 per 256 images, weight decay 0.05, 800 epochs.
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes = {name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")}
    presets = {
        "paper": {  # without its crops and flips, and with learned positions in the decoder
            "encoder": "vit_base", "encoder_args": {"patch": 16, "positions": "sincos"},
            "size": 224, "decoder_width": 512, "decoder_depth": 8,
            "epochs": 800, "batch_size": 4096, "optimizer": "adamw", "lr": 2.4e-3, "beta2": 0.95,
            "lr_scaling": "linear", "warmup_epochs": 40, "weight_decay": 0.05,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask_ratio: float = 0.75,
        normalize_pixels: bool = True,
        decoder_width: int = 48,
        decoder_depth: int = 2,
        patch_size: int | None = None,
        shape: tuple[int, int, int] = (3, 32, 32),
    ) -> None:
        super().__init__(encoder)
        if not 0 < mask_ratio < 1:
            raise UserError(f"mask_ratio is {mask_ratio}, but must be above 0 and below 1")
        channels, height, width = shape
        default = encoder.patch if isinstance(encoder, ViT) else max(1, min(height, width) // 8)
        if isinstance(encoder, ViT) and patch_size not in (None, default):
            raise UserError(
                f"patch_size is {patch_size}, but the transformer's patches are {default} pixels "
                "wide; omit it"
            )
        self.patch_size = patch_size or default
        self.grid = height // self.patch_size, width // self.patch_size
        patches, pixels = math.prod(self.grid), channels * self.patch_size**2
        if patches < 2:
            raise UserError(
                f"patches of {self.patch_size} pixels leave none visible in images of "
                f"{height}×{width}; give a smaller --patch-size, at most half of a side"
            )
        self.visible = min(patches - 1, max(1, round((1 - mask_ratio) * patches)))
        self.normalize_pixels = normalize_pixels and pixels > 1
        if isinstance(encoder, ViT):
            sizes = decoder_width, decoder_depth, patches, pixels
            self.decoder: nn.Module = MAEDecoder(encoder.dim, *sizes)
        else:
            self.decoder = deconv(self.encoder.dim, shape, decoder_width)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W), and a random order of their patches (B, N), visible ones first."""
        n = math.prod(self.grid)
        return batch.x, torch.rand(len(batch.x), n, device=batch.x.device).argsort(1)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the masked patches."""
        x, order = views
        target = self.targets(x)
        masked = order[:, self.visible :, None].expand(-1, -1, target.shape[2])
        return F.mse_loss(self.reconstruct(x, order).gather(1, masked), target.gather(1, masked))

    def targets(self, x: Tensor) -> Tensor:
        """Patches to be reconstructed, (B, N, C·p·p)."""
        patches = patchify(x, self.patch_size).float()
        if not self.normalize_pixels:
            return patches
        mean, std = patches.mean(2, keepdim=True), patches.std(2, keepdim=True)
        return (patches - mean) / (std + 1e-2)

    def reconstruct(self, x: Tensor, order: Tensor) -> Tensor:
        """Reconstructions of all patches, (B, N, C·p·p)."""
        visible = order[:, : self.visible]
        if not isinstance(self.encoder, ViT):
            drawn = self.decoder(self.encoder(self.mask(x, visible)))
            return patchify(drawn.float(), self.patch_size)
        features, tokens = self.encoder.encode_visible(x, visible)
        return self.decoder(features, tokens, visible).float()

    def mask(self, x: Tensor, visible: Tensor) -> Tensor:
        """Images with gray in place of masked patches."""
        keep = torch.zeros(len(x), math.prod(self.grid), device=x.device).scatter_(1, visible, 1)
        keep = F.interpolate(keep.view(-1, 1, *self.grid), scale_factor=self.patch_size)
        down, right = x.shape[2] - keep.shape[2], x.shape[3] - keep.shape[3]
        return torch.where(F.pad(keep.bool(), (0, right, 0, down)), x, 0.5)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        _, order = self.views(Batch(x, torch.arange(len(x), device=x.device)))
        patches = self.reconstruct(x, order)
        if self.normalize_pixels:  # denormalized by the true statistics, as the paper's figures
            true = patchify(x, self.patch_size)
            patches = patches * (true.std(2, keepdim=True) + 1e-2) + true.mean(2, keepdim=True)
        images = unpatchify(patches, self.grid, self.patch_size)
        down, right = x.shape[2] - images.shape[2], x.shape[3] - images.shape[3]
        images = F.pad(images.clamp(0, 1), (0, right, 0, down))
        masked = self.mask(x, order[:, : self.visible])
        return {"image, masked, reconstruction": torch.stack([x, masked, images], 1)}
