"""Networks that read one value after another and know nothing of what comes.

An image is read row by row, a text as bytes in an image one pixel high, a time series likewise.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unlabeled.encoders.attention import Block
from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.errors import UserError

Values = Literal["real", "bytes"]


def rnn(
    channels: int = 1,
    size: tuple[int, int] = (28, 28),
    width: int = 128,
    layers: int = 1,
    values: Values = "real",
) -> Encoder:
    """Elman's recurrent net: `width` features (128), the mean of its states.

    Args:
        channels: of the images.
        size: of the images.
        width: of the states.
        layers: one above the other.
        values: "bytes" are 256 signs without an order, "real" are numbers.
    """
    return Reader(
        nn.RNN(width, width, layers, batch_first=True), width, values, _length(channels, size)
    )


def lstm(
    channels: int = 1,
    size: tuple[int, int] = (28, 28),
    width: int = 128,
    layers: int = 1,
    values: Values = "real",
) -> Encoder:
    """Long short-term memory (Hochreiter, Schmidhuber 1997): `width` features (128).

    Args:
        channels: of the images.
        size: of the images.
        width: of the states.
        layers: one above the other.
        values: "bytes" are 256 signs without an order, "real" are numbers.
    """
    return Reader(
        nn.LSTM(width, width, layers, batch_first=True), width, values, _length(channels, size)
    )


def transformer(
    channels: int = 1,
    size: tuple[int, int] = (28, 28),
    width: int = 128,
    layers: int = 3,
    values: Values = "real",
    heads: int = 4,
) -> Encoder:
    """Causal transformer (Radford et al. 2018): `width` features (128), the mean of its states.

    Args:
        channels: of the images.
        size: of the images.
        width: of the states.
        layers: one above the other.
        values: "bytes" are 256 signs without an order, "real" are numbers.
        heads: of attention in each layer.
    """
    if width % heads:
        raise UserError(f"a width of {width} is not divided by {heads} heads; choose others")
    length = _length(channels, size)
    return Reader(_Causal(width, layers, heads, length), width, values, length)


def _length(channels: int, size: tuple[int, int]) -> int:
    return channels * math.prod(size)


class Reader(Encoder):
    """Values -> states, each of what came before and at its place.

    Args:
        body: from (B, L, width), and a memory or None, to states (B, L, width) looking back only,
            and a memory.
        width: of the states.
        values: what is read.
        length: of a sequence.
    """

    def __init__(self, body: nn.Module, width: int, values: Values, length: int) -> None:
        super().__init__([], GlobalPool(), width)
        self.body, self.values, self.length = body, values, length
        self.embed: nn.Module = (
            nn.Embedding(256, width) if values == "bytes" else nn.Linear(1, width)
        )
        self.start = nn.Parameter(torch.randn(width) * 0.02)

    def states(self, x: Tensor, ahead: bool = False) -> Tensor:
        """States (B, L, width) of values x (B, L) in [0, 1].

        Args:
            x: values; bytes over 255.
            ahead: the state at a place knows what came before it, and not the value itself: what
                prediction needs.
        """
        h = self.embed((255 * x).round().long() if self.values == "bytes" else x[:, :, None])
        if ahead:
            h = torch.cat([self.start.to(h.dtype).expand(len(h), 1, -1), h[:, :-1]], 1)
        return self.body(h)[0]

    def read_on(self, x: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        """The state (B, width) after further values x (B, k), and what is remembered of all.

        Without a memory it begins anew, and no values are enough. A transformer's memory holds as
        many values as it has places.
        """
        h = self.embed((255 * x).round().long() if self.values == "bytes" else x[:, :, None])
        if memory is None:
            h = torch.cat([self.start.to(h.dtype).expand(len(h), 1, -1), h], 1)
        out, memory = self.body(h, memory)
        return out[:, -1], memory

    def map(self, x: Tensor) -> Tensor:
        """States as a map of one row, (B, width, 1, L)."""
        return self.states(x.flatten(1)).transpose(1, 2)[:, :, None]


class _Causal(nn.Module):
    """Blocks of attention to what came before: (B, L, width) -> (B, L, width)."""

    def __init__(self, width: int, layers: int, heads: int, length: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks: Any = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.last = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        first = 0 if memory is None else memory[0].shape[3]
        x = x + self.places[first : first + x.shape[1]]
        kept = []
        for i, block in enumerate(self.blocks):
            before = None if memory is None else memory[i]
            x, seen = block.read_on(x, causal=memory is None, memory=before)
            kept.append(seen)
        return self.last(x), kept
