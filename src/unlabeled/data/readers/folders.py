"""What a folder holds: its files at any depth, its official splits, and what is left out."""

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
"""The row of a table, after its name."""
FILE = "\0"
"""In the place of the name of a file, where only its folders matter."""
HIDDEN = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
"""Files that a system leaves in folders; so are those whose names begin with a dot."""
HINTS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "pip install 'unlabeled[heic]'"),
    **dict.fromkeys(dicom.ENDINGS, "pip install 'unlabeled[dicom]'"),
    **dict.fromkeys((".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar"), "unpack"),
    **dict.fromkeys((".m4a", ".aac", ".wma", ".amr"), "convert to .flac or .wav"),
}
"""What makes files readable that are left out."""
SHOWN = 10
"""Endings that are named; the others are counted together."""


Identity = tuple[int, int] | None
"""Device and number of a folder, the same by whatever path; None where it cannot be known."""
Visit = tuple[str, str, frozenset[Identity], bool]
"""Path, name below the root, folders around it, and whether a folder around it was seen before."""


@dataclass
class Listing:
    """Files below a folder, as relative paths in order.

    Args:
        names: of regular files, and of links to them.
        broken: links that lead nowhere.
        special: pipes, sockets and devices, in a tar links.
        closed: folders that cannot be opened.
        loops: linked folders that are not followed, since they lead back.
        twice: folders whose files are listed under another name, too.
    """

    names: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    loops: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def walk(root: Path) -> Listing:
    """All files below a folder. Linked folders are followed; hidden files are skipped.

    A link to a folder around it is not followed. A folder that is reached twice is listed twice,
    but no further links inside the second time lead to folders that were seen.
    """
    listing = Listing()
    seen: set[Identity] = set()
    around = frozenset(map(_identity, root.resolve().parents)) - {None}
    folders: list[Visit] = [(str(root), "", around, False)]
    linked: list[Visit] = []
    while folders or linked:  # links come last: what is linked here and lies here counts as linked
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
            if entry.is_dir():
                later = linked if entry.is_symlink() else folders
                later.append((entry.path, name, above, again))
            elif entry.is_file():
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
    """In lower case, such as ".jpg"; empty where what follows the last dot is no ending."""
    stem, _, suffix = name.rpartition(".")
    if not stem or stem[-1] in "./" or not (suffix := _suffix(suffix)):
        return ""
    is_packed = suffix in (".gz", ".bz2", ".xz") and ending(stem) == ".tar"
    return f".tar{suffix}" if is_packed else suffix


@functools.lru_cache(4096)  # many names, few endings
def _suffix(suffix: str) -> str:
    suffix = f".{suffix.lower()}"
    return suffix if re.fullmatch(r"\.[a-z][a-z0-9]{0,11}~?", suffix) else ""


def of_kind(
    names: Sequence[str],
    endings: Collection[str],
    signed: Callable[[bytes], bool],
    head: Callable[[str], bytes],
) -> list[str]:
    """Names with one of the endings, and those without any whose first bytes say so."""
    endings = frozenset(endings)
    kinds = map(ending, names)
    return [
        n for n, e in zip(names, kinds, strict=True) if e in endings or (not e and signed(head(n)))
    ]


def head(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(132)
    except OSError:
        return b""


def is_image(head: bytes) -> bool:
    """Whether a file begins as an encoded image does."""
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
    """Whether a file begins as one of audio does."""
    if head[:4] in (b"RIFF", b"RF64", b"RIFX"):
        return head[8:12] == b"WAVE"
    if head[:4] == b"FORM":
        return head[8:12] in (b"AIFF", b"AIFC")
    beginnings = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"NIST_1A", b"Creative Voice")
    return head.startswith(beginnings) or re.match(rb"\xff[\xf2\xf3\xfa\xfb]", head) is not None


def say_links(listing: Listing, path: Path) -> None:
    """A notice of what links led to, where that is unusual."""
    for names, what in (
        (listing.twice, "hold what another folder here holds, and are read as well"),
        (listing.loops, "are links that lead back, and are not followed"),
        (listing.closed, "cannot be opened, and are left out"),
    ):
        if names:
            notice(f"{len(names):,} of the folders in {path} {what}: {some(names)}")


