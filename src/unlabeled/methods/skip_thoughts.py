"""Neighboring sentences: from what was said, say what was said before and what comes next.

Kiros et al. 2015, "Skip-Thought Vectors", section 2.1.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import to_tokens
from unlabeled.augmentations.vocabulary import PAD, START
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import TextEncoder, require_text_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class SkipThoughts(Method):
    """Three sentences in a row: the middle one's features tell two recurrent nets the others.

    Args:
        width: of the two decoders' states.
    """

    modality: ClassVar = (Text,)
    min_sentences: ClassVar = 2
    recipe = Recipe(epochs=3, batch_size=32, lr=2e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, width: int = 128) -> None:
        super().__init__(encoder)
        known = require_text_encoder(encoder, "skip_thoughts")
        self.before, self.after = Decoder(known, width), Decoder(known, width)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A sentence, the one before it and the one after it, (B, L) each; of more rows, drawn."""
        rows = to_tokens(batch.x[:, 0], self.encoder.vocabulary)  # (B, K, L)
        if rows.shape[1] < 3:
            raise UserError(
                "skip_thoughts needs three sentences in a row; give --data sentences:FOLDER"
            )
        at = int(torch.randint(1, rows.shape[1] - 1, ()))
        return rows[:, at], rows[:, at - 1], rows[:, at + 1]

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Mean surprise of a word of both neighbors, in nats."""
        middle, before, after = views
        z = self.encoder.features(middle)
        said = torch.cat([self.before(z, before, self.encoder), self.after(z, after, self.encoder)])
        return mean_of(said, torch.cat([before, after]) != PAD)


class Decoder(nn.Module):
    """A gated recurrent net that a vector tells what to say, word after word.

    Args:
        encoder: whose tokens it says.
        width: of its states.
    """

    def __init__(self, encoder: TextEncoder, width: int) -> None:
        super().__init__()
        self.told = nn.Linear(encoder.dim, width)
        self.net = nn.GRU(encoder.width + width, width, batch_first=True)
        self.says = nn.Linear(width, encoder.width)

    def forward(self, z: Tensor, ids: Tensor, encoder: TextEncoder) -> Tensor:
        """Surprise of each word (B, n) of a sentence, in nats, given features z (B, dim)."""
        start = torch.full_like(ids[:, :1], START)
        h = encoder.embed(torch.cat([start, ids[:, :-1]], 1))  # (B, n, width)
        told = self.told(z)[:, None].expand(-1, ids.shape[1], -1).to(h.dtype)
        states = self.net(torch.cat([h, told], 2))[0]
        scores = F.linear(self.says(states), encoder.embed.weight).float().flatten(0, 1)
        return F.cross_entropy(scores, ids.flatten(), reduction="none").view(ids.shape)
