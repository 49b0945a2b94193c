"""BEST-RQ: BERT-based speech pre-training with a random-projection quantizer (Chiu et al. 2022).

Chiu, Qin, Zhang, Yu, Wu 2022, "Self-Supervised Learning with Random-Projection Quantizer for Speech
Recognition", section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, Compose
from unlabeled.augmentations.audio import random_crop
from unlabeled.augmentations.masks import span_masks
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.quantizers import RandomProjectionQuantizer
from unlabeled.encoders.wave import at_least
from unlabeled.encoders.wave_transformer import FrameTransformer, LogMel
from unlabeled.errors import UserError
from unlabeled.modality import Audio
from unlabeled.parallel import mean_of


class BestRQ(Method):
    """A network sees noise in place of masked mel bands and predicts their codes.

    The code of a frame is the nearest of fixed random vectors to a fixed random projection of the
    mel windows that the frame is made of. These are standardized first, each band over its
    recording, without which most frames would have the same code; statistics of the data set as in
    the paper would need a pass over it. The masks are wav2vec 2.0's, of a fixed share of steps,
    where the paper draws for each step whether it begins a span.

    Args:
        codes: number of codebook vectors; the paper's 8192.
        code_dim: dimension of these; the paper's 16.
        mask_prob: fraction of the frames that begin a span; the paper's 0.01 of frames of 10 ms is
            0.04 of its frames of 40 ms.
        mask_length: frames of a span; the paper's 400 ms.
        noise_std: standard deviation of the noise, whose mean is 0; the paper's 0.1.
        crop_length: samples of a random crop of each recording; 0 takes all of it.
        weak: augmentation of the recordings (default: none).
    """

    modality = (Audio,)
    default_encoder = {Audio: "mel_transformer"}
    recipe = Recipe(epochs=100, batch_size=64, optimizer="adamw", lr=1e-3, weight_decay=0.01)
    recipes = {"spoken_digits": MINUTES | {"epochs": 40, "lr": 1e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        codes: int = 512,
        code_dim: int = 16,
        mask_prob: float = 0.04,
        mask_length: int = 10,
        noise_std: float = 0.1,
        crop_length: int = 0,
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        first = encoder.stages[0] if isinstance(encoder, FrameTransformer) else None
        if not isinstance(first, LogMel):
            raise UserError("best_rq predicts codes of mel bands: use --encoder mel_transformer")
        self.windows = self.encoder.windows
        self.quantizer = RandomProjectionQuantizer(self.windows * first.bands, codes, code_dim)
        self.head = nn.Linear(self.encoder.context, codes)
        self.mask_prob, self.mask_length, self.noise_std = mask_prob, mask_length, noise_std
        self.crop_length, self.weak = crop_length, weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Audio (B, 1, 1, t), which of its T frames are masked (B, T), and noise for the windows
        that these are made of, (B, bands, T·windows).
        """
        x = random_crop(self.weak(batch.x), self.crop_length)
        masked = span_masks(self.encoder.audible(x), self.mask_prob, self.mask_length)
        shape = len(x), self.encoder.stages[0].bands, masked.shape[1] * self.windows
        return x, masked, self.noise_std * torch.randn(shape, device=x.device)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Mean negative log-likelihood of the code of a masked frame, in nats."""
        x, masked, noise = views
        n = noise.shape[2]
        bands = at_least(self.encoder.stages[0](x), n)[..., :n]  # (B, bands, 1, T·windows)
        logits = self.scores(bands, masked, noise)[masked].float()
        nll = F.cross_entropy(logits, self.targets(bands)[masked], reduction="none")
        return mean_of(nll, torch.ones_like(nll, dtype=torch.bool))

    def scores(self, bands: Tensor, masked: Tensor, noise: Tensor) -> Tensor:
        """Logits of the codes of all frames, (B, T, codes), whose masked ones are noise."""
        hidden = masked.repeat_interleave(self.windows, 1)[:, None, None]
        bands = torch.where(hidden, noise[:, :, None].to(bands.dtype), bands)
        return self.head(self.encoder.contexts(self.encoder.latents(bands, start=1)))

    @torch.no_grad()
    def targets(self, bands: Tensor) -> Tensor:
        """Codes of all frames, (B, T), of bands (B, bands, 1, T·windows)."""
        x = bands[:, :, 0].float()
        audible = (x != 0).any(1, keepdim=True)
        count = audible.sum(2, keepdim=True).clamp(min=1)
        x = (x - x.sum(2, keepdim=True) / count) * audible
        x = x / (x.pow(2).sum(2, keepdim=True) / count + 1e-5).sqrt()
        return self.quantizer(x.unflatten(2, (-1, self.windows)).permute(0, 2, 3, 1).flatten(2))
