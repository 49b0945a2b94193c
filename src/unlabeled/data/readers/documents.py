"""Texts as documents of paragraphs: read from files line by line, in memory or on disk."""

import hashlib
import json
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from unlabeled.data.disk import DiskArray, DiskTexts
from unlabeled.data.readers import cache
from unlabeled.data.readers.segment import ENDED, sentences
from unlabeled.data.readers.source import stamp
from unlabeled.errors import UserError, notice
from unlabeled.utils.files import text_blocks

ENDINGS = (".txt", ".md", ".rst", ".tokens", ".raw", ".gz")
WRAPPED = 120
"""Maximum characters of a line in a file of wrapped lines."""
SHORT = 40
"""Characters of a line below which a file is not wrapped prose."""
ONE_EACH = 0.8
"""Fraction of lines with exactly one sentence, from which on each line is taken as a sentence."""
UNPACKED = 3
"""Approximate bytes of text for each byte of a `.gz`."""
HEAD = 1 << 24
"""Characters at the beginning of a file that decide how its lines are read."""
LONGEST = 1 << 20
"""Maximum characters of a line or a paragraph; longer ones are cut at a space."""
FEW = 10
"""Minimum number of lines to judge by their width."""


@dataclass(frozen=True)
class Document:
    """One text.

    Args:
        source: name of its file, without `train` and `test`.
        paragraphs: in order, each without line breaks.
        test: whether its file is named test.
        by_line: whether each paragraph is one sentence, since its file has one sentence a line.
    """

    source: str
    paragraphs: Sequence[str]
    test: bool = False
    by_line: bool = False

    @property
    def sentences(self) -> list[str]:
        """The sentences of all paragraphs, in order."""
        return list(self.each_sentence())

    def each_sentence(self) -> Iterator[str]:
        """The sentences of all paragraphs, one at a time."""
        if self.by_line:
            return iter(self.paragraphs)
        return chain.from_iterable(map(sentences, self.paragraphs))


class Documents(Sequence[Document]):
    """Documents of files that are too large for memory.

    Their text is read when it is first needed, into a temporary file in the cache folder.

    Args:
        location: as the user gave it.
        files: each with the name of its source and whether it is for testing.
    """

    def __init__(self, location: str | Path, files: dict[Path, tuple[str, bool]]) -> None:
        self.location, self.files = location, files
        self.size = sum(map(size_of, files))
        stamps = [[*stamp(file), *used] for file, used in files.items()]
        self.stamp = hashlib.sha256(json.dumps([1, stamps]).encode()).hexdigest()

    @cached_property
    def _read(self) -> tuple[DiskTexts, np.ndarray, list[tuple[int, Document]]]:
        """All paragraphs, where those of each document end, and the first document of each file."""
        ends, last, files = array("q"), array("q"), []
        size = 0
        with tempfile.TemporaryFile(dir=cache.folder()) as file:
            for one, paragraphs in parsed(self.location, self.files):
                files.append((len(last), one))
                for paragraph in paragraphs:
                    if paragraph is None:
                        last.append(len(ends))
                        continue
                    size += file.write(paragraph.encode())
                    ends.append(size)
            texts = DiskTexts(DiskArray(file, np.uint8, (size,)), np.frombuffer(ends, np.int64))
        return texts, np.frombuffer(last, np.int64), files

    def __len__(self) -> int:
        return len(self._read[1])

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        texts, last, files = self._read
        if isinstance(index, slice):
            return Chosen(self, range(len(self))[index])
        row = range(len(last))[index]
        one = files[bisect_right(files, row, key=itemgetter(0)) - 1][1]
        return replace(one, paragraphs=texts[int(last[row - 1]) if row else 0 : int(last[row])])


