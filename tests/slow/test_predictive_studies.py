"""The studies `sound`, `local` and `motion` in miniature, and the views of clips."""

import numpy as np
import pytest
import torch

from unlabeled import registry
from unlabeled.augmentations.video import RandomMotion, RandomShape, shift_frames
from unlabeled.data.sets import moving_sprites
from unlabeled.studies.lab import Lab
from unlabeled.studies.run import run_study


@pytest.fixture
def short(monkeypatch):
    run = Lab.run

    def short_run(self, *words, **options):
        small = {"batch_size": 16, "progress": False, "logger": "none"}
        return run(self, *words, **options | small | {"quick_epochs": 1})

    monkeypatch.setattr(Lab, "run", short_run)


def test_views_of_clips_keep_what_they_are_to_keep():
    torch.manual_seed(0)
    clips = torch.from_numpy(moving_sprites.load(images=60).train.x).float() / 255
    speed = moving_sprites.read_velocity(clips.numpy())
    other = RandomShape(shift=0)(clips)
    kept = moving_sprites.read_velocity(other.numpy())
    assert np.corrcoef(speed[:, 0], kept[:, 0])[0, 1] > 0.9
    lost = moving_sprites.read_velocity(RandomMotion()(clips).numpy())
    assert abs(np.corrcoef(speed[:, 0], lost[:, 0])[0, 1]) < 0.5
    after = other.sum((2, 3)).std(1) / other.sum((2, 3)).mean(1)
    assert after.mean() < 0.2  # the same blur in every frame
    overlap = (clips[:, 0] - other[:, 0]).abs().sum((1, 2)) / clips[:, 0].sum((1, 2))
    assert overlap.mean() > 0.5  # another outline
    x = torch.arange(16.0).view(1, 1, 4, 4)
    moved = shift_frames(x, torch.tensor([[[1, -2]]]))
    assert moved[0, 0, 1, 0] == x[0, 0, 0, 2]
    assert (moved[0, 0, 0] == 0).all()
    assert (moved[..., 2:] == 0).all()


def test_motion_in_miniature(tmp_path, monkeypatch, short):
    study = registry.find("studies", "motion")
    monkeypatch.setattr(study, "DATA", moving_sprites.load(images=60))
    found = run_study(study, tmp_path, quick=True)["experiments"]["M1"]["read"]
    assert set(found) == {"movement-invariant", "object-invariant", "random"}


def test_sound_in_miniature(real_data, tmp_path, monkeypatch, short):
    if not (real_data / "fsdd").is_dir():
        pytest.skip("the spoken digits are not here")
    from unlabeled.data.sets import spoken_digits, tunes

    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "sound")
    data = spoken_digits.load()
    few = np.random.default_rng(0).permutation(2700)[:150]
    data.train, data.test = data.train.take(few), data.test.take(np.arange(0, 300, 4))
    monkeypatch.setattr(study, "DATA", data)
    monkeypatch.setattr(study, "FEW", 2)
    monkeypatch.setattr(study, "DRAWS", 2)
    opened = study.open_data
    small = tunes.load(tunes=12, instruments=5)
    monkeypatch.setattr(study, "open_data", lambda d: small if d == "tunes" else opened(d))
    result = run_study(study, tmp_path, quick=True)["experiments"]
    assert set(result["S1"]["read"]) == {"CPC", "random", "MFCC", "MFCC and deltas", "mel"}
    assert set(result["S2"]["negatives"]) == {"others", "same", "both"}
    assert result["S3"]["chance"] == pytest.approx(4 / (len(small.test) - 1))
    assert (tmp_path / "quick" / "report" / "index.html").is_file()


def test_local_in_miniature(tmp_path, monkeypatch, short, sprites):
    from unlabeled.data import open_data

    study = registry.find("studies", "local")
    data = open_data((sprites[0][:120, ::2, ::2], sprites[1][:120]))
    monkeypatch.setattr(study, "DATA", data)
    monkeypatch.setattr(study, "WIDTH", 4)
    monkeypatch.setattr(study, "QUICK_MINUTES", 0.0005)
    ways = ("CLAPP", "CLAPP, by the rule", "SimCLR by stages", "hinge CPC, end to end",
            "CPC v2, end to end", "supervised")  # fmt: skip
    monkeypatch.setattr(study, "WAYS", {way: study.WAYS[way] for way in ways})
    result = run_study(study, tmp_path, quick=True)["experiments"]
    layers = result["L1"]["layers"]
    assert set(layers) == {*study.WAYS, "random", "random, as CPC v2"}
    assert all(len(stages) == 4 for stages in layers.values())
    assert all(f["by stages"] < f["end to end"] for f in result["L2"]["kept_bytes"].values())
    assert set(result["L3"]["read_out"]) == {"CLAPP", "random"}
