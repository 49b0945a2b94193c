"""Images in tar shards."""

import functools
import tarfile
from itertools import groupby
from pathlib import Path

from unlabeled.data.readers import folders
from unlabeled.data.readers.decoding import Member
from unlabeled.data.readers.folders import Listing
from unlabeled.data.readers.source import LABEL, Source, known_endings, stamp
from unlabeled.errors import UserError


def tar_source(root: Path, shards: list[str]) -> Source:
    """WebDataset: files of one stem belong together, `0001.jpg` and `0001.cls`."""
    images: list[tuple[str, str, Member]] = []  # shard, name in it
    others: dict[tuple[str, str, str], Member] = {}  # shard, stem, ending
    links: list[str] = []
    for shard in shards:
        try:
            with tarfile.open(root / shard, "r:") as tar:
                members: dict[str, Member] = {}
                for info in tar:
                    name = info.name
                    if info.isdir() or Path(name).name.startswith((".", "__MACOSX")):
                        continue
                    member = Member(str(root / shard), info.offset_data, info.size)
                    if info.islnk() and info.linkname in members:  # stored once
                        member = members[info.linkname]
                    elif not info.isfile():
                        links.append(name)
                        continue
                    members[name] = member
                    head = functools.partial(_head, tar, member)
                    if folders.of_kind([name], known_endings(), folders.is_image, head):
                        images.append((shard, name, member))
                    else:
                        before, ending = stem(name)
                        others[shard, before, ending] = member
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(
                f"{root / shard} cannot be read as an uncompressed tar ({error}); unpack or copy "
                "it again"
            ) from error

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


def _head(tar: tarfile.TarFile, member: Member, name: str) -> bytes:
    """The first bytes of a member; the archive goes on where it was."""
    assert tar.fileobj
    tar.fileobj.seek(member.start)
    return tar.fileobj.read(min(32, member.length))


def stem(member: str) -> tuple[str, str]:
    """`./a/0001.seg.png` -> (`./a/0001`, `seg.png`)."""
    folder, slash, name = member.rpartition("/")
    before, _, ending = name.partition(".")
    return folder + slash + before, ending
