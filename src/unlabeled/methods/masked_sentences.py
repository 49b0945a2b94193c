"""Masked sentences: identify the masked sentence of a text among others (Zhang et al. 2019).

A masked language model on sentences: a small transformer over the vectors of a text's sentences
predicts a masked one's vector. The hierarchy is that of Zhang, Wei, Zhou 2019, "HIBERT: Document
Level Pre-training of Hierarchical Bidirectional Transformers"; the loss is InfoNCE (van den Oord,
Li, Vinyals 2018) instead of decoding words.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import to_vocabulary
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.attention import check_heads
from unlabeled.encoders.text import require_text_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Text
from unlabeled.objectives import info_nce
from unlabeled.parallel import gather

MOST_SENTENCES = 64
"""Sentences of a text at most, each of which has a learned position."""


class MaskedSentences(Method):
    """The surrounding sentences predict the masked one, against those of all texts of the batch.

    Args:
        temperature: τ of the loss.
        heads: attention heads of the transformer over sentences.
    """

    modality = (Text,)
    min_sentences = 2
    recipe = Recipe(epochs=5, batch_size=32, lr=1e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, temperature: float = 0.1, heads: int = 4) -> None:
        super().__init__(encoder)
        d = require_text_encoder(encoder, "masked_sentences").dim
        check_heads(d, heads)
        self.positions = nn.Parameter(torch.randn(MOST_SENTENCES, d) * 0.02)
        self.mask_vector = nn.Parameter(torch.randn(d) * 0.02)
        self.context = nn.TransformerEncoderLayer(
            d, heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.query, self.key = nn.Linear(d, d), nn.Linear(d, d)
        self.temperature = temperature

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sentences (B, K, L), and which one of each text is masked (B,).

        Raises:
            UserError: texts have more sentences than there are positions.
        """
        rows = to_vocabulary(batch.x, self.encoder.vocabulary)
        if rows.shape[1] > MOST_SENTENCES:
            raise UserError(
                f"masked_sentences takes texts of {MOST_SENTENCES} sentences at most, not "
                f"{rows.shape[1]}; give shorter ones"
            )
        return rows, torch.randint(rows.shape[1], (len(rows),), device=rows.device)

    def query_and_key(self, rows: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (B, dim) predicted for the masked sentence, and of that sentence."""
        n, k, _ = rows.shape
        z = self.encoder.features(rows.flatten(0, 1)).view(n, k, -1)
        is_masked = (torch.arange(k, device=masked.device) == masked[:, None])[:, :, None]
        visible = torch.where(is_masked, self.mask_vector.to(z.dtype), z) + self.positions[:k]
        position = torch.arange(n, device=masked.device), masked
        query, key = self.query(self.context(visible)[position]), self.key(z[position])
        return F.normalize(query.float(), dim=1), F.normalize(key.float(), dim=1)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """InfoNCE over the masked sentences of all processes."""
        query, key = (gather(v) for v in self.query_and_key(*views))
        return info_nce(query, key, self.temperature)
