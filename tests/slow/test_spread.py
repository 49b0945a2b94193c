"""Features by Ray, in parts: those of one process, each sample once, also after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import write_shards

pytest.importorskip("ray", reason="Ray Data is an extra: pip install 'unlabeled[ray]'")

import pyarrow.parquet as pq

import unlabeled as ul

pytestmark = pytest.mark.slow


@pytest.fixture
def command():
    """Start the command in a folder; what still runs at the end is killed."""
    started: list[subprocess.Popen] = []

    def start(*words: str, folder: Path) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        line = [sys.executable, "-m", "unlabeled", *words]
        started.append(subprocess.Popen(line, cwd=folder, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        with process:  # closes its pipes
            process.kill()


def test_a_killed_embedding_goes_on_and_has_each_sample_once(command, trained_on_color, tmp_path):
    run, shards = trained_on_color
    words = ("embed", str(run), f"file://{shards}", "--engine", "ray", "--out", "parts")
    killed = command(*words, folder=tmp_path)
    while not list(tmp_path.glob("parts/part-*.parquet")):
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    time.sleep(3)  # Ray's own processes end with it
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/part-*.parquet")}
    assert 0 < len(before) < 40
    again = command(*words, folder=tmp_path)
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert out == "parts: 400 rows of 256 features\n"
    assert f"parts has {len(before)} part" in err
    assert before == {p: p.stat().st_mtime_ns for p in before}  # none is computed again
    single = command("embed", str(run), str(shards), "--out", "one.parquet", folder=tmp_path)
    assert single.wait(timeout=600) == 0, single.communicate()
    one, parts = pq.read_table(tmp_path / "one.parquet"), pq.read_table(tmp_path / "parts")
    assert parts["names"].to_pylist() == one["names"].to_pylist()
    assert parts.schema.remove_metadata() == one.schema.remove_metadata()
    z = [np.stack(table["features"].to_numpy()) for table in (one, parts)]
    assert np.abs(z[0] - z[1]).max() < 1e-5
    other = command(*words[:2], f"file://{shards}/s0*.tar", *words[3:], folder=tmp_path)
    assert other.wait(timeout=600) == 2
    assert "parts holds features of other files; choose another --out" in other.communicate()[1]


@pytest.fixture
def trained_on_color(tmp_path):
    write_shards(tmp_path / "shards", 40, 10, side=64)
    x = np.random.default_rng(0).integers(0, 255, (40, 48, 48, 3), dtype=np.uint8)
    options = {"epochs": 1, "batch_size": 20, "progress": False, "logger": "none"}
    return ul.train("simclr", x, out=tmp_path / "run", **options).path, tmp_path / "shards"
