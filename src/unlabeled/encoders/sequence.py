"""Causal encoders of sequences of values: recurrent networks and a transformer.

An image is read row by row, one channel after another. A text as bytes is an image one pixel high,
as is a time series.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unlabeled.encoders.attention import Transformer
from unlabeled.encoders.base import Encoder, GlobalPool

Values = Literal["real", "bytes"]


def rnn(
    channels: int = 1,
    size: tuple[int, int] = (28, 28),
    width: int = 128,
    layers: int = 1,
    values: Values = "real",
) -> Encoder:
    """Elman recurrent network: `width` features (128), the mean of its states.

    Args:
        width: dimension of the states.
        layers: stacked recurrent layers.
        values: "bytes" are 256 symbols, each with an embedding; "real" are numbers.
    """
    body = nn.RNN(width, width, layers, batch_first=True)
    return SequenceEncoder(body, width, values, channels * math.prod(size))


def lstm(
    channels: int = 1,
    size: tuple[int, int] = (28, 28),
    width: int = 128,
    layers: int = 1,
    values: Values = "real",
) -> Encoder:
    """Long short-term memory (Hochreiter, Schmidhuber 1997): `width` features (128).

    The arguments are those of `rnn`.
    """
    body = nn.LSTM(width, width, layers, batch_first=True)
    return SequenceEncoder(body, width, values, channels * math.prod(size))


def transformer(
    channels: int = 1,
    size: tuple[int, int] = (28, 28),
    width: int = 128,
    layers: int = 3,
    values: Values = "real",
    heads: int = 4,
) -> Encoder:
    """Causal transformer (Radford et al. 2018): `width` features (128), the mean of its states.

    The arguments are those of `rnn`, and `heads`, the attention heads of each layer.
    """
    length = channels * math.prod(size)
    return SequenceEncoder(Transformer(width, layers, heads, length), width, values, length)


class SequenceEncoder(Encoder):
    """Values (B, L) -> causal states (B, L, width) -> their mean.

    Args:
        body: called with inputs (B, L, width) and a cache or None, returns causal states
            (B, L, width) and a cache: `nn.RNN`, `nn.LSTM` or `Transformer`.
        width: dimension of the states.
        values: kind of the values.
        length: of a sequence.
    """

    def __init__(self, body: nn.Module, width: int, values: Values, length: int) -> None:
        super().__init__([], GlobalPool(), width)
        self.body, self.values, self.length = body, values, length
        self.embed: nn.Module = (
            nn.Embedding(256, width) if values == "bytes" else nn.Linear(1, width)
        )
        self.start = nn.Parameter(torch.randn(width) * 0.02)

    def states(self, x: Tensor, exclude_current: bool = False) -> Tensor:
        """States (B, L, width) of values x (B, L) in [0, 1].

        Args:
            x: values; bytes are divided by 255.
            exclude_current: each state depends on the values before its own only, as predicting
                that value requires.
        """
        h = self._embedded(x)
        return self.body(self._with_start(h[:, :-1]) if exclude_current else h)[0]

    def forward_cached(self, x: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """The state (B, width) after further values x (B, k), and the cache of all values.

        Without a cache a new sequence begins; x may then be empty. A transformer's cache holds at
        most `length` values.
        """
        h = self._embedded(x)
        out, cache = self.body(self._with_start(h) if cache is None else h, cache)
        return out[:, -1], cache

    def map(self, x: Tensor) -> Tensor:
        """States as a feature map of one row, (B, width, 1, L)."""
        return self.states(x.flatten(1)).transpose(1, 2)[:, :, None]

    def map_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """States of each pixel, the mean of its channels (B, width, H, W), and features."""
        last = self.map(x)
        return last.unflatten(3, x.shape[1:]).mean((2, 3)), self.summary(last)

    def _embedded(self, x: Tensor) -> Tensor:
        return self.embed((255 * x).round().long() if self.values == "bytes" else x[:, :, None])

    def _with_start(self, h: Tensor) -> Tensor:
        """A learned first input before embedded values (B, L, width)."""
        return torch.cat([self.start.to(h.dtype).expand(len(h), 1, -1), h], 1)
