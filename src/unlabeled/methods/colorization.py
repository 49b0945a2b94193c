"""Colorization: predict the colors of a grayscale image (Zhang et al. 2016).

Zhang, Isola, Efros 2016, "Colorful Image Colorization", sections 2.1–2.3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip
from unlabeled.augmentations.color import color_bins, lab_to_rgb, rgb_to_lab, soft_bins, to_gray
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.decoders import MapDecoder
from unlabeled.encoders.heads import deconv
from unlabeled.encoders.spatial import stage_channels
from unlabeled.modality import Images
from unlabeled.parallel import mean_over


class Colorization(Method):
    """The encoder sees the image in gray; a decoder predicts a distribution over bins of ab colors.

    It predicts from the features and the maps of all stages (Larsson, Maire, Shakhnarovich 2016),
    where the paper's network does from its last map; of an encoder without maps, from the features.

    Class rebalancing keeps results from being desaturated: a pixel's weight is 1/((1 − λ) p + λ/Q)
    by the frequency p of its bin in the training images, which is estimated during training. The
    trained encoder converts every input to gray.

    Args:
        rebalance: λ of class rebalancing; 1 weighs all bins equally; the paper's 0.5.
        temperature: T of the annealed mean of a distribution of colors; the paper's 0.38.
        decoder_width: channels of the decoder's layers.
        shape: channels, height and width of the images (default: the data set's).
        weak: augmentation of the color image (default: horizontal flips).
    """

    modality = (Images,)
    needs_color = True
    encoder_args = {"gray": True}
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=1e-4)
    recipes = {"cifar10": MINUTES | {"epochs": 12, "lr": 1e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        rebalance: float = 0.5,
        temperature: float = 0.38,
        decoder_width: int = 32,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.bins: Tensor
        self.frequencies: Tensor
        bins = color_bins()
        self.register_buffer("bins", bins.clone(), persistent=False)
        self.register_buffer("frequencies", torch.full((len(bins),), 1 / len(bins)))
        self.size = min(16, shape[1]), min(16, shape[2])  # colors vary less than lightness
        channels = stage_channels(encoder, shape)
        self.of_maps = bool(channels)
        self.decoder: nn.Module = (
            MapDecoder([*channels, self.encoder.dim], len(bins), self.size, decoder_width)
            if channels
            else deconv(self.encoder.dim, (len(bins), *self.size), decoder_width)
        )
        self.rebalance, self.temperature = rebalance, temperature
        self.weak = weak or RandomHorizontalFlip()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W), and their ab colors at the predicted map's size (B, 2, h, w)."""
        x = self.weak(batch.x)
        return x, F.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], self.size)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Rebalanced cross-entropy with soft-encoded bins (eq. 2)."""
        x, ab = views
        target = soft_bins(ab.movedim(1, 3).flatten(0, 2), self.bins)  # (n, Q)
        self.batch_frequencies = target.mean(0, keepdim=True)  # a row for each part of the batch
        logits = self.scores(x).movedim(1, 3).flatten(0, 2)  # (n, Q)
        weight = self.weights()[target.argmax(1)]
        return (weight * F.cross_entropy(logits, target, reduction="none")).mean()

    def weights(self) -> Tensor:
        """Weight of each bin (Q,), with mean 1 over the training images (eq. 4)."""
        uniform = self.rebalance / len(self.frequencies)
        weights = 1 / ((1 - self.rebalance) * self.frequencies + uniform)
        return weights / (self.frequencies * weights).sum()

    def update(self) -> None:
        """Update the running mean of the bins' frequencies."""
        self.frequencies.lerp_(mean_over(self.batch_frequencies.mean(0)), 0.02)

    def scores(self, x: Tensor) -> Tensor:
        """Logits of the bins: images, which are converted to gray, (B, 3, H, W) -> (B, Q, h, w)."""
        x = to_gray(x)
        if not self.of_maps:
            return self.decoder(self.encoder(x)).float()
        maps, features = self.encoder.maps_and_features(x)
        return self.decoder([*maps, features[:, :, None, None]]).float()

    def colors(self, x: Tensor) -> Tensor:
        """Annealed mean of the bins (eq. 5): images (B, 3, H, W) -> ab colors (B, 2, H, W)."""
        p = (self.scores(x) / self.temperature).softmax(1)
        ab = torch.einsum("bqhw,qc->bchw", p, self.bins)
        return F.interpolate(ab, x.shape[2:], mode="bilinear", align_corners=False)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        colorized = lab_to_rgb(torch.cat([rgb_to_lab(x)[:, :1], self.colors(x)], 1))
        return {"image, gray, colorized": torch.stack([x, to_gray(x), colorized], 1)}
