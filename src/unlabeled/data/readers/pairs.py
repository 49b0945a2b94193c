"""Images with captions: a folder with `.txt` beside them, a table of captions, or tar shards."""

import csv
import io
import json
import os
import re
import tarfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers import bpe, tars
from unlabeled.data.readers import images as encoded
from unlabeled.data.readers.source import Source
from unlabeled.data.split import split
from unlabeled.errors import UserError, notice
from unlabeled.modality import Images, Pairs, Text, require_part
from unlabeled.utils.files import read_text

LENGTH, VOCABULARY = 32, 4096
IMAGE = (
    *("file_name", "filepath", "file_path", "file", "image", "filename", "image_path", "img_path"),
    *("image_file", "image_name", "img", "path", "image_id", "name"),
)
CAPTION = ("text", "caption", "captions", "title", "comment", "description", "sentence", "raw")
TABLES = (".csv", ".tsv", ".jsonl")
SEPARATORS = "\t,;|"


def load(location: str | None = None, length: int = LENGTH) -> Splits:
    """Images, and as their partners captions in tokens (N, captions, length).

    Captions are, in this order: in tar shards (WebDataset) the `.txt` of the same stem; in a folder
    `captions.csv`, `metadata.csv` or any other only `.csv`, `.tsv` or `.jsonl`, also in its
    sub-folders; a `.txt` beside each image. A table's head, or the keys of its lines, name a column
    for the file and one for the text, as in open_clip's and Hugging Face's; tabs, commas,
    semicolons or | separate columns. Files are named by absolute paths, paths from the table or
    from the folder, or their unique end, with or without an ending. Several captions of an image
    are all used. Images without a caption, and captions without an image, are left out with a
    warning. A fifth is for testing, drawn by name.

    Args:
        location: the folder, one `.tar`, or the table of captions.
        length: tokens of a caption at most.

    Raises:
        UserError: there are no images, or none has a caption.
    """
    if location is None:
        raise UserError("say where the images with captions are: --data pairs:FOLDER")
    path = Path(location).expanduser()
    if not path.exists():
        raise UserError(f"no data at '{location}': give a folder, a .tar, or a table of captions")
    samples, captions = _read(path)
    if len(set(every := [caption for own in captions for caption in own])) < 2:
        raise UserError(f"all captions in {location} are '{every[0]}'; give some that differ")
    most, least = max(map(len, captions)), min(map(len, captions))
    if most > 1:
        many = f"{least} to {most}" if least < most else most
        notice(
            f"{len(captions):,} images have {many} captions each, {len(every):,} in all; each step "
            "draws one of each image, and tests take the first"
        )
    assert isinstance(samples.modality, Images)
    samples.partners = np.arange(len(captions))  # until `with_captions`, the number of the image
    samples.modality = Pairs(samples.modality, Text(VOCABULARY, length))
    splits = with_captions(split(samples, f"pairs:{location}"), captions, length, VOCABULARY)
    tokenizer = bpe.open_tokenizer(require_part(splits.modality, Text).tokenizer)
    ids = bpe.encode(tokenizer, every)
    cut = [text for text, own in zip(every, ids, strict=True) if len(own) > length]
    if cut:
        notice(
            f"{len(cut):,} of {len(every):,} captions have more than {length} tokens and are cut, "
            f"such as '{cut[0][:60]}'"
        )
    return splits


def with_captions(
    splits: Splits, captions: Sequence[Sequence[str]], length: int, vocabulary: int
) -> Splits:
    """Captions in tokens, learned from those of the training part.

    Args:
        splits: whose `partners` are the numbers of the images, (N,).
        captions: one or more for each number; where one has fewer than others, they are repeated.
        length: tokens at most.
        vocabulary: tokens at most.
    """
    learned = (text for number in splits.train.partners for text in captions[number])
    tokenizer = bpe.train_tokenizer(learned, vocabulary)
    most = max(map(len, captions))
    repeated = [own[i % len(own)] for own in captions for i in range(most)]
    table = tokens(tokenizer, repeated, length).reshape(len(captions), most, length)
    second = Text(tokenizer.get_vocab_size(), length, tokenizer=tokenizer.to_str())
    for part in (splits.train, splits.test, splits.validation):
        part.partners = table[part.partners]
        part.modality = Pairs(part.modality.encoder_input, second)
    return splits


def tokens(tokenizer: Any, texts: Sequence[str], length: int) -> np.ndarray:
    """Captions as int64 (N, length), padded or cut at the end."""
    table = np.zeros((len(texts), length), np.int64)
    for row, ids in zip(table, bpe.encode(tokenizer, texts), strict=True):
        row[: len(ids[:length])] = ids[:length]
    return table


