"""Scenes, overlap and average precision against naive loops, and heads that learn from scenes."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled import registry
from unlabeled.data.sets import dsprites
from unlabeled.data.sets.scenes import GRAYS, SHARED, TILE, _shared, draw
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.evaluation.overlap import THRESHOLDS, Boxes, average_precision, box_iou, mask_iou
from unlabeled.evaluation.transfer import (
    Dense,
    focal,
    giou,
    learn,
    measure,
    predict,
    targets,
)
from unlabeled.studies.lab import Scale
from unlabeled.studies.run import run_study


def small():
    torch.manual_seed(0)
    return build("small", 1, (64, 64)).eval()


# ---- scenes --------------------------------------------------------------------------------------


def test_scenes_are_what_their_labels_say():
    scenes = draw(300, seed=3)
    assert scenes.x.shape == (300, 1, 128, 128)
    assert scenes.masks.shape == (300, 128, 128)
    assert scenes.boxes.shape == (300, 4, 4)
    assert set(np.unique(scenes.x)) == {0, *GRAYS.tolist()}
    assert ((scenes.x[:, 0] > 0) == (scenes.masks > 0)).all()
    count = (scenes.classes >= 0).sum(1)
    assert set(count) == {1, 2, 3, 4}
    assert set(np.unique(scenes.classes)) == {-1, 0, 1, 2}
    for x, mask, boxes, classes in zip(
        scenes.x[:, 0], scenes.masks, scenes.boxes, scenes.classes, strict=True
    ):
        assert (boxes[classes < 0] == -1).all()
        grays = []  # each sprite has its own: found again by it, the box must be tight
        for x0, y0, x1, y1 in boxes[classes >= 0].astype(int):
            inside = [
                g
                for g in np.unique(x[y0:y1, x0:x1])
                if g and extent(x == g) == (x0, y0, x1, y1) and g not in grays
            ]
            assert inside
            grays.append(inside[0])
        assert set(grays) == set(np.unique(x)) - {0}
        for gray, c in zip(grays, classes[classes >= 0], strict=True):
            assert (mask[x == gray] == c + 1).all()


def extent(on):
    rows, columns = np.nonzero(on)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_scenes_come_from_their_seed():
    one, same, other = draw(20, seed=5), draw(20, seed=5), draw(20, seed=6)
    for name in ("x", "boxes", "classes", "masks"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.x, other.x)
    assert np.array_equal(one.take(slice(3, 5)).masks, one.masks[3:5])


def test_a_single_sprite_is_the_renderer_s():
    scenes = draw(50, seed=1, side=TILE, most=1)
    every = dsprites.render(
        np.array([(c, s, o, 0, 0) for c in range(3) for s in range(6) for o in range(40)])
    )[:, :TILE, :TILE]
    for mask, c in zip(scenes.masks, scenes.classes[:, 0], strict=True):
        assert (every[c * 240 : (c + 1) * 240] == (mask > 0)).all((1, 2)).any()


def test_crowded_scenes_leave_sprites_out():
    scenes = draw(200, seed=2, side=48)
    for boxes, classes in zip(scenes.boxes, scenes.classes, strict=True):
        seen = boxes[classes >= 0]
        assert len(seen)
        for i, a in enumerate(seen):
            for b in seen[:i]:  # what is seen of a sprite is within its whole box
                assert _shared(a, b) < 2 * SHARED
    assert ((scenes.x[:, 0] > 0) == (scenes.masks > 0)).all()


@pytest.mark.parametrize("wrong", [{"number": 0}, {"side": 20}, {"most": 5}, {"most": 0}])
def test_impossible_scenes(wrong):
    with pytest.raises(UserError):
        draw(**{"number": 2} | wrong)


# ---- overlap -------------------------------------------------------------------------------------


def naive_iou(a, b):
    """Count the pixels of boxes with whole corners."""
    pa, pb = (
        {(i, j) for i in range(int(v[0]), int(v[2])) for j in range(int(v[1]), int(v[3]))}
        for v in (a, b)
    )
    return len(pa & pb) / len(pa | pb)


def random_boxes(rng, *shape):
    corner = rng.integers(0, 20, (*shape, 2))
    return np.concatenate([corner, corner + rng.integers(4, 12, (*shape, 2))], -1).astype("float32")


def test_iou_of_boxes_counts_pixels():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 2, 6), random_boxes(rng, 2, 5)
    result = box_iou(a, b)
    for n, i, j in np.ndindex(2, 6, 5):
        assert result[n, i, j] == pytest.approx(naive_iou(a[n, i], b[n, j]))
    p, q = a[:, :5].reshape(-1, 4), b.reshape(-1, 4)
    for v, w, value in zip(p, q, giou(*map(torch.from_numpy, (p, q))), strict=True):
        hull = [*np.minimum(v[:2], w[:2]), *np.maximum(v[2:], w[2:])]
        filled = naive_iou(hull, v) + naive_iou(hull, w)  # both within: shares of the hull
        union = filled / (1 + naive_iou(v, w))
        assert float(value) == pytest.approx(naive_iou(v, w) - (1 - union), abs=1e-5)


def test_iou_of_masks_counts_pixels():
    rng = np.random.default_rng(1)
    guess, truth = rng.integers(0, 3, (2, 4, 5, 6)).astype(np.uint8)
    result = mask_iou(guess, truth, 4)
    for c in range(3):
        expected = ((guess == c) & (truth == c)).sum() / ((guess == c) | (truth == c)).sum()
        assert result[c] == pytest.approx(expected)
    assert np.isnan(result[3])


def naive_precision(found, boxes, classes, of, threshold):
    """COCO's average precision, one detection after another."""
    entries, true = [], 0
    for n in range(len(boxes)):
        free = {k for k in range(boxes.shape[1]) if classes[n, k] == of}
        true += len(free)
        for d in np.argsort(-found.scores[n], kind="stable"):
            if found.classes[n, d] != of:
                continue
            best, overlap = None, threshold
            for k in sorted(free):
                iou = naive_iou(found.boxes[n, d], boxes[n, k])
                if iou >= overlap and (best is None or iou > overlap):
                    best, overlap = k, iou
            free -= {best}
            entries.append((-found.scores[n, d], n, d, best is not None))
    hits, curve = 0, []
    for i, (*_, hit) in enumerate(sorted(entries), 1):
        hits += hit
        curve.append((hits / true, hits / i))
    return np.mean(
        [max([p for r, p in curve if r >= recall], default=0) for recall in np.linspace(0, 1, 101)]
    )


