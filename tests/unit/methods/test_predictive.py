"""CPC of sound and of patches, what it sees, and what it must not see."""

import math

import numpy as np
import pytest
import torch

import unlabeled as ul
from unlabeled.augmentations import Compose, RandomHorizontalFlip
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.patches import MaskedContext, join_patches, split_patches
from unlabeled.errors import UserError
from unlabeled.methods.clapp import CLAPP
from unlabeled.methods.cpc import CPC, oriented
from unlabeled.objectives.predictive import draw_negatives, predictive_hinge, predictive_info_nce


def rows(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def naive(a, b, among: str) -> float:
    """The formula, candidate by candidate: the softmax runs over b for a fixed prediction a."""
    n, t, _ = a.shape
    costs = []
    for i in range(n):
        for s in range(t):
            wrong = []
            if among in ("same", "both"):
                wrong += [a[i, s] @ b[i, other] for other in range(t) if other != s]
            if among in ("others", "both"):
                wrong += [a[i, s] @ b[other, s] for other in range(n) if other != i]
            true = a[i, s] @ b[i, s]
            costs.append(torch.logsumexp(torch.stack([true, *wrong]), 0) - true)
    return torch.stack(costs).mean().item()


@pytest.mark.parametrize("among", ["same", "others", "both"])
def test_info_nce_runs_over_candidates_and_holds_the_true_one_once(among):
    a, b = rows(4, 3, 5), rows(4, 3, 5, seed=1)
    assert predictive_info_nce(a, b, among).item() == pytest.approx(naive(a, b, among), rel=1e-9)
    count = {"same": 3, "others": 4, "both": 3 + 4 - 1}[among]
    alike = torch.zeros(4, 3, 5, dtype=torch.float64)
    assert predictive_info_nce(a, alike, among).item() == pytest.approx(math.log(count))
    # a softmax over predictions for a fixed candidate would be another figure
    assert predictive_info_nce(b, a, among).item() != pytest.approx(naive(a, b, among), rel=1e-3)


@pytest.mark.parametrize("among", ["same", "others", "both"])
def test_gradients_are_those_of_finite_differences(among):
    a, b = rows(3, 3, 4).requires_grad_(), rows(3, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: predictive_info_nce(a, b, among), (a, b))

    def seeded(a, b):
        torch.manual_seed(1)
        return predictive_hinge(a, b, among)

    assert torch.autograd.gradcheck(seeded, (a, b))


def test_extreme_scores_stay_finite():
    """log-sum-exp, not log(softmax + ε)."""
    a = 1e3 * rows(3, 4, 5, dtype=torch.float32)
    assert torch.isfinite(predictive_info_nce(a, a)).all()
    assert predictive_info_nce(a, -a).item() > 1e4  # not capped by any ε


@pytest.mark.parametrize("among", ["same", "others", "both"])
def test_a_negative_is_never_what_is_predicted(among):
    b = torch.arange(12.0).view(4, 3, 1)
    for _ in range(60):
        drawn = draw_negatives(b, among)
        assert (drawn != b).all()
        same = (drawn // 3) == (b // 3)
        if among != "both":
            assert same.all() == (among == "same")


@pytest.mark.parametrize("objective", [predictive_info_nce, predictive_hinge])
@pytest.mark.parametrize(
    ("n", "t", "among", "fits"),
    [(1, 5, "others", False), (1, 1, "both", False), (4, 1, "same", False), (2, 1, "others", True),
     (1, 2, "same", True), (1, 2, "both", True), (2, 1, "both", True)],
)  # fmt: skip
def test_nothing_is_its_own_negative(objective, n, t, among, fits):
    """Fails where one sequence, or one place, is contrasted with itself, or with nothing."""
    a, b = rows(n, t, 3), rows(n, t, 3, seed=1)
    if fits:
        assert objective(a, b, among) > 0
        for _ in range(20):
            assert (draw_negatives(b, among) != b).all()
        return
    with pytest.raises(UserError, match="no negatives among"):
        objective(a, b, among)


def test_a_batch_of_one_image_is_predicted_among_its_own_places_only():
    """Fails where it is taken as its own negative; and of audio the last frame has no other."""
    alone = Batch(torch.rand(1, 1, 32, 32), torch.arange(1))
    for objective in ("info_nce", "hinge"):
        method = CPC(build("patches", 1, (32, 32), width=2), objective=objective)
        with pytest.raises(UserError, match="batch-size"):
            method.loss(method.views(alone))
        method = CPC(method.encoder, objective=objective, negatives="same")
        assert method.loss(method.views(alone)) > 0
        method = CPC(
            build("wave", 1, (1, 640), width=4, context=4),
            objective=objective, negatives="same", prediction_steps=9,
        )  # fmt: skip
        sound = Batch(torch.rand(1, 1, 1, 640), torch.arange(1))
        frames = method.encoder.latents_and_context(sound.x)[0].shape[2]
        assert frames < 9  # steps reach beyond the last frame
        assert method.loss(method.views(sound)) > 0


@pytest.mark.parametrize(("size", "patch", "skip"), [(32, None, 1), (28, 7, 2), (30, 5, 2)])
def test_rows_that_share_pixels_are_not_predicted(size, patch, skip):
    """Patches of odd sides share a row of pixels with the next but one."""
    encoder = build("patches", 1, (size, size), width=2, patch=patch)
    for cls in (CPC, CLAPP):
        assert cls(encoder).skip_steps == skip
        assert cls(encoder, skip_steps=0).skip_steps == 0
    wave = build("wave", 1, (1, 1600), width=4, context=4)
    assert CPC(wave).skip_steps == 0  # as the paper
    assert CLAPP(wave).skip_steps == 1


def test_the_hinge_is_the_papers():
    a, b = rows(5, 2, 3), rows(5, 2, 3, seed=1)
    torch.manual_seed(4)
    value = predictive_hinge(a, b, "others")
    torch.manual_seed(4)
    wrong = draw_negatives(b, "others")
    costs = [
        max(0.0, 1 - y * (a[i, s] @ z[i, s]).item())
        for i in range(5)
        for s in range(2)
        for y, z in ((1, b), (-1, wrong))
    ]
    assert value.item() == pytest.approx(np.mean(costs))


def test_the_context_of_sound_knows_nothing_of_what_comes():
    torch.manual_seed(0)
    encoder = build("wave", 1, (1, 4000), width=8, context=8)
    x = rows(2, 1, 1, 4000, dtype=torch.float32)
    z, c = encoder.latents_and_context(x)  # (B, D, T, 1)
    later = x.clone()
    later[..., 2000:] += 1
    z2, c2 = encoder.latents_and_context(later)
    same = 2000 // 80 - 3
    assert torch.equal(z[:, :, :same], z2[:, :, :same])
    assert torch.equal(c[:, :, :same], c2[:, :, :same])
    assert not torch.equal(c[:, :, -1], c2[:, :, -1])


def test_silence_at_the_end_changes_nothing():
    torch.manual_seed(0)
    encoder = build("wave", 1, (1, 3000), width=8, context=8).eval()
    x = rows(3, 1, 1, 2000, dtype=torch.float32)
    longer = torch.nn.functional.pad(x, (0, 2400))
    torch.testing.assert_close(encoder(x), encoder(longer), atol=0.05, rtol=0.05)  # but the edge
    assert torch.isfinite(encoder(torch.zeros(2, 1, 1, 3000))).all()
    assert encoder(torch.ones(1, 1, 1, 3)).shape == (1, 16)


@pytest.mark.parametrize("direction", [0, 1, 2, 3])
def test_the_context_of_patches_sees_rows_above_only(direction):
    from unlabeled.methods.cpc import DIRECTIONS

    torch.manual_seed(0)
    context, turn = MaskedContext(4), DIRECTIONS[4][direction]
    z = rows(1, 4, 6, 6, dtype=torch.float32)
    changed = z.clone()
    changed[:, :, 3, 2] += 1
    row = oriented(changed - z, turn).abs().sum((0, 1, 3)).argmax().item()
    before, after = (context(oriented(x, turn)) for x in (z, changed))
    moved = (before - after).abs().sum((0, 1, 3)) > 0
    assert not moved[:row].any()
    assert moved[row]


def test_patches_are_cut_where_they_should_be():
    encoder = build("patches", 2, (12, 16), width=4, patch=4, stages=2)
    x = torch.arange(2 * 12 * 16.0).view(1, 2, 12, 16)
    tiles = encoder.patch_grid(x)
    rows_of, columns = encoder.patch_grid.shape
    assert (rows_of, columns) == (5, 7)
    for i, image in enumerate(split_patches(tiles, 35)):
        top, left = 2 * (i // 7), 2 * (i % 7)
        assert torch.equal(image, x[0, :, top : top + 4, left : left + 4])
    assert torch.equal(encoder.patch_grid(tiles), tiles)
    assert torch.equal(join_patches(split_patches(tiles, 35), 35), tiles)
    z = encoder.to_grid(encoder.map(x))
    alone = encoder.stages[0][1].network(x[:, :, 4:8, 6:10].contiguous())
    alone = encoder.stages[1].network(alone).mean((2, 3))
    torch.testing.assert_close(z[:, :, 2, 3], alone)
    torch.testing.assert_close(z.mean((2, 3)), encoder(x))


def test_every_patch_is_changed_by_itself():
    torch.manual_seed(0)
    method = CPC(
        build("patches", 1, (32, 32), width=4),
        patch_augment=RandomHorizontalFlip(),
        weak=Compose([]),
    )
    x = torch.rand(4, 1, 32, 32)
    plain, seen = (
        split_patches(t, 49)
        for t in (method.encoder.patch_grid(x), method.views(Batch(x, torch.arange(4))))
    )
    flipped = torch.tensor([not torch.equal(a, b) for a, b in zip(plain, seen, strict=True)])
    assert 0.3 < flipped.float().mean() < 0.7
    assert torch.equal(seen[flipped], plain[flipped].flip(3))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "hinge"},
        {"directions": 4, "skip_steps": 1},
        {"negatives": "both", "prediction_steps": 3},
    ],
)
@pytest.mark.parametrize("name", ["patches", "wave"])
def test_it_learns_on_fixed_views(name, options):
    if name == "wave" and options.get("directions") == 4:
        pytest.skip("sound has two directions")
    torch.manual_seed(0)
    size = (32, 32) if name == "patches" else (1, 1600)
    extra = {"norm": "layer"} if name == "patches" else {"context": 16}
    method = CPC(build(name, 1, size, width=8, **extra), crop_length=1600, **options)
    x = torch.rand(8, 1, *size)
    views = method.views(Batch(x, torch.arange(8)))
    optimizer = torch.optim.Adam(method.parameters(), 3e-3)
    values = []
    for _ in range(15):
        loss = method.loss(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.mean(values[-3:]) < values[0]


def test_every_weight_gets_a_gradient():
    """Also predictors of further steps than there are rows, or several processes would wait."""
    torch.manual_seed(0)
    method = CPC(build("patches", 1, (32, 32), width=4), prediction_steps=12)
    method.loss(method.views(Batch(torch.rand(4, 1, 32, 32), torch.arange(4)))).backward()
    assert all(p.grad is not None for p in method.parameters())
    assert any((p.grad == 0).all() for p in method.predictors.parameters())


def test_a_memory_alone_predicts_what_it_gets():
    full = build("wave", 1, (1, 1200), width=4, context=8)
    stage = len(full.stages) - 1
    memory = full.single_stage(stage, 8, 16)
    x = torch.rand(2, 8, 1, 20)
    z, c = memory.latents_and_context(x)
    assert torch.equal(z, memory.to_grid(x))
    assert (z.shape[1], c.shape[1]) == memory.latent_dims
    assert memory(x).shape == (2, memory.dim)


def test_what_cannot_be_predicted_is_refused():
    with pytest.raises(UserError, match="--encoder wave or patches"):
        CPC(build("small", 1, (32, 32)))
    with pytest.raises(UserError, match="fewer --skip-steps"):
        CPC(build("patches", 1, (32, 32)), prediction_steps=2, skip_steps=2)
    method = CPC(build("wave", 1, (1, 200), width=4))
    with pytest.raises(UserError, match="too few to predict"):
        method.loss(method.views(Batch(torch.rand(3, 1, 1, 200), torch.arange(3))))


def test_it_learns_tones_from_sound_in_memory(tmp_path):
    """Tones that go on: what is to come is known by the pitch; the probe of pitch rises."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 160)
    time = np.arange(2400) / 8000
    tone = np.sin(2 * np.pi * (400 * 1.5 ** y[:, None] * time + rng.random((160, 1))))
    waves = (tone * rng.uniform(0.1, 0.9, (160, 1)) + 0.5 * rng.normal(size=tone.shape)) / 4
    data = ul.data.Recordings(waves, 8000, y)
    run = ul.train(
        "cpc", data, out=tmp_path / "run", epochs=6, batch_size=16, lr=3e-3, crop_length=1600,
        prediction_steps=4, encoder_args={"width": 16, "context": 16}, progress=False,
        logger="none",
    )  # fmt: skip
    result = ul.evaluate(run)
    assert run.inputs["encoder"] == "wave"
    assert run.modality.sample_rate == 8000
    assert set(result["baselines"]) == {"mfcc", "mel", "random", "most_frequent_class"}
    again = ul.load(run.path)
    assert again.embed(waves[:5].astype(np.float32)).shape == (5, 32)
    assert result["metrics"]["linear_probe"]["value"] > 0.5
