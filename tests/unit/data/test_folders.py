"""Folders as people keep them: splits, links, other endings, names that mean two things."""

import importlib.util
import io
import json
import os
import shutil
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.data import Recordings, open_data
from unlabeled.data.open import read_data
from unlabeled.data.readers import audio, folders, video
from unlabeled.data.readers.images import read
from unlabeled.data.targets import MultiLabel, Numbers
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.evaluate import open_for
from unlabeled.evaluation.finetune import finetune
from unlabeled.training.prepare import prepare

QUICK = {"epochs": 1, "batch_size": 8, "progress": False, "logger": "none"}
COLORS = {"cat": 40, "dog": 200, "owl": 120}


def with_notices(call, *args, **kwargs):
    """What a call gives, and all its notices in one text."""
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        result = call(*args, **kwargs)
    return result, "\n".join(str(n.message) for n in notices if issubclass(n.category, Notice))


def png(value: int = 0, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, kind)
    return file.getvalue()


def fill(root: Path, tree: dict[str, int], content=None) -> Path:
    """`tree` says how many images lie in each folder; their gray tells the class."""
    for folder, number in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            value = max(COLORS.get(part, 0) for part in folder.split("/")) + i
            (root / folder / f"{i}.png").write_bytes(content or png(value))
    return root


# The cache


def test_a_folder_inside_another_has_its_own_names_and_labels(tmp_path):
    """Against a key of the files alone: both folders hold the same ones."""
    fill(tmp_path, {"images/cat": 2, "images/dog": 2})
    outer = read(tmp_path)
    inner = read(tmp_path / "images", labels_from="folders")
    assert outer.names[0] == "images/cat/0.png"
    assert inner.names[0] == "cat/0.png"
    assert inner.class_names("label") == ["cat", "dog"]
    assert read(tmp_path).names == outer.names


def test_tables_and_shards_inside_another_folder_have_their_own_names(tmp_path):
    """The same of files that hold many images; a renamed folder, too."""
    rows = [{"bytes": png(i), "path": None} for i in range(3)]
    (tmp_path / "a").mkdir()
    for name in ("x", "y"):
        pq.write_table(pa.table({"image": rows}), tmp_path / "a" / f"{name}.parquet")
        with tarfile.open(tmp_path / "a" / f"{name}.tar", "w") as tar:
            member = tarfile.TarInfo("0.png")
            member.size = len(png())
            tar.addfile(member, io.BytesIO(png()))
    for ending in ("parquet", "tar"):
        path = tmp_path / ending / "a"
        path.mkdir(parents=True)
        for name in ("x", "y"):
            (tmp_path / "a" / f"{name}.{ending}").rename(path / f"{name}.{ending}")
        assert read(path.parent).names[0].startswith(f"a/x.{ending}")
        assert read(path).names[0].startswith(f"x.{ending}")


