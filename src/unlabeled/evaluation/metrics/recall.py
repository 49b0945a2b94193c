"""Retrieval of the partner of a sample, or of another part of a text."""

from __future__ import annotations

import numpy as np
import torch

from unlabeled.data.dataset import to_float
from unlabeled.evaluation.baselines import TFIDF
from unlabeled.evaluation.language import (
    half_hits,
    masked_sentence_hits,
    neighbor_hits,
    random_groups,
    random_rows,
    similar_neighbor_hits,
    similar_sentence_hits,
)
from unlabeled.evaluation.metric import Metric, Subject, Value, Values, mean_share
from unlabeled.evaluation.retrieval import equal_rows, partner_hits
from unlabeled.modality import Pairs, Text, require_part

AT = (1, 5, 10)
PAIRS = 5000
"""Test pairs at most."""


class Recall(Metric):
    """Share of test samples whose partner is among the k most similar of all partners.

    The mean of both directions: `forward` from samples to partners, `backward` from partners to
    samples. Of texts: the next sentence among those of 20 texts (`skip_thoughts`), a masked
    sentence among 100 (`masked_sentences`), the second half of a text among those of 100
    (`simcse`).
    """

    key = "recall_at"
    title = "Recall"
    percent, decimals, order = True, 1, 0

    def applies(self, subject: Subject) -> bool:
        """For methods of pairs, and of whole sentences."""
        if not len(subject.splits.test):
            return False
        if isinstance(subject.modality, Pairs):
            return subject.has("project_partner")
        few = len(subject.splits.test) < 2
        return isinstance(subject.modality, Text) and not few and _of_texts(subject)

    def compute(self, subject: Subject) -> Values:
        """With Wilson intervals."""
        test = subject.splits.test
        return {
            key: mean_share(hits.astype(float), random_groups(test, len(hits)))
            for key, (hits, _) in subject.shared(recalls).items()
        }

    def references(self, subject: Subject) -> dict[str, Values]:
        """A random choice; of texts, also the words that both have, weighted by TF-IDF."""
        values = {key: Value(float(c)) for key, (_, c) in subject.shared(recalls).items()}
        if isinstance(subject.modality, Pairs):
            return {"chance": values}
        test = subject.splits.test
        counted = {
            key: mean_share(hits.astype(float), random_groups(test, len(hits)))
            for key, hits in by_words(subject).items()
        }
        return {"chance": values, "tfidf": counted}

    def title_of(self, key: str) -> str:
        """With k and the direction."""
        k, _, direction = key.removeprefix("recall_at_").partition("_")
        return f"Recall@{k}" + (f", {direction}" if direction else "")


def recalls(subject: Subject) -> dict[str, tuple[np.ndarray, float]]:
    """Hits of the first n of `random_rows` (n,) and what chance gives, by key."""
    test = subject.splits.test
    if not isinstance(subject.modality, Pairs):
        most = min(100, len(test))
        if subject.method_name == "skip_thoughts":
            few = min(20, len(test))
            return {"recall_at_1": (neighbor_hits(subject.method, test, few)[1], 1 / few)}
        hits = (
            masked_sentence_hits(subject.method, test, most)
            if subject.method_name == "masked_sentences"
            else half_hits(subject.method.encoder, test, most)
        )
        by_chance = {1: 1 / most, 10: min(1.0, 10 / most)}
        return {f"recall_at_{k}": (hits[:, i], by_chance[k]) for i, k in enumerate((1, 10))}
    a, b = _embeddings(subject)
    rows = random_rows(test, PAIRS)
    same = equal_rows(test.partners[rows, 0]), equal_rows(test.x[rows])
    at = [k for k in AT if k <= len(rows)]
    hits_of = partner_hits(a, b, at, same)
    keys = {}
    for k in at:
        forward, backward = (hits_of[f"{way}_recall_at_{k}"] for way in ("a_to_b", "b_to_a"))
        chance = float(hits_of[f"chance_recall_at_{k}"].mean())
        keys[f"recall_at_{k}"] = (forward + backward) / 2, chance
        keys[f"recall_at_{k}_forward"] = forward, chance
        keys[f"recall_at_{k}_backward"] = backward, chance
    return keys


def by_words(subject: Subject) -> dict[str, np.ndarray]:
    """As `recalls`, of the cosine similarity of TF-IDF vectors."""
    train, test = subject.splits.train, subject.splits.test
    tfidf, most = TFIDF(require_part(subject.modality, Text).vocabulary), min(100, len(test))
    tfidf.fit_weights(train)
    if subject.method_name == "skip_thoughts":
        few = min(20, len(test))
        return {"recall_at_1": similar_neighbor_hits(subject.method, tfidf.words, test, few)}
    hits = (
        similar_sentence_hits(subject.method, tfidf.words, test, most)
        if subject.method_name == "masked_sentences"
        else half_hits(tfidf.words, test, most)
    )
    return {f"recall_at_{k}": hits[:, i] for i, k in enumerate((1, 10))}


def _of_texts(subject: Subject) -> bool:
    names = ("skip_thoughts", "masked_sentences", "simcse")
    return subject.method_name in names and subject.has("views")


@torch.no_grad()
def _embeddings(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of the samples and of their first partners, (n, dim) each."""
    test, range_ = subject.splits.test, subject.splits.value_range
    parts = []
    for rows in np.array_split(random_rows(test, PAIRS), max(1, min(PAIRS, len(test)) // 250)):
        x = to_float(torch.from_numpy(test.x[rows]), range_)
        partner = torch.from_numpy(test.partners[rows, 0])
        parts.append((subject.method.project(x), subject.method.project_partner(partner)))
    a, b = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return a, b
