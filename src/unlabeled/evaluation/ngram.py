"""An n-gram model of characters or words, the baseline of learned language models.

Interpolated Kneser-Ney: Kneser, Ney 1995; Chen, Goodman 1999, eq. 22–24, one discount an order.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float

Text = TypeVar("Text", bytes, str)


class KneserNey(Generic[Text]):
    """p(character | the last n − 1) from counts of sequences up to n.

    Tokens are counted as the characters of a string that `spelled` makes of them.

    The highest order counts how often a sequence occurs, lower orders how many characters it
    follows. Discounts are n₁/(n₁ + 2 n₂), with n₁ and n₂ sequences that occur once and twice.

    Args:
        text: bytes or characters to count.
        order: n.
        alphabet: number of characters.
    """

    def __init__(self, text: Text, order: int = 5, alphabet: int = 256) -> None:
        self.order, self.alphabet = order, alphabet
        self.counts: list[Counter[Text]] = []
        raw = [
            Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in range(1, order + 1)
        ]
        for n in range(1, order + 1):
            if n == order:
                self.counts.append(raw[n - 1])
            else:  # the number of characters that a sequence follows
                self.counts.append(Counter(sequence[1:] for sequence in raw[n]))
        self.totals: list[Counter[Text]] = []
        self.follow: list[Counter[Text]] = []
        self.discounts = []
        for counts in self.counts:
            totals: Counter[Text] = Counter()
            follow: Counter[Text] = Counter()
            for sequence, count in counts.items():
                totals[sequence[:-1]] += count
                follow[sequence[:-1]] += 1
            once, twice = (sum(c == k for c in counts.values()) for k in (1, 2))
            self.discounts.append(once / (once + 2 * twice) if once else 0.5)
            self.totals.append(totals)
            self.follow.append(follow)

    def probability(self, sign: Text, before: Text) -> float:
        """Probability of a character given those before it."""
        p = 1 / self.alphabet
        for n in range(1, self.order + 1):
            context = before[len(before) - n + 1 :] if n > 1 else before[:0]
            if len(context) < n - 1 or not (total := self.totals[n - 1][context]):
                break
            discount = self.discounts[n - 1]
            count = max(self.counts[n - 1][context + sign] - discount, 0)
            p = (count + discount * self.follow[n - 1][context] * p) / total
        return p

    def bits(self, text: Text, besides: Text | None = None) -> float:
        """Mean −log₂ p of a character of a text; those in `besides` are not counted."""
        counted = [not (besides and text[i : i + 1] in besides) for i in range(len(text))]
        return float(self.surprises(text)[counted].mean())

    def surprises(self, text: Text) -> Float[np.ndarray, " n"]:
        """−log₂ p of each character of a text."""
        cache: dict[Text, float] = {}
        bits = np.empty(len(text))
        for i in range(len(text)):
            window = text[max(0, i - self.order + 1) : i + 1]
            if window not in cache:
                cache[window] = -np.log2(self.probability(window[-1:], window[:-1]))
            bits[i] = cache[window]
        return bits


def spelled(ids: np.ndarray) -> str:
    """Tokens (n,) of at most 55,000 as a string of as many characters."""
    return ids.astype("<u2").tobytes().decode("utf-16-le")
