"""Denoising autoencoder, end to end or stacked (Vincent et al. 2010).

Vincent, Larochelle, Lajoie, Bengio, Manzagol 2010, "Stacked Denoising Autoencoders: Learning Useful
Representations in a Deep Network with a Local Denoising Criterion", sections 3–4.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.decoders import stage_decoders
from unlabeled.encoders.heads import deconv
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.utils.state import eval_mode


class DenoisingAutoencoder(Method):
    """The encoder sees a corrupted image, and a decoder reconstructs the clean one.

    Trained end to end, or stacked as in the paper: the encoder's stages are trained one after
    another, each on the corrupted output of the frozen stages before it, and finally all together.

    Args:
        noise: "masking" sets some pixels to 0, "salt_pepper" to 0 or 1, in all channels, and of
            maps between stages each value by itself; "gaussian" is additive.
        noise_level: the fraction of pixels, or the standard deviation; from 0 to 1.
        reconstruction_loss: "cross_entropy" of pixels, for black and white images; or "mse".
        stacked: whether stages are trained one after another, for the same time each.
        decoder_width: channels of the decoder's last layer.
        shape: channels, height and width of the images (default: the data set's).
    """

    modality = (Images,)
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {
        "dsprites": MINUTES | {"epochs": 20, "lr": 2e-3, "reconstruction_loss": "cross_entropy"},
        "fashion_mnist": MINUTES | {"epochs": 12, "lr": 2e-3},
        "cifar10": MINUTES | {"epochs": 12, "lr": 2e-3, "noise": "gaussian", "noise_level": 0.4},
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        noise: Literal["masking", "salt_pepper", "gaussian"] = "masking",
        noise_level: float = 0.3,
        reconstruction_loss: Literal["cross_entropy", "mse"] = "mse",
        stacked: bool = False,
        decoder_width: int = 16,
        shape: tuple[int, int, int] = (3, 32, 32),
    ) -> None:
        super().__init__(encoder)
        if not 0 < noise_level < 1:
            raise UserError(f"noise_level is {noise_level}, but must be above 0 and below 1")
        self.noise, self.noise_level, self.trains_in_turns = noise, noise_level, stacked
        self.reconstruction_loss = reconstruction_loss
        self.decoder = deconv(self.encoder.dim, shape, decoder_width)
        self.stage_decoders = nn.ModuleList(stage_decoders(self.encoder, shape) if stacked else [])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Corrupted images and clean ones, (B, C, H, W) each."""
        return self.corrupt(batch.x), batch.x

    def corrupt(self, x: Tensor, by_channel: bool = False) -> Tensor:
        """Images, or feature maps by channel, (B, C, H, W) with noise."""
        if self.noise == "gaussian":
            return x + self.noise_level * torch.randn_like(x)
        places = x if by_channel else x[:, :1]
        chosen = torch.rand_like(places) < self.noise_level
        if self.noise == "masking":
            return x.masked_fill(chosen, 0)
        return torch.where(chosen, (torch.rand_like(places) < 0.5).to(x), x)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The reconstruction loss, of all stages together or of the one in training."""
        corrupted, clean = views
        stage = int(self.progress * (len(self.stage_decoders) + 1))
        if stage < len(self.stage_decoders):
            return self.stage_loss(stage, corrupted, clean)
        logits = self.decoder(self.encoder(corrupted)).float()
        if self.reconstruction_loss == "mse":
            return F.mse_loss(logits.sigmoid(), clean)
        return F.binary_cross_entropy_with_logits(logits, clean)

    def stage_loss(self, stage: int, corrupted: Tensor, clean: Tensor) -> Tensor:
        """Squared error of a stage's clean input, reconstructed from a corrupted one."""
        if stage:
            before = self.encoder.stages[:stage]
            with torch.no_grad(), eval_mode(before):  # BatchNorm is frozen, too
                for layer in before:
                    clean = layer(clean)
            corrupted = self.corrupt(clean, by_channel=True)
        reconstruction = self.stage_decoders[stage](self.encoder.stages[stage](corrupted))
        return F.mse_loss(reconstruction.float(), clean.float())

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        corrupted = self.corrupt(x)
        reconstruction = self.decoder(self.encoder(corrupted)).float().sigmoid()
        images = torch.stack([x, corrupted.clamp(0, 1), reconstruction], 1)
        return {"clean, corrupted, reconstruction": images}
