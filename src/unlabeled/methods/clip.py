"""CLIP: transferable visual models from natural language supervision (Radford et al. 2021).

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
figure 3. The partner of an image is a caption, or anything else that comes with it, such as audio.
SigLIP: Zhai, Mustafa, Kolesnikov, Beyer 2023, "Sigmoid Loss for Language Image Pre-Training".
LiT: Zhai et al. 2022, "LiT: Zero-Shot Transfer with Locked-image text Tuning".
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomAffine
from unlabeled.augmentations.tokens import pack_tokens
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.base import build
from unlabeled.encoders.text import TextEncoder
from unlabeled.modality import Pairs
from unlabeled.objectives import clip, siglip
from unlabeled.parallel import gather, row_ids


class Clip(Method):
    """An image encoder and a partner encoder with linear projections into one space.

    Embeddings are compared by cosine similarity over a learned temperature. Images whose sampled
    captions are equal token by token are not negatives of each other, nor are captions of equal
    images; each counts as a positive. open_clip treats them as negatives.

    Args:
        objective: "clip", a softmax over the batch, or "siglip", a sigmoid for each pair with a
            learned temperature and bias (SigLIP).
        lock_image: keep the image encoder as it is, as LiT does; give a pretrained one with --init.
            As in LiT, its features then have no projection.
        partner_encoder: text_transformer for captions, small for audio.
        text_layers: layers of a transformer for captions; 0 has a mean of embedded words.
        dim: width of the shared embedding space; 512 and more in the paper. A locked image
            encoder's own.
        temperature: initial τ (default: CLIP's 0.07, SigLIP's 0.1).
        augment: random augmentation of the images (default: the data set's).
        partner_shape: of an image's partners, how many there are to sample from and each one's
            tokens, or rows and columns (default: the data set's).
        vocabulary: number of tokens (default: the data set's).
    """

    modality = (Pairs,)
    may_be_zero = ("text_layers",)
    # The paper: batch size 32,768, 32 epochs of 400 million pairs; this is for some thousand pairs
    # on a core.
    recipe = Recipe(epochs=60, batch_size=128, lr=1e-3, weight_decay=0.1, grad_clip_norm=1.0)
    # Bags of words find more on held-out training pairs of emoji than transformers.
    recipes = {
        "audiovisual_digits": {"partner_encoder": "small", "epochs": 30, "dim": 32},
        "emoji": {"text_layers": 0},
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        objective: Literal["clip", "siglip"] = "clip",
        lock_image: bool = False,
        partner_encoder: str = "text_transformer",
        text_layers: int = 2,
        dim: int = 128,
        temperature: float | None = None,
        augment: Augmentation | None = None,
        partner_shape: tuple[int, ...] = (1, 32),
        vocabulary: int = 4096,
    ) -> None:
        super().__init__(encoder)
        is_text = len(partner_shape) == 2
        size: Any = (1, partner_shape[1]) if is_text else partner_shape[1:]
        options: Any = {"vocabulary": vocabulary, "layers": text_layers} if is_text else {}
        self.partner_encoder: Any = build(partner_encoder, 1, size, **options)
        partner_dim: Any = self.partner_encoder.dim
        self.image_projection: nn.Module = nn.Linear(self.encoder.dim, dim, bias=False)
        self.lock_image, self.objective = lock_image, objective
        if lock_image:
            self.encoder.requires_grad_(False).eval()
            self.image_projection, dim = nn.Identity(), self.encoder.dim
        self.partner_projection = nn.Linear(partner_dim, dim, bias=False)
        temperature = temperature or {"clip": 0.07, "siglip": 0.1}[objective]
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))  # log 1/τ
        if objective == "siglip":
            self.logit_bias = nn.Parameter(torch.tensor(-10.0))  # the paper's, section 3.2
        self.augment = augment or RandomAffine()

    def train(self, mode: bool = True) -> "Clip":
        """A locked image encoder stays in eval mode: BatchNorm's running statistics, no dropout."""
        super().train(mode)
        if self.lock_image:
            self.encoder.eval()
        return self

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A view of each image (B, C, H, W), one of its partners (B, …), and a number for each
        image (B,), which is the same for equal ones.
        """
        if batch.partners is None:
            raise ValueError("images came without partners")
        partners = batch.partners  # (B, K, …)
        which = torch.randint(partners.shape[1], (len(partners),), device=partners.device)
        rows = torch.arange(len(which), device=which.device)
        return self.augment(batch.x), partners[rows, which], row_ids(batch.x)

    def project(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> unit vectors (B, dim)."""
        return F.normalize(self.image_projection(self.encoder(x)).float(), dim=1)

    def project_partner(self, y: Tensor) -> Tensor:
        """Tokens (B, n), or audio (B, rows, columns) of bytes, -> unit vectors (B, dim)."""
        if isinstance(self.partner_encoder, TextEncoder):
            z = self.partner_encoder.features(pack_tokens(y.long()))
        else:
            z = self.partner_encoder(y[:, None].float() / 255)
        return F.normalize(self.partner_projection(z).float(), dim=1)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Symmetric cross-entropy, or the sigmoid loss, over all processes' batch."""
        x, y, image = views
        a, b = gather(self.project(x)), gather(self.project_partner(y))
        same, scale = (gather(image), gather(row_ids(y))), self.logit_scale.exp()
        if self.objective == "siglip":
            return siglip(a, b, scale, self.logit_bias, *same)
        return clip(a, b, scale, *same)

    def update(self) -> None:
        """Limit CLIP's logit scale, so that τ stays at least 0.01 (the paper's section 2.5)."""
        if self.objective == "clip":
            self.logit_scale.clamp_(max=math.log(100))
