"""Images of many channels, of 16 bits and floats, DICOM, and images too large to be read whole."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import unlabeled as ul
from unlabeled.data import open_data
from unlabeled.data.readers import decoding, parts, tiff
from unlabeled.data.readers.decoding import Part, decode
from unlabeled.errors import Notice, UserError

RNG = np.random.default_rng(0)
tifffile = pytest.importorskip("tifffile", reason="pip install 'unlabeled[tiff]'")
quiet = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")


def messages(said) -> str:
    return " | ".join(str(each.message) for each in said)


# Arrays in files


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        ("u1", (16, 20), (1, 16, 20)),
        ("u2", (16, 20, 4), (4, 16, 20)),
        ("f4", (12, 16, 20), (12, 16, 20)),
        ("f8", (16, 20, 12), (12, 16, 20)),
        ("i2", (2, 16, 20), (2, 16, 20)),
        ("?", (5, 16, 20), (5, 16, 20)),
    ],
)
def test_a_folder_of_arrays_is_one_of_images(tmp_path, kind, shape, expected):
    """Would catch 16 bits cut to 8, and channels taken for rows."""
    arrays = [(RNG.random(shape) * 4000 - (2000 if kind == "i2" else 0)) for _ in range(3)]
    arrays = [(x > 2000 if kind == "?" else x % 256 if kind == "u1" else x) for x in arrays]
    arrays = [x.astype(kind) for x in arrays]
    for number, x in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", x)
    x = open_data(tmp_path, size=expected[1:]).train.x
    assert x.shape == (3, *expected)
    assert x.dtype == {"u1": "u1", "u2": "u2", "?": "u1"}.get(kind, "f4")
    first = arrays[0] * (255 if kind == "?" else 1)
    moved = np.moveaxis(first, 2, 0) if shape[2:] and shape[2] == expected[0] else first
    np.testing.assert_array_equal(x[:][0], moved.reshape(expected).astype(x.dtype))


@quiet
def test_an_array_of_many_images_beside_images_is_no_image(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    np.save(tmp_path / "labels.npy", np.zeros(1))
    assert len(open_data(tmp_path).train) == 1
    (tmp_path / "a.png").unlink()
    np.save(tmp_path / "labels.npy", np.zeros((4, 3, 8, 8)))
    with pytest.raises(UserError, match=r"an array of shape \(4, 3, 8, 8\), not of one image"):
        open_data(tmp_path)
    np.save(tmp_path / "labels.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match="damaged"):
        open_data(tmp_path)


def png(x: np.ndarray) -> bytes:
    """A PNG of 16 bits (H, W, C), written by hand."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[x.shape[2]]
    header = struct.pack(">IIBBBBB", x.shape[1], x.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in x)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )


def test_colors_of_16_bits_in_png_are_kept(tmp_path):
    pytest.importorskip("imagecodecs", reason="pip install 'unlabeled[tiff]'")
    x = RNG.integers(0, 4096, (16, 16, 3), np.uint16)
    x[1, 1] = 65535
    opaque = np.concatenate([x, np.full((16, 16, 1), 65535, np.uint16)], 2)
    opaque[0, 0, 3] = 0
    (tmp_path / "a.png").write_bytes(png(x))
    (tmp_path / "b.png").write_bytes(png(opaque))
    with pytest.warns(Notice, match="black and white are set by 65535"):
        splits = open_data(tmp_path)
    a, b = splits.train.x[:]
    assert (a == x.transpose(2, 0, 1)).all()
    assert b[:, 0, 0].tolist() == [65535] * 3  # transparent on white
    assert (b[:, 1:] == a[:, 1:]).all()
    with pytest.warns(Notice):
        fly = open_data(tmp_path, decoding="on_the_fly").train.x
    assert (fly[:] == splits.train.x[:]).all()
    Image.new("RGB", (16, 16), (7, 7, 7)).save(tmp_path / "c.png")
    (tmp_path / "a.png").write_bytes(png(x * 16))
    (tmp_path / "b.png").write_bytes(png(x * 16))
    with pytest.warns(Notice, match="2 color images of 16 bits are read with 8"):
        mixed = open_data(tmp_path).train.x
    assert mixed.dtype == np.uint8
    assert np.abs(mixed[:][0].astype(int) - (x * 16 >> 8).transpose(2, 0, 1)).max() <= 1


