"""Evaluations on other data stay, and the report page says how the run was made."""

import html
import json

import numpy as np
import pytest

from unlabeled.cli.main import main
from unlabeled.evaluation.metrics import in_order

pytestmark = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
WORDS = ("--epochs", "1", "--batch-size", "16", "--logger", "none")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run on a.npz, with other data beside it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, number in (("a.npz", 80), ("b.npz", 50)):
        x = rng.integers(0, 255, (number, 16, 16)).astype(np.uint8)
        np.savez(tmp_path / name, x=x, y=np.arange(number) % 4)
    assert run("train", "simclr", "--data", "a.npz", *WORDS, "--trainer.max_steps", 3) == 0
    return tmp_path / "runs" / "simclr"


def page(folder):
    return html.unescape((folder / "report" / "index.html").read_text())


def test_earlier_evaluations_stay_beside_the_latest(folder, capsys):
    assert run("evaluate", folder) == 0
    first = json.loads((folder / "evaluation.json").read_text())
    assert "Other data" not in page(folder)
    assert run("evaluate", folder, "--data", "b.npz") == 0
    latest = json.loads((folder / "evaluation.json").read_text())
    assert (latest["data"], latest["n_test"]) == ("b.npz", 10)
    remaining = [json.loads(path.read_text()) for path in (folder / "evaluations").glob("*.json")]
    assert {k["data"] for k in remaining} == {first["data"], "b.npz"}
    section = page(folder).partition("Other data")[2].partition("</section>")[0]
    assert first["data"] in section
    assert "b.npz" not in section
    metrics = {key: value for key, value in first["metrics"].items() if value["value"] is not None}
    from unlabeled.evaluation.evaluate import values_of

    values = values_of(metrics)
    assert len(values) > 3
    for key, metric in in_order([values]).items():
        assert f"<td>{metric.format(values[key])}</td>" in section
    assert run("evaluate", folder, "--data", "b.npz") == 0  # takes its own place
    assert len(list((folder / "evaluations").glob("*.json"))) == 2


def test_an_absolute_path_is_that_of_the_same_data(folder):
    """Catches: the same data twice, once by its relative path and once by its full one."""
    from unlabeled.evaluation.saved import keep, on_other_data
    from unlabeled.runs.run import load

    own, result = load(folder), {"metrics": {}, "target": "label", "n_test": 3}
    paths = ("b.npz", "./b.npz", str(folder.parents[1] / "b.npz"), "a.npz")
    for data in paths:
        keep(own, result | {"data": data, "test_data": data})
    assert len(list((folder / "evaluations").glob("*.json"))) == 2
    assert not on_other_data(own, result | {"data": "b.npz", "test_data": "b.npz"}).keys() - {
        "a.npz"
    }
    keep(own, result | {"data": "a.npz", "test_data": "b.npz"})
    assert len(list((folder / "evaluations").glob("*.json"))) == 3


def test_evaluations_of_other_weights_are_not_shown(folder, capsys):
    assert run("evaluate", folder, "--data", "b.npz") == 0
    (folder / "evaluations" / "broken.json").write_text("{")
    words = ("train", "simclr", "--data", "a.npz", *WORDS, "--epochs", 3, "--resume")
    assert run(*words) == 0
    capsys.readouterr()
    assert run("evaluate", folder) == 0
    assert "Other data" not in page(folder)
    output = capsys.readouterr().err
    assert "1 in" in output
    assert "is of other weights and not shown" in output
    assert "is damaged and not shown" in output


def test_the_page_says_how_a_run_was_made(folder):
    assert run("evaluate", folder) == 0
    text = page(folder)
    assert "Made by <code>unlabeled train simclr --data a.npz --epochs 1" in text
    assert "The training ended at max_steps of the trainer, before the last epoch" in text
    assert "Settings of Lightning's Trainer: max_steps = 3." in text
    config = json.loads((folder / "config.json").read_text())
    strange = {"command": "<script>", "git": [1], "settings": 3, "resumed": 1, "stopped_by": "<b>"}
    (folder / "config.json").write_text(json.dumps(config | strange))
    assert run("evaluate", folder) == 0
    raw = (folder / "report" / "index.html").read_text()
    assert "<script>" not in raw
    assert "The training was stopped by &lt;b&gt;." in raw