def test_the_cache_knows_how_files_were_decoded(tmp_path, monkeypatch):
    """Against images that stay left out after Pillow was told to take larger ones."""
    Image.new("L", (64, 64)).save(tmp_path / "large.png")
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert with_notices(read, tmp_path)[0].names == ["small.png"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert with_notices(read, tmp_path)[0].names == ["large.png", "small.png"]


# Official splits

LAYOUTS = {
    "plain": ("train", "val", "test", "{part}/{kind}"),
    "capitals": ("Train", "VAL", "TEST", "{part}/{kind}"),
    "long": ("training", "validation", "testing", "{part}/{kind}"),
    "sets": ("training_set", "dev_set", "test-set", "{part}/{kind}"),
    "holdout": ("train", "valid", "holdout", "{part}/{kind}"),
    "around": ("train", "val", "test", "images/{part}/{kind}"),
    "deep": ("train", "val", "test", "ILSVRC/Data/{part}/{kind}"),
    "below": ("train", "val", "test", "{part}/images/{kind}"),
    "class first": ("train", "val", "test", "{kind}/{part}"),
    "deeper": ("train", "val", "test", "{part}/{kind}/old"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_splits_are_no_classes(layout, tmp_path):
    """Against classes called train and val, and a test part drawn across the official ones."""
    *parts, pattern = LAYOUTS[layout]
    for part, number in zip(parts, (6, 4, 3), strict=True):
        fill(tmp_path, {pattern.format(part=part, kind=kind): number for kind in ("cat", "dog")})
    data, words = with_notices(open_data, tmp_path, labels_from="folders")
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 8, 6)
    assert (data.target, data.classes) == ("label", ["cat", "dog"])
    for part in (data.train, data.validation, data.test):
        dark = part.x[:][:, 0, 0, 0] < 100
        assert (part.factors["label"] == np.where(dark, 0, 1)).all()
        assert len(set(part.names)) == len(part)
    numbers = f"12 to learn from ({parts[0]}), 6 to test on ({parts[2]}), 8 for validation"
    assert numbers in words
    assert words.count("official") == 1
    everything, words = with_notices(read_data, tmp_path)
    assert len(set(everything.names)) == len(everything) == 26
    assert not words


def test_without_a_test_folder_validation_is_tested_on_and_reported(tmp_path):
    """Against a fifth of everything as the test part, where validation is there."""
    fill(tmp_path, {"train/cat": 5, "train/dog": 5, "val/cat": 2, "val/dog": 2, "val/owl": 1})
    data, words = with_notices(open_data, tmp_path, labels_from="folders")
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 0, 5)
    assert "5 to test on (val, as none is for testing)" in words
    assert "1 of the 3 classes of label to test on" in words
    assert "owl" in words
    assert data.classes == ["cat", "dog", "owl"]


def test_unlabeled_splits_train_on_the_training_images_alone(tmp_path):
    """Against learning from test images because nobody asked for labels."""
    fill(tmp_path, {"train": 7, "test": 3})
    data, words = with_notices(open_data, tmp_path)
    assert (len(data.train), len(data.test), data.target) == (7, 3, None)
    assert "7 to learn from (train), 3 to test on (test)" in words


def test_a_test_folder_without_classes_is_not_tested_on(tmp_path):
    """The layout of contests: labels for training alone; a fifth of that is held out, and said."""
    fill(tmp_path, {"train/cat": 20, "train/dog": 20, "test": 5})
    data, words = with_notices(open_data, tmp_path, labels_from="folders")
    names = [*data.train.names, *data.test.names]
    assert len(data.test)
    assert len(names) == 40
    assert all(name.startswith("train/") for name in names)
    assert "5 of" in words or "40 of 45" in words


def test_other_folders_beside_splits_may_be_classes(tmp_path):
    """A vehicle called train is a class; what looks like splits and is none is said."""
    fill(tmp_path / "a", {"train": 3, "bus": 3})
    data, words = with_notices(open_data, tmp_path / "a", labels_from="folders")
    assert data.classes == ["bus", "train"]
    assert not words
    fill(tmp_path / "b", {"train": 3, "test": 3, "extra": 3})
    data, words = with_notices(open_data, tmp_path / "b", labels_from="folders")
    assert data.classes == ["extra", "test", "train"]
    assert "test, train in" in words
    assert "extra lies beside them" in words
    fill(tmp_path / "c", {"val": 3, "test": 3})
    assert "none is for training" in with_notices(open_data, tmp_path / "c")[1]


def test_shards_and_tables_named_for_splits(tmp_path):
    """Against a split drawn by name from official shards; labels are mapped once for all."""
    for part, number, kinds in (("train", 4, "ab"), ("val", 2, "ba"), ("test", 3, "bb")):
        rows = [{"bytes": png(i), "path": None} for i in range(number)]
        labels = [kinds[i % 2] for i in range(number)]
        (tmp_path / "hf" / "data").mkdir(parents=True, exist_ok=True)
        table = pa.table({"image": rows, "label": labels})
        pq.write_table(table, tmp_path / "hf" / "data" / f"{part}-00000-of-00001.parquet")
        (tmp_path / "wds").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "wds" / f"birds-{part}-0000.tar", "w") as tar:
            for i in range(number):
                for name, content in ((f"{i}.png", png(i)), (f"{i}.cls", labels[i].encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    for path, column in (("hf", "label"), ("wds", "cls")):
        data, words = with_notices(open_data, tmp_path / path, labels_from=column)
        assert (len(data.train), len(data.validation), len(data.test)) == (4, 2, 3)
        assert data.classes == ["a", "b"]
        assert data.train.factors[column].tolist() == [0, 1, 0, 1]
        assert data.test.factors[column].tolist() == [1, 1, 1]
        assert "4 to learn from" in words


def test_a_tar_of_split_folders_and_shards_are_no_classes(tmp_path):
    """Against the classes `train` and `00.tar`."""
    for shard, part in (("00", "train"), ("01", "test")):
        (tmp_path / "shards").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "shards" / f"{shard}.tar", "w") as tar:
            for kind in ("cat", "dog"):
                member = tarfile.TarInfo(f"./{part}/{kind}/0.png")
                member.size = len(png())
                tar.addfile(member, io.BytesIO(png()))
    samples = with_notices(read, tmp_path / "shards", labels_from="folders")[0]
    assert samples.class_names("label") == ["cat", "dog"]
    data = with_notices(open_data, tmp_path / "shards", labels_from="folders")[0]
    assert (len(data.train), len(data.test)) == (2, 2)


def test_audio_has_official_splits_too(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for part, number in (("train", 4), ("test", 2)):
        for kind in ("low", "high"):
            (tmp_path / part / kind).mkdir(parents=True)
            for i in range(number):
                path = tmp_path / part / kind / f"{i}.wav"
                soundfile.write(path, rng.normal(size=800) / 9, 8000)
    data, words = with_notices(open_data, tmp_path, labels_from="folders")
    assert (len(data.train), len(data.test), data.classes) == (8, 4, ["high", "low"])
    assert "8 to learn from (train), 4 to test on (test)" in words


def test_frames_have_official_splits_too(tmp_path):
    """Whole clips, by the folder that they lie in."""
    fill(tmp_path, {"train/c1": 4, "train/c2": 4, "test/c3": 4})
    data, _ = with_notices(video.load, str(tmp_path))
    assert (len(data.train), len(data.test), data.target) == (8, 4, "shot")
    assert all(name.startswith("test/c3") for name in data.test.names)


def test_a_table_without_labels_is_not_tested_on(tmp_path):
    """Against a crash on a test table that has only images."""
    for part, number in (("train", 40), ("test", 3)):
        rows = {"image": [png(i) for i in range(number)]}
        rows |= {"label": [i % 2 for i in range(number)]} if part == "train" else {}
        pq.write_table(pa.table(rows), tmp_path / f"{part}.parquet")
    data, words = with_notices(open_data, tmp_path, labels_from="label")
    assert len(data.test)
    assert all(name.startswith("train") for name in data.test.names)
    assert "have no label" in words or "have labels" in words


def test_pairs_have_official_splits_too(tmp_path):
    pytest.importorskip("tokenizers")
    fill(tmp_path, {"train": 6, "val": 3, "test": 2})
    for path in tmp_path.rglob("*.png"):
        path.with_suffix(".txt").write_text(f"image number {path.stem}")
    data, words = with_notices(open_data, f"pairs:{tmp_path}")
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 3, 2)
    assert "6 to learn from" in words
    assert len(with_notices(read_data, f"pairs:{tmp_path}")[0]) == 11
    with pytest.raises(UserError, match="holds pairs"):
        with_notices(open_data, f"pairs:{tmp_path}", test=tmp_path)


# Other data to test on


def make_pair(root: Path) -> tuple[Path, Path]:
    return (
        fill(root / "a", {"cat": 10, "dog": 10}),
        fill(root / "b", {"dog": 4, "cat": 3}),
    )


def test_other_data_is_tested_on_with_the_same_classes(tmp_path):
    """Against labels by the order of the test set's own classes, and a held-out fifth."""
    a, b = make_pair(tmp_path)
    fill(tmp_path / "b", {"ant": 2})
    data, words = with_notices(open_data, a, size=(8, 8), labels_from="folders", test=b)
    assert (len(data.train), len(data.test)) == (20, 9)
    assert data.classes == ["cat", "dog", "ant"]
    known = data.test.factors["label"]
    gray = data.test.x[:][:, 0, 0, 0]
    assert ((known == 1) == (gray >= 200)).all()
    assert "20 images of" in words
    assert "1 of the 3 classes of label" in words
    Image.new("RGB", (30, 20)).save(b / "cat" / "color.png")
    data = with_notices(open_data, a, labels_from="folders", test=b)[0]
    assert data.test.x.shape[1:] == data.train.x.shape[1:] == (1, 8, 8)


def test_other_data_in_arrays_tables_and_named_sets(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (30, 8, 8)).astype(np.uint8)
    y = np.array(["cat", "dog", "owl"])[np.arange(30) % 3]
    np.savez(tmp_path / "b.npz", x=x[:9], y=y[:9][::-1])
    data, _ = with_notices(open_data, (x, y), test=tmp_path / "b.npz")
    assert (len(data.train), len(data.test)) == (30, 9)
    assert [data.classes[i] for i in data.test.factors["label"]] == y[:9][::-1].tolist()
    data = with_notices(open_data, (x, y), test=(x[:6, :4, :4], y[:6]))[0]
    assert data.test.x.shape == (6, 1, 8, 8)
    with pytest.raises(UserError, match="has no labels 'label'"):
        with_notices(open_data, (x, y), test=x)
    with pytest.raises(UserError, match="holds recordings, but images are needed"):
        with_notices(open_data, x, test=Recordings(rng.normal(size=(3, 100)), 8000))
    with pytest.raises(UserError, match="hold values from 0 to 900"):
        with_notices(open_data, x, test=np.linspace(0, 900, 256, dtype=np.float32).reshape(4, 8, 8))
    assert with_notices(open_data, x, test=x[:3] / np.float32(255))[0].test.x.max() <= 1


def test_labels_to_test_on_are_of_the_kind_of_those_to_learn_from():
    """Against a kind of target that each part decides for itself: few ages look like classes."""
    x = np.random.default_rng(0).integers(0, 255, (60, 8, 8)).astype(np.uint8)
    ages = np.arange(20, 80)
    data, _ = with_notices(open_data, (x, ages), test=(x[:20], np.tile([20, 31], 10)))
    assert data.test.targets == {"label": Numbers()}
    np.testing.assert_array_equal(data.test.factors["label"], np.tile([20.0, 31.0], 10))
    data, _ = with_notices(open_data, (x, np.tile([10, 70], 30)), test=(x[:3], [70, 10, 70]))
    assert data.classes == data.test.class_names("label") == ["10", "70"]
    assert data.test.factors["label"].tolist() == [1, 0, 1]
    tags = np.tile(["cat|dog", "dog", "owl"], 20)
    data, _ = with_notices(open_data, (x, tags), test=(x[:3], np.array(["owl", "dog", ""])))
    assert data.test.targets == {"label": MultiLabel(("cat", "dog", "owl"))}
    assert data.test.factors["label"].tolist() == [[0, 0, 1], [0, 1, 0], [-1, -1, -1]]
    words = np.tile(["cat", "dog"], 30)
    for y, y_test, kind in ((words, tags, "several labels"), (ages, words, "words such as 'cat'")):
        with pytest.raises(UserError, match=f"label holds {kind}.* unlike in array"):
            with_notices(open_data, (x, y), test=(x, y_test))


def test_data_with_its_own_splits_sets_them_aside(tmp_path):
    """Its test images are not trained on because another test set is named."""
    a = fill(tmp_path / "a", {"train/cat": 3, "train/dog": 3, "test/cat": 2, "val/dog": 2})
    b = fill(tmp_path / "b", {"train/cat": 9, "test/dog": 4, "test/cat": 1})
    data, words = with_notices(open_data, a, labels_from="folders", test=b)
    assert (len(data.train), len(data.test), len(data.validation)) == (6, 5, 0)
    assert all(name.startswith("train/") for name in data.train.names)
    assert "the 2 for testing, the 2 for validation are set aside" in words


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """Training data, test data, and the folder of a run that a command trained on both."""
    root = tmp_path_factory.mktemp("tested")
    a, b = make_pair(root)
    words = f"train simclr --data {a} --test {b} --labels-from folders --out {root / 'run'}"
    quick = "--epochs 1 --batch-size 8 --logger none"
    with warnings.catch_warnings():
        assert main([*words.split(), *quick.split()]) == 0
    return a, b, root / "run"


def test_a_run_remembers_its_test_data(tested, tmp_path, monkeypatch):
    """Against a later evaluation on a fifth of what was trained on, and a resume that forgets."""
    a, b, folder = tested
    config = json.loads((folder / "config.json").read_text())
    assert (config["test"], config["images"]) == (str(b), 20)
    monkeypatch.chdir(tmp_path)
    run = ul.load(folder)
    again, words = with_notices(open_for, run, None)
    assert (len(again.train), len(again.test)) == (20, 7)
    assert "has seen the test" not in words
    assert len(with_notices(open_for, run, a, "folders")[0].test) < 7
    assert len(with_notices(open_for, run, a, "folders", b)[0].test) == 7
    options = {"labels_from": "folders", "resume": True, "out": folder} | QUICK
    assert len(with_notices(ul.train, "simclr", a, **options)[0].data.test) == 7
    with pytest.raises(UserError, match="was made with test = "):
        with_notices(ul.train, "simclr", a, test=a, **options)


def test_the_commands_take_test_data(tested, capsys):
    """Against a flag that only Python knows; `evaluate` finds what the run was trained with."""
    with warnings.catch_warnings():
        assert main(["evaluate", str(tested[2]), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["n_train"], result["n_test"]) == (20, 7)
    assert result["test_data"] == str(tested[1])
    for command in ("train simclr_v2", "finetune", "compare", "evaluate"):
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        assert "--test DATA" in capsys.readouterr().out


def test_a_fine_tuned_run_remembers_its_test_data_too(tested, tmp_path):
    """It learns from splits that were opened before."""
    a, b, folder = tested
    further = {"labels_from": "folders", "epochs": 1, "scratch": False, "progress": False}
    (tuned, figures), _ = with_notices(
        finetune, ul.load(folder), a, test=b, out=tmp_path / "t", **further
    )
    assert figures["n_test"] == 7
    assert tuned.config["test"] == str(b)
    assert len(with_notices(open_for, ul.load(tuned.path), None)[0].test) == 7


def test_test_data_that_cannot_be_opened_again_is_reported(tested, tmp_path):
    """Against a split that nobody asked for, and a stranger's program that is run."""
    shutil.copytree(tested[2], tmp_path / "run")
    run = ul.load(tmp_path / "run")
    for test, message in (
        ("in memory", "array in memory"),
        ("./load.py", "loaded by a file"),
        ("/somewhere/load.py:f", "loaded by a file"),
    ):
        run.config["test"] = test
        with pytest.raises(UserError, match=message):
            open_for(run, None)
    config = json.loads((tmp_path / "run" / "config.json").read_text()) | {"test": 3}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="test is not a string"):
        ul.load(tmp_path / "run")
    x = np.zeros((3, 1, 8, 8), np.uint8)
    assert with_notices(prepare, "simclr", x, test=x)[0].config["test"] == "in memory"


# Links


def test_linked_folders_are_followed(tmp_path):
    """Against classes that are links and seem empty."""
    real = fill(tmp_path / "real", {"cat": 2, "dog": 3})
    (tmp_path / "data").mkdir()
    for kind in ("cat", "dog"):
        (tmp_path / "data" / kind).symlink_to(real / kind, target_is_directory=True)
    samples, words = with_notices(read, tmp_path / "data", labels_from="folders")
    assert samples.class_names("label") == ["cat", "dog"]
    assert len(samples) == 5
    assert not words
    (tmp_path / "whole").symlink_to(tmp_path / "data", target_is_directory=True)
    assert len(with_notices(read, tmp_path / "whole")[0]) == 5


def test_links_that_lead_back_end_and_are_reported(tmp_path):
    """Against walks without an end, to oneself, to the folder around, and to each other."""
    data = fill(tmp_path / "data", {"cat": 2, "dog": 2})
    links = {"cat/self": "cat", "dog/up": ".", "out": "..", "cat/dog": "dog", "dog/cat": "cat"}
    for link, target in links.items():
        (data / link).symlink_to(data / target, target_is_directory=True)
    samples, words = with_notices(read, data)
    assert len(set(samples.names)) == len(samples) == 8  # each class and its link in the other
    assert "are circular links" in words
    assert "cat/self" in words
    assert "2 of the folders" in words
    assert "cat/dog, dog/cat" in words


def test_broken_links_and_pipes_are_counted(tmp_path):
    fill(tmp_path, {"cat": 2})
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    samples, words = with_notices(read, tmp_path)
    assert len(samples) == 2
    assert "2 broken links, 2 special files" in words
    assert "1 of 3 images are left out" in words


def test_linked_folders_of_audio_and_videos(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "real").mkdir()
    soundfile.write(tmp_path / "real" / "a.wav", np.zeros(100) + 0.1, 8000)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "low").symlink_to(tmp_path / "real", target_is_directory=True)
    assert audio.is_folder_of_audio(tmp_path / "data", folders.walk(tmp_path / "data"))
    assert with_notices(open_data, tmp_path / "data")[0].train.names == ["low/a.wav"]
    (tmp_path / "real" / "a.wav").rename(tmp_path / "real" / "a.MP4")
    with pytest.raises(UserError, match=r"a\.MP4 (is|has)"):  # it is found, at least
        video.read(tmp_path / "data")


