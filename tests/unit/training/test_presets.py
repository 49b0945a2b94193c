"""Presets: settings of the papers in place of the quick ones."""

import inspect
import json
from dataclasses import fields

import numpy as np
import pytest

import unlabeled as ul
from unlabeled import registry
from unlabeled.cli import main
from unlabeled.core import Method, Recipe
from unlabeled.data.dataset import Samples, Splits
from unlabeled.errors import UserError
from unlabeled.modality import Audio
from unlabeled.training import presets
from unlabeled.training.prepare import prepare

METHODS = [
    name
    for name in registry.listing("methods")
    if getattr(registry.find("methods", name), "presets", None)
]
QUICK = {"epochs": 1, "batch_size": 8, "encoder": "small", "size": 16, "progress": False}


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 3, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize("name", METHODS)
def test_presets_name_what_there_is(name):
    """Catches a setting that nothing reads, and an encoder that does not exist."""
    cls: type[Method] = registry.find("methods", name)
    known = {f.name for f in fields(Recipe)} | set(inspect.signature(cls).parameters)
    for preset in cls.presets.values():
        assert set(preset) <= known | {"encoder", "encoder_args", "size"}
        build = registry.find("encoders", preset["encoder"])
        assert set(preset.get("encoder_args", {})) <= set(inspect.signature(build).parameters)
        needed = {"lr", "batch_size", "optimizer", "epochs"}
        assert needed | (set() if cls.modality == (Audio,) else {"size"}) <= set(preset)


def test_a_preset_sets_recipe_views_and_encoder_and_yields_to_what_is_given():
    """Catches a preset that overrides the user, or gives its arguments to another encoder."""
    job = prepare("byol", images(), preset="paper", hidden_dim=64, **QUICK)
    cls = registry.find("methods", "byol")
    assert job.recipe.optimizer == "lars"
    assert job.recipe.weight_decay == 1.5e-6
    assert job.recipe.lr == pytest.approx(3.2 * 8 / 4096)  # linear in the batch
    assert job.method.augment == cls.presets["paper"]["augment"]
    assert job.method.second_augment == cls.presets["paper"]["second_augment"]
    assert job.config["method_args"]["hidden_dim"] == 64
    assert job.config["encoder"] == "small"
    assert job.config["preset"] == "paper"
    quick = prepare("byol", images(), **QUICK)
    assert (quick.config["preset"], quick.recipe.optimizer) == ("quick", "adamw")
    options = QUICK | {"encoder": "vit", "size": 32, "prototypes": 32, "hidden_dim": 16}
    dino = prepare("dino", images(), preset="paper", **options)
    assert dino.config["encoder_args"] == {}
    assert dino.recipe.final_weight_decay == 0.4


def test_the_encoder_and_the_size_are_the_papers():
    """Catches an encoder or a size that stays the quick one."""
    job = prepare("simsiam", images(), preset="paper", epochs=1, batch_size=4)
    assert job.config["encoder"] == "resnet50"
    assert job.splits.size == (224, 224)


def test_the_command_takes_presets(tmp_path, monkeypatch, capsys):
    """Catches flags at their quick defaults that override the preset."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", images())
    words = ["train", "swav", "--data", "x.npy", "--encoder", "small", "--size", "16"]
    words += ["--prototypes", "8", "--epochs", "1", "--batch-size", "8", "--quiet"]
    (tmp_path / "preset.yaml").write_text("preset: paper\n")
    for out, flags in (("a", ["--preset", "paper"]), ("b", ["--config", "preset.yaml"])):
        assert main([*words, *flags, "--out", out]) == 0
        config = json.loads((tmp_path / out / "config.json").read_text())
        assert config["recipe"]["optimizer"] == "lars"
        assert config["recipe"]["warmup_epochs"] == 10
        assert config["method_args"]["local_crops"] == 6
        assert config["method_args"]["prototypes"] == 8
        assert "0.14" in str(config["method_args"]["augment"])
    assert main(["train", "rotation", "--data", "x.npy", "--preset", "paper"]) == 2
    assert "rotation has no preset 'paper'; " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["swav", "dino", "ibot", "dinov2"])
def test_prototypes_of_the_papers_rest_for_an_epoch(name):
    """Catches the quick ones' fraction of training, which is eight epochs of 800."""
    preset = registry.find("methods", name).presets["paper"]
    (frozen,) = (preset[key] for key in preset if key.startswith("freeze"))
    assert frozen * preset["epochs"] == pytest.approx(1)


