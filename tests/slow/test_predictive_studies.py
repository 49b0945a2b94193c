"""The studies `audio`, `local` and `motion` in miniature, and augmentations of clips."""

import numpy as np
import pytest
import torch

from unlabeled import registry
from unlabeled.augmentations.video import RandomMotion, RandomShape, shift_frames
from unlabeled.data import open_data
from unlabeled.data.sets import moving_sprites
from unlabeled.studies.lab import Scale
from unlabeled.studies.run import run_study

EPOCH = {"epochs": 1, "batch_size": 16, "progress": False, "logger": "none"}


def test_views_of_clips_keep_what_they_are_to_keep():
    torch.manual_seed(0)
    clips = torch.from_numpy(moving_sprites.load(images=60).train.x).float() / 255
    speed = moving_sprites.read_velocity(clips.numpy())
    other = RandomShape(shift=0)(clips)
    remaining = moving_sprites.read_velocity(other.numpy())
    assert np.corrcoef(speed[:, 0], remaining[:, 0])[0, 1] > 0.9
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


def test_motion_in_miniature(tmp_path):
    study = registry.find("studies", "motion")
    data = moving_sprites.load(images=60)
    result = run_study(study, tmp_path, scale=Scale(True, None, EPOCH), data=data)["experiments"]
    assert set(result["M1"]["linear_probe"]) == {"motion-invariant", "object-invariant", "random"}


@pytest.mark.slow
def test_audio_in_miniature(real_data, tmp_path, monkeypatch):
    if not (real_data / "fsdd").is_dir():
        pytest.skip("the spoken digits are not here")
    from unlabeled.data.sets import spoken_digits, tunes

    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "audio")
    data = spoken_digits.load()
    rows = np.random.default_rng(0).permutation(2700)[:150]
    data.train, data.test = data.train.take(rows), data.test.take(np.arange(0, 300, 4))
    small = tunes.load(tunes=12, instruments=5)
    scale = Scale(True, study.Settings(few=2, draws=2, tunes=small), EPOCH)
    result = run_study(study, tmp_path, scale=scale, data=data)["experiments"]
    assert set(result["S1"]["linear_probe"]) == {"CPC", "random", "MFCC", "MFCC and deltas", "mel"}
    assert set(result["S2"]["negatives"]) == {"others", "same", "both"}
    assert result["S3"]["chance"] == pytest.approx(4 / (len(small.test) - 1))
    assert (tmp_path / "quick" / "report" / "index.html").is_file()


@pytest.mark.slow
def test_local_in_miniature(tmp_path, sprites):
    study = registry.find("studies", "local")
    data = open_data((sprites[0][:120, ::2, ::2], sprites[1][:120]))
    ways = ("CLAPP", "CLAPP, local rule", "SimCLR by stages", "hinge CPC, end to end",
            "CPC v2, end to end", "SimCLR, end to end", "supervised")  # fmt: skip
    settings = study.Settings(
        epochs=0, width=4, ways={way: study.WAYS[way] for way in ways}, random=2
    )
    options = {"batch_size": 16, "progress": False, "logger": "none"}
    scale = Scale(True, settings, options)
    result = run_study(study, tmp_path, scale=scale, data=data)["experiments"]
    layers = result["L1"]["layers"]
    assert set(layers) == {*ways, "random", "random, as CPC v2"}
    assert all(len(stages) == 4 for stages in layers.values())
    assert all(f["by stages"] < f["end to end"] for f in result["L2"]["kept_bytes"].values())
    assert set(result["L3"]["readout"]) == {"CLAPP", "random"}
