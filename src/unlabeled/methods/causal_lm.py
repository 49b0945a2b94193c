"""Causal language model: predict each token from those before it (Bengio et al. 2003).

Bengio, Ducharme, Vincent, Jauvin 2003, "A Neural Probabilistic Language Model"; Radford et al. 2018
for transformers, Mikolov et al. 2010 and Zaremba et al. 2014 for recurrent networks.
"""

import torch
from torch import Tensor, nn

from unlabeled.augmentations.tokens import random_start
from unlabeled.augmentations.vocabulary import FIRST_WORD, PAD
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import LanguageModelHead, require_text_encoder
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class CausalLM(Method):
    """p(text) = Π p(w_i | w_1 … w_{i−1}), by a causal transformer or an LSTM.

    Args:
        random_start: largest fraction of a text that is skipped at its start in training, so that
            words occur at different positions.
    """

    modality = (Text,)
    encoder_args = {"direction": "causal"}
    recipe = Recipe(epochs=4, batch_size=32, lr=2e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, random_start: float = 0.25) -> None:
        super().__init__(encoder)
        require_text_encoder(encoder, "causal_lm", ("causal",))
        self.lm_head = LanguageModelHead(self.encoder.dim, self.encoder)
        self.random_start = random_start

    def views(self, batch: Batch) -> Tensor:
        """Tokens (B, n)."""
        return random_start(self.encoder.tokens(batch.x), self.random_start)

    def loss(self, views: Tensor) -> Tensor:
        """Mean negative log-likelihood of a token, in nats."""
        return mean_of(self.negative_log_likelihood(views), views != PAD)

    def negative_log_likelihood(self, ids: Tensor) -> Tensor:
        """−log p of each token given those before, nats: (B, n) -> (B, n)."""
        states = self.encoder.states(ids)[:, :-1]
        return self.lm_head.negative_log_likelihood(states, ids, self.encoder)

    @torch.no_grad()
    def generate(self, prefix: Tensor, number: int, temperature: float = 0.8) -> Tensor:
        """Tokens (B, n), continued by a number of words sampled at a temperature."""
        ids = prefix
        for _ in range(number):
            scores = self.lm_head(self.encoder.states(ids)[:, -1], self.encoder) / temperature
            scores[:, :FIRST_WORD] = -torch.inf
            ids = torch.cat([ids, torch.multinomial(scores.softmax(1), 1)], 1)
        return ids
