"""Studies: every experiment of the lectures in miniature, and what any study promises."""

import json
import types

import numpy as np
import pytest

import unlabeled as ul
from unlabeled import registry
from unlabeled.cli.main import main
from unlabeled.data.bias import Rule, biased, control
from unlabeled.data.sets import dsprites
from unlabeled.errors import UserError
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.studies.run import run_study


@pytest.fixture(scope="module")
def small():
    return dsprites.load(images=1250)


@pytest.mark.slow
def test_the_lectures_in_miniature(tmp_path, monkeypatch):
    """One epoch each on 1,000 images: every experiment finds something and is on the page."""
    lectures = registry.find("studies", "lectures")
    monkeypatch.setattr(lectures, "DATA", dsprites.load(images=2500))  # a quick study takes half
    run = Lab.run

    def one_epoch(self, *words, **options):
        return run(self, *words, **options | {"quick_epochs": 1, "progress": False})

    monkeypatch.setattr(Lab, "run", one_epoch)
    out = tmp_path
    result = run_study(lectures, out, quick=True)
    keys = [f"L{i}" for i in range(1, 11)]
    assert list(result["experiments"]) == keys
    assert set(result["claims"]) == {str(n) for n in lectures.CLAIMS}
    page = (out / "quick" / "report" / "index.html").read_text()
    for key in keys:
        assert f'id="{key}"' in page
    assert page.count("<img") + page.count("<svg") > 20
    assert "nan" not in json.dumps(result["experiments"]).lower()

    def forbidden(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("unlabeled.studies.lab.train", forbidden)
    again = run_study(lectures, out, quick=True, only=["L6", "L8"])
    assert again["experiments"] == result["experiments"]


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
    first = run_study(study, tmp_path, quick=True)
    resumed = run_study(study, tmp_path, quick=True, resume=True)
    assert calls == ["one", "two"]
    assert without_times(resumed) == without_times(first)
    run_study(study, tmp_path, quick=True, only=["B"])
    assert calls == ["one", "two", "two"]
    page = (tmp_path / "quick" / "report" / "index.html").read_text()
    assert "&lt;b&gt;" in page
    assert "held here" not in page  # a quick look cannot say
    run_study(study, tmp_path, only=["B"])
    assert "held here" in (tmp_path / "report" / "index.html").read_text()
    with pytest.raises(UserError, match="no experiment 'C'"):
        run_study(study, tmp_path, only=["C"])
    with pytest.raises(UserError, match="made with batch_size = 64, not 32"):
        run_study(a_study(sprites, calls, batch_size=32), tmp_path, quick=True)


def test_a_killed_study_ends_in_the_same_results(sprites, tmp_path, monkeypatch):
    whole = run_study(a_study(sprites, []), tmp_path / "whole", quick=True)

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
            run_study(a_study(sprites, []), tmp_path / "parts", quick=True)
    parts = run_study(a_study(sprites, []), tmp_path / "parts", quick=True, resume=True)
    assert without_times(parts) == without_times(whole)


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
