"""How well methods of text predict words and sentences, compared with n-gram counts.

Methods are expected in eval mode; random choices (which words are masked, how parts are shuffled)
have fixed seeds.
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
from unlabeled.evaluation.ngram import KneserNey, best_order, spelled
from unlabeled.evaluation.retrieval import drawn, partner_hits
from unlabeled.parallel import row_ids
from unlabeled.utils.state import preserve_rng

ORDERS = range(2, 5)
"""Orders of n-gram models that are tried."""
COUNTED = 200_000
"""Maximum number of texts in which n-grams are counted."""


def random_rows(samples: Samples, most: int | None = None) -> np.ndarray:
    """Some rows, or all, in a fixed random order."""
    return np.random.default_rng(0).permutation(len(samples))[:most]


def random_groups(samples: Samples, n: int) -> np.ndarray | None:
    """The groups of the first n of those rows, (n,); None if ungrouped."""
    codes = samples.group_codes()
    return None if codes is None else codes[random_rows(samples, n)]


def batches(
    samples: Samples, most: int | None = None, size: int = 64, draw: int = 0
) -> Iterator[Batch]:
    """Batches of those rows, each with its own random seed."""
    every = random_rows(samples, most)
    for start in range(0, len(every), size):
        rows = every[start : start + size]
        torch.manual_seed(1_000_003 * draw + start)
        yield Batch(torch.from_numpy(samples.x[rows]).long(), torch.from_numpy(rows))


@torch.no_grad()
def next_tokens(method: Any, samples: Samples, most: int | None = None) -> np.ndarray:
    """Negative log-likelihood, in nats, and number of the words of each text: (n, 2).

    Ends of sentences are not counted: the end of a sentence that was cut is known by its position.

    Args:
        method: with a `negative_log_likelihood` of each token.
        samples: texts.
        most: maximum number of texts.
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

    In training some chosen words are replaced or unchanged; here only masked ones are counted.
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


@torch.no_grad()
def replaced_tokens(method: Any, samples: Samples, most: int | None = None) -> np.ndarray:
    """Words of texts of which a generator replaced some, and how they are judged: (m, 4).

    Args:
        method: `electra`.
        samples: texts.
        most: texts at most.

    Returns:
        for each word its text, the word that stands there, whether it replaces another, and the
        logit of that.
    """
    rows, start = [], 0
    with preserve_rng():
        for batch in batches(samples, most):
            views = method.views(batch)
            ids, filled = views[0], method.corrupt(views)[1]
            words = ids >= FIRST_WORD
            text = start + words.nonzero()[:, 0]
            columns = text, filled[words], (filled != ids)[words], method.scores(filled)[words]
            rows.append(torch.stack([column.double() for column in columns], 1).numpy())
            start += len(ids)
    return np.concatenate(rows)


