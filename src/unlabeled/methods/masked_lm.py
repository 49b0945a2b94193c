"""Masked words: say which word was hidden.

Devlin, Chang, Lee, Toutanova 2019, "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", section 3.1; masks drawn anew each time as in Liu et al. 2019 (RoBERTa).
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import mask_tokens
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import LanguageModelHead, require_text_encoder
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class MaskedLM(Method):
    """A share of the words is hidden, of those 80 % by a mask, 10 % by another word.

    Words are tokens here. As in the paper, each is hidden by itself, so that the pieces of a word
    that are still seen help to find a hidden one; BERT's later release hides whole words.

    Args:
        share: of the words that are asked for.
    """

    modality: ClassVar = (Text,)
    # Batch and epochs for minutes on a core; BERT takes 256 texts of 512 tokens, a million steps.
    recipe = Recipe(epochs=4, batch_size=32, lr=2e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, share: float = 0.15) -> None:
        super().__init__(encoder)
        known = require_text_encoder(encoder, "masked_lm", ("bidirectional",))
        self.says, self.share = LanguageModelHead(known.dim, known), share

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What is seen, the whole text, and which words are asked for, (B, n) each."""
        ids = self.encoder.tokens(batch.x)
        seen, chosen = mask_tokens(ids, self.encoder.vocabulary, self.share)
        return seen, ids, chosen

    def scores(self, seen: Tensor, chosen: Tensor) -> Tensor:
        """Of each token at each place that is asked for: (m, vocabulary)."""
        return self.says(self.encoder.states(seen)[:, 1:][chosen], self.encoder)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Mean surprise of a hidden word, in nats."""
        seen, ids, chosen = views
        surprise = F.cross_entropy(self.scores(seen, chosen), ids[chosen], reduction="none")
        return mean_of(surprise, torch.ones_like(surprise, dtype=torch.bool))
