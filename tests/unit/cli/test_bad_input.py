"""Every line of bad_input.txt: the command ends with that one sentence, exit code 2, no harm done.

The table is written by `python tests/test_bad_input.py`, to be read by eye before it is committed.
"""

import contextlib
import hashlib
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

from unlabeled import registry
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


def make_place(place: Path) -> None:
    """What the commands of the table meet: good and bad data, runs, files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import unlabeled as ul

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 16, 16)).astype(np.uint8)
    np.save(place / "good.npy", images)
    np.savez(place / "labeled.npz", x=images, y=np.arange(40) % 4)
    np.savez(place / "constant.npz", x=images, y=np.zeros(40))
    np.savez(place / "unnamed.npz", first=images, second=images)
    np.savez(place / "short.npz", x=images, y=np.arange(7))
    np.save(place / "color.npy", rng.integers(0, 255, (40, 16, 16, 3)).astype(np.uint8))
    np.save(place / "one.npy", images[:1])
    np.save(place / "none.npy", images[:0])
    np.save(place / "flat.npy", images.reshape(40, -1))
    np.save(place / "nan.npy", np.full((40, 16, 16), np.nan))
    np.save(place / "large.npy", np.full((40, 16, 16), 70_000))
    np.save(place / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (place / "torn.npy").write_bytes((place / "good.npy").read_bytes()[:500])
    (place / "text.txt").write_text("no image")
    (place / "torn.tar").write_bytes(b"no tar")
    (place / "torn.parquet").write_bytes(b"no table")
    pq.write_table(pa.table({"price": [1.0, 2.0]}), place / "prices.parquet")
    (place / "empty").mkdir()
    (place / "broken").mkdir()
    for name in ("a.png", "b.jpg"):
        (place / "broken" / name).write_bytes(b"nothing")
    (place / "photos").mkdir()
    for i in range(6):
        Image.fromarray(images[i]).save(place / "photos" / f"{i}.png")
    (place / "other.csv").write_text("file,label\nsomewhere.png,cat\n")
    (place / "ragged.csv").write_text("file,label\n0.png,cat,dog\n")
    (place / "method.py").write_text(METHOD)
    (place / "net.py").write_text(ENCODER)
    (place / "settings.yaml").write_text("epochs: [1, 2\n")
    quick = {"epochs": 1, "batch_size": 8, "progress": False, "logger": "none"}
    ul.train("simclr", place / "good.npy", out=place / "run", **quick)
    shutil.copytree(place / "run", place / "unfinished")
    (place / "unfinished" / "encoder.safetensors").unlink()
    for name, file, content in (
        ("no-weights", "encoder.safetensors", b"\x80\x04nothing"),
        ("no-json", "encoder.json", b"{"),
        ("no-config", "config.json", b"[]"),
        ("torn-checkpoints", "last.ckpt", b"PK nothing"),
    ):
        shutil.copytree(place / "run", place / name)
        (place / name / file).write_bytes(content)
    for name, change in (
        ("huge", {"args": {"width": 1_000_000}}),
        ("wide", {"modality": IMAGES | {"size": [10_000_000, 10_000_000]}}),
        ("escape", {"encoder": "../../net.py:Maps"}),
        ("negative", {"modality": IMAGES | {"channels": -1}}),
        ("words", {"dim": "many"}),
    ):
        shutil.copytree(place / "run", place / name)
        inputs = json.loads((place / name / "encoder.json").read_text()) | change
        (place / name / "encoder.json").write_text(json.dumps(inputs))
    shutil.copytree(place / "run", place / "link")
    (place / "outside").mkdir()
    (place / "link" / "report").symlink_to(place / "outside")


def cases() -> list[tuple[str, str]]:
    """Pairs of a command and its message."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [
        (line[2:], lines[i + 1].strip()) for i, line in enumerate(lines) if line.startswith("$ ")
    ]


def said(command: str, place: Path) -> tuple[int, list[str]]:
    """Exit code and lines of standard error, the place and lists of names left out."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        code = main(shlex.split(command)[1:])
    text = told.getvalue().replace(f"{place}/", "").replace(str(place), ".")
    for kind in ("methods", "encoders", "datasets", "studies"):
        text = text.replace(", ".join(registry.listing(kind)), f"({kind})")
    return code, [line for line in text.splitlines() if line]


def state(place: Path) -> dict[str, str]:
    """A hash of every file that is there."""
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad").resolve()
    make_place(folder)
    return folder


def test_the_table_is_long_enough():
    assert len({command for command, _ in cases()}) >= 50


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("command", "message"), cases())
def test_bad_input_ends_in_one_sentence(command, message, place, monkeypatch):
    monkeypatch.chdir(place)
    shutil.rmtree(place / "runs", ignore_errors=True)
    before = state(place)
    code, lines = said(command, place)
    assert code == 2
    assert lines[-1] == f"unlabeled: {message}"
    assert all(line.startswith("warning: ") for line in lines[:-1])
    after = state(place)
    assert {name: after.get(name) for name in before} == before


def write_table() -> None:
    """Run the commands of the table and write down what they say."""
    commands = [command for command, _ in cases()]
    os.environ["UNLABELED_CACHE"] = tempfile.mkdtemp()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        make_place(place)
        os.chdir(place)
        blocks = []
        for command in commands:
            shutil.rmtree(place / "runs", ignore_errors=True)
            try:
                code, lines = said(command, place)
            except Exception as error:  # noqa: BLE001  a fault to mend, shown with all others
                code, lines = 1, [f"{type(error).__name__}: {error}"]
            message = lines[-1].removeprefix("unlabeled: ") if lines else ""
            if code != 2 or any(not line.startswith("warning: ") for line in lines[:-1]):
                print(f"{command}: exit code {code}, {lines}", file=sys.stderr)
            blocks.append(f"$ {command}\n  {message}\n")
    TABLE.write_text("\n".join(blocks), encoding="utf-8")


if __name__ == "__main__":
    write_table()
