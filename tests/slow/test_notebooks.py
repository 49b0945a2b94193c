"""Notebooks run from top to bottom, as given and with their exercises solved."""

import re
import warnings
from pathlib import Path

import pytest
import torch

from unlabeled.errors import Notice

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parents[2] / "docs" / "lectures"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TAGS = re.compile(r":tags: \[(.*)\]\n")
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.md"))


def cells(name: str) -> list[tuple[set[str], str]]:
    """Tags and code of each cell."""
    found = []
    for body in CELL.findall((FOLDER / f"{name}.md").read_text(encoding="utf-8")):
        tags = TAGS.match(body)
        found.append((set(tags[1].split(", ")) if tags else set(), TAGS.sub("", body, count=1)))
    return found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_its_exercise_is_checked(name, tmp_path, monkeypatch, capsys):
    """Catches an exercise that is given away, one that cannot be solved, and cells that fail."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    scope: dict = {}
    kinds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        for tags, code in cells(name):
            capsys.readouterr()
            exec(compile(code, f"{name}.md", "exec"), scope)  # the document is ours
            if "check" in tags:
                assert capsys.readouterr().out.startswith("fill in")
            elif "solution" in tags:
                assert capsys.readouterr().out == "right\n"
            kinds += tags & {"exercise", "check", "solution"}
    assert kinds == ["exercise", "check", "solution"]