def say_left_out(
    path: Path, number: int, noun: str, others: Sequence[str], listing: Listing
) -> None:
    """A notice that counts by ending what is left out, if anything is.

    Args:
        path: what is opened.
        number: of files that are read.
        noun: what they are, such as "image".
        others: names of files that are not read.
        listing: whose broken links and special files are left out as well.
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
    """Those of the names, relative to a path, that hold neither labels nor what lies beside.

    Args:
        names: of files that are not read as data.
        path: of the folder.
        labels_from: a file of labels, or the ending of those in a tar.
        beside: endings of further files that are read.
    """
    known = {*beside, f".{labels_from}" if isinstance(labels_from, str) else ""}
    try:
        labels = Path(labels_from).resolve().relative_to(path.resolve()).as_posix()
    except (TypeError, ValueError, OSError):
        labels = ""
    return [n for n in sorted(names) if n != labels and (ending(n) or "?") not in known]


def official(names: Sequence[str]) -> list[tuple[str, str, str]] | None:
    """Which official split each file belongs to, where folders or shards say so.

    At some level of folders all files lie in folders named as splits are, in one for training and
    in others: `train/cat/1.png`, `data/VAL/1.png`; or all shards are named so:
    `train-0000.tar/1.png`, `test-00000-of-00002.parquet#7`. Where other folders lie beside them,
    all may be classes, and nothing is official.

    Args:
        names: relative paths of all files.

    Returns:
        for each name train, validation or test, the folder or shard that says so, and the rest of
        the name without the folders that all have in common; None where nothing is official.
    """
    places = list(map(_place, names))
    found = _official_places(list(dict.fromkeys(places)))
    if found is None:
        return None
    parts = (found[place] for place in places)
    return [
        (kind, folder, _named(below, name))
        for name, (kind, folder, below) in zip(names, parts, strict=True)
    ]


def _place(name: str) -> str:
    """A name without what tells it from others in its folder, or from other rows of its table."""
    if "#" in name and ROW.search(name):
        return f"{name.rpartition('#')[0]}#0"
    return f"{name.rpartition('/')[0]}/{FILE}"


def _named(below: str, name: str) -> str:
    """The end of a place with that of a name."""
    if below.endswith(FILE):
        return below[: -len(FILE)] + name.rpartition("/")[2]
    return below[:-1] + name.rpartition("#")[2] if below.endswith("#0") else below


def _official_places(places: Sequence[str]) -> dict[str, tuple[str, str, str]] | None:
    """By place what `official` returns; of folders, which are few where files are many."""
    rows, first = _rows(places)
    for level in range(first, min(map(len, rows), default=0)):
        splits = {row[level]: _split_of(row, level) for row in rows}
        kinds = set(splits.values())
        if None not in kinds and "train" in kinds and len(kinds) > 1:
            below = [row[first:level] + row[level + 1 :] for row in rows]
            while all(len(r) > 2 for r in below) and len({r[0] for r in below}) == 1:
                below = [row[1:] for row in below]
            return {
                place: (str(splits[row[level]]), ROW.sub("", row[level]), "/".join(rest))
                for place, row, rest in zip(places, rows, below, strict=True)
            }
    return None


def say_unofficial(names: Sequence[str], name: str) -> None:
    """A notice where some folders are named as splits are, but `official` takes none for one."""
    rows, first = _rows(list(dict.fromkeys(map(_place, names))))
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
    """The class of each file: its first folder, below that of an official split and of a shard.

    Empty where a file of an official split that is not for training lies in no such folder.

    Raises:
        UserError: another file lies in none.
    """
    places = list(map(_place, names))
    each = list(dict.fromkeys(places))
    parts = _official_places(each) or {place: ("train", "", place) for place in each}
    classes = {}
    for place, (kind, _, below) in parts.items():
        folders = [f for f in below.split("/")[:-1] if f not in ("", ".") and not SHARD.search(f)]
        if not folders and kind == "train":
            raise UserError(
                f"'{names[places.index(place)]}' is not in a subfolder, so it has no label; move "
                "it, or give a .csv"
            )
        classes[place] = folders[0] if folders else ""
    return [classes[place] for place in places]


def _rows(names: Sequence[str]) -> tuple[list[list[str]], int]:
    """The parts of each path, and how many folders around them all have in common."""
    rows = [[part for part in name.split("/") if part not in ("", ".")] for name in names]
    first = 0
    while rows and all(len(r) > first + 1 for r in rows) and len({r[first] for r in rows}) == 1:
        first += 1
    return rows, first


def _split_of(row: list[str], level: int) -> str | None:
    """The split that the folder or shard at a level of a path is named for."""
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
