"""The command, as a user types it."""

import importlib
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import same_weights
from PIL import Image

import unlabeled as ul
from unlabeled import registry
from unlabeled.augmentations import kernel
from unlabeled.cli.main import main
from unlabeled.errors import UserError, suggest


@pytest.fixture
def data(sprites, tmp_path):
    """A labeled file of 300 images."""
    path = tmp_path / "sprites.npz"
    np.savez(path, x=sprites[0][:300], y=sprites[1][:300])
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*words):
    """Exit status of a command line."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from unlabeled.cli.main import main; main(['--help']); "
        "print(sorted({'torch', 'lightning', 'numpy', 'sklearn', 'jsonargparse', 'matplotlib'} "
        "& set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"
    assert "unlabeled COMMAND" in out.stdout


@pytest.mark.parametrize("kind", registry.KINDS)
def test_lists_have_one_name_a_line(kind, capsys):
    assert run("list", kind) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(registry.listing(kind))
    assert all(len(line.split()) > 3 for line in lines)  # and says what it is


def test_help_of_a_method_shows_its_flags_and_the_defaults_for_the_data(capsys):
    assert run("train", "simclr", "--help") == 0
    text = capsys.readouterr().out
    for flag in ("--temperature", "--augment", "--batch-size", "--resume", "--config", "--seed"):
        assert flag in text
    assert "τ of the loss" in text
    assert "default: 0.5" in text
    own = text.partition("method (simclr):")[2].partition("training:")[0]
    assert not {"--strategy", "--constant-lr", "--constant-lr+"} & set(own.split())
    assert run("train", "simclr", "--data", "dsprites", "--help") == 0
    recipe = registry.find("methods", "simclr").recipes["dsprites"]
    assert f"default: {recipe['temperature']}" in capsys.readouterr().out


def test_train_evaluate_embed(data, capsys, tmp_path):
    assert run("train", "simclr", "--data", data, "--epochs", 1, "--batch-size", 64) == 0
    assert (tmp_path / "runs" / "simclr" / "encoder.safetensors").is_file()

    capsys.readouterr()
    assert run("evaluate", "runs/simclr", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["baselines"]["raw"]["linear_probe"]["value"] < 1
    assert run("evaluate", "runs/simclr") == 0
    shown = capsys.readouterr().out
    assert "Linear probe" in shown
    assert "report/index.html" in shown.replace("\n", "")

    for name in ("f.npy", "deep/f.npz", "f.parquet"):
        assert run("embed", "runs/simclr", data, "--out", name) == 0
    features = np.load("f.npy")
    assert features.shape == (300, 128)
    with np.load("deep/f.npz") as content, np.load(data) as original:
        assert np.array_equal(content["features"], features)
        assert np.array_equal(content["label"].astype(int), original["y"])
    table = pq.read_table("f.parquet")
    assert np.allclose(np.array(table["features"].to_pylist()), features)


def test_a_folder_of_images_from_end_to_end(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for i in range(40):
        noise = np.random.default_rng(i).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{i:02}.png")
    assert run("train", "simclr", "--data", "photos", "--epochs", 1, "--batch_size", 16) == 0
    assert run("embed", "runs/simclr", "photos", "--out", "f.npz") == 0
    with np.load("f.npz") as content:
        assert content["features"].shape == (40, 256)  # photographs: a wider network
        assert content["names"][3] == "03.png"
    capsys.readouterr()
    assert run("evaluate", "runs/simclr", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert "linear_probe" not in result["metrics"]
    assert result["metrics"]["rankme"]["value"] > 1


def test_settings_from_yaml_and_views_from_flags(data, tmp_path):
    (tmp_path / "c.yaml").write_text(f"data: {data}\nepochs: 1\ntemperature: 0.3\nlr: 0.01\n")
    command = ["train", "simclr", "--config", "c.yaml", "--lr", 0.002]
    assert run(*command, "--augment", "RandomAffine", "--augment.degrees", 45) == 0
    config = json.loads((tmp_path / "runs/simclr/config.json").read_text())
    assert config["method_args"]["temperature"] == 0.3
    assert config["recipe"]["lr"] == 0.002
    assert config["method_args"]["augment"]["degrees"] == 45
    assert config["versions"]["resampling"] == kernel.implementation()


def test_an_argument_may_be_named_as_a_method_of_dictionaries(tmp_path):
    """The parser marks such names, which must not reach the method so."""
    np.save("waves.npy", np.random.default_rng(0).random((40, 1, 1, 16), np.float32))
    words = ["--values", "real", "--encoder", "rnn", "--epochs", 1]
    assert run("train", "autoregressive", "--data", "waves.npy", *words) == 0
    config = json.loads((tmp_path / "runs/autoregressive/config.json").read_text())
    assert config["method_args"]["values"] == "real"


def test_resume_needs_the_same_settings(data, capsys):
    command = ("train", "simclr", "--data", data, "--epochs", 1)
    assert run(*command) == 0
    assert run(*command) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(*command, "--resume") == 0
    assert run(*command, "--resume", "--temperature", 0.7) == 2
    assert "was made with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--scratch"], "scratch", True),
        (["--no-scratch"], "scratch", False),
        (["--no_scratch"], "scratch", False),
        (["--scratch", "false"], "scratch", False),
        (["--scratch=False"], "scratch", False),
        (["--scratch", "true"], "scratch", True),
        ([], "scratch", True),
        (["--resume"], "resume", True),
        ([], "resume", False),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_booleans_are_switches(words, key, value, last, monkeypatch):
    """Catches `--resume` that takes the run folder behind it for its value."""
    arguments = {}

    def finetune(run, data, **options):
        arguments.update(options, run=run)
        raise UserError("seen")

    module = importlib.import_module("unlabeled.evaluation.finetune")
    finetune.__signature__ = inspect.signature(module.finetune)
    finetune.__doc__ = module.finetune.__doc__
    monkeypatch.setattr(module, "finetune", finetune)
    monkeypatch.setattr("unlabeled.runs.run.load", lambda run, encoder, **options: run)
    assert run("finetune", *([*words, "folder"] if last else ["folder", *words])) == 2
    assert arguments["run"] == "folder"
    assert arguments[key] is value


def test_switches_of_methods(data, tmp_path):
    """Catches a method's boolean that only knows `--predictor false`."""
    words = ("train", "byol", "--data", data, "--epochs", 1, "--batch-size", 64)
    assert run(*words, "--no-predictor", "--stop-gradient", "true") == 0
    config = json.loads((tmp_path / "runs/byol/config.json").read_text())
    assert config["method_args"]["predictor"] is False
    assert config["method_args"].get("stop_gradient", True) is True


