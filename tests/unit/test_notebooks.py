"""The notebooks of the lectures as `.ipynb`, and their page."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LECTURES = ROOT / "docs" / "lectures"
NAMES = runpy.run_path(str(ROOT / "bench" / "notebooks.py"))["names"]()


def test_every_notebook_is_published_as_its_text_has_it():
    """Catches a text that was changed, added or removed without `make notebooks`."""
    pytest.importorskip("jupytext", reason="jupytext is not installed: unlabeled[notebooks]")
    made = runpy.run_path(str(ROOT / "bench" / "ipynb.py"))["notebooks"]()
    assert {path.stem for path in made} == set(NAMES)
    assert set(LECTURES.glob("ipynb/*")) == set(made), "run make notebooks"
    for path, content in made.items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name}: run make notebooks"


@pytest.mark.parametrize("name", NAMES)
def test_solutions_are_folded_and_the_first_code_installs(name):
    """Catches solutions that a student sees at once, comments for tests, and outputs."""
    text = (LECTURES / "ipynb" / f"{name}.ipynb").read_text(encoding="utf-8")
    assert "<!--" not in text
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert "%pip install" in "".join(code[0]["source"])
    folded = [bool(cell["metadata"].get("jupyter", {}).get("source_hidden")) for cell in code]
    assert folded == ["solution" in cell["metadata"].get("tags", []) for cell in code]
    assert sum(folded) == 1
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_the_page_names_every_notebook():
    """Catches a page without a new notebook, or with other times than were measured."""
    readme = runpy.run_path(str(ROOT / "bench" / "readme.py"))
    page = (LECTURES / "README.md").read_text(encoding="utf-8")
    assert readme["filled_lectures"](page) == page, "run python bench/readme.py"
    assert all(f"({name}.md)" in page for name in NAMES)


def test_the_page_has_the_times_that_were_measured():
    """Catches a table that breaks where a notebook was not measured yet."""
    table = runpy.run_path(str(ROOT / "bench" / "readme.py"))["notebooks_table"]
    texts = {name: f"# {name}\n\n**Question.** Is it\nso?\n\n" for name in ("a", "b")}
    lines = table(texts, {"seconds": {"a": 90.0}, "cores": 2}).splitlines()
    assert lines[2] == "| [a](a.md) | Is it so? | 1.5 min | [.ipynb](ipynb/a.ipynb) |"
    assert lines[3] == "| [b](b.md) | Is it so? | – | [.ipynb](ipynb/b.ipynb) |"
    assert {line.count("|") for line in lines[:4]} == {5}
    assert {line.count("|") for line in table(texts, {}).splitlines()} == {4}
