"""SimMIM, I-JEPA and data2vec against loops over their equations, and the traps of their masks."""

import math

import pytest
import torch
from torch import nn

from unlabeled.augmentations.masks import blockwise_mask, random_blocks
from unlabeled.core import Batch, Method
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.data2vec import Data2Vec
from unlabeled.methods.ijepa import IJEPA
from unlabeled.methods.simmim import SimMIM

SHAPE = (2, 24, 28)
CPU = torch.device("cpu")


def images(n: int = 4, shape=SHAPE, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def make(cls: type[Method], shape=SHAPE, network: dict | None = None, **options) -> Method:
    """On 6×7 patches of 4 pixels; all weights random, also norms and biases."""
    torch.manual_seed(0)
    args = {"patch": 4, "width": 12, "depth": 4, "pool": "mean"} | (network or {})
    method = cls(build("vit", shape[0], shape[1:], **args), shape=shape, **options)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def views_of(method: Method, n: int = 4, shape=SHAPE):
    return method.views(Batch(images(n, shape), torch.arange(n)))


def layer_norm(v: torch.Tensor) -> torch.Tensor:
    v = v.double()
    return (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt()


METHODS = [SimMIM, IJEPA, Data2Vec]


@pytest.mark.parametrize("cls", METHODS)
def test_what_is_embedded_must_be_what_is_trained(cls):
    """Catches networks whose features are not of the patches that the method trains."""
    for name, options in (("small", {}), ("vit", {}), ("vit_tiny", {})):
        with pytest.raises(UserError, match="--encoder vit --pool mean"):
            cls(build(name, 1, (32, 32), **options), shape=(1, 32, 32))
    encoder = build("vit_tiny", 1, (32, 32), patch=8, pool="mean")
    views = (method := cls(encoder, shape=(1, 32, 32))).views(Batch(images(2, (1, 32, 32)), None))
    assert method.loss(views).isfinite()


def test_features_are_the_mean_of_the_patches():
    """Catches a class token that goes on to be the feature, and a lost or doubled norm."""
    vit = build("vit", 1, (16, 16), patch=4, width=12, depth=2, pool="mean").eval()
    x = images(3, (1, 16, 16))
    nn.init.normal_(vit.summary.norm.weight)
    expected = vit.summary.norm(vit.map(x).mean((2, 3)))
    torch.testing.assert_close(vit(x), expected)
    shares = vit.attention(x)
    assert shares.shape == (3, 3, 4, 4)
    torch.testing.assert_close(shares.sum((2, 3)), torch.ones(3, 3))


# Masks


def test_blocks_are_rectangles_that_reach_every_edge():
    """Catches starts that leave out the last row or column, as in I-JEPA's code."""
    torch.manual_seed(0)
    height, width = torch.full((200, 2), 2), torch.full((200, 2), 3)
    blocks = random_blocks(height, width, (5, 4))
    assert blocks.shape == (200, 2, 5, 4)
    for block in blocks.flatten(0, 1):
        rows, columns = block.any(1).nonzero()[:, 0], block.any(0).nonzero()[:, 0]
        assert rows.tolist() == list(range(rows[0], rows[0] + 2))
        assert columns.tolist() == list(range(columns[0], columns[0] + 3))
        assert block.sum() == 6
    assert blocks.flatten(0, 1).any(0).all()


@pytest.mark.parametrize(("grid", "count"), [((14, 14), 118), ((5, 9), 20), ((2, 2), 1)])
def test_blockwise_masks_have_their_count_and_hang_together(grid, count):
    """Catches masks of single patches, which neighbors give away, and counts that vary."""
    torch.manual_seed(0)
    n = 100
    masks = blockwise_mask(n, grid, count, CPU)
    assert masks.shape == (n, math.prod(grid))
    assert (masks.sum(1) == count).all()
    assert masks.any(0).all()
    assert len(masks.unique(dim=0)) > 1
    maps = masks.view(n, *grid)
    share = count / math.prod(grid)
    if share > 0.3:
        both = (maps[:, 1:] & maps[:, :-1]).float().mean()
        assert both > 1.3 * share**2  # of single patches: share²


# SimMIM


@pytest.mark.parametrize(("size", "masked"), [(1, 26), (2, 8), (3, 4)])
def test_simmim_masks_whole_squares(size, masked):
    """Catches a rounded-down number, masks of single patches, the same mask for all images."""
    method = make(SimMIM, mask_size=size)
    assert method.masked == masked  # of 42, 12 and 6 squares, ⌈0.6 n⌉
    _, mask = views_of(method, 20)
    maps = mask.view(20, 6, 7)
    assert len(mask.unique(dim=0)) > 1
    for top in range(0, 6, size):
        for left in range(0, 7, size):
            square = maps[:, top : top + size, left : left + size].flatten(1)
            assert (square.all(1) == square.any(1)).all()
    firsts = maps[:, ::size, ::size].flatten(1)
    assert (firsts.sum(1) == masked).all()


def test_simmim_is_the_absolute_error_of_masked_pixels():
    """Catches visible patches in the mean, squares, normalized targets, a mean of images' means."""
    method = make(SimMIM, mask_size=2)
    x, masked = views_of(method)
    assert len(masked.sum(1).unique()) > 1  # squares at the edge have fewer patches
    drawn = method.reconstruct(x, masked)
    errors = []
    for i in range(4):
        for patch in masked[i].nonzero()[:, 0].tolist():
            top, left = patch // 7 * 4, patch % 7 * 4
            true = x[i, :, top : top + 4, left : left + 4].flatten()
            errors += (drawn[i, patch].double() - true.double()).abs().tolist()
    expected = sum(errors) / len(errors)
    assert method.loss((x, masked)).item() == pytest.approx(expected, rel=1e-5)


def test_a_mask_token_has_the_position_of_what_it_replaces():
    """Catches a token in place of the position, too, and masks on other patches."""
    method = make(SimMIM)
    first = method.encoder.stages[0]
    masked = torch.zeros(2, 42, dtype=torch.bool)
    masked[0, 3] = masked[1, 40] = True
    plain = first.patches(images(2)).flatten(2)
    tokens = first.patches(images(2), masked, method.mask_token).flatten(2)
    positions = first.positions.flatten(2)[0]
    torch.testing.assert_close(tokens[0, :, 3], method.mask_token + positions[:, 3])
    torch.testing.assert_close(tokens[1, :, 40], method.mask_token + positions[:, 40])
    assert torch.equal(tokens.transpose(1, 2)[~masked], plain.transpose(1, 2)[~masked])


def test_simmim_draws_its_masks():
    method = make(SimMIM, shape=(1, 17, 18)).eval()
    drawn = method.visualize(images(3, (1, 17, 18)))["image, masked, reconstruction"]
    assert drawn.shape == (3, 3, 1, 16, 16)
    with pytest.raises(UserError, match="smaller --mask-size"):
        make(SimMIM, mask_size=7)


# I-JEPA


@pytest.mark.parametrize("distance", ["smooth_l1", "l2"])
def test_ijepa_equals_equation_1(distance):
    """Catches targets of the context encoder or of its context, or without their LayerNorm."""
    method = make(IJEPA, distance=distance)
    x, context, blocks = views_of(method)
    teacher = method.target_encoder.module
    patches = teacher.summary.norm(teacher.map(x).flatten(2).transpose(1, 2))
    tokens = method.context_encoder.encode_visible(x, context)[1].transpose(1, 2)
    tokens = method.context_encoder.summary.norm(tokens)
    predicted = method.predictor(tokens, context, blocks).double()
    errors = []
    for i in range(4):
        for m in range(4):
            for j, patch in enumerate(blocks[i, m].tolist()):
                gap = (predicted[i, m, j] - layer_norm(patches[i, patch])).abs()
                small = gap**2 / 2 if distance == "smooth_l1" else gap**2
                large = gap - 0.5 if distance == "smooth_l1" else gap**2
                errors += torch.where(gap < 1, small, large).tolist()
    loss = method.loss((x, context, blocks))
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


def test_ijepas_context_is_apart_from_its_targets():
    """Catches a context that holds what is predicted, blocks with holes, and empty contexts."""
    method = make(IJEPA)
    for seed in range(20):
        torch.manual_seed(seed)
        _, context, blocks = views_of(method, 16)
        assert blocks.shape[:2] == (16, 4)
        assert 0.1 * 42 <= blocks.shape[2] <= 0.3 * 42
        assert 2 <= context.shape[1] <= 42
        for i in range(16):
            assert not set(context[i].tolist()) & set(blocks[i].flatten().tolist())
            assert len(set(context[i].tolist())) == context.shape[1]
            for block in blocks[i]:
                rows, columns = (block // 7).unique(), (block % 7).unique()
                assert len(rows) * len(columns) == len(block.unique()) == len(block)
                assert rows[-1] - rows[0] == len(rows) - 1
                assert columns[-1] - columns[0] == len(columns) - 1


def test_ijepa_predicts_each_block_by_itself():
    """Catches mask tokens of one block that attend to those of another, and lost positions."""
    method = make(IJEPA)
    x, context, blocks = views_of(method)
    predicted = method.predict(x, context, blocks)
    alone = method.predict(x, context, blocks[:, 2:3])
    torch.testing.assert_close(predicted[:, 2:3], alone)
    order = torch.randperm(context.shape[1])  # of the context: it is a set of patches and places
    torch.testing.assert_close(method.predict(x, context[:, order], blocks), predicted)
    assert not torch.allclose(predicted[:, :, 0], predicted[:, :, 1], atol=1e-4)


def test_ijepas_target_follows_and_is_the_result():
    """Catches a constant momentum, half a cosine, an update before the step, a gradient."""
    torch.manual_seed(0)
    encoder = build("vit", 1, (16, 16), patch=4, width=12, depth=1, pool="mean")
    method = IJEPA(encoder, momentum=0.8, shape=(1, 16, 16))
    assert method.encoder is method.target_encoder.module
    assert method.context_encoder is encoder
    before = [p.clone() for p in method.encoder.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    method.loss(views_of(method, shape=(1, 16, 16))).backward()
    assert all(p.grad is None for p in method.encoder.parameters())
    with torch.no_grad():
        for p in encoder.parameters():
            p.add_(1)
    method.progress = 0.25
    method.update()  # 0.8 rises to 0.85
    for old, new in zip(before, method.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.15)


def test_ijepa_refuses_what_leaves_no_context():
    with pytest.raises(UserError, match="at least 4×4"):
        make(IJEPA, shape=(1, 12, 24))
    with pytest.raises(UserError, match="fewer --targets"):
        views_of(make(IJEPA, targets=200))


# data2vec


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_data2vec_equals_its_equations(beta):
    """Catches visible patches, one norm too few, lower blocks, a masked teacher, another β."""
    method = make(Data2Vec, beta=beta, top_blocks=3)
    x, masked = views_of(method)
    assert (masked.sum(1) == 25).all()  # 0.6 of 42
    predicted = method.predict(x, masked).double()
    blocks, h = [], x
    for stage in method.teacher.module.stages:
        h = stage(h)
        blocks.append(h.flatten(2))
    errors = []
    for i in range(4):
        for patch in masked[i].nonzero()[:, 0].tolist():
            mean = sum(layer_norm(block[i, :, patch]) for block in blocks[-3:]) / 3
            gap = (predicted[i, patch] - layer_norm(mean)).abs().tolist()
            errors += [g**2 / 2 / beta if g < beta else g - beta / 2 for g in gap]
    loss = method.loss((x, masked))
    assert loss.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


@pytest.mark.parametrize("cls", [Data2Vec, IJEPA])
def test_a_teacher_drops_no_path(cls):
    """Catches a teacher in train mode: its targets would be random."""
    method = make(cls, network={"drop_path": 0.9}).train()
    targets, x = method.targets if cls is Data2Vec else method.represent, images()
    assert torch.equal(targets(x), targets(x))
    assert not targets(x).requires_grad


def test_data2vecs_momentum_rises_and_stays():
    """Catches a rise over the whole training, and an average of heads and mask tokens."""
    method = make(Data2Vec, momentum=0.9, final_momentum=0.98, ramp_end=0.5)
    result = [method.momentum(t) for t in (0.0, 0.25, 0.5, 1.0)]
    assert result == pytest.approx([0.9, 0.94, 0.98, 0.98])
    assert make(Data2Vec, final_momentum=0.98, ramp_end=0.0).momentum(0.0) == pytest.approx(0.98)
    before = [p.clone() for p in method.teacher.parameters()]
    method.progress = 0.25
    method.update()
    slow, fast = method.teacher.module.parameters(), method.encoder.parameters()
    for old, new, lead in zip(before, slow, fast, strict=True):
        torch.testing.assert_close(new, 0.94 * old + 0.06 * lead)
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_data2vec_has_no_more_top_blocks_than_blocks():
    assert make(Data2Vec).top_blocks == 2
    with pytest.raises(UserError, match="top_blocks is 5, but the encoder has 4 blocks"):
        make(Data2Vec, top_blocks=5)