# Endings


def test_images_of_other_endings_or_none_are_read(tmp_path):
    for name in ("a.jfif", "b.JPE", "c.Jif", "scan001", "photo.jpg?size=3", "x.001", "y.JPG_large"):
        (tmp_path / name).write_bytes(png(3, "JPEG"))
    (tmp_path / "wrong.jpg").write_bytes(png())
    (tmp_path / "readme").write_text("BMessage")
    for name in (".hidden.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).write_bytes(png())
    samples, words = with_notices(read, tmp_path)
    assert samples.names == [
        "a.jfif", "b.JPE", "c.Jif", "photo.jpg?size=3", "scan001", "wrong.jpg", "x.001",
        "y.JPG_large",
    ]  # fmt: skip
    assert words.endswith("8 images are read; left out: 1 without a known ending")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_every_format_is_known_without_an_ending(kind, tmp_path):
    (tmp_path / "image").write_bytes(png(9, kind))
    assert len(read(tmp_path)) == 1


def test_what_is_left_out_is_counted_by_ending(tmp_path):
    """Against files that nobody hears of: in folders, shards, and where nothing can be read."""
    fill(tmp_path / "a", {"cat": 2})
    names = ("1.svg", "2.SVG", "x.txt", "cat/m.mp4", "raw.NEF", "all.tar.gz", "b.7z", "labels.csv")
    for name in names:
        (tmp_path / "a" / name).write_bytes(b"II*\0")
    (tmp_path / "a" / "labels.csv").write_text("file,kind\n0.png,x\n1.png,y\n")
    labels = tmp_path / "a" / "labels.csv"
    _, words = with_notices(read, tmp_path / "a", labels_from=labels)
    assert "2 images are read; left out: 2 .svg, " in words
    others = (".txt", ".mp4", ".nef", ".tar.gz (unpack)", ".7z (unpack)")
    assert all(f"1 {e}" in words for e in others)
    assert ".csv" not in words
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "a" / "cat" / "0.png", "0.png")
        tar.add(tmp_path / "a" / "x.txt", "0.txt")
        tar.add(tmp_path / "a" / "x.txt", "0.json")
    assert "1 image is read; left out: 1 .json, 1 .txt" in with_notices(read, tmp_path / "b.tar")[1]
    shutil.rmtree(tmp_path / "a" / "cat")
    (tmp_path / "a" / "all.tar.gz").unlink()
    with pytest.warns(Notice, match="nothing is read; left out: 2 .svg"), pytest.raises(UserError):
        read(tmp_path / "a")


