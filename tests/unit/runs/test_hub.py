"""Encoders in the layout of the Hugging Face Hub: what goes out, comes in, and is said."""

import base64
import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from servers import TOKEN, Handler, serving
from torch import nn

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.encoders.base import build, checksum
from unlabeled.encoders.timm_weights import to_timm
from unlabeled.errors import Notice, UserError
from unlabeled.modality import Images, to_json
from unlabeled.runs import card, published
from unlabeled.runs.classifier import LinearClassifier
from unlabeled.runs.run import Run
from unlabeled.utils.files import write_json

SECRET = "jane-doe-ward7"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY_VIT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "patch_size": 8, "image_size": 32, "hidden_act": "relu",
}  # fmt: skip


def make_run(folder, name="small", channels=1, size=(32, 32), classes=0, **args):
    """A run whose config, evaluation and classifier have all that is private."""
    torch.manual_seed(1)
    encoder = build(name, channels, size, **args).eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    if name.startswith("hf:"):
        args = encoder.rebuild[1]
    inputs = {
        "encoder": name,
        "args": args,
        "modality": to_json(Images(channels, size)),
        "dim": encoder.dim,
    }
    path = f"/home/{SECRET}/photos"
    config = {
        "method": "simclr",
        "method_args": {"temperature": 0.2, "teacher": SECRET.replace("-", "_"), "x": path},
        "data": path,
        "labels_from": f"{path}/labels.csv:{SECRET}",
        "groups_from": path,
        "test": None,
        "encoder": name,
        "encoder_args": {"width": 4, "folder": path},
        "init": f"./{SECRET}.py:Net",
        "recipe": {"epochs": 7, "optimizer": "adamw", "lr": 0.01},
        "seed": 3,
        "images": 1200,
        "versions": {"unlabeled": "0.2.0", "platform": SECRET, "torch": "2.13.0+cpu"},
        "command": f"unlabeled train simclr --data {path} --epochs 7 --lr=0.01 --out '{SECRET} a' "
        f"--labels-from={path} --optimizer adamw",
        "settings": {"logger": SECRET, "trainer": {"default_root_dir": path}},
        "hardware": [SECRET],
        "in_memory": [SECRET],
        "git": {f"./{SECRET}.py": {"commit": COMMIT, "dirty": True}},
        "slurm_job": {"host": SECRET},
        "resumed": [{"command": path}],
    }
    folder.mkdir(exist_ok=True)
    write_json(
        folder / "evaluation.json",
        {
            "data": path,
            "test_data": path,
            "target": SECRET.replace("-", "_"),
            "n_train": 900,
            "n_test": 300,
            "metrics": {
                "linear_probe": {"value": 0.8125, "low": 0.75, "high": 0.875},
                SECRET: {"value": 1, "low": 0, "high": 1},
            },
            "per_class": [{"name": SECRET, "n": 3}],
            "baselines": {"raw": {"linear_probe": {"value": 0.5, "low": 0.4, "high": 0.6}}},
            "run": SECRET,
            "config": config,
        },
    )
    classifier = None
    if classes:
        weight, bias = torch.randn(classes, encoder.dim), torch.randn(classes)
        figures = {"data": path, "labels": 90, "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
        names = [f"kind {i}" for i in range(classes)]
        classifier = LinearClassifier(weight, bias, names, 1.5, figures).eval()
    run = Run(folder, encoder, config, inputs, classifier=classifier)
    run.encoder.to("cpu")
    return run


def features(run, channels=1, size=(32, 32)):
    x = np.random.default_rng(0).integers(0, 256, (5, *size, channels), dtype=np.uint8)
    return run.embed(x[..., 0] if channels == 1 else x)


KINDS = {
    "small": {"width": 2},
    "vit_tiny": {"channels": 4, "patch": 8, "registers": 2, "layer_scale": 0.1},
    "resnet18": {"size": (96, 96), "channels": 3},
    "hf:vit": {"channels": 3, **TINY_VIT},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_gives_the_same_features_and_states_what_was_measured(name, tmp_path):
    """Catches weights under wrong names, lost arguments, a figure without its interval."""
    if name.startswith("hf:"):
        pytest.importorskip("transformers", reason="pip install 'unlabeled[hf]'")
    run = make_run(tmp_path / "run", name, **KINDS[name])
    shape = {"channels": run.modality.channels, "size": run.size}
    folder = run.save_pretrained(tmp_path / "out")
    again = ul.load(folder)
    np.testing.assert_allclose(features(again, **shape), features(run, **shape), atol=1e-5)
    assert {p.name for p in folder.iterdir()} == {
        *("config.json", "model.safetensors", "preprocessor_config.json", "README.md")
    }
    text = (folder / "README.md").read_text()
    assert "| `linear_probe` | 0.8125 [0.75, 0.875] | 0.5 [0.4, 0.6] |" in text
    assert "900 to fit probes, 300 to test" in text
    assert "unlabeled train simclr --data DATA --epochs 7 --lr=0.01" in text
    third = again.save_pretrained(tmp_path / "third")  # what was read is known as well as before
    assert (third / "config.json").read_text() == (folder / "config.json").read_text()
    run.save_pretrained(folder)  # over what it wrote itself


def test_nothing_private_goes_out(tmp_path):
    """Catches any field of the record that is copied without being known to be harmless."""
    folder = make_run(tmp_path / "run", width=2, classes=3).save_pretrained(tmp_path / "out")
    for path in folder.iterdir():
        content = path.read_bytes().decode(errors="ignore")
        for word in (SECRET, SECRET.replace("-", "_"), COMMIT, "/home", "photos", "labels.csv"):
            assert word not in content, (path.name, word)
    run = ul.load(folder)
    assert run.config["command"] == (
        "unlabeled train simclr --data DATA --epochs 7 --lr=0.01 --out OUT "
        "--labels-from=LABELS_FROM --optimizer adamw"
    )
    assert run.config["init"] == "own weights"
    assert run.config["evaluation"]["metrics"]["linear_probe"]["high"] == 0.875
    assert run.classifier.figures["accuracy"]["value"] == 0.5


def test_figures_of_other_weights_are_not_published(tmp_path):
    """Catches a card with the accuracy of before a run was resumed for more epochs."""
    run = make_run(tmp_path / "run", width=2)
    result = json.loads((run.path / "evaluation.json").read_text())
    write_json(run.path / "evaluation.json", result | {"weights": checksum(run.encoder)})
    assert "0.8125" in (run.save_pretrained(tmp_path / "a") / "README.md").read_text()
    with torch.no_grad():
        next(run.encoder.parameters()).add_(0.01)
    with pytest.warns(Notice, match="of other weights"):
        run.save_pretrained(tmp_path / "b")
    assert "0.8125" not in (tmp_path / "b" / "README.md").read_text()


def test_data_sets_of_the_library_are_named(tmp_path):
    run = make_run(tmp_path / "run", width=2)
    run.config["data"] = "dsprites"
    run.config["command"] = "unlabeled train simclr --data dsprites --out x"
    folder = run.save_pretrained(tmp_path / "out")
    text = (folder / "README.md").read_text()
    assert "--data dsprites --out OUT" in text
    assert "1,200 images of the data set `dsprites`" in text


def test_a_license_is_stated_only_if_it_was_given(tmp_path, capsys):
    run = make_run(tmp_path / "run", width=2)
    run.save()
    write_json(run.path / "config.json", run.config)
    assert main(["export", str(run.path), "--to", "hf", "--out", str(tmp_path / "no")]) == 0
    without = (tmp_path / "no" / "README.md").read_text()
    assert not re.search(r"^license:", without, re.MULTILINE)
    assert "has stated none" in without
    words = ["export", str(run.path), "--to", "hf", "--license", "cc-by-4.0"]
    assert main(words) == 0
    assert re.search(
        r"^license: cc-by-4.0$", (run.path / "hf" / "README.md").read_text(), re.MULTILINE
    )
    assert ul.load(run.path / "hf").dim == 16
    capsys.readouterr()
    assert main(["export", str(run.path), "--to", "onnx", "--license", "mit"]) == 2
    assert "--license is for --to hf" in capsys.readouterr().err
    with pytest.raises(UserError, match="give an identifier"):
        run.save_pretrained(tmp_path / "x", "mit\ninference: true")


def test_a_classifier_goes_with_its_encoder(tmp_path):
    run = make_run(tmp_path / "run", width=2, classes=3)
    again = ul.load(run.save_pretrained(tmp_path / "out"))
    x = np.random.default_rng(0).integers(0, 256, (9, 32, 32), dtype=np.uint8)
    np.testing.assert_allclose(again.predict_proba(x), run.predict_proba(x), atol=1e-5)
    assert again.classifier.classes == ["kind 0", "kind 1", "kind 2"]
    assert run.classifier.figures["data"].endswith("photos")  # the run's own are as before


def test_weights_have_the_names_of_timm_and_transformers(tmp_path):
    """Catches names of our own, and a configuration that describes another network."""
    run = make_run(tmp_path / "vit", "vit_tiny", 1, (48, 64), pool="mean")
    folder = run.save_pretrained(tmp_path / "out")
    stored = load_file(folder / "model.safetensors")
    for key, value in to_timm(run.encoder).items():
        torch.testing.assert_close(stored[key], value)
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "vit_tiny_patch16_224"
    assert config["model_args"] == {
        "img_size": [48, 64], "patch_size": 6, "init_values": None, "reg_tokens": 0,
        "no_embed_class": False, "global_pool": "avg", "in_chans": 1,
    }  # fmt: skip
    assert config["pretrained_cfg"]["input_size"] == [1, 48, 64]
    assert config["pretrained_cfg"]["mean"] == [0.0]
    large = make_run(tmp_path / "large", "resnet18", 1, (80, 80))
    stored = load_file(large.save_pretrained(tmp_path / "resnet") / "model.safetensors")
    names = {"conv1.weight", "layer1.0.conv1.weight", "layer2.0.downsample.1.bias"}
    assert names | {"layer4.1.bn2.running_var"} <= set(stored)
    small = make_run(tmp_path / "small", "resnet18", 3, (32, 32), width=0.125)
    folder = small.save_pretrained(tmp_path / "cifar")
    assert "architecture" not in json.loads((folder / "config.json").read_text())
    assert "Neither timm nor transformers" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny", {"channels": 1, "size": (48, 64)}),
        ("vit_tiny", {"channels": 4, "size": (32, 32), "registers": 2, "layer_scale": 0.1}),
        ("vit_tiny", {"channels": 3, "size": (32, 32), "pool": "mean", "positions": "sincos"}),
        ("resnet18", {"channels": 1, "size": (96, 96)}),
        ("timm:test_resnet", {"channels": 3, "size": (48, 48)}),
        ("timm:test_vit", {"channels": 3, "size": (64, 64)}),
    ],
)
def test_timm_loads_the_folder(name, options, tmp_path):
    """Catches an architecture or argument of timm that is another, and positions of registers."""
    timm = pytest.importorskip("timm", reason="pip install 'unlabeled[timm]'")
    run = make_run(tmp_path / "run", name, **options)
    folder = run.save_pretrained(tmp_path / "out")
    net = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = torch.rand(2, run.modality.channels, *run.size)
    with torch.no_grad():
        torch.testing.assert_close(net(x), run.encoder(x), atol=1e-5, rtol=1e-5)


