"""Notebooks run from top to bottom, as given and with their exercises solved."""

import runpy
import warnings
from pathlib import Path

import pytest
import torch

from unlabeled.errors import Notice

pytestmark = pytest.mark.slow
BENCH = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "notebooks.py"))


@pytest.mark.parametrize("name", BENCH["names"]())
def test_a_notebook_runs_and_its_exercise_is_checked(name, tmp_path, monkeypatch, capsys):
    """Catches an exercise that is given away, one that cannot be solved, and cells that fail."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    scope: dict = {}
    kinds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        for tags, code in BENCH["cells"](name):
            capsys.readouterr()
            exec(compile(code, f"{name}.md", "exec"), scope)  # the document is ours
            if "check" in tags:
                assert capsys.readouterr().out.startswith("fill in")
            elif "solution" in tags:
                assert capsys.readouterr().out == "right\n"
            kinds += tags & {"exercise", "check", "solution"}
    assert kinds == ["exercise", "check", "solution"]