def test_an_unknown_preset_is_refused():
    """Catches a name that is silently quick."""
    with pytest.raises(UserError, match="byol has no preset 'papers'"):
        ul.train("byol", images(), preset="papers", **QUICK)


def photographs(n: int, size: int, channels: int = 3) -> Splits:
    x = np.broadcast_to(np.zeros(1, np.uint8), (n, channels, size, size))
    return Splits("folder", Samples(x), Samples(x[:0]))


def test_hardware_and_data_choose():
    """Catches a ResNet-50 for a laptop, and a toy network for photographs on a GPU."""
    simclr, rotation = (registry.find("methods", name) for name in ("simclr", "rotation"))
    for n, size, device, name in [
        (5_000, 224, "gpu", "paper"),
        (5_000, 224, "cpu", "quick"),
        (5_000, 64, "gpu", "quick"),
        (200_000, 64, "gpu", "paper"),
    ]:
        chosen = presets.choose(simclr, photographs(n, size), device)
        assert chosen.name == name
        assert f"{n:,} images of {size}×{size}" in chosen.notes
    large = photographs(5_000, 224)
    paper = presets.choose(simclr, large, "gpu", 2)
    assert (paper.settings["encoder"], paper.batch_size) == ("resnet50", 512)
    assert "size" not in paper.settings  # that of the data
    assert "batches of 64" in presets.choose(simclr, large, "gpu", given={"batch_size": 64}).notes
    assert presets.choose(rotation, large, "gpu").name == "quick"  # its paper's are not known
    gray = presets.choose(simclr, photographs(100, 32, 1), "cpu")
    assert (gray.settings, gray.notes) == ({}, "")


def test_quick_epochs_follow_the_number_of_images():
    """Catches an hour-long default for many images, and three epochs for a few."""
    simclr = registry.find("methods", "simclr")
    result = [
        presets.choose(simclr, photographs(n, size), "cpu").settings["epochs"]
        for n, size in ((50_000, 32), (50_000, 64), (5_000, 64), (500, 64))
    ]
    assert result == [40, 10, 100, 200]


def test_what_was_chosen_is_said_and_yields_to_what_is_given(tmp_path, monkeypatch, capsys):
    """Catches a flag equal to its default that counts as not given, and a silent choice."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", images())
    words = ["train", "simclr", "--data", "x.npy", "--dry-run"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "width 32, 200 epochs of 16 images of 16×16" in out
    assert main([*words, "--epochs", "100"]) == 0
    assert "width 32, 100 epochs" in capsys.readouterr().out
    assert main([*words, "--encoder", "small", "--epochs", "3"]) == 0
    assert "preset" not in capsys.readouterr().out
    job = prepare("simclr", images(), epochs=1)
    assert job.config["encoder_args"] == {"width": 32}
    job = prepare("simclr", images(), epochs=1, encoder_args={"width": 8})
    assert job.config["encoder_args"] == {"width": 8}


def test_a_gpu_gets_the_papers_settings_at_the_size_of_the_data(monkeypatch):
    """Catches a rate of 4,096 images for 256, and a record that repeats at another size."""
    monkeypatch.setattr(presets, "device_of", lambda _: "gpu")
    x = np.zeros((4, 3, 160, 160), np.uint8)
    job = prepare("simclr", x)
    assert (job.config["preset"], job.config["encoder"]) == ("paper", "resnet50")
    assert (job.recipe.batch_size, job.recipe.lr) == (256, pytest.approx(0.3))
    assert job.config["size"] == 160
    assert prepare("simclr", x, preset="quick").config["encoder"] == "small"
