"""Shuffled words: put the words of a sentence, or the sentences of a paragraph, in order again.

Logeswaran, Lee, Radev 2018, "Sentence Ordering and Coherence Modeling using Recurrent Neural
Networks", for the task; the order is scored by Plackett and Luce's model (Xia et al. 2008, ListMLE)
instead of a pointer network.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import pack_tokens, to_tokens
from unlabeled.augmentations.vocabulary import END, FIRST_WORD, PAD, UNKNOWN
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import require_text_encoder
from unlabeled.errors import UserError, notice
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class WordOrder(Method):
    """Each part gets a score, and the part that comes first should have the highest.

    −log p of the right order, where the first part is drawn in proportion to the exponentials of
    the scores, the next one likewise of those that are left, and so on.

    A word is what stands between spaces: its first token and those that continue it move together,
    since a token that only continues others tells where it belongs. Of a sentence, the words
    between its first and its last are taken: the first one's capital and the last one's full stop
    would tell where they stand.

    Args:
        unit: words of a sentence, or sentences.
        number: of words; of sentences all are taken.
        word_starts: for each token of the vocabulary "1" if it begins a word, "0" if it continues
            one; the data set's own unless given, and where there is none, each token is a word.
    """

    modality: ClassVar = (Text,)
    min_sentences: ClassVar = 2
    recipe = Recipe(epochs=5, batch_size=32, lr=1e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(
        self,
        encoder: nn.Module,
        *,
        unit: Literal["words", "sentences"] = "words",
        number: int = 6,
        word_starts: str = "",
    ) -> None:
        super().__init__(encoder)
        known = require_text_encoder(encoder, "word_order", ("bidirectional",))
        if number < 2:
            raise UserError(f"number is {number}, but an order needs at least 2 words")
        self.rank = nn.Sequential(
            nn.Linear(known.dim, known.dim), nn.GELU(), nn.Linear(known.dim, 1)
        )
        self.unit, self.number = unit, number
        marks = word_starts or "1" * known.vocabulary
        if len(marks) != known.vocabulary or set(marks) - {"0", "1"}:
            raise UserError(
                f"word_starts has {len(marks):,} marks, but must have one of 0 and 1 for each of "
                f"the {known.vocabulary:,} tokens; omit it to take the data set's"
            )
        self.starts: Tensor
        self.register_buffer(
            "starts", torch.tensor([mark == "1" for mark in marks]), persistent=False
        )

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Shuffled tokens (B, n), where each part ends in them (B, k), and its place (B, k)."""
        rows = to_tokens(batch.x[:, 0], self.encoder.vocabulary)  # (B, K, L)
        if self.unit == "words":
            return self.shuffled(rows[:, int(torch.randint(rows.shape[1], ()))])
        place = torch.rand(rows.shape[:2], device=rows.device).argsort(1)
        mixed = rows.gather(1, place[:, :, None].expand_as(rows))
        mixed = torch.where(mixed == END, PAD, mixed)
        end = torch.full_like(mixed[:, :, :1], END)  # one for each, even if it was cut
        ids = pack_tokens(torch.cat([mixed, end], 2).flatten(1))
        here = (ids == END).int().argsort(dim=1, descending=True, stable=True)
        return ids, here[:, : rows.shape[1]], place

    def shuffled(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sentences (B, L) as `views` has them; a missing word ends on the padding behind all."""
        known = (ids >= FIRST_WORD) | (ids == UNKNOWN)
        begins = known & self.starts[ids]
        begins[:, 0] = known[:, 0]
        word = begins.cumsum(1) - 2  # (B, L), the first word being −1
        many = (word.masked_fill(~known, -1).amax(1, keepdim=True)).clamp(0, self.number)  # (B, 1)
        each = torch.arange(self.number, device=ids.device)
        draw = torch.rand(len(ids), self.number, device=ids.device) + (each >= many)
        place = draw.argsort(1)  # which word goes where, missing ones last
        target = place.argsort(1)  # where each word goes
        taken = known & (word >= 0) & (word < many)
        to = target.gather(1, word.clamp(0, self.number - 1)).masked_fill(~taken, self.number)
        order = to.argsort(dim=1, stable=True)  # tokens of a word stay in order
        mixed = ids.gather(1, order).masked_fill(~taken.gather(1, order), PAD)
        longest = int(taken.sum(1).max())
        if not longest:
            message = "a batch has no sentence of three words with spaces between to shuffle"
            notice(f"{message}: take unit sentences for such texts")
        length = (to[:, :, None] == each).sum(1)  # (B, k) tokens of the word at each place
        here = torch.where(length > 0, length.cumsum(1) - 1, longest)
        return F.pad(mixed[:, :longest], (0, 1), value=PAD), here, place

    def asked(self, ids: Tensor, here: Tensor) -> Tensor:
        """Which parts (B, k) are there: short sentences have fewer words than are asked for."""
        return ids.gather(1, here) != PAD

    def scores(self, ids: Tensor, here: Tensor) -> Tensor:
        """Of each part, how early it came, by the mean of its states: (B, k)."""
        states = self.encoder.states(ids)[:, 1:]
        end, at = here[:, :, None], torch.arange(ids.shape[1], device=ids.device)
        begin = F.pad(end[:, :-1] + 1, (0, 0, 1, 0))
        within = ((begin <= at) & (at <= end)).to(states.dtype)  # (B, k, n)
        means = within @ states / within.sum(2, keepdim=True).clamp(min=1)
        return self.rank(means)[:, :, 0].float()

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """−log p of the right order, for each part: log k! / k where nothing is known."""
        ids, here, place = views
        first = place.argsort(1)  # where the first one went, and the second …
        asked = self.asked(ids, here).gather(1, first)
        ordered = self.scores(ids, here).gather(1, first).masked_fill(~asked, -1e4)
        left = ordered.flip(1).logcumsumexp(1).flip(1)
        return mean_of(left - ordered, asked)
