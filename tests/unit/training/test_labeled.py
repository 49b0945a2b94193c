"""Training with labels: a weak augmentation of each data set's own, which changes no label."""

import json

import numpy as np
import pytest
import torch
from written_sets import write_cifar, write_fashion, write_omniglot, write_stl10

import unlabeled as ul
from unlabeled import registry
from unlabeled.augmentations import Compose, RandomAffine, RandomHorizontalFlip
from unlabeled.cli.main import main
from unlabeled.data import open_data
from unlabeled.data.readers.audio import Recordings
from unlabeled.data.sets import captions, colored_sprites, dsprites, moving_sprites
from unlabeled.evaluation.finetune import finetune
from unlabeled.pipelines import simclr_v2
from unlabeled.training.resolve import resolve

FROM_LABELS = ("supervised", "metric", "siamese", "s4l", "pseudo_label", "vat")
HANDED = ("omniglot", "fashion_mnist", "unknown")
"""Sets where a mirrored image may be of another class, or none."""


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> dict:
    """Data sets by name: small copies in their published form, rendered ones, unknown data."""
    path = tmp_path_factory.mktemp("sets")
    write_cifar(path / "cifar10", "bin")
    write_fashion(path / "fashion_mnist")
    write_omniglot(path / "omniglot")
    write_stl10(path / "stl10")
    result = {name.name: open_data(f"{name.name}:{name}") for name in path.iterdir()}
    result["colored_sprites"] = colored_sprites.load(clips=10)
    result["moving_sprites"] = moving_sprites.load(images=20)
    result["dsprites"] = dsprites.load(images=60)
    result["captions"] = captions.load(images=60)
    y = np.arange(60) % 3
    result["unknown"] = open_data((np.zeros((60, 1, 20, 20), np.float32), y))
    waves = list(np.random.default_rng(0).normal(size=(60, 400)).astype(np.float32))
    result["sound"] = open_data(Recordings(waves, 8000, y))
    return result


def of(name: str, splits) -> dict:
    """The arguments that a method gets by itself."""
    return resolve(registry.find("methods", name), splits, {})[1]


def test_each_method_gets_the_augmentation_that_it_was_made_for(named):
    """Catches contrastive views in labeled training, and weak ones in contrastive learning."""
    for title, splits in named.items():
        weak, strong = splits.augment_labeled, splits.augment
        for name in FROM_LABELS:
            assert of(name, splits)["augment"] == weak, (title, name)
        for name in ("simclr", "byol", "supervised_contrastive"):
            assert of(name, splits)["augment"] == strong, (title, name)
        for name in ("fixmatch", "uda"):
            assert of(name, splits)["augment"] == strong, (title, name)
            assert of(name, splits)["weak"] == weak, (title, name)
        chosen = resolve(
            registry.find("methods", "supervised"), splits, {"augment": RandomHorizontalFlip(0.1)}
        )[1]
        assert chosen["augment"] == RandomHorizontalFlip(0.1)
        if title in ("cifar10", "stl10", "fashion_mnist", "unknown"):
            assert weak != strong, title


@pytest.mark.parametrize("name", ["ressl", "mean_shift"])
def test_the_weak_view_is_a_mirrored_crop_of_photographs_only(named, name):
    """Catches recordings that run backwards, mirrored characters, and captioned sprites cropped."""
    for title in ("sound", "omniglot", "captions", "moving_sprites"):
        assert of(name, named[title])["weak"] == named[title].augment_labeled, title
    for title in ("cifar10", "stl10", "unknown"):
        assert "weak" not in of(name, named[title]), title  # the method's own
    assert of(name, named["dsprites"])["weak"] == RandomAffine(20.0, 0.1, (0.9, 1.1))


