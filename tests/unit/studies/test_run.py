"""The progress of a study."""

import json
from types import SimpleNamespace

import numpy as np

from unlabeled.data.dataset import Samples
from unlabeled.data.split import split
from unlabeled.studies.lab import Experiment, Finding
from unlabeled.studies.run import run_study


def test_only_experiments_that_run_are_counted(tmp_path, capsys):
    """Catches complete findings that count as steps, or as time that is left, and lost seconds."""
    ran = []

    def experiment(key: str) -> Experiment:
        def run(lab) -> Finding:
            ran.append(key)
            return Finding({"n": 1}, "Setup.", "Answer.")

        return Experiment(key, f"Title {key}", "Why?", run)

    study = SimpleNamespace(
        __name__="tiny", TITLE="Tiny", LEAD="It is tiny.", CLAIMS={}, DATA="data", EXPERIMENTS=[]
    )
    study.EXPERIMENTS = [experiment(key) for key in "ABCD"]
    data = split(Samples(np.zeros((20, 1, 8, 8), np.uint8)), "data")
    run_study(study, tmp_path, data=data, only=["A", "C"])
    assert ran == ["A", "C"]
    assert "[1/2] A" in (lines := capsys.readouterr().err)
    assert "[2/2] C" in lines
    written = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(written | {"seconds_in_all": 500}))
    result = run_study(study, tmp_path, data=data, resume=True)
    assert result["seconds_in_all"] >= 500  # those until it was stopped, too
    assert ran == ["A", "C", "B", "D"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "kept from before: 2 complete experiments of 4"
    assert [line.split(" · ")[0] for line in lines[1:]] == ["[1/2] B Title B", "[2/2] D Title D"]
