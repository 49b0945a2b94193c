"""List the files of a folder at any depth, find official splits, and report what is left out."""

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlabeled.data.readers import dicom
from unlabeled.errors import UserError, notice

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout"), "test"),
}
"""Names of official splits, in lower case, and what each is for."""
SUFFIX = re.compile(r"(?<=[a-z])(set|split|data|images|imgs|audio)$")
"""What may follow the name of a split, as in `training_set`."""
SHARD = re.compile(r"\.(tar|parquet|arrow|feather)(#\d+)?$", re.IGNORECASE)
ROW = re.compile(r"#\d+$")
"""Suffix of a table's name: the number of the row."""
FILE = "\0"
"""Placeholder for the name of a file, where only its folders matter."""
HIDDEN = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
"""Files that operating systems create; hidden like those whose names begin with a dot."""
HINTS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "pip install 'unlabeled[heic]'"),
    **dict.fromkeys(dicom.ENDINGS, "pip install 'unlabeled[dicom]'"),
    **dict.fromkeys((".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar"), "unpack"),
    **dict.fromkeys((".m4a", ".aac", ".wma", ".amr"), "convert to .flac or .wav"),
}
"""Remedies for files that are left out, by ending."""
SHOWN = 10
"""Number of endings that a notice lists; the others are counted together."""


Identity = tuple[int, int] | None
"""Device and inode of a folder, the same by any path; None if they are unknown."""
Visit = tuple[str, str, frozenset[Identity], bool]
"""Path, name below the root, parent folders, and whether one of these was visited before."""


@dataclass
class Listing:
    """Files below a folder, as relative paths in order.

    Args:
        names: of regular files, and of links to them.
        broken: links that lead nowhere, or to themselves.
        special: pipes, sockets and devices; in a tar, links.
        closed: folders that cannot be opened.
        loops: linked folders that are not followed, since they lead to a parent folder.
        twice: folders whose files are also listed under another name.
    """

    names: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def walk(root: Path) -> Listing:
    """All files below a folder. Linked folders are followed; hidden files are skipped.

    A link to a parent folder is not followed. A folder that is reached twice is listed twice, but
    the second time links inside it to visited folders are not followed.
    """
    listing = Listing()
    seen: set[Identity] = set()
    around = frozenset(map(_identity, root.resolve().parents)) - {None}
    folders: list[Visit] = [(str(root), "", around, False)]
    linked: list[Visit] = []
    while folders or linked:  # links last, so that of two names for a folder the real one is first
        is_link = not folders
        path, inner, above, again = linked.pop(0) if is_link else folders.pop()
        identity = _identity(Path(path))
        if identity in above or (is_link and again and identity in seen):
            listing.loops.append(inner)
            continue
        if identity in seen and not again:
            again = True
            listing.twice.append(inner)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError:
            listing.closed.append(inner or ".")
            continue
        seen.add(identity)
        above |= {identity}
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")) or entry.name.lower() in HIDDEN:
                continue
            name = f"{inner}/{entry.name}" if inner else entry.name
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself, or into a folder that cannot be opened
                is_folder = is_file = False
            if is_folder:
                later = linked if entry.is_symlink() else folders
                later.append((entry.path, name, above, again))
            elif is_file:
                listing.names.append(name)
            elif entry.is_symlink():
                listing.broken.append(name)
            else:
                listing.special.append(name)
    for names in vars(listing).values():
        names.sort()
    return listing


def _identity(path: Path) -> Identity:
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_dev, known.st_ino


def ending(name: str) -> str:
    """The ending of a name in lower case, such as ".jpg"; "" if there is none."""
    stem, _, suffix = name.rpartition(".")
    if not stem or stem[-1] in "./" or not (suffix := _suffix(suffix)):
        return ""
    is_packed = suffix in (".gz", ".bz2", ".xz") and ending(stem) == ".tar"
    return f".tar{suffix}" if is_packed else suffix


@functools.lru_cache(4096)  # many names, few endings
def _suffix(suffix: str) -> str:
    suffix = f".{suffix.lower()}"
    return suffix if re.fullmatch(r"\.([a-z][a-z0-9]{0,11}~?|7z)", suffix) else ""


