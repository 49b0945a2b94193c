"""The studies `collapse` and `methods` in miniature, and what they are built from."""

import json
from dataclasses import replace

import numpy as np
import pytest

from unlabeled import registry
from unlabeled.data.sets import dsprites
from unlabeled.studies.lab import Lab
from unlabeled.studies.run import run_study
from unlabeled.training.health import alarm


@pytest.fixture(scope="module")
def tiny():
    return dsprites.load(images=640)


@pytest.fixture
def short(monkeypatch):
    run = Lab.run

    def one_epoch(self, *words, **options):
        return run(self, *words, **options | {"quick_epochs": 1, "progress": False})

    monkeypatch.setattr(Lab, "run", one_epoch)


@pytest.mark.slow
def test_collapse_in_miniature(tiny, tmp_path, monkeypatch, short):
    study = registry.find("studies", "collapse")
    monkeypatch.setattr(study, "DATA", tiny)
    result = run_study(study, tmp_path, quick=True)
    assert set(result["experiments"]) == {"C1", "C2", "C3", "C4", "C5"}
    runs = result["experiments"]["C5"]["runs"]
    assert set(runs) == set(study.FAMILIES["dino"])
    assert all(0 <= run["entropy"] <= 1 for run in runs.values())
    assert (tmp_path / "quick" / "runs" / "byol-tau0").is_dir()


def test_simclr_v2_in_miniature(tiny, tmp_path, monkeypatch):
    study = registry.find("studies", "semi_supervised")
    monkeypatch.setattr(study, "DATA", tiny)
    result = run_study(study, tmp_path, quick=True)
    found = result["experiments"]["S1"]["test"]
    assert set(found) == set(study.LABELS)
    assert set(found["1%"][0]) == set(study.WAYS)
    again = run_study(study, tmp_path, quick=True)
    assert again["experiments"] == result["experiments"]


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
    lab = Lab(tmp_path, tiny, [0], quick=False)
    monkeypatch.setattr(study, "FOLDS", {"10%": (3, 3)})
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
def test_all_methods_in_miniature(tiny, tmp_path, monkeypatch):
    study = registry.find("studies", "methods")
    monkeypatch.setattr(study, "DATA", tiny)
    monkeypatch.setattr(study, "QUICK_MINUTES", 0.001)
    assert {"simclr", "byol", "supervised", "vae"} <= set(study.names())
    result = run_study(study, tmp_path, quick=True)
    found = result["experiments"]["M1"]["methods"]
    assert set(found) == {*study.names(), "random"}
    epochs = json.loads((tmp_path / "quick" / "epochs.json").read_text())
    assert all(found[name]["epochs"] == count for name, count in epochs.items())
    assert np.isfinite([f["linear"] for f in found.values()]).all()
    again = run_study(study, tmp_path, quick=True)  # nothing is measured or trained anew
    assert again["experiments"] == result["experiments"]


@pytest.mark.slow
def test_attention_in_miniature(real_data, tmp_path, monkeypatch, short):
    """Small crops, a transformer, and images of where its heads look."""
    from unlabeled.data.sets import cifar10

    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "attention")
    splits = cifar10.load()
    splits.train = splits.train.take(np.arange(512))
    splits.test = splits.test.take(np.arange(300))
    monkeypatch.setattr(study, "DATA", splits)
    found = run_study(study, tmp_path, quick=True)["experiments"]["A1"]["test"]
    assert set(found) == {"DINO", "random transformer", "pixels"}
    page = (tmp_path / "quick" / "report" / "index.html").read_text()
    assert "attention" in page
    assert "<img" in page


@pytest.mark.slow
def test_pretext_tasks_in_miniature(real_data, tmp_path, monkeypatch, short):
    from unlabeled.data.sets import cifar10

    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "pretext")
    splits = cifar10.load()
    splits.train = splits.train.take(np.arange(1024))
    splits.test = splits.test.take(np.arange(300))
    monkeypatch.setattr(study, "DATA", splits)
    monkeypatch.setattr(study, "QUICK_MINUTES", 0.001)
    opened = study.open_data
    few = {"dsprites": lambda: dsprites.load(images=400), "video": lambda: opened("video")}
    monkeypatch.setattr(study, "open_data", lambda name: few[name]())
    monkeypatch.setattr(study, "LABELS", "50%")
    tasks = {t: task for t, task in study.TASKS.items() if not t.startswith("relative")}
    monkeypatch.setattr(study, "TASKS", tasks)
    monkeypatch.setattr(study, "ON_SPRITES", ("rotation", "SimCLR"))
    result = run_study(study, tmp_path, quick=True)
    found = result["experiments"]["P1"]["tasks"]
    assert set(found) == {*study.TASKS, *study.BESIDE, "random"}
    answered = {name for name, f in found.items() if f["answered"] is not None}
    assert answered == {"rotation", "jigsaw"}
    assert set(result["experiments"]["P2"]["kept"]) == {*study.ON_SPRITES, "random"}
    drawn = result["experiments"]["P3"]
    assert drawn["errors"]["denoising: squared error of pixels"]["ours"] > 0
    assert len(drawn["spectra"]["real"]) == study.HOLE // 2
    assert set(result["experiments"]["P4"]["puzzles"]) == {"jigsaw", *study.WHY, "random"}


