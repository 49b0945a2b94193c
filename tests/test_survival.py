"""Runs that survive: signals, kills, torn checkpoints, full disks, too little memory."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from conftest import same_weights

import unlabeled as ul
from unlabeled import checkpoints
from unlabeled.checkpoints import last_checkpoint
from unlabeled.errors import Notice, Stopped, UserError
from unlabeled.files import read_csv, write_bytes
from unlabeled.methods.simclr import SimCLR

FAST = {"epochs": 3, "batch_size": 64, "progress": False}


@pytest.fixture(scope="module")
def whole(sprites, tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    ul.train("simclr", sprites, out=out, **FAST)
    return out


def at_step(patch, number, act):
    """Do something when the loss is asked for the given time."""
    loss, calls = SimCLR.loss, []

    def acting(self, views):
        calls.append(1)
        if len(calls) == number:
            act()
        return loss(self, views)

    patch.setattr(SimCLR, "loss", acting)


@pytest.mark.parametrize(
    ("number", "step"),  # seven steps an epoch
    [(signal.SIGINT, 1), (signal.SIGINT, 4), (signal.SIGINT, 7), (signal.SIGTERM, 13)],
)
def test_a_signal_saves_and_the_rest_ends_in_the_same_bytes(
    number, step, sprites, whole, tmp_path, monkeypatch
):
    before = signal.getsignal(number)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Stopped, match=r"saved in .* --resume goes on"):
            ul.train("simclr", sprites, out=out, **FAST)
    assert signal.getsignal(number) == before
    assert not (out / "encoder.safetensors").exists()
    ul.train("simclr", sprites, out=out, resume=True, **FAST)
    assert same_weights(whole, out)
    losses = [read_csv(run / "metrics.csv")["loss"][1:] for run in (whole, out)]
    assert losses[0] == losses[1]


def test_the_bar_goes_on_where_the_run_was_cut(sprites, tmp_path, monkeypatch, capsys):
    told = FAST | {"progress": True, "out": tmp_path / "run"}
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Stopped):
            ul.train("simclr", sprites, **told)
    ul.train("simclr", sprites, resume=True, **told)
    assert capsys.readouterr().err.splitlines()[-1].startswith("simclr: 100%")


def test_an_epoch_that_lasts_is_saved_in_between(sprites, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", 0.0)

    def crash():
        raise RuntimeError("the machine broke down")

    with monkeypatch.context() as patch:
        at_step(patch, 12, crash)
        with pytest.raises(RuntimeError):
            ul.train("simclr", sprites, out=tmp_path / "run", **FAST)
    with monkeypatch.context() as patch:
        at_step(patch, 22 - 11, crash)  # 21 steps in all, of which 11 are done
        ul.train("simclr", sprites, out=tmp_path / "run", resume=True, **FAST)
    assert same_weights(whole, tmp_path / "run")


def test_training_in_another_thread_needs_no_signals(sprites, tmp_path):
    options = FAST | {"epochs": 1}
    done = []

    def work():
        done.append(ul.train("simclr", sprites, out=tmp_path / "run", **options))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


@pytest.mark.parametrize("way", ["cut", "empty", "flipped", "missing", "pickle"])
def test_a_damaged_checkpoint_does_not_prevent_the_one_before(
    way, sprites, whole, tmp_path, capsys
):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "encoder.safetensors").unlink()
    last = out / "last.ckpt"
    content = bytearray(last.read_bytes())
    if way == "missing":
        last.unlink()
    elif way == "pickle":
        import pickle

        with zipfile.ZipFile(last, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps(os.system))
    else:
        content[len(content) // 2] ^= 1
        kept = {"cut": len(content) // 3, "empty": 0}.get(way, len(content))
        last.write_bytes(content[:kept])
    options = {"out": out, "resume": True, **FAST}
    if way == "missing":
        ul.train("simclr", sprites, **options)
    else:
        with pytest.warns(Notice, match="last.ckpt is damaged"):
            ul.train("simclr", sprites, **options)
    assert same_weights(whole, out)


def test_two_damaged_checkpoints_end_in_one_sentence(whole, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in ("last.ckpt", "previous.ckpt"):
        (out / name).write_bytes(b"nothing")
    with (
        pytest.warns(Notice, match="damaged"),
        pytest.raises(UserError, match=r"no checkpoint in .* is whole; remove last.ckpt and prev"),
    ):
        last_checkpoint(out)
    assert last_checkpoint(whole) == whole / "last.ckpt"
    assert last_checkpoint(tmp_path) is None


def test_weights_that_are_not_finite_are_never_saved(sprites, tmp_path, monkeypatch):
    from torch import nn

    out = tmp_path / "run"
    with monkeypatch.context() as patch:

        def spoil():
            patch.setattr(
                SimCLR, "update", lambda self: nn.init.constant_(self.head[0].weight, np.nan)
            )

        at_step(patch, 14, spoil)  # the last step of the second epoch: its own loss is fine
        with pytest.raises(UserError, match=r"weights are no longer finite in epoch 2"):
            ul.train("simclr", sprites, out=out, **FAST)
    assert last_checkpoint(out) == out / "last.ckpt"
    assert read_csv(out / "metrics.csv")["epoch"][-1] >= 1


SCRIPT = """
import sys, resource, numpy as np
import unlabeled as ul
{limit}
from unlabeled.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(limit: str, *words: str) -> subprocess.CompletedProcess:
    script = SCRIPT.format(limit=limit)
    return subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def blank(tmp_path):
    path = tmp_path / "blank.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (400, 16, 16)).astype(np.uint8))
    return str(path)


def test_a_full_disk_keeps_the_checkpoint_before(blank, tmp_path):
    """A limit on the size of files stands for the disk."""
    out = tmp_path / "run"
    common = ("train", "simclr", "--data", blank, "--batch_size", "64", "--logger", "none")
    assert run("", *common, "--epochs", "2", "--out", str(out)).returncode == 0
    size = (out / "last.ckpt").stat().st_size
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size - 1000}, {size - 1000}))"
    done = run(limit, *common, "--epochs", "2", "--out", str(tmp_path / "full"))
    assert done.returncode == 2
    assert "the checkpoint cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "full").glob("*.tmp"))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="no limit on memory here")
def test_too_little_memory_says_which_batch_to_try(blank, tmp_path):
    limit = "import torch, lightning, psutil; used = psutil.Process().memory_info().vms; "
    limit += "resource.setrlimit(resource.RLIMIT_AS, (used + 10**9,) * 2)"
    words = ("--batch_size", "400", "--size", "320")
    done = run(limit, "train", "simclr", "--data", blank, *words, "--out", str(tmp_path / "run"))
    assert done.returncode == 2, done.stderr
    assert "out of memory with batches of 400 pictures: try --batch-size 200" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_stops_by_sigterm_and_says_how_to_go_on(blank, tmp_path):
    words = ("train", "simclr", "--data", blank, "--epochs", "500", "--out", str(tmp_path / "run"))
    process = subprocess.Popen(
        [sys.executable, "-m", "unlabeled", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (tmp_path / "run" / "last.ckpt").exists():
        time.sleep(0.1)
    process.terminate()
    _, told = process.communicate()
    assert process.returncode == 130
    assert "the same command with --resume goes on" in told
    assert "Traceback" not in told


def test_a_link_is_replaced_and_never_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()
    assert {p.name for p in tmp_path.iterdir()} == {"precious", "link"}
