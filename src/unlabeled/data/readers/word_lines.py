"""Lines of words for word vectors, and their numbers in a vocabulary."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled import registry
from unlabeled.data.readers import bpe, corpus
from unlabeled.data.sets import books
from unlabeled.errors import UserError, notice

MAX_LINE = 10_000
"""Words of a line at most, as in word2vec.c and gensim; longer lines are cut."""


def read_lines(data: Any, pattern: str = "") -> Iterator[list[str]]:
    """Paragraphs as lists of words; lists of words are taken as they are.

    Args:
        data: a file or folder of text, `text`, `books`, `books:FOLDER`, or lists of words.
        pattern: regular expression of a word (default: `bpe.word_pattern`).

    Raises:
        UserError: the pattern is no regular expression, or there is no text.
    """
    if not isinstance(data, str | Path):
        return without_spaces(data)
    try:
        word = re.compile(pattern) if pattern else None
    except re.error as error:
        raise UserError(f"the pattern '{pattern}' is no regular expression: {error}") from error
    name, _, folder = str(data).partition(":")
    if name in ("books", "text"):
        registry.say_which("datasets", str(data))
    if name == "books":
        documents = books.documents(folder or None)
    else:
        documents = corpus.read((folder or None) if name == "text" else data)
    train = [document for document in documents if not document.test] or documents
    return without_spaces(bpe.lines_of_words(train, word))


def without_spaces(lines: Iterable[list[str]]) -> Iterator[list[str]]:
    """Words as a file of vectors can hold them: spaces become underscores, empty words go."""
    spaced = empty = 0
    example = ""
    for line in lines:
        if isinstance(line, str):
            raise UserError(f"'{line[:40]}' is a text, not a list of words; split it")
        words = ["_".join(word.split()) for word in line]
        if words != line:
            changed = [old for old, new in zip(line, words, strict=True) if new and new != old]
            spaced, example = spaced + len(changed), example or next(iter(changed), "")
            empty += words.count("")
            words = [word for word in words if word]
        yield words
    messages = [
        (spaced, f"spaces in {spaced:,} words, such as '{example[:40]}', become underscores"),
        (empty, f"{empty:,} empty words are left out"),
    ]
    if spaced or empty:
        notice("; ".join(message for count, message in messages if count))


def encode_lines(
    lines: Iterable[list[str]], min_count: int
) -> tuple[dict[str, int], list[np.ndarray]]:
    """Count words and encode lines.

    Args:
        lines: of words.
        min_count: rarer words are left out.

    Returns:
        words with their counts, most frequent first, and lines of their numbers, (n,) int32.

    Raises:
        UserError: fewer than 2 words occur often enough.
    """
    lines = list(lines)
    counts = Counter(word for line in lines for word in line)
    vocabulary = {word: n for word, n in counts.most_common() if n >= min_count}
    if len(vocabulary) < 2:
        raise UserError(
            f"{len(vocabulary)} words occur at least {min_count} times; give more text, or a "
            "smaller --min-count"
        )
    number = {word: i for i, word in enumerate(vocabulary)}
    encoded = (np.array([number[w] for w in line if w in number], np.int32) for line in lines)
    starts = ((line, start) for line in encoded for start in range(0, len(line), MAX_LINE))
    return vocabulary, [line[start : start + MAX_LINE] for line, start in starts]