@pytest.mark.slow
def test_generative_models_in_miniature(real_data, tmp_path, monkeypatch):
    """Every experiment on few images, few characters and few series."""
    from unlabeled.data.sets import captions, fashion_mnist, moving_sprites

    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "generative")
    splits = fashion_mnist.load()
    splits.train = splits.train.take(np.arange(192))
    splits.test = splits.test.take(np.arange(60))
    for part in (splits.train, splits.test):
        part.x = part.x[:, :, 6:22, 6:22]
    monkeypatch.setattr(study, "DATA", splits)
    few = {
        "captions": lambda: captions.load(images=250),
        "moving_sprites": lambda: moving_sprites.load(images=160),
    }
    opened = study.open_data
    monkeypatch.setattr(study, "open_data", lambda d: few[d]() if isinstance(d, str) else opened(d))
    monkeypatch.setattr(study, "QUICK_SAMPLES", 50)
    monkeypatch.setattr(study, "READERS", ("rnn", "transformer"))
    monkeypatch.setattr(study, "PIXEL_READERS", {"rnn": {"epochs": 1}})
    monkeypatch.setattr(study, "FRESH", slice(30, 60))
    few_readers = {kind: {"encoder_args": {"width": 16}} for kind in study.READERS}
    monkeypatch.setattr(study, "TEXT_READERS", few_readers)
    monkeypatch.setattr(study, "text", lambda name: b"the cat sat on the mat. " * 400)
    monkeypatch.setattr(study, "waves", lambda n, seed, w=study.waves: w(200, seed))
    run = Lab.run

    def short_run(self, *words, **options):
        narrow = {"encoder_args": {"width": 8}} if "diffusion" in words else {}
        small = {"batch_size": 32, "progress": False}
        return run(self, *words, **options | narrow | small | {"quick_epochs": 1})

    monkeypatch.setattr(Lab, "run", short_run)
    found = run_study(study, tmp_path, quick=True)["experiments"]
    assert list(found) == ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8"]
    assert abs(sum(found["G1"]["made"]["GAN"]["shares"]) - 1) < 1e-6
    assert set(found["G6"]["bits"]) == {*study.READERS, "Kneser-Ney, 5 characters"}
    partition = found["G8"]["log_partition"]
    assert abs(partition["exact"] - partition["annealed"]) < 0.2


@pytest.mark.slow
def test_words_in_miniature(real_data, tmp_path, monkeypatch):
    """Every experiment on few texts, by narrow networks."""
    from unlabeled.data.sets import books

    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "words")
    begun = [replace(d, paragraphs=d.paragraphs[:60]) for d in books.documents()]
    monkeypatch.setattr(books, "documents", lambda place=None: begun)
    splits = books.load()
    for part, number in (("train", 128), ("test", 200)):  # books and articles
        rows = np.random.default_rng(0).permutation(len(getattr(splits, part)))
        setattr(splits, part, getattr(splits, part).take(rows[:number]))
    monkeypatch.setattr(study, "DATA", splits)
    monkeypatch.setattr(study, "PASSAGES", 12)
    monkeypatch.setattr(study, "LABELS", (1, 4))
    run = Lab.run

    def narrow(self, *words, **options):
        arguments = options.pop("encoder_args", {}) | {"width": 32, "layers": 1}
        return run(self, *words, **options, encoder_args=arguments, progress=False)

    monkeypatch.setattr(Lab, "run", narrow)
    found = run_study(study, tmp_path, quick=True)["experiments"]
    assert list(found) == ["W1", "W2", "W3", "W4", "W5"]
    assert found["W2"]["counted"]["trigram"] < found["W2"]["counted"]["unigram"]
    assert found["W3"]["neighbors"]["chance"] < 0.2
    assert set(found["W4"]["passages"]["TF-IDF"]) == {"1", "4"}


def test_pairs_in_miniature(real_data, tmp_path, monkeypatch, short):
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "pairs")
    splits = study.open_data("emoji")
    splits.train, splits.test = splits.train.take(np.arange(200)), splits.test.take(np.arange(60))
    monkeypatch.setattr(study, "DATA", splits)
    found = run_study(study, tmp_path, quick=True)["experiments"]
    assert list(found) == ["J1", "J2"]
    assert found["J1"]["test"] == 60
    assert (tmp_path / "quick" / "report" / "index.html").read_text().count("<img") >= 2
