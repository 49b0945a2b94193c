"""Lines of words for word vectors, encoded by a vocabulary, in memory or on disk."""

import hashlib
import json
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled import registry
from unlabeled.data.disk import DiskArray, store
from unlabeled.data.readers import bpe, cache, corpus
from unlabeled.data.readers.documents import Document, Documents, choose
from unlabeled.data.sets import books
from unlabeled.errors import UserError, notice
from unlabeled.utils.files import write_json

MAX_LINE = 10_000
"""Maximum words of a line, as in word2vec.c and gensim; longer lines are cut."""
BLOCK = 1 << 20
"""Number of words that are encoded at once."""


@dataclass(frozen=True)
class Lines:
    """Lines of words, as indices into a vocabulary.

    Args:
        words: of all lines, (n,).
        ends: where each line ends, (L,).
    """

    words: np.ndarray | DiskArray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    def block(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Words from `start` to `stop`, (n,) int32, and the line number of each, (n,)."""
        words = self.words[start:stop].astype(np.int32)
        return words, np.searchsorted(self.ends, np.arange(start, start + len(words)), "right")


def read_lines(data: Any, pattern: str, min_count: int) -> tuple[dict[str, int], Lines]:
    """Read paragraphs as lines of words and encode them; lists of words are taken as they are.

    Text that is too large for memory is read once and stays in the cache, encoded.

    Args:
        data: a file or folder of text, `text`, `books`, `books:FOLDER`, or lists of words.
        pattern: regular expression of a word (default: `bpe.word_pattern`).
        min_count: rarer words are left out.

    Returns:
        words with their counts, most frequent first, and the lines.

    Raises:
        UserError: the pattern is not a regular expression, there is no text, or fewer than 2 words
            occur often enough.
    """
    if not isinstance(data, str | Path):
        return encode_lines(without_spaces(data), min_count)
    try:
        word = re.compile(pattern) if pattern else None
    except re.error as error:
        raise UserError(f"the pattern '{pattern}' is not a regular expression: {error}") from error
    name, _, folder = str(data).partition(":")
    if name in ("books", "text"):
        registry.say_which("datasets", str(data))
    if name == "books":
        documents: Sequence[Document] = books.documents(folder or None)
    else:
        documents = corpus.read((folder or None) if name == "text" else data)

    def words_of(train: Sequence[Document]) -> Iterator[list[str]]:
        lines = bpe.lines_of_words(train, word)
        return without_spaces(lines) if word else lines  # only custom patterns may match spaces

    if not isinstance(documents, Documents):
        train = [document for document in documents if not document.test] or documents
        return encode_lines(words_of(train), min_count)

    def fill(folder: Path) -> bool:
        rows = [row for row, document in enumerate(documents) if not document.test]
        train = choose(documents, rows) if rows else documents
        vocabulary, lines = encode_lines(words_of(train), min_count, folder)
        np.save(folder / "ends.npy", lines.ends)
        content = {"words": list(vocabulary), "counts": list(vocabulary.values())}
        content |= {"dtype": lines.words.dtype.str, "tokens": len(lines)}
        write_json(folder / "index.json", content, indent=None)
        return True

    key = hashlib.sha256(json.dumps([1, documents.stamp, pattern, min_count]).encode()).hexdigest()
    expected = 2 * documents.size  # the text, its words as they come, and those that stay
    return cache.get_or_build(f"words-{key[:24]}", fill, _open, expected, f"words of {data}")


def _open(folder: Path) -> tuple[dict[str, int], Lines]:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    words = DiskArray(folder / "words.bin", index["dtype"], (index["tokens"],))
    vocabulary = dict(zip(index["words"], index["counts"], strict=True))
    return vocabulary, Lines(words, np.load(folder / "ends.npy", allow_pickle=False))


def without_spaces(lines: Iterable[list[str]]) -> Iterator[list[str]]:
    """Words as valid in a file of vectors: spaces become underscores, empty words are dropped."""
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
    lines: Iterable[list[str]], min_count: int, folder: Path | None = None
) -> tuple[dict[str, int], Lines]:
    """Count words and encode lines.

    Args:
        lines: of words; they are read once.
        min_count: rarer words are left out.
        folder: where `words.bin` is written (default: the words stay in memory).

    Returns:
        words with their counts, most frequent first, and the lines.

    Raises:
        UserError: fewer than 2 words occur often enough.
    """
    numbers: defaultdict[str, int] = defaultdict()  # in order of first occurrence
    numbers.default_factory = numbers.__len__
    lengths, counts = array("q"), np.zeros(0, np.int64)

    def blocks() -> Iterator[np.ndarray]:
        words: list[int] = []
        for line in lines:
            words += map(numbers.__getitem__, line)
            lengths.append(len(line))
            if len(words) >= BLOCK:
                yield np.array(words, np.uint32)
                words = []
        yield np.array(words, np.uint32)

    def counted() -> Iterator[np.ndarray]:
        nonlocal counts
        for block in blocks():
            counts = np.pad(counts, (0, len(numbers) - len(counts)))
            counts += np.bincount(block, minlength=len(numbers))
            yield block

    aside = folder / "all.bin" if folder else None
    every = store(counted(), aside, np.uint32)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] >= min_count]
    if len(order) < 2:
        raise UserError(
            f"{len(order)} words occur at least {min_count} times; give more text, or a "
            "smaller --min-count"
        )
    names = list(numbers)
    vocabulary = {names[number]: int(counts[number]) for number in order}
    rank = np.full(len(names), -1, np.int64)
    rank[order] = np.arange(len(order))
    ends = np.cumsum(np.frombuffer(lengths, np.int64))
    sizes = np.zeros(len(ends), np.int64)  # words of each line

    def ranked() -> Iterator[np.ndarray]:
        for start in range(0, len(every), BLOCK):
            words = rank[every[start : start + BLOCK]]
            frequent = np.flatnonzero(words >= 0)
            line, number = np.unique(
                np.searchsorted(ends, start + frequent, "right"), return_counts=True
            )
            sizes[line] += number
            yield words[frequent]

    path = folder / "words.bin" if folder else None
    dtype = np.uint16 if len(order) <= 1 << 16 else np.uint32
    encoded = Lines(store(ranked(), path, dtype), _cut(sizes))
    if aside:
        aside.unlink()
    return vocabulary, encoded


def _cut(lengths: np.ndarray) -> np.ndarray:
    """Ends of lines of these lengths (L,); long lines are cut, empty ones left out."""
    number = -(-lengths // MAX_LINE)
    each = np.full(number.sum(), MAX_LINE)
    last = np.cumsum(number)[number > 0] - 1
    each[last] = (lengths - (number - 1) * MAX_LINE)[number > 0]
    return np.cumsum(each)
