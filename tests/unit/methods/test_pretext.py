"""Pretext tasks: the questions are well put, the shortcuts closed, the answers learned."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import unlabeled as ul
from unlabeled.augmentations.color import color_bins, lab_to_rgb, rgb_to_lab, soft_bins, to_gray
from unlabeled.augmentations.patches import (
    drop_colors,
    permutations,
    standardize_tiles,
    tiles,
)
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.decoders import MAEDecoder
from unlabeled.encoders.heads import Discriminator
from unlabeled.errors import UserError
from unlabeled.methods.colorization import Colorization
from unlabeled.methods.context_encoder import ContextEncoder, masked, region_mask
from unlabeled.methods.denoising_autoencoder import DenoisingAutoencoder
from unlabeled.methods.jigsaw import Jigsaw, to_image
from unlabeled.methods.masked_autoencoder import MaskedAutoencoder
from unlabeled.methods.relative_patch import NEIGHBORS, RelativePatch
from unlabeled.methods.rotation import Rotation
from unlabeled.training.trainer import ddp

SHAPE = (3, 24, 24)


def images(n=8, shape=SHAPE, seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def batch(n=8, shape=SHAPE):
    return Batch(images(n, shape), torch.arange(n))


def small(shape=SHAPE):
    torch.manual_seed(0)
    return build("small", shape[0], shape[1:], width=4)


def numbered(h=9, w=12):
    """An image whose pixels say where they are: row in the first channel, column in the second."""
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack([rows, columns]).float()[None]


def test_tiles_lie_in_their_cells():
    x = numbered().repeat(50, 1, 1, 1)
    cut = tiles(x, 3, share=0.7)  # cells of 3×4 pixels, tiles of 2×2
    assert cut.shape == (50, 9, 2, 2, 2)
    for i in range(9):
        row, column = cut[:, i, 0], cut[:, i, 1]
        assert row.min() >= 3 * (i // 3)
        assert row.max() < 3 * (i // 3 + 1)
        assert column.min() >= 4 * (i % 3)
        assert column.max() < 4 * (i % 3 + 1)
        assert (row[:, 1] - row[:, 0] == 1).all()
        assert (column[:, :, 1] - column[:, :, 0] == 1).all()
    corners = cut[:, 4, :, 0, 0]
    assert len(corners.unique(dim=0)) == 6  # 2 places down, 3 across: all are drawn


@pytest.mark.parametrize("size", [6, 7, 8, 9, 12, 15])
@pytest.mark.parametrize("share", [0.75, 0.8, 0.95])
def test_small_tiles_keep_their_gap(size, share):
    """Fails where rounding makes a tile as large as its cell, so that edges go on in the next."""
    cut = tiles(numbered(size, size), 3, share)
    assert cut.shape[-1] < size // 3


def test_tiles_without_a_gap_are_the_image():
    x = images(2, (3, 9, 9))
    cut = tiles(x, 3, share=1.0)
    full = cut.unflatten(1, (3, 3)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    assert torch.equal(full, x)
    assert tiles(x, 3, 0.8, size=7).shape == (2, 9, 3, 7, 7)
    with pytest.raises(UserError, match="cannot be cut"):
        tiles(images(1, (1, 2, 9)), 3)


def test_normal_tiles_have_lost_their_brightness():
    cut = tiles(images(4), 2, size=8) * torch.tensor([0.1, 1, 5, 9])[:, None, None, None] + 3
    normal = standardize_tiles(cut)
    assert normal.mean((2, 3, 4)).abs().max() < 1e-3
    assert (normal.std((2, 3, 4)) - 1).abs().max() < 0.1


def test_one_color_is_kept():
    x = images(60)
    remaining = (drop_colors(x) == x).flatten(2).all(2)  # (B, 3)
    assert (remaining.sum(1) == 1).all()
    assert remaining.any(0).all()
    dark_but_one = torch.tensor([0.2, 0.5, 0.8])[:, None, None] + 0.01 * images(60)
    noisy = drop_colors(dark_but_one)  # noise about the kept color, with its deviation alone
    only = dark_but_one[(noisy == dark_but_one).flatten(2).all(2)]
    torch.testing.assert_close(noisy.mean((1, 2, 3)), only.mean((1, 2)), atol=1e-4, rtol=0)
    single = images(3, (1, 8, 8))
    assert torch.equal(drop_colors(single), single)


def naive_permutations(items, count, seed):
    """Algorithm 1 word by word."""
    import itertools

    every = list(itertools.permutations(range(items)))
    chosen = [int(np.random.default_rng(seed).integers(len(every)))]
    while len(chosen) < count:
        best = max(
            (i for i in range(len(every)) if i not in chosen),
            key=lambda i: sum(
                a != b for c in chosen for a, b in zip(every[i], every[c], strict=True)
            ),
        )
        chosen.append(best)
    return [list(every[i]) for i in chosen]


def test_permutations_are_the_most_unlike():
    assert permutations(4, 6, 3).tolist() == naive_permutations(4, 6, 3)
    all_of_four = permutations(4, 100)
    assert len(np.unique(all_of_four, axis=0)) == 24
    nine = permutations(9, 40)
    assert len(np.unique(nine, axis=0)) == 40
    distance = (nine[:, None] != nine).sum(2)[~np.eye(40, dtype=bool)]
    assert distance.mean() > 8  # of 9; of random orders 8
    with pytest.raises(UserError, match="2 to 9 tiles"):
        permutations(16, 4)


def test_rotation_asks_all_four():
    x, turns = Rotation(small()).views(batch())
    assert x.shape == (32, *SHAPE)
    assert torch.bincount(turns).tolist() == [8, 8, 8, 8]
    for i in range(8):
        assert torch.equal(x[8 + i], x[i].rot90(1, (1, 2)))


def test_the_middle_patch_has_eight_neighbors():
    shape = (3, 27, 27)
    method = RelativePatch(small(shape), tile_fraction=0.6, drop_color=0, tile_size=5, shape=shape)
    rows, columns = torch.meshgrid(torch.arange(27), torch.arange(27), indexing="ij")
    x = torch.stack([rows, columns, rows]).float().repeat(200, 1, 1, 1)
    method.weak = lambda x: x
    views, path = method.views(Batch(x, torch.arange(200)))
    assert path.unique().tolist() == list(range(8))
    for pair, k in zip(views, path.tolist(), strict=True):
        assert (pair[0, :2, 0, 0] // 9).tolist() == [1, 1]
        assert (pair[1, :2, 0, 0] // 9).tolist() == [NEIGHBORS[k] // 3, NEIGHBORS[k] % 3]


def test_a_puzzle_can_be_laid_again():
    """Who names the order lays the tiles back in their places."""
    method = Jigsaw(small(), grid=3, permutations=20, tile_size=8, shape=SHAPE)
    views, order = method.views(batch())
    assert views.shape == (8, 9, 3, 8, 8)
    assert (method.permutations[order].sort(1).values == torch.arange(9)).all()
    full = standardize_tiles(tiles(images(), 3, 1.0))
    rows = torch.arange(8)[:, None]
    method.views = lambda _: (full[rows, method.permutations[order]], order)
    method.scores = lambda _: torch.nn.functional.one_hot(order, 20).float()
    puzzle, solution = method.visualize(images())["puzzle and solution"].unbind(1)
    assert torch.equal(solution, to_image(full))
    assert not torch.equal(puzzle, solution)


@pytest.mark.parametrize("noise", ["masking", "salt_pepper", "gaussian"])
def test_damage_is_as_strong_as_asked(noise):
    method = DenoisingAutoencoder(small(), noise=noise, noise_level=0.3, shape=SHAPE)
    x = images(40) * 0.8 + 0.1
    damaged = method.corrupt(x)
    if noise == "gaussian":
        assert (damaged - x).std() == pytest.approx(0.3, abs=0.01)
        return
    hit = (damaged != x).all(1)
    assert hit.float().mean() == pytest.approx(0.3, abs=0.02)
    values = damaged.permute(0, 2, 3, 1)[hit].unique().tolist()
    assert values == ([0] if noise == "masking" else [0, 1])


def test_units_between_stages_are_damaged_each_by_itself():
    """Catches layers of single units that are all set to 0 or none."""
    method = DenoisingAutoencoder(
        build("dense", 1, (6, 6), widths=(40, 30)), stacked=True, shape=(1, 6, 6)
    )
    method.progress = 0.5  # the second layer
    seen = []
    method.encoder.stages[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.loss(method.views(batch(50, (1, 6, 6))))
    hidden = (seen[0].flatten(1) == 0).float().mean(1)
    assert hidden.min() > 0
    assert hidden.max() < 1


def test_a_stage_of_units_is_decoded_to_every_pixel():
    """Catches a decoder that can only give the same value everywhere, or no decoder at all."""
    encoder = build("dense", 1, (6, 6), widths=(40,))
    method = DenoisingAutoencoder(encoder, stacked=True, shape=(1, 6, 6))
    drawn = method.stage_decoders[0](encoder.stages[0](images(2, (1, 6, 6))))
    assert drawn.shape == (2, 1, 6, 6)
    assert len(drawn[0].unique()) == 36
    with pytest.raises(UserError, match="no stages to train one after another; omit --stacked"):
        DenoisingAutoencoder(build("unet", 1, (8, 8), width=8), stacked=True, shape=(1, 8, 8))


def test_stages_take_turns():
    """Greedily: only the stage whose turn it is, and its way back, get a gradient."""
    method = DenoisingAutoencoder(small(), stacked=True, shape=SHAPE)
    views = method.views(batch())
    for turn in range(4):
        method.progress = (turn + 0.5) / 5
        method.zero_grad()
        method.loss(views).backward()
        moved = [
            any(p.grad is not None and p.grad.any() for p in s.parameters())
            for s in method.encoder.stages
        ]
        assert moved == [i == turn for i in range(4)]
    method.progress = 0.95
    method.zero_grad()
    method.loss(views).backward()
    assert all(p.grad is not None for p in method.encoder.parameters())


@pytest.mark.filterwarnings("ignore:`broadcast_buffers` is deprecated:FutureWarning")
def test_stages_take_turns_on_several_processes(tmp_path):
    """Catches DDP that waits for the gradients of stages whose turn it is not."""

    class Loss(torch.nn.Module):
        def __init__(self, method):
            super().__init__()
            self.method = method

        def forward(self, views):
            return self.method.loss(views)

    method = DenoisingAutoencoder(small(), stacked=True, shape=SHAPE)
    options = ddp(method, "gloo", True)._ddp_kwargs
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        loss = DistributedDataParallel(Loss(method), **options)
        for turn in range(5):
            method.progress = (turn + 0.5) / 5
            loss(method.views(batch())).backward()
    finally:
        dist.destroy_process_group()
    assert all(p.grad is not None for p in method.parameters())


def test_resting_stages_rest_with_all_they_have():
    """Fails where a stage that only hands on still moves its BatchNorm, or ends in eval mode."""
    method = DenoisingAutoencoder(small(), stacked=True, shape=SHAPE)
    method.encoder.stages[0][1].eval()  # one that its owner froze
    modes = [layer.training for layer in method.modules()]
    for turn in range(5):
        method.progress = (turn + 0.5) / 5
        before = [copy.deepcopy(stage.state_dict()) for stage in method.encoder.stages]
        method.loss(method.views(batch()))
        moved = [
            any(not torch.equal(v, before[i][k]) for k, v in stage.state_dict().items())
            for i, stage in enumerate(method.encoder.stages)
        ]
        assert moved == [i > 0 and turn in (i, 4) for i in range(4)]
        assert [layer.training for layer in method.modules()] == modes


@pytest.mark.parametrize(("kind", "area"), [("center", 0.25), ("top", 0.5), ("blocks", 0.22)])
def test_holes_have_their_area(kind, area):
    missing = region_mask(images(200), kind)
    assert missing.shape == (200, 1, 24, 24)
    assert missing.float().mean() == pytest.approx(area, abs=0.05)


def test_holes_are_where_they_are_said_to_be():
    """The middle half of each side; the upper half; squares anywhere, others in each image."""
    x = images(60)
    center = torch.zeros(24, 24, dtype=torch.bool)
    center[6:18, 6:18] = True
    assert (region_mask(x, "center") == center).all()
    upper = torch.arange(24)[:, None].expand(24, 24) < 12
    assert (region_mask(x, "top") == upper).all()
    blocks = region_mask(x, "blocks")[:, 0]
    assert len(blocks.flatten(1).unique(dim=0)) == 60
    assert blocks.any(0).float().mean() > 0.8
    for missing in blocks:  # every hole is made of whole squares of a quarter of the side
        square = torch.nn.functional.unfold(missing[None, None].float(), 6).all(1).view(1, 19, 19)
        again = torch.nn.functional.conv_transpose2d(square.float()[None], torch.ones(1, 1, 6, 6))
        assert torch.equal(again[0, 0] > 0, missing)


def test_a_hole_is_filled_with_what_is_seen_of_each_channel():
    """Fails for the mean of the whole image, of the batch, or of all channels together."""
    x = images(2, (3, 8, 6))
    missing = region_mask(x, "top")
    x = torch.where(missing, 7.0, x)
    filled = masked(x, missing)
    assert torch.equal(filled[:, :, 4:], x[:, :, 4:])
    for image, full in zip(x, filled, strict=True):
        for channel, painted in zip(image, full, strict=True):
            assert painted[:4].unique().item() == pytest.approx(channel[4:].mean().item())
    every = torch.ones_like(missing)
    assert torch.equal(masked(x, every), torch.zeros_like(x))  # nothing is seen, and no NaN


def test_two_players_pull_apart():
    """The discriminator's step leaves the generator alone, whose loss counts the mask only."""
    method = ContextEncoder(small(), shape=SHAPE, adversarial_weight=0.0)
    x, missing = method.views(batch())
    drawn = method.inpaint(x, missing)
    expected = ((drawn - x) ** 2)[missing.expand_as(x)].mean() * 0.999
    torch.testing.assert_close(method.loss((x, missing)), expected, rtol=1e-4, atol=1e-6)
    turns = method.optimizer_steps((x, missing))
    next(turns)
    method.zero_grad()
    _, loss = next(turns)
    loss.backward()
    assert all(p.grad is None for p in method.generator.parameters())
    assert any(p.grad is not None for p in method.discriminator.parameters())


