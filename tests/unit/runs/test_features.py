"""Files of features."""

import csv
import errno
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch.multiprocessing as mp

from unlabeled.data.targets import Classes
from unlabeled.errors import Notice, UserError
from unlabeled.runs.features import write_features
from unlabeled.runs.predict import write_table


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_has_names_labels_and_the_same_features(trained, sprites, tmp_path, monkeypatch):
    """Catches rounded features, shifted rows, a code for no label, and a label lost to `name`."""
    samples = trained.read(sprites[0][:4])
    samples.names = ['a,"b".png', "ü.png", "c.png", "d.png"]
    samples.factors = {"name": np.array([1, 0, -1, 1]), "age": np.array([1.5, np.nan, 2.0, 3.0])}
    samples.targets = {"name": Classes(("cat", "dog"))}
    monkeypatch.setattr(type(trained), "read", lambda run, data: samples)
    assert write_features(trained, "data", tmp_path / "f.csv") == (4, trained.dim)
    head, *lines = rows(tmp_path / "f.csv")
    assert head == ["name", "name (label)", "age", *(f"f{i}" for i in range(trained.dim))]
    assert [line[0] for line in lines] == samples.names
    assert [line[1] for line in lines] == ["dog", "cat", "", "dog"]
    assert [line[2] for line in lines] == ["1.5", "", "2", "3"]
    written = np.array([line[3:] for line in lines], np.float32)
    assert np.array_equal(written, trained.features(samples))


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_labels_may_be_called_like_what_is_beside_them(
    ending, trained, sprites, tmp_path, monkeypatch
):
    """Catches a label lost to `names`, features replaced by one, and a TypeError of NumPy's."""
    samples = trained.read(sprites[0][:3])
    samples.names = ["a.png", "b.png", "c.png"]
    samples.factors = {name: np.arange(3) for name in ("names", "features", "file")}
    monkeypatch.setattr(type(trained), "read", lambda run, data: samples)
    write_features(trained, "data", tmp_path / f"f.{ending}")
    if ending == "npz":
        with np.load(tmp_path / "f.npz") as file:
            content = {name: file[name] for name in file.files}
    else:
        table = pq.read_table(tmp_path / "f.parquet")
        content = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    assert content["features"].shape == (3, trained.dim)
    assert content["names"].tolist() == samples.names
    for name in ("names (label)", "features (label)", "file (label)"):
        assert content[name].tolist() == [0, 1, 2]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_names_of_files_need_not_be_utf_8(ending, trained, sprites, tmp_path, monkeypatch):
    """Catches pyarrow's UnicodeDecodeError, which comes after all features were computed."""
    samples = trained.read(sprites[0][:2])
    samples.names = ["ü.png", os.fsdecode(b"\xfc.png")]
    monkeypatch.setattr(type(trained), "read", lambda run, data: samples)
    with pytest.warns(Notice, match=r"not UTF-8, such as \?\.png \(1 of 2\)"):
        write_features(trained, "data", tmp_path / f"f.{ending}")
    with pytest.warns(Notice, match="not UTF-8"):
        write_table(tmp_path / "classes.parquet", {"name": samples.names, "class": ["a", "b"]})
    assert pq.read_table(tmp_path / "classes.parquet")["name"].to_pylist() == ["ü.png", "?.png"]
    if ending == "csv":
        assert [line[0] for line in rows(tmp_path / "f.csv")] == ["name", "ü.png", "?.png"]


def test_nothing_is_left_of_a_file_that_cannot_be_written(trained, sprites, tmp_path, monkeypatch):
    """Catches a hidden file as large as the features, left on a full disk."""

    def full(file, array):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_features(trained, sprites[0][:3], tmp_path / "f.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            mp.ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 7, -9),
            r"^a process was ended from outside \(process 1 .*SIGKILL\), as when memory runs out",
        ),
        (
            mp.ProcessRaisedException("…\nunlabeled.errors.UserError: no disk; mount it\n", 1, 7),
            "^no disk; mount it$",
        ),
    ],
)
def test_the_end_of_a_process_is_one_sentence(error, says, trained, sprites, tmp_path, monkeypatch):
    """Catches torch's exception for what the system kills, and the name of a class before ours."""

    def spawn(*_, **__):
        raise error

    monkeypatch.setattr(mp, "spawn", spawn)  # two processes take half a minute
    with pytest.raises(UserError, match=says):
        write_features(trained, sprites[0][:4], tmp_path / "f.npy", devices=2)
    assert not list(tmp_path.iterdir())


def test_csv_without_names(trained, sprites, tmp_path):
    write_features(trained, sprites[0][:3], tmp_path / "f.csv")
    assert rows(tmp_path / "f.csv")[0] == [f"f{i}" for i in range(trained.dim)]
