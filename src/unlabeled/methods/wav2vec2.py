"""wav2vec 2.0: a framework for self-supervised learning of speech (Baevski et al. 2020).

Baevski, Zhou, Mohamed, Auli 2020, "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech
Representations", sections 2 and 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, Compose
from unlabeled.augmentations.audio import random_crop
from unlabeled.augmentations.masks import span_masks
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.quantizers import GumbelQuantizer
from unlabeled.encoders.wave_transformer import FrameTransformer
from unlabeled.errors import UserError
from unlabeled.modality import Audio
from unlabeled.objectives.predictive import draw_distractors
from unlabeled.parallel import mean_of, sum_over


class Wav2Vec2(Method):
    """Which quantized latent stood at a masked step? A transformer sees the others.

    Spans of latent frames are replaced by a learned vector before the transformer; the quantizer
    sees the frames themselves. The context c_t of a masked step is compared with its q_t and with
    distractors from other masked steps of the same recording (eq. 3). A second term keeps all codes
    in use.

    As in the authors' code, distractors with the codes of q_t do not count, the second term is 1
    minus the mean perplexity of the codebooks over V, in place of the entropy of eq. 4, and it is
    that of masked steps. As for the paper's larger data set, activations have no penalty and the
    gradient of the convolutions is not scaled down.

    Args:
        mask_prob: p, fraction of the steps that begin a span; the paper's 0.065.
        mask_length: M, steps of a span; the paper's 10.
        distractors: K, of each masked step, drawn with replacement; the paper's 100.
        groups: G, codebooks of the quantizer; the paper's 2.
        codes: V, entries of each codebook; the paper's 320.
        dim: of the vectors that are compared; 256 in the paper's Base.
        temperature: κ of the similarities; the paper's 0.1.
        gumbel_temperature: τ of the Gumbel softmax at the start; the paper's 2.
        final_gumbel_temperature: τ at the end of its geometric fall; the paper's 0.5 for Base.
        ramp_end: fraction of training at which the fall ends; the paper's factor of 0.999995 an
            update reaches 0.5 at 0.69 of 400,000.
        diversity_weight: α, of the second term; the paper's 0.1.
        crop_length: samples of a random crop of each recording; 0 takes all of it; 250,000 in the
            paper's Base.
        weak: augmentation of the recordings (default: none).
    """

    modality = (Audio,)
    default_encoder = {Audio: "wave_transformer"}
    recipe = Recipe(epochs=100, batch_size=64, optimizer="adamw", lr=1e-3, weight_decay=0.01)
    recipes = {"spoken_digits": MINUTES | {"epochs": 40, "lr": 1e-3}}
    presets = {
        # Base: 400,000 updates of 1.6 of 960 hours, 12.3 s a recording; its rate falls linearly.
        # fairseq calls AdamW "adam".
        "paper": {
            "encoder": "wave_transformer",
            "encoder_args": {
                "width": 512, "context": 768, "depth": 12, "heads": 12, "position_kernel": 128,
                "kernels": [10, 3, 3, 3, 3, 2, 2], "strides": [5, 2, 2, 2, 2, 2, 2],
            },
            "codes": 320, "dim": 256, "crop_length": 250_000,
            "epochs": 667, "batch_size": 468, "optimizer": "adamw", "lr": 5e-4, "beta2": 0.98,
            "warmup_epochs": 53, "weight_decay": 0.01,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask_prob: float = 0.065,
        mask_length: int = 10,
        distractors: int = 100,
        groups: int = 2,
        codes: int = 64,
        dim: int = 128,
        temperature: float = 0.1,
        gumbel_temperature: float = 2.0,
        final_gumbel_temperature: float = 0.5,
        ramp_end: float = 0.7,
        diversity_weight: float = 0.1,
        crop_length: int = 0,
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not isinstance(encoder, FrameTransformer):
            raise UserError(
                "wav2vec2 masks latent frames of audio: use --encoder wave_transformer, or "
                "mel_transformer"
            )
        self.mask_token = nn.Parameter(torch.rand(encoder.context))
        self.quantizer = GumbelQuantizer(encoder.width, groups, codes, dim)
        self.head = nn.Linear(encoder.context, dim)
        self.mask_prob, self.mask_length, self.distractors = mask_prob, mask_length, distractors
        self.temperature, self.diversity_weight = temperature, diversity_weight
        start, ratio = gumbel_temperature, final_gumbel_temperature / gumbel_temperature
        self.annealed = lambda t: start * ratio ** (min(1, t / ramp_end) if ramp_end else 1)
        self.crop_length, self.weak = crop_length, weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Audio (B, 1, 1, t), which of its T steps are masked (B, T), the steps of their
        distractors (B, T, K), and Gumbel noise (B, T, G·V).
        """
        x = random_crop(self.weak(batch.x), self.crop_length)
        masked = span_masks(self.encoder.audible(x), self.mask_prob, self.mask_length)
        scores = self.quantizer.scores.out_features
        waiting = torch.empty(*masked.shape, scores, device=x.device).exponential_()
        return x, masked, draw_distractors(masked, self.distractors), -waiting.log()

    def loss(self, views: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Contrastive loss L_m + α L_d (eq. 2)."""
        x, masked, distractors, noise = views
        z = self.encoder.latents(x)  # (B, C, 1, T)
        c = self.head(self.encoder.contexts(z, masked, self.mask_token)).float()  # (B, T, dim)
        frames, tau = z[:, :, 0].transpose(1, 2), self.annealed(self.progress)
        q, codes, shares = self.quantizer(frames, noise, tau)  # (B, T, dim), (B, T, G)
        nll = self.contrast(c, q.float(), codes, distractors)
        contrastive = mean_of(nll.flatten(), masked.flatten())
        return contrastive + self.diversity_weight * unused_codes(shares, masked)

    def contrast(self, c: Tensor, q: Tensor, codes: Tensor, distractors: Tensor) -> Tensor:
        """−log of the share of q_t among it and the distractors, at each step (B, T)."""
        with torch.autocast(c.device.type, enabled=False):
            similarity = F.normalize(c, dim=2) @ F.normalize(q, dim=2).transpose(1, 2)
            logits = similarity / self.temperature  # (B, T, T)
        positive = logits.diagonal(dim1=1, dim2=2)
        is_same = (codes[:, :, None] == codes[:, None]).all(3)
        others = logits.masked_fill(is_same, -torch.inf).gather(2, distractors)  # (B, T, K)
        return torch.cat([positive[:, :, None], others], 2).logsumexp(2) - positive


def unused_codes(shares: Tensor, masked: Tensor) -> Tensor:
    """1 − Σ_g exp(H(p̄_g)) / (G·V), p̄ the mean of shares (B, T, G, V) at all masked steps."""
    chosen = shares * masked[:, :, None, None]
    mean = sum_over(chosen.sum((0, 1))) / sum_over(masked.to(shares).sum()).clamp(min=1)
    entropy = -(mean * (mean + 1e-7).log()).sum(1)  # (G,)
    return 1 - entropy.exp().mean() / shares.shape[3]