def test_average_precision_is_the_loop_s():
    rng = np.random.default_rng(2)
    boxes, classes = random_boxes(rng, 12, 3), rng.integers(-1, 2, (12, 3))
    near = boxes[:, [0, 1, 2, 0, 1]] + rng.integers(-1, 2, (12, 5, 4))
    guess = np.concatenate([near, random_boxes(rng, 12, 2)], 1).astype(np.float32)
    scores = rng.permutation(12 * 7).reshape(12, 7).astype(np.float32)
    result = Boxes(guess, scores, rng.integers(-1, 2, (12, 7)))
    for of in range(2):
        precision = average_precision(result, boxes, classes, of)
        expected = [naive_precision(result, boxes, classes, of, t) for t in THRESHOLDS]
        assert precision == pytest.approx(expected)
        assert 0 < precision[0] < 1


def test_average_precision_by_hand():
    a, b = [0, 0, 10, 10], [20, 20, 30, 30]
    boxes, classes = np.array([[a, b]], np.float32), np.array([[0, 0]])

    def precision(guesses, scores, of=0):
        labels = np.zeros((1, len(scores)), int)
        result = Boxes(np.array([guesses], np.float32), np.array([scores], np.float32), labels)
        return average_precision(result, boxes, classes, of, (0.5,))[0]

    assert precision([a, b], [0.9, 0.8]) == pytest.approx(1)
    assert precision([a], [0.9]) == pytest.approx(51 / 101)
    # The second of two on one box is wrong: precision 1 up to recall 1/2, 2/3 up to 1.
    assert precision([a, a, b], [0.9, 0.8, 0.7]) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert precision([[0, 0, 10, 6], b], [0.9, 0.8]) == pytest.approx(1)
    assert precision([[0, 0, 10, 4], [0, 0, 1, 1]], [0.9, 0.8]) == 0
    assert np.isnan(precision([a], [0.9], of=1))
    nothing = Boxes(np.zeros((1, 1, 4), np.float32), np.ones((1, 1)), np.full((1, 1), -1))
    assert average_precision(nothing, boxes, classes, 0, (0.5,))[0] == 0


# ---- heads ---------------------------------------------------------------------------------------


def test_targets_by_hand():
    """A box of 16×8 pixels about (18, 10): its center is in cell (4, 2) of stride 4."""
    boxes = torch.tensor([[[10.0, 6.0, 26.0, 14.0], [-1.0] * 4]])
    heat, sizes, near = targets(boxes, torch.tensor([[1, -1]]), 8, 32)
    assert heat.shape == (1, 3, 8, 8)
    assert heat[0, 1, 2, 4] == 1
    assert heat[0, [0, 2]].max() == 0
    for cell, side in ((heat[0, 1, 2, 5], 16), (heat[0, 1, 3, 4], 8)):  # along the box, across
        assert float(cell) == pytest.approx(np.exp(-((1 / (0.54 * side / 4 / 6)) ** 2) / 2))
    at = [(y, x) for y, x in np.ndindex(8, 8) if near[0, y, x]]
    assert at == [
        (y, x)
        for y, x in np.ndindex(8, 8)
        if abs(4 * x + 2 - 18) < 6 and abs(4 * y + 2 - 10) < min(6, 4)
    ]
    assert (sizes[near] == boxes[0, 0]).all()


