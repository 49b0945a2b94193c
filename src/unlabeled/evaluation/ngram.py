"""An n-gram model of characters or words, the baseline of learned language models.

Interpolated Kneser-Ney: Kneser, Ney 1995; Chen, Goodman 1999, eq. 22–24, one discount an order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float, UInt64

Text = TypeVar("Text", bytes, str)
HELD_OUT = 0.05
"""Share of a text, its end, on which the order is chosen."""


@dataclass
class _Order:
    """Sequences of n characters, each packed into one number, in ascending order.

    Args:
        sequences: (k,).
        counts: of each, (k,).
        contexts: their first n − 1 characters, (c,).
        totals: summed counts of the sequences of each context, (c,).
        follow: number of sequences of each context, (c,).
        discount: subtracted from each count.
    """

    sequences: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    follow: np.ndarray
    discount: float


class KneserNey(Generic[Text]):
    """p(character | the last n − 1) from counts of sequences up to n.

    Tokens are counted as the characters of a string that `spelled` makes of them.

    The highest order counts how often a sequence occurs, lower orders how many characters it
    follows. Discounts are n₁/(n₁ + 2 n₂), with n₁ and n₂ sequences that occur once and twice.

    Args:
        text: bytes, or characters up to U+FFFF, to count.
        order: n, at most 8 of bytes and 4 of characters.
        alphabet: number of characters.

    Raises:
        ValueError: the order is too high, or there is another character.
    """

    def __init__(self, text: Text, order: int = 5, alphabet: int = 256) -> None:
        self.order, self.alphabet = order, alphabet
        self.width = 8 if isinstance(text, bytes) else 16  # bits of a character
        if not 1 <= order <= 64 // self.width:
            raise ValueError(f"an order of {order} is not between 1 and {64 // self.width}")
        signs = self._signs(text)
        self.orders: list[_Order] = []
        longer = np.empty(0, np.uint64)
        for n in range(order, 0, -1):
            if n == order:
                sequences, counts = np.unique(self._packed(signs, n)[n - 1 :], return_counts=True)
            else:  # the number of characters that a sequence follows
                mask = np.uint64((1 << self.width * n) - 1)
                sequences, counts = np.unique(longer & mask, return_counts=True)
            self.orders.insert(0, self._of(sequences, counts))
            start = self._packed(signs[:n], n)[n - 1 :]  # follows nothing, but occurs
            longer = np.union1d(sequences, start)

    def _of(self, sequences: np.ndarray, counts: np.ndarray) -> _Order:
        contexts, first = np.unique(sequences >> np.uint64(self.width), return_index=True)
        totals = np.add.reduceat(counts, first) if len(first) else counts
        follow = np.diff(first, append=len(sequences))
        once, twice = ((counts == k).sum() for k in (1, 2))
        discount = float(once / (once + 2 * twice)) if once else 0.5
        return _Order(sequences, counts, contexts, totals, follow, discount)

    def _signs(self, text: Text) -> UInt64[np.ndarray, " n"]:
        if isinstance(text, bytes):
            return np.frombuffer(text, np.uint8).astype(np.uint64)
        signs = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2")
        if len(signs) != len(text):
            raise ValueError("there are characters beyond U+FFFF")
        return signs.astype(np.uint64)

    def _packed(self, signs: UInt64[np.ndarray, " n"], length: int) -> UInt64[np.ndarray, " n"]:
        """The characters up to each, `length` of them; the first ones have fewer."""
        packed = np.zeros(len(signs), np.uint64)
        for back in range(min(length, len(signs))):
            packed[back:] |= signs[: len(signs) - back] << np.uint64(self.width * back)
        return packed

    def probability(self, sign: Text, before: Text) -> float:
        """Probability of a character given those before it."""
        return float(2 ** -self.surprises(before + sign)[-1])

    def bits(self, text: Text, besides: Text | None = None) -> float:
        """Mean −log₂ p of a character of a text; those in `besides` are not counted."""
        surprises = self.surprises(text)
        if besides:
            surprises = surprises[~np.isin(self._signs(text), self._signs(besides))]
        return float(surprises.mean())

    def surprises(self, text: Text) -> Float[np.ndarray, " n"]:
        """−log₂ p of each character of a text."""
        signs = self._signs(text)
        p = np.full(len(signs), 1 / self.alphabet)
        known = np.arange(len(signs))  # where shorter contexts occurred in training
        for n, order in enumerate(self.orders, 1):
            known = known[known >= n - 1]
            sequences = self._packed(signs, n)[known]
            context = _find(order.contexts, sequences >> np.uint64(self.width))
            known, sequences, context = (v[context >= 0] for v in (known, sequences, context))
            row = _find(order.sequences, sequences)
            count = np.where(row >= 0, order.counts[row], 0)
            rest = order.discount * order.follow[context] * p[known]
            p[known] = (np.maximum(count - order.discount, 0) + rest) / order.totals[context]
        return -np.log2(p)


def _find(sorted_values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The row of each value, or −1."""
    if not len(sorted_values):
        return np.full(len(wanted), -1)
    rows = np.searchsorted(sorted_values, wanted).clip(max=len(sorted_values) - 1)
    return np.where(sorted_values[rows] == wanted, rows, -1)


def best_order(text: Text, orders: Iterable[int], alphabet: int = 256) -> int:
    """The order whose model of the first 95 % of a text surprises least by the rest."""
    held = max(1, round(HELD_OUT * len(text)))
    learned, tested = text[:-held], text[-held:]
    bits = {n: KneserNey(learned, n, alphabet).bits(tested) for n in orders}
    return min(bits, key=bits.__getitem__)


def spelled(ids: np.ndarray) -> str:
    """Tokens (n,) below 65,536 as a string of as many characters, some of them surrogates."""
    return ids.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