def test_a_tar_with_a_hard_link_has_both_images(tmp_path):
    """GNU tar stores the second name of a file as a link."""
    (tmp_path / "0.png").write_bytes(png(7))
    os.link(tmp_path / "0.png", tmp_path / "1.png")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "0.png", "0.png")
        tar.add(tmp_path / "1.png", "1.png")
        assert tar.getmembers()[1].islnk()
    samples = read(tmp_path / "a.tar")
    assert samples.names == ["0.png", "1.png"]
    assert (samples.x[:] == 7).all()


def test_shards_and_tables_in_capitals(tmp_path):
    pq.write_table(pa.table({"image": [png(1), png(2)]}), tmp_path / "A.PARQUET")
    assert len(read(tmp_path)) == len(open_data(tmp_path / "A.PARQUET").train) == 2


def test_heic_is_read_or_named_with_what_reads_it(tmp_path):
    """Against photos of telephones that vanish, under their own ending or another."""
    fill(tmp_path, {"cat": 2})
    if importlib.util.find_spec("pillow_heif"):
        Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "a.HEIC", format="HEIF")
        (tmp_path / "b").write_bytes((tmp_path / "a.HEIC").read_bytes())
        assert with_notices(read, tmp_path)[0].names == ["a.HEIC", "b", "cat/0.png", "cat/1.png"]
        return
    heic = bytes([0, 0, 0, 24]) + b"ftypheic" + bytes(40)
    (tmp_path / "a.HEIC").write_bytes(heic)
    (tmp_path / "b.jpg").write_bytes(heic)
    _, words = with_notices(read, tmp_path)
    assert "left out: 1 .heic (pip install 'unlabeled[heic]')" in words
    assert "1 of 3 images are left out (1 HEIC, which pip install 'unlabeled[heic]'" in words


