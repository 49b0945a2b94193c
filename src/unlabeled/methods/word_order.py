"""Word order and sentence order by ranking shuffled parts (Logeswaran et al. 2018).

Logeswaran, Lee, Radev 2018, "Sentence Ordering and Coherence Modeling using Recurrent Neural
Networks"; the order is scored by the Plackett-Luce model (Xia et al. 2008, ListMLE) instead of a
pointer network.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import pack_tokens, to_vocabulary
from unlabeled.augmentations.vocabulary import END, FIRST_WORD, PAD, UNKNOWN
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import require_text_encoder
from unlabeled.errors import UserError, notice
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class WordOrder(Method):
    """Each shuffled part gets a score; earlier parts should have higher scores.

    The loss is −log p of the original order, where the first part is drawn in proportion to the
    exponential of the scores, the next one likewise of the remaining ones, and so on.

    A word is what stands between spaces: its first token and those that continue it move together.
    A sentence's first and last word stay out, since capital letter and full stop reveal them.

    Args:
        unit: "words" of a sentence, or "sentences" of a text.
        max_words: number of words at most; of sentences all are taken.
        word_starts: for each token of the vocabulary "1" if it begins a word, "0" if it continues
            one (default: the data set's); without one, each token is a word.
    """

    modality = (Text,)
    min_sentences = 2
    recipe = Recipe(epochs=5, batch_size=32, lr=1e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(
        self,
        encoder: nn.Module,
        *,
        unit: Literal["words", "sentences"] = "words",
        max_words: int = 6,
        word_starts: str = "",
    ) -> None:
        super().__init__(encoder)
        text_encoder = require_text_encoder(encoder, "word_order", ("bidirectional",))
        if max_words < 2:
            raise UserError(f"max_words is {max_words}, but must be at least 2")
        d, vocabulary = text_encoder.dim, text_encoder.vocabulary
        self.score_head = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, 1))
        self.unit, self.max_words = unit, max_words
        marks = word_starts or "1" * vocabulary
        if len(marks) != vocabulary or set(marks) - {"0", "1"}:
            raise UserError(
                f"word_starts has {len(marks):,} marks, but must have one of 0 and 1 for each of "
                f"the {vocabulary:,} tokens; omit it to take the data set's"
            )
        self.starts: Tensor
        starts = torch.tensor([mark == "1" for mark in marks])
        self.register_buffer("starts", starts, persistent=False)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Shuffled tokens (B, n), where each part ends in them (B, k), and its position (B, k)."""
        rows = to_vocabulary(batch.x, self.encoder.vocabulary)  # (B, K, L)
        if self.unit == "words":
            return self.shuffle_words(rows[:, int(torch.randint(rows.shape[1], ()))])
        position = torch.rand(rows.shape[:2], device=rows.device).argsort(1)
        shuffled = rows.gather(1, position[:, :, None].expand_as(rows))
        shuffled = torch.where(shuffled == END, PAD, shuffled)
        end = torch.full_like(shuffled[:, :, :1], END)  # one for each, even if it was cut
        ids = pack_tokens(torch.cat([shuffled, end], 2).flatten(1))
        ends = (ids == END).int().argsort(dim=1, descending=True, stable=True)
        return ids, ends[:, : rows.shape[1]], position

    def shuffle_words(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sentences (B, L) as `views` returns them; a missing word ends on the padding at the end.

        Short sentences have fewer words than `max_words`; those missing come last.
        """
        is_token = (ids >= FIRST_WORD) | (ids == UNKNOWN)
        begins = is_token & self.starts[ids]
        begins[:, 0] = is_token[:, 0]
        word = begins.cumsum(1) - 2  # (B, L); the first word is −1
        count = word.masked_fill(~is_token, -1).amax(1, keepdim=True).clamp(0, self.max_words)
        slots = torch.arange(self.max_words, device=ids.device)
        keys = torch.rand(len(ids), self.max_words, device=ids.device) + (slots >= count)
        position = keys.argsort(1)  # (B, k), the original position of the word in each slot
        slot = position.argsort(1)  # (B, k), the slot of each word
        taken = is_token & (word >= 0) & (word < count)
        to = slot.gather(1, word.clamp(0, self.max_words - 1))
        to = to.masked_fill(~taken, self.max_words)  # (B, L), the slot of each token
        order = to.argsort(dim=1, stable=True)  # tokens of a word stay in order
        shuffled = ids.gather(1, order).masked_fill(~taken.gather(1, order), PAD)
        longest = int(taken.sum(1).max())
        if not longest:
            message = "a batch has no sentence of three words with spaces between to shuffle"
            notice(f"{message}: take unit sentences for such texts")
        length = (to[:, :, None] == slots).sum(1)  # (B, k), tokens of the word in each slot
        ends = torch.where(length > 0, length.cumsum(1) - 1, longest)
        return F.pad(shuffled[:, :longest], (0, 1), value=PAD), ends, position

    def present(self, ids: Tensor, ends: Tensor) -> Tensor:
        """Which parts (B, k) exist: short sentences have fewer words than `max_words`."""
        return ids.gather(1, ends) != PAD

    def scores(self, ids: Tensor, ends: Tensor) -> Tensor:
        """Score of each part from the mean of its states, higher for earlier ones: (B, k)."""
        states = self.encoder.states(ids)[:, 1:]
        end, i = ends[:, :, None], torch.arange(ids.shape[1], device=ids.device)
        begin = F.pad(end[:, :-1] + 1, (0, 0, 1, 0))
        within = ((begin <= i) & (i <= end)).to(states.dtype)  # (B, k, n)
        means = within @ states / within.sum(2, keepdim=True).clamp(min=1)
        return self.score_head(means)[:, :, 0].float()

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """−log p of the original order, for each part: log k! / k at chance."""
        ids, ends, position = views
        original = position.argsort(1)  # the slot of the first part, the second …
        present = self.present(ids, ends).gather(1, original)
        scores = self.scores(ids, ends).gather(1, original).masked_fill(~present, -1e4)
        remaining = scores.flip(1).logcumsumexp(1).flip(1)
        return mean_of(remaining - scores, present)
