"""Masked sentences: which sentence stood here, in the middle of a text?

As masked words, on whole sentences: a small transformer reads the vectors of a text's sentences,
one of them hidden, and says the hidden one's vector, among those of all texts of the batch. The
loss is that of van den Oord, Li, Vinyals 2018; the hierarchy that of Zhang, Wei, Zhou 2019
(HIBERT).
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import to_tokens
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import require_text_encoder
from unlabeled.modality import Text
from unlabeled.objectives import info_nce
from unlabeled.parallel import gather


class MaskedSentences(Method):
    """The sentences around foretell the one that is hidden, against all others of the batch.

    Args:
        temperature: τ of the loss.
        heads: of attention among the sentences.
    """

    modality: ClassVar = (Text,)
    min_sentences: ClassVar = 2
    recipe = Recipe(epochs=5, batch_size=32, lr=1e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, temperature: float = 0.1, heads: int = 4) -> None:
        super().__init__(encoder)
        d = require_text_encoder(encoder, "masked_sentences").dim
        self.places = nn.Parameter(torch.randn(64, d) * 0.02)
        self.hidden = nn.Parameter(torch.randn(d) * 0.02)
        self.context = nn.TransformerEncoderLayer(
            d, heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.query, self.key = nn.Linear(d, d), nn.Linear(d, d)
        self.temperature = temperature

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sentences (B, K, L), and which one of each text is hidden (B,)."""
        rows = to_tokens(batch.x[:, 0], self.encoder.vocabulary)
        return rows, torch.randint(rows.shape[1], (len(rows),), device=rows.device)

    def pair(self, rows: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """What is foretold of the hidden sentence, and that sentence: unit vectors (B, dim)."""
        n, k, _ = rows.shape
        z = self.encoder.features(rows.flatten(0, 1)).view(n, k, -1)
        gone = (torch.arange(k, device=at.device) == at[:, None])[:, :, None]
        seen = torch.where(gone, self.hidden.to(z.dtype), z) + self.places[:k]
        place = torch.arange(n, device=at.device), at
        foretold = self.query(self.context(seen)[place])
        return (F.normalize(v.float(), dim=1) for v in (foretold, self.key(z[place])))  # type: ignore[return-value]

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """InfoNCE over the hidden sentences of all processes."""
        foretold, true = (gather(v) for v in self.pair(*views))
        return info_nce(foretold, true, self.temperature)