def test_a_critic_has_spectral_norms_of_one():
    torch.manual_seed(0)
    discriminator = Discriminator((3, 28, 20), width=8)
    for _ in range(100):
        discriminator.update()
    layers = [
        m for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    ]
    assert len(layers) == 4
    for layer in layers:
        top = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert top.item() == pytest.approx(1, abs=0.02)
    x = torch.rand(2, 3, 28, 20)
    assert torch.equal(discriminator(x), discriminator(x))


@pytest.mark.parametrize("encoder", ["small", "vit"])
def test_patches_are_hidden_at_random(encoder):
    shape = (3, 32, 32)
    torch.manual_seed(0)
    created = build(
        encoder, 3, (32, 32), **({} if encoder == "small" else {"width": 24, "depth": 2})
    )
    method = MaskedAutoencoder(created, decoder_width=24, shape=shape).eval()
    x, order = method.views(batch(4, shape))
    assert method.visible == 16
    assert (order.sort(1).values == torch.arange(64)).all()
    assert method.visualize(x)["image, masked, reconstruction"].shape == (4, 3, 3, 32, 32)


def test_the_error_is_of_hidden_patches():
    shape = (3, 32, 32)
    method = MaskedAutoencoder(build("small", 3, (32, 32)), shape=shape).eval()
    x, order = method.views(batch(4, shape))
    drawn, wanted = method.reconstruct(x, order), method.targets(x)
    squares = [
        ((drawn[b, p] - wanted[b, p]) ** 2).mean() for b in range(4) for p in order[b, 16:].tolist()
    ]
    torch.testing.assert_close(method.loss((x, order)), torch.stack(squares).mean())
    assert math.isclose(wanted[0, 0].mean().item(), 0, abs_tol=1e-5)


