"""DICOM: values in units, frames, folders of files with and without endings, groups of patients."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unlabeled as ul
from unlabeled.data import open_data
from unlabeled.data.readers import dicom
from unlabeled.errors import Notice, UserError

pydicom = pytest.importorskip("pydicom", reason="pip install 'unlabeled[dicom]'")
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, generate_uid  # noqa: E402

RNG = np.random.default_rng(0)
quiet = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"  # bundled with pydicom


def write(path: Path, x: np.ndarray, **elements: object) -> np.ndarray:
    """A DICOM file of uint8, int16 or uint16 (H, W), (F, H, W), or of colors (H, W, 3)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    colors = x.shape[-1] == 3
    shape = x.shape[:-1] if colors else x.shape
    ds.SamplesPerPixel = 3 if colors else 1
    ds.PhotometricInterpretation = "RGB" if colors else "MONOCHROME2"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = shape[-2:]
    if len(shape) == 3:
        ds.NumberOfFrames = shape[0]
    ds.BitsAllocated = ds.BitsStored = 8 * x.dtype.itemsize
    ds.PixelRepresentation = int(x.dtype.kind == "i")
    for name, value in ({"PatientName": "Doe^Jane", "PatientID": "1"} | elements).items():
        setattr(ds, name, value)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelData = x.tobytes()
    if len(ds.PixelData) % 2:
        ds.PixelData += b"\0"
    ds.save_as(path, enforce_file_format=True)
    return x


def only(folder, **options) -> np.ndarray:
    return open_data(folder, **options).train.x[:]


def test_values_are_in_the_units_of_the_device(tmp_path):
    """Would catch stored values, a burnt-in window, 8 bits, and an inverted image."""
    stored = RNG.integers(0, 4096, (16, 16), np.uint16)
    write(tmp_path / "a.dcm", stored, BitsStored=12, WindowCenter=40, WindowWidth=80)
    splits = open_data(tmp_path)
    assert splits.train.x.dtype == np.uint16
    assert splits.value_range == (0, 4095)
    assert (splits.train.x[:][0, 0] == stored).all()
    write(tmp_path / "a.dcm", stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    assert (only(tmp_path)[0, 0] == 4095 - stored).all()
    scale = {"RescaleSlope": 0.5, "RescaleIntercept": -1024}
    write(tmp_path / "a.dcm", stored, BitsStored=12, **scale)
    np.testing.assert_array_equal(only(tmp_path)[0, 0], stored * 0.5 - 1024)
    inverted = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12}
    write(tmp_path / "a.dcm", stored, **inverted, **scale)
    np.testing.assert_array_equal(only(tmp_path)[0, 0], (4095 - stored) * 0.5 - 1024)
    signed = (stored.astype(np.int16) - 2048).astype(np.int16)
    write(tmp_path / "a.dcm", signed, PhotometricInterpretation="MONOCHROME1", BitsStored=16)
    np.testing.assert_array_equal(only(tmp_path)[0, 0], -1.0 - signed)


def test_one_unit_for_all(tmp_path):
    """Would catch files left out because one of them has a slope."""
    stored = RNG.integers(0, 4096, (16, 16), np.uint16)
    write(tmp_path / "a.dcm", stored)
    write(tmp_path / "b.dcm", stored, RescaleSlope=2, RescaleIntercept=-1)
    x = only(tmp_path)
    np.testing.assert_array_equal(x[0, 0], stored)
    np.testing.assert_array_equal(x[1, 0], stored * 2.0 - 1)


def test_frames_are_samples_and_files_stay_together(tmp_path):
    """Would catch frames that are dropped, mixed up, or on both sides of a split."""
    frames = {f"{i}.dcm": RNG.integers(0, 255, (4, 16, 16), np.uint8) for i in range(6)}
    for name, x in frames.items():
        write(tmp_path / name, x)
    write(tmp_path / "single", RNG.integers(0, 255, (16, 16), np.uint8))
    rows = ["name,kind", *(f"{name},{'ab'[i % 2]}" for i, name in enumerate(frames))]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    labels = tmp_path / "labels.csv"
    with pytest.warns(Notice) as notices:
        splits = open_data(tmp_path, labels_from=labels)
    words = " | ".join(str(each.message) for each in notices)
    assert "6 DICOM files of several frames hold 24; each is a sample, named file#frame" in words
    samples = [
        (n, x) for p in (splits.train, splits.test) for n, x in zip(p.names, p.x[:], strict=True)
    ]
    assert len(samples) == 25
    for name, x in samples:
        file, _, frame = name.partition("#")
        if frame:
            assert (x[0] == frames[file][int(frame)]).all()
    assert not set(splits.train.groups) & set(splits.test.groups)