def test_audio_in_capitals_without_an_ending_and_beside_images(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for name, kind in (("a.WAV", "WAV"), ("b", "FLAC"), ("c.Aiff", "AIFF"), ("d", "WAV")):
        soundfile.write(tmp_path / name, np.zeros(100) + 0.1, 8000, format=kind)
    (tmp_path / "e.m4a").write_bytes(b"ftyp")
    (tmp_path / "cover.jpg").write_bytes(png())
    data, words = with_notices(open_data, tmp_path)
    assert data.train.names == ["a.WAV", "b", "c.Aiff", "d"]
    assert "4 audio files are read; left out: " in words
    assert "1 .jpg" in words
    assert "1 .m4a (convert" in words
    fill(tmp_path, {"images": 9})
    data, words = with_notices(open_data, tmp_path)
    assert len(data.train) == 10
    assert "10 images are read; left out: 2 without a known ending, 1 .wav" in words.replace(
        "1 .aiff, ", ""
    ).replace("1 .m4a (convert to .flac or .wav), ", "")


# Names that mean two things


def test_a_folder_called_as_a_data_set_is_reported(tmp_path, monkeypatch):
    """Against the folder that is silently not opened, in Python and on record."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, {"pairs": 9})
    (tmp_path / "simclr.py").write_text("")
    with pytest.warns(Notice) as notices, pytest.raises(UserError, match="pairs:FOLDER"):
        open_data("pairs")
    assert [str(notice.message) for notice in notices] == [
        "pairs means the data set, not the folder pairs; write ./pairs for that one"
    ]
    for own in ("./pairs", "pairs/", Path("pairs"), tmp_path / "pairs"):
        data, words = with_notices(open_data, own)
        assert len(data.train) == 9
        assert not words
        assert data.name.partition(":")[0] != "pairs"  # whose recipe would be taken
    job, words = with_notices(prepare, "simclr", Path("pairs"))
    assert job.config["data"] == str(tmp_path / "pairs")
    assert "simclr means the method, not the file simclr.py; write ./simclr.py for" in words
    assert "means the data set" not in words


def test_a_place_of_a_data_set_is_no_second_meaning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, {"video/c1": 3, "video/c2": 3, "clips/c1": 3, "clips/c2": 3})
    assert "means the data set" not in with_notices(open_data, "video:video")[1]
    assert "means the data set" not in with_notices(open_data, "video:video/c1")[1]
    assert "video means the data set" in with_notices(open_data, "video:clips")[1]
    pytest.importorskip("tokenizers")
    (tmp_path / "text").mkdir()
    (tmp_path / "a.txt").write_text("One word.\n\nAnd another.\n\n" * 20)
    assert "text means the data set" in with_notices(open_data, "text:a.txt")[1]
