"""The variational autoencoder: its bound by hand, its pictures, its likelihoods."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.heads import deconv
from unlabeled.methods.vae import VAE


def made(**options) -> VAE:
    torch.manual_seed(0)
    encoder = build("small", 1, (16, 16), width=2)
    return VAE(encoder, shape=(1, 16, 16), width=2, **options).double().eval()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_loss_is_the_negative_bound(likelihood, beta):
    method = made(likelihood=likelihood, beta=beta)
    x = torch.rand(5, 1, 16, 16, dtype=torch.float64)
    noise = torch.randn(5, method.encoder.dim, dtype=torch.float64)
    mean = method.encoder(x)
    std = (method.log_variance(mean) / 2).exp()
    drawn = method.decoder(mean + std * noise)
    if likelihood == "bernoulli":
        p = Bernoulli(logits=drawn, validate_args=False)
    else:
        p = Normal(drawn.sigmoid(), method.log_std.exp())
    surprise = -p.log_prob(x).sum((1, 2, 3))
    divergence = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1)
    expected = (surprise + beta * divergence).mean()
    torch.testing.assert_close(method.loss((x, noise)), expected, rtol=1e-5, atol=1e-5)


def test_the_learned_deviation_is_that_of_the_errors():
    """At its best σ² is the mean squared error (Rybkin et al. 2021, eq. 6)."""
    method = made(likelihood="gaussian")
    x, drawn = torch.rand(2, 5, 1, 16, 16, dtype=torch.float64)
    error = (x - drawn.sigmoid()).square().mean()
    method.log_std.data = (error.log() / 2).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(method.surprise(drawn, x).mean(), method.log_std)
    assert abs(float(gradient)) < 1e-9 * math.prod(x.shape)
    assert not made().log_std.requires_grad


def test_pictures_are_pairs_and_samples():
    method = made().float()
    drawn = method.pictures(torch.rand(4, 1, 16, 16))
    assert drawn["picture and reconstruction"].shape == (4, 2, 1, 16, 16)
    assert drawn["samples"].shape == (4, 1, 1, 16, 16)
    assert all(float(t.min()) >= 0 and float(t.max()) <= 1 for t in drawn.values())


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 32, 32), (1, 28, 28), (2, 30, 50), (1, 5, 5)])
def test_decoders_draw_any_size(shape):
    assert deconv(7, shape, width=2)(torch.zeros(3, 7)).shape == (3, *shape)


def test_it_overfits_a_few_pictures(sprites):
    """The bound rises and the drawing comes to look like the picture."""
    torch.manual_seed(0)
    x = torch.from_numpy(sprites[0][:16, None]).float()
    method = VAE(build("lenet", 1, (64, 64)), width=4)
    optimizer = torch.optim.Adam(method.parameters(), 3e-3)
    losses = []
    for _ in range(120):
        loss = method.loss(method.views(Batch(x, torch.arange(16))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    pairs = method.eval().pictures(x)["picture and reconstruction"]
    assert (pairs[:, 0] - pairs[:, 1]).square().mean() < x.var() / 2
