"""Images in tar shards."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from unlabeled.data.readers import folders
from unlabeled.data.readers.decoding import (
    Chunk,
    Members,
)
from unlabeled.data.readers.folders import Listing
from unlabeled.data.readers.source import LABEL, Source, known_endings, name_parts, stamp
from unlabeled.errors import UserError

Place = tuple[int, int]
"""First byte in a file, and number of bytes."""


def tar_source(root: Path, shards: list[str]) -> Source:
    """WebDataset: files of one stem belong together, `0001.jpg` and `0001.cls`."""
    images: list[tuple[str, str, Place]] = []  # shard, name in it, location
    others: dict[tuple[str, str, str], Place] = {}  # shard, stem, ending
    links: list[str] = []
    for shard in shards:
        try:
            with tarfile.open(root / shard, "r:") as tar:
                locations: dict[str, Place] = {}
                for member in tar:
                    name, last = member.name, Path(member.name).name
                    if member.isdir() or last.startswith((".", "__MACOSX")):
                        continue
                    location = member.offset_data, member.size
                    if member.islnk() and member.linkname in locations:  # stored once
                        location = locations[member.linkname]
                    elif not member.isfile():
                        links.append(name)
                        continue
                    locations[name] = location
                    if folders.of_kind(
                        [name], known_endings(), folders.is_image, _head(tar, location)
                    ):
                        images.append((shard, name, location))
                    else:
                        stem, ending = _stem(name)
                        others[shard, stem, ending] = location
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(
                f"{root / shard} cannot be read as an uncompressed tar ({error}); unpack or copy "
                "it again"
            ) from error

    def chunks() -> Iterator[Chunk]:
        for shard, held in groupby(images, lambda image: image[0]):
            for part in name_parts(list(held)):
                _, names, locations = zip(*part, strict=True)
                yield Members(str(root / shard), names, locations)

    def labels(ending: str) -> list[str] | None:
        endings = sorted({ending for _, _, ending in others})
        if ending not in endings:
            what = f"beside its images are {', '.join(endings)}" if endings else "it has no files"
            raise UserError(f"there are no labels '{ending}' in this data; {what}")
        found = []
        for shard, held in groupby(images, lambda image: image[0]):
            with (root / shard).open("rb") as file:
                for _, name, _ in held:
                    location = others.get((shard, _stem(name)[0], ending))
                    file.seek(location[0] if location else 0)
                    content = file.read(min(location[1], LABEL) if location else 0)
                    found.append(content.decode(errors="ignore").strip())
        return found if any(found) else None

    named = [name if len(shards) == 1 else f"{shard}/{name}" for shard, name, _ in images]
    left = [f"{stem}.{ending}" if ending else stem for _, stem, ending in others]
    stamps = [stamp(root / shard) for shard in shards]
    return Source(named, stamps, chunks, labels, left, Listing(special=links))


def _head(tar: tarfile.TarFile, location: Place) -> Callable[[str], bytes]:
    """Reads the first bytes of a member; the archive goes on where it was."""

    def read(_: str) -> bytes:
        assert tar.fileobj
        tar.fileobj.seek(location[0])
        return tar.fileobj.read(min(32, location[1]))

    return read


def _stem(member: str) -> tuple[str, str]:
    """`./a/0001.seg.png` -> (`./a/0001`, `seg.png`)."""
    folder, slash, name = member.rpartition("/")
    stem, _, ending = name.partition(".")
    return folder + slash + stem, ending
