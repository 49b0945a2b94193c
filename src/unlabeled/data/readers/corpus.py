"""Texts as documents of paragraphs, their words, and tokenizers that learn from them."""

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

from unlabeled.data.readers import folders, patterns
from unlabeled.data.readers.segment import ENDED, sentences
from unlabeled.errors import UserError, notice
from unlabeled.utils.files import read_text

ENDINGS = (".txt", ".md", ".rst", ".tokens", ".raw", ".gz")
WRAPPED = 120
"""Letters at most in any line of a file whose lines are broken to a width."""
SHORT = 40
"""Letters of lines that nobody breaks prose to."""
ONE_EACH = 0.8
"""Share of lines of one sentence from which on each line is one."""
TEST_SHARE = 0.1
"""Of each document, at its end, kept for testing where no file is named test."""
TOO_FEW = 10
"""Documents; of so many without a part for testing, every tenth is one."""
MOST = 1 << 16
"""Tokens of a vocabulary."""


@dataclass(frozen=True)
class Document:
    """One text.

    Args:
        source: the file it is from, without `train` and `test`.
        paragraphs: in order; a paragraph is no longer broken into lines.
        test: whether its file is named test.
        by_line: whether each paragraph is one sentence, as its file has one in each line.
    """

    source: str
    paragraphs: list[str]
    test: bool = False
    by_line: bool = False

    @property
    def sentences(self) -> list[str]:
        """Of all paragraphs, in order."""
        if self.by_line:
            return self.paragraphs
        return [sentence for paragraph in self.paragraphs for sentence in sentences(paragraph)]


def read(location: str | Path | None = None) -> list[Document]:
    """Documents of a file, of all files of a folder, or of Python's own documentation.

    Of a pattern such as `books/*.txt`, all files that it matches.

    A file of short lines is a document. Where its lines were broken to a width, they are joined,
    and an empty line ends a paragraph; where they end as sentences do, or leave room for the next
    word, each line is a paragraph, and it is said which. In a file of long lines a line is a
    paragraph and an empty line ends a document. Where nearly every line is one sentence, it stays
    one, whatever it holds. Of a folder, files whose name begins or ends with the word `test` are
    for testing, and those with `valid` or `validation` are left out, or for testing where no other
    is; which ones is said. Linked folders are followed; `.gz` is unpacked.

    Raises:
        UserError: there is no text, or it cannot be read as text.
    """
    if location is None:
        return python_documentation()
    path = Path(location).expanduser()
    if patterns.is_pattern(path):
        path, listing = patterns.match(path)
        parts = _parts(listing.names, path)
    elif path.is_dir():
        listing = folders.walk(path)
        names = [name for name in listing.names if folders.ending(name) in ENDINGS]
        folders.say_links(listing, path)
        others = folders.unread({*listing.names} - {*names}, path)
        folders.say_left_out(path, len(names), "text file", others, listing)
        parts = _parts(names, path)
    elif path.is_file():
        parts = {path.name: split_named(path.name)[0]}
        path = path.parent
    else:
        raise UserError(f"no text at '{location}': give a file of text, plain or .gz, or a folder")
    documents: list[Document] = []
    lines: dict[str, list[str]] = {}  # how lines are read, and the files where they are
    for file, part in parts.items():
        read_documents, taken = _documents(path / file, part)
        documents += read_documents
        lines.setdefault(taken, []).append(file)
    if not documents:
        raise UserError(
            f"{location} holds no text ({', '.join(ENDINGS)}), or nothing is in it; give files "
            "with text"
        )
    for taken, names in lines.items():
        if taken:
            of = names[0] if len(names) == 1 else f"{len(names):,} files such as {names[0]}"
            notice(f"{of}: {taken}")
    return documents


