"""V-JEPA against a loop over its equations, and the traps of its masks and its targets."""

import pytest
import torch

from unlabeled.augmentations.masks import block_unions, choose_patches, draw_block_size
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.vjepa import VJEPA

SHAPE = (2, 24, 28)  # 6 × 7 patches of 4 pixels


def made(network: dict | None = None, shape=SHAPE, **options) -> VJEPA:
    """On clips of 4 frames, 2 to a patch; all weights random, those of the target others."""
    torch.manual_seed(0)
    args = {"frames": 4, "patch": 4, "width": 12, "depth": 2} | (network or {})
    encoder = build("vit_video", shape[0], shape[1:], **args)
    method = VJEPA(encoder, shape=shape, **{"predictor_width": 12} | options)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def views_of(method: VJEPA, clips: int = 3):
    g = torch.Generator().manual_seed(1)
    x = torch.rand(4 * clips, *SHAPE, generator=g)
    return method.views(Batch(x, torch.arange(len(x))))


def test_the_loss_equals_equation_1():
    """Catches squared or smooth distances, targets of the context encoder, of masked clips or
    without their LayerNorm, and a mean over all patches in place of that of both masks.
    """
    method = made()
    x, *patches = views_of(method)
    clips = x.unflatten(0, (3, 4))
    teacher = method.target_encoder.module
    tokens = teacher.summary.norm(teacher.map(clips).flatten(2).transpose(1, 2)).double()
    losses = []
    for seen, hidden in (patches[:2], patches[2:]):
        errors = []
        for i in range(3):
            visible, masked = (
                torch.tensor([[42 * slot + p for slot in range(2) for p in places[4 * i].tolist()]])
                for places in (seen, hidden)
            )
            context = method.context_encoder.encode_visible(clips[i : i + 1], visible)
            predicted = method.predictor(context, visible, masked[:, None])[0, 0].double()
            for j, place in enumerate(masked[0].tolist()):
                v = tokens[i, place]
                target = (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt()
                errors += (predicted[j] - target).abs().tolist()
        losses.append(sum(errors) / len(errors))
    assert patches[1].shape[1] != patches[3].shape[1]
    assert method.loss((x, *patches)).item() == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_contexts_and_targets_are_tubes_that_do_not_meet():
    """Catches a context that sees a target in another frame, and patches that are counted twice."""
    method = made()
    for seed in range(10):
        torch.manual_seed(seed)
        _, *patches = views_of(method)
        for places in patches:
            of_clips = places.unflatten(0, (3, 4))
            assert (of_clips == of_clips[:, :1]).all()
            assert places.shape[1] >= 1
        for seen, hidden in (patches[:2], patches[2:]):
            for row in range(12):
                both = seen[row].tolist() + hidden[row].tolist()
                assert len(set(both)) == len(both) <= 42


def test_masks_cover_about_as_much_as_the_papers():
    """Catches areas taken for sides, and blocks that all lie in one place."""
    torch.manual_seed(0)
    for blocks, scale in ((8, 0.15), (2, 0.7)):
        shares, areas = [], []
        for _ in range(40):
            size = draw_block_size((14, 14), (scale, scale), (0.75, 1.5))
            areas.append(size[0] * size[1] / 196)
            union = block_unions(20, (14, 14), size, blocks, torch.device("cpu"))
            shares.append(union.float().mean().item())
        assert sum(areas) / 40 == pytest.approx(scale, rel=0.06)
        assert 0.6 < sum(shares) / 40 < 0.95


def test_unions_are_of_rectangles():
    """Catches unions with patches in no block, and clips that share their blocks."""
    torch.manual_seed(0)
    union = block_unions(200, (6, 7), (3, 2), 2, torch.device("cpu")).view(200, 6, 7)
    counts = union.sum((1, 2))
    assert counts.min() >= 6
    assert counts.max() == 12
    assert len(union.unique(dim=0)) > 50
    inside = union.unfold(1, 3, 1).unfold(2, 2, 1).all(4).all(3)  # a block begins there
    for i in range(200):
        covered = torch.zeros(6, 7, dtype=torch.bool)
        for top, left in inside[i].nonzero().tolist():
            covered[top : top + 3, left : left + 2] = True
        assert torch.equal(covered, union[i])


def test_something_remains_visible():
    """Catches a context without a patch, and an endless search for one."""
    torch.manual_seed(0)
    assert not block_unions(500, (4, 4), (4, 3), 2, torch.device("cpu")).all(1).any()
    with pytest.raises(UserError, match="1 blocks of 4×4 patches cover all of 4×4"):
        block_unions(2, (4, 4), (4, 4), 1, torch.device("cpu"))


def test_patches_that_are_left_out_are_random():
    """Catches the last ones, as in the authors' code: the end of the clip would be learned less."""
    torch.manual_seed(0)
    allowed = torch.ones(400, 20, dtype=torch.bool)
    allowed[0, 3:] = False
    chosen = choose_patches(allowed)
    assert chosen.shape == (400, 3)
    assert set(chosen[0].tolist()) == {0, 1, 2}
    counts = chosen[1:].flatten().bincount(minlength=20)
    assert counts.min() > 30
    assert all(allowed[i, row].all() for i, row in enumerate(chosen))


def test_each_mask_is_predicted_by_itself():
    """Catches a predictor that sees the context of the other mask, and lost positions."""
    method = made()
    x, *patches = views_of(method)
    clips = x.unflatten(0, (3, 4))
    visible, masked = (method.encoder.over_time(p[::4], method.grid) for p in patches[:2])
    predicted = method.predict(clips, visible, masked)
    order = torch.randperm(visible.shape[1])
    torch.testing.assert_close(method.predict(clips, visible[:, order], masked), predicted)
    assert not torch.allclose(predicted[:, 0], predicted[:, 1], atol=1e-4)
    half = masked.shape[1] // 2  # the same place in the other slot
    assert torch.equal(masked[:, half:], masked[:, :half] + 42)
    assert not torch.allclose(predicted[:, 0], predicted[:, half], atol=1e-4)


def test_the_target_follows_and_is_the_result():
    """Catches a constant momentum, a gradient, and a context encoder that is saved."""
    torch.manual_seed(0)
    encoder = build("vit_video", 1, (16, 16), frames=4, patch=4, width=12, depth=1)
    method = VJEPA(encoder, momentum=0.8, shape=(1, 16, 16))
    assert method.encoder is method.target_encoder.module
    assert method.context_encoder is encoder
    assert method.clip_length == 4
    before = [p.clone() for p in method.encoder.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    method.loss(method.views(Batch(torch.rand(8, 1, 16, 16), torch.arange(8)))).backward()
    assert all(p.grad is None for p in method.encoder.parameters())
    assert all(p.grad is not None for p in encoder.parameters())
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(1)
    method.progress = 0.25
    method.update()  # 0.8 rises to 0.85
    for old, new in zip(before, method.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.15)


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(UserError, match="vjepa masks patches of clips: use --encoder vit_video"):
        VJEPA(build("vit", 1, (16, 16), pool="mean"), shape=(1, 16, 16))
    with pytest.raises(UserError, match="3×7 patches are too few for blocks of them"):
        made(shape=(2, 12, 28))
