"""Studies in miniature: every experiment with few samples, small networks and one epoch."""

from dataclasses import replace

import numpy as np
import pytest

import unlabeled as ul
from unlabeled import registry
from unlabeled.data import open_data
from unlabeled.data.readers.sentences import in_rows
from unlabeled.data.sets import (
    books,
    captions,
    cifar10,
    dsprites,
    fashion_mnist,
    moving_sprites,
)
from unlabeled.studies.lab import Lab, Scale
from unlabeled.studies.run import run_study
from unlabeled.training.health import alarm

EPOCH = {"epochs": 1, "batch_size": 32, "progress": False, "logger": "none"}


def halved(splits):
    """Images or clips of half the side."""
    train, test = (
        replace(part, x=part.x[:, :, ::2, ::2], modality=None)
        for part in (splits.train, splits.test)
    )
    return replace(splits, train=train, test=test)


@pytest.fixture(scope="module")
def tiny():
    """200 small sprites to train on, of which a quick study takes half."""
    return halved(dsprites.load(images=250))


@pytest.fixture
def photos(real_data, monkeypatch):
    """160 photographs to train on, 80 to test on."""
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    return part_of(cifar10.load(), 160, 80)


def part_of(splits, train, test):
    parts = (p.take(np.arange(n)) for p, n in ((splits.train, train), (splits.test, test)))
    return replace(splits, **dict(zip(("train", "test"), parts, strict=True)))


def quick(study, out, data, settings=None, **train_args):
    """The experiments' figures of a study in miniature."""
    scale = Scale(True, settings, EPOCH | train_args)
    return run_study(study, out, scale=scale, data=data)["experiments"]


@pytest.mark.slow
def test_negatives_in_miniature(tiny, tmp_path):
    """Catches counts or denominators that are mixed up, and a curve that is not drawn."""
    study = registry.find("studies", "negatives")
    settings = study.Settings(counts=(0, 2, None), epochs=1)
    result = quick(study, tmp_path, tiny, settings)
    assert set(result) == {"N1", "N2"}
    curve = result["N1"]["curve"]
    assert list(curve["paper"]) == ["0", "2", "all"]
    assert curve["paper"]["0"] == curve["tutorial"]["0"]  # the same training
    assert curve["paper"]["2"] != curve["tutorial"]["2"]
    assert curve["paper"]["2"] != curve["paper"]["all"]


@pytest.mark.slow
def test_width_in_miniature(tiny, tmp_path):
    """Catches widths that do not reach the network, and a difference with the wrong sign."""
    study = registry.find("studies", "width")
    result = quick(study, tmp_path, tiny, study.Settings(widths=(2, 4)))["W1"]
    for width, accuracy in result["accuracy"].items():
        gap = accuracy["supervised"]["value"] - accuracy["SimCLR"]["value"]
        assert result["behind"][width]["value"] == pytest.approx(gap)
        run = ul.load(tmp_path / "quick" / "runs" / f"simclr-{width}")
        assert run.dim == 8 * int(width)


def test_collapse_in_miniature(tiny, tmp_path):
    study = registry.find("studies", "collapse")
    result = quick(study, tmp_path, tiny)
    assert set(result) == {"C1", "C2", "C3", "C4", "C5"}
    runs = result["C5"]["runs"]
    assert set(runs) == set(study.FAMILIES["dino"])
    assert all(0 <= run["entropy"] <= 1 for run in runs.values())
    assert (tmp_path / "quick" / "runs" / "byol-tau0").is_dir()


def test_simclr_v2_in_miniature(tmp_path):
    study, data = registry.find("studies", "semi_supervised"), halved(dsprites.load(images=750))
    settings = replace(study.QUICK, pretraining={}, min_epochs=1)
    result = quick(study, tmp_path, data, settings)
    assert set(result["S1"]["test"]) == set(study.LABELS)
    assert set(result["S1"]["test"]["1%"][0]) == set(study.WAYS)
    assert quick(study, tmp_path, data, settings) == result