def test_transformers_loads_the_folder_with_its_normalization(tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install 'unlabeled[hf]'")
    run = make_run(tmp_path / "run", "hf:vit", 3, **TINY_VIT)
    run.encoder.mean += torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    run.encoder.std *= 0.5
    folder = run.save_pretrained(tmp_path / "out")
    net = transformers.AutoModel.from_pretrained(folder).eval()
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(settings[f"image_{k}"])[:, None, None] for k in ("mean", "std"))
    assert settings["rescale_factor"] == 1 / 255
    with torch.no_grad():
        theirs = net((x - mean) / std).pooler_output
        torch.testing.assert_close(theirs, run.encoder(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ul.load(folder).encoder(x), run.encoder(x))


def test_what_cannot_be_published_is_said(tmp_path):
    run = make_run(tmp_path / "run", width=2)
    run.inputs = run.inputs | {"encoder": f"./{SECRET}.py:Net"}
    with pytest.raises(UserError, match="code of your own"):
        run.save_pretrained(tmp_path / "out")
    run = make_run(tmp_path / "run", width=2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        run.save_pretrained(tmp_path / "full")
    with pytest.raises(UserError, match="not empty"):  # the run folder
        run.save_pretrained(run.path)
    by_name = ul.load("small", data=np.zeros((9, 16, 16), np.uint8))
    with pytest.raises(UserError, match="not trained here"):
        by_name.save_pretrained(tmp_path / "out")
    for name in ("encoder", "me/encoder@main", "../x/y", "a/b/c"):
        with pytest.raises(UserError, match="give OWNER/NAME"):
            run.push_to_hub(name)
    assert not (tmp_path / "out").exists()


class Bomb:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


def attacks(folder: Path, tmp_path: Path):
    """Ways in which a stranger's folder may be wrong, and what is said."""
    config = json.loads((folder / "config.json").read_text())

    def change(**fields):
        ours = config["unlabeled"]
        encoder = ours["encoder"] | fields.pop("encoder", {})
        write_json(
            folder / "config.json", config | {"unlabeled": ours | fields | {"encoder": encoder}}
        )

    yield lambda: change(encoder={"encoder": "./evil.py:Net"}), "unknown here"
    yield lambda: change(encoder={"encoder": "hf:owner/name"}), "unknown here"
    yield lambda: change(encoder={"args": {"width": 100_000}}), "do not fit"
    yield lambda: change(encoder={"dim": 17}), "do not fit|gives"
    yield lambda: change(encoder={"modality": {"kind": "images"}}), "damaged"
    yield lambda: change(record=None), "no record"
    secret = tmp_path / "secret.safetensors"
    (folder / "model.safetensors").rename(secret)
    yield lambda: change(), "no model.safetensors"
    yield lambda: (folder / "model.safetensors").symlink_to(secret), "leads out"
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    yield (
        lambda: [
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors").write_bytes(bomb),
        ],
        "damaged",
    )


def test_a_strangers_folder_is_checked(tmp_path):
    """Catches a check of run folders that this layout goes around."""
    folder = make_run(tmp_path / "run", width=2).save_pretrained(tmp_path / "out")
    for attack, message in attacks(folder, tmp_path):
        attack()
        with pytest.raises(UserError, match=message):
            ul.load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_strangers_record_names_no_data_to_open(tmp_path):
    """Catches `evaluate` without `--data`, which would open what the folder names."""
    folder = make_run(tmp_path / "run", width=2).save_pretrained(tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    record = config["unlabeled"]["record"]
    record |= {"data": "s3://evil/x.tar", "test": "/etc/passwd", "labels_from": "/etc/passwd"}
    record |= {"command": "unlabeled `rm -rf /` <script>", "method": "<script>"}
    write_json(folder / "config.json", config)
    run = ul.load(folder)
    assert (run.data, run.config["test"], run.config.get("labels_from")) == (None, None, None)
    text = run.save_pretrained(tmp_path / "again") / "README.md"
    assert "script" not in text.read_text()


def test_a_value_of_the_command_is_kept_only_if_it_is_known():
    record = {"method": "simclr", "data": None, "recipe": {"optimizer": "lars"}}
    command = (
        "unlabeled train simclr --data wards --optimizer lars --epochs 9 --encoder-args.width 64 "
        "--augment jane '--trainer={a: b}' doe"
    )
    shown = card.public_command(command, record)
    assert shown == (
        "unlabeled train simclr --data DATA --optimizer lars --epochs 9 --encoder-args.width 64 "
        "--augment AUGMENT --trainer=TRAINER TRAINER"
    )


class HubServer(Handler):
    """The calls of the Hub that models need; a folder OWNER/NAME/REVISION is a branch."""

    def do_HEAD(self):
        self.respond()

    def do_GET(self):
        self.respond()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "no"}, 401)
        root = Path(self.directory)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            (root / name / "main").mkdir(parents=True, exist_ok=True)
            return self.answer({"url": f"http://{self.headers['Host']}/{name}", "id": name})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        action = re.fullmatch(r"/api/models/(\w+/\w+)/(preupload|commit)/(\w+)", self.path)
        name, what, revision = action.groups()
        if what == "preupload":
            files = json.loads(body)["files"]
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            return self.answer({"files": [{"path": f["path"], **mode} for f in files]})
        folder = root / name / revision
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                folder.mkdir(exist_ok=True)
                (folder / line["value"]["path"]).write_bytes(
                    base64.b64decode(line["value"]["content"])
                )
            elif line["key"] == "deletedFile":
                (folder / line["value"]["path"]).unlink()
        address = f"http://{self.headers['Host']}/{name}/commit/{'1' * 40}"
        return self.answer({"commitUrl": address, "commitOid": "1" * 40, "success": True})

    def respond(self):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        match = re.fullmatch(r"(/api/models)?/(\w+/\w+)/(revision|resolve|tree)/(\w+)/?(.*)", path)
        plain = re.fullmatch(r"/api/models/(\w+/\w+)", path)
        if not match and not plain:
            return self.answer({"error": path}, 404)
        name, revision, file = (match[2], match[4], match[5]) if match else (plain[1], "main", "")
        repository = Path(self.directory) / name
        if len(revision) == 40:
            revision = (repository / revision).read_text()
        folder = repository / revision
        if not repository.is_dir():
            return self.answer({"error": "no"}, 401, "RepoNotFound")
        if not folder.is_dir():
            return self.answer({"error": "no"}, 404, "RevisionNotFound")
        sha = (revision.encode().hex() + "0" * 40)[:40]
        if not (repository / sha).exists():
            (repository / sha).write_text(revision)
        if match and match[3] == "tree":
            found = ((p.name, p.stat().st_size) for p in sorted(folder.iterdir()))
            return self.answer(
                [{"type": "file", "path": n, "size": size, "oid": n} for n, size in found]
            )
        if not file:
            files = [{"rfilename": p.name} for p in sorted(folder.iterdir())]
            return self.answer({"id": name, "sha": sha, "siblings": files})
        if not (folder / file).is_file():
            return self.answer({"error": "no"}, 404, "EntryNotFound")
        content = (folder / file).read_bytes()
        return self.answer(content, headers={"X-Repo-Commit": sha, "ETag": f'"{hash(content)}"'})

    def answer(self, content, status=200, error="", headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"X-Error-Code": error, **(headers or {})}.items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub of this machine, with nothing in its cache and no token."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="pip install 'unlabeled[hub]'"
    )
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(folder, kind=HubServer) as running:
        for name, value in {
            "ENDPOINT": running.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{running.url}/{{repo_id}}/resolve/{{revision}}/"
            "{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_STORED_TOKENS_PATH": str(tmp_path / "tokens"),
        }.items():
            monkeypatch.setattr(constants, name, value)  # of the environment, at import
        running.folder = folder
        yield running


