"""A character model that only counts, for those that learn to be measured by.

Interpolated Kneser-Ney: Kneser, Ney 1995; Chen, Goodman 1999, eq. 22–24, one discount an order.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np


class KneserNey:
    """p(character | the last n − 1) from counts of sequences up to n.

    The highest order counts how often a sequence occurs, lower ones how many characters it follows.
    Discounts are n₁/(n₁ + 2 n₂), by how many sequences were seen once and twice.

    Args:
        text: bytes to count.
        order: n.
        alphabet: how many signs there are.
    """

    def __init__(self, text: bytes, order: int = 5, alphabet: int = 256) -> None:
        self.order, self.alphabet = order, alphabet
        self.counts: list[Counter[bytes]] = []
        raw = [
            Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in range(1, order + 1)
        ]
        for n in range(1, order + 1):
            if n == order:
                self.counts.append(raw[n - 1])
            else:  # of how many characters a sequence is the continuation
                self.counts.append(Counter(sequence[1:] for sequence in raw[n]))
        self.totals: list[Counter[bytes]] = []
        self.follow: list[Counter[bytes]] = []
        self.discounts = []
        for counts in self.counts:
            totals: Counter[bytes] = Counter()
            follow: Counter[bytes] = Counter()
            for sequence, count in counts.items():
                totals[sequence[:-1]] += count
                follow[sequence[:-1]] += 1
            once, twice = (sum(c == k for c in counts.values()) for k in (1, 2))
            self.discounts.append(once / (once + 2 * twice) if once else 0.5)
            self.totals.append(totals)
            self.follow.append(follow)

    def probability(self, sign: bytes, before: bytes) -> float:
        """Of one character after those before it."""
        found = 1 / self.alphabet
        for n in range(1, self.order + 1):
            context = before[len(before) - n + 1 :] if n > 1 else b""
            if len(context) < n - 1 or not (total := self.totals[n - 1][context]):
                break
            discount = self.discounts[n - 1]
            kept = max(self.counts[n - 1][context + sign] - discount, 0)
            found = (kept + discount * self.follow[n - 1][context] * found) / total
        return found

    def bits(self, text: bytes) -> float:
        """Mean surprise of a character of a text, in bits."""
        known: dict[bytes, float] = defaultdict(float)
        total = 0.0
        for i in range(len(text)):
            window = text[max(0, i - self.order + 1) : i + 1]
            if window not in known:
                known[window] = -np.log2(self.probability(window[-1:], window[:-1]))
            total += known[window]
        return float(total / len(text))
