"""Networks that read tokens: texts in, features out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import hide, joined, packed, tokens_of
from unlabeled.augmentations.vocabulary import PAD, START
from unlabeled.encoders.attention import Block
from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.errors import UserError
from unlabeled.modality import Text
from unlabeled.parallel import mean_of

Look = Literal["both", "back", "sides"]
Summary = Literal["mean", "first"]


def text_transformer(
    channels: int = 1,
    size: tuple[int, int] = (1, 64),
    vocabulary: int = 4096,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    look: Look = "both",
    summary: Summary = "mean",
    dropout: float = 0.0,
) -> Encoder:
    """Transformer over tokens (Vaswani et al. 2017): `width` features (128).

    Args:
        channels: of the texts; always 1.
        size: sentences, and tokens of each.
        vocabulary: number of tokens.
        width: of the states.
        layers: one above the other.
        heads: of attention in each layer.
        look: "both" ways; "back" only; or "sides", two networks, one from each side, whose states
            stand side by side.
        summary: the features are the mean of the states, or the state of a first token before the
            text.
        dropout: share of the states' values that are left out in training.
    """
    if width % heads:
        raise UserError(f"a width of {width} is not divided by {heads} heads; choose others")
    length = _length(channels, size)
    sides = 2 if look == "sides" else 1
    bodies = [_Transformer(width, layers, heads, length, look, dropout) for _ in range(sides)]
    return TextEncoder(bodies, width, vocabulary, look, summary)


def text_lstm(
    channels: int = 1,
    size: tuple[int, int] = (1, 64),
    vocabulary: int = 4096,
    width: int = 128,
    layers: int = 2,
    look: Look = "back",
    dropout: float = 0.0,
) -> Encoder:
    """Long short-term memory over tokens (Hochreiter, Schmidhuber 1997): `width` features (128).

    Args:
        channels: of the texts; always 1.
        size: sentences, and tokens of each.
        vocabulary: number of tokens.
        width: of the states.
        layers: one above the other.
        look: "back" only, or "sides", two networks, one from each side.
        dropout: share of the states' values between layers that are left out in training.
    """
    if look == "both":
        raise UserError("an LSTM reads in one direction: take look back or sides")
    _length(channels, size)
    bodies = [_LSTM(width, layers, dropout) for _ in range(2 if look == "sides" else 1)]
    return TextEncoder(bodies, width, vocabulary, look, "mean")


def reader(
    encoder: Any, name: str, look: Sequence[Look] = ("both", "back", "sides")
) -> TextEncoder:
    """The encoder, which can read tokens in one of those ways.

    Raises:
        UserError: it cannot.
    """
    if not isinstance(encoder, TextEncoder):
        raise UserError(f"{name} reads tokens: use --encoder text_transformer or text_lstm")
    if encoder.look not in look:
        raise UserError(
            f"{name} needs an encoder that looks {' or '.join(look)}, not {encoder.look}: use "
            "text_transformer, and leave its option look away"
        )
    return encoder


class TextEncoder(Encoder):
    """Tokens -> states -> features; a first token, START, stands before every text.

    Args:
        bodies: from embedded tokens (B, L, width) to states; one, or one for each side.
        width: of the states.
        vocabulary: number of tokens.
        look: which way.
        summary: of the states.
    """

    modality: ClassVar = (Text,)

    def __init__(
        self,
        bodies: Sequence[nn.Module],
        width: int,
        vocabulary: int,
        look: Look,
        summary: Summary,
    ) -> None:
        if summary == "first" and look != "both":
            raise UserError("the first token sees the text only where look is both; take the mean")
        super().__init__([], GlobalPool(), width * len(bodies))
        self.bodies = nn.ModuleList(bodies)
        self.embed = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.vocabulary, self.width, self.look, self.pooling = vocabulary, width, look, summary

    def tokens(self, x: Tensor) -> Tensor:
        """Texts (B, 1, K, L) in [0, 1] -> tokens (B, n), moved together."""
        return packed(tokens_of(x.flatten(1), self.vocabulary))

    def states(self, ids: Tensor) -> Tensor:
        """States (B, 1 + n, dim) of START and of each token (B, n)."""
        found = self._run(self.bodies[0], ids)
        if self.look != "sides":
            return found
        back, turn = self._from_the_end(ids)
        at = torch.cat([torch.zeros_like(turn[:, :1]), turn + 1], 1)  # START, then each token
        right = back.gather(1, at[:, :, None].expand(-1, -1, self.width))
        return torch.cat([found, right], 2)

    def sides(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of each token (B, n) what is known from before it, and from after it: (B, n, width)."""
        back, turn = self._from_the_end(ids)
        right = back.gather(1, turn[:, :, None].expand(-1, -1, self.width))
        return self._run(self.bodies[0], ids)[:, :-1], right

    def _run(self, body: nn.Module, ids: Tensor) -> Tensor:
        ids = torch.cat([torch.full_like(ids[:, :1], START), ids], 1)
        return body(self.embed(ids), ids != PAD)

    def _from_the_end(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """States of the text read backwards (B, 1 + n, width), and the places (B, n) turned."""
        place = torch.arange(ids.shape[1], device=ids.device)
        many = (ids != PAD).sum(1, keepdim=True)
        turn = torch.where(place < many, many - 1 - place, place)
        return self._run(self.bodies[-1], ids.gather(1, turn)), turn

    def map(self, x: Tensor) -> Tensor:
        """States of the tokens as a map of one row, (B, dim, 1, n)."""
        return self.states(self.tokens(x))[:, 1:].transpose(1, 2)[:, :, None]

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of texts (B, 1, K, L)."""
        return self.features(self.tokens(x))

    def features(self, ids: Tensor) -> Tensor:
        """Features (B, dim) of tokens (B, n); START alone where there are none."""
        states = self.states(ids)
        if self.pooling == "first":
            return states[:, 0]
        return mean_state(states, ids != PAD)


class LanguageModelHead(nn.Module):
    """From a state to a score for each token, by the embedding's own weights (Press, Wolf 2017).

    Args:
        dim: of the states.
        encoder: whose tokens they are.
    """

    def __init__(self, dim: int, encoder: TextEncoder) -> None:
        super().__init__()
        self.shape = nn.Sequential(
            nn.Linear(dim, encoder.width), nn.GELU(), nn.LayerNorm(encoder.width)
        )
        self.bias = nn.Parameter(torch.zeros(encoder.vocabulary))

    def forward(self, states: Tensor, encoder: TextEncoder) -> Tensor:
        """(…, dim) -> (…, vocabulary)."""
        return F.linear(self.shape(states), encoder.embed.weight, self.bias).float()

    def surprise(self, states: Tensor, ids: Tensor, encoder: TextEncoder) -> Tensor:
        """−log p of the tokens (B, n) by the states (B, n, dim) before each, nats: (B, n)."""
        scores = self(states.flatten(0, 1), encoder)
        return F.cross_entropy(scores, ids.flatten(), reduction="none").view(ids.shape)


class SentencePairHead(nn.Module):
    """How well two texts read in a row belong so; and their hidden words besides, as BERT has it.

    BERT reads the answer from a first token. A small network has not learned to use that after an
    hour; from the means u and v of both texts' states, (u, v, uv, |u − v|) as Conneau et al. 2017
    (InferSent, section 3.1) put them, it answers after minutes.

    Args:
        encoder: whose states they are.
        words: weight of the surprise of hidden words; 0 hides none.
        share: of the words that are hidden.
    """

    def __init__(self, encoder: TextEncoder, words: float, share: float) -> None:
        super().__init__()
        d = encoder.dim
        self.answer = nn.Sequential(nn.Linear(4 * d, d), nn.GELU(), nn.Linear(d, 1))
        self.says: Any = LanguageModelHead(d, encoder) if words else None
        self.words, self.share = words, share

    def views(self, first: Tensor, second: Tensor, encoder: TextEncoder) -> tuple[Tensor, ...]:
        """What is seen of both in a row, what there is, which words are hidden, (B, n) each; and
        where the second begins (B,).
        """
        ids, begins = _in_a_row(first, second)
        if not self.words:
            return ids, ids, torch.zeros_like(ids, dtype=torch.bool), begins
        seen, chosen = hide(ids, encoder.vocabulary, self.share)
        return seen, ids, chosen, begins

    def forward(self, views: Sequence[Tensor], encoder: TextEncoder) -> tuple[Tensor, Tensor]:
        """Scores (B,) of such views, and the weighted surprise of their hidden words in nats."""
        seen, ids, chosen, begins = views
        states = encoder.states(seen)
        scores = self.scores(states, ids, begins)
        if not self.words:
            return scores, scores.new_zeros(())
        said = self.says(states[:, 1:][chosen], encoder)
        surprise = F.cross_entropy(said, ids[chosen], reduction="none")
        every = torch.ones_like(surprise, dtype=torch.bool)
        return scores, self.words * mean_of(surprise, every)

    def judge(self, first: Tensor, second: Tensor, encoder: TextEncoder) -> Tensor:
        """Scores (B,) of tokens (B, L) each, nothing hidden."""
        ids, begins = _in_a_row(first, second)
        return self.scores(encoder.states(ids), ids, begins)

    def scores(self, states: Tensor, ids: Tensor, begins: Tensor) -> Tensor:
        """By states (B, 1 + n, dim) of tokens (B, n): (B,)."""
        late = torch.arange(ids.shape[1], device=ids.device) >= begins[:, None]
        u, v = (mean_state(states, (ids != PAD) & part) for part in (~late, late))
        return self.answer(torch.cat([u, v, u * v, (u - v).abs()], 1))[:, 0].float()


def _in_a_row(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of both (B, n), and where the second begins (B,)."""
    return packed(joined(first, second)), 1 + (first != PAD).sum(1)


def mean_state(states: Tensor, known: Tensor) -> Tensor:
    """Mean of the states (B, 1 + n, dim) of known tokens (B, n): (B, dim); START's if none is."""
    taken = known[:, :, None]
    mean = states[:, 1:].masked_fill(~taken, 0).sum(1) / taken.sum(1).clamp(min=1)
    return torch.where(taken.any(1), mean, states[:, 0])


def _length(channels: int, size: tuple[int, int]) -> int:
    if channels != 1:
        raise UserError(f"a text has one channel, not {channels}; give --data text:FOLDER")
    return math.prod(size) + size[0] + 2  # with START, and an END more after each sentence


class _Transformer(nn.Module):
    """Blocks of attention to what is known: (B, L, width) -> (B, L, width)."""

    def __init__(
        self, width: int, layers: int, heads: int, length: int, look: Look, dropout: float
    ) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.first, self.last = nn.Dropout(dropout), nn.LayerNorm(width)
        self.look = look

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        if x.shape[1] > len(self.places):
            raise UserError(f"texts of {x.shape[1]} tokens are longer than {len(self.places)}")
        x = self.first(x + self.places[: x.shape[1]])
        mask = known[:, None, None] if self.look == "both" else None  # padding comes last
        for block in self.blocks:
            x = block(x, mask, causal=mask is None)
        return self.last(x)


class _LSTM(nn.Module):
    """(B, L, width) -> (B, L, width), looking back only."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.net = nn.LSTM(width, width, layers, batch_first=True, dropout=between)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        return self.net(x)[0]
