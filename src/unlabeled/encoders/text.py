"""Encoders of text: a transformer and an LSTM over tokens, and the heads of language models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import join_texts, mask_tokens, pack_tokens, to_vocabulary
from unlabeled.augmentations.vocabulary import PAD, START
from unlabeled.encoders.attention import Transformer, TransformerBlock
from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.errors import UserError
from unlabeled.modality import Text
from unlabeled.parallel import mean_of

Direction = Literal["bidirectional", "causal", "forward_backward"]
Pooling = Literal["mean", "first"]


def text_transformer(
    channels: int = 1,
    size: tuple[int, int] = (1, 64),
    vocabulary: int = 4096,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    direction: Direction = "bidirectional",
    pooling: Pooling = "mean",
    dropout: float = 0.0,
) -> Encoder:
    """Transformer over tokens (Vaswani et al. 2017): `width` features (128).

    Args:
        size: sentences, and tokens of each.
        vocabulary: number of tokens.
        width: dimension of the states.
        layers: number of blocks.
        heads: attention heads of each block.
        direction: "bidirectional"; "causal"; or "forward_backward", two causal networks, one for
            each reading direction, whose states are concatenated.
        pooling: the features are the "mean" of the states, or the state of a "first" token before
            the text.
        dropout: dropout probability.
    """
    length = _length(channels, size)
    make = partial(Transformer, width, layers, heads, length, dropout)
    return TextEncoder(make, width, vocabulary, direction, pooling)


def text_lstm(
    channels: int = 1,
    size: tuple[int, int] = (1, 64),
    vocabulary: int = 4096,
    width: int = 128,
    layers: int = 2,
    direction: Direction = "causal",
    dropout: float = 0.0,
) -> Encoder:
    """Long short-term memory over tokens (Hochreiter, Schmidhuber 1997): `width` features (128).

    The arguments are those of `text_transformer`; the direction is "causal" or "forward_backward",
    and dropout is applied between layers.
    """
    if direction == "bidirectional":
        raise UserError("an LSTM reads in one direction; use causal or forward_backward")
    _length(channels, size)
    between = dropout if layers > 1 else 0.0
    make = partial(nn.LSTM, width, width, layers, batch_first=True, dropout=between)
    return TextEncoder(make, width, vocabulary, direction, "mean")


def require_text_encoder(
    encoder: Any,
    method: str,
    directions: Sequence[Direction] = ("bidirectional", "causal", "forward_backward"),
) -> TextEncoder:
    """The encoder, checked to be a text encoder of one of these directions.

    Args:
        encoder: any module.
        method: that needs it, named in the message.
        directions: that the method can use.

    Raises:
        UserError: it is not a text encoder, or has another direction.
    """
    if not isinstance(encoder, TextEncoder):
        raise UserError(f"{method} reads tokens: use --encoder text_transformer or text_lstm")
    if encoder.direction not in directions:
        raise UserError(
            f"{method} needs a {' or '.join(directions)} text encoder, not a {encoder.direction} "
            "one; use text_transformer and omit its option direction"
        )
    return encoder


class TextEncoder(Encoder):
    """Tokens -> states -> features; a START token precedes every text.

    Args:
        make: a network from embedded tokens (B, L, width) to states and a cache.
        width: dimension of the states of each.
        vocabulary: number of tokens.
        direction: which tokens a state depends on.
        pooling: of the states.
    """

    modality: ClassVar = (Text,)

    def __init__(
        self,
        make: Callable[[], nn.Module],
        width: int,
        vocabulary: int,
        direction: Direction,
        pooling: Pooling,
    ) -> None:
        if pooling == "first" and direction != "bidirectional":
            raise UserError("the first token sees the text only if bidirectional; use pooling mean")
        directions = 2 if direction == "forward_backward" else 1
        super().__init__([], GlobalPool(), width * directions)
        self.bodies = nn.ModuleList(make() for _ in range(directions))
        self.embed = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.vocabulary, self.width = vocabulary, width
        self.direction, self.pooling = direction, pooling

    def tokens(self, x: Tensor) -> Tensor:
        """Texts (B, K, L) in tokens -> tokens (B, n), padding at the end."""
        return pack_tokens(to_vocabulary(x.flatten(1), self.vocabulary))

    def states(self, ids: Tensor) -> Tensor:
        """States (B, 1 + n, dim) of START and of each token (B, n)."""
        forward = self._run(self.bodies[0], ids)
        if self.direction != "forward_backward":
            return forward
        backward, order = self._run_backward(ids)
        index = torch.cat([torch.zeros_like(order[:, :1]), order + 1], 1)  # START, then each token
        return torch.cat([forward, self._gather(backward, index)], 2)

    def left_and_right_states(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of each token (B, n) a state of those before it, and of those after it: (B, n, width)."""
        backward, order = self._run_backward(ids)
        return self._run(self.bodies[0], ids)[:, :-1], self._gather(backward, order)

    def _run(self, body: nn.Module, ids: Tensor) -> Tensor:
        ids = torch.cat([torch.full_like(ids[:, :1], START), ids], 1)
        h = self.embed(ids)
        if self.direction == "bidirectional":
            return body(h, mask=(ids != PAD)[:, None, None])[0]
        return body(h)[0]  # padding comes last

    def _run_backward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """States of the reversed text (B, 1 + n, width), and the reversed positions (B, n)."""
        position = torch.arange(ids.shape[1], device=ids.device)
        length = (ids != PAD).sum(1, keepdim=True)
        order = torch.where(position < length, length - 1 - position, position)
        return self._run(self.bodies[-1], ids.gather(1, order)), order

    def _gather(self, states: Tensor, index: Tensor) -> Tensor:
        """Rows (B, n) of states (B, L, width): (B, n, width)."""
        return states.gather(1, index[:, :, None].expand(-1, -1, self.width))

    def map(self, x: Tensor) -> Tensor:
        """States of the tokens as a feature map of one row, (B, dim, 1, n)."""
        return self.states(self.tokens(x))[:, 1:].transpose(1, 2)[:, :, None]

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of texts (B, 1, K, L)."""
        return self.features(self.tokens(x))

    def features(self, ids: Tensor) -> Tensor:
        """Features (B, dim) of tokens (B, n); of START where there are none."""
        states = self.states(ids)
        return states[:, 0] if self.pooling == "first" else mean_state(states, ids != PAD)


class LanguageModelHead(nn.Module):
    """Logits of each token from a state, with the embedding's weights (Press, Wolf 2017).

    Args:
        dim: of the states.
        encoder: whose token embedding is used.
    """

    def __init__(self, dim: int, encoder: TextEncoder) -> None:
        super().__init__()
        self.transform = nn.Sequential(
            nn.Linear(dim, encoder.width), nn.GELU(), nn.LayerNorm(encoder.width)
        )
        self.bias = nn.Parameter(torch.zeros(encoder.vocabulary))

    def forward(self, states: Tensor, encoder: TextEncoder) -> Tensor:
        """(…, dim) -> logits (…, vocabulary)."""
        return F.linear(self.transform(states), encoder.embed.weight, self.bias).float()

    def negative_log_likelihood(self, states: Tensor, ids: Tensor, encoder: TextEncoder) -> Tensor:
        """−log p of tokens (B, n) given the states (B, n, dim) before them, in nats: (B, n)."""
        logits = self(states.flatten(0, 1), encoder)
        return F.cross_entropy(logits, ids.flatten(), reduction="none").view(ids.shape)


class TokenGenerator(nn.Module):
    """A narrow masked language model on the embeddings of a wider encoder, as in ELECTRA.

    Tokens and positions have the encoder's embeddings, projected; the network has as many blocks,
    and heads of the same width.

    Args:
        encoder: a bidirectional `text_transformer`.
        width: of the states.

    Source: Clark et al. 2020, section 3.2.
    """

    def __init__(self, encoder: TextEncoder, width: int) -> None:
        super().__init__()
        blocks: Any = encoder.bodies[0].blocks
        per_head = encoder.width // blocks[0].heads
        heads = math.gcd(width, max(1, width // per_head))
        self.input = nn.Linear(encoder.width, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in blocks)
        self.norm = nn.LayerNorm(width)
        self.head = LanguageModelHead(width, encoder)

    def forward(self, ids: Tensor, chosen: Tensor, encoder: TextEncoder) -> Tensor:
        """Logits of the m chosen ones of the tokens (B, n): (m, vocabulary)."""
        ids = torch.cat([torch.full_like(ids[:, :1], START), ids], 1)
        positions: Any = encoder.bodies[0].positions
        h = self.input(encoder.embed(ids) + positions[: ids.shape[1]])
        for block in self.blocks:
            h = block(h, (ids != PAD)[:, None, None])
        return self.head(self.norm(h)[:, 1:][chosen], encoder)


class SentencePairHead(nn.Module):
    """Binary classifier of a pair of texts, with a masked language model beside it, as in BERT.

    BERT classifies from its first token, which takes a small network over an hour to learn. This
    head classifies (u, v, uv, |u − v|), u and v the mean states of the two texts (InferSent,
    Conneau et al. 2017, section 3.1), which takes minutes.

    Args:
        encoder: whose states are classified.
        mlm_weight: weight of the masked language model's loss; 0 masks no words.
        mask_ratio: fraction of the tokens that are predicted.
    """

    def __init__(self, encoder: TextEncoder, mlm_weight: float, mask_ratio: float) -> None:
        super().__init__()
        d = encoder.dim
        self.classifier = nn.Sequential(nn.Linear(4 * d, d), nn.GELU(), nn.Linear(d, 1))
        self.lm_head: Any = LanguageModelHead(d, encoder) if mlm_weight else None
        self.mlm_weight, self.mask_ratio = mlm_weight, mask_ratio

    def views(self, first: Tensor, second: Tensor, encoder: TextEncoder) -> tuple[Tensor, ...]:
        """The joined texts masked, the joined texts, and where they are masked, (B, n) each; and
        the position at which the second text begins (B,).
        """
        ids, start = _join_pair(first, second)
        if not self.mlm_weight:
            return ids, ids, torch.zeros_like(ids, dtype=torch.bool), start
        masked, is_masked = mask_tokens(ids, encoder.vocabulary, self.mask_ratio)
        return masked, ids, is_masked, start

    def forward(self, views: Sequence[Tensor], encoder: TextEncoder) -> tuple[Tensor, Tensor]:
        """Logits (B,) of such views, and the weighted loss of the masked words in nats."""
        masked, ids, is_masked, start = views
        states = encoder.states(masked)
        logits = self.logits(states, ids, start)
        if not self.mlm_weight:
            return logits, logits.new_zeros(())
        word_logits = self.lm_head(states[:, 1:][is_masked], encoder)
        losses = F.cross_entropy(word_logits, ids[is_masked], reduction="none")
        every = torch.ones_like(losses, dtype=torch.bool)
        return logits, self.mlm_weight * mean_of(losses, every)

    def score(self, first: Tensor, second: Tensor, encoder: TextEncoder) -> Tensor:
        """Logits (B,) of pairs of texts, tokens (B, L) each, without masking."""
        ids, start = _join_pair(first, second)
        return self.logits(encoder.states(ids), ids, start)

    def logits(self, states: Tensor, ids: Tensor, start: Tensor) -> Tensor:
        """Logits (B,) from states (B, 1 + n, dim) of tokens (B, n); the second begins at start."""
        in_second = torch.arange(ids.shape[1], device=ids.device) >= start[:, None]
        u, v = (mean_state(states, (ids != PAD) & part) for part in (~in_second, in_second))
        return self.classifier(torch.cat([u, v, u * v, (u - v).abs()], 1))[:, 0].float()


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the states (B, 1 + n, dim) of masked tokens (B, n): (B, dim); START's if none is."""
    mask = mask[:, :, None]
    mean = states[:, 1:].masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp(min=1)
    return torch.where(mask.any(1), mean, states[:, 0])


def _join_pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of both texts (B, n), and the position at which the second begins (B,)."""
    return pack_tokens(join_texts(first, second)), 1 + (first != PAD).sum(1)


def _length(channels: int, size: tuple[int, int]) -> int:
    """Tokens at most, with START and one more END after each sentence."""
    if channels != 1:
        raise UserError(f"a text has one channel, not {channels}; give --data text:FOLDER")
    return math.prod(size) + size[0] + 2
