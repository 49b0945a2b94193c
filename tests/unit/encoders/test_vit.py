"""Vision transformers: those of timm, number by number, and what training adds to them."""

import math

import pytest
import torch
from torch import nn

from unlabeled.encoders.attention import DropPath, TransformerBlock
from unlabeled.encoders.base import build
from unlabeled.encoders.timm_weights import load_timm, to_timm
from unlabeled.encoders.vit import sincos_positions
from unlabeled.errors import UserError
from unlabeled.methods.masked_autoencoder import MaskedAutoencoder

VARIANTS = [
    {},
    {"registers": 4},
    {"layer_scale": 0.1},
    {"pool": "mean"},
]


def theirs(registers=0, layer_scale=None, pool="token", size=64, patch=16, channels=3):
    """The same network of timm, with weights that differ everywhere."""
    from timm.models.vision_transformer import VisionTransformer

    net = VisionTransformer(
        img_size=size, patch_size=patch, in_chans=channels, embed_dim=192, depth=12, num_heads=3,
        num_classes=0, init_values=layer_scale, reg_tokens=registers, dynamic_img_size=True,
        global_pool="avg" if pool == "mean" else "token", no_embed_class=bool(registers),
    )  # fmt: skip
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return net.eval()


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_weights_of_timm_give_its_features(options):
    """Catches another LayerNorm ε, order of heads, approximate GELU, a lost class position."""
    pytest.importorskip("timm")
    torch.manual_seed(0)
    net = theirs(**options)
    ours = build("vit_tiny", 3, (64, 64), patch=16, **options).eval()
    load_timm(ours, net.state_dict())
    for size in ((64, 64), (96, 64)):
        x = torch.rand(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(ours(x), net(x), atol=1e-5, rtol=1e-5)
            patches = net.forward_features(x)[:, net.num_prefix_tokens :].transpose(1, 2)
            normed = ours.summary.norm(ours.patch_map(x).flatten(2).transpose(1, 2))
            if "pool" not in options:
                torch.testing.assert_close(normed.transpose(1, 2), patches, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_timm_takes_our_weights(options):
    """Catches a name that timm has not, and positions of registers."""
    pytest.importorskip("timm")
    torch.manual_seed(0)
    ours = build("vit_tiny", 1, (56, 56), patch=14, **options).eval()
    net = theirs(**options, size=56, patch=14, channels=1)
    net.load_state_dict(to_timm(ours))
    x = torch.rand(2, 1, 56, 56)
    with torch.no_grad():
        torch.testing.assert_close(net(x), ours(x), atol=1e-5, rtol=1e-5)


def test_weights_return_from_timms_names():
    """Catches a conversion that is right one way only, without timm at hand."""
    torch.manual_seed(0)
    options = {"patch": 8, "layer_scale": 0.1, "registers": 2}
    one, other = (build("vit_tiny", 1, (16, 16), **options).eval() for _ in range(2))
    load_timm(other, to_timm(one) | {"head.weight": torch.zeros(3, 192)})
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(one(x), other(x))


def test_weights_that_do_not_fit_are_refused():
    """Catches weights that are left random in silence."""
    weights = to_timm(build("vit_tiny", 1, (16, 16), patch=8))
    with pytest.raises(UserError, match=r"do not fit this encoder .*ls[12]"):
        load_timm(build("vit_tiny", 1, (16, 16), patch=8, layer_scale=0.1), weights)
    with pytest.raises(UserError, match="do not fit this encoder"):
        load_timm(build("vit_small", 1, (16, 16), patch=8), weights)
    with pytest.raises(UserError, match=r"fc_norm|norm\.weight"):
        load_timm(build("vit_tiny", 1, (16, 16), patch=8, pool="mean"), weights)
    deeper = weights | {"blocks.12.norm1.bias": torch.zeros(192)}
    with pytest.raises(UserError, match=r"have blocks\.12\.norm1\.bias, which"):
        load_timm(build("vit_tiny", 1, (16, 16), patch=8), deeper)
    with pytest.raises(UserError, match="only vit_tiny"):
        to_timm(build("vit", 1, (16, 16), width=12, depth=1))


def test_sizes_are_those_of_the_papers(monkeypatch):
    """Catches another depth, width or patch: 5.5, 21.7 and 85.8 million parameters."""
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, std: tensor.detach())  # slow
    millions = {"vit_tiny": 5.52, "vit_small": 21.67, "vit_base": 85.80}
    for name, count in millions.items():
        encoder = build(name, 3, (224, 224))
        assert encoder.patch == 16
        assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(count, abs=0.01)
    assert build("vit_tiny", 3, (32, 32)).patch == 4  # 64 tokens of small images, too
    with pytest.raises(UserError, match="patches of 16 pixels do not fit images of 8×8"):
        build("vit_tiny", 3, (8, 8), patch=16)


def test_blocks_start_with_truncated_normal_weights():
    """Catches torch's uniform default: all within two standard deviations of 0.02, not 0.04."""
    for name, options in (("vit_tiny", {}), ("vit", {"depth": 2})):
        block = build(name, 1, (32, 32), **options).stages[1]
        for layer in (block.qkv, block.out, block.mlp[0], block.mlp[2]):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()


def test_drop_path_omits_branches_of_samples_and_keeps_their_mean():
    """Catches dropout of single values, dropping in evaluation, a lost scale."""
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 3, 2)
    out = drop(x)
    assert all(len(row.unique()) == 1 for row in out[:50])
    torch.testing.assert_close(out.unique(), torch.tensor([0, 4 / 3]))
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(x), x)
    stages = build("vit_tiny", 1, (32, 32), drop_path=0.11).stages
    rates = [block.drop_path.rate for block in stages[1:]]
    assert rates == pytest.approx([0.01 * i for i in range(12)])
    with pytest.raises(UserError, match=r"drop_path is 1\.0"):
        build("vit_tiny", 1, (32, 32), drop_path=1.0)