def word_frequencies(train: Samples, vocabulary: int) -> np.ndarray:
    """Share of each token among all of the training texts, with one more of each, (vocabulary,)."""
    counts = np.bincount(train.x[train.x != PAD], minlength=vocabulary) + 1.0
    frequencies: np.ndarray = counts / counts.sum()
    return frequencies


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
        word, (n, 3); of interpolated Kneser-Ney, such as `4-gram`, of the order that is best at the
        end of the training texts, the first two, (n, 2).
    """
    rows = np.arange(len(train))
    if len(rows) > COUNTED:  # their counts need many times the memory of the text
        notice(f"n-grams are counted in {COUNTED:,} of the {len(rows):,} texts")
        rows = np.sort(random_rows(train, COUNTED))
    learned, tested = _line(train.x[rows]), _line(test.x[np.sort(random_rows(test, most))])
    words = learned[learned >= FIRST_WORD]
    share = (np.bincount(words, minlength=vocabulary) + 1.0) / (len(words) + vocabulary)
    known, text = tested >= FIRST_WORD, np.cumsum(tested == START) - 1
    order = best_order(spelled(learned), ORDERS, vocabulary)
    counts = KneserNey(spelled(learned), order, vocabulary)
    n_gram = np.log(2) * counts.surprises(spelled(tested))
    number = text[-1] + 1

    def per_text(values: np.ndarray) -> np.ndarray:
        return np.bincount(text[known], values[known], number)

    count = per_text(np.ones(len(tested)))
    unigram = per_text(-np.log(share[tested])), count, per_text(tested == share.argmax())
    return {
        "unigram": np.stack(unigram, 1),
        f"{order}-gram": np.stack([per_text(n_gram), count], 1),
    }


def counted(
    train: Samples, test: Samples, vocabulary: int, most: int | None = None
) -> dict[str, float]:
    """Metrics of n-gram counts on the same rows.

    Returns:
        `most_frequent_class`, the share of the most frequent word, which is the accuracy of always
        predicting it; and the perplexities of `unigram` and of interpolated Kneser-Ney, such as
        `4-gram`.
    """
    sums = {
        name: rows.sum(0) for name, rows in counted_tokens(train, test, vocabulary, most).items()
    }
    perplexities = {name: float(np.exp(loss[0] / loss[1])) for name, loss in sums.items()}
    return {"most_frequent_class": float(sums["unigram"][2] / sums["unigram"][1])} | perplexities


def _line(x: np.ndarray) -> np.ndarray:
    """All tokens of all texts in one array, START before each text."""
    rows = x.reshape(len(x), -1)
    rows = np.concatenate([np.full((len(rows), 1), START, rows.dtype), rows], 1)
    return rows[rows != PAD]


@torch.no_grad()
def correct_answers(method: Any, samples: Samples, draws: int = 5) -> np.ndarray:
    """Share of correct answers to a binary question about each text (N,), over some draws.

    Replaced texts are drawn from the same texts; NaN if there is no other text.
    """
    right = np.full((draws, len(samples)), np.nan)
    with preserve_rng():
        for draw, answers in enumerate(right):
            for batch in (b for b in batches(samples, draw=draw) if len(b.x) > 1):
                answers[batch.index.numpy()] = method.correct(batch).numpy()
    return right.mean(0)


@torch.no_grad()
def orders(method: Any, samples: Samples) -> dict[str, float]:
    """How well shuffled parts are ordered: Kendall's `tau`, `exact` orders, `parts` of each text.

    Raises:
        UserError: no text has all parts.
    """
    scores, parts, _ = order_scores(method, samples)
    tau, exact = scores.mean(0)
    return {"tau": float(tau), "exact": float(exact), "parts": float(parts)}


@torch.no_grad()
def order_scores(
    method: Any, samples: Samples, most: int | None = None
) -> tuple[np.ndarray, int, np.ndarray]:
    """How well shuffled parts are ordered, by text.

    Returns:
        Kendall's τ and whether the order is exact (n, 2), of the texts with all parts; the number
        of parts; the texts' rows (n,).

    Raises:
        UserError: no text has all parts.
    """
    taus, exact, rows, parts = [], [], [], 1
    with preserve_rng():
        for batch in batches(samples, most):
            ids, here, positions = method.views(batch)
            scores = method.scores(ids, here)
            complete = method.present(ids, here).all(1)
            parts = positions.shape[1]
            rows.append(batch.index[complete].numpy())
            for one, true in zip(
                scores[complete].numpy(), positions[complete].numpy(), strict=True
            ):
                taus.append(kendalltau(-one, true)[0])
                exact.append(bool((np.argsort(np.argsort(-one)) == true).all()))
    if not taus:
        raise UserError(f"no text has {parts} parts to put in order; give longer ones")
    return np.stack([taus, exact], 1).astype(float), parts, np.concatenate(rows)


def among(scores: torch.Tensor, right: torch.Tensor, k: int = 1) -> float:
    """Share of rows (n, m) whose correct column (n,) is among the k highest."""
    return float(hits_among(scores, right, k).mean())


def hits_among(scores: torch.Tensor, right: torch.Tensor, k: int = 1) -> np.ndarray:
    """Whether the correct column (n,) of each row (n, m) is among the k highest, (n,).

    Ties are broken at random, and the result is the probability, so that constant scores are at
    chance level.
    """
    own = scores.gather(1, right[:, None])
    ahead, same = (scores > own).sum(1), (scores == own).sum(1)
    return drawn(k - ahead, torch.ones_like(same), same - 1).numpy()


def sentence_hits(near: torch.Tensor, sentences: torch.Tensor) -> np.ndarray:
    """Whether the diagonal of similarities (n, n) ranks first, and among the first ten, (n, 2).

    Candidates that equal the right one of the sentences (n, L) are not wrong answers.
    """
    own, same = torch.arange(len(near)), row_ids(sentences)
    again = (same[:, None] == same) & (own[:, None] != own)
    near = near.masked_fill(again, -torch.inf)
    return np.stack([hits_among(near, own), hits_among(near, own, 10)], 1)


def neighbors(method: Any, samples: Samples, candidates: int = 20) -> dict[str, float]:
    """Neighboring sentences: is the next one more likely after its own text than after others?

    Returns:
        `perplexity_given_previous`, the perplexity of the next sentence given the one before it;
        `perplexity_given_other`, given a sentence of another text; `perplexity_given_mean`, given
        the mean of all texts; and `first`, the share of texts whose next sentence is the most
        likely of `candidates`, each relative to its likelihood after any text.
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
            pair = torch.stack([table[:, 0], table[:, 1].roll(1)])  # the same sentences, both ways
            previous, other = previous + float(pair[0].sum()), other + float(pair[1].sum())
            common = z.mean(0).expand_as(z)
            average += float((method.next_decoder(common, after, method.encoder) * known).sum())
            words += int(known.sum())
            many = torch.stack([known.sum(1).roll(-i) for i in range(candidates)], 1)
            mean = table / many.clamp(min=1)  # so that short ones have no advantage
            gain = mean - mean_of_column(mean)
            for i in range(1, candidates):  # an identical sentence is not a wrong answer
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
    index = (torch.arange(n)[:, None] + torch.arange(n)) % n
    by_sentence = torch.empty_like(table).scatter_(1, index, table)
    return by_sentence.mean(0)[index]


