"""Runs that survive: signals, kills, torn checkpoints, full disks, too little memory."""

import filecmp
import os
import re
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
from helpers import same_weights

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.errors import Notice, Stopped, UserError
from unlabeled.methods.simclr import SimCLR
from unlabeled.pipelines import word2vec as w2v
from unlabeled.runs import word_vectors
from unlabeled.training import checkpoints
from unlabeled.training.checkpoints import last_checkpoint
from unlabeled.utils.files import read_csv, write_bytes

FAST = {"epochs": 3, "batch_size": 64, "progress": False}


@pytest.fixture(scope="module")
def uninterrupted(sprites, tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
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
    [
        *((signal.SIGINT, 1), (signal.SIGINT, 4), (signal.SIGINT, 7)),
        *((signal.SIGTERM, 13), (signal.SIGHUP, 11)),
    ],
)
def test_a_signal_saves_and_the_rest_ends_in_the_same_bytes(
    number, step, sprites, uninterrupted, tmp_path, monkeypatch
):
    before = signal.getsignal(number)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Stopped, match=r"saved in .* --resume to continue") as stopped:
            ul.train("simclr", sprites, out=out, **FAST)
    assert stopped.value.number == number
    assert signal.getsignal(number) == before
    assert not (out / "encoder.safetensors").exists()
    ul.train("simclr", sprites, out=out, resume=True, **FAST)
    assert same_weights(uninterrupted, out)
    losses = [read_csv(run / "metrics.csv")["loss"][1:] for run in (uninterrupted, out)]
    assert losses[0] == losses[1]


def test_the_bar_goes_on_where_the_run_was_cut(sprites, tmp_path, monkeypatch, capsys):
    options = FAST | {"progress": True, "out": tmp_path / "run"}
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Stopped):
            ul.train("simclr", sprites, **options)
    ul.train("simclr", sprites, resume=True, **options)
    assert capsys.readouterr().err.splitlines()[-1].startswith("simclr: 100%")


