"""A method, data set, encoder, augmentation, metric and study are one file each.

The files are those that CONTRIBUTING.md shows.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"^`(src/\S+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Run the command with a copy of the package that has the files of CONTRIBUTING.md."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", folder / "src", ignore=ignored)
    files = FILE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(files) == 6
    for name, content in files:
        assert not (folder / name).exists()
        (folder / name).write_text(content, encoding="utf-8")

    def run(*words: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(folder / "src")}
        command = [sys.executable, "-m", "unlabeled", *words]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = folder
    return run


def test_one_file_each_is_found_by_the_command(command):
    options = ("--data", "stripes", "--encoder", "perceptron", "--epochs", "2", "--hidden", "16")
    command("train", "quarter_turns", *options, "--batch-size", "32", "--logger", "none")
    result = json.loads(command("evaluate", "runs/quarter_turns", "--json"))
    assert result["data"] == "stripes"
    assert result["metrics"]["nearest_centroid"]["low"] > 0.5
    assert "quarter_turns" in command("list", "methods")
    views = ("--data", "stripes", "--augment", "RandomShading", "--augment.sigma", "0.5")
    command("views", "simclr", *views, "--out", "views.png")
    assert (command.folder / "views.png").stat().st_size > 1000


def test_a_study_is_one_file(command):
    assert "flips" in command("list", "studies")
    command("study", "flips", "--quick")
    result = json.loads((command.folder / "runs" / "flips" / "quick" / "results.json").read_text())
    assert set(result["experiments"]["F1"]["linear_probe"]) == {"flip", "noise"}