def test_a_run_goes_to_the_hub_and_comes_back(server, tmp_path, monkeypatch):
    """Catches a file that is left out, another branch, and reports written into the cache."""
    run = make_run(tmp_path / "run", width=2, classes=3)
    with pytest.raises(UserError, match="needs a token to write: set HF_TOKEN"):
        run.push_to_hub("me/encoder")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert run.push_to_hub("me/encoder", "mit", private=True) == f"{server.url}/me/encoder"
    stored = server.folder / "me" / "encoder" / "main"
    expected = {"README.md", "classifier.json", "classifier.safetensors", "config.json"}
    expected |= {"model.safetensors", "preprocessor_config.json"}
    assert {p.name for p in stored.iterdir()} == expected
    assert "hf:me/encoder" in (stored / "README.md").read_text()
    again = ul.load("hf:me/encoder")
    np.testing.assert_allclose(features(again), features(run), atol=1e-5)
    assert again.predict(np.zeros((2, 32, 32), np.uint8)).shape == (2,)
    assert (str(again.path), again.source) == ("runs/hf-me-encoder", "hf:me/encoder")
    with pytest.raises(UserError, match="not trained here on any data; give --data"):
        ul.evaluate(again)
    with pytest.raises(UserError, match="omit --size"):
        ul.load("hf:me/encoder", size=64)