@pytest.mark.parametrize("decoding_", ["once", "on_the_fly"])
def test_what_is_not_finite_is_counted_and_takes_the_smallest_value(tmp_path, decoding_):
    """Would catch NaN that spreads when images are resized, and a silent repair."""
    for number in range(3):
        x = RNG.random((32, 32)).astype("f4") + 5
        if number == 1:
            x[:4, :4], x[8, 8] = np.nan, np.inf
        tifffile.imwrite(tmp_path / f"{number}.tif", x if number < 2 else x * np.nan)
    with pytest.warns(Notice) as notices:
        splits = open_data(tmp_path, size=(16, 16), decoding=decoding_)
    x = splits.train.x[:]
    assert np.isfinite(x).all()
    assert "NaN or infinite" in messages(notices)
    if decoding_ == "once":
        assert len(x) == 2
        assert "1 of 3 images are left out (1 without a finite value)" in messages(notices)
        assert (x[1, 0, :2, :2] == x.min()).all()
        assert (x[0] >= 5).all()
    assert splits.value_range[0] >= (5 if decoding_ == "once" else 0)
    assert x[1, 0, 8:].min() >= 5


# Large images


def large(folder, shape=(300, 520, 3), **options):
    """A TIFF in which every pixel is another one, and its values (C, H, W)."""
    folder.mkdir(exist_ok=True)
    x = RNG.integers(0, 255, shape, np.uint8).astype(options.pop("dtype", "u1"))
    options = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb"} | options
    tifffile.imwrite(folder / "large.tif", x, **{k: v for k, v in options.items() if v})
    if options.get("planarconfig") == "separate" or "metadata" in options:
        return x
    return np.moveaxis(np.atleast_3d(x), 2, 0)


SEPARATE = {"planarconfig": "separate", "photometric": "minisblack"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": None, "rowsperstrip": 16},
        {"tile": None, "compression": None},
        {"dtype": "u2"},
        {"shape": (300, 520), "photometric": "minisblack", "dtype": "f4"},
        {"shape": (5, 300, 520), **SEPARATE},
        {"shape": (300, 520, 5), "photometric": "minisblack", "planarconfig": "contig"},
        {"shape": (5, 300, 520), "photometric": "minisblack", "metadata": {"axes": "CYX"}},
        {"predictor": True},
        {"byteorder": ">", "dtype": "u2"},
    ],
    ids=str,
)
def test_any_box_of_a_tiff_is_that_of_the_whole(tmp_path, options):
    """Would catch tiles or planes mixed up, and edges that are wrong."""
    x = large(tmp_path / "f", **options)
    with tiff.opened(tmp_path / "f" / "large.tif", 1e9, boxes=True) as stack:
        assert stack.by_region
        assert stack.size == (520, 300)
        for _ in range(12):
            height, width = RNG.integers(1, 200, 2)
            top, left = RNG.integers(0, 300 - height + 1), RNG.integers(0, 520 - width + 1)
            box = stack.read((int(top), int(left), int(height), int(width)))
            assert (box == x[:, top : top + height, left : left + width]).all()


