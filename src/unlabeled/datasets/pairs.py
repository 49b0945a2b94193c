"""Pictures with captions: a folder with `.txt` beside them, a `.csv` or `.jsonl`, or tar shards."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unlabeled.datasets import corpus, encoded
from unlabeled.datasets.base import PARTNER, Samples, Splits, split
from unlabeled.errors import Notice, UserError

LENGTH, VOCABULARY = 32, 4096
PICTURE = ("file_name", "file", "image", "filename", "path", "name")
CAPTION = ("text", "caption", "captions", "title")


def load(place: str | None = None, length: int = LENGTH) -> Splits:
    """Pictures and their captions in tokens, as the factor `partner` (N, captions, length).

    Captions are, in this order: in tar shards (WebDataset) the `.txt` of the same stem; in a folder
    `captions.csv`, `metadata.csv` or any other only `.csv`, whose head names a column for the file
    and one for the text; a `.jsonl` with the same keys, whose text may be a list; or a `.txt`
    beside each picture. Pictures without one are left out, and told. A fifth is kept for testing,
    drawn by name.

    Args:
        place: the folder, or one `.tar`.
        length: tokens of a caption at most.

    Raises:
        UserError: there are no pictures, or no captions of theirs.
    """
    if place is None:
        raise UserError("say where the pictures with captions are: --data pairs:FOLDER")
    path = Path(place).expanduser()
    samples, captions = _read(path)
    have = np.array([bool(told) for told in captions])
    if not have.any():
        raise UserError(
            f"{place} has no captions: put a .txt beside each picture, a .csv or .jsonl"
        )
    if not have.all():
        told = f"{have.sum():,} of {len(have):,} pictures have captions; the others are left out"
        warnings.warn(told, Notice, stacklevel=2)
    rows = np.flatnonzero(have)
    samples = samples.take(rows)
    samples.factors = {PARTNER: np.arange(len(rows))}  # for now, which picture it is
    splits = split(samples, f"pairs:{place}")
    return with_captions(splits, [captions[row] for row in rows], length, VOCABULARY)


def with_captions(
    splits: Splits, captions: Sequence[Sequence[str]], length: int, vocabulary: int
) -> Splits:
    """Captions in tokens, learnt from those of the training part.

    Args:
        splits: whose factor `partner` holds the number of each picture.
        captions: some for each number; where one has fewer than others, they come again.
        length: tokens at most.
        vocabulary: tokens at most.
    """
    numbers = splits.train.factors[PARTNER]
    learnt = (text for number in numbers for text in captions[number])
    tokenizer = corpus.train_tokenizer(learnt, vocabulary)
    most = max(map(len, captions))
    told = [[own[i % len(own)] for i in range(most)] for own in captions]
    table = tokens(tokenizer, [text for own in told for text in own], length)
    table = table.reshape(len(captions), most, length)
    for part in (splits.train, splits.test, splits.validation):
        part.factors[PARTNER] = table[part.factors[PARTNER]]
    splits.target = None if splits.target == PARTNER else splits.target
    splits.tokenizer, splits.vocabulary = tokenizer.to_str(), tokenizer.get_vocab_size()
    return splits


def tokens(tokenizer: Any, texts: Sequence[str], length: int) -> np.ndarray:
    """Captions as int64 (N, length), padded."""
    table = np.zeros((len(texts), length), np.int64)
    for row, ids in zip(table, corpus.encode(tokenizer, texts), strict=True):
        row[: len(ids[:length])] = ids[:length]
    return table


def _read(path: Path) -> tuple[Samples, list[list[str]]]:
    """Pictures, and the captions of each."""
    files = sorted(path.iterdir()) if path.is_dir() else []
    if path.suffix == ".tar" or any(file.suffix == ".tar" for file in files):
        samples = encoded.read(path, 3, labels_from="txt")
        codes, classes = samples.factors.get("txt"), samples.classes.get("txt", [])
        if codes is None:
            raise UserError(f"{path} has no captions that differ: put a .txt beside each picture")
        return samples, [_captions(classes[code]) for code in codes]
    samples = encoded.read(path, 3, beside=(".txt", ".csv", ".jsonl"))
    names = samples.names or []
    tables = [file for file in files if file.suffix in (".csv", ".jsonl")]
    tables = [t for t in tables if t.stem in ("captions", "metadata")] or tables
    if tables:
        if len(tables) > 1 and "captions" not in (tables[0].stem, tables[1].stem):
            told = " and ".join(t.name for t in tables[:2])
            raise UserError(f"{path} holds {told}; name that of the captions captions.csv")
        found = _table(tables[0])
        return samples, [found.get(n) or found.get(PurePosixPath(n).name) or [] for n in names]
    beside = ((path / name).with_suffix(".txt") for name in names)
    return samples, [_lines(file) if file.is_file() else [] for file in beside]


def _table(path: Path) -> dict[str, list[str]]:
    """File -> captions, from a `.csv` with a head or a `.jsonl`; of several rows, several."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            import csv

            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        keys = {key for row in rows for key in row}
        file, caption = ([k for k in known if k in keys][0] for known in (PICTURE, CAPTION))  # noqa: RUF015
        found: dict[str, list[str]] = {}
        for row in rows:
            told = row[caption] if isinstance(row[caption], list) else [row[caption]]
            found.setdefault(str(row[file]), []).extend(str(one) for one in told if one)
    except IndexError as error:
        raise UserError(
            f"{path} needs a column for the picture ({', '.join(PICTURE)}) and one for its caption "
            f"({', '.join(CAPTION)}); name them so"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read as captions: {error}; save it again") from error
    return found


def _lines(path: Path) -> list[str]:
    try:
        return _captions(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read as text: {error}; save it as UTF-8") from error


def _captions(text: str) -> list[str]:
    """A caption a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]