HELPS = ["demo", "evaluate", "embed", "sample", "explore", "finetune", "compare", "study", "export"]
HELPS += ["classify", "predict"]
HELPS += ["words", "train byol", "train deep_belief_net", "train word2vec", "views simclr"]


@pytest.mark.parametrize("command", HELPS)
def test_help_is_plain(command, capsys):
    """Would catch doubled percent signs, underscores in flags, Python's types, doubled defaults."""
    assert run(*command.split(), "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for strange in ("%%", "None", "null", "{true,false}", "type:", "Literal", "<class"):
        assert strange not in text
    assert not re.findall(r"--[a-z]+_\w+", text)  # flags as users type them
    assert text.count("(default:") == len(re.findall(r"\(default:[^()]*\)", text))


@pytest.mark.parametrize(
    "command",
    [
        *("train simclr", "views simclr", "evaluate", "embed", "explore", "classify", "predict"),
        *("finetune", "compare"),
    ],
)
def test_what_opens_data_can_cut_images_and_names_addresses(command, capsys):
    """Catches a command that opens large images otherwise than the training did."""
    assert run(*command.split(), "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"--tile \w+ side (in pixels )?of the squares", shown)
    assert re.search(r"--max-pixels \w+ largest number of pixels of an image", shown)
    if command in ("train simclr", "embed", "explore", "predict"):
        for address in ("http(s)://", "s3://bucket/shards-{000..999}.tar", "gs://", "hf://"):
            assert address in shown


def test_resume_goes_on_to_more_epochs(data, capsys, tmp_path):
    """Catches a refusal, a schedule that is not said, and a last epoch that is not trained."""
    words = ("train", "simclr", "--data", data, "--batch-size", 64, "--logger", "none")
    assert run(*words, "--epochs", 1) == 0
    folder = tmp_path / "runs" / "simclr"
    before = (folder / "encoder.safetensors").read_bytes()
    record = json.loads((folder / "config.json").read_text())
    assert (record["devices"], record["nodes"]) == (1, 1)
    for field in ("devices", "nodes"):  # as earlier versions wrote it
        del record[field]
    (folder / "config.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert run(*words, "--epochs", 3, "--resume") == 0
    output = capsys.readouterr().err
    assert "goes on from epoch 1 to 3 instead of 1; schedules" in output
    assert "devices" not in output
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 1 + 3
    assert json.loads((folder / "config.json").read_text())["recipe"]["epochs"] == 3
    assert (folder / "encoder.safetensors").read_bytes() != before
    assert run(*words, "--epochs", 2, "--resume") == 2
    assert "has done 3 epochs, which cannot become 2" in capsys.readouterr().err
    record = json.loads((folder / "config.json").read_text()) | {"devices": 4}
    (folder / "config.json").write_text(json.dumps(record))
    assert run(*words, "--epochs", 3, "--resume") == 0
    output = capsys.readouterr().err
    assert "began with devices = 4 and goes on with 1; random views differ" in output
    assert json.loads((folder / "config.json").read_text())["devices"] == 1


def test_views_image(data, tmp_path):
    assert run("views", "simclr", "--data", data, "--out", "v/views.png") == 0
    with Image.open(tmp_path / "v" / "views.png") as image:
        assert image.width > 300
    assert run("views", "simclr", "--data", data, "--out", "v.gif") == 2


METHOD = '''
"""A method of the user's own."""
import torch
from torch import nn
from unlabeled import Method, Recipe


class Mean(Method):
    """Guess the mean brightness of each image.

    Args:
        hidden: width of the guesser.
        power: of the error.
    """

    recipe = Recipe(epochs=1, batch_size=32)

    def __init__(self, encoder, *, hidden: int = 8, power: float = 2.0) -> None:
        super().__init__(encoder)
        self.guess = nn.Sequential(nn.Linear(encoder.dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.power = power

    def views(self, batch):
        return batch.x, batch.x.mean((1, 2, 3))

    def loss(self, views):
        x, target = views
        guess = self.guess(self.encoder(x)).squeeze(1).float()
        return (guess - target).abs().pow(self.power).mean()
'''


def test_a_method_in_a_file_gets_everything(data, tmp_path, capsys):
    """Flags, help, training, resume and evaluation without touching the package."""
    (tmp_path / "mean.py").write_text(METHOD)
    assert run("train", "./mean.py:Mean", "--help") == 0
    text = capsys.readouterr().out
    assert "--hidden" in text
    assert "width of the guesser" in text
    command = ("train", "./mean.py:Mean", "--data", data, "--hidden", 5, "--epochs", 2)
    assert run(*command) == 0
    assert json.loads((tmp_path / "runs/mean/config.json").read_text())["method_args"] == {
        "hidden": 5
    }
    first = (tmp_path / "runs/mean/encoder.safetensors").read_bytes()
    assert run(*command, "--resume") == 0
    assert (tmp_path / "runs/mean/encoder.safetensors").read_bytes() == first
    assert run("evaluate", "runs/mean", "--json") == 0
    assert run("views", "./mean.py", "--data", data, "--out", "v.png") == 0
    assert (
        run("train", "./mean.py", "--data", data, "--hidden", 5, "--epochs", 2, "--out", "b") == 0
    )
    assert same_weights(tmp_path / "runs/mean", tmp_path / "b")


ENCODER = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, channels=1, width=6):
        super().__init__(nn.Conv2d(channels, width, 5, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def test_an_encoder_in_a_file(data, tmp_path, capsys):
    (tmp_path / "net.py").write_text(ENCODER)
    encoder = ("--encoder", "./net.py:Net")
    words = ("train", "simclr", "--data", data, "--epochs", 1, "--encoder_args", '{"width": 7}')
    assert run(*words, *encoder) == 0
    assert run("evaluate", "runs/simclr") == 2
    assert "./file.py:Class" in capsys.readouterr().err
    assert run("embed", "runs/simclr", data, "--out", "f.npy", *encoder) == 0
    assert np.load("f.npy").shape == (300, 7)


DATASET = """
import numpy as np
from unlabeled.data.dataset import Samples
from unlabeled.data.split import split

def load(location=None):
    x = np.random.default_rng(0).integers(0, 255, (60, 1, 16, 16)).astype(np.uint8)
    return split(Samples(x), "mine")
"""


def test_a_data_set_in_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(DATASET)
    assert run("train", "simclr", "--data", "./mine.py", "--epochs", 1, "--batch_size", 16) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fly"], "no command 'fly'"),
        (["train"], "name a method first"),
        (["train", "nope", "--data", "dsprites"], "no method 'nope'"),
        (["train", "./nope.py:Foo", "--data", "dsprites"], "nope.py does not exist"),
        (["train", "simclr"], "data"),
        (["train", "simclr", "--data", "nowhere"], "no data at 'nowhere'"),
        (["train", "simclr", "--data", "dsprites", "--epochs", "many"], "epochs"),
        (["train", "simclr", "--data", "dsprites", "--wings", "2"], "--wings"),
        (["train", "simclr", "--data", "dsprites", "--augment", "Fog"], "no augmentation 'Fog'"),
        (["train", "simclr", "--data", "dsprites", "--encoder", "big"], "no encoder 'big'"),
        (["evaluate", "nowhere"], "there is no run folder nowhere"),
        (["embed", "nowhere", "x", "--out", "y.npy"], "there is no run folder nowhere"),
        (["list", "things"], "things"),
        (["train", "simclr", "--data", "blank.npy", "--temperature", "0"], "above 0"),
        (["train", "simclr", "--data", "blank.npy", "--out", "blank.npy"], "is a file"),
        (["views", "supervised", "--data", "blank.npy", "--out", "v.png"], "learns from labels"),
        (["train", "./empty.py:Net", "--data", "blank.npy"], "not a method"),
        (["train", "simclr", "--data", "./empty.py"], "no function load()"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, says, capsys, tmp_path):
    np.save(tmp_path / "blank.npy", np.zeros((40, 8, 8), np.uint8))
    (tmp_path / "empty.py").write_text("class Net: pass")
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert len(captured.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["trian", "simclr"], "train"),
        (["train", "simcrl", "--data", "dsprites"], "simclr"),
        (["train", "simclr", "--data", "dsprite"], "dsprites"),
        (["train", "simclr", "--data", "dsprites", "--encoder", "resnet"], "resnet18"),
        (["train", "simclr", "--data", "dsprites", "--batchsize", "2"], "--batch-size"),
        (["train", "simclr", "--data", "dsprites", "--batch-sise=2"], "--batch-size"),
        (["train", "simclr", "--data", "dsprites", "--augment", "randomcrop"], "RandomCrop"),
        (["train", "simclr", "--data", "dsprites", "--objective", "nt-xnet"], "nt_xent"),
        (["train", "simclr", "--data", "dsprites", "--logger", "tensorbord"], "tensorboard"),
        (["train", "simclr", "--data", "dsprites", "--trainer.max_time_", "1"], "max_time"),
        (["study", "lecture"], "lectures"),
        (["export", "run", "--to", "onxx"], "onnx"),
        (["list", "method"], "methods"),
    ],
)
def test_a_misspelled_name_gets_a_suggestion(words, name, capsys):
    assert run(*words) == 2
    message = capsys.readouterr().err
    assert re.search(rf"did you mean [^?]*{name}\b[^?]*\?", message), message
    assert len(message) < 200


def test_suggestions():
    names = ["resnet18", "resnet34", "resnet50", "vit", "small"]
    assert suggest("Resnet-18", names).startswith("did you mean resnet18")
    assert suggest("resnet", names) == "did you mean resnet18, resnet34 or resnet50?"
    assert suggest("zzz", names) == f"choose one of {', '.join(names)}"
    assert suggest("zzz", names, "see the list") == "see the list"


def test_a_damaged_run_is_refused_and_nothing_of_it_is_run(trained, tmp_path, capsys):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(trained.path, folder)
    (folder / "encoder.safetensors").write_bytes(b"\x80\x04garbage")
    assert run("evaluate", folder) == 2
    assert "damaged" in capsys.readouterr().err
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    inputs = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps(inputs | {"encoder": f"{folder}/evil.py:Net"}))
    shutil.copy(trained.path / "encoder.safetensors", folder)
    assert run("evaluate", folder) == 2
    assert "not loaded automatically" in capsys.readouterr().err
    (folder / "encoder.json").write_text(json.dumps(inputs))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"data": f"{folder}/evil.py"}))
    assert run("evaluate", folder) == 2
    assert "loaded by a file" in capsys.readouterr().err


