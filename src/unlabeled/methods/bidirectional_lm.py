"""Surrounded word: say each word from all before it and all after it.

Peters et al. 2018, "Deep contextualized word representations" (ELMo), has one network read from
each side and asks each for the word; here both are asked together, so that the word is told by its
surroundings, as in Melamud, Goldberger, Dagan 2016 (context2vec).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from unlabeled.augmentations.vocabulary import PAD
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import LanguageModelHead, require_text_encoder
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class BidirectionalLM(Method):
    """p(w_i | all other words), by two networks that read towards the word from either side.

    Args:
        cut: texts begin at a random place in training, at most this share from their start.
    """

    modality: ClassVar = (Text,)
    encoder_args: ClassVar = {"direction": "forward_backward"}
    recipe = Recipe(epochs=4, batch_size=32, lr=2e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, cut: float = 0.25) -> None:
        super().__init__(encoder)
        known = require_text_encoder(encoder, "bidirectional_lm", ("forward_backward",))
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
        """−log p of each token given all others, nats: (B, n) -> (B, n)."""
        states = torch.cat(self.encoder.left_and_right_states(ids), 2)
        return self.says.negative_log_likelihood(states, ids, self.encoder)
