"""Encoders by name in place of a run folder: their own weights, size and normalization."""

import json

import numpy as np
import pytest
import torch

import unlabeled as ul
from unlabeled.cli import main
from unlabeled.encoders.features import build_for
from unlabeled.errors import UserError

COLORS = np.random.default_rng(0).integers(0, 255, (60, 20, 20, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    """A vision transformer of 32 px with its normalization, as transformers stores it."""
    transformers = pytest.importorskip("transformers", reason="pip install 'unlabeled[hf]'")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "net"
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        patch_size=8, image_size=32,
    )  # fmt: skip
    transformers.ViTModel(config).save_pretrained(folder)
    about = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory):
    """A small network of timm, as its hub stores it."""
    timm = pytest.importorskip("timm", reason="pip install 'unlabeled[timm]'")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "timm"
    folder.mkdir()
    net = timm.create_model("test_resnet", num_classes=7)
    save_file(net.state_dict(), folder / "model.safetensors")
    cfg = {"input_size": [3, 48, 40], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    record = {"architecture": "test_resnet", "num_classes": 7, "pretrained_cfg": cfg}
    (folder / "config.json").write_text(json.dumps(record))
    return folder, net.eval(), cfg


def resized(x, size):
    """Images as the library resizes them, in [0, 1]."""
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    return torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True).round() / 255


def test_weights_of_the_hub_see_images_of_their_size_and_normalization(hf_folder):
    """Catches: random weights, the data's size, mean and deviation left out."""
    from transformers import ViTModel

    run = ul.load(f"hf:{hf_folder}")
    assert run.size == (32, 32)
    net = ViTModel.from_pretrained(hf_folder).eval()
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    x = (resized(COLORS, (32, 32)) - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    expected = net(x).pooler_output.detach().numpy()
    np.testing.assert_allclose(run.embed(COLORS), expected, atol=1e-5)
    assert ul.load(f"hf:{hf_folder}", size=64).size == (64, 64)


def test_weights_of_timm_in_a_folder(timm_folder):
    """Catches: the classifier kept, another normalization, weights not read."""
    folder, net, cfg = timm_folder
    run = ul.load(f"timm:{folder}")
    assert run.size == (48, 40)
    mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    x = (resized(COLORS, (48, 40)) - mean) / std
    expected = net.forward_head(net.forward_features(x), pre_logits=True).detach().numpy()
    np.testing.assert_allclose(run.embed(COLORS), expected, atol=1e-4)


def test_timm_weights_that_are_pickled_are_refused(timm_folder, tmp_path):
    folder, net, _ = timm_folder
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot make"):
        ul.load(f"timm:{tmp_path}")


def test_gray_images_are_repeated_with_a_word(hf_folder):
    run = ul.load(f"hf:{hf_folder}")
    gray = COLORS[..., 0]
    with pytest.warns(match="gray: red, green and blue"):
        z = run.embed(gray)
    np.testing.assert_allclose(z, run.embed(np.repeat(gray[..., None], 3, 3)), atol=1e-6)


@pytest.mark.parametrize("name", ["small", "raw", "pca", "histogram"])
def test_encoders_of_the_library_are_made_for_the_data(name):
    run = ul.load(name, data=(COLORS, LABELS))
    splits = ul.open_data((COLORS, LABELS))
    torch.manual_seed(0)
    z = run.embed(COLORS)
    assert z.shape == (60, run.dim)
    again = ul.load(name, data=(COLORS, LABELS))
    np.testing.assert_array_equal(again.embed(COLORS), z)
    if name == "pca":
        fitted = build_for("pca", splits)
        components = fitted.summary.components
        torch.testing.assert_close(run.encoder.summary.components.cpu(), components)
        torch.testing.assert_close(
            components.T @ components, torch.eye(fitted.dim), atol=1e-4, rtol=0
        )


def test_every_command_takes_a_name(hf_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", images=COLORS, labels=LABELS)
    name = f"hf:{hf_folder}"
    assert main(["evaluate", name, "--data", "data.npz", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["method"] == name
    assert {"raw", "pca", "histogram", "random"} <= set(result["baselines"])
    assert main(["embed", name, "data.npz", "--out", "z.npy", "--devices", "2"]) == 0
    np.testing.assert_allclose(np.load("z.npy"), ul.load(name).embed("data.npz"), atol=1e-6)
    assert main(["explore", name, "data.npz", "--layout", "pca"]) == 0
    assert main(["finetune", name, "--data", "data.npz", "--epochs", "1", "--no-scratch"]) == 0
    tuned = next((tmp_path / "runs").glob("*-finetuned"))
    assert ul.load(tuned).config["init"] == name
    assert main(["evaluate", str(tuned), "--data", "data.npz", "--json"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "smal", "--data", "x.npz"], "there is no run folder"),
        (["evaluate", "small"], "give --data"),
        (["evaluate", "hf:FOLDER"], "give --data"),
        (["embed", "timm:", "x.npz", "--out", "z.npy"], "lacks the name"),
        (["evaluate", "run", "--size", "32"], "omit --size"),
    ],
)
def test_wrong_names_end_in_a_sentence(words, message, hf_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    np.savez("x.npz", images=COLORS)
    assert main([word.replace("FOLDER", str(hf_folder)) for word in words]) == 2
    assert message in capsys.readouterr().err


def test_training_goes_on_from_weights_of_the_hub(hf_folder, tmp_path):
    """Catches: random weights at the start, the normalization lost, another size."""
    run = ul.train(
        "simclr", COLORS, init=f"hf:{hf_folder}", size=16, out=tmp_path / "run", epochs=1,
        batch_size=20, lr=1e-9, progress=False,
    )  # fmt: skip
    assert run.size == (16, 16)
    pretrained = ul.load(f"hf:{hf_folder}", size=16)
    np.testing.assert_allclose(run.embed(COLORS), pretrained.embed(COLORS), atol=1e-3)
    again = ul.load(tmp_path / "run")
    np.testing.assert_array_equal(again.embed(COLORS), run.embed(COLORS))