def test_from_scratch_is_chosen_on_held_out_labels_and_never_on_the_test(
    tiny, tmp_path, monkeypatch
):
    """Catches a choice by the test part, labels learned and asked at once, and a fixed setting."""
    study = registry.find("studies", "semi_supervised")
    seen = []

    def scratch(lab, data, augment, lr, out, seed=0):
        ours = {x.tobytes() for x in tiny.train.x}
        learned, asked = ({x.tobytes() for x in part.x} for part in (data.train, data.test))
        assert asked <= ours
        assert len(asked | learned) == len(data.train) + len(data.test)
        seen.append(asked)
        return 0.9 if (augment, lr) == ("none", study.SCRATCH_RATES[1]) else 0.5

    monkeypatch.setattr(study, "scratch", scratch)
    lab = Lab(tmp_path, tiny, scale=Scale(settings=study.Settings(folds={"10%": (3, 3)})))
    augment, lr, held_out = study.chosen(lab, "10%")
    assert (augment, lr) == ("none", study.SCRATCH_RATES[1])
    settings = len(study.SCRATCH_RATES) * 3
    assert len(held_out) == settings
    assert len(seen) == 3 * settings
    assert len(set.union(*seen[:3])) == round(0.1 * len(tiny.train))  # every label once
    y = np.repeat([3, 1, 0], [9, 6, 3])
    fold = study.folds(y, 3)
    assert all(np.bincount(fold[y == c]).tolist() == [(y == c).sum() // 3] * 3 for c in (0, 1, 3))


def test_the_first_alarm_is_the_trainings_own():
    study = registry.find("studies", "collapse")
    well = {"std": 0.9, "spread": 20.0, "rankme": 20.0}
    fallen = {"std": 0.001, "spread": 1.0, "rankme": 1.0}
    rows = [{"epoch": float(i)} | (fallen if i > 2 else well) for i in range(6)]
    assert alarm(rows[4], rows[:4])
    assert study.first_alarm(rows) == 4  # low twice in a row
    assert study.first_alarm([{"epoch": float(i)} | well for i in range(6)]) is None


@pytest.mark.slow
def test_all_methods_in_miniature(tiny, photos, tmp_path):
    """Catches methods that no race has, and figures of another race's network or images."""
    study = registry.find("studies", "methods")
    assert {"simclr", "byol", "supervised", "vae"} <= set(study.convolutional())
    assert {"dino", "masked_autoencoder", "ibot", "simmim"} <= set(study.transformers())
    of_photos = {"photographs": ["simclr"], "transformers": ["simclr", "masked_autoencoder"]}
    small = {"patch": 8, "width": 12, "depth": 1, "heads": 3}
    settings = study.Settings(
        study.Race("small", {"width": 4}, 0), study.Race("small", {"width": 4}, 0, photos),
        study.Race("vit", small, 0, photos), of_photos,
    )  # fmt: skip
    scale = Scale(True, settings, {"progress": False, "logger": "none"})
    result = run_study(study, tmp_path, scale=scale, data=tiny)["experiments"]
    expected = {"sprites": study.convolutional()} | of_photos
    for experiment, methods in zip(result.values(), expected.values(), strict=True):
        figures = experiment["methods"]
        assert set(figures) == {*methods, "random", *study.BASELINES}
        assert all(figures[name]["epochs"] == 1 for name in methods)
        assert all(f["linear"]["low"] < f["linear"]["high"] for f in figures.values())
    again = run_study(study, tmp_path, scale=scale, data=tiny)  # nothing is trained
    assert again["experiments"] == result


@pytest.mark.slow
def test_attention_in_miniature(photos, tmp_path):
    """Small crops, a transformer, and its attention maps on the page."""
    study = registry.find("studies", "attention")
    settings = study.Settings({"patch": 4, "width": 12, "depth": 1, "heads": 3}, epochs=1)
    result = quick(study, tmp_path, photos, settings)["A1"]
    others = {"random, attention", "random, mean", "histogram", "raw"}
    assert set(result["test"]) == {*study.WAYS, *others}
    assert set(result["epochs"].values()) == {1}
    for figures in result["test"].values():
        assert figures["knn"]["low"] < figures["knn"]["value"] < figures["knn"]["high"]
    page = (tmp_path / "quick" / "report" / "index.html").read_text()
    assert "attention" in page
    assert "<img" in page


@pytest.mark.slow
def test_pretext_tasks_in_miniature(photos, tmp_path):
    study = registry.find("studies", "pretext")
    settings = study.Settings(
        epochs=0,
        sprite_epochs=0,
        tasks={t: task for t, task in study.TASKS.items() if not t.startswith("relative")},
        on_sprites=("rotation", "SimCLR"),
        labels="50%",
        sprites=dsprites.load(images=100),
        video=part_of(open_data("video"), 16, 4),
    )
    scale = Scale(True, settings, {"progress": False, "logger": "none", "batch_size": 32})
    result = run_study(study, tmp_path, scale=scale, data=photos)["experiments"]
    tasks = result["P1"]["tasks"]
    assert set(tasks) == {*settings.tasks, *study.REFERENCES, "random"}
    with_accuracy = {name for name, f in tasks.items() if f["pretext_accuracy"] is not None}
    assert with_accuracy == {"rotation", "jigsaw"}
    assert set(result["P2"]["factors"]) == {*settings.on_sprites, "random"}
    assert result["P3"]["errors"]["denoising: squared error of pixels"]["ours"] > 0
    assert len(result["P3"]["spectra"]["real"]) == study.HOLE // 2
    assert set(result["P4"]["puzzles"]) == {"jigsaw", *study.PUZZLES, "random"}


@pytest.mark.slow
def test_generative_models_in_miniature(real_data, tmp_path, monkeypatch):
    """Every experiment on few images, few characters and few series."""
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "generative")
    splits = halved(part_of(fashion_mnist.load(), 96, 60))
    narrow = {"epochs": 1, "encoder_args": {"width": 16}}
    settings = study.Settings(
        samples=20,
        caption_samples=20,
        clip_samples=20,
        sampling_steps=2,
        test_pixels=(30, 60),
        characters=3000,
        test_characters=600,
        series=(100, 50),
        bounds=1,
        epochs=1,
        sequence_models=("rnn", "transformer"),
        pixel_models={"rnn": narrow},
        text_models={"rnn": narrow, "transformer": narrow},
        diffusion_args={"encoder_args": {"width": 8}},
        captions=halved(captions.load(images=120)),
        clips=halved(moving_sprites.load(images=60)),
        text=(b"the cat sat on the mat. " * 400,) * 2,
    )
    result = quick(study, tmp_path, splits, settings)
    assert list(result) == ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8"]
    assert abs(sum(result["G1"]["models"]["GAN"]["shares"]) - 1) < 1e-6
    assert set(result["G6"]["bits"]) == {*settings.text_models, "Kneser-Ney, 5 characters"}
    partition = result["G8"]["log_partition"]
    assert abs(partition["exact"] - partition["annealed"]) < 0.2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* and are cut")
def test_words_in_miniature(real_data, tmp_path, monkeypatch):
    """Every experiment on few texts with narrow networks."""
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "words")
    documents = [replace(d, paragraphs=d.paragraphs[:60]) for d in books.documents()]
    splits = in_rows(documents, "books", vocabulary=1000)
    train, test = (  # books and articles
        part.take(np.random.default_rng(0).permutation(len(part))[:number])
        for part, number in ((splits.train, 96), (splits.test, 120))
    )
    splits = replace(splits, train=train, test=test)
    settings = study.Settings(
        candidates=20,
        word_lines=20,
        passages=(8, 4),
        labels=(1, 4),
        draws=2,
        encoder_args={"width": 16, "layers": 1},
        documents=documents,
    )
    result = quick(study, tmp_path, splits, settings, batch_size=16)
    assert list(result) == ["W1", "W2", "W3", "W4", "W5"]
    counted = result["W2"]["counted"]
    assert min(v for k, v in counted.items() if k.endswith("-gram")) < counted["unigram"]
    assert result["W3"]["skip_thoughts"]["chance"] < 0.2
    assert set(result["W4"]["passages"]["TF-IDF"]) == {"1", "4"}


def test_pairs_in_miniature(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "pairs")
    settings = study.Settings(digits=part_of(open_data("audiovisual_digits"), 60, 30))
    result = quick(study, tmp_path, part_of(open_data("emoji"), 200, 60), settings)
    assert list(result) == ["J1", "J2"]
    assert result["J1"]["test"] == 60
    assert (tmp_path / "quick" / "report" / "index.html").read_text().count("<img") >= 2
