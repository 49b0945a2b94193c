"""How well methods of text predict words and sentences, beside n-gram counts.

Methods are taken in eval mode; whatever is drawn (which words are hidden, how parts are shuffled)
is the same each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from unlabeled.augmentations.vocabulary import FIRST_WORD, MASK, PAD, START
from unlabeled.core import Batch
from unlabeled.data.dataset import Samples
from unlabeled.errors import UserError, notice
from unlabeled.evaluation.ngram import KneserNey, spelled
from unlabeled.evaluation.retrieval import drawn, partner_hits
from unlabeled.parallel import row_ids
from unlabeled.utils.state import preserve_rng

COUNTED = 100_000
"""Texts at most in which n-grams are counted."""


def asked_rows(samples: Samples, most: int | None = None) -> np.ndarray:
    """Some rows, or all, in a fixed random order."""
    return np.random.default_rng(0).permutation(len(samples))[:most]


def batches(
    samples: Samples, most: int | None = None, size: int = 64, draw: int = 0
) -> Iterator[Batch]:
    """Batches of those rows, each with its own random seed."""
    every = asked_rows(samples, most)
    for start in range(0, len(every), size):
        rows = every[start : start + size]
        torch.manual_seed(1_000_003 * draw + start)
        yield Batch(torch.from_numpy(samples.x[rows]).long(), torch.from_numpy(rows))


@torch.no_grad()
def next_tokens(method: Any, samples: Samples, most: int | None = None) -> np.ndarray:
    """Negative log-likelihood, in nats, and number of the words of each text: (n, 2).

    Ends of sentences are not counted: where a long one was cut, only its position tells.

    Args:
        method: with a `negative_log_likelihood` of each token.
        samples: texts.
        most: texts at most.
    """
    rows = []
    with preserve_rng():
        for batch in batches(samples, most):
            ids = method.encoder.tokens(batch.x)
            words = ids >= FIRST_WORD
            loss = (method.negative_log_likelihood(ids).double() * words).sum(1)
            rows.append(torch.stack([loss, words.sum(1).double()], 1).numpy())
    return np.concatenate(rows)


@torch.no_grad()
def masked_tokens(method: Any, samples: Samples, most: int | None = None) -> np.ndarray:
    """Negative log-likelihood, number and correct predictions of each text's masks: (n, 3).

    Of the words chosen in training some are replaced and some are unchanged; those do not count.
    """
    rows = []
    with preserve_rng():
        for batch in batches(samples, most):
            seen, ids, chosen = method.views(batch)
            chosen &= seen == MASK
            scores = method.scores(seen, chosen).double()
            loss = torch.nn.functional.cross_entropy(scores, ids[chosen], reduction="none")
            columns = loss, torch.ones_like(loss), (scores.argmax(1) == ids[chosen]).double()
            text = chosen.nonzero()[:, 0]
            sums = torch.zeros(len(ids), 3, dtype=torch.float64)
            rows.append(sums.index_add_(0, text, torch.stack(columns, 1)).numpy())
    return np.concatenate(rows)


def perplexity(method: Any, samples: Samples, most: int | None = None) -> float:
    """Exponential of the mean negative log-likelihood of all words."""
    loss, words = next_tokens(method, samples, most).sum(0)
    return float(np.exp(loss / words))


def hidden_words(method: Any, samples: Samples, most: int | None = None) -> dict[str, float]:
    """`accuracy` and `perplexity` of masked words."""
    loss, masks, correct = masked_tokens(method, samples, most).sum(0)
    return {"accuracy": correct / masks, "perplexity": float(np.exp(loss / masks))}


def counted_tokens(
    train: Samples, test: Samples, vocabulary: int, most: int | None = None
) -> dict[str, np.ndarray]:
    """Negative log-likelihood of the words of each text by n-gram counts.

    Returns:
        of `unigram`, negative log-likelihood, number of words, and how many are the most frequent
        word, (n, 3); of `trigram`, interpolated Kneser-Ney, the first two, (n, 2).
    """
    rows = np.arange(len(train))
    if len(rows) > COUNTED:  # their counts need many times the memory of the text
        notice(f"n-grams are counted in {COUNTED:,} of the {len(rows):,} texts")
        rows = np.sort(asked_rows(train, COUNTED))
    learned, tested = _line(train.x[rows]), _line(test.x[np.sort(asked_rows(test, most))])
    words = learned[learned >= FIRST_WORD]
    share = (np.bincount(words, minlength=vocabulary) + 1.0) / (len(words) + vocabulary)
    known, text = tested >= FIRST_WORD, np.cumsum(tested == START) - 1
    trigram = np.log(2) * KneserNey(spelled(learned), 3, vocabulary).surprises(spelled(tested))
    number = text[-1] + 1

    def per_text(values: np.ndarray) -> np.ndarray:
        return np.bincount(text[known], values[known], number)

    count = per_text(np.ones(len(tested)))
    unigram = per_text(-np.log(share[tested])), count, per_text(tested == share.argmax())
    return {"unigram": np.stack(unigram, 1), "trigram": np.stack([per_text(trigram), count], 1)}


def counted(
    train: Samples, test: Samples, vocabulary: int, most: int | None = None
) -> dict[str, float]:
    """Metrics of n-gram counts on the same rows.

    Returns:
        `commonest`, the share of the most frequent word, which is the accuracy of always
        predicting it; and the perplexities of `unigram` and `trigram`, interpolated Kneser-Ney.
    """
    sums = {
        name: rows.sum(0) for name, rows in counted_tokens(train, test, vocabulary, most).items()
    }
    perplexities = {name: float(np.exp(loss[0] / loss[1])) for name, loss in sums.items()}
    return {"commonest": float(sums["unigram"][2] / sums["unigram"][1])} | perplexities


def _line(x: np.ndarray) -> np.ndarray:
    """All tokens of all texts in one array, START before each text."""
    rows = x.reshape(len(x), -1)
    rows = np.concatenate([np.full((len(rows), 1), START, rows.dtype), rows], 1)
    return rows[rows != PAD]


@torch.no_grad()
def verdicts(method: Any, samples: Samples, draws: int = 5) -> np.ndarray:
    """Share of correct answers to a binary question about each text (N,), over some draws.

    Where a text replaces another, it is one of these; NaN where there is no other.
    """
    right = np.full((draws, len(samples)), np.nan)
    with preserve_rng():
        for draw, answers in enumerate(right):
            for batch in (b for b in batches(samples, draw=draw) if len(b.x) > 1):
                answers[batch.index.numpy()] = method.correct(batch).numpy()
    return right.mean(0)


@torch.no_grad()
def orders(method: Any, samples: Samples, most: int | None = None) -> dict[str, float]:
    """How well shuffled parts are put in order: Kendall's `tau`, `exact` orders, `parts` of each.

    Raises:
        UserError: no text has all parts.
    """
    scores, parts = order_scores(method, samples, most)
    tau, exact = scores.mean(0)
    return {"tau": float(tau), "exact": float(exact), "parts": float(parts)}


@torch.no_grad()
def order_scores(method: Any, samples: Samples, most: int | None = None) -> tuple[np.ndarray, int]:
    """Kendall's τ and whether the order is exact, (n, 2), of texts that have all parts; the parts.

    Raises:
        UserError: no text has all parts.
    """
    taus, exact, parts = [], [], 1
    with preserve_rng():
        for batch in batches(samples, most):
            ids, here, place = method.views(batch)
            scores = method.scores(ids, here)
            whole = method.present(ids, here).all(1)
            parts = place.shape[1]
            for one, true in zip(scores[whole].numpy(), place[whole].numpy(), strict=True):
                taus.append(kendalltau(-one, true)[0])
                exact.append(bool((np.argsort(np.argsort(-one)) == true).all()))
    if not taus:
        raise UserError(f"no text has {parts} parts to put in order; give longer ones")
    return np.stack([taus, exact], 1).astype(float), parts


def among(scores: torch.Tensor, right: torch.Tensor, k: int = 1) -> float:
    """Share of rows (n, m) whose right column (n,) is among the k highest."""
    return float(hits_among(scores, right, k).mean())


def hits_among(scores: torch.Tensor, right: torch.Tensor, k: int = 1) -> np.ndarray:
    """Whether the right column (n,) of each row (n, m) is among the k highest, (n,).

    Columns of the same score come in random order, and the result is the probability, so that one
    score for all is chance.
    """
    own = scores.gather(1, right[:, None])
    ahead, same = (scores > own).sum(1), (scores == own).sum(1)
    return drawn(k - ahead, torch.ones_like(same), same - 1).numpy()


def neighbors(method: Any, samples: Samples, candidates: int = 20) -> dict[str, float]:
    """Of neighboring sentences: is the next one likelier after its own text than after others?

    Returns:
        `perplexity_given_previous`, the perplexity of the next sentence given the one before it;
        `perplexity_given_other`, given a sentence of another text; `perplexity_given_mean`, given
        the mean of all texts; and `first`, the share of texts whose next sentence is the likeliest
        of `candidates`, each relative to its likelihood after any text.
    """
    figures, hits = neighbor_hits(method, samples, candidates)
    return figures | {"first": float(hits.mean()), "chance": 1 / candidates}


@torch.no_grad()
def neighbor_hits(
    method: Any, samples: Samples, candidates: int = 20
) -> tuple[dict[str, float], np.ndarray]:
    """The perplexities of `neighbors`, and for each text whether its next sentence ranks first."""
    previous, other, average, words, firsts = 0.0, 0.0, 0.0, 0, []
    with preserve_rng():
        for batch in batches(samples, 25 * candidates, candidates):
            if len(batch.x) < candidates:
                break
            middle, _, after = method.views(batch)
            z = method.encoder.features(middle)
            known = after != PAD
            decode = method.next_decoder
            nll = [decode(z, after.roll(-i, 0), method.encoder) for i in range(candidates)]
            words_of = [known.roll(-i, 0) for i in range(candidates)]
            table = torch.stack(
                [(n * w).sum(1) for n, w in zip(nll, words_of, strict=True)], 1
            )  # (n, candidates): of the sentence that follows i texts later
            of = torch.stack([table[:, 0], table[:, 1].roll(1)])  # the same sentences, both ways
            previous, other = previous + float(of[0].sum()), other + float(of[1].sum())
            common = z.mean(0).expand_as(z)
            average += float((method.next_decoder(common, after, method.encoder) * known).sum())
            words += int(known.sum())
            many = torch.stack([known.sum(1).roll(-i) for i in range(candidates)], 1)
            mean = table / many.clamp(min=1)  # so that short ones have no advantage
            gain = mean - mean_of_column(mean)
            for i in range(1, candidates):  # a sentence that is said again is no wrong answer
                gain[(after.roll(-i, 0) == after).all(1), i] = torch.inf
            firsts.append(hits_among(-gain, torch.zeros(len(gain), dtype=torch.long)))
    return {
        "perplexity_given_previous": float(np.exp(previous / words)),
        "perplexity_given_other": float(np.exp(other / words)),
        "perplexity_given_mean": float(np.exp(average / words)),
    }, np.concatenate(firsts)


def mean_of_column(table: torch.Tensor) -> torch.Tensor:
    """Mean over all texts of each sentence's value (n, n), where row i has it at column j − i."""
    n = len(table)
    place = (torch.arange(n)[:, None] + torch.arange(n)) % n
    by_sentence = torch.empty_like(table).scatter_(1, place, table)
    return by_sentence.mean(0)[place]


