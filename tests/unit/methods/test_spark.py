"""SparK against a loop over its equations, sparse convolutions against small ones, and traps."""

import copy

import pytest
import torch
from torch import nn

from unlabeled.augmentations import RandomErasing
from unlabeled.core import Batch
from unlabeled.encoders.base import Encoder, GlobalPool, build
from unlabeled.encoders.decoders import PyramidDecoder, normalized_patches, patchify, unpatchify
from unlabeled.encoders.sparse import enlarged, pyramid_of, stage_maps, visible_only
from unlabeled.errors import UserError
from unlabeled.methods.spark import SparK
from unlabeled.training.checkpointing import recomputed

SHAPE = (2, 32, 48)
WIDTHS = {"small": {"width": 2}, "spatial_resnet": {"width": 4}, "resnet18": {"width": 1 / 16}}


def images(n: int = 4, shape=SHAPE, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def make(name: str = "small", shape=SHAPE, **options) -> SparK:
    """All weights random, also norms and biases."""
    torch.manual_seed(0)
    encoder = build(name, shape[0], shape[1:], **WIDTHS.get(name, {}))
    method = SparK(encoder, shape=shape, **{"decoder_width": 16} | options)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def views_of(method: SparK, n: int = 4, shape=SHAPE):
    return method.views(Batch(images(n, shape), torch.arange(n)))


@pytest.mark.parametrize("name", ["small", "spatial_resnet"])
def test_spark_is_the_error_of_masked_normalized_patches(name):
    """Catches visible patches in the mean, raw pixels, an ε beside the root, absolute errors."""
    method = make(name)
    x, visible = views_of(method)
    drawn, p = method.reconstruct(x, visible), method.patch_size
    errors = []
    for i in range(4):
        for r in range(method.grid[0]):
            for c in range(method.grid[1]):
                patch = x[i, :, r * p : (r + 1) * p, c * p : (c + 1) * p].double().flatten()
                variance = ((patch - patch.mean()) ** 2).sum() / (len(patch) - 1)
                target = (patch - patch.mean()) / (variance + 1e-6).sqrt()
                if not visible[i, r, c]:
                    index = r * method.grid[1] + c
                    errors.append(((drawn[i, index].double() - target) ** 2).mean().item())
    assert len(errors) == (~visible).sum()
    assert method.loss((x, visible)).item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "shape", "patch", "grid"),
    [
        ("small", SHAPE, 16, (2, 3)),
        ("spatial_resnet", SHAPE, 4, (8, 12)),
        ("resnet18", SHAPE, 8, (4, 6)),
        ("small", (1, 28, 28), 16, (2, 2)),
        ("spatial_resnet", (1, 33, 30), 4, (9, 8)),
        ("resnet18", (3, 96, 128), 32, (3, 4)),
    ],
)
def test_a_patch_is_a_position_of_the_last_map(name, shape, patch, grid):
    """Catches patches of another size, and images whose remainder is dropped."""
    method = make(name, shape)
    assert (method.patch_size, method.grid) == (patch, grid)
    x, visible = views_of(method, shape=shape)
    assert visible.shape == (4, *grid)
    assert (visible.flatten(1).sum(1) == round(0.4 * grid[0] * grid[1])).all()
    assert len(visible.flatten(1).unique(dim=0)) > 1
    drawn = method.reconstruct(x, visible)
    assert drawn.shape == (4, grid[0] * grid[1], shape[0] * patch**2)
    sheet = method.eval().visualize(x)["image, masked, reconstruction"]
    assert sheet.shape == (4, 3, *shape)
    assert sheet.isfinite().all()


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_some_patch_is_visible_and_some_is_masked(ratio):
    _, visible = views_of(make(mask_ratio=ratio))
    assert set(visible.flatten(1).sum(1).tolist()) == {5 if ratio == 0 else 1}


