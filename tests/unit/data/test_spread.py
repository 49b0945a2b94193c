"""Many files in parts, here and at addresses that fsspec knows."""

from pathlib import Path

import numpy as np
import pytest
from helpers import write_shards
from PIL import Image

from unlabeled.data.open import read_data
from unlabeled.data.readers.spread import fetch, list_parts
from unlabeled.errors import Notice, UserError
from unlabeled.modality import Images


def write_images(folder: Path, number: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(number):
        path = folder / ("b" if i % 2 else "a") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20 + i, 24, 3), dtype=np.uint8)).save(path)


@pytest.mark.filterwarnings("ignore:.*matches 11 files:unlabeled.errors.Notice")
@pytest.mark.parametrize("address", ["{}", "file://{}", "{}/*/*.png", "file://{}/*/*.png"])
def test_parts_are_the_samples_of_the_whole_in_their_order(address, tmp_path):
    """At an address as here; names that begin otherwise there could not be compared."""
    write_images(tmp_path / "photos", 11)
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"")
    like = Images(3, (16, 16))
    full = read_data(tmp_path / "photos", like=like)
    parts = list_parts(address.format(tmp_path / "photos"), files=4)
    assert [len(names) for names in parts.names] == [4, 4, 3]
    read = [
        read_data(fetch(parts.root, names, tmp_path / f"part{i}"), like=like)
        for i, names in enumerate(parts.names)
    ]
    assert [n for samples in read for n in samples.names] == full.names
    assert np.array_equal(np.concatenate([samples.x[:] for samples in read]), full.x[:])


def test_a_shard_is_a_part_and_what_is_neither_is_counted(tmp_path):
    write_shards(tmp_path / "shards", 3, 2)
    (tmp_path / "shards" / "index.json").write_text("{}")
    for address in (str(tmp_path / "shards"), f"file://{tmp_path / 'shards'}"):
        with pytest.warns(Notice, match=r"3 shards are read; left out: 1 \.json"):
            parts = list_parts(address)
        assert parts.names == [["s00.tar"], ["s01.tar"], ["s02.tar"]]
        assert parts.prefix(1) == "s01.tar/"
    with pytest.warns(Notice, match="matches 2 files"):
        braces = list_parts(f"file://{tmp_path}/shards/s{{00..01}}.tar")
    assert braces.names == [["s00.tar"], ["s01.tar"]]
    with pytest.warns(Notice, match="matches 1 file"):
        single = list_parts(f"file://{tmp_path}/shards/s01.tar")
    assert (single.names, single.prefix(0)) == ([["s01.tar"]], "")


def test_what_has_no_parts_is_said_in_a_sentence(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    for data, says in (
        (str(tmp_path), "holds no images, tar shards or tables"),
        (f"file://{tmp_path}/nothing", "nothing at file://.*; check the address"),
        ("dsprites", "reads folders and patterns of files, and dsprites is none"),
        ("nowhere://bucket/x", "cannot be listed .*; check the address and your credentials"),
    ):
        with pytest.raises(UserError, match=says):
            list_parts(data)