def test_what_the_labels_depend_on_is_left_alone(named):
    """Catches mirrored characters, a caption's sprite in another place, a video that runs back."""
    torch.manual_seed(0)
    for name in HANDED:
        size = named[name].size
        glyph = torch.zeros(1, 1, *size)
        glyph[..., 5:-5, 6:8] = glyph[..., 5:7, 6:-6] = glyph[..., 10:12, 6:-9] = 1  # an F
        out = named[name].augment_labeled(glyph.expand(300, -1, -1, -1))
        likeness = [match(out, form) for form in (glyph, glyph.flip(3))]
        assert (likeness[0] > likeness[1]).all(), name
        assert (out != glyph).flatten(1).any(1).float().mean() > 0.8, name  # but it is not nothing
    for name in ("captions", "moving_sprites"):
        x = torch.rand(5, named[name].channels, *named[name].size)
        assert torch.equal(named[name].augment_labeled(x), x), name
    waves = torch.rand(5, 1, 1, 400)
    louder = named["sound"].augment_labeled(waves) / waves
    assert louder.std(3).max() < 1e-5  # no echo, no noise: a factor each


def match(out: torch.Tensor, form: torch.Tensor) -> torch.Tensor:
    """The best correlation with a shifted form, (B,)."""
    waves = torch.fft.rfft2(out) * torch.fft.rfft2(form).conj()
    return torch.fft.irfft2(waves, s=out.shape[2:]).amax((1, 2, 3))


def augment_of(run) -> dict:
    return json.loads((run / "config.json").read_text())["method_args"]["augment"]


def test_finetuning_is_weak_unless_requested(trained, sprites, tmp_path):
    """Catches contrastive views in fine-tuning, and an augment that from scratch does not get."""
    options = {"labels": 30, "epochs": 1, "progress": False}
    finetune(trained, sprites, out=tmp_path / "a", **options)
    finetune(
        trained,
        sprites,
        out=tmp_path / "b",
        augment=Compose([RandomHorizontalFlip(0.2)]),
        **options,
    )
    for run in ("a", "a/scratch"):
        assert augment_of(tmp_path / run)["view"] == "RandomCrop"
    for run in ("b", "b/scratch"):
        assert augment_of(tmp_path / run) == {
            "view": "Compose",
            "transforms": [{"view": "RandomHorizontalFlip", "p": 0.2}],
        }
    assert augment_of(trained.path)["view"] == "SimCLRAugment"


def test_the_commands_take_an_augmentation(trained, sprites, tmp_path, capsys):
    """Catches a flag that is parsed but not built, and one that only some trainings get."""
    np.savez(tmp_path / "d.npz", x=sprites[0][:120, ::4, ::4], y=sprites[1][:120])
    data = ["--data", str(tmp_path / "d.npz"), "--labels", "30"]
    tune = ["finetune", str(trained.path), *data, "--epochs", "1", "--out", str(tmp_path / "a")]
    assert main([*tune, "--augment", "RandomCrop", "--augment.padding", "2"]) == 0
    expected = {"view": "RandomCrop", "padding": 2, "padding_mode": "constant"}
    assert augment_of(tmp_path / "a") == augment_of(tmp_path / "a" / "scratch") == expected
    lengths = ["--epochs", "1", "--finetune-epochs", "1", "--distill-epochs", "1"]
    v2 = ["train", "simclr_v2", *data, *lengths, "--batch-size", "32", "--out", str(tmp_path / "v")]
    assert main([*v2, "--augment", "RandomHorizontalFlip"]) == 0
    for run in ("finetuned", "student"):
        assert augment_of(tmp_path / "v" / run) == {"view": "RandomHorizontalFlip", "p": 0.5}
    assert augment_of(tmp_path / "v" / "pretrained")["view"] == "SimCLRAugment"
    capsys.readouterr()
    assert main([*tune, "--augment", "Nonsense"]) == 2
    assert "there is no augmentation 'Nonsense'" in capsys.readouterr().err


def test_simclr_v2_teaches_with_weak_views(sprites, tmp_path):
    """Catches fine-tuning and distillation with SimCLR's views; the paper has crops and flips."""
    splits = open_data((sprites[0][:100, ::4, ::4], sprites[1][:100]))
    options = {"epochs": 1, "progress": False}
    start = ul.train("simclr", splits, out=tmp_path / "a", head_layers=2, batch_size=32, **options)
    teacher = simclr_v2.finetune_from_middle(start, splits, "30", out=tmp_path / "b", **options)
    simclr_v2.distill(teacher, splits, encoder="small", out=tmp_path / "c", **options)
    for run in ("b", "c"):
        assert augment_of(tmp_path / run)["view"] == "RandomCrop"