def test_an_epoch_that_lasts_is_saved_in_between(sprites, uninterrupted, tmp_path, monkeypatch):
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
    assert same_weights(uninterrupted, tmp_path / "run")


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
    way, sprites, uninterrupted, tmp_path, capsys
):
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
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
        remaining = {"cut": len(content) // 3, "empty": 0}.get(way, len(content))
        last.write_bytes(content[:remaining])
    options = {"out": out, "resume": True, **FAST}
    if way == "missing":
        ul.train("simclr", sprites, **options)
    else:
        with pytest.warns(Notice, match="last.ckpt is damaged"):
            ul.train("simclr", sprites, **options)
    assert same_weights(uninterrupted, out)


def test_two_damaged_checkpoints_end_in_one_sentence(uninterrupted, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in ("last.ckpt", "previous.ckpt"):
        (out / name).write_bytes(b"nothing")
    with (
        pytest.warns(Notice, match="damaged"),
        pytest.raises(
            UserError, match=r"all checkpoints in .* are damaged; remove last.ckpt and prev"
        ),
    ):
        last_checkpoint(out)
    assert last_checkpoint(uninterrupted) == uninterrupted / "last.ckpt"
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="no limit on memory here")
def test_too_little_memory_says_which_batch_to_try(blank, tmp_path):
    limit = "import torch, lightning, psutil; used = psutil.Process().memory_info().vms; "
    limit += "resource.setrlimit(resource.RLIMIT_AS, (used + 10**9,) * 2)"
    words = ("--batch_size", "400", "--size", "320", "--out", str(tmp_path / "run"))
    done = run(limit, "train", "simclr", "--data", blank, *words)
    assert done.returncode == 2, done.stderr
    assert "out of memory with batches of 400 images: try --batch-size 200" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signal_after_the_last_save_is_not_lost(sprites, tmp_path, monkeypatch):
    """Where it is, the next of several trainings begins, and Ctrl-C was for nothing."""
    save = checkpoints.Keeper.save

    def saving(self, trainer, learner):
        save(self, trainer, learner)
        if trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(checkpoints.Keeper, "save", saving)
    with pytest.raises(Stopped, match="when training had ended"):
        ul.train("simclr", sprites, out=tmp_path / "run", **FAST)


def test_what_is_ignored_stays_ignored():
    """SIGHUP under nohup: one that is heard all the same would end the run with the terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with checkpoints.signals() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not asked
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def start():
    """Start the command in a session of its own, as a terminal does; killed if the test fails."""
    processes = []

    def start(*words: str, **options) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        command = [sys.executable, "-m", "unlabeled", *words]
        processes.append(subprocess.Popen(command, text=True, start_new_session=True, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def wait_for(path, process):
    while process.poll() is None and not path.exists():
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_the_command_stops_by_a_signal_and_says_how_to_go_on(
    start, number, status, blank, tmp_path
):
    """130 for all of them is wrong: a batch system takes it for its user's Ctrl-C."""
    words = ("--data", blank, "--epochs", "500", "--out", str(tmp_path / "run"))
    process = start("train", "simclr", *words)
    wait_for(tmp_path / "run" / "last.ckpt", process)
    os.killpg(process.pid, number)
    _, message = process.communicate()
    assert process.returncode == status
    assert "the same command with --resume to continue" in message
    assert len(message.strip().splitlines()) == 1


SLOW = """
from pathlib import Path
from unlabeled import Method

def load():
    "Data that is never read."
    Path("begun").touch()
    while True:
        pass

class Slow(Method):
    "Python does not hear a signal within a long product."
    def views(self, batch):
        return batch.x
    def loss(self, views):
        import torch
        Path("begun").touch()
        x = torch.rand(9000, 9000)
        print("went on", (x @ x).mean())
"""


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("train", signal.SIGINT),
        pytest.param("train", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("views", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("views", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_before_training_is_one_sentence_that_is_not_blank(
    start, command, number, tmp_path
):
    """The message of a plain KeyboardInterrupt is empty."""
    (tmp_path / "slow.py").write_text(SLOW)
    out = ("--out", "v.png") if command == "views" else ()
    process = start(command, "simclr", "--data", "./slow.py", *out, cwd=tmp_path)
    wait_for(tmp_path / "begun", process)
    os.killpg(process.pid, number)
    _, message = process.communicate()
    assert process.returncode == 128 + number
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert message.strip().startswith(f"unlabeled: stopped by {name}")
    assert len(message.strip().splitlines()) == 1
    assert ("--resume" in message) == (command == "train")


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(start, blank, tmp_path):
    """Within one long operation; one that waits for it to end goes on for half a minute."""
    (tmp_path / "slow.py").write_text(SLOW)
    process = start("train", "./slow.py:Slow", "--data", blank, "--out", "run", cwd=tmp_path)
    wait_for(tmp_path / "begun", process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.1)  # two at the same time are one
    os.killpg(process.pid, signal.SIGINT)
    out, message = process.communicate()
    assert process.returncode == 130
    assert "stopped at once" in message
    assert "went on" not in out


@pytest.mark.parametrize("words", [("list", "methods"), ("train", "simclr", "--help"), ("--help",)])
def test_a_pipe_that_nobody_reads_is_no_error(start, words):
    """As `head -1` leaves one behind; Python's own end would still try to write."""
    read, write = os.pipe()
    os.close(read)
    process = start(*words, stdout=write)
    os.close(write)
    assert process.communicate()[1] == ""
    assert process.returncode == 141


@pytest.mark.slow
def test_tables_end_quietly_where_nobody_reads(start, trained, sprites, tmp_path):
    """Rich leaves with status 1 there."""
    np.savez(tmp_path / "sprites.npz", x=sprites[0][:100], y=sprites[1][:100])
    read, write = os.pipe()
    os.close(read)
    words = ("evaluate", str(trained.path), "--data", "sprites.npz")
    process = start(*words, stdout=write, cwd=tmp_path)
    os.close(write)
    message = process.communicate()[1]
    assert process.returncode == 141, message


@pytest.mark.parametrize("kind", [UserError, OSError, KeyboardInterrupt, BrokenPipeError])
def test_no_message_is_blank(kind, monkeypatch, capsys):
    """Some libraries' errors have none; and a pipe to a worker is not the output's."""

    def fails(argv):
        raise kind

    monkeypatch.setattr("unlabeled.cli.demo.demo_command", fails)
    assert main(["demo"]) == (130 if kind is KeyboardInterrupt else 2)
    message = capsys.readouterr().err.strip()
    assert re.fullmatch(f"unlabeled: ({kind.__name__}|stopped by Ctrl-C).*", message)


TEXT = [f"{a} {b} {c}".split() for a in "abcd" for b in "efgh" for c in "ijkl"] * 40


@pytest.mark.parametrize("model", ["skip_gram", "cbow"])
@pytest.mark.parametrize(
    ("number", "part"), [(signal.SIGINT, 1), (signal.SIGTERM, 5), (signal.SIGHUP, 8)]
)
def test_word2vec_goes_on_in_the_same_bytes(number, part, model, tmp_path, monkeypatch):
    """In the middle of an epoch as at its end: the draws, the sums and the rate go on."""
    monkeypatch.setattr(w2v, "CHUNK", 2000)  # four an epoch
    options = {"dim": 8, "epochs": 3, "min_count": 1, "model": model, "progress": False}
    w2v.word2vec(TEXT, out=tmp_path / "whole", **options)
    draw, calls = w2v.WindowSampler.__call__, []

    def drawing(self, *chunk):
        calls.append(1)
        if len(calls) == part:
            os.kill(os.getpid(), number)
        return draw(self, *chunk)

    with monkeypatch.context() as patch:
        patch.setattr(w2v.WindowSampler, "__call__", drawing)
        with pytest.raises(Stopped, match="--resume to continue") as stopped:
            w2v.word2vec(TEXT, out=tmp_path / "run", **options)
        assert (len(calls), stopped.value.number) == (part, number)
    with pytest.raises(UserError, match="has not ended; continue it with --resume"):
        word_vectors.load(tmp_path / "run")
    with pytest.raises(UserError, match="continue it with --resume"):
        w2v.word2vec(TEXT, out=tmp_path / "run", **options)
    for other in ({"dim": 9}, {"epochs": 4}, {"lr": 0.1}, {"seed": 1}, {"window": 2}):
        with pytest.raises(UserError, match=f"was made with {next(iter(other))} ="):
            w2v.word2vec(TEXT, out=tmp_path / "run", resume=True, **options | other)
    with pytest.raises(UserError, match="was made with tokens = 7680"):
        w2v.word2vec(TEXT[:-1], out=tmp_path / "run", resume=True, **options)
    for _ in range(2):  # a run that has ended may be resumed as well
        w2v.word2vec(TEXT, out=tmp_path / "run", resume=True, **options)
        for name in ("vectors.bin", "vectors.txt"):
            assert filecmp.cmp(tmp_path / "whole" / name, tmp_path / "run" / name, shallow=False)
        losses = [read_csv(tmp_path / run / "metrics.csv")["loss"] for run in ("whole", "run")]
        assert losses[0] == losses[1]


@pytest.mark.slow
def test_word2vec_survives_a_kill_and_a_torn_checkpoint(start, tmp_path):
    """With --resume of the command, from the checkpoint before the last one."""
    text, out = tmp_path / "text.txt", tmp_path / "run"
    lines = [" ".join(line).translate(str.maketrans("abcdefgh", "ABCDEFGH")) for line in TEXT]
    text.write_text("\n\n".join(lines))
    train = ("train", "word2vec", "--data", str(text), "--dim", "8", "--min-count", "1", "--epochs")
    process = start(*train, "40", "--out", str(out))
    wait_for(out / "previous.ckpt", process)
    process.kill()
    process.communicate()
    if (out / "last.ckpt").exists():  # not killed between two renamings
        (out / "last.ckpt").write_bytes((out / "last.ckpt").read_bytes()[:500])
    assert main([*train, "40", "--out", str(out), "--resume"]) == 0
    assert main([*train, "40", "--out", str(tmp_path / "whole")]) == 0
    assert filecmp.cmp(tmp_path / "whole" / "vectors.bin", out / "vectors.bin", shallow=False)


def test_a_link_is_replaced_and_never_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()
    assert {p.name for p in tmp_path.iterdir()} == {"precious", "link"}
