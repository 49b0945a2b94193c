"""The study `lectures` in miniature, and how every study keeps and resumes its findings."""

import json
import types
from dataclasses import replace

import numpy as np
import pytest

import unlabeled as ul
from unlabeled import registry
from unlabeled.cli.main import main
from unlabeled.data.bias import Rule, biased, control
from unlabeled.data.sets import dsprites
from unlabeled.errors import UserError
from unlabeled.studies.lab import QUICK, Experiment, Finding, Scale, Table
from unlabeled.studies.run import run_study


@pytest.fixture(scope="module")
def small():
    return dsprites.load(images=1250)


@pytest.mark.slow
def test_the_lectures_in_miniature(tmp_path):
    """One epoch each on few small images: every experiment has a finding that is on the page."""
    lectures = registry.find("studies", "lectures")
    data = dsprites.load(images=400)
    train, test = (
        replace(part, x=part.x[:, :, ::2, ::2], modality=None) for part in (data.train, data.test)
    )
    data = replace(data, train=train, test=test)
    settings = lectures.Settings(labels=(6, 9, 12), end_to_end=(12,), supervised_epochs=1)
    quick_epochs = {"epochs": 1, "batch_size": 64, "progress": False, "logger": "none"}
    scale = Scale(quick=True, settings=settings, train_args=quick_epochs)
    result = run_study(lectures, tmp_path, scale=scale, data=data)
    keys = [f"L{i}" for i in range(1, 11)]
    assert list(result["experiments"]) == keys
    assert set(result["claims"]) == {str(n) for n in lectures.CLAIMS}
    page = (tmp_path / "quick" / "report" / "index.html").read_text()
    for key in keys:
        assert f'id="{key}"' in page
    assert page.count("<img") + page.count("<svg") > 20
    assert "nan" not in json.dumps(result["experiments"]).lower()

    weights = list((tmp_path / "quick" / "runs").rglob("encoder.safetensors"))
    assert len(weights) == 18
    times = [path.stat().st_mtime_ns for path in weights]
    again = run_study(lectures, tmp_path, scale=scale, data=data, only=["L6", "L8"])
    assert again["experiments"] == result["experiments"]
    assert [path.stat().st_mtime_ns for path in weights] == times  # nothing is trained again


def a_study(data, calls, batch_size=64):
    def one(lab):
        calls.append("one")
        run = lab.run("a", "simclr", quick_epochs=2, batch_size=batch_size, progress=False)
        z, _ = lab.features("a", run.encoder)
        return Finding(
            {"std": float(z.std())},
            "Trained.",
            "It varies.",
            [Table("t", ["", "x"], [["a", "<b>"]])],
        )

    def two(lab):
        calls.append("two")
        return Finding(
            {"n": len(lab.data.train)}, "Counted.", "Many.", claims={1: (True, "so many")}
        )

    study = types.ModuleType("study")
    study.TITLE, study.LEAD, study.DATA, study.CLAIMS = "A study", "Why?", data, {1: "Many help."}
    study.EXPERIMENTS = [
        Experiment("A", "First", "Does it vary?", one),
        Experiment("B", "Second", "How many?", two),
    ]
    return study


def without_times(result):
    return {k: v for k, v in result.items() if k not in ("seconds_in_all", "minutes")}


def test_a_study_keeps_what_it_found(sprites, tmp_path):
    calls: list = []
    study = a_study(sprites, calls)
    first = run_study(study, tmp_path, scale=QUICK)
    resumed = run_study(study, tmp_path, scale=QUICK, resume=True)
    assert calls == ["one", "two"]
    assert without_times(resumed) == without_times(first)
    run_study(study, tmp_path, scale=QUICK, only=["B"])
    assert calls == ["one", "two", "two"]
    page = (tmp_path / "quick" / "report" / "index.html").read_text()
    assert "&lt;b&gt;" in page
    assert "held here" not in page  # a quick look cannot say
    run_study(study, tmp_path, only=["B"])
    assert "held here" in (tmp_path / "report" / "index.html").read_text()
    with pytest.raises(UserError, match="no experiment 'C'"):
        run_study(study, tmp_path, only=["C"])
    with pytest.raises(UserError, match="made with batch_size = 64, not 32"):
        run_study(a_study(sprites, calls, batch_size=32), tmp_path, scale=QUICK)


def test_a_killed_study_ends_in_the_same_results(sprites, tmp_path, monkeypatch):
    full = run_study(a_study(sprites, []), tmp_path / "whole", scale=QUICK)

    from unlabeled.methods.simclr import SimCLR

    loss, count = SimCLR.loss, []

    def dying(self, views):
        count.append(1)
        if len(count) == 4:
            raise RuntimeError("killed")
        return loss(self, views)

    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, "loss", dying)
        with pytest.raises(RuntimeError, match="killed"):
            run_study(a_study(sprites, []), tmp_path / "parts", scale=QUICK)
    parts = run_study(a_study(sprites, []), tmp_path / "parts", scale=QUICK, resume=True)
    assert without_times(parts) == without_times(full)


def test_the_command_lists_and_refuses(capsys):
    assert main(["list", "studies"]) == 0
    assert "lectures" in capsys.readouterr().out
    assert main(["study", "nope"]) == 2
    assert "no study 'nope'" in capsys.readouterr().err
    assert main(["study", "lectures", "--only", "L99"]) == 2


def test_rules_tie_one_factor_to_another(small):
    rule = Rule("shape", "x", {2: (0, 9), 1: (11, 20), 0: (22, 31)})
    part, even = biased(small, rule), control(small, rule)
    assert len(part.train) == len(even.train) > 150
    shape, x = part.train.factors["shape"], part.train.factors["x"]
    for code, (low, high) in rule.ranges.items():
        assert x[shape == code].min() >= low
        assert x[shape == code].max() <= high
    assert not rule.allows(even.train).all()
    assert len(part.test) == len(small.test)
    with pytest.raises(UserError, match="no factor 'color'"):
        biased(small, Rule("color", "x", {}))


def test_heads_come_back_from_the_checkpoint(sprites, tmp_path):
    from unlabeled.training.train import reopen

    run = ul.train(
        "simclr", sprites, out=tmp_path / "a", epochs=1, batch_size=64, dim=16, progress=False
    )
    method = reopen(ul.load(run.path))
    trained = run.method.cpu().state_dict()
    assert all(np.array_equal(v, trained[k]) for k, v in method.state_dict().items())
    for name in ("last.ckpt", "previous.ckpt"):
        (run.path / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="no checkpoint"):
        reopen(run)