@quiet
@pytest.mark.parametrize("decoding_", ["once", "on_the_fly"])
@pytest.mark.parametrize("ending", ["tif", "png", "npy"])
def test_large_images_are_cut_into_tiles_that_cover_them(tmp_path, ending, decoding_):
    """Would catch a border that is dropped, and tiles under another's name."""
    x = large(tmp_path / "f")
    if ending != "tif":
        (tmp_path / "f" / "large.tif").unlink()
        pixels = np.moveaxis(x, 0, 2)
        if ending == "png":
            Image.fromarray(pixels).save(tmp_path / "f" / "large.png")
        else:
            np.save(tmp_path / "f" / "large.npy", pixels)
    splits = open_data(tmp_path / "f", size=(128, 128), tile=128, decoding=decoding_)
    names = splits.train.names
    assert names[:6] == [f"large.{ending}#0,{c}" for c in range(5)] + [f"large.{ending}#1,0"]
    assert len(names) == 3 * 5
    seen = np.zeros((300, 520), bool)
    for name, tile in zip(names, splits.train.x[:], strict=True):
        row, column = map(int, name.partition("#")[2].split(","))
        top, left = min(128 * row, 300 - 128), min(128 * column, 520 - 128)
        seen[top : top + 128, left : left + 128] = True
        assert (tile == x[:, top : top + 128, left : left + 128]).all()
    assert seen.all()
    assert set(splits.train.groups) == {f"large.{ending}"}
    assert splits.modality.tile == 128