def _read(path: Path) -> tuple[Samples, list[list[str]]]:
    """Images that have captions, and the captions of each."""
    root = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    shards = [file for file in files if file.suffix.lower() == ".tar" and file.is_file()]
    source = encoded.source_of(path if shards else root)
    images = source.names
    if shards:
        by_image, missing, empty = _members(shards, source)
    elif tables := _tables(path, images):
        by_image, missing, empty = _from_tables(tables, root, images)
    else:
        by_image, missing, empty = _beside(root, images)
    if not by_image:
        named = f": they name '{missing[0]}'" if missing else ""
        named += f", and the first image is '{images[0]}'" if missing and images else ""
        raise UserError(
            f"{path} has no captions of its {len(images):,} images{named}; put a .txt beside each "
            "image, or a .csv or .jsonl of file names and captions in the folder"
        )
    bare = [name for name in images if name not in by_image]
    parts = []
    if bare:
        parts.append(f"{len(bare):,} of {len(images):,} images have no caption ({_some(bare)})")
    if missing:
        parts.append(f"{len(missing):,} captions are of images not there ({_some(missing)})")
    if empty:
        parts.append(f"{empty:,} captions are empty")
    if parts:
        notice(f"{path}: {len(by_image):,} images have captions; {', '.join(parts)}; left out")
    if shards:
        samples = encoded.read(path, 3, beside=(".txt",))
    else:
        samples = encoded.read(root, 3, files=sorted(by_image))
    names = samples.names or []
    rows = np.array([row for row, name in enumerate(names) if name in by_image], int)
    return samples.take(rows), [by_image[names[row]] for row in rows]


def _members(shards: Sequence[Path], source: Source) -> tuple[dict[str, list[str]], list[str], int]:
    """Captions of tar shards, as `_beside` returns them."""
    texts = source.labels("txt") or [""] * len(source.names)
    by_image = {name: _lines(text) for name, text in zip(source.names, texts, strict=True)}
    by_image = {name: own for name, own in by_image.items() if own}
    stems = {tars.stem(name)[0] for name in source.names}
    missing = []
    for shard in shards:
        with tarfile.open(shard, "r:") as tar:  # complete, or its images could not be listed
            held = [member.name for member in tar if member.name.endswith(".txt")]
        prefix = next(
            (p for p in (f"{shard.name}/", "") if any(s.startswith(p) for s in stems)), ""
        )
        missing += [name for name in held if prefix + tars.stem(name)[0] not in stems]
    return by_image, missing, 0


