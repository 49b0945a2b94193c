"""How well words and sentences are foretold, and what counting would say.

Methods are taken in eval mode; whatever is drawn (which words are hidden, how parts are shuffled)
is the same each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from unlabeled.augmentations.vocabulary import END, FIRST_WORD, MASK, PAD, START
from unlabeled.core import Batch
from unlabeled.data.dataset import Samples
from unlabeled.errors import UserError
from unlabeled.evaluation.ngram import KneserNey, spelled
from unlabeled.evaluation.retrieval import drawn
from unlabeled.parallel import row_ids
from unlabeled.utils.state import preserve_rng


def asked_rows(samples: Samples, most: int | None = None) -> np.ndarray:
    """Some rows, or all, in an order that is the same each time and mixes the documents."""
    return np.random.default_rng(0).permutation(len(samples))[:most]


def batches(
    samples: Samples, most: int | None = None, size: int = 64, draw: int = 0
) -> Iterator[Batch]:
    """Those rows as methods see them, each batch with its own draws."""
    every = asked_rows(samples, most)
    for start in range(0, len(every), size):
        rows = every[start : start + size]
        torch.manual_seed(1_000_003 * draw + start)
        yield Batch(torch.from_numpy(samples.x[rows]).long(), torch.from_numpy(rows))


@torch.no_grad()
def perplexity(method: Any, samples: Samples, most: int | None = None) -> float:
    """Of a method with a `negative_log_likelihood` of each token: exp of its mean over all words.

    Ends of sentences are not asked for: where a long one was cut, only its place tells.
    """
    total, asked = 0.0, 0
    with preserve_rng():
        for batch in batches(samples, most):
            ids = method.encoder.tokens(batch.x)
            known = ids >= FIRST_WORD
            total += float(method.negative_log_likelihood(ids)[known].double().sum())
            asked += int(known.sum())
    return float(np.exp(total / asked))


@torch.no_grad()
def hidden_words(method: Any, samples: Samples, most: int | None = None) -> dict[str, float]:
    """Of words that a mask stands for: `accuracy` and `perplexity`.

    Of the words chosen in training some are changed and some are shown; those are not asked for.
    """
    total, right, asked = 0.0, 0, 0
    with preserve_rng():
        for batch in batches(samples, most):
            seen, ids, chosen = method.views(batch)
            chosen &= seen == MASK
            scores = method.scores(seen, chosen).double()
            loss = torch.nn.functional.cross_entropy(scores, ids[chosen], reduction="sum")
            total += float(loss)
            right += int((scores.argmax(1) == ids[chosen]).sum())
            asked += int(chosen.sum())
    return {"accuracy": right / asked, "perplexity": float(np.exp(total / asked))}


def counted(
    train: Samples, test: Samples, vocabulary: int, most: int | None = None
) -> dict[str, float]:
    """What counting says of the same rows, each read from its start.

    Returns:
        `commonest`, the share of the commonest word, which is the accuracy of always guessing it;
        and the perplexities of words `unigram` and `trigram`, interpolated Kneser-Ney.
    """
    learned, asked = _line(train.x[:]), _line(test.x[np.sort(asked_rows(test, most))])
    words, told = (line[line >= FIRST_WORD] for line in (learned, asked))
    share = (np.bincount(words, minlength=vocabulary) + 1.0) / (len(words) + vocabulary)
    model = KneserNey(spelled(learned), 3, vocabulary)
    return {
        "commonest": float((told == share.argmax()).mean()),
        "unigram": float(np.exp(-np.log(share[told]).mean())),
        "trigram": float(2 ** model.bits(spelled(asked), chr(START) + chr(END))),
    }


def _line(x: np.ndarray) -> np.ndarray:
    """All tokens in a row, START before each text."""
    rows = x.reshape(len(x), -1)
    rows = np.concatenate([np.full((len(rows), 1), START, rows.dtype), rows], 1)
    return rows[rows != PAD]


@torch.no_grad()
def verdicts(method: Any, samples: Samples, draws: int = 5) -> np.ndarray:
    """Share of right answers to a question with two answers about each text (N,), put some times
    with other draws; where a text replaces another, it is one of these. NaN where there is none.
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

    The mean over texts whose parts are all there. Words are whole ones, as the method shuffles
    them.

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
    return {"tau": float(np.mean(taus)), "exact": float(np.mean(exact)), "parts": float(parts)}


def among(scores: torch.Tensor, right: torch.Tensor, k: int = 1) -> float:
    """Share of rows (n, m) whose right column (n,) is among the k highest.

    Of columns of the same score it is drawn which comes first, so that one score for all is chance.
    """
    own = scores.gather(1, right[:, None])
    ahead, same = (scores > own).sum(1), (scores == own).sum(1)
    return float(drawn(k - ahead, torch.ones_like(same), same - 1).mean())


@torch.no_grad()
def neighbors(method: Any, samples: Samples, candidates: int = 20) -> dict[str, float]:
    """Of neighboring sentences: is the next one likelier after its own text than after others?

    Returns:
        perplexities of the next sentence, `told` of the one before it, `misled`, told of a sentence
        of another text, and `untold`, told only what all texts have in common; and `first`, the
        share of texts whose next sentence is the likeliest of so many `candidates`, each compared
        with how likely it is after any text.
    """
    told, misled, untold, words, firsts = 0.0, 0.0, 0.0, 0, []
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
            told, misled = told + float(of[0].sum()), misled + float(of[1].sum())
            common = z.mean(0).expand_as(z)
            untold += float((method.next_decoder(common, after, method.encoder) * known).sum())
            words += int(known.sum())
            many = torch.stack([known.sum(1).roll(-i) for i in range(candidates)], 1)
            mean = table / many.clamp(min=1)  # so that short ones have no advantage
            gain = mean - mean_of_column(mean)
            for i in range(1, candidates):  # a sentence that is said again is no wrong answer
                gain[(after.roll(-i, 0) == after).all(1), i] = torch.inf
            firsts.append(among(-gain, torch.zeros(len(gain), dtype=torch.long)))
    return {
        "told": float(np.exp(told / words)),
        "misled": float(np.exp(misled / words)),
        "untold": float(np.exp(untold / words)),
        "first": float(np.mean(firsts)),
        "chance": 1 / candidates,
    }


def mean_of_column(table: torch.Tensor) -> torch.Tensor:
    """How surprising each sentence is to all texts (n, n), where row i has it at column j − i."""
    n = len(table)
    place = (torch.arange(n)[:, None] + torch.arange(n)) % n
    by_sentence = torch.empty_like(table).scatter_(1, place, table)
    return by_sentence.mean(0)[place]


@torch.no_grad()
def hidden_sentences(method: Any, samples: Samples, candidates: int = 100) -> dict[str, float]:
    """Of masked sentences: how often the right one ranks first, and in the first ten.

    A candidate that is equal to the right one is no wrong answer.
    """
    first, ten = [], []
    with preserve_rng():
        for batch in batches(samples, 20 * candidates, candidates):
            if len(batch.x) == candidates:
                rows, at = method.views(batch)
                foretold, true = method.query_and_key(rows, at)
                own = torch.arange(len(true))
                same = row_ids(rows[own, at])
                again = (same[:, None] == same) & (own[:, None] != own)
                near = (foretold @ true.T).masked_fill(again, -torch.inf)
                first.append(among(near, own))
                ten.append(among(near, own, 10))
    return {
        "first": float(np.mean(first)),
        "among_ten": float(np.mean(ten)),
        "chance": 1 / candidates,
    }