@quiet
@pytest.mark.parametrize("ending", ["png", "webp"])
def test_turned_photos_are_cut_upright(tmp_path, ending):
    """Would catch tiles by the size before the EXIF rotation, some of them beyond the image."""
    x = RNG.integers(0, 255, (48, 80, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees, clockwise
    Image.fromarray(x).save(tmp_path / f"a.{ending}", exif=exif, lossless=True)
    splits = open_data(tmp_path, size=(16, 16), tile=16)
    upright = np.rot90(x, -1).transpose(2, 0, 1)  # (3, 80, 48)
    expected = [upright[:, r : r + 16, c : c + 16] for r in range(0, 80, 16) for c in (0, 16, 32)]
    np.testing.assert_array_equal(splits.train.x[:], expected)


def test_small_and_narrow_images_lose_nothing(tmp_path):
    for name, size in (("small", (100, 90)), ("narrow", (500, 60))):
        Image.new("RGB", size, "white").save(tmp_path / f"{name}.png")
    with pytest.warns(Notice) as notices:
        splits = open_data(tmp_path, size=(32, 32), tile=128)
    expected = [*(f"narrow.png#0,{c}" for c in range(9)), "small.png"]
    assert splits.train.names == expected
    assert "1 of 2 images is larger than 128×128 and cut into 9 tiles" in messages(notices)
    assert "10 of 10 tiles are empty" in messages(notices)
    with pytest.raises(UserError, match="--tile is 4, but must be at least 8"):
        open_data(tmp_path, tile=4)


@quiet
def test_tiles_of_an_image_are_on_one_side_of_the_split(tmp_path):
    """Would catch tiles that are split one by one, and labels of files that tiles do not get."""
    rows = ["name,stain"]
    for i in range(12):
        color = tuple(RNG.integers(0, 255, 3).tolist())
        Image.new("RGB", (64, 64), color).save(tmp_path / f"{i:02}.png")
        rows.append(f"{i:02}.png,{'ab'[i % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    labels = tmp_path / "labels.csv"
    splits = open_data(tmp_path, size=(16, 16), tile=16, labels_from=labels)
    train, test = (set(part.groups) for part in (splits.train, splits.test))
    assert len(train | test) == 12
    assert not train & test
    assert len(splits.test) == 16 * len(test)
    for part in (splits.train, splits.test):
        for name, code in zip(part.names, part.factors["stain"], strict=True):
            assert code == int(name[:2]) % 2


def test_the_limit_of_pixels_is_named_and_raised(tmp_path, monkeypatch):
    """Would catch a limit that is gone for all, or that is raised without being asked."""
    Image.new("RGB", (60, 60), "red").save(tmp_path / "a.png")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    flag = "--tile SIZE cuts large images into samples, --max-pixels N admits them"
    with pytest.warns(Notice, match=rf"1 of 2 images are left out \(1 enormous\).*{flag}"):
        assert len(open_data(tmp_path, size=(8, 8)).train) == 1
    splits = open_data(tmp_path, size=(8, 8), max_pixels=4000)
    assert len(splits.train) == 2
    assert Image.MAX_IMAGE_PIXELS == 1000
    assert splits.modality.max_pixels == 4000
    with pytest.warns(Notice, match="1 enormous"):
        open_data(tmp_path, size=(8, 8), max_pixels=3000)
    (tmp_path / "b.png").unlink()
    with pytest.raises(UserError, match=f"enormous: more than 1,000 pixels\\); {flag}"):
        open_data(tmp_path, size=(8, 8))
    part = Part(tmp_path / "a.png", max_pixels=4000)
    assert decode([part], 3, (8, 8), "u1")[1] == [None]


def test_a_tiff_is_cut_beyond_the_limit_but_its_tiles_are_bounded(tmp_path, monkeypatch):
    large(tmp_path / "tiles")
    large(tmp_path / "one", tile=None, rowsperstrip=300)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 * 9)
    with pytest.warns(Notice, match="cut into"):
        assert len(open_data(tmp_path / "tiles", size=(8, 8), tile=128).train) == 15
    with pytest.warns(Notice), pytest.raises(UserError, match="enormous"):
        open_data(tmp_path / "one", size=(8, 8), tile=128)


@quiet
def test_a_run_opens_data_as_it_was_trained(tmp_path):
    """Would catch tiles in training only."""
    for i in range(4):
        large(tmp_path / "f", shape=(64, 96, 3), tile=(32, 32))
        (tmp_path / "f" / "large.tif").rename(tmp_path / "f" / f"{i}.tif")
    options = {"epochs": 1, "batch_size": 8, "progress": False, "encoder_args": {"width": 4}}
    ul.train(
        "denoising_autoencoder", tmp_path / "f", out=tmp_path / "run", tile=32, size=16, **options
    )
    run = ul.load(tmp_path / "run")
    assert run.embed(tmp_path / "f").shape[0] == 24
    assert json.loads((tmp_path / "run" / "config.json").read_text())["tile"] == 32
    assert ul.load(tmp_path / "run", tile=64).embed(tmp_path / "f").shape[0] == 8
    from unlabeled.evaluation.evaluate import open_for

    assert len(open_for(run, None).train) == 24
    bad = json.loads((tmp_path / "run" / "encoder.json").read_text())
    bad["modality"]["tile"] = "1"
    (tmp_path / "run" / "encoder.json").write_text(json.dumps(bad))
    with pytest.raises(UserError, match=r"modality\.tile"):
        ul.load(tmp_path / "run")


@quiet
def test_compare_opens_data_alike_for_all(tmp_path):
    """Would catch other samples for an encoder by name, or for a run of whole images."""
    from unlabeled.report.compare import compare

    rows = ["name,stain"]
    for i in range(10):
        large(tmp_path / "f", shape=(48, 48, 3), tile=(16, 16))
        (tmp_path / "f" / "large.tif").rename(tmp_path / "f" / f"{i}.tif")
        rows.append(f"{i}.tif,{'ab'[i % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    options = {"epochs": 1, "batch_size": 8, "progress": False, "encoder_args": {"width": 4}}
    options |= {"size": 16, "logger": "none", "labels_from": str(tmp_path / "labels.csv")}
    runs = [tmp_path / name for name in ("cut", "whole")]
    for run, tile in zip(runs, (16, None), strict=True):
        ul.train("denoising_autoencoder", str(tmp_path / "f"), out=run, tile=tile, **options)
    for tile, number in ((None, 9), (24, 4)):
        result = compare([*runs, "histogram"], tile=tile)
        assert result["n_train"] + result["n_test"] == 10 * number
    with pytest.raises(UserError, match="--tile is 4, but must be at least 8"):
        compare(runs, tile=4)


@quiet
def test_headers_of_files_are_looked_at_once(tmp_path, monkeypatch):
    large(tmp_path / "f")
    first = open_data(tmp_path / "f", size=(16, 16), tile=128)
    monkeypatch.setattr(decoding, "_header", None)  # whoever looks again fails
    again = open_data(tmp_path / "f", size=(16, 16), tile=128)
    assert again.train.names == first.train.names
    assert parts.Opening(128) == parts.Opening(tile=128)
