"""Data by a pattern of files, and single files."""

import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabeled.data.open import open_data, read_data
from unlabeled.data.readers.patterns import expand_braces, is_pattern
from unlabeled.errors import Notice, UserError
from unlabeled.modality import Audio, Images, Text
from unlabeled.training.folder import record_data


def with_notices(call, *args, **kwargs):
    """What a call gives, and all its notices in one text."""
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        result = call(*args, **kwargs)
    return result, "\n".join(str(n.message) for n in notices if issubclass(n.category, Notice))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes of PNGs, one JPEG, and files of other kinds."""
    for kind, value in {"cat": 40, "dog": 200}.items():
        (tmp_path / kind).mkdir()
        for i in range(3):
            Image.new("L", (8, 8), value + i).save(tmp_path / kind / f"{i}.png")
    Image.new("L", (8, 8), 90).save(tmp_path / "cat" / "9.jpg")
    (tmp_path / "cat" / "notes.csv").write_text("a,b\n")
    (tmp_path / ".hidden.png").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("plain.tar", ["plain.tar"]),
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{9..11}.tar", ["s-9.tar", "s-10.tar", "s-11.tar"]),
        ("s-{08..10}", ["s-08", "s-09", "s-10"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{1..2}.tar", ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"]),
        ("{uuid}-{a,b}", ["{uuid}-a", "{uuid}-b"]),
        ("{a,}.tar", ["a.tar", ".tar"]),
    ],
)
def test_braces(pattern, names):
    assert expand_braces(pattern) == names


def test_braces_for_too_many_names():
    with pytest.raises(UserError, match="more than 2,000,000 names"):
        expand_braces("{0..9999}{0..9999}")
    with pytest.raises(UserError, match="more than 2,000,000 names"):
        expand_braces("{0..99999999999999}")


def test_names_that_only_look_like_patterns(tmp_path):
    (tmp_path / "photos [2023]").mkdir()
    assert not is_pattern(tmp_path / "photos [2023]")
    assert is_pattern(tmp_path / "photos [2024]")
    assert not is_pattern("https://example.org/photos?size=2")
    assert not is_pattern("{uuid}.npy")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("cat/*.png", ["0.png", "1.png", "2.png"]),
        ("cat/[01].png", ["0.png", "1.png"]),
        ("*/0.png", ["cat/0.png", "dog/0.png"]),
        ("{cat,dog}/0.png", ["cat/0.png", "dog/0.png"]),
        ("d*", ["dog/0.png", "dog/1.png", "dog/2.png"]),
        ("**/*.jpg", ["cat/9.jpg"]),
        ("c**", ["cat/0.png", "cat/1.png", "cat/2.png", "cat/9.jpg"]),
    ],
)
def test_images_of_a_pattern(pattern, names, photos):
    samples, notices = with_notices(read_data, str(photos / pattern))
    expected = [name.rpartition("/")[2] for name in names] if len(names) == 1 else names
    assert samples.names == expected
    number = len(names) + (pattern == "c**")  # the table beside them, too
    assert f"matches {number} file{'s' * (number > 1)}" in notices
    assert ("left out: 1 .csv" in notices) is (pattern == "c**")


def test_labels_and_values_of_a_pattern(photos):
    """Catches names relative to another folder, whose first part is no class."""
    splits, _ = with_notices(open_data, photos / "*" / "*.png", labels_from="folders")
    assert splits.classes == ["cat", "dog"]
    assert len(splits.train) + len(splits.test) == 6
    for part in (splits.train, splits.test):
        assert ((part.x[:][:, 0, 0, 0] > 100) == part.factors["label"]).all()


def test_a_pattern_is_recorded_so_that_it_can_be_opened_elsewhere(photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert record_data("*/*.png") == str(photos / "*/*.png")
    assert record_data("text:books/*.txt") == "text:books/*.txt"


def test_shards_by_braces(tmp_path):
    for shard in range(4):
        with tarfile.open(tmp_path / f"s-{shard:03}.tar", "w") as tar:
            file = io.BytesIO()
            Image.new("L", (8, 8), 10 * shard).save(file, "PNG")
            member = tarfile.TarInfo("0.png")
            member.size = len(file.getvalue())
            tar.addfile(member, io.BytesIO(file.getvalue()))
    samples, notices = with_notices(read_data, str(tmp_path / "s-{001..002}.tar"))
    assert samples.x[:].ravel()[::64].tolist() == [10, 20]
    assert "matches 2 files" in notices
    with pytest.raises(UserError, match=r"s-004\.tar does not exist, which .* \(2 of the 4 that"):
        read_data(str(tmp_path / "s-{002..005}.tar"))


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("cat/*.gif", r"no file matches '.*cat/\*\.gif'; .*cat holds 3 \.png, 1 \.jpg, 1 \.csv"),
        ("bird/*.png", r"there is no folder .*bird, check the path"),
        ("{bird,cow}/*.png", r"no file matches"),
        ("{cat,bird}/*.png", r"bird/\*\.png does not exist, which '.*' names \(1 of the 2"),
        ("cat/n*", r"notes\.csv is not an image, audio, text or video file"),
    ],
)
def test_a_wrong_pattern_ends_in_one_sentence(pattern, says, photos):
    with pytest.raises(UserError, match=says):
        with_notices(open_data, str(photos / pattern))


def test_a_pattern_of_other_files(photos):
    (photos / "cat" / "more.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=r"matches more\.csv, notes\.csv, but no images"):
        with_notices(open_data, str(photos / "cat" / "*.csv"))


def test_one_image(photos):
    samples = read_data(photos / "dog" / "1.png")
    assert samples.names == ["1.png"]
    assert samples.x[:].max() == 201
    (photos / "dog" / "1.png").rename(photos / "dog" / "plain")  # known by its first bytes
    assert read_data(str(photos / "dog" / "plain")).x[:].max() == 201


def test_recordings(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", np.full(200, 0.1 * i), 8000)
    one = read_data(tmp_path / "2.wav")
    assert isinstance(one.modality, Audio)
    assert one.x.shape == (1, 1, 1, 200)
    assert one.x.max() == pytest.approx(0.2, abs=1e-3)
    assert with_notices(read_data, str(tmp_path / "[01].wav"))[0].names == ["0.wav", "1.wav"]


def test_texts(tmp_path):
    """As `text:FILE`; an encoder of images refuses them without a word on their colors."""
    pytest.importorskip("tokenizers")
    for name in ("one", "two"):
        lines = "\n\n".join(f"The {name} of {i} is a sentence." for i in range(80))
        (tmp_path / f"{name}.txt").write_text(lines)
    splits, _ = with_notices(open_data, tmp_path / "one.txt")
    assert isinstance(splits.modality, Text)
    named, _ = with_notices(open_data, f"text:{tmp_path / 'one.txt'}")
    assert np.array_equal(splits.train.x, named.train.x)
    both, notices = with_notices(open_data, str(tmp_path / "*.txt"))
    assert set(both.train.class_names("source")) == {"one", "two"}
    assert "matches 2 files" in notices
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match="holds texts, but images are needed"):
            open_data(tmp_path / "one.txt", like=Images(3, (8, 8)))
