"""Images in tar shards."""

import functools
import tarfile
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from unlabeled.data.readers import folders
from unlabeled.data.readers.decoding import Member
from unlabeled.data.readers.folders import Listing
from unlabeled.data.readers.source import LABEL, Source, known_endings, stamp
from unlabeled.errors import UserError, notice, plural, reason


class Scan(NamedTuple):
    """Content of an archive."""

    images: list[tuple[str, Member]]  #: by name, in their order
    others: dict[tuple[str, str], Member]  #: by stem and ending
    links: list[str]
    torn: str  #: why it is truncated; "" if it is complete


def scan(path: Path) -> Scan:
    """The members of a tar, as far as it can be read.

    Raises:
        OSError: the file cannot be opened.
    """
    result = Scan([], {}, [], "")
    size = path.stat().st_size
    members: dict[str, Member] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                name = info.name
                if info.isdir() or Path(name).name.startswith((".", "__MACOSX")):
                    continue
                member = Member(str(path), info.offset_data, info.size)
                if info.islnk() and info.linkname in members:  # stored once
                    member = members[info.linkname]
                elif not info.isfile():
                    result.links.append(name)
                    continue
                if member.start + member.length > size:
                    return result._replace(torn="unexpected end of data")
                members[name] = member
                head = functools.partial(_head, tar, member)
                if folders.of_kind([name], known_endings(), folders.is_image, head):
                    result.images.append((name, member))
                else:
                    result.others[stem(name)] = member
    except (tarfile.TarError, OSError, EOFError) as error:
        return result._replace(torn=reason(error))
    return result


def tar_source(root: Path, shards: list[str]) -> Source:
    """Images of tar shards; as in WebDataset, `0001.jpg` and `0001.cls` belong together."""
    images: list[tuple[str, str, Member]] = []  # shard, name in it
    others: dict[tuple[str, str, str], Member] = {}  # shard, stem, ending
    links: list[str] = []
    torn: dict[str, str] = {}
    for shard in shards:
        try:
            scanned = scan(root / shard)
        except OSError as error:
            scanned = Scan([], {}, [], reason(error))
        if scanned.torn:
            torn[shard] = scanned.torn
        images += [(shard, name, member) for name, member in scanned.images]
        others |= {(shard, *key): member for key, member in scanned.others.items()}
        links += scanned.links
    if torn and not images:
        shard, why = next(iter(torn.items()))
        raise UserError(
            f"{root / shard} cannot be read as an uncompressed tar ({why}); unpack or copy it again"
        )
    say_torn(torn, len(shards))

    def labels(ending: str) -> list[str] | None:
        endings = sorted({ending for _, _, ending in others})
        if ending not in endings:
            what = f"beside its images are {', '.join(endings)}" if endings else "it has no files"
            raise UserError(f"there are no labels '{ending}' in this data; {what}")
        texts = []
        for shard, held in groupby(images, lambda image: image[0]):
            with (root / shard).open("rb") as file:
                for _, name, _ in held:
                    member = others.get((shard, stem(name)[0], ending))
                    file.seek(member.start if member else 0)
                    content = file.read(min(member.length, LABEL) if member else 0)
                    texts.append(content.decode(errors="ignore").strip())
        return texts if any(texts) else None

    named = [name if len(shards) == 1 else f"{shard}/{name}" for shard, name, _ in images]
    left = [f"{before}.{ending}" if ending else before for _, before, ending in others]
    stamps = [stamp((root / shard).absolute()) for shard in shards]
    encoded = [member for _, _, member in images]
    others_left = Listing(special=links)
    return Source(named, stamps, lambda: encoded, labels, encoded.__getitem__, left, others_left)


def say_torn(torn: dict[str, str], number: int) -> None:
    """A notice that counts damaged shards; `torn` has the reason for each by name."""
    if torn:
        name, why = next(iter(torn.items()))
        notice(
            f"{len(torn):,} of {plural(number, 'shard')} {'is' if len(torn) == 1 else 'are'} "
            f"damaged and used as far as {'it goes' if len(torn) == 1 else 'they go'}, such as "
            f"{name} ({why})"
        )


def _head(tar: tarfile.TarFile, member: Member, name: str) -> bytes:
    """The first bytes of a member; the position in the archive is unchanged."""
    assert tar.fileobj
    tar.fileobj.seek(member.start)
    return tar.fileobj.read(min(32, member.length))


def stem(member: str) -> tuple[str, str]:
    """`./a/0001.seg.png` -> (`./a/0001`, `seg.png`)."""
    folder, slash, name = member.rpartition("/")
    before, _, ending = name.partition(".")
    return folder + slash + before, ending