def hidden_sentences(method: Any, samples: Samples, candidates: int = 100) -> dict[str, float]:
    """Of masked sentences: how often the right one ranks first, and in the first ten.

    A candidate that is equal to the right one is no wrong answer.
    """
    first, ten = masked_sentence_hits(method, samples, candidates).mean(0)
    return {"first": float(first), "among_ten": float(ten), "chance": 1 / candidates}


@torch.no_grad()
def masked_sentence_hits(method: Any, samples: Samples, candidates: int = 100) -> np.ndarray:
    """Whether each masked sentence ranks first, and in the first ten, of so many: (n, 2)."""
    hits = []
    with preserve_rng():
        for batch in batches(samples, 20 * candidates, candidates):
            if len(batch.x) == candidates:
                rows, at = method.views(batch)
                foretold, true = method.query_and_key(rows, at)
                own = torch.arange(len(true))
                same = row_ids(rows[own, at])
                again = (same[:, None] == same) & (own[:, None] != own)
                near = (foretold @ true.T).masked_fill(again, -torch.inf)
                hits.append(np.stack([hits_among(near, own), hits_among(near, own, 10)], 1))
    return np.concatenate(hits)


@torch.no_grad()
def half_hits(encoder: Any, samples: Samples, candidates: int = 100) -> np.ndarray:
    """Whether the second half of a text is the nearest to its first by their features, and among
    the ten nearest, of so many texts: (n, 2).
    """
    hits = []
    with preserve_rng():
        for batch in batches(samples, 10 * candidates, candidates):
            if len(batch.x) == candidates:
                first, second = (encoder(part).numpy() for part in batch.x.chunk(2, dim=1))
                near = partner_hits(first, second, (1, 10))
                hits.append(np.stack([near[f"a_to_b_recall_at_{k}"] for k in (1, 10)], 1))
    return np.concatenate(hits)