def test_a_classifier_of_before_does_not_stay_at_the_hub(server, tmp_path, monkeypatch):
    """Catches a new encoder that answers with the classifier of the one that it replaces."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    make_run(tmp_path / "a", width=2, classes=3).push_to_hub("me/encoder")
    (server.folder / "me" / "encoder" / "main" / "notes.txt").write_text("the author's own")
    make_run(tmp_path / "b", width=2).push_to_hub("me/encoder")
    assert ul.load("hf:me/encoder").classifier is None
    names = {path.name for path in (server.folder / "me" / "encoder" / "main").iterdir()}
    assert {"notes.txt", "model.safetensors", "config.json"} <= names


def test_a_revision_is_pinned(server, tmp_path, monkeypatch):
    """Catches `@REVISION` that is ignored."""
    old, new = (make_run(tmp_path / name, width=width) for name, width in (("a", 2), ("b", 3)))
    old.save_pretrained(server.folder / "me" / "net" / "v1")
    new.save_pretrained(server.folder / "me" / "net" / "main")
    assert ul.load("hf:me/net@v1").dim == old.dim == 16
    assert ul.load("hf:me/net").dim == new.dim == 24
    with pytest.raises(UserError, match=r"'hf:me/net@v2' has no such revision"):
        ul.load("hf:me/net@v2")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert ul.load("hf:me/net@v1").dim == 16  # of the cache


def test_weights_of_transformers_are_pinned_too(server, tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install 'unlabeled[hf]'")
    for seed, revision in ((0, "v1"), (1, "main")):
        torch.manual_seed(seed)
        config = transformers.ViTConfig(**TINY_VIT)
        net = transformers.ViTModel(config)
        net.save_pretrained(server.folder / "me" / "vit" / revision)
    run = ul.load("hf:me/vit@v1")
    net = transformers.ViTModel.from_pretrained(server.folder / "me" / "vit" / "v1").eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(run.encoder.cpu()(x), net(x).pooler_output)
    assert run.source == "hf:me/vit@v1"


def test_only_known_files_of_a_repository_are_downloaded(server, tmp_path):
    """Catches a download of what only pickle can read."""
    folder = server.folder / "me" / "net" / "main"
    make_run(tmp_path / "run", width=2).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    (folder / "modeling.py").write_text("raise SystemExit")
    assert ul.load("hf:me/net").dim == 16
    assert {Path(name).name for name in server.asked} & {
        "pytorch_model.bin",
        "modeling.py",
    } == set()


def test_failures_of_the_hub_are_one_sentence(server, tmp_path, monkeypatch, capsys):
    (server.folder / "me" / "empty" / "main").mkdir(parents=True)
    np.save("x.npy", np.zeros((4, 32, 32), np.uint8))
    for name, says in {
        "hf:me/nothing": "there is no 'hf:me/nothing' on the hub, or it is private",
        "hf:me/empty": "holds no config.json",
    }.items():
        assert main(["embed", name, "x.npy", "--out", "z.npy"]) == 2
        message = capsys.readouterr().err
        assert says in message
        assert message.count("\n") == 1
    run = make_run(tmp_path / "run", width=2)
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(UserError, match=r"refuses 'hf:me/x' \(status 401\)|or it is private"):
        run.push_to_hub("me/x")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="not connected to the hub and has no copy"):
        ul.load("hf:me/nothing")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for act in (lambda: ul.load("hf:me/nothing"), lambda: run.push_to_hub("me/x")):
        with pytest.raises(UserError, match=r"pip install 'unlabeled\[hub\]'"):
            act()


def test_weights_of_the_package_answer_and_say_what_they_are(tmp_path, monkeypatch, capsys):
    """Catches weights that are not stored, figures without command or interval, a silent name."""
    monkeypatch.chdir(tmp_path)
    assert main(["list", "weights"]) == 0
    listed = capsys.readouterr().out
    names = published.packaged()
    assert set(names) >= {"unlabeled:simclr-dsprites"}
    for name in names:
        assert name in listed
        run = ul.load(name)
        assert run.embed(np.zeros((2, *run.size), np.uint8)).shape == (2, run.dim)
        assert run.config["command"].startswith("unlabeled train ")
        probe = run.config["evaluation"]["metrics"]["linear_probe"]
        assert probe["low"] <= probe["value"] <= probe["high"]
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"no weights 'unlabeled:simclr-dsprite' .* did you mean"):
        ul.load("unlabeled:simclr-dsprite")
    files = [path for path in published.PACKAGED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    assert {path.name for path in files} <= set(published.FILES)


def test_weights_of_the_package_know_shapes(sprites):
    """Catches weights that are random, or of another preprocessing."""
    x, shapes = sprites
    z = ul.load("unlabeled:simclr-dsprites").embed(x)
    z = nn.functional.normalize(torch.from_numpy(z), dim=1).numpy()
    train, test = slice(0, 400), slice(400, 600)
    nearest = (z[test] @ z[train].T).argmax(1)
    assert (shapes[train][nearest] == shapes[test]).mean() > 0.9


def test_half_precision_is_the_nearest_of_each_weight(tmp_path):
    run = make_run(tmp_path / "run", width=2)
    record = card.public_record(run.config, None)
    one = published.Published(run.encoder, run.inputs, record)
    folder = published.write_folder(tmp_path / "half", one, "half", None, torch.float16)
    stored = load_file(folder / "model.safetensors")
    assert {v.dtype for k, v in stored.items() if v.is_floating_point()} == {torch.float16}
    got = ul.load(folder).encoder.state_dict()
    for key, value in run.encoder.state_dict().items():
        torch.testing.assert_close(got[key].cpu(), value.half().to(value.dtype), atol=0, rtol=0)


def test_a_plain_folder_of_timm_is_no_folder_of_ours(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", {"architecture": "resnet18"})
    with pytest.raises(UserError, match="not a finished run"):
        ul.load(tmp_path)
