"""Next word: say each word from those before it.

Bengio, Ducharme, Vincent, Jauvin 2003, "A Neural Probabilistic Language Model"; Radford et al. 2018
for transformers, Mikolov et al. 2010 and Zaremba et al. 2014 for recurrent nets.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from unlabeled.augmentations.vocabulary import FIRST_WORD, PAD
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import LanguageModelHead, require_text_encoder
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class CausalLM(Method):
    """p(text) = Π p(w_i | w_1 … w_{i−1}), by a causal transformer or an LSTM.

    Args:
        cut: texts begin at a random place in training, at most this share from their start, so
            that no word always stands at the same place.
    """

    modality: ClassVar = (Text,)
    encoder_args: ClassVar = {"direction": "causal"}
    recipe = Recipe(epochs=4, batch_size=32, lr=2e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, cut: float = 0.25) -> None:
        super().__init__(encoder)
        known = require_text_encoder(encoder, "causal_lm", ("causal",))
        self.says, self.cut = LanguageModelHead(known.dim, known), cut

    def views(self, batch: Batch) -> Tensor:
        """Tokens (B, n)."""
        ids = self.encoder.tokens(batch.x)
        first = int(torch.randint(int(self.cut * ids.shape[1]) + 1, ()))
        return ids[:, first:]

    def loss(self, views: Tensor) -> Tensor:
        """Mean surprise of a word, in nats."""
        return mean_of(self.surprise(views), views != PAD)

    def surprise(self, ids: Tensor) -> Tensor:
        """−log p of each token given those before, nats: (B, n) -> (B, n)."""
        return self.says.negative_log_likelihood(
            self.encoder.states(ids)[:, :-1], ids, self.encoder
        )

    @torch.no_grad()
    def say(self, given: Tensor, number: int, warmth: float = 0.8) -> Tensor:
        """Tokens (B, n) gone on from by so many, drawn at a temperature; specials are not drawn."""
        for _ in range(number):
            scores = self.says(self.encoder.states(given)[:, -1], self.encoder) / warmth
            scores[:, :FIRST_WORD] = -torch.inf
            given = torch.cat([given, torch.multinomial(scores.softmax(1), 1)], 1)
        return given
