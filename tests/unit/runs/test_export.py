"""Exported files run without this library and give the run's features."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.special import softmax
from torch import nn

from unlabeled.cli.main import main
from unlabeled.data.readers import bpe
from unlabeled.encoders.base import build
from unlabeled.encoders.text import TextEncoder
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.classify import fit
from unlabeled.modality import Audio, Images, Text, to_json
from unlabeled.runs.classifier import LinearClassifier
from unlabeled.runs.export import export
from unlabeled.runs.run import Run, load

ABSENT = "pip install 'unlabeled[export]'"


def make_run(path, name="small", channels=1, size=(32, 32), span=(0.0, 1.0), **args):
    """A run of random weights, whose BatchNorm has statistics that matter."""
    encoder = name if isinstance(name, nn.Module) else build(name, channels, size, **args)
    torch.manual_seed(0)
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
    is_text = isinstance(encoder, TextEncoder)
    x = torch.rand(2, channels, *size)
    inputs = {
        "encoder": name if isinstance(name, str) else type(name).__name__,
        "args": args,
        "modality": to_json(
            Text(encoder.vocabulary, size[1], size[0])
            if is_text
            else Images(channels, size, span, "uint8" if span == (0.0, 1.0) else "float32")
        ),
        "dim": encoder(x.long() if is_text else x).shape[1],
    }
    run = Run(path, encoder, {"method": "simclr", "data": None}, inputs)
    run.encoder.to("cpu")
    return run


def images(run, n, dtype=np.uint8):
    shape = (n, run.modality.channels, *run.size)
    draw = np.random.default_rng(n)
    low, high = run.modality.value_range
    noise = draw.uniform(low, high, shape).astype(np.float32)
    return draw.integers(0, 256, shape, dtype=np.uint8) if dtype == np.uint8 else noise


RUNS = {
    "small, gray": {"channels": 1},
    "small, float": {"channels": 3, "span": (-2.0, 3.5)},
    "lenet, color": {"name": "lenet", "channels": 3},
    "resnet18": {"name": "resnet18", "channels": 3, "width": 0.125},
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("n", [1, 7])
def test_torchscript_gives_the_runs_features(kind, n, tmp_path, jit_load):
    run = make_run(tmp_path, **RUNS[kind])
    dtype = np.uint8 if run.modality.value_range == (0, 1) else np.float32
    x = images(run, n, dtype)
    network = jit_load(export(run, "torchscript"))
    np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), run.embed(x), atol=1e-5)


@pytest.mark.parametrize("kind", RUNS)
def test_onnx_gives_the_runs_features(kind, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason=ABSENT)
    pytest.importorskip("onnxscript", reason=ABSENT)
    run = make_run(tmp_path, **RUNS[kind])
    path = export(run, "onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    dtype = np.uint8 if run.modality.value_range == (0, 1) else np.float32
    for n in (1, 5):
        x = images(run, n, dtype)
        (features,) = session.run(None, {"images": x})
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, run.embed(x), atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert about["dim"] == str(run.dim)
    assert json.loads(about["size"]) == [32, 32]
    assert about["input"].startswith("uint8" if dtype == np.uint8 else "float32")
    assert str(tmp_path).encode() not in path.read_bytes()
    assert b"/site-packages/" not in path.read_bytes()


def test_torchscript_takes_float_images_too_and_tells_what_it_is(tmp_path, jit_load):
    run = make_run(tmp_path)
    extra = {"metadata.json": ""}
    network = jit_load(export(run, "torchscript", tmp_path / "new" / "net.pt"), extra)
    x = images(run, 3, np.float32)
    np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), run.embed(x), atol=1e-5)
    about = json.loads(extra["metadata.json"])
    assert about["encoder"] == "small"
    assert about["method"] == "simclr"


@pytest.mark.parametrize(
    ("name", "args"),
    [("vit", {"width": 24, "depth": 1}), ("vit_tiny", {}), ("small", {}), ("wave", {"width": 8})],
)
def test_torchscript_takes_the_sizes_that_the_encoder_takes(name, args, tmp_path, jit_load):
    """A trace that holds the positions of its own size fails within at any other."""
    audio = name == "wave"
    run = make_run(tmp_path, name, 1, (1, 4000) if audio else (32, 32), **args)
    if audio:
        run.modality = Audio(8000, 4000)
    extra = {"metadata.json": ""}
    network = jit_load(export(run, "torchscript"), extra)
    for size in [(1, 4000), (1, 5001)] if audio else [(32, 32), (40, 56), (25, 25)]:
        x = torch.rand(3, 1, *size)
        with torch.no_grad():
            torch.testing.assert_close(network(x), run.encoder(x), atol=1e-5, rtol=1e-5)
    assert json.loads(extra["metadata.json"])["sizes"] == "any"
    with pytest.raises(torch.jit.Error, match=r"shape \(B, 1, any, any\), not \[3, 2, 32, 32\]"):
        network(torch.rand(3, 2, 32, 32))


@pytest.mark.parametrize("name", ["lenet", "dense", "text_transformer", "text_lstm"])
def test_torchscript_of_one_size_says_which(name, tmp_path, jit_load):
    """A raw error of a matrix product says nothing of the input."""
    text = name.startswith("text")
    run = make_run(tmp_path, name, 1, (1, 16) if text else (32, 32))
    extra = {"metadata.json": ""}
    network = jit_load(export(run, "torchscript"), extra)
    x = torch.zeros(2, 12, dtype=torch.long) if text else torch.zeros(2, 1, 40, 40)
    outputs = r"tokens of shape \(B, 16\), not \[2, 12\]"
    if not text:
        outputs = r"images of shape \(B, 1, 32, 32\), not \[2, 1, 40, 40\]"
    with pytest.raises(torch.jit.Error, match=outputs):
        network(x)
    about = json.loads(extra["metadata.json"])
    assert (about["sizes"], about["size"]) == ("only this", "[1, 16]" if text else "[32, 32]")


def test_onnx_of_texts_takes_tokens_and_the_tokenizer_stands_beside_it(tmp_path, capsys):
    """Not images of black and white; its features are those of the texts themselves."""
    onnxruntime = pytest.importorskip("onnxruntime", reason=ABSENT)
    pytest.importorskip("onnxscript", reason=ABSENT)
    pytest.importorskip("tokenizers")
    texts = ["the cat sat on the mat", "a dog"]
    tokenizer = bpe.train_tokenizer(texts * 3, 300)
    args = {"vocabulary": tokenizer.get_vocab_size(), "width": 16, "layers": 1, "heads": 2}
    run = make_run(tmp_path / "run", "text_transformer", 1, (1, 12), **args)
    run.path.mkdir()
    (run.path / "tokenizer.json").write_text(tokenizer.to_str())
    run.save()
    (run.path / "config.json").write_text(json.dumps({"method": "masked_lm", "data": None}))
    run = load(run.path)
    out = tmp_path / "away" / "text.onnx"
    assert main(["export", str(run.path), "--to", "onnx", "--out", str(out)]) == 0
    assert f"{out.parent / 'tokenizer.json'}: the tokenizer" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (wanted,) = session.get_inputs()
    assert (wanted.name, wanted.type, wanted.shape) == ("tokens", "tensor(int64)", ["batch", 12])
    about = session.get_modelmeta().custom_metadata_map
    assert about["vocabulary"] == str(args["vocabulary"])
    assert (about["length"], about["padding"]) == ("12", "0")
    assert "black" not in str(about)
    known = bpe.open_tokenizer(out.with_name("tokenizer.json"))
    tokens = np.zeros((2, 12), np.int64)
    for row, ids in zip(tokens, bpe.encode(known, texts), strict=True):
        ended = [*ids[:11], int(about["end"])]
        row[: len(ended)] = ended
    (features,) = session.run(None, {"tokens": tokens})
    np.testing.assert_allclose(features, run.embed(texts), atol=1e-5)
    (out.parent / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="another tokenizer"):
        export(run, "onnx", out)


def test_onnx_of_audio_takes_waves_at_a_rate(tmp_path):
    """Its values are -1 to 1, though its range says that black is 0."""
    onnxruntime = pytest.importorskip("onnxruntime", reason=ABSENT)
    pytest.importorskip("onnxscript", reason=ABSENT)
    run = make_run(tmp_path, "wave", 1, (1, 2000), width=8, context=8)
    run.modality = Audio(8000, 2000)
    session = onnxruntime.InferenceSession(export(run, "onnx"), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).uniform(-1, 1, (3, 1, 1, 2000)).astype(np.float32)
    (features,) = session.run(None, {"audio": x})
    with torch.no_grad():
        expected = run.encoder(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert (about["input_name"], about["sample_rate"]) == ("audio", "8000")


@pytest.fixture
def jit_load():
    def load(path, extra=None):
        with pytest.warns(DeprecationWarning, match="torch.jit.load"):
            return torch.jit.load(path, _extra_files=extra or {})

    return load


@pytest.mark.parametrize("size", [(32, 32), (72, 72)])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnets_have_the_names_of_torchvision_and_timm(name, size, tmp_path):
    path = export(make_run(tmp_path, name, 3, size, width=0.125), "safetensors")
    assert path.name == f"{name}.safetensors"
    with safe_open(path, framework="pt") as file:
        keys, about = set(file.keys()), file.metadata()
    assert {"conv1.weight", "bn1.running_var", "layer4.1.conv2.weight"} <= keys
    assert ("layer1.0.downsample.0.weight" in keys) == (name == "resnet50")
    assert ("layer3.5.bn3.bias" in keys) == (name == "resnet50")
    assert "layer2.0.downsample.1.running_mean" in keys
    assert ("3x3" in about["stem"]) == (size == (32, 32))
    assert str(tmp_path) not in str(about)


@pytest.mark.parametrize("size", [(32, 32), (72, 72)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_load_into_timm(name, size, tmp_path):
    timm = pytest.importorskip("timm", reason="pip install 'unlabeled[timm]'")
    from safetensors.torch import load_file

    run = make_run(tmp_path, name, 1, size)
    net = timm.create_model(name, num_classes=0, in_chans=1).eval()
    if max(size) <= 64:
        net.conv1 = nn.Conv2d(1, 64, 3, 1, 1, bias=False)
        net.maxpool = nn.Identity()
    net.load_state_dict(load_file(export(run, "safetensors")))
    x = images(run, 3)
    with torch.no_grad():
        features = net(torch.from_numpy(x) / 255).numpy()
    np.testing.assert_allclose(features, run.embed(x), atol=1e-5, rtol=1e-5)


def test_resnets_load_into_torchvision(tmp_path):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    from safetensors.torch import load_file

    run = make_run(tmp_path, "resnet18", 3, (72, 72))
    net = models.resnet18().eval()
    net.fc = nn.Identity()
    net.load_state_dict(load_file(export(run, "safetensors")))
    x = images(run, 3)
    with torch.no_grad():
        features = net(torch.from_numpy(x) / 255).numpy()
    np.testing.assert_allclose(features, run.embed(x), atol=1e-5, rtol=1e-5)


def outside(code, *words):
    """Run code in a Python that cannot import this library."""
    blocked = "import sys\nsys.modules['unlabeled'] = None\n"
    command = [sys.executable, "-W", "ignore", "-c", blocked + textwrap.dedent(code)]
    subprocess.run([*command, *map(str, words)], check=True, timeout=120)


def test_three_lines_of_plain_pytorch_run_it_without_this_library(tmp_path):
    run = make_run(tmp_path)
    x = images(run, 9)
    np.save(tmp_path / "x.npy", x)
    code = """
        import numpy as np
        import torch
        encoder = torch.jit.load(sys.argv[1])
        features = encoder(torch.from_numpy(np.load(sys.argv[2])))
        np.save(sys.argv[3], features)
    """
    outside(code, export(run, "torchscript"), tmp_path / "x.npy", tmp_path / "z.npy")
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), run.embed(x), atol=1e-5)


def test_a_users_own_weights_load_without_this_library(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 6, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    run = make_run(tmp_path, net)
    x = images(run, 4)
    np.save(tmp_path / "x.npy", x)
    path = export(run, "safetensors")
    assert path.name == "Sequential.safetensors"
    code = """
        import numpy as np, torch
        from torch import nn
        from safetensors.torch import load_file
        net = nn.Sequential(nn.Conv2d(1, 6, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net.load_state_dict(load_file(sys.argv[1]))
        np.save(sys.argv[3], net(torch.from_numpy(np.load(sys.argv[2])) / 255).detach())
    """
    outside(code, path, tmp_path / "x.npy", tmp_path / "z.npy")
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), run.embed(x), atol=1e-5)


def with_classifier(run, kind):
    """A classifier with a temperature that matters; features of noise would be nearly equal."""
    z = np.random.default_rng(0).normal(size=(40, run.dim)).astype(np.float32)
    names = ["cat", "dog", "eel"]
    run.classifier = fit(z, np.arange(40) % 3, names, kind, 5)
    if kind == "linear":  # fitted to features of noise, it is a difference of large numbers
        generator = torch.Generator().manual_seed(0)
        weight = 0.1 * torch.randn(3, run.dim, generator=generator)
        run.classifier = LinearClassifier(weight, torch.tensor([0.5, -1.0, 2.0]), names)
    run.classifier.temperature = 0.6
    return run


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_onnx_has_the_logits_of_a_classifier(kind, tmp_path):
    """Catches logits without the temperature, and classes that only our folder names."""
    onnxruntime = pytest.importorskip("onnxruntime", reason=ABSENT)
    pytest.importorskip("onnxscript", reason=ABSENT)
    run = with_classifier(make_run(tmp_path, "lenet", 3), kind)
    session = onnxruntime.InferenceSession(export(run, "onnx"), providers=["CPUExecutionProvider"])
    for n in (1, 5):
        x = images(run, n)
        features, logits = session.run(["features", "logits"], {"images": x})
        np.testing.assert_allclose(features, run.embed(x), atol=1e-5)
        np.testing.assert_allclose(logits, run.classifier.logits(features), atol=1e-5)
        np.testing.assert_allclose(softmax(logits, 1), run.predict_proba(x), atol=1e-4)
        if kind == "linear":
            weight, bias = run.classifier.weight.numpy(), run.classifier.bias.numpy()
            np.testing.assert_allclose(logits, (features @ weight.T + bias) / 0.6, atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["cat", "dog", "eel"]
    assert about["classifier"] == kind


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_torchscript_gives_features_and_logits(kind, tmp_path, jit_load):
    run = with_classifier(make_run(tmp_path), kind)
    extra = {"metadata.json": ""}
    network = jit_load(export(run, "torchscript"), extra)
    for n in (1, 5):
        x = images(run, n)
        features, logits = network(torch.from_numpy(x))
        np.testing.assert_allclose(features.numpy(), run.embed(x), atol=1e-5)
        expected = run.classifier.logits(features.numpy())
        np.testing.assert_allclose(logits.numpy(), expected, atol=1e-4, rtol=1e-5)
    assert json.loads(json.loads(extra["metadata.json"])["classes"]) == ["cat", "dog", "eel"]


def test_a_resnet_with_a_linear_classifier_is_a_whole_network_elsewhere(tmp_path):
    run = with_classifier(make_run(tmp_path, "resnet18", 3, (72, 72), width=0.125), "linear")
    with safe_open(export(run, "safetensors"), framework="pt") as file:
        weight, bias = (file.get_tensor(f"fc.{name}") for name in ("weight", "bias"))
        about = file.metadata()
    z = run.embed(images(run, 4))
    np.testing.assert_allclose(
        z @ weight.numpy().T + bias.numpy(), run.classifier.logits(z), atol=1e-3
    )
    assert json.loads(about["classes"]) == ["cat", "dog", "eel"]
    other = with_classifier(make_run(tmp_path / "other"), "linear")
    with pytest.warns(Notice, match="the encoder's alone"):
        path = export(other, "safetensors")
    with safe_open(path, framework="pt") as file:
        assert "classes" not in file.metadata()
        assert not [key for key in file.keys() if "fc" in key]  # noqa: SIM118


class Moody(nn.Module):
    """Draws at random in evaluation too."""

    def forward(self, x):
        return x.mean((2, 3)) + torch.rand(x.shape[0], 1)


@pytest.mark.parametrize("to", ["torchscript", "safetensors"])
def test_a_file_that_differs_is_not_written(to, tmp_path):
    run = make_run(tmp_path, Moody())
    with pytest.raises(UserError, match="off by"):
        export(run, to)
    assert not list(tmp_path.iterdir())


class Counting(nn.Module):
    """Is bound to the batch size that it is traced with."""

    def forward(self, x):
        return torch.stack([row.mean().expand(4) for row in x])


class Mute(nn.Module):
    """Fails without a word."""

    def forward(self, x):
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            raise RuntimeError
        return x.mean((2, 3))


class Choosy(nn.Module):
    """Acts on what it sees."""

    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.mean((2, 3)) + 1


@pytest.mark.parametrize(
    ("to", "net", "says"),
    [
        ("torchscript", Counting(), "cannot be exported to TorchScript"),
        ("torchscript", Choosy(), "off by 1.0"),
        ("torchscript", Mute(), "TorchScript: RuntimeError"),
        ("onnx", Counting(), "one batch size"),
        ("onnx", Choosy(), "cannot be exported to ONNX"),
    ],
)
def test_what_a_format_cannot_express_is_one_sentence(to, net, says, tmp_path, capfd):
    if to == "onnx":
        pytest.importorskip("onnxscript", reason=ABSENT)
        pytest.importorskip("onnxruntime", reason=ABSENT)
    with pytest.raises(UserError, match=says) as text:
        export(make_run(tmp_path, net), to)
    assert "\n" not in str(text.value)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_the_runs_own_files_and_its_encoder_stay_as_they_are(tmp_path):
    run = make_run(tmp_path)
    run.save()
    before = (tmp_path / "encoder.safetensors").read_bytes()
    with pytest.raises(UserError, match="own file"):
        export(run, "safetensors", tmp_path / "encoder.safetensors")
    with pytest.raises(UserError, match="folder"):
        export(run, "safetensors", tmp_path)
    with pytest.raises(UserError, match="choose one of"):
        export(run, "pickle")
    export(run, "safetensors")
    assert (tmp_path / "encoder.safetensors").read_bytes() == before
    assert all(p.requires_grad for p in run.encoder.parameters())


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'unlabeled\[export\]'"):
        export(make_run(tmp_path), "onnx")