@quiet
def test_patients_are_groups_and_their_names_stay_out_of_runs(tmp_path):
    """Would catch a patient on both sides of the split, and one who is named in a run."""
    folder = tmp_path / "scans"
    rows = ["name,kind"]
    for i in range(24):
        path = folder / f"IM-{i:03}"  # without an ending
        folder.mkdir(exist_ok=True)
        write(
            path, RNG.integers(0, 4096, (16, 16), np.uint16), PatientID=f"MRN{i // 3}",
            PatientName=f"Secret^{i // 3}",
        )  # fmt: skip
        rows.append(f"{path.name},{'ab'[i % 2]}")
    (folder / "labels.csv").write_text("\n".join(rows))
    options = {"labels_from": folder / "labels.csv", "groups_from": "dicom:PatientID"}
    splits = open_data(folder, **options)
    groups = [
        {n[3:]: g for n, g in zip(p.names, p.groups, strict=True)}
        for p in (splits.train, splits.test)
    ]
    assert len(set(groups[0].values()) | set(groups[1].values())) == 8
    assert not set(groups[0].values()) & set(groups[1].values())
    by_patient = groups[0] | groups[1]
    assert by_patient["000"] == by_patient["002"] != by_patient["003"]
    assert not any("MRN" in group for group in by_patient.values())
    run = ul.train(
        "denoising_autoencoder", folder, out=tmp_path / "run", epochs=1, batch_size=8,
        progress=False, encoder_args={"width": 4}, **options,
    )  # fmt: skip
    ul.evaluate(run)
    assert json.loads((run.path / "config.json").read_text())["groups_from"] == "dicom:PatientID"
    for path in run.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Secret" not in content, path
            assert b"MRN" not in content, path
    with pytest.raises(UserError, match="DICOM has no element Patient; give one such as"):
        open_data(folder, labels_from=options["labels_from"], groups_from="dicom:Patient")


@quiet
def test_colors_palettes_and_what_is_no_image(tmp_path):
    x = write(tmp_path / "a.dcm", RNG.integers(0, 255, (16, 16, 3), np.uint8))
    assert (only(tmp_path)[0] == x.transpose(2, 0, 1)).all()
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    del ds.Rows, ds.Columns, ds.PixelData
    ds.save_as(tmp_path / "report.dcm")
    (tmp_path / "torn.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:700])
    with pytest.warns(Notice, match=r"2 of 3 images are left out") as notices:
        assert len(open_data(tmp_path).train) == 1
    words = " | ".join(str(each.message) for each in notices)
    assert "1 DICOM without an image" in words
    assert "1 damaged" in words


BUNDLED = {
    "CT_small.dcm": (1, "f4"),
    "MR_small_bigendian.dcm": (1, "f4"),
    "MR_small_RLE.dcm": (1, "f4"),
    "SC_rgb_rle_16bit_2frame.dcm": (3, "u2"),
    "examples_palette.dcm": (3, "u1"),
    "examples_ybr_color.dcm": (3, "u1"),
    "examples_overlay.dcm": (1, "u2"),
    "rtdose.dcm": (1, "f4"),
    "liver_1frame.dcm": (1, "u1"),
}


@quiet
@pytest.mark.parametrize("name", BUNDLED)
def test_files_of_devices(name, tmp_path):
    """Of pydicom's own test files, the values that pydicom gives."""
    (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    channels, kind = BUNDLED[name]
    ds = pydicom.dcmread(SAMPLES / name)
    size = (ds.Rows, ds.Columns)
    x = only(tmp_path, size=size)
    frames = int(ds.get("NumberOfFrames") or 1)
    assert x.shape == (frames, channels, *size)
    assert x.dtype == np.dtype(kind)
    raw = ds.pixel_array.reshape(frames, *size, -1)
    if name == "CT_small.dcm":
        raw = raw + ds.RescaleIntercept
    if name.startswith(("CT", "MR", "SC", "rtdose", "examples_overlay")):
        np.testing.assert_array_equal(x, raw.transpose(0, 3, 1, 2).astype(kind))


@quiet
@pytest.mark.parametrize(
    "name", ["JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm"]
)
def test_compressed_files(name, tmp_path, monkeypatch):
    pytest.importorskip("pylibjpeg", reason="pip install 'unlabeled[dicom-compressed]'")
    (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    ds = pydicom.dcmread(SAMPLES / name)
    x = only(tmp_path, size=(ds.Rows, ds.Columns))
    np.testing.assert_array_equal(x[0, 0], ds.pixel_array.astype(x.dtype))


@quiet
def test_what_is_missing_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a.dcm", RNG.integers(0, 255, (16, 16), np.uint8))
    with monkeypatch.context() as without:
        without.setattr(dicom, "IS_READ", False)
        with (
            pytest.warns(Notice, match=r"1 .dcm \(pip install 'unlabeled\[dicom\]'\)"),
            pytest.raises(UserError, match="contains no images"),
        ):
            open_data(tmp_path)
        (tmp_path / "a.dcm").rename(tmp_path / "a")
        with pytest.raises(UserError, match=r"DICOM, which pip install 'unlabeled\[dicom\]' makes"):
            open_data(tmp_path)

    def without_pylibjpeg(name: str, *_: object) -> None:
        assert name == "pylibjpeg"

    (tmp_path / "a").write_bytes((SAMPLES / "JPEG-lossy.dcm").read_bytes())
    monkeypatch.setattr(dicom.importlib.util, "find_spec", without_pylibjpeg)
    with pytest.raises(UserError, match=r"compressed as pip install 'unlabeled\[dicom-compressed"):
        open_data(tmp_path)


@quiet
def test_deep_gray_is_given_to_encoders_of_8_bit_colors(tmp_path):
    """Would catch 12 bits that become black, as their high byte of 16 is."""
    stored = np.linspace(0, 4095, 32 * 32).reshape(32, 32).astype(np.uint16)
    write(tmp_path / "a.dcm", stored, BitsStored=12)
    run = ul.load("histogram", data=np.zeros((4, 3, 32, 32), np.uint8) + np.uint8(9))
    x = run.read(tmp_path).x[:]
    assert x.shape == (1, 3, 32, 32)
    assert (x[0] == stored >> 4).all()
    Image.fromarray(stored).save(tmp_path / "b.png")
