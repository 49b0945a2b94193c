"""Images in files: every mode and format, shards, tables, labels, damage, the cache."""

import io
import json
import tarfile
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unlabeled.data import open_data
from unlabeled.data.open import read_data
from unlabeled.data.readers import cache
from unlabeled.data.readers.cropping import middle
from unlabeled.data.readers.decoding import decode
from unlabeled.data.readers.images import read
from unlabeled.errors import Notice, UserError

RNG = np.random.default_rng(0)


def one(folder, **options):
    """The only image of a folder, (C, H, W)."""
    x = read(folder, **options).x
    assert len(x) == 1
    return x[:][0]


def encoded(image, kind="PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def colored(n, side=16):
    return [Image.new("RGB", (side, side), (10 * i, 255 - 10 * i, 7)) for i in range(n)]


def make_folder(folder):
    (folder / "cats" / "old").mkdir(parents=True)
    Image.new("L", (20, 16), 100).save(folder / "cats" / "a.png")
    Image.new("RGB", (16, 16), (255, 0, 0)).save(folder / "cats" / "old" / "b.jpg")
    Image.new("RGBA", (30, 16), (0, 0, 255, 255)).save(folder / "c.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "cats" / "._a.png").write_text("what a Mac leaves behind")
    return folder


def test_folders(tmp_path):
    with pytest.warns(Notice) as notices:
        splits = open_data(make_folder(tmp_path))
    words = [str(notice.message) for notice in notices]
    assert words[0].endswith("3 images are read; left out: 1 .txt")
    assert "16 to 30 px a side are all fitted to 16×16" in words[1]
    (tmp_path / "notes.txt").unlink()
    assert splits.train.x.shape == (3, 3, 16, 16)
    assert splits.target is None  # sub-folders are no labels
    assert splits.train.names == ["c.png", "cats/a.png", "cats/old/b.jpg"]
    x = splits.train.x[:]
    assert x[0, :, 8, 8].tolist() == [0, 0, 255]
    assert (x[1] == 100).all()
    assert open_data(tmp_path, channels=1, size=(8, 8)).train.x.shape == (3, 1, 8, 8)
    with pytest.raises(UserError, match="than the 5 that are needed"):
        open_data(tmp_path, channels=5)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_lossless_formats_agree(kind, tmp_path):
    x = RNG.integers(0, 255, (12, 12), np.uint8)
    image = Image.fromarray(x).convert("RGB")
    image.save(tmp_path / f"a.{kind.lower()}", **({"lossless": True} if kind == "WEBP" else {}))
    assert (one(tmp_path, channels=1) == x).all()


def test_what_is_transparent_lies_on_white(tmp_path):
    hidden = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    hidden.save(tmp_path / "a.png")
    assert (one(tmp_path) == 255).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "a.png", transparency=1)
    assert (one(tmp_path) == 255).all()
    palette.save(tmp_path / "a.png")
    assert (one(tmp_path) == 9).all()
    Image.new("LA", (8, 8), (40, 255)).save(tmp_path / "a.png")
    assert one(tmp_path).tolist() == [[[40] * 8] * 8]


def test_cmyk_is_not_inverted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red, green, blue = one(tmp_path)[:, 8, 8].tolist()
    assert red > 240
    assert max(green, blue) < 15


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (32, 16), "white")
    image.paste("black", (0, 0, 16, 16))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees, clockwise
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    x = one(tmp_path, channels=1, size=(32, 16))[0]
    assert x[:15].max() < 30
    assert x[17:].min() > 225


