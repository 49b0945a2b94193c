"""Files of features."""

import csv

import numpy as np

from unlabeled.data.targets import Classes
from unlabeled.runs.features import write_features


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


def test_csv_without_names(trained, sprites, tmp_path):
    write_features(trained, sprites[0][:3], tmp_path / "f.csv")
    assert rows(tmp_path / "f.csv")[0] == [f"f{i}" for i in range(trained.dim)]