# Sparse convolutions


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", list(WIDTHS))
def test_maps_are_zero_at_masked_positions_after_each_layer(name):
    """Catches masks after each stage only, by which visible pixels spread within a stage."""
    method = make(name)
    x, visible = views_of(method)
    seen, checked = torch.where(enlarged(visible, method.patch_size), x, 0.0), []

    def check(layer, inputs, out):
        hidden = ~enlarged(visible, out.shape[2] // method.grid[0]).expand_as(out)
        checked.append(bool((out[hidden] == 0).all()) and bool((out[~hidden] != 0).any()))

    with visible_only(visible, method.encoder):
        layers = [m for m in method.encoder.stages.modules() if isinstance(m, nn.Conv2d | nn.ReLU)]
        handles = [m.register_forward_hook(check) for m in layers]
        maps = stage_maps(method.encoder, seen)
    for handle in handles:
        handle.remove()
    assert len(checked) >= len(layers)
    assert all(checked)
    for m in maps:
        hidden = ~enlarged(visible, m.shape[2] // method.grid[0]).expand_as(m)
        assert not m[hidden].any()


def test_batchnorm_has_the_statistics_of_visible_positions():
    """Catches zeros of masked positions in mean and variance: they are those of no image."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    other = copy.deepcopy(norm)
    x = torch.randn(4, 3, 6, 8) + 2
    visible = torch.zeros(4, 3, 4, dtype=torch.bool)
    for i in range(4):
        visible[i].view(-1)[torch.randperm(12)[:5]] = True
    with visible_only(visible, norm):
        out = norm(x)
    rows = x.movedim(1, 3)[enlarged(visible, 2)[:, 0]]  # (n, 3)
    expected = torch.zeros(4, 6, 8, 3)
    flat = nn.BatchNorm1d(3)
    flat.load_state_dict(other.state_dict())
    expected[enlarged(visible, 2)[:, 0]] = flat(rows)
    torch.testing.assert_close(out, expected.movedim(3, 1))
    torch.testing.assert_close(norm.running_mean, flat.running_mean)
    torch.testing.assert_close(norm.running_var, flat.running_var)
    assert not torch.allclose(other(x), out)


@pytest.mark.parametrize("name", list(WIDTHS))
def test_with_all_patches_visible_it_is_the_dense_network(name):
    """Catches layers that the context changes besides masking, and hooks that stay."""
    method = make(name)
    x, every = images(), torch.ones(4, *method.grid, dtype=torch.bool)
    twin = copy.deepcopy(method.encoder)
    with visible_only(every, method.encoder):
        maps = stage_maps(method.encoder, x)
    for ours, dense in zip(maps, stage_maps(twin, x), strict=True):
        torch.testing.assert_close(ours, dense, atol=1e-4, rtol=1e-4)
    for ours, dense in zip(norms(method.encoder), norms(twin), strict=True):
        torch.testing.assert_close(ours.running_var, dense.running_var, atol=1e-4, rtol=1e-4)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in method.encoder.modules())
    torch.testing.assert_close(method.encoder(x), twin(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", list(WIDTHS))
def test_masked_pixels_change_nothing(name):
    """Catches an image that is given whole: the first convolution would read beyond a patch."""
    method = make(name)
    x, visible = views_of(method)
    other = torch.where(enlarged(visible, method.patch_size), x, images(seed=2))
    assert not torch.equal(x, other)
    drawn = [copy.deepcopy(method).reconstruct(each, visible) for each in (x, other)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("name", list(WIDTHS))
def test_every_part_learns(name):
    """Catches zeros in place of mask tokens, and layers for a map that the decoder does not add.

    A small residual network has a map as fine as the image.
    """
    method = make(name)
    method.loss(views_of(method)).backward()
    still = {n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == set()


def test_a_lone_patch_is_seen_as_without_neighbors():
    """Catches what comes from masked neighbors: the patch alone, with zeros around, is the same."""
    method = make("small", (2, 32, 48)).eval()
    x, visible = images(1), torch.zeros(1, 2, 3, dtype=torch.bool)
    visible[0, 1, 1] = True
    alone = torch.zeros_like(x)
    alone[:, :, 16:, 16:32] = x[:, :, 16:, 16:32]
    with visible_only(visible, method.encoder):
        coarse = stage_maps(method.encoder, alone)[0][0, :, 1, 1]
    h = x[:, :, 16:, 16:32]
    for stage in method.encoder.stages:  # its own padding is zero, too
        h = stage(h)
    torch.testing.assert_close(coarse, h[0, :, 0, 0])


def test_recomputed_activations_are_masked_as_before():
    """Catches a backward pass that computes blocks again without the mask."""
    method = make("resnet18")
    views = views_of(method)
    gradients = []
    for wanted in (False, True):
        copied = copy.deepcopy(method)
        with recomputed(copied, wanted):
            copied.loss(views).backward()
        gradients.append([p.grad for p in copied.encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) > 10
    for stored, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, stored)


# Decoder


def test_the_decoder_adds_every_map_on_its_way():
    """Catches maps left out or at another resolution, and mask tokens at visible positions."""
    torch.manual_seed(0)
    decoder = PyramidDecoder({1: 5, 2: 4, 8: 3}, 32, 16, 2).eval()
    visible = torch.tensor([[1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0]]).bool().view(2, 2, 3)
    maps = [torch.randn(2, c, 2 * f, 3 * f) for f, c in ((1, 5), (2, 4), (8, 3))]
    h, whole = None, decoder(maps, visible)
    assert whole.shape == (2, 2, 32, 48)
    for i, factor in enumerate((1, 2, 4, 8)):
        if factor != 4:
            j = (1, 2, 8).index(factor)
            mask, norm = enlarged(visible, factor), decoder.norms[j]
            known = torch.where(mask, norm(maps[j]), decoder.mask_tokens[j])
            dense = decoder.inputs[j](known)
            h = dense if h is None else h + dense
        h = decoder.blocks[i](h)
    torch.testing.assert_close(decoder.output(h), whole)
    assert [layer.kernel_size for layer in decoder.inputs] == [(1, 1), (3, 3), (3, 3)]
    assert [layer.out_channels for layer in decoder.inputs] == [32, 16, 8]


def test_patches_are_cut_row_by_row_and_put_together_again():
    """Catches columns before rows, and another order of channels."""
    x = images(3)
    patches = patchify(x, 8)
    assert patches.shape == (3, 24, 128)
    expected = x[:, :, 8:16, 16:24].flatten(1)
    assert torch.equal(patches[:, 1 * 6 + 2], expected)
    assert torch.equal(unpatchify(patches, (4, 6), 8), x)
    z, mean, deviation = normalized_patches(x, 8)
    torch.testing.assert_close(z * deviation + mean, patches)
    torch.testing.assert_close(z.mean(2), torch.zeros(3, 24), atol=1e-5, rtol=0)


def test_a_patch_of_one_value_is_finite():
    """Catches a division by 0."""
    method = make()
    x = torch.zeros(4, *SHAPE)
    assert method.loss((x, views_of(method)[1])).isfinite()


# What fits


def test_the_images_are_augmented():
    method = make(weak=RandomErasing(2.0))
    assert not method.views(Batch(images(), torch.arange(4)))[0].any()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("vit", "masks every map of a convolutional network"),
        ("patches", "masks every map of a convolutional network"),
        ("unet", "masks every map of a convolutional network"),
        (nn.Sequential(nn.Flatten(), nn.Linear(2048, 4)), "masks every map of a convolutional"),
        ("lenet", "layers after its feature map"),
    ],
)
def test_networks_that_cannot_be_masked_are_refused(encoder, message):
    """Catches norms over masked positions, and layers that would not be trained."""
    options = {"vit": {"width": 12, "depth": 1}, "patches": {"norm": "layer", "width": 2}}
    args = options.get(encoder, {}) if isinstance(encoder, str) else {}
    with pytest.raises(UserError, match=message):
        SparK(build(encoder, 2, (32, 32), **args), shape=(2, 32, 32))


def test_maps_must_lie_over_the_patches():
    """Catches convolutions without padding, whose positions belong to no patch."""
    stages = [nn.Conv2d(2, 4, 5, 2), nn.Conv2d(4, 4, 5, 2)]
    encoder = Encoder(stages, GlobalPool(), 4)
    with pytest.raises(UserError, match="positions for 4×4 patches, but spark needs 1, 2, 4"):
        pyramid_of(encoder, (2, 29, 29), "spark")
    with pytest.raises(UserError, match="is 1×1, but must be at least 2×2"):
        SparK(build("small", 2, (16, 16), width=2), shape=(2, 16, 16))