def test_sixteen_bits_are_kept_where_all_have_them(tmp_path):
    deep = (np.arange(256, dtype=np.uint16) * 16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    splits = open_data(tmp_path)
    assert splits.train.x.dtype == np.uint16
    assert splits.value_range == (0, 4095)
    assert (splits.train.x[:] == deep).all()
    Image.new("L", (16, 16), 3).save(tmp_path / "flat.png")
    Image.fromarray(deep * 16).save(tmp_path / "deep.png")
    with pytest.warns(Notice) as notices:
        mixed = open_data(tmp_path).train.x
    messages = " ".join(str(warning.message) for warning in notices)
    assert "only their high byte" in messages
    assert "1 of 3 images are left out (1 12 bits or fewer in a file of 16" in messages
    assert mixed.dtype == np.uint8
    assert (mixed[:][0, 0] == deep * 16 >> 8).all()


def test_color_images_of_8_bits_are_gray_ones_of_8_bits(tmp_path):
    """Catches 0 to 255 in an array of 16 bits, beside which images of 16 bits shine."""
    Image.new("RGB", (8, 8), (100, 100, 100)).save(tmp_path / "a.png")
    assert read(tmp_path, channels=1).x.dtype == np.uint8
    Image.fromarray(np.full((8, 8), 100 << 8, np.uint16)).save(tmp_path / "b.png")
    with pytest.warns(Notice, match="only their high byte is taken"):
        assert (read(tmp_path, channels=1).x[:] == 100).all()


def test_an_image_of_8_bits_among_those_of_16_is_left_out():
    """Catches 0 to 255 stored as values of 16 bits, nearly black, where few headers are read."""
    deep = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    x, reasons = decode([encoded(Image.new("L", (8, 8), 255)), encoded(deep)], 1, (8, 8), "u2")
    assert (x == 40_000).all()
    assert reasons == ["an image of 8 bits where the others have 1 of uint16", None]


def test_a_large_photo_is_the_same_by_the_quick_way(tmp_path):
    y, x = np.mgrid[:1000, :1500]
    image = np.stack([x / 6, y / 4, 128 + 100 * np.sin(x / 200)], -1).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=95)
    quick = one(tmp_path, size=(50, 50)).astype(float)
    full = Image.open(tmp_path / "a.jpg").crop((250, 0, 1250, 1000))
    full = np.asarray(full.resize((50, 50), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    assert np.abs(quick - full).max() < 6


def damaged_folder(folder):
    good = encoded(colored(1, 32)[0])
    Image.fromarray(RNG.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / "good.jpg")
    jpeg = (folder / "good.jpg").read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image at all")
    (folder / "torn.png").write_bytes(good[: len(good) // 2])
    (folder / "torn.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "zeros.gif").write_bytes(b"GIF89a" + bytes(40))
    header = bytearray(good)
    header[16:24] = (50_000).to_bytes(4, "big") * 2  # declares 50,000 × 50,000 pixels
    import zlib

    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    (folder / "bomb.png").write_bytes(bytes(header))
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    return ["bomb.png", "empty.png", "link.png", "text.png", "torn.jpg", "torn.png", "zeros.gif"]


def test_damaged_images_are_named_counted_and_left_out(tmp_path):
    lost = damaged_folder(tmp_path)
    with pytest.warns(Notice) as notices:
        samples = read(tmp_path, size=(16, 16))
    assert samples.names == ["good.jpg"]
    words = str(notices[0].message)
    assert "7 of 8 images are left out" in words
    assert "enormous" in words
    listed = (cache.folder() / words.rpartition("listed in ")[2]).read_text().splitlines()
    assert sorted(line.partition(",")[0] for line in listed[1:]) == lost
    (tmp_path / "good.jpg").unlink()
    with pytest.raises(UserError, match="none of the 7 images"):
        read(tmp_path, size=(16, 16))
    for name in set(lost) - {"bomb.png"}:
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"none of the 1 images.*bomb.png, is enormous"):
        read(tmp_path)


def test_no_bit_flip_ends_the_decoding(tmp_path):
    """Whatever a decoder raises on damage is said, not thrown."""
    image = Image.fromarray(RNG.integers(0, 255, (24, 24, 3), np.uint8))
    names = []
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        content = bytearray(encoded(image, kind))
        for trial in range(60):
            hurt = bytearray(content)
            for path in RNG.integers(0, len(hurt), 6):
                hurt[path] ^= 1 << int(RNG.integers(8))
            name = f"{trial}.{kind.lower()}"
            (tmp_path / name).write_bytes(hurt[: RNG.integers(1, len(hurt))] if trial % 3 else hurt)
            names.append(name)
    x, reasons = decode([tmp_path / name for name in names], 3, (8, 8), "u1")
    assert len(reasons) == len(names)
    assert len(x) == reasons.count(None) < len(names)
    assert all(reason is None or len(reason) <= 200 for reason in reasons)


def test_workers_decode_the_same_in_the_same_order(tmp_path):
    names = []
    for i in range(600):
        Image.new("L", (8, 8), i % 251).save(tmp_path / f"{i:03}.png")
        names.append(f"{i:03}.png")
    (tmp_path / "100.png").write_bytes(b"")
    with pytest.warns(Notice, match="1 of 600"):
        samples = read(tmp_path, workers=2)
    del names[100]
    assert samples.names == names
    expected = np.delete(np.arange(600) % 251, 100)
    assert (samples.x[:] == expected[:, None, None, None]).all()


def test_parquet_arrow_and_tar_hold_the_same_as_a_folder(tmp_path):
    images = [encoded(image) for image in colored(9)]
    flat, folder = tmp_path / "flat", tmp_path / "folder"
    for location in (flat, folder):
        location.mkdir()
    for i, content in enumerate(images):
        (folder / f"{i}.png").write_bytes(content)
    expected = read(folder).x[:]
    labels = list("aabbccabc")
    structs = [{"bytes": c, "path": f"{i}.png"} for i, c in enumerate(images)]
    table = pa.table({"label": labels, "image": structs})
    pq.write_table(table, flat / "train-0.parquet", row_group_size=4)
    for name, writer in (("a.arrow", pa.ipc.new_stream), ("b.arrow", pa.ipc.new_file)):
        with writer(tmp_path / name, table.schema) as file:
            file.write_table(table, max_chunksize=5)
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        for i, content in enumerate(images):
            for name, held in ((f"{i}.png", content), (f"{i}.cls", labels[i].encode())):
                info = tarfile.TarInfo(name)
                info.size = len(held)
                tar.addfile(info, io.BytesIO(held))
    for path, column in (
        (flat, "label"),
        (flat / "train-0.parquet", "label"),
        (tmp_path / "a.arrow", "label"),
        (tmp_path / "b.arrow", "label"),
        (tmp_path / "c.tar", "cls"),
    ):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*left out: 9 .cls$", Notice)
            assert (read(path).x[:] == expected).all()
            assert not read(path).factors
        labeled = read(path, labels_from=column)
        assert labeled.factors[column].tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]
        assert labeled.class_names(column) == ["a", "b", "c"]
        path = tmp_path / "folder" if path.suffix == ".tar" else path
        with pytest.raises(UserError, match=r"no (labels|column) 'nope'"):
            read(path, labels_from="nope")


def test_shards_and_tables_that_are_none_are_refused(tmp_path):
    for name in ("a.tar", "a.parquet", "a.arrow"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(UserError, match="cannot be read as"):
            read(tmp_path / name)
    with pa.ipc.new_file(tmp_path / "empty.arrow", pa.schema([("image", pa.binary())])):
        pass
    with pytest.raises(UserError, match=r"no column of encoded images \(columns: none\)"):
        read(tmp_path / "empty.arrow")
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"no column of encoded images \(columns: x"):
        read(tmp_path / "b.parquet")


def labeled_folder(folder):
    for i, image in enumerate(colored(6)):
        path = folder / ("cat" if i % 2 else "dog")
        path.mkdir(exist_ok=True)
        image.save(path / f"{i}.png")
    return folder


def test_labels_only_when_asked(tmp_path):
    (tmp_path / "images").mkdir()
    folder = labeled_folder(tmp_path / "images")
    assert open_data(folder).target is None
    splits = open_data(folder, labels_from="folders")
    assert (splits.target, splits.classes) == ("label", ["cat", "dog"])
    names = read(folder, labels_from="folders").names
    assert [name.split("/")[0] for name in names] == ["cat"] * 3 + ["dog"] * 3
    np.save(tmp_path / "y.npy", np.arange(6) % 3)
    labeled = read(folder, labels_from=tmp_path / "y.npy")
    assert labeled.factors["label"].tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(UserError, match="6 samples"):
        read(folder, labels_from=np.arange(5))


def test_labels_from_a_table(tmp_path):
    folder = labeled_folder(tmp_path)
    table = tmp_path / "labels.csv"
    table.write_text("file,kind,color\n0.png,dog,red\ncat/1.png,cat,red\n4.png,dog,blue\n")
    with pytest.warns(
        Notice, match=r"3 of 6 samples have labels \(kind, color\), .* kept"
    ) as notices:
        samples = read(folder, labels_from=table)
    assert len(notices) == 1
    assert samples.names == [
        *(f"cat/{i}.png" for i in (1, 3, 5)),
        *(f"dog/{i}.png" for i in (0, 2, 4)),
    ]
    assert samples.factors["kind"].tolist() == [0, -1, -1, 1, -1, 1]
    assert samples.factors["color"].tolist() == [1, -1, -1, 1, -1, 0]
    table.write_text("file,kind\nother.png,dog\n")
    with pytest.raises(UserError, match=r"no label for any image.*other.png"):
        read(folder, labels_from=table)
    table.write_text("one column\n")
    with pytest.raises(UserError, match="must have a header"):
        read(folder, labels_from=table)


def test_labels_by_position_survive_a_damaged_image(tmp_path):
    folder = labeled_folder(tmp_path)
    (folder / "cat" / "3.png").write_bytes(b"")
    with pytest.warns(Notice, match="1 of 6"):
        samples = read(folder, labels_from=np.array([0, 7, 0, 1, 1, 1]))
    assert samples.factors["label"].tolist() == [0, 0, 1, 1, 1]


def test_a_folder_is_decoded_once_and_anew_when_it_changes(tmp_path, monkeypatch):
    folder = labeled_folder(tmp_path)
    before = read(folder).x[:]

    def forbidden(*_):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr("unlabeled.data.readers.images.decode", forbidden)
        patch.setattr("unlabeled.data.readers.images.look", forbidden)
        assert (read(folder).x[:] == before).all()
    Image.new("RGB", (16, 16), "white").save(folder / "cat" / "1.png")
    assert (read(folder).x[:][0] == 255).all()


def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    folder = labeled_folder(tmp_path / "images")
    before = read(folder).x[:]
    for hurt in ("flip", "cut", "index"):
        (entry,) = (p for p in cache.folder().iterdir() if p.is_dir())
        content = bytearray((entry / "pixels.bin").read_bytes())
        if hurt == "flip":
            content[1000] ^= 4
        elif hurt == "cut":
            content = content[:-50]
        else:
            (entry / "index.json").write_text(json.dumps({"shape": 3}))
        (entry / "pixels.bin").write_bytes(content)
        with pytest.warns(Notice, match="made again"):
            assert (read(folder).x[:] == before).all()


def test_the_cache_is_bounded_by_what_was_not_used_for_longest(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNLABELED_CACHE_GB", "7e-6")  # 7 kB: two entries of three
    paths = []
    for i in range(3):
        path = tmp_path / str(i)
        path.mkdir()
        Image.new("RGB", (32, 32), (i, 0, 0)).save(path / "a.png")
        read(path)
        paths.append(path)
        if i == 1:
            import os

            entries = [p for p in cache.folder().iterdir() if p.is_dir()]
            for age, entry in enumerate(sorted(entries, key=lambda p: p.stat().st_mtime_ns)):
                os.utime(entry, (age, age))
            read(paths[0])  # used again, so the second is now the oldest
    shown = {np.memmap(p / "pixels.bin")[0] for p in cache.folder().iterdir() if p.is_dir()}
    assert shown == {0, 2}
    monkeypatch.setenv("UNLABELED_CACHE_GB", "much")
    Image.new("RGB", (32, 32)).save(paths[0] / "b.png")
    with pytest.raises(UserError, match="a number of gigabytes"):
        read(paths[0])


def test_a_cache_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNLABELED_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    with pytest.raises(UserError, match="set UNLABELED_CACHE"):
        read(tmp_path / "images")


def test_images_as_they_are_raise_no_warning(tmp_path):
    for i, image in enumerate(colored(3)):
        image.save(tmp_path / f"{i}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read(tmp_path).x) == 3


def test_one_kind_of_images_at_a_time(tmp_path):
    colored(1)[0].save(tmp_path / "preview.png")
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    with pytest.raises(UserError, match="1 images, 1 tar at once"):
        read(tmp_path)


def test_pages_beyond_the_first_are_reported(tmp_path):
    first, *others = colored(3)
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    with pytest.warns(Notice, match="1 images have several pages"):
        assert len(read(tmp_path)) == 1


def test_missing_and_ambiguous_labels_are_not_made_up(tmp_path):
    contents = [encoded(image) for image in colored(4)]
    table = pa.table({"image": contents, "label": ["cat", None, "dog", "cat"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.warns(Notice, match="3 of 4 samples have labels"):
        samples = read(tmp_path, labels_from="label")
    assert samples.class_names("label") == ["cat", "dog"]
    assert samples.factors["label"].tolist() == [0, -1, 1, 0]
    folder = tmp_path / "folder"
    for name in ("a/0.png", "b/0.png", "a/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents[0])
    csv = tmp_path / "labels.csv"
    csv.write_text("file,label\n0.png,cat\n1.png,dog\n")
    with pytest.raises(UserError, match=r"names '0.png', but 2 have that name"):
        read(folder, labels_from=csv)
    csv.write_text("file,label\na/0.png,cat\na/0.png,dog\n")
    with pytest.raises(UserError, match="two different labels"):
        read(folder, labels_from=csv)
    csv.write_text("file,label,notes\na/0.png,cat,\nb/0.png,dog,blurred\na/1.png,cat,\n\n")
    with pytest.warns(Notice, match=r"notes: all labels are the same \(blurred\)"):
        samples = read(folder, labels_from=csv)
    assert list(samples.factors) == ["label"]
    assert len(samples) == 3


def test_a_table_may_name_its_images(tmp_path):
    """Fails where only bytes are read, paths are taken from elsewhere than the table's folder,
    or where an image that changed is not decoded anew.
    """
    tables = tmp_path / "tables"
    (tables / "inner").mkdir(parents=True)
    images = colored(4)
    images[0].save(tables / "0.png")
    images[1].save(tables / "inner" / "1.png")
    images[2].save(tmp_path / "2.png")
    paths = ["0.png", "inner\\1.png", str(tmp_path / "2.png"), "gone.png"]
    structs = [{"bytes": None, "path": path} for path in paths]
    structs[3] = {"bytes": encoded(images[3]), "path": "gone.png"}
    for number, image in enumerate((structs, [{"path": p} for p in paths], paths)):
        table = pa.table({"kind": list("abca"), "image": image})
        pq.write_table(table, tables / f"{number}.parquet")
        with pa.ipc.new_file(tables / f"{number}.arrow", table.schema) as file:
            file.write_table(table)
        for name in (f"{number}.parquet", f"{number}.arrow"):
            if number:
                with pytest.warns(Notice, match=r"1 of 4 images are left out \(1 missing\)"):
                    samples = read(tables / name, labels_from="kind")
            else:
                samples = read(tables / name, labels_from="kind")
            assert samples.x[:][:, 0, 0, 0].tolist() == [0, 10, 20, 30][: 3 if number else 4]
            assert samples.factors["kind"].tolist() == [0, 1, 2, 0][: len(samples)]
    images[3].save(tmp_path / "2.png")
    assert read(tables / "0.parquet").x[:][:, 0, 0, 0].tolist() == [0, 10, 30, 30]
    with pytest.raises(UserError, match="no column 'sort' in this data; choose one of kind, image"):
        read(tables / "0.parquet", labels_from="sort")


def test_members_of_a_tar_in_folders(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, content in enumerate(map(encoded, colored(2))):
            for name, held in ((f"./v1.0/{i}.png", content), (f"./v1.0/{i}.cls", b"%d" % i)):
                info = tarfile.TarInfo(name)
                info.size = len(held)
                tar.addfile(info, io.BytesIO(held))
    assert read(tmp_path / "a.tar", labels_from="cls").class_names("cls") == ["0", "1"]


def test_large_row_groups_are_read_in_parts(tmp_path):
    contents = [encoded(image) for image in colored(25)] * 6
    pq.write_table(pa.table({"image": contents}), tmp_path / "a.parquet", row_group_size=1000)
    samples = read(tmp_path)
    assert samples.names[-1] == "a.parquet#149"
    assert (samples.x[np.array([0, 149])] == read(tmp_path).x[np.array([25, 24])]).all()


def test_a_image_that_may_not_be_read_is_no_damaged_one(tmp_path, monkeypatch):
    colored(1)[0].save(tmp_path / "a.png")

    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("unlabeled.data.readers.decoding.Image.open", forbidden)
    with pytest.raises(PermissionError):
        read(tmp_path)


def test_test_images_stay_test_images_when_others_come(tmp_path):
    for i in range(120):
        path = tmp_path / ("cat" if i % 2 else "dog")
        path.mkdir(exist_ok=True)
        Image.new("L", (8, 8), i).save(path / f"{i}.png")
    before = open_data(tmp_path, labels_from="folders")
    assert 10 < len(before.test) < 40
    for i in range(30):
        Image.new("L", (8, 8), i).save(tmp_path / "cat" / f"0new{i}.png")
    after = open_data(tmp_path, labels_from="folders")
    assert set(before.test.names) <= set(after.test.names)
    assert not set(before.test.names) & set(after.train.names)


def test_two_processes_may_make_the_same_entry(tmp_path):
    """The slower one takes the entry that is there."""
    for image in colored(1):
        image.save(tmp_path / "a.png")
    entry = read(tmp_path).x.base
    part = (np.array(entry), [None])
    entries = (p for p in cache.folder().iterdir() if (p / "pixels.bin").is_file())
    key = cache.Entry(next(entries)).path.name
    again = cache.write(key, ["a.png"], [part], 100)
    assert again is not None
    assert not list(cache.folder().glob("*.tmp"))


@pytest.mark.parametrize(
    ("width", "height", "side"), [(63, 62, 60), (485, 464, 224), (109, 100, 90)]
)
def test_no_image_is_damaged_by_rounding(width, height, side):
    """Catches a crop that begins 1e-14 pixels outside of the image, which Pillow refuses."""
    file = encoded(Image.new("RGB", (width, height), "red"))
    x, reasons = decode([file], 3, (side, side), "u1")
    assert reasons == [None]
    assert (x[0, 0] == 255).all()
    boxes = [middle(Image.new("L", (w, h)), (side, side)) for w in range(20, 90) for h in (31, w)]
    assert min(min(box[:2]) for box in boxes) >= 0


def test_one_image_of_pillow_is_one_image():
    """Catches rows of pixels that are taken for images."""
    x = read_data(Image.new("RGB", (20, 16), "red")).x
    assert x.shape == (1, 3, 16, 20)


def test_one_image_without_a_first_axis_is_asked_about():
    """Catches channels that become gray images of an encoder of colors, without a word."""
    color = np.random.default_rng(0).integers(0, 255, (3, 16, 16), dtype=np.uint8)
    like = open_data(np.stack([color] * 4)).modality
    with pytest.warns(Notice) as notices:
        read_data(color, like=like)
    words = [str(notice.message) for notice in notices]
    assert any("read as 3 gray images; of one image in color give x[None]" in w for w in words)


def test_a_size_may_be_one_number(tmp_path):
    Image.new("RGB", (20, 16)).save(tmp_path / "a.png")
    Image.new("RGB", (16, 16)).save(tmp_path / "b.png")
    assert open_data(str(tmp_path), size=12).train.x.shape[2:] == (12, 12)


def test_words_are_no_images():
    with pytest.raises(UserError, match=r"of files give their folder, or a quoted pattern"):
        read_data(["a.jpg", "b.jpg"])
