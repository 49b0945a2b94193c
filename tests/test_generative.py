"""GAN and diffusion: noise is added and taken away as the papers say, and pictures come out."""

import numpy as np
import pytest
import torch

import unlabeled as ul
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.unet import signal
from unlabeled.errors import UserError
from unlabeled.methods.diffusion import Diffusion, Words, mixed
from unlabeled.methods.gan import GAN

SHAPE = (1, 16, 16)


def unet(**options):
    torch.manual_seed(0)
    return build("unet", 1, (16, 16), width=8, **options)


def diffusion(**options):
    return Diffusion(unet(), **({"shape": SHAPE, "classes": 3, "steps": 200} | options))


def pictures(n=6):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_the_signal_falls_from_all_to_nothing():
    time = torch.linspace(0, 1, 1001)
    share = signal(time)
    assert share[0] == pytest.approx(1)
    assert share[-1] == pytest.approx(1e-4)
    assert (share.diff() <= 0).all()
    assert signal(torch.tensor(0.5)) == pytest.approx(0.49, abs=0.02)


def test_noise_keeps_the_variance():
    x, noise = torch.randn(2, 4000, 1, 4, 4)
    for t in (0.1, 0.5, 0.9):
        time = torch.full((4000,), t)
        noisy = mixed(x, noise, time)
        assert noisy.var().item() == pytest.approx(1, abs=0.02)
        share = signal(time)[0]
        assert torch.corrcoef(torch.stack([noisy.flatten(), x.flatten()]))[0, 1] == pytest.approx(
            share.sqrt().item(), abs=0.02
        )


def test_who_knows_the_noise_gets_the_picture():
    """DDIM with a perfect answer ends at the picture, from anywhere, in any number of steps."""
    method = diffusion()
    wanted = 2 * pictures() - 1

    def noise(net, x, time, asked):
        share = signal(time)[:, None, None, None]
        return (x - share.sqrt() * wanted) / (1 - share).sqrt()

    method.noise = noise
    for steps in (2, 10):
        drawn = method.sample(6, steps=steps)
        torch.testing.assert_close(drawn, pictures(), atol=2e-3, rtol=0)


def test_guidance_goes_beyond_what_is_asked_for():
    method = diffusion(condition="class")
    asked = torch.tensor([0, 1, 2])
    seen = []

    def noise(net, x, time, told):
        seen.append(told.clone())
        return 0.1 * told[:, None, None, None].float().expand_as(x)

    method.noise = noise
    torch.manual_seed(1)
    plain = method.sample(3, asked, steps=3, guidance=1.0)
    assert len(seen) == 3  # one call a step
    torch.manual_seed(1)
    strong = method.sample(3, asked, steps=3, guidance=2.0)
    assert torch.equal(seen[4], torch.full((3,), 3))  # the class after the last asks for nothing
    assert not torch.equal(plain, strong)


def test_some_pictures_are_shown_without_their_class():
    method = diffusion(condition="class", dropped=0.25)
    y = torch.arange(4000) % 3
    *_, asked = method.views(Batch(torch.zeros(4000, *SHAPE), torch.arange(4000), y))
    assert (asked == 3).float().mean() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(asked[asked < 3], y[asked < 3])
    *_, asked = diffusion().views(Batch(pictures(), torch.arange(6)))
    assert (asked == 3).all()


def test_the_net_is_told_time_and_class():
    net = unet()
    torch.nn.init.normal_(net.leave[2].weight)
    x = pictures()
    early, late = (net.noise(x, torch.full((6,), t)) for t in (0.1, 0.9))
    assert early.shape == x.shape
    assert (early - late).abs().mean() > 1e-3
    told = net.noise(x, torch.full((6,), 0.1), torch.randn(6, net.told))
    assert (early - told).abs().mean() > 1e-3
    odd = build("unet", 3, (15, 18), width=8)
    assert odd.noise(torch.rand(2, 3, 15, 18), torch.rand(2)).shape == (2, 3, 15, 18)


def test_words_are_read_in_order():
    torch.manual_seed(0)
    read = Words(("a large heart, top left", "a heart", "heart a"), 8)
    assert read.tokens.shape == (4, 5)
    assert read.tokens[3].tolist() == [0] * 5
    told = read(torch.arange(4))
    assert told.shape == (4, 8)
    assert not torch.allclose(told[1], told[2])


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(UserError, match="U-Net"):
        Diffusion(build("small", 1, (16, 16)))
    with pytest.raises(UserError, match="divided by 8"):
        build("unet", 1, (16, 16), width=12)


@pytest.mark.parametrize("bigan", [False, True])
def test_the_players_of_a_gan_move_alone(bigan):
    method = GAN(build("small", 1, (16, 16), width=4), shape=SHAPE, bigan=bigan, width=8)
    views = method.views(Batch(pictures(), torch.arange(6)))
    turns = method.turns(views)
    _, loss = next(turns)
    loss.backward()
    assert all(p.grad is not None for p in method.generator.parameters())
    method.zero_grad()
    _, loss = next(turns)
    loss.backward()
    assert all(p.grad is None for p in method.generator.parameters())
    assert all(p.grad is not None for p in method.critic.parameters())


def test_the_latent_regressor_has_no_part_in_the_game():
    """Without bigan the generator's gradient is the critic's alone."""
    method = GAN(build("small", 1, (16, 16), width=4), shape=SHAPE, width=8).eval()
    views = method.views(Batch(pictures(), torch.arange(6)))
    weight = method.generator["pictures"][0].weight
    (whole,) = torch.autograd.grad(method.loss(views), weight)
    fooled = -method.critic(method.made(views[1])).mean()
    (critics,) = torch.autograd.grad(fooled, weight)
    torch.testing.assert_close(whole, critics)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gan", {}),
        ("gan", {"bigan": True}),
        ("diffusion", {"encoder_args": {"width": 8}}),
        ("diffusion", {"encoder_args": {"width": 8}, "condition": "words"}),
    ],
)
def test_it_trains_by_name(name, options, sprites, tmp_path):
    x, y = sprites[0][:96, ::4, ::4], sprites[1][:96]
    common = {"batch_size": 32, "progress": False, "logger": "none", "epochs": 2} | options
    run = ul.train(name, (x, y), out=tmp_path / "run", **common)
    samples = run.method.sample(5)
    assert samples.shape == (5, 1, 16, 16)
    assert samples.min() >= 0
    assert samples.max() <= 1
    again = ul.load(run.path)
    np.testing.assert_array_equal(again.embed(x[:4]), run.embed(x[:4]))
    assert list(run.path.glob("*.png"))