def _some(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _beside(root: Path, images: Sequence[str]) -> tuple[dict[str, list[str]], list[str], int]:
    """Captions from the `.txt` of the same stem, files without an image, and the number of empty
    captions.
    """
    text_of = {name: (root / name).with_suffix(".txt") for name in images}
    texts = dict.fromkeys(text_of.values())  # of cat.png and cat.jpg the same
    lines = {file: _lines(read_text(file)) for file in texts if file.is_file()}
    by_image = {name: own for name, file in text_of.items() if (own := lines.get(file))}
    others = (p for p in sorted(root.rglob("*.txt")) if p not in texts)
    empty = sum(not own for own in lines.values())
    return by_image, [p.relative_to(root).as_posix() for p in others], empty


def _tables(path: Path, images: Sequence[str]) -> list[Path]:
    """The tables of captions; of several in a folder those named captions or metadata."""
    if path.is_file():
        return [path]
    files = sorted(path.iterdir())
    tables = [file for file in files if file.suffix.lower() in TABLES]
    if (path / "captions.txt").is_file() and not any(
        PurePosixPath(name).with_suffix("").as_posix() == "captions" for name in images
    ):
        tables.append(path / "captions.txt")
    for name in ("captions", "metadata"):
        if named := [table for table in tables if table.stem == name]:
            tables = named
            break
    if len(tables) > 1:
        several = " and ".join(table.name for table in tables[:2])
        raise UserError(f"{path} holds {several}; name that of the captions captions.csv")
    if tables:
        return tables
    return sorted(  # as Hugging Face has it, one in each folder
        file
        for name in ("captions", "metadata")
        for ending in TABLES
        for file in path.rglob(name + ending)
    )


def _from_tables(
    tables: Sequence[Path], root: Path, images: Sequence[str]
) -> tuple[dict[str, list[str]], list[str], int]:
    """Captions of each image, names without an image, and the number of empty captions."""
    by_image: defaultdict[str, list[str]] = defaultdict(list)
    missing: list[str] = []
    empty, by_end = 0, 0
    match = _matching(root, images)
    for table in tables:
        for name, captions in _rows(table):
            image, exact = match(name, table.parent)
            by_end += bool(image and not exact)
            texts = [line for text in captions for line in [_clean(text)] if line]
            empty += not texts
            if image is None:
                missing += [name] * len(texts)
            elif texts:
                by_image[image] += texts
    if by_end:
        notice(
            f"{by_end:,} rows of {tables[0].name} name images by the end of their paths, or stem"
        )
    return dict(by_image), missing, empty


def _matching(root: Path, images: Sequence[str]) -> Callable[[str, Path], tuple[str | None, bool]]:
    """Which image a name in a table refers to, and whether it is its exact path."""
    paths = {_composed(name): name for name in images}
    by_last: defaultdict[str, list[str]] = defaultdict(list)
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        last = PurePosixPath(path).name
        by_last[last].append(path)
        by_stem[PurePosixPath(last).stem].append(path)
    base_folder = root.absolute()

    def match(name: str, folder: Path) -> tuple[str | None, bool]:
        name = name.strip().replace("\\", "/").removeprefix("file://")
        for base in (folder, root):
            location = os.path.normpath(base.absolute() / name)
            inside = _composed(os.path.relpath(location, base_folder).replace(os.sep, "/"))
            if inside in paths:
                return paths[inside], True
            if inside.startswith("../") and Path(location).is_file():
                return location, True
        parts = PurePosixPath(_composed(name)).parts
        last = parts[-1] if parts else ""
        alike = by_last.get(last) or by_stem.get(last) or []
        alike = [path for path in alike if _same_end(PurePosixPath(path).parts[:-1], parts[:-1])]
        if len(alike) > 1:
            raise UserError(
                f"the captions name '{name}', but {len(alike)} images have that name, such as "
                f"{alike[0]} and {alike[1]}; give their paths"
            )
        if not alike and (numbered := re.fullmatch(r"(.+)#\d+", name)):  # Flickr's captions
            return match(numbered[1], folder)
        return (paths[alike[0]], False) if alike else (None, False)

    return match


def _same_end(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether the shorter path of folders is the end of the longer one."""
    n = min(len(a), len(b))
    return not n or a[-n:] == b[-n:]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _clean(text: str) -> str:
    return " ".join(_composed(text).split())


def _rows(path: Path) -> list[tuple[str, list[str]]]:
    """File names and captions of a table."""
    text = read_text(path)
    if path.suffix.lower() == ".jsonl":
        entries = _json_lines(path, text)
        keys = list(dict.fromkeys(key for entry in entries for key in entry))
        columns = _columns(keys)
        if columns is None:
            raise _no_columns(path, keys)
        rows = []
        for entry in entries:
            name, texts = map(entry.get, columns)
            if name:
                texts = texts if isinstance(texts, list) else [texts]
                rows.append((str(name), [str(text) for text in texts if text]))
        return rows
    head = text.lstrip().partition("\n")[0].strip("\r")
    heads = {
        mark: [cell.strip() for cell in next(csv.reader([head], delimiter=mark), [])]
        for mark in SEPARATORS
    }
    for mark, keys in heads.items():
        if columns := _columns(keys):
            image, caption = map(keys.index, columns)
            cells = _cells(path, text, mark, len(keys))[1:]
            return [(row[image], [row[caption]]) for row in cells]
    mark = max(SEPARATORS, key=head.count)
    keys = heads[mark]
    suffix = PurePosixPath(keys[0].partition("#")[0]).suffix if len(keys) > 1 else ""
    if suffix.lower() not in encoded.ENDINGS:
        raise _no_columns(path, keys)
    cells = _cells(path, text, mark, len(keys))
    return [(row[0], [row[-1]]) for row in cells]  # no head: the image first, its caption last


def _cells(path: Path, text: str, mark: str, number: int) -> list[list[str]]:
    """Rows of `number` cells; unquoted separators after those belong to the last cell."""

    def parsed(quoting: Any) -> list[list[str]]:
        try:
            lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark, quoting=quoting)
            return [row for row in lines if any(cell.strip() for cell in row)]
        except csv.Error as error:
            raise UserError(f"{path} cannot be read as a table: {error}; save it again") from error

    rows = parsed(csv.QUOTE_MINIMAL)
    if any(len(row) != number or any("\n" in cell for cell in row) for row in rows):
        plain = parsed(csv.QUOTE_NONE)  # a quote may be no more than a sign
        if all(len(row) == number for row in plain):
            rows = plain
    long, short = ([row for row in rows if o(len(row))] for o in (number.__lt__, number.__gt__))
    if long:
        notice(
            f"{len(long):,} rows of {path.name} have more cells than its head, such as that of "
            f"'{long[0][0]}': the excess is appended to the last one"
        )
    if short:
        notice(
            f"{len(short):,} rows of {path.name} have fewer cells than its head and are left out, "
            f"such as '{short[0][0]}'"
        )
    complete = (row for row in rows if len(row) >= number)
    return [[*row[: number - 1], mark.join(row[number - 1 :])] for row in complete]


def _json_lines(path: Path, text: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                message = f"line {number} of {path} is no JSON object: {error}; save it again"
                raise UserError(message) from error
    return rows


def _columns(keys: Sequence[str]) -> tuple[str, str] | None:
    """The columns of the image and of its caption, whatever their case."""
    known = {key.strip().lower(): key for key in reversed(keys)}
    image, caption = (
        next((known[name] for name in names if name in known), None) for names in (IMAGE, CAPTION)
    )
    return (image, caption) if image and caption else None


def _no_columns(path: Path, keys: Sequence[str]) -> UserError:
    there = ", ".join(f"'{key}'" for key in keys) or "none"
    return UserError(
        f"{path} has the columns {there}, but needs a column for the image ({', '.join(IMAGE)}) "
        f"and one for its caption ({', '.join(CAPTION)}); name them so"
    )


def _lines(text: str) -> list[str]:
    """The captions, one a line."""
    return [line for one in text.splitlines() if (line := _clean(one))]
