"""Each command of bad_input.txt ends with its message and status 2, and changes no file.

`python tests/unit/cli/test_bad_input.py` writes the messages; read them before you commit them.
"""

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlabeled.cli.main import main

IMAGES = {"kind": "images", "channels": 1, "size": [16, 16], "value_range": [0.0, 1.0]}
IMAGES |= {"dtype": "uint8"}
TABLE = Path(__file__).with_name("bad_input.txt")

METHOD = """
from unlabeled.methods.simclr import SimCLR

class Broken(SimCLR):
    def loss(self, views):
        return super().loss(views) * float("nan")

class NoMethod:
    pass
"""
ENCODER = """
from torch import nn

class Maps(nn.Sequential):
    def __init__(self, channels=1):
        super().__init__(nn.Conv2d(channels, 6, 3))
"""


def fill(folder: Path) -> None:
    """Write the good and bad data, runs and files that the commands name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import unlabeled as ul

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 16, 16)).astype(np.uint8)
    np.save(folder / "good.npy", images)
    np.savez(folder / "labeled.npz", x=images, y=np.arange(40) % 4)
    np.savez(folder / "constant.npz", x=images, y=np.zeros(40))
    np.savez(folder / "unnamed.npz", first=images, second=images)
    np.savez(folder / "short.npz", x=images, y=np.arange(7))
    np.save(folder / "color.npy", rng.integers(0, 255, (40, 16, 16, 3)).astype(np.uint8))
    np.save(folder / "one.npy", images[:1])
    np.save(folder / "none.npy", images[:0])
    np.save(folder / "flat.npy", images.reshape(40, -1))
    np.save(folder / "nan.npy", np.full((40, 16, 16), np.nan))
    np.save(folder / "large.npy", np.full((40, 16, 16), 70_000))
    np.save(folder / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "torn.npy").write_bytes((folder / "good.npy").read_bytes()[:500])
    (folder / "text.txt").write_text("no image")
    (folder / "torn.tar").write_bytes(b"no tar")
    (folder / "torn.parquet").write_bytes(b"no table")
    pq.write_table(pa.table({"price": [1.0, 2.0]}), folder / "prices.parquet")
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    for name in ("a.png", "b.jpg"):
        (folder / "broken" / name).write_bytes(b"nothing")
    (folder / "photos").mkdir()
    for i in range(6):
        Image.fromarray(images[i]).save(folder / "photos" / f"{i}.png")
    (folder / "other.csv").write_text("file,label\nsomewhere.png,cat\n")
    rows = "".join(f"{i}.png,cat,{i % 2}\n" for i in range(6))
    (folder / "several.csv").write_text(f"file,breed,age\n{rows}")
    (folder / "ragged.csv").write_text("file,label\n0.png,cat,dog\n")
    (folder / "method.py").write_text(METHOD)
    (folder / "net.py").write_text(ENCODER)
    (folder / "settings.yaml").write_text("epochs: [1, 2\n")
    (folder / "misspelled.yaml").write_text("epoch: 1\n")
    (folder / "blank.yaml").write_text("")
    quick = {"epochs": 1, "batch_size": 8, "progress": False, "logger": "none"}
    ul.train("simclr", folder / "good.npy", out=folder / "run", **quick)
    shutil.copytree(folder / "run", folder / "unfinished")
    (folder / "unfinished" / "encoder.safetensors").unlink()
    for name, file, content in (
        ("no-weights", "encoder.safetensors", b"\x80\x04nothing"),
        ("no-json", "encoder.json", b"{"),
        ("no-config", "config.json", b"[]"),
        ("torn-checkpoints", "last.ckpt", b"PK nothing"),
    ):
        shutil.copytree(folder / "run", folder / name)
        (folder / name / file).write_bytes(content)
    for name, change in (
        ("huge", {"args": {"width": 1_000_000}}),
        ("wide", {"modality": IMAGES | {"size": [10_000_000, 10_000_000]}}),
        ("escape", {"encoder": "../../net.py:Maps"}),
        ("negative", {"modality": IMAGES | {"channels": -1}}),
        ("words", {"dim": "many"}),
    ):
        shutil.copytree(folder / "run", folder / name)
        inputs = json.loads((folder / name / "encoder.json").read_text()) | change
        (folder / name / "encoder.json").write_text(json.dumps(inputs))
    shutil.copytree(folder / "run", folder / "link")
    (folder / "outside").mkdir()
    (folder / "link" / "report").symlink_to(folder / "outside")


def cases() -> list[tuple[str, str]]:
    """Pairs of a command and its message."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [
        (line[2:], lines[i + 1].strip()) for i, line in enumerate(lines) if line.startswith("$ ")
    ]


def run(command: str, folder: Path) -> tuple[int, list[str]]:
    """Exit status and lines of standard error, without the path of the folder."""
    messages = io.StringIO()
    with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(io.StringIO()):
        status = main(shlex.split(command)[1:])
    text = messages.getvalue().replace(f"{folder}/", "").replace(str(folder), ".")
    return status, [line for line in text.splitlines() if line]


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of the last change of every file."""
    stats = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bad").resolve()
    fill(path)
    return path


def test_the_table_is_long_enough():
    assert len({command for command, _ in cases()}) >= 50


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("command", "message"), cases())
def test_bad_input_ends_in_one_sentence(command, message, folder, monkeypatch):
    monkeypatch.chdir(folder)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    before = state(folder)
    status, lines = run(command, folder)
    assert status == 2
    assert lines[-1] == f"unlabeled: {message}"
    assert all(line.startswith("warning: ") for line in lines[:-1])
    after = state(folder)
    assert {name: after.get(name) for name in before} == before


def write_table() -> None:
    """Run the commands of the table and write down their messages."""
    os.environ["UNLABELED_CACHE"] = tempfile.mkdtemp()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        fill(folder)
        os.chdir(folder)
        blocks = []
        for command, _ in cases():
            shutil.rmtree(folder / "runs", ignore_errors=True)
            try:
                status, lines = run(command, folder)
            except Exception as error:  # noqa: BLE001  a bug, shown with all others
                status, lines = 1, [f"{type(error).__name__}: {error}"]
            message = lines[-1].removeprefix("unlabeled: ") if lines else ""
            if status != 2 or any(not line.startswith("warning: ") for line in lines[:-1]):
                print(f"{command}: exit status {status}, {lines}", file=sys.stderr)
            blocks.append(f"$ {command}\n  {message}\n")
    TABLE.write_text("\n".join(blocks), encoding="utf-8")


if __name__ == "__main__":
    write_table()
