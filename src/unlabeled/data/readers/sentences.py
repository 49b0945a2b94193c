"""Texts of consecutive sentences in tokens. By default, Python's documentation."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unlabeled.augmentations.vocabulary import END
from unlabeled.data.dataset import Splits
from unlabeled.data.readers import bpe, corpus
from unlabeled.data.readers.documents import Document
from unlabeled.data.readers.text import encoded
from unlabeled.errors import UserError, notice

SHORTEST = 4
"""Minimum number of tokens of a sentence, which excludes headings and numbers."""


def load(
    location: str | None = None,
    rows: int = 4,
    length: int = 32,
    vocabulary: int = 4096,
    tokenizer: str = "",
) -> Splits:
    """Consecutive sentences of documents, (N, rows, length) int32.

    A sentence ends with the token END and is padded; longer ones are cut. No sentence is in two
    samples.

    Args:
        location: as for `corpus.read`.
        rows: sentences of a sample.
        length: tokens of a sentence.
        vocabulary: number of tokens of a new tokenizer.
        tokenizer: a trained tokenizer to use instead, as JSON.

    Raises:
        UserError: there is no text there, or too little.
    """
    name = f"sentences:{location}" if location else "sentences"
    return in_rows(corpus.read(location), name, rows, length, vocabulary, tokenizer)


def in_rows(
    documents: Sequence[Document],
    name: str,
    rows: int = 4,
    length: int = 32,
    vocabulary: int = 4096,
    tokenizer: str = "",
    tested: bool = True,
    tell: bool = True,
) -> Splits:
    """The sentences of documents, as `load` returns them; all are for training unless `tested`.

    A notice counts what is left out or cut if `tell`, but not again for tokens in the cache.
    """
    if rows < 2 or length < SHORTEST:
        raise UserError(f"give at least 2 rows of {SHORTEST} tokens, not {rows} of {length}")

    short = over = long = seen = 0

    def groups(known: Any, document: Document) -> Iterator[np.ndarray]:
        nonlocal short, over, long, seen
        rest: list[np.ndarray] = []
        for tokens in bpe.encode_batches(known, document.each_sentence()):
            enough = [ids for ids in tokens if len(ids) >= SHORTEST]
            seen, short = seen + len(tokens), short + len(tokens) - len(enough)
            long += sum(len(ids) >= length for ids in enough)
            rest += enough
            complete = len(rest) // rows * rows
            table = np.zeros((complete, length), np.int32)
            for row, ids in zip(table, rest, strict=False):
                ended = np.append(ids[: length - 1], np.int32(END))
                row[: len(ended)] = ended
            yield table.reshape(-1, rows, length)
            rest = rest[complete:]
        over += len(rest)

    splits = encoded(documents, name, (rows, length), groups, vocabulary, tokenizer, tested)
    if tell and (short or over or long or (seen and not tested)):
        message = f"{rows} consecutive sentences are a sample"
        if short or over:
            message += (
                f"; {short + over:,} of {seen:,} sentences are left out, {short:,} of fewer than "
                f"{SHORTEST} tokens and {over:,} at the end of a document that fill no sample"
            )
        if long:
            message += f"; {long:,} of more than {length - 1} tokens are cut"
        notice(f"{name}: {message}")
    return splits
