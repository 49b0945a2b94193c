"""Read texts as documents of paragraphs, and split them into training and test documents."""

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from unlabeled.data.readers import folders, patterns
from unlabeled.data.readers.documents import (
    ENDINGS,
    Document,
    Documents,
    choose,
    joined_lines,
    parsed,
    size_of,
)
from unlabeled.data.readers.segment import sentences
from unlabeled.errors import UserError, notice

TEST_SHARE = 0.1
"""Fraction at the end of each document that is for testing, if no file is named test."""
TOO_FEW = 10
"""Number of documents from which on, if all are too short to cut, every tenth is for testing."""
IN_MEMORY = 64 << 20
"""Maximum bytes of text in memory; larger text stays on disk."""
MOST = 1 << 16
"""Maximum number of tokens in a vocabulary."""


def read(location: str | Path | None = None) -> Sequence[Document]:
    """Read documents from a file, a folder or a pattern; by default Python's documentation.

    A file of short lines is a document. If its lines were wrapped at a width, they are joined, and
    an empty line ends a paragraph; if they end like sentences, or leave room for the next word,
    each line is a paragraph. In a file of long lines a line is a paragraph and an empty line ends a
    document. If nearly every line is a single sentence, each line is a sentence. Notices report
    which rule was used. In a folder, files whose name begins or ends with the word `test` are for
    testing; those with `valid` or `validation` are left out, or for testing if there is no test
    file. Linked folders are followed; `.gz` is unpacked.

    Args:
        location: a file, a folder, or a pattern such as `books/*.txt`.

    Raises:
        UserError: there is no text, or a file is not text.
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
    files = {
        path / name: (split_named(Path(name).name)[1], part == "test")
        for name, part in parts.items()
    }
    if sum(map(size_of, files)) > IN_MEMORY:
        return Documents(location, files)
    documents = []
    for one, paragraphs in parsed(location, files):
        own: list[str] = []
        for paragraph in paragraphs:
            if paragraph is None:
                documents.append(replace(one, paragraphs=own))
                own = []
            else:
                own.append(paragraph)
    return documents


def python_documentation() -> list[Document]:
    """The language reference that CPython ships for `help()`; each topic is a document."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise UserError(
            "this Python came without its documentation; give a file or a folder of text"
        ) from error
    return [
        Document("python", list(joined_lines(topics[name].splitlines(True))))
        for name in sorted(topics)
    ]


def split(documents: Sequence[Document]) -> tuple[Sequence[Document], Sequence[Document]]:
    """Training documents and test documents: by the names of their files, else the end of each.

    The end is the last tenth of the paragraphs. If all documents are too short for that, every
    tenth document is for testing, or, of few documents, the last tenth of the sentences or words.
    """
    tested = [row for row, document in enumerate(documents) if document.test]
    if 0 < len(tested) < len(documents):
        learned = [row for row, document in enumerate(documents) if not document.test]
        return choose(documents, learned), choose(documents, tested)
    if all(_cut(len(d.paragraphs)) == len(d.paragraphs) for d in documents):
        rows = range(len(documents))
        if len(documents) >= TOO_FEW:
            train = [row for row in rows if (row + 1) % TOO_FEW]
            tested = [row for row in rows if not (row + 1) % TOO_FEW]
            return choose(documents, train), choose(documents, tested, _as_test)
        pairs = [_ends(document) for document in documents]
        return [train for train, _ in pairs], [test for _, test in pairs if test.paragraphs]

    def begin(document: Document) -> Document:
        cut = _cut(len(document.paragraphs))
        return replace(document, paragraphs=document.paragraphs[:cut])

    def end(document: Document) -> Document:
        cut = _cut(len(document.paragraphs))
        return replace(document, paragraphs=document.paragraphs[cut:], test=True)

    rows = range(len(documents))
    return choose(documents, rows, begin), choose(documents, rows, end)


def _as_test(document: Document) -> Document:
    return replace(document, test=True)


def _cut(number: int) -> int:
    return round((1 - TEST_SHARE) * number)


def _ends(document: Document) -> tuple[Document, Document]:
    """Split a short document into its beginning and its last sentences, words or letters."""
    kinds: tuple[Callable[[str], list[str]], ...] = (sentences, str.split, list)
    for kind in kinds[1:] if document.by_line and len(document.paragraphs) == 1 else kinds:
        parts = [(row, part) for row, text in enumerate(document.paragraphs) for part in kind(text)]
        if len(parts) > 1:
            break
    cut = len(parts) - max(1, len(parts) - _cut(len(parts)), min(4, len(parts) // 4))

    def joined(parts_kept: list[tuple[int, str]]) -> list[str]:
        rows = groupby(parts_kept, lambda part: part[0])
        glue = [" " if " " in text and kind is not list else "" for text in document.paragraphs]
        return [glue[row].join(part for _, part in parts) for row, parts in rows]

    train, test = (replace(document, paragraphs=joined(p)) for p in (parts[:cut], parts[cut:]))
    return train, replace(test, test=True)


def split_named(name: str) -> tuple[str, str]:
    """The split that the first or last word of a file name names (train, validation, test or ""),
    and the rest of the name.
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
    """The split of each file of a folder, with a notice if names decide; "" is both."""
    parts = {name: split_named(name)[0] for name in names}
    evaluated = {kind: [n for n in names if parts[n] == kind] for kind in ("test", "validation")}
    if len(evaluated["test"]) + len(evaluated["validation"]) == len(names):
        return dict.fromkeys(names, "")  # no file would be left for training
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