def test_a_run_may_be_the_folder_that_one_is_in(trained, data, monkeypatch, capsys):
    """Catches a folder beside `.`, which has no name: "PosixPath('.') has an empty name"."""
    monkeypatch.chdir(trained.path)
    assert run("classify", ".", "--data", data) == 0
    assert (trained.path.parent / "simclr-classifier" / "classifier.json").is_file()
    assert str(trained.path.parent / "simclr-classifier") in capsys.readouterr().out


def test_home_may_be_written_as_a_tilde(data, tmp_path, monkeypatch):
    """Catches a folder called ~ here: shells expand `--out ~/x` only, and Python nothing."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options = {"epochs": 1, "batch_size": 64, "progress": False, "logger": "none"}
    ul.train("simclr", data, out="~/a", **options)
    assert ul.load("~/a").path == tmp_path / "home" / "a"
    assert run("embed", "home/a", data, "--out=~/f.npy") == 0
    assert (tmp_path / "home" / "f.npy").is_file()
    assert not (tmp_path / "~").exists()


def test_commands_start_on_windows_with_python_3_10():
    """Catches a call of `os.set_blocking`, which Windows has from Python 3.12 on."""
    code = (
        "import os, signal, sys; del os.set_blocking; signal.set_wakeup_fd = lambda *_, **__: -1; "
        "from unlabeled.cli.main import main; sys.argv = ['unlabeled', '--version']; "
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet_prints_results_and_errors_only(data, capsys, tmp_path):
    """Catches a notice, progress of a training, advice, and a flag that reaches the method."""
    words = ("train", "simclr", "--data", "*.npz", "--epochs", 2, "--batch-size", 64)
    assert run(*words, "--out", "loud") == 0
    out, err = capsys.readouterr()
    assert "warning: '*.npz' matches 1 file" in err
    assert "epoch 2/2 · loss" in err
    assert "What to do next" in out
    assert run("--quiet", *words, "--out", "a") == 0
    assert capsys.readouterr() == ("a\n", "")
    assert run(*words, "--out", "b", "--quiet") == 0
    assert capsys.readouterr() == ("b\n", "")
    assert same_weights(tmp_path / "loud", tmp_path / "a")
    assert run("embed", "a", "*.npz", "--quiet", "--out", "f.csv") == 0
    assert capsys.readouterr() == ("f.csv: 300 rows of 128 features\n", "")
    assert run("embed", "a", "nothing", "--quiet", "--out", "f.csv") == 2
    assert "there is no data at 'nothing'" in capsys.readouterr().err
