"""A run says how it was made, and its record repeats it."""

import json
import signal
import subprocess

import numpy as np
import pytest
from helpers import same_weights
from lightning.pytorch.callbacks import Callback

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.errors import Stopped, UserError

pytestmark = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
RNG = np.random.default_rng(0)
X = RNG.integers(0, 255, (80, 16, 16)).astype(np.uint8)
FAST = {"batch_size": 16, "logger": "none", "progress": False, "precision": "fp32"}
WORDS = ("--epochs", "2", "--batch-size", "16", "--logger", "none")
METHOD = """
from unlabeled import Method

class Mean(Method):
    '''Guess the brightness.'''

    def __init__(self, encoder, *, power: float = 2.0) -> None:
        super().__init__(encoder)
        self.power = power

    def views(self, batch):
        return batch.x

    def loss(self, x):
        return (self.encoder(x).float().mean(1) - x.mean((1, 2, 3))).abs().pow(self.power).mean()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with data and a method, in which commands run."""
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "x.npz", x=X, y=np.arange(80) % 4)
    (tmp_path / "mean.py").write_text(METHOD)
    return tmp_path


def run(*words):
    return main([str(word) for word in words])


def record(folder):
    return json.loads((folder / "config.json").read_text())


def git(folder, *words):
    names = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    done = subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True)
    return done.stdout.decode().strip()


def test_a_run_records_its_command_its_settings_and_its_own_files(here):
    git(here, "init", "-q")
    words = (
        "train",
        "./mean.py:Mean",
        "--data",
        "x.npz",
        *WORDS,
        "--trainer.max_time",
        "00:01:00:00",
    )
    assert run(*words, "--out", "a b") == 0
    created = record(here / "a b")
    assert created["command"] == f"unlabeled {' '.join(words)} --out 'a b'"
    assert created["settings"]["trainer"] == {"max_time": "00:01:00:00"}
    assert created["settings"]["logger"] == "none"
    assert (created["in_memory"], created["stopped_by"]) == ([], "epochs")
    assert created["hardware"]
    assert created["git"] == {"./mean.py:Mean": None}  # no commit yet
    git(here, "add", "mean.py")
    git(here, "commit", "-qm", "x")
    for change, dirty in (("", False), ("# changed", True)):
        (here / "mean.py").write_text(METHOD + change)
        assert run(*words, "--out", f"b{change}") == 0
        commit = git(here, "rev-parse", "HEAD")
        state = record(here / f"b{change}")["git"]["./mean.py:Mean"]
        assert state == {"commit": commit, "dirty": dirty}
    assert run("train", "simclr", "--data", "x.npz", *WORDS) == 0
    assert record(here / "runs/simclr")["git"] == {}


def test_a_file_that_git_ignores_is_not_clean(here):
    git(here, "init", "-q")
    (here / ".gitignore").write_text("mean.py")
    git(here, "add", ".gitignore")
    git(here, "commit", "-qm", "x")
    assert run("train", "./mean.py", "--data", "x.npz", *WORDS) == 0
    assert record(here / "runs/mean")["git"]["./mean.py"]["dirty"] is True


def test_in_python_what_no_file_can_hold_is_named(tmp_path):
    class See(Callback):
        pass

    options = FAST | {"trainer": {"callbacks": [See()]}, "epochs": 1}
    ul.train("simclr", X, out=tmp_path / "a", **options)
    created = record(tmp_path / "a")
    assert created["command"] == "Python"
    assert created["in_memory"] == ["data", "trainer"]
    assert created["settings"]["trainer"] == {"callbacks": ["See"]}


class Halt(Callback):
    """Stops in the middle of the second epoch, as early stopping does."""

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.should_stop or trainer.global_step == 7


class Signal(Callback):
    def on_train_batch_end(self, *args):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("trainer", "epochs", "reason"),
    [
        ({}, 2, "epochs"),
        ({"max_steps": 7}, 2, "max_steps"),
        ({"max_steps": 10}, 2, "epochs"),
        ({"max_time": "00:00:00:01", "max_steps": 10**6}, 10_000, "max_time"),
        ({"callbacks": [Halt()]}, 2, "callback"),
        ({"callbacks": [Signal()]}, 2, "SIGTERM"),
    ],
)
def test_what_ended_a_run_is_on_record(trainer, epochs, reason, tmp_path):
    options = FAST | {"out": tmp_path / "a", "epochs": epochs}
    if reason == "SIGTERM":
        with pytest.raises(Stopped):
            ul.train("simclr", X, trainer=trainer, **options)
    else:
        ul.train("simclr", X, trainer=trainer, **options)
    assert record(tmp_path / "a")["stopped_by"] == reason
    if reason in ("epochs", "SIGTERM"):
        ul.train("simclr", X, resume=True, **options)
        assert record(tmp_path / "a")["stopped_by"] == "epochs"


def test_an_error_is_on_record_too(tmp_path):
    with pytest.raises(UserError, match="lower --lr"):
        ul.train(
            "simclr", X, out=tmp_path / "a", epochs=3, **FAST | {"lr": 1e30, "optimizer": "sgd"}
        )
    assert record(tmp_path / "a")["stopped_by"] == "error"


