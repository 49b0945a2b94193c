"""Convert the notebooks of the lectures from text to docs/lectures/ipynb/NAME.ipynb.

python bench/ipynb.py

A notebook begins with a cell that installs the library where it is missing, as in Colab. Cells with
the tag `solution` are folded. There are no outputs, and nothing that varies from call to call.
Comments for `tests/unit/test_figures.py` are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).parent.parent / "docs" / "lectures"
INSTALL = """\
# Installs the library where it is missing, such as in Colab.
import importlib.util

if importlib.util.find_spec("unlabeled") is None:
    %pip install -q unlabeled"""


def converted(text: str) -> str:
    """A notebook as JSON.

    Args:
        text: the notebook as MyST text, which begins with its title.
    """
    text = re.sub(r"\n<!-- figures\n.*?\n-->", "", text, flags=re.DOTALL)
    notebook = jupytext.reads(text, fmt="md:myst")
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.cells.insert(1, nbformat.v4.new_code_cell(INSTALL, metadata={"tags": ["install"]}))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if "solution" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True}
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4) + "\n"


def notebooks() -> dict[Path, str]:
    """The content of each file."""
    texts = sorted(FOLDER.glob("[0-9][0-9]-*.md"))
    return {
        FOLDER / "ipynb" / f"{path.stem}.ipynb": converted(path.read_text(encoding="utf-8"))
        for path in texts
    }


if __name__ == "__main__":
    (FOLDER / "ipynb").mkdir(exist_ok=True)
    written = notebooks()
    for path, content in written.items():
        path.write_text(content, encoding="utf-8")
    for path in (FOLDER / "ipynb").glob("*.ipynb"):
        if path not in written:  # its text is gone
            path.unlink()
