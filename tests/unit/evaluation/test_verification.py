"""Same or other: pairs, one-shot learning, and a Siamese network that learns to tell."""

import numpy as np
import pytest
import torch

import unlabeled as ul
from unlabeled import registry
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.verification import one_shot, pairs
from unlabeled.methods.siamese import Siamese
from unlabeled.studies.lab import Scale
from unlabeled.studies.run import run_study

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("nearness", ["cosine", "euclidean"])
def test_the_area_is_the_share_of_right_comparisons(nearness):
    z, y = RNG.normal(size=(12, 3)).astype(np.float32), np.arange(12) % 4
    result = pairs(z, y, nearness)
    centered = z - z.mean(0)

    def near(i, j):
        if nearness == "euclidean":
            return -np.linalg.norm(z[i] - z[j])
        return centered[i] @ centered[j] / np.linalg.norm(centered[i]) / np.linalg.norm(centered[j])

    every = [(near(i, j), y[i] == y[j]) for i in range(12) for j in range(i)]
    won = [float(a > b) for a, same in every if same for b, other in every if not other]
    assert result.auc == pytest.approx(np.mean(won), abs=1e-6)
    assert len(result.near) == len(every)


def test_perfect_and_useless_features():
    y = np.repeat(np.arange(10), 4)
    perfect = np.eye(10, dtype=np.float32)[y]
    result = pairs(perfect, y)
    assert result.auc == 1
    accepted = result.near >= result.threshold()
    assert (accepted == result.same).all()
    assert pairs(np.zeros((40, 2), np.float32), y).auc == 0.5
    with pytest.raises(UserError, match="pairs that match"):
        pairs(perfect, np.arange(40))
    with pytest.raises(UserError, match="pairs that match"):
        pairs(perfect, np.zeros(40, int))


def test_one_shot_takes_the_nearest_support():
    z = np.array([[0, 1], [1, 0], [-1, -1], [0.1, 0.9], [0.9, 0.2]], np.float32)
    support, query = np.array([[0, 1, 2]]), np.array([[3, 4]])
    for nearness in ("cosine", "euclidean"):
        assert one_shot(z, support, query, np.array([[0, 1]]), nearness)[0] == 1
        assert one_shot(z, support, query, np.array([[0, 2]]), nearness)[0] == 0.5


def test_batches_hold_images_that_match(sprites, tmp_path):
    """Without groups a batch of 964 characters would hold hardly a pair."""
    x, _ = sprites
    y = np.arange(len(x)) % 100
    seen = []

    class Watch(Siamese):
        def loss(self, views):
            seen.append(views[1])
            return super().loss(views)

    options = {"epochs": 1, "batch_size": 32, "progress": False, "logger": "none"}
    with pytest.warns(Notice, match="12 of 100 classes have fewer than the 4 images"):
        ul.train(Watch, (x, y), out=tmp_path / "run", **options)
    for labels in seen:
        assert (torch.bincount(labels, minlength=100).unique() == torch.tensor([0, 4])).all()


def test_it_tells_unseen_characters_apart(real_data, tmp_path, monkeypatch):
    """Two epochs on some characters: better than pixels on alphabets never seen."""
    from unlabeled.data.sets import omniglot

    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    splits = omniglot.load()
    splits.train = splits.train.take(np.arange(8000))
    run = ul.train("siamese", splits, epochs=3, out=tmp_path / "run", progress=False, logger="none")
    rows = RNG.permutation(len(splits.test))[:1500]
    part = splits.test.take(rows)
    y = part.factors["character"]
    learned = pairs(run.embed(part.x), y, "euclidean").auc
    pixels = pairs(part.x.reshape(len(part), -1) / np.float32(255), y).auc
    assert learned > pixels + 0.04


def test_the_study_in_miniature(real_data, tmp_path, monkeypatch):
    from unlabeled.data.sets import omniglot

    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    study = registry.find("studies", "verification")
    splits = omniglot.load()
    splits.train = splits.train.take(np.arange(1280))
    train_args = {"epochs": 1, "progress": False}
    result = run_study(study, tmp_path, scale=Scale(True, None, train_args), data=splits)
    assert set(result["experiments"]["V1"]["verification"]) == set(study.ENCODERS)
    assert "true matches" in (tmp_path / "quick" / "report" / "index.html").read_text()