def test_resuming_is_on_record_and_may_change_what_is_no_result(here):
    words = ("train", "simclr", "--data", "x.npz", "--batch-size", 16, "--epochs")
    assert run(*words, 1, "--logger", "none") == 0
    assert run(*words, 2, "--resume", "--probe-every", 1) == 0
    created = record(here / "runs/simclr")
    assert created["command"].endswith("--epochs 1 --logger none")
    (entry,) = created["resumed"]
    assert entry["command"].endswith("--epochs 2 --resume --probe-every 1")
    assert entry["changed"] == ["recipe"]
    assert created["stopped_by"] == "epochs"


@pytest.mark.parametrize(
    "words",
    [
        ("simclr", "--temperature", "0.3", "--augment", "RandomCrop", "--augment.padding", "1"),
        ("byol", "--no-predictor", "--trainer.max_steps", "7", "--seed", "3"),
        ("supervised", "--labels", "20", "--encoder", "lenet", "--lr", "0.01"),
        ("fixmatch", "--labels", "20", "--labeled-fraction", "0.25"),
        ("dino", "--size", "12"),
        ("simsiam", "--groups-from", "g.npy", "--labels-from", "g.npy"),
        ("vae", "--encoder_args", '{"width": 8}', "--value-range", "0,255"),
        ("masked_autoencoder", "--schedule", "constant"),
        ("./mean.py:Mean", "--power", "3"),
    ],
    ids=lambda words: words[0],
)
def test_a_run_is_repeated_from_its_record(words, here, capsys):
    """Catches a setting that is lost on the way, or one that the parser reads otherwise."""
    is_array = {"--value-range", "--groups-from"} & set(words)
    data = here / ("f.npy" if is_array else "x.npz")
    np.save(here / "f.npy", X.astype(np.float32))
    np.save(here / "g.npy", np.repeat(np.arange(20), 4))
    assert run("train", *words, "--data", data.name, *WORDS, "--out", "a") == 0
    again = words[:1] if words[0].endswith("Mean") else ()
    capsys.readouterr()
    assert run("train", *again, "--config", "a/config.json", "--out", "b") == 0
    assert same_weights(here / "a", here / "b")
    remaining = {"command"}
    a, b = ({k: v for k, v in record(here / n).items() if k not in remaining} for n in "ab")
    assert a == b
    assert "may differ" not in capsys.readouterr().err


def test_other_flags_override_the_record(here, capsys):
    assert run("train", "simclr", "--data", "x.npz", *WORDS, "--temperature", 0.3) == 0
    config = "--config=runs/simclr/config.json"
    assert run("train", "simclr", "--epochs", 1, config, "--encoder", "lenet", "--out", "b") == 0
    created = record(here / "b")
    assert (created["recipe"]["epochs"], created["encoder"], created["encoder_args"]) == (
        1,
        "lenet",
        {},
    )
    assert created["method_args"]["temperature"] == 0.3
    np.save(here / "other.npy", X[:50])
    capsys.readouterr()
    assert run("train", config, "--data", "other.npy", "--out", "c") == 0
    assert record(here / "c")["images"] == 50
    created = record(here / "runs/simclr")
    (here / "old.json").write_text(
        json.dumps(created | {"versions": {"torch": "1.0"}, "images": 3})
    )
    assert run("train", "--config", "old.json", "--out", "d") == 0
    output = capsys.readouterr().err
    assert "may differ from those of the first: " in output
    assert "torch was 1.0 and is" in output
    assert "the data had 3 training samples and has 64" in output


def test_what_a_record_does_not_hold_is_reported(here, capsys):
    assert run("train", "simclr", "--data", "x.npz", *WORDS) == 0
    created = record(here / "runs/simclr")
    (here / "evil.py").write_text("raise SystemExit('ran')")
    cases = [
        (
            {"data": None},
            (),
            "data was an object in memory, which c.json does not hold; give --data",
        ),
        ({"in_memory": ["labels_from"]}, (), "give --labels-from, or train it in Python again"),
        (
            {"data": "./evil.py"},
            (),
            "the data of c.json is loaded by a file; give it as --data ./evil",
        ),
        ({"test": "./evil.py"}, (), "give it as --test ./evil.py"),
        ({"encoder": "./evil.py:Net"}, (), "give it as --encoder ./evil.py:Net"),
        (
            {"method": "./evil.py:Bad"},
            (),
            "name its file: unlabeled train ./evil.py:Bad --config c.json",
        ),
        ({"method": "./evil.py:Bad"}, ("simclr",), "is not one of the library's; name its file"),
        ({"method": "./evil.py:Bad"}, ("./mean.py",), "by ./evil.py:Bad, not by ./mean.py"),
        ({"method": "spy", "in_memory": ["method"]}, (), "train ./file.py:Class --config c.json"),
        ({"method": "word2vec"}, (), "is several trainings, which c.json cannot repeat; use its"),
        ({}, ("byol",), "c.json is of a training by simclr, not by byol; omit the method"),
        (
            {"method_args": {"augment": {"view": "Mine"}}},
            (),
            "is Mine, which is not an augmentation",
        ),
    ]
    for change, named, says in cases:
        (here / "c.json").write_text(json.dumps(created | change))
        capsys.readouterr()
        assert run("train", *named, "--config", "c.json", "--out", "x") == 2
        error = capsys.readouterr().err
        assert says in error, error
        assert len(error.strip().splitlines()) == 1
        assert not (here / "x").exists()