def test_the_smaller_box_has_its_cells():
    boxes = torch.tensor([[[2.0, 2.0, 30.0, 30.0], [12.0, 12.0, 20.0, 20.0]]])
    _, sizes, near = targets(boxes, torch.tensor([[0, 2]]), 8, 32)
    assert (sizes[0, 4, 4] == boxes[0, 1]).all()
    assert near[0, 4, 4]


def test_focal_loss_is_the_paper_s():
    torch.manual_seed(0)
    logits, heat = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    heat[0, 1, 2, 3] = heat[1, 0, 0, 0] = 1
    total = 0.0
    for p, y in zip(logits.sigmoid().flatten().tolist(), heat.flatten().tolist(), strict=True):
        if y == 1:
            total -= (1 - p) ** 2 * np.log(p)
        else:
            total -= (1 - y) ** 4 * p**2 * np.log(1 - p)
    assert float(focal(logits, heat)) == pytest.approx(total / 2, rel=1e-4)


def test_a_head_learns_its_scenes():
    scenes = draw(16, seed=4, side=64, most=2)
    before = measure(Dense(small(), (1, 64, 64), freeze=True).eval(), scenes)
    model, losses = learn(small(), scenes, freeze=False, epochs=50, rate=1.0)
    after = measure(model, scenes)
    assert losses[-1] < losses[0] / 5
    assert before["miou"] < 0.1
    assert after["miou"] > 0.6
    assert after["ap50"] > 0.6
    assert after["iou"]["background"] > 0.95
    masks, result = predict(model, scenes.x)
    assert masks.shape == scenes.masks.shape
    assert result.boxes.shape == (16, 20, 4)
    assert result.boxes.min() >= 0
    assert result.boxes.max() <= 64


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_encoder_stays_as_it_is(freeze):
    encoder, scenes = small(), draw(40, seed=4, side=64)
    before = copy.deepcopy(encoder.state_dict())
    model, _ = learn(encoder, scenes, freeze=freeze, epochs=2)
    inside = model.stages.state_dict()
    same = [torch.equal(v, before[f"stages.{name}"]) for name, v in inside.items()]
    assert all(same) if freeze else not any(same)
    assert all(torch.equal(v, before[name]) for name, v in encoder.state_dict().items())
    assert all(p.requires_grad for p in encoder.parameters())


def test_transfer_depends_on_the_seed_alone():
    train, test = draw(32, seed=1, side=64), draw(10, seed=2, side=64)
    (one, losses), (same, same_losses), (_, other_losses) = (
        learn(small(), train, freeze=True, epochs=2, seed=seed) for seed in (0, 0, 1)
    )
    assert measure(one, test) == measure(same, test)
    assert losses == same_losses
    assert losses != other_losses
    assert len(losses) == 2


def test_other_encoders():
    scenes = draw(4, side=64)
    for name in ("lenet", "resnet18"):
        encoder = build(name, 1, (64, 64), **({"width": 0.125} if name == "resnet18" else {}))
        model, _ = learn(encoder, scenes, freeze=True, epochs=1)
        pixels, heat, box = model(torch.zeros(2, 1, 64, 64))
        assert pixels.shape == (2, 4, 64, 64)
        assert box.shape[-2:] == heat.shape[-2:]
    with pytest.raises(UserError, match="with stages"):
        learn(nn.Flatten(), scenes, freeze=True, epochs=1)
    with pytest.raises(UserError, match="tokens before those of the patches"):
        learn(build("vit_tiny", 1, (64, 64), patch=32), scenes, freeze=True, epochs=1)
    with pytest.raises(UserError, match="cannot take scenes"):
        learn(build("small", 3, (64, 64)), scenes, freeze=True, epochs=1)
    with pytest.raises(UserError, match="at least 1"):
        learn(small(), scenes, freeze=True, epochs=0)


def test_the_study_in_miniature(tmp_path):
    study = registry.find("studies", "transfer")
    settings = study.Settings(scenes=(32, 64), test_scenes=10, steps=2)
    scale = Scale(True, settings, {"epochs": 1, "progress": False})
    result = run_study(study, tmp_path, scale=scale, data=dsprites.load(images=200))
    assert list(result["experiments"]) == ["T1", "T2"]
    assert set(result["claims"]) == {"15"}
    settings = result["experiments"]["T1"]["settings"]
    assert set(settings) == {"SimCLR", "supervised", "random"}
    assert len(settings["random"]) == 4
    assert "nan" not in json.dumps(result["experiments"]).lower()
    page = (tmp_path / "quick" / "report" / "index.html").read_text()
    assert page.count("<img") == 2
    assert page.count("<table") == 4
    assert page.count("<li value=") == 1  # the claim