def hidden_sentences(method: Any, samples: Samples, candidates: int = 100) -> dict[str, float]:
    """Masked sentences: how often the correct one ranks first, and among the first ten.

    A candidate that equals the correct one is not a wrong answer.
    """
    first, ten = masked_sentence_hits(method, samples, candidates).mean(0)
    return {"first": float(first), "among_ten": float(ten), "chance": 1 / candidates}


@torch.no_grad()
def masked_sentence_hits(method: Any, samples: Samples, candidates: int = 100) -> np.ndarray:
    """Whether each masked sentence ranks first, and among the first ten, of candidates: (n, 2)."""
    hits = []
    with preserve_rng():
        for batch in batches(samples, 20 * candidates, candidates):
            if len(batch.x) == candidates:
                rows, at = method.views(batch)
                foretold, true = method.query_and_key(rows, at)
                hits.append(sentence_hits(foretold @ true.T, rows[torch.arange(len(true)), at]))
    return np.concatenate(hits)


@torch.no_grad()
def similar_neighbor_hits(method: Any, words: Any, samples: Samples, candidates: int) -> np.ndarray:
    """As `neighbor_hits`, of the sentence with the most similar words: (n,).

    Args:
        method: draws the sentences.
        words: unit vectors of sentences, (B, L) -> (B, d).
        samples: texts.
        candidates: number of texts whose next sentences are ranked.
    """
    hits = []
    with preserve_rng():
        for batch in batches(samples, 25 * candidates, candidates):
            if len(batch.x) < candidates:
                break
            middle, _, after = method.views(batch)
            hits.append(sentence_hits(words(middle) @ words(after).T, after)[:, 0])
    return np.concatenate(hits)


@torch.no_grad()
def similar_sentence_hits(method: Any, words: Any, samples: Samples, candidates: int) -> np.ndarray:
    """As `masked_sentence_hits`, of the sentence whose words are most similar to the others of the
    text: (n, 2). Arguments as in `similar_neighbor_hits`.
    """
    hits = []
    with preserve_rng():
        for batch in batches(samples, 20 * candidates, candidates):
            if len(batch.x) == candidates:
                rows, at = method.views(batch)
                own, context = torch.arange(len(rows)), rows.clone()
                context[own, at] = PAD
                hidden = rows[own, at]
                hits.append(sentence_hits(words(context) @ words(hidden).T, hidden))
    return np.concatenate(hits)


@torch.no_grad()
def half_hits(encoder: Any, samples: Samples, candidates: int = 100) -> np.ndarray:
    """Whether the second half of a text is nearest to its first half by their features, and among
    the ten nearest, of a number of texts: (n, 2).
    """
    hits = []
    with preserve_rng():
        for batch in batches(samples, 10 * candidates, candidates):
            if len(batch.x) == candidates:
                first, second = (encoder(part).numpy() for part in batch.x.chunk(2, dim=1))
                near = partner_hits(first, second, (1, 10))
                hits.append(np.stack([near[f"a_to_b_recall_at_{k}"] for k in (1, 10)], 1))
    return np.concatenate(hits)