def python_documentation() -> list[Document]:
    """The language reference that CPython ships for its `help()`: a topic is a document."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise UserError(
            "this Python came without its documentation; give a file or a folder of text"
        ) from error
    return [Document("python", _paragraphs(topics[name])) for name in sorted(topics)]


def split(documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """Documents to learn from, and to test on: those named so, else the end of each.

    The end is the last tenth of the paragraphs. Where no document has enough of them, it is every
    tenth document, or, of few documents, the last tenth of the sentences, or of the words.
    """
    if any(document.test for document in documents):
        parts = [d for d in documents if not d.test], [d for d in documents if d.test]
        if parts[0]:
            return parts
    if all(_cut(len(d.paragraphs)) == len(d.paragraphs) for d in documents):
        if len(documents) >= TOO_FEW:
            train = [d for i, d in enumerate(documents, 1) if i % TOO_FEW]
            return train, [replace(d, test=True) for d in documents[TOO_FEW - 1 :: TOO_FEW]]
        pairs = [_ends(document) for document in documents]
        return [train for train, _ in pairs], [test for _, test in pairs if test.paragraphs]
    train, test = [], []
    for document in documents:
        cut = _cut(len(document.paragraphs))
        train.append(replace(document, paragraphs=document.paragraphs[:cut]))
        test.append(replace(document, paragraphs=document.paragraphs[cut:], test=True))
    return train, test


def _cut(number: int) -> int:
    return round((1 - TEST_SHARE) * number)


def _ends(document: Document) -> tuple[Document, Document]:
    """A document of few paragraphs without its last sentences, words or letters, and those."""
    kinds: tuple[Callable[[str], list[str]], ...] = (sentences, str.split, list)
    for kind in kinds[1:] if document.by_line and len(document.paragraphs) == 1 else kinds:
        parts = [(row, part) for row, text in enumerate(document.paragraphs) for part in kind(text)]
        if len(parts) > 1:
            break
    cut = len(parts) - max(1, len(parts) - _cut(len(parts)), min(4, len(parts) // 4))

    def joined(kept: list[tuple[int, str]]) -> list[str]:
        rows = groupby(kept, lambda part: part[0])
        glue = [" " if " " in text and kind is not list else "" for text in document.paragraphs]
        return [glue[row].join(part for _, part in parts) for row, parts in rows]

    train, test = (replace(document, paragraphs=joined(p)) for p in (parts[:cut], parts[cut:]))
    return train, replace(test, test=True)


def split_named(name: str) -> tuple[str, str]:
    """What a file is for by the first or last word of its name (train, validation or test, else
    nothing), and the rest of the name.
    """
    stem = name.rpartition("/")[2].lower().removesuffix(".gz")
    stem = name.rpartition("/")[2][: len(stem)]
    words = list(re.finditer(r"[^\W\d_]+", stem.rpartition(".")[0] or stem))
    kinds = {folders.SPLITS.get(w[0].lower()): w for w in (*words[-1:], *words[:1])}
    kinds.pop(None, None)
    source = stem.partition(".")[0]
    if len(kinds) != 1:
        return "", source
    ((kind, word),) = kinds.items()
    rest = source[: word.start()] + source[word.end() :]
    return str(kind), rest.strip("_-. ") or source


def _parts(names: list[str], path: Path) -> dict[str, str]:
    """The files of a folder that are used, each with what it is for; said where names decide."""
    parts = {name: split_named(name)[0] for name in names}
    evaluated = {kind: [n for n in names if parts[n] == kind] for kind in ("test", "validation")}
    if len(evaluated["test"]) + len(evaluated["validation"]) == len(names):
        return dict.fromkeys(names, "")  # nothing else to learn from
    if evaluated["validation"] and not evaluated["test"]:
        evaluated = {"test": evaluated["validation"], "validation": []}
    if evaluated["test"]:
        message = f"of the text in {path}, {folders.some(evaluated['test'])} is tested on"
        if evaluated["validation"]:
            message += f" and {folders.some(evaluated['validation'])} is left out, for validation"
        notice(f"{message}, by their names")
    return {
        name: "test" if name in evaluated["test"] else ""
        for name in names
        if name not in evaluated["validation"]
    }


def _documents(path: Path, part: str = "") -> tuple[list[Document], str]:
    """The documents of a file, and what its lines were taken for, where that is not plain."""
    text = read_text(path)
    source, test = split_named(path.name)[1], part == "test"
    lines = text.splitlines()
    longest = max(map(len, lines), default=0)
    broken = _broken(lines)
    if longest <= WRAPPED and broken is not False:
        paragraphs = _paragraphs(text)
        taken = "its lines were broken to a width and are joined into paragraphs" if broken else ""
        return [Document(source, paragraphs, test)] if paragraphs else [], taken
    kept = [" ".join(line.split()) for line in lines if line.strip()]
    by_line = len(kept) > 1 and (
        sum(len(sentences(line)) == 1 for line in kept) >= ONE_EACH * len(kept)
    )
    taken = "each line is taken as a sentence" if by_line else ""
    if longest <= WRAPPED:
        taken = taken or "each line is taken as a paragraph"
        return [Document(source, kept, test, by_line)], taken
    parts = re.split(r"\n\s*\n", "\n".join(lines))
    texts = ([line.strip() for line in part.splitlines() if line.strip()] for part in parts)
    return [Document(source, lines, test, by_line) for lines in texts if lines], taken


def _broken(lines: list[str]) -> bool | None:
    """Whether lines were broken to a width; None where no line follows another.

    They were not where most end as sentences do, where most leave room for the first word of the
    next one, or where they are all short.
    """
    inner = [(a.rstrip(), b) for a, b in pairwise(lines) if a.strip() and b.strip()]
    if not inner:
        return None
    lengths = sorted(len(line) for line, _ in inner)
    width = lengths[min(len(lengths) - 1, int(0.9 * len(lengths)))]
    ended = sum(bool(ENDED.search(line)) for line, _ in inner)
    roomy = sum(len(line) + 1 + len(after.split()[0]) <= width for line, after in inner)
    short = len(inner) >= TOO_FEW and width < SHORT
    return not (short or 2 * max(ended, roomy) > len(inner))


def _paragraphs(text: str) -> list[str]:
    """Paragraphs between empty lines, each in one line."""
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [part for part in parts if part]