def test_layer_scale_scales_each_branch():
    """Catches a factor on one branch only, or on the sum."""
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, layer_scale=1e-9).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), x, atol=1e-7, rtol=0)
    nn.init.ones_(block.scale1.gamma)
    plain = x + block.out(attended(block, x))
    torch.testing.assert_close(block(x), plain, atol=1e-6, rtol=0)


def attended(block, x):
    """Values weighted by the attention that is plotted."""
    v = block.qkv(block.norm1(x)).unflatten(2, (3, block.heads, -1))[:, :, 2].transpose(1, 2)
    return (block.weights(x) @ v).transpose(1, 2).flatten(2)


def test_the_class_token_looks_at_the_patches():
    """Catches attention to registers that is taken for that to patches, and another grid."""
    torch.manual_seed(0)
    encoder = build("vit_tiny", 1, (32, 48), patch=8, registers=3).eval()
    x = torch.rand(2, 1, 24, 40)
    with torch.no_grad():
        shares = encoder.attention(x)
        assert shares.shape == (2, 3, 3, 5)
        tokens = x
        for stage in encoder.stages[:-1]:
            tokens = stage(tokens)
        block = encoder.stages[-1]
        tokens = tokens.flatten(2).transpose(1, 2)
        q, k, _ = block.qkv(block.norm1(tokens)).unflatten(2, (3, 3, -1)).unbind(2)
        first = torch.einsum("bhd,bthd->bht", q[:, 0], k) / math.sqrt(64)
        torch.testing.assert_close(shares.flatten(2), first.softmax(2)[:, :, 4:])
        assert encoder.patch_map(x).shape == (2, 192, 3, 5)


def test_sincos_positions_are_those_of_maes_code():
    """Catches exchanged rows and columns, and another order of sines and cosines."""
    import numpy as np

    width, rows, columns = 16, 2, 3

    def one_dimension(pos):  # get_1d_sincos_pos_embed_from_grid
        omega = 1.0 / 10000 ** (np.arange(width // 4) / (width // 4.0))
        out = np.einsum("m,d->md", pos.reshape(-1), omega)
        return np.concatenate([np.sin(out), np.cos(out)], axis=1)

    grid = np.meshgrid(np.arange(columns, dtype=float), np.arange(rows, dtype=float))  # w first
    expected = np.concatenate([one_dimension(grid[0]), one_dimension(grid[1])], axis=1)
    ours = sincos_positions(width, rows, columns)[0].flatten(1).T
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)
    fixed = build("vit_tiny", 1, (32, 32), positions="sincos")
    assert "stages.0.positions" not in dict(fixed.named_parameters())
    assert "stages.0.positions" in fixed.state_dict()


def test_a_masked_autoencoder_encodes_visible_patches_with_the_class_token():
    """Catches masked patches that are seen, and a class token that is masked or left out."""
    torch.manual_seed(0)
    encoder = build("vit_tiny", 1, (32, 32), patch=8).eval()
    method = MaskedAutoencoder(encoder, shape=(1, 32, 32))
    x, order = method.views(_batch(torch.rand(2, 1, 32, 32)))
    hidden = method.mask(x, order[:, : method.visible])
    changed = torch.where(hidden == x, x, torch.rand_like(x))
    with torch.no_grad():
        assert torch.equal(method.reconstruct(x, order), method.reconstruct(changed, order))
        every = torch.arange(16).expand(2, -1)
        features, tokens = encoder.encode_visible(x, every)
        torch.testing.assert_close(features, encoder(x))
        torch.testing.assert_close(tokens, encoder.patch_map(x).flatten(2))


def _batch(x):
    from unlabeled.core import Batch

    return Batch(x, torch.arange(len(x)))