@pytest.mark.parametrize("encoder", ["small", "vit"])
@pytest.mark.parametrize("channels", [1, 2, 3, 13])
@pytest.mark.parametrize("size", [(4, 4), (8, 8), (9, 15), (15, 12), (16, 16)])
def test_tiny_images_have_a_finite_error_worth_learning(encoder, channels, size):
    """Fails where a patch of one value is divided by its deviation, or less its mean is nothing."""
    torch.manual_seed(0)
    args = {"width": 12, "depth": 1} if encoder == "vit" else {"width": 4}
    method = MaskedAutoencoder(
        build(encoder, channels, size, **args),
        decoder_width=12,
        decoder_depth=1,
        shape=(channels, *size),
    )
    x = images(4, (channels, *size))
    assert method.targets(x).std() > 0.1
    loss = method.loss(method.views(Batch(x, torch.arange(4))))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert all(v.isfinite().all() for v in method.eval().visualize(x).values())


@pytest.mark.parametrize(
    "name", ["small", "vit", "lenet", "resnet18", "spatial_resnet", "patches", "unet"]
)
def test_a_masked_autoencoder_trains_all_that_it_embeds(name):
    """Fails where tokens are trained, but not the class token that gathers them."""
    torch.manual_seed(0)
    args = {"vit": {"width": 12, "depth": 2}, "resnet18": {"width": 1 / 16}}
    encoder = build(name, 3, (32, 32), **args.get(name, {}))
    for p in encoder.parameters():  # residual branches start at 0, and let no gradient through
        p.data.add_(0.1)
    x = images(6, (3, 32, 32))
    encoder(x).square().sum().backward()
    reached = [n for n, p in encoder.named_parameters() if p.grad is not None]
    method = MaskedAutoencoder(encoder, decoder_width=12, shape=(3, 32, 32))
    method.zero_grad()
    method.loss(method.views(Batch(x, torch.arange(6)))).backward()
    learning = {n for n, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached
    assert set(reached) <= learning


def test_the_papers_masked_autoencoder_has_its_heads_and_positions():
    """Catches a decoder of one head of 512 dimensions, and learned positions of the encoder."""
    preset = MaskedAutoencoder.presets["paper"]
    assert MAEDecoder(8, preset["decoder_width"], 1, 4, 12).blocks[0].heads == 16
    assert [MAEDecoder(8, w, 1, 4, 12).blocks[0].heads for w in (48, 96, 50)] == [3, 3, 1]
    encoder = build("vit_tiny", 3, (32, 32), **preset["encoder_args"])
    assert "stages.0.positions" not in dict(encoder.named_parameters())


def test_a_patch_must_leave_another_to_be_seen():
    with pytest.raises(UserError, match="at most half of a side"):
        MaskedAutoencoder(small(), patch_size=20, shape=SHAPE)


@pytest.mark.parametrize("name", ["jigsaw", "relative_patch", "context_encoder"])
def test_it_trains_by_name(name, sprites, tmp_path):
    run = ul.train(
        name,
        sprites[0][:128],
        epochs=1,
        batch_size=32,
        out=tmp_path / "run",
        progress=False,
        logger="none",
    )
    assert np.isfinite(run.embed(sprites[0][:8])).all()
    assert list((run.path).glob("*.png"))


def test_lab_has_the_known_colors():
    """White, black, and the primaries of sRGB as Lindbloom's tables have them (D65)."""
    known = {
        (1, 1, 1): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (1, 0, 0): (53.24, 80.09, 67.20),
        (0, 1, 0): (87.73, -86.18, 83.18),
        (0, 0, 1): (32.30, 79.19, -107.86),
    }
    x = torch.tensor(list(known), dtype=torch.float32)[:, :, None, None]
    expected = torch.tensor(list(known.values()), dtype=torch.float32)
    torch.testing.assert_close(rgb_to_lab(x)[:, :, 0, 0], expected, atol=0.05, rtol=0)


def test_colors_come_back():
    x = images(4)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, atol=2e-4, rtol=0)
    light = rgb_to_lab(to_gray(x))
    torch.testing.assert_close(light[:, 0], rgb_to_lab(x)[:, 0], atol=1e-2, rtol=0)
    assert light[:, 1:].abs().max() < 0.05