def of_kind(
    names: Sequence[str],
    endings: Collection[str],
    signed: Callable[[bytes], bool],
    head: Callable[[str], bytes],
) -> list[str]:
    """Names with one of the endings, and those without any whose first bytes match `signed`."""
    endings = frozenset(endings)
    kinds = map(ending, names)
    return [
        n for n, e in zip(names, kinds, strict=True) if e in endings or (not e and signed(head(n)))
    ]


def head(path: Path) -> bytes:
    """The first bytes of a file; b"" if it cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(132)
    except OSError:
        return b""


def is_image(head: bytes) -> bool:
    """Whether a file begins like an encoded image."""
    beginnings = (
        *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"),
        *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    )
    if head.startswith(beginnings) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    if dicom.is_dicom(head):
        return True
    if head[:2] == b"BM":
        return head[6:10] == bytes(4)
    if head[4:8] == b"ftyp":
        return head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"hevc")
    return re.match(rb"P[1-6]\s+(#|\d)", head) is not None


def is_audio(head: bytes) -> bool:
    """Whether a file begins like encoded audio."""
    if head[:4] in (b"RIFF", b"RF64", b"RIFX"):
        return head[8:12] == b"WAVE"
    if head[:4] == b"FORM":
        return head[8:12] in (b"AIFF", b"AIFC")
    beginnings = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"NIST_1A", b"Creative Voice")
    return head.startswith(beginnings) or re.match(rb"\xff[\xf2\xf3\xfa\xfb]", head) is not None


def say_links(listing: Listing, path: Path) -> None:
    """Notices of duplicate, circular and unreadable folders."""
    for names, what in (
        (listing.twice, "contain the same files as another folder, and are read as well"),
        (listing.loops, "are circular links, and are not followed"),
        (listing.closed, "cannot be opened, and are left out"),
    ):
        if names:
            notice(f"{len(names):,} of the folders in {path} {what}: {some(names)}")


def say_left_out(
    path: Path, number: int, noun: str, others: Sequence[str], listing: Listing
) -> None:
    """A notice that counts, by ending, the files that are left out, if any.

    Args:
        path: the opened folder or file.
        number: number of files that are read.
        noun: singular noun for them, such as "image".
        others: names of files that are not read.
        listing: the listing with broken links and special files, which are left out as well.
    """
    counts = Counter(map(ending, others)).most_common()
    parts = [
        f"{n:,} {e or 'without a known ending'}" + (f" ({HINTS[e]})" if e in HINTS else "")
        for e, n in counts[:SHOWN]
    ]
    further = {
        "other": sum(n for _, n in counts[SHOWN:]),
        "broken link": len(listing.broken),
        "special file": len(listing.special),
    }
    parts += [f"{n:,} {what}{'s' * (n > 1)}" for what, n in further.items() if n]
    if parts:
        are = "is" if number == 1 else "s are"
        taken = f"{number:,} {noun}{' ' * (number == 1)}{are} read" if number else "nothing is read"
        notice(f"{path}: {taken}; left out: {', '.join(parts)}")


def unread(
    names: Iterable[str], path: Path, labels_from: Any = None, beside: Collection[str] = ()
) -> list[str]:
    """The names, relative to a path, that are neither labels nor other files that are read.

    Args:
        names: files that are not read as data.
        path: the folder.
        labels_from: the file of labels, or the ending of label files in a tar.
        beside: endings of further files that are read.
    """
    known = {*beside, f".{labels_from}" if isinstance(labels_from, str) else ""}
    try:
        labels = Path(labels_from).resolve().relative_to(path.resolve()).as_posix()
    except (TypeError, ValueError, OSError):
        labels = ""
    return [n for n in sorted(names) if n != labels and (ending(n) or "?") not in known]


def official(names: Sequence[str]) -> list[tuple[str, str, str]] | None:
    """The official split of each file, if folders or shards are named for splits.

    At some level, all folders have the names of splits, one for training and others:
    `train/cat/1.png`, `data/VAL/1.png`; or all shards do: `train-0000.tar/1.png`,
    `test-00000-of-00002.parquet#7`. If there are other folders at that level, all may be classes,
    and no split is official.

    Args:
        names: relative paths of all files.

    Returns:
        for each name train, validation or test, the folder or shard with that name, and the rest of
        the path without common parent folders; None if there is no official split.
    """
    locations = list(map(_location, names))
    splits = _official_locations(list(dict.fromkeys(locations)))
    if splits is None:
        return None
    parts = (splits[location] for location in locations)
    return [
        (kind, folder, _named(below, name))
        for name, (kind, folder, below) in zip(names, parts, strict=True)
    ]


def _location(name: str) -> str:
    """A name without its file name, or without the number of its row: equal for all of a folder."""
    if "#" in name and ROW.search(name):
        return f"{name.rpartition('#')[0]}#0"
    return f"{name.rpartition('/')[0]}/{FILE}"


def _named(below: str, name: str) -> str:
    """A location with the file name, or the row, of a name."""
    if below.endswith(FILE):
        return below[: -len(FILE)] + name.rpartition("/")[2]
    return below[:-1] + name.rpartition("#")[2] if below.endswith("#0") else below


def _official_locations(locations: Sequence[str]) -> dict[str, tuple[str, str, str]] | None:
    """What `official` returns, by location: there are far fewer folders than files."""
    rows, first = _rows(locations)
    for level in range(first, min(map(len, rows), default=0)):
        splits = {row[level]: _split_of(row, level) for row in rows}
        kinds = set(splits.values())
        if None not in kinds and "train" in kinds and len(kinds) > 1:
            below = [row[first:level] + row[level + 1 :] for row in rows]
            while all(len(r) > 2 for r in below) and len({r[0] for r in below}) == 1:
                below = [row[1:] for row in below]
            return {
                location: (str(splits[row[level]]), ROW.sub("", row[level]), "/".join(rest))
                for location, row, rest in zip(locations, rows, below, strict=True)
            }
    return None


def say_unofficial(names: Sequence[str], name: str) -> None:
    """A notice if some folders are named for splits, but `official` finds no split."""
    rows, first = _rows(list(dict.fromkeys(map(_location, names))))
    splits = {ROW.sub("", row[first]).replace(FILE, "files"): _split_of(row, first) for row in rows}
    named = sorted(top for top, kind in splits.items() if kind)
    if len({splits[top] for top in named}) > 1:
        others = [top for top in splits if not splits[top]]
        why = f"{some(sorted(others))} lies beside them" if others else "none is for training"
        notice(
            f"{some(named)} in {name} are named as official splits are, but {why}, so all are "
            "taken as ordinary folders; name a test set with --test"
        )


def labels(names: Sequence[str]) -> list[str]:
    """The class of each file: its first folder, below those of an official split and of shards.

    "" for a file of an official test or validation split that is in no such folder.

    Raises:
        UserError: a training file is in no such folder.
    """
    locations = list(map(_location, names))
    each = list(dict.fromkeys(locations))
    parts = _official_locations(each) or {location: ("train", "", location) for location in each}
    classes = {}
    for location, (kind, _, below) in parts.items():
        folders = [f for f in below.split("/")[:-1] if f not in ("", ".") and not SHARD.search(f)]
        if not folders and kind == "train":
            raise UserError(
                f"'{names[locations.index(location)]}' is not in a subfolder, so it has no label; "
                "move it, or give a .csv"
            )
        classes[location] = folders[0] if folders else ""
    return [classes[location] for location in locations]


def _rows(names: Sequence[str]) -> tuple[list[list[str]], int]:
    """The parts of each path, and the number of their common parent folders."""
    rows = [[part for part in name.split("/") if part not in ("", ".")] for name in names]
    first = 0
    while rows and all(len(r) > first + 1 for r in rows) and len({r[first] for r in rows}) == 1:
        first += 1
    return rows, first


def _split_of(row: list[str], level: int) -> str | None:
    """The split named by the folder or shard at a level of a path."""
    name = row[level].lower()
    if SHARD.search(name):
        splits = {SPLITS[w] for w in re.findall(r"[a-z]+", SHARD.sub("", name)) if w in SPLITS}
        return splits.pop() if len(splits) == 1 else None
    if level + 1 == len(row):
        return None
    plain = re.sub(r"[-_ ]", "", name)
    return SPLITS.get(plain) or SPLITS.get(SUFFIX.sub("", plain))


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