class Chosen(Sequence[Document]):
    """Some of many documents, changed when they are accessed.

    Args:
        documents: all of them.
        rows: which ones, in order.
        change: returns the changed document.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        rows: Sequence[int] | np.ndarray,
        change: Callable[[Document], Document] = lambda document: document,
    ) -> None:
        self.documents, self.rows, self.change = documents, rows, change

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        if isinstance(index, slice):
            return Chosen(self.documents, self.rows[index], self.change)
        return self.change(self.documents[int(self.rows[index])])


def choose(
    documents: Sequence[Document],
    rows: Iterable[int],
    change: Callable[[Document], Document] = lambda document: document,
) -> Sequence[Document]:
    """Some documents, in a list if all are in memory; see `Chosen`."""
    if isinstance(documents, Documents | Chosen):
        return Chosen(documents, np.fromiter(rows, np.int64), change)
    return [change(documents[row]) for row in rows]


def size_of(file: Path) -> int:
    """Approximate bytes of text in a file."""
    if not file.is_file():  # reading it reports this
        return 0
    return file.stat().st_size * (UNPACKED if file.suffix.lower() == ".gz" else 1)


class _Layout(NamedTuple):
    """How the lines of a file are read: joined into paragraphs, or each by itself."""

    joined: bool
    several: bool  #: whether an empty line ends a document
    by_line: bool
    message: str  #: how lines are read, unless it is obvious


def parsed(
    location: str | Path, files: dict[Path, tuple[str, bool]]
) -> Iterator[tuple[Document, Iterator[str | None]]]:
    """Each file as a document without paragraphs, and its paragraphs, None after each document.

    Raises:
        UserError: a file cannot be read as text, or there is none.
    """
    names: dict[str, list[str]] = {}  # by how lines are read, the files where they are
    documents = cut = 0
    for path, (source, test) in files.items():
        blocks = text_blocks(path)
        first, size = [], 0
        for block in blocks:
            first.append(block)
            if (size := size + len(block)) >= HEAD:
                break
        layout = _layout("".join(first).splitlines())
        lines = _Lines(chain(first, blocks))
        counted = 0

        def paragraphs(lines: _Lines = lines, layout: _Layout = layout) -> Iterator[str | None]:
            nonlocal counted
            empty = True
            for paragraph in (
                joined_lines(lines) if layout.joined else _single(lines, layout.several)
            ):
                if paragraph is not None or not empty:
                    yield paragraph
                counted += empty and paragraph is not None
                empty = paragraph is None
            if not empty:
                yield None

        yield Document(source, [], test, layout.by_line), paragraphs()
        documents, cut = documents + counted, cut + lines.cut
        names.setdefault(layout.message, []).append(path.name)
    if not documents:
        raise UserError(
            f"{location} holds no text ({', '.join(ENDINGS)}), or nothing is in it; give files "
            "with text"
        )
    for message, taken in names.items():
        if message:
            of = taken[0] if len(taken) == 1 else f"{len(taken):,} files such as {taken[0]}"
            notice(f"{of}: {message}")
    if cut:
        notice(f"{cut:,} lines of more than {LONGEST:,} letters are cut into several, at spaces")


class _Lines:
    """Lines of a text in blocks, with their ends; very long ones are cut at a space.

    Args:
        blocks: of the text.
    """

    def __init__(self, blocks: Iterable[str]) -> None:
        self.blocks, self.cut = blocks, 0

    def __iter__(self) -> Iterator[str]:
        rest, is_cut = "", False
        for block in self.blocks:
            *lines, rest = (rest + block).split("\n")
            for line in lines:
                yield line + "\n"
                is_cut = False
            while len(rest) > LONGEST:
                at = rest.rfind(" ", LONGEST // 2, LONGEST) + 1 or LONGEST
                self.cut += not is_cut
                yield rest[:at]
                rest, is_cut = rest[at:], True
        if rest:
            yield rest


def _layout(lines: list[str]) -> _Layout:
    """How the lines of a file that begins with these are read."""
    longest = max(map(len, lines), default=0)
    broken = _broken(lines)
    if longest <= WRAPPED and broken is not False:
        message = "its lines were broken to a width and are joined into paragraphs"
        return _Layout(True, False, False, message if broken else "")
    nonempty = [line for line in lines if line.strip()]
    by_line = len(nonempty) > 1 and (
        sum(len(sentences(" ".join(line.split()))) == 1 for line in nonempty)
        >= ONE_EACH * len(nonempty)
    )
    message = "each line is taken as a sentence" if by_line else ""
    if longest <= WRAPPED:
        message = message or "each line is taken as a paragraph"
    return _Layout(False, longest > WRAPPED, by_line, message)


def joined_lines(lines: Iterable[str]) -> Iterator[str]:
    """The paragraphs between empty lines, each in one line."""
    part: list[str] = []
    size = 0
    for line in lines:
        if line.strip() and size <= LONGEST:
            part.append(line)
            size += len(line)
            continue
        if part:
            yield " ".join("".join(part).split())
        part, size = ([line], len(line)) if line.strip() else ([], 0)
    if part:
        yield " ".join("".join(part).split())


def _single(lines: Iterable[str], several: bool) -> Iterator[str | None]:
    """Each line as a paragraph; None for empty lines if these end a document."""
    for one in lines:
        for line in one.splitlines():
            if text := line.strip() if several else " ".join(line.split()):
                yield text
            elif several:
                yield None


def _broken(lines: list[str]) -> bool | None:
    """Whether lines were wrapped at a width; None if no line follows another.

    They were not if most end like sentences, if most leave room for the first word of the next one,
    or if all are short.
    """
    inner = [(a.rstrip(), b) for a, b in pairwise(lines) if a.strip() and b.strip()]
    if not inner:
        return None
    lengths = sorted(len(line) for line, _ in inner)
    width = lengths[min(len(lengths) - 1, int(0.9 * len(lengths)))]
    ended = sum(bool(ENDED.search(line)) for line, _ in inner)
    roomy = sum(len(line) + 1 + len(after.split()[0]) <= width for line, after in inner)
    short = len(inner) >= FEW and width < SHORT
    return not (short or 2 * max(ended, roomy) > len(inner))