def test_bins_are_the_colors_of_a_screen():
    centers = color_bins()
    assert 200 < len(centers) < 320  # 313 in the paper, by its own gamut
    assert (centers % 10 == 0).all()
    ab = rgb_to_lab(images(4))[:, 1:].movedim(1, 3).flatten(0, 2)
    soft = soft_bins(ab, centers)
    torch.testing.assert_close(soft.sum(1), torch.ones(len(ab)))
    assert ((soft > 0).sum(1) <= 5).all()
    middle = (soft @ centers - ab).norm(dim=1)
    assert middle.mean() < 5  # half a bin
    distance = torch.cdist(ab, centers)
    assert torch.equal(soft.argmax(1), distance.argmin(1))


def test_rare_colors_weigh_more():
    method = Colorization(build("small", 3, (24, 24), width=4, gray=True), shape=SHAPE)
    views = method.views(batch())
    method.loss(views)
    for _ in range(400):
        method.update()
    torch.testing.assert_close(method.frequencies, method.batch_frequencies[0], atol=1e-3, rtol=0)
    weights = method.weights()
    assert (method.frequencies * weights).sum().item() == pytest.approx(1, abs=1e-4)
    order = method.frequencies.argsort()
    assert (weights[order].diff() <= 1e-6).all()
    even = Colorization(build("small", 3, (24, 24), width=4, gray=True), shape=SHAPE, rebalance=1.0)
    assert torch.allclose(even.weights(), torch.ones(len(even.frequencies)))


