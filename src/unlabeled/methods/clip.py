"""CLIP: which of some partners belongs to an image, and which image to a partner?

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
figure 3. A partner is a caption, or anything else that comes with the image, such as a sound.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomAffine
from unlabeled.augmentations.tokens import pack_tokens
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.base import build
from unlabeled.encoders.text import TextEncoder
from unlabeled.modality import Pairs
from unlabeled.objectives import clip
from unlabeled.parallel import gather, row_ids

COLDEST = math.log(100.0)
"""Of the logarithm of 1/τ, above which the paper does not let it rise (section 2.5)."""


class Clip(Method):
    """An encoder for each sense, a linear map from each into one space, cosines over a temperature.

    Images whose drawn captions are equal, token by token, are no negatives of each other, nor are
    the captions of equal images; each counts as right. open_clip takes them for negatives.

    Args:
        partner: encoder of the partners; text_transformer for captions, small for sounds.
        layers: of a transformer that reads captions.
        dim: of the space that both are mapped into.
        temperature: τ at the start; it is learned.
        augment: the views of the images; the data set's own unless given.
        partner_shape: of an image's partners, how many to draw from and each one's tokens, or rows
            and columns; the data set's own unless given.
        vocabulary: number of tokens; the data set's own unless given.
    """

    modality: ClassVar = (Pairs,)
    # The paper: batch 32,768, 32 epochs of 400 million pairs; this is for some thousand on a core.
    recipe = Recipe(epochs=60, batch_size=128, lr=1e-3, weight_decay=0.1, grad_clip_norm=1.0)
    recipes: ClassVar = {"audiovisual_digits": {"partner": "small", "epochs": 30, "dim": 32}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        partner: str = "text_transformer",
        layers: int = 2,
        dim: int = 128,
        temperature: float = 0.07,
        augment: Augmentation | None = None,
        partner_shape: tuple[int, ...] = (1, 32),
        vocabulary: int = 4096,
    ) -> None:
        super().__init__(encoder)
        self.written = len(partner_shape) == 2
        size = (1, partner_shape[1]) if self.written else partner_shape[1:]
        told = {"vocabulary": vocabulary, "layers": layers}
        options = told if self.written else {}
        self.partner: Any = build(partner, 1, size, **options)  # type: ignore[arg-type]
        partner_dim: Any = self.partner.dim
        self.see = nn.Linear(self.encoder.dim, dim, bias=False)
        self.hear = nn.Linear(partner_dim, dim, bias=False)
        self.scale = nn.Parameter(torch.tensor(-math.log(temperature)))  # log 1/τ
        self.augment = augment or RandomAffine()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A view of each image (B, C, H, W), one of its partners, drawn, (B, …), and which image it
        is (B,): equal ones have the same number.
        """
        if batch.partners is None:
            raise ValueError("images came without partners")
        drawn = torch.randint(
            batch.partners.shape[1], (len(batch.partners),), device=batch.partners.device
        )
        rows = torch.arange(len(drawn), device=drawn.device)
        return self.augment(batch.x), batch.partners[rows, drawn], row_ids(batch.x)

    def project(self, x: Tensor) -> Tensor:
        """LazyImages (B, C, H, W) -> unit vectors (B, dim)."""
        return F.normalize(self.see(self.encoder(x)).float(), dim=1)

    def project_partner(self, y: Tensor) -> Tensor:
        """Tokens (B, n), or sounds (B, rows, columns) of bytes, -> unit vectors (B, dim)."""
        if isinstance(self.partner, TextEncoder):
            z = self.partner.features(pack_tokens(y.long()))
        else:
            z = self.partner(y[:, None].float() / 255)
        return F.normalize(self.hear(z).float(), dim=1)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Cross-entropy both ways over the batch of all processes."""
        x, y, image = views
        seen, told = gather(self.project(x)), gather(self.project_partner(y))
        return clip(seen, told, self.scale.exp(), gather(image), gather(row_ids(y)))

    def update(self) -> None:
        """The temperature stays above 0.01."""
        self.scale.clamp_(max=COLDEST)
