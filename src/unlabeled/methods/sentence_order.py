"""Sentence order prediction, as in ALBERT (Lan et al. 2020).

Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
section 3.1. The topic, by which a next sentence can be recognized, does not help here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import to_vocabulary
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import SentencePairHead, require_text_encoder
from unlabeled.modality import Text


class SentenceOrder(Method):
    """Two halves of a text are scored in both orders; the original one should score higher.

    ALBERT classifies one order; comparing both, in which the content of a text cancels out, needs
    fewer texts.

    Args:
        mlm_weight: weight of the masked language model's loss; 0 masks nothing; 1 in ALBERT.
        mask_ratio: fraction of the tokens that are predicted; 0.15 in BERT.
    """

    modality = (Text,)
    min_sentences = 2
    recipe = Recipe(epochs=5, batch_size=32, lr=3e-4, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(
        self, encoder: nn.Module, *, mlm_weight: float = 1.0, mask_ratio: float = 0.15
    ) -> None:
        super().__init__(encoder)
        require_text_encoder(encoder, "sentence_order", ("bidirectional", "causal"))
        self.head = SentencePairHead(self.encoder, mlm_weight, mask_ratio)

    def halves(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens of the first half and of the second, (B, K / 2 · L) each."""
        half = batch.x.shape[1] // 2
        rows = to_vocabulary(batch.x, self.encoder.vocabulary)  # (B, K, L)
        return rows[:, :half].flatten(1), rows[:, half : 2 * half].flatten(1)

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Masked tokens, all tokens, which are predicted, (2 B, n) each, and where the later half
        begins (2 B,): all texts in their order, then all with their halves swapped.
        """
        first, second = self.halves(batch)
        before, after = torch.cat([first, second]), torch.cat([second, first])
        return self.head.views(before, after, self.encoder)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of the original order of the two, and of the masked tokens."""
        logits, mlm_loss = self.head(views, self.encoder)
        original, swapped = logits.chunk(2)
        return F.softplus(swapped - original).mean() + mlm_loss

    def correct(self, batch: Batch) -> Tensor:
        """Whether each prediction is correct (B,)."""
        first, second = self.halves(batch)
        original = self.head.score(first, second, self.encoder)
        return original > self.head.score(second, first, self.encoder)