def test_colors_are_the_annealed_mean():
    """Equation 5: at temperature 1 the mean of the bins, towards 0 the likeliest one."""
    method = Colorization(build("small", 3, (24, 24), width=4, gray=True), shape=SHAPE).eval()
    x, (h, w) = images(2), method.size
    scores = torch.randn(2, len(method.bins), h, w, generator=torch.Generator().manual_seed(0))
    method.scores = lambda _: scores
    likely = scores.softmax(1)
    for temperature in (1.0, 0.38, 1e-5):
        method.temperature = temperature
        annealed = likely.log().div(temperature).exp()
        share = annealed / annealed.sum(1, keepdim=True)
        if temperature == 1e-5:
            best = torch.nn.functional.one_hot(scores.argmax(1), len(method.bins))
            share = best.movedim(3, 1).float()
        ab = torch.einsum("bqhw,qc->bchw", share, method.bins)
        larger = torch.nn.functional.interpolate(ab, (24, 24), mode="bilinear", align_corners=False)
        torch.testing.assert_close(method.colors(x), larger, atol=0.05, rtol=1e-3)


def test_the_colors_to_be_told_are_the_images_own():
    """a*, b* of L*a*b*, weighed by the rarity of the likeliest bin (eq. 2 and 4)."""
    method = Colorization(build("small", 3, (24, 24), width=4, gray=True), shape=SHAPE).eval()
    method.weak = lambda x: x
    method.frequencies.copy_(torch.rand_like(method.frequencies))
    method.frequencies.div_(method.frequencies.sum())
    x, ab = method.views(batch(3))
    again = torch.nn.functional.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], method.size)
    torch.testing.assert_close(ab, again)
    total, scores = [], method.scores(x).log_softmax(1)
    for b, i, j in np.ndindex(3, *method.size):
        soft = soft_bins(ab[b, :, i, j][None], method.bins)[0]
        weight = method.weights()[soft.argmax()]
        total.append(-weight * (soft * scores[b, :, i, j]).sum())
    torch.testing.assert_close(
        method.loss((x, ab)), torch.stack(total).mean(), rtol=1e-4, atol=1e-5
    )


def test_the_colorizer_sees_gray_only():
    """An image and its gray have the same features; so in a run that is opened again."""
    method = Colorization(build("small", 3, (24, 24), width=4, gray=True), shape=SHAPE).eval()
    x = images()
    torch.testing.assert_close(method.encoder(x), method.encoder(to_gray(x)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(x, to_gray(x), atol=0.1)


def test_a_colorizer_is_opened_as_it_was(tmp_path):
    x = (images(64) * 255).byte().numpy()
    run = ul.train(
        "colorization",
        x,
        epochs=1,
        batch_size=32,
        out=tmp_path / "run",
        progress=False,
        logger="none",
    )
    again = ul.load(run.path)
    np.testing.assert_array_equal(again.embed(x[:4]), run.embed(x[:4]))
    mono = np.repeat((to_gray(images(4)) * 255).numpy(), 1, axis=0).round().astype(np.uint8)
    np.testing.assert_allclose(again.embed(mono), again.embed(x[:4]), atol=0.05)
    with pytest.raises(UserError, match="three colors"):
        ul.train("colorization", x[:, :1], out=tmp_path / "gray", epochs=1)
