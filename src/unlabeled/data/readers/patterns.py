"""Files by a pattern: globs as in `photos/*.jpg`, braces as in `shards-{000..004}.tar`."""

import glob
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unlabeled.data.readers import audio, folders
from unlabeled.data.readers.folders import HIDDEN, Listing
from unlabeled.data.readers.source import TABLES, known_endings
from unlabeled.errors import UserError, notice, plural

MOST = 2_000_000
"""Maximum number of names that braces expand to."""
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


@dataclass(frozen=True)
class Files:
    """Some files of a folder, by their names in it; all others are ignored."""

    root: Path
    names: list[str]


def is_pattern(data: str | Path) -> bool:
    """Whether a path has wildcards or braces, and is not itself the name of a file or folder."""
    text = str(data)
    is_special = glob.has_magic(text) or any(_choices(m[1]) for m in BRACES.finditer(text))
    return is_special and "://" not in text and not Path(data).expanduser().exists()


def match(pattern: str | Path) -> tuple[Path, Listing]:
    """The files that a pattern matches; if it matches a folder, all files in it.

    `*`, `?` and `[…]` match within a name, `**` any number of folders; braces stand for each of
    `{a,b}` or of `{000..004}`, where every name must match something. Hidden files are skipped.

    Args:
        pattern: in the notation of WebDataset and of Python's `glob`.

    Returns:
        the common parent folder, and the files below it in the order of their names.

    Raises:
        UserError: nothing matches the pattern, or one of the names that its braces expand to.
    """
    names = expand_braces(str(Path(pattern).expanduser()))
    root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(names[0]).parts))
    while any(root == Path(name) or root not in Path(name).parents for name in names):
        root = root.parent
    matches = {name: glob.glob(name, recursive=True) for name in names}  # noqa: PTH207  hidden ones
    missing = [name for name, paths in matches.items() if not paths]
    if missing and len(missing) < len(names):
        raise UserError(
            f"{missing[0]} does not exist, which '{pattern}' names ({len(missing):,} of the "
            f"{len(names):,} that its braces stand for are missing); correct the braces"
        )
    if missing:
        raise UserError(f"no file matches '{pattern}'; {_there(root)}")
    listing = Listing()
    for path in map(Path, dict.fromkeys(itertools.chain.from_iterable(matches.values()))):
        if path.name.startswith("__MACOSX") or path.name.lower() in HIDDEN:
            continue
        inner = "" if path == root else path.relative_to(root).as_posix()
        if path.is_dir():
            below = folders.walk(path)
            for kind, held in vars(below).items():
                getattr(listing, kind).extend(f"{inner}/{n}".lstrip("/") for n in held)
        elif path.is_file():
            listing.names.append(inner)
        elif path.is_symlink():
            listing.broken.append(inner)
        else:
            listing.special.append(inner)
    for kind, held in vars(listing).items():
        setattr(listing, kind, sorted(set(held)))  # `**` matches a folder and what is in it
    if not listing.names:
        raise UserError(f"'{pattern}' matches no regular file; give another pattern")
    notice(f"'{pattern}' matches {plural(len(listing.names), 'file')}")
    return root, listing


def expand_braces(pattern: str) -> list[str]:
    """`a-{x,y}-{08..10}` -> a-x-08, a-x-09, a-x-10, a-y-08, …; other braces stay as they are.

    Raises:
        UserError: braces expand to more than 2,000,000 names.
    """
    names = [""]
    rest = pattern
    while match := next((m for m in BRACES.finditer(rest) if _choices(m[1])), None):
        choices = _choices(match[1])
        if len(names) * len(choices) > MOST:
            raise UserError(f"'{pattern}' stands for more than {MOST:,} names; give fewer")
        head, rest = rest[: match.start()], rest[match.end() :]
        names = [n + head + choice for n in names for choice in choices]
    return [name + rest for name in names] if rest else names


def _choices(inner: str) -> Sequence[str]:
    """The alternatives in one pair of braces; none if it is neither a list nor a range."""
    if bounds := RANGE.fullmatch(inner):
        first, last = (int(bound) for bound in bounds.groups())
        width = max(map(len, bounds.groups())) if re.match(r"-?0\d", inner) else 0
        step = 1 if first <= last else -1
        return _Numbers(range(first, last + step, step), width)
    return inner.split(",") if "," in inner else []


class _Numbers(Sequence[str]):
    """Numbers with leading zeros, formatted lazily."""

    def __init__(self, numbers: range, width: int) -> None:
        self.numbers, self.width = numbers, width

    def __len__(self) -> int:
        return min(len(self.numbers), MOST + 1)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return f"{self.numbers[index]:0{self.width}d}"


def _there(root: Path) -> str:
    """Content of the folder that a pattern begins with, for the end of a message."""
    if not root.is_dir():
        return f"there is no folder {root}, check the path"
    try:
        names = [path.name for path in root.iterdir() if not path.name.startswith(".")]
    except OSError:
        return f"the folder {root} cannot be opened"
    if not names:
        return f"the folder {root} is empty"
    counts = Counter(folders.ending(name) or "without an ending" for name in names)
    held = ", ".join(f"{number:,} {kind}" for kind, number in counts.most_common(5))
    return f"{root} holds {held}"


def find_files(data: str | Path | Files) -> tuple[Path, Listing | None]:
    """A folder and its files to be read; or another file or name, and None."""
    if isinstance(data, Files):
        return data.root, Listing(list(data.names))
    path = Path(data).expanduser()
    if path.is_dir():
        return path, folders.walk(path)
    single = {*known_endings(), *audio.ENDINGS}
    if is_pattern(path):
        root, listing = match(path)
        endings = set(map(folders.ending, listing.names))
        if len(listing.names) > 1:
            if not endings & {*single, ".tar", *TABLES, ""}:
                raise UserError(
                    f"'{data}' matches {folders.some(listing.names)}, but no images, recordings, "
                    "tar shards or tables; give another pattern (text:… for texts)"
                )
            return root, listing
        path = root / listing.names[0]
    head = folders.head(path) if path.is_file() and not folders.ending(path.name) else b""
    if path.is_file() and (
        folders.ending(path.name) in single or folders.is_image(head) or folders.is_audio(head)
    ):
        return path.parent, Listing([path.name])
    return path, None
