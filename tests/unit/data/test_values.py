"""What numbers mean: images given to a run are read as those that it learned from."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

import unlabeled as ul
from unlabeled.data import open_data
from unlabeled.data.dataset import to_float
from unlabeled.data.open import read_data
from unlabeled.data.values import as_range
from unlabeled.errors import Notice, UserError
from unlabeled.modality import Images

RNG = np.random.default_rng(0)
EIGHT = RNG.integers(0, 256, (4, 6, 6)).astype(np.uint8)
EIGHT[0, 0, :2] = 0, 255


def seen(data, stored, span) -> np.ndarray:
    """What the encoder sees, (N, H, W)."""
    samples = read_data(data, like=Images(1, data.shape[-2:], span, stored))
    return to_float(torch.from_numpy(np.asarray(samples.x[:])), span).numpy()[:, 0]


@pytest.mark.filterwarnings("ignore:.* 255 is white")
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.int32, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("stored", ["uint8", "mask", "float32"])
def test_0_to_255_is_white_at_255_for_encoders_of_0_to_1(kind, stored):
    """Would catch integers that are read as values of a run on floats, or floats as up to 1."""
    np.testing.assert_allclose(seen(EIGHT.astype(kind), stored, (0.0, 1.0)), EIGHT / 255, atol=1e-6)


@pytest.mark.parametrize("stored", ["uint8", "mask", "float32"])
def test_floats_from_0_to_1_stay_so(stored):
    np.testing.assert_allclose(seen(EIGHT / 255, stored, (0.0, 1.0)), EIGHT / 255, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64, np.float64])
def test_numbers_in_the_range_of_a_run_on_floats_are_its_values(kind):
    """Would catch a run fitted on −3..3 that reads whole numbers as 0..255."""
    x = RNG.integers(-3, 4, (4, 6, 6)).astype(kind)
    np.testing.assert_allclose(seen(x, "float32", (-3.0, 3.0)), (x + 3) / 6, atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_dark_and_few_numbers_are_values_where_the_range_says_so(kind):
    x = RNG.integers(0, 2, (4, 6, 6)).astype(kind)
    np.testing.assert_allclose(seen(x, "float32", (-1.0, 3.0)), (x + 1) / 4, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "stored", "span"),
    [
        (EIGHT, "float32", (-3.0, 3.0)),
        (EIGHT.astype(np.int64) - 300, "float32", (-3.0, 3.0)),
        (EIGHT.astype(np.uint16) * 200, "uint8", (0.0, 1.0)),
        (EIGHT.astype(np.uint16) * 200, "mask", (0.0, 1.0)),
        (EIGHT.astype(np.int64) * 200, "float32", (0.0, 1.0)),
        (EIGHT.astype(np.int64) * 200, "uint16", (0.0, 4095.0)),
        (EIGHT.astype(np.float32) - 100, "uint8", (0.0, 1.0)),
        (EIGHT.astype(np.float32) * 3, "uint8", (0.0, 1.0)),
        (EIGHT.astype(np.float32) * 3, "float32", (0.0, 1.0)),
    ],
)
def test_numbers_that_fit_nothing_are_refused(x, stored, span):
    """Would catch images that turn white, black or wrapped without a word."""
    with pytest.raises(UserError, match=r"hold values from .* but the encoder learned from .*conv"):
        seen(x, stored, span)


@pytest.mark.parametrize("kind", [np.uint16, np.int64, np.float32])
def test_values_of_a_run_on_12_bits_stay_values_however_dark(kind):
    dark = RNG.integers(0, 200, (4, 6, 6)).astype(kind)
    np.testing.assert_allclose(seen(dark, "uint16", (0.0, 4095.0)), dark / 4095, atol=1e-6)


def test_8_bits_given_to_a_run_on_16_are_said_to_be_white_at_255():
    with pytest.warns(Notice, match="8-bit images are given to an encoder .* 255 is white"):
        np.testing.assert_allclose(seen(EIGHT, "uint16", (0.0, 4095.0)), EIGHT / 255, atol=1e-6)
    with pytest.warns(Notice, match="1 is white"):
        x = seen((EIGHT / 255).astype(np.float32), "uint16", (0.0, 4095.0))
    np.testing.assert_allclose(x, EIGHT / 255, atol=1e-5)
    with pytest.warns(Notice, match="values from 0 to 255 are given to an encoder of 0 to 1"):
        seen(EIGHT.astype(np.float32), "float32", (0.0, 1.0))


def test_floats_outside_the_range_are_clipped_and_counted():
    x = np.zeros((4, 6, 6), np.float32)
    x[0, 0, :3] = -9999, 7, 3
    with pytest.warns(Notice, match=r"2 of 144 values lie outside -3 to 3 \(-9999 to 7\)"):
        z = seen(x, "float32", (-3.0, 3.0))
    assert z.min() == 0
    assert z.max() == 1
    with pytest.raises(UserError, match="NaN or infinite"):
        seen(np.where(x == 7, np.nan, x), "float32", (-3.0, 3.0))


def test_a_run_on_floats_embeds_their_whole_numbers_alike(tmp_path):
    """From end to end, in Python: as an array, a list of integers, a file left on disk."""
    x = RNG.integers(-3, 4, (40, 8, 8))
    run = ul.train("simclr", x / 1.0, out=tmp_path / "run", epochs=1, batch_size=20, progress=False)
    assert run.modality.value_range == (-3.0, 3.0)
    z = run.embed(x / 1.0)
    np.save(tmp_path / "x.npy", x.astype(np.int16))
    for same in (x, x.astype(np.int8), str(tmp_path / "x.npy")):
        np.testing.assert_allclose(run.embed(same), z, atol=1e-5)


@pytest.mark.parametrize("stray", [-9999.0, 1e6, 65535])
@pytest.mark.parametrize("share", [0.0, 0.04, 0.3])
def test_a_value_far_from_all_others_that_sets_the_range_is_named(stray, share):
    """Would catch one "no data" value, or many equal ones, that turn all else black."""
    x = RNG.normal(1500, 400, (20, 16, 16)).astype(np.float32)
    x[RNG.random(x.shape) < share] = stray
    x[3, 2, 1] = stray
    times = f"{int((x == np.float32(stray)).sum()):,} times"
    with pytest.warns(Notice, match=rf"{re.escape(f'{stray:g}')} \({times}\).*give --value-range="):
        open_data(x)
    with pytest.warns(Notice, match=r"values lie outside 0 to 3,?000"):
        splits = open_data(x, value_range=(0, 3000))
    assert splits.value_range == (0, 3000)
    assert (splits.train.x.min() >= 0) & (splits.train.x.max() <= 3000)


def test_hot_pixels_of_a_camera_are_named():
    deep = RNG.integers(0, 4000, (20, 16, 16)).astype(np.uint16)
    deep[1, 2, 3] = 65535
    with pytest.warns(Notice, match=r"65535 \(1 times\)"):
        assert open_data(deep).value_range == (0, 65535)
    with pytest.warns(Notice, match="1 of 5,120 values"):
        assert open_data(deep, value_range=(0, 4095)).value_range == (0, 4095)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", ["normal", "uniform", "background"])
def test_ordinary_values_are_not_named(draw):
    x = RNG.normal(0, 1, (50, 16, 16)) if draw == "normal" else RNG.uniform(-5, 9, (50, 16, 16))
    x = np.where(RNG.random(x.shape) < 0.5, 0, x + 300) if draw == "background" else x
    open_data(x)


def test_whole_numbers_of_any_size_have_a_range_if_it_is_given(tmp_path):
    """Computed tomography: −1024 to 3000, int16; refused without, since nobody knows white."""
    x = RNG.integers(-1024, 3000, (30, 8, 8)).astype(np.int16)
    with pytest.raises(UserError, match="--value-range LOW,HIGH"):
        open_data(x)
    np.save(tmp_path / "x.npy", x)
    options = {"epochs": 1, "batch_size": 10, "progress": False, "value_range": "-1000,2000"}
    with pytest.warns(Notice, match="lie outside -1000 to 2000"):
        run = ul.train("simclr", tmp_path / "x.npy", out=tmp_path / "run", **options)
    with pytest.warns(Notice, match="lie outside -1000 to 2000"):
        z = ul.load(tmp_path / "run").embed(x)
    assert run.modality.value_range == (-1000.0, 2000.0)
    assert run.config["value_range"] == [-1000.0, 2000.0]
    np.testing.assert_allclose(z, run.embed(x.clip(-1000, 2000)), atol=1e-5)


@pytest.mark.parametrize("given", ["5", "5,5", "9,1", "a,b", "0,nan", "0,inf", "1,2,3", (1,), 3])
def test_ranges_that_are_none_are_refused(given):
    with pytest.raises(UserError, match="give LOW,HIGH"):
        as_range(given)


# Images in files


def tiffs(folder, *arrays, **options):
    tifffile = pytest.importorskip("tifffile", reason="pip install 'unlabeled[tiff]'")
    folder.mkdir(exist_ok=True)
    for number, x in enumerate(arrays):
        tifffile.imwrite(folder / f"{number}.tif", x, **options)
    return folder


BANDS = {"photometric": "minisblack"}


@pytest.mark.parametrize(
    ("kind", "shape", "options", "channels"),
    [
        ("f4", (16, 20), {}, 1),
        ("f8", (16, 20), {}, 1),
        ("i2", (16, 20), {}, 1),
        ("f4", (16, 20, 3), {"photometric": "rgb"}, 3),
        ("f4", (16, 20, 5), BANDS | {"planarconfig": "contig"}, 5),
        ("u2", (16, 20, 3), {"photometric": "rgb"}, 3),
        ("u2", (16, 20, 3), {"photometric": "rgb", "compression": "lzw"}, 3),
        ("u2", (16, 20, 3), {"photometric": "rgb", "byteorder": ">"}, 3),
        ("u2", (13, 16, 20), BANDS | {"planarconfig": "separate"}, 13),
        ("u1", (4, 16, 20), {"imagej": True, "metadata": {"axes": "CYX"}}, 4),
        ("u2", (4, 16, 20), BANDS | {"metadata": {"axes": "CYX"}}, 4),
    ],
)
def test_tiffs_are_read_as_they_are(tmp_path, kind, shape, options, channels):
    """Would catch floats left out, 16 bits cut to 8, and channels dropped."""
    arrays = [
        RNG.integers(-99, 99, shape) if kind[0] == "i" else (RNG.random(shape) * 60000)
        for _ in range(3)
    ]
    arrays = [(x % 256 if kind == "u1" else x).astype(kind) for x in arrays]
    folder = tiffs(tmp_path / "tiffs", *arrays, **options)
    splits = open_data(folder, size=(16, 20))
    assert splits.channels == channels
    x = np.stack(arrays).astype(np.float32)
    x = x[:, None] if channels == 1 else np.moveaxis(x, 3, 1) if shape[2] == channels else x
    np.testing.assert_array_equal(np.asarray(splits.train.x[:], np.float32), x)
    assert splits.train.x.dtype == (np.float32 if kind[0] in "if" else np.dtype(kind))
    smaller = open_data(folder, size=(8, 8)).train.x
    assert smaller[:].min() >= x.min()
    assert smaller[:].max() <= x.max()


def test_pages_that_are_no_channels_are_said_and_the_first_is_read(tmp_path):
    x = RNG.random((3, 16, 16)).astype("f4")
    folder = tiffs(tmp_path / "z", x, imagej=True, metadata={"axes": "ZYX"})
    with pytest.warns(Notice, match="1 images have several pages or frames; the first is taken"):
        np.testing.assert_array_equal(open_data(folder).train.x[:][0, 0], x[0])


def test_of_several_kinds_of_tiff_the_commonest_is_read_and_the_others_are_counted(tmp_path):
    many = [RNG.random((16, 16, 5)).astype("f4") for _ in range(3)]
    folder = tiffs(tmp_path / "mixed", *many, **BANDS, planarconfig="contig")
    tiffs(tmp_path / "mixed" / "other", RNG.random((16, 16)).astype("f4"))
    Image.new("RGB", (16, 16)).save(folder / "color.png")
    with pytest.warns(Notice, match=r"2 of 5 images are left out .*channels of float32 where"):
        assert open_data(folder).train.x.shape == (3, 5, 16, 16)


def test_a_run_on_float_tiffs_embeds_such_files_in_its_range(tmp_path):
    arrays = [RNG.normal(0, 3, (16, 16)).astype("f4") for _ in range(20)]
    folder = tiffs(tmp_path / "f", *arrays)
    options = {"epochs": 1, "batch_size": 10, "progress": False}
    run = ul.train("simclr", folder, out=tmp_path / "run", **options)
    low, high = run.modality.value_range
    assert low < -5
    assert high > 5
    one = tiffs(tmp_path / "one", arrays[0])
    names = sorted(path.name for path in folder.iterdir())
    z = run.embed(folder)[names.index("0.tif")]
    np.testing.assert_allclose(run.embed(one)[0], z, atol=1e-4)
    (tmp_path / "png").mkdir()
    Image.fromarray(EIGHT[0]).resize((16, 16)).save(tmp_path / "png" / "a.png")
    with pytest.raises(UserError, match="but the encoder learned from float32 from"):
        run.embed(tmp_path / "png")


def test_12_bits_are_not_black_for_a_run_on_8(tmp_path):
    """Would catch the high byte of 12 bits: 15 of 255 at most."""
    options = {"epochs": 1, "batch_size": 10, "progress": False}
    run = ul.train("simclr", np.repeat(EIGHT, 5, 0), out=tmp_path / "run", **options)
    deep = np.linspace(0, 4095, 36).reshape(6, 6).astype(np.uint16)
    (tmp_path / "deep").mkdir()
    Image.fromarray(deep).save(tmp_path / "deep" / "a.png")
    with (
        pytest.warns(Notice, match="are read as 8-bit ones"),
        pytest.raises(UserError, match=r"none of the 1 images .* can be read.*12 bits or fewer"),
    ):
        run.embed(tmp_path / "deep")
    with pytest.raises(UserError, match="hold values from 0 to 4095, but the encoder learned from"):
        run.embed(deep[None])
    Image.fromarray(deep * 16).save(tmp_path / "deep" / "a.png")
    with pytest.warns(Notice, match="high byte"):
        z = run.embed(tmp_path / "deep")
    np.testing.assert_allclose(z, run.embed((deep * 16 >> 8).astype(np.uint8)[None]), atol=1e-4)


def test_what_tiffs_need_is_named_where_it_is_missing(tmp_path, monkeypatch):
    from unlabeled.data.readers import tiff

    folder = tiffs(
        tmp_path / "f", RNG.random((9, 9, 5)).astype("f4"), **BANDS, planarconfig="contig"
    )
    monkeypatch.setattr(tiff, "tifffile", None)
    with pytest.raises(UserError, match=r"TIFF of a kind that pip install 'unlabeled\[tiff\]'"):
        open_data(folder)
