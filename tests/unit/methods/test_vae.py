"""The variational autoencoder: its bound by hand, its images, its likelihoods."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.heads import deconv
from unlabeled.methods.vae import VAE


def make(**options) -> VAE:
    torch.manual_seed(0)
    encoder = build("small", 1, (16, 16), width=2)
    return VAE(encoder, shape=(1, 16, 16), decoder_width=2, **options).double().eval()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_loss_is_the_negative_bound(likelihood, beta):
    method = make(likelihood=likelihood, beta=beta)
    x = torch.rand(5, 1, 16, 16, dtype=torch.float64)
    noise = torch.randn(5, method.latent_dim, dtype=torch.float64)
    features = method.encoder(x)
    mean, std = method.mean(features), (method.log_variance(features) / 2).exp()
    drawn = method.decoder(mean + std * noise)
    if likelihood == "bernoulli":
        p = Bernoulli(logits=drawn, validate_args=False)
    else:
        p = Normal(drawn.sigmoid(), method.log_std.exp())
    surprise = -p.log_prob(x).sum((1, 2, 3))
    divergence = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1)
    expected = (surprise + beta * divergence).mean()
    torch.testing.assert_close(method.loss((x, noise)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("encoder", ["small", "lenet"])
def test_the_code_is_signed_and_its_variance_is_its_own(encoder):
    """Catches a mean after a ReLU, never below 0, and a variance that is a function of the mean."""
    torch.manual_seed(0)
    size = (28, 28)
    method = VAE(build(encoder, 1, size), shape=(1, *size), decoder_width=2, latent_dim=3).eval()
    x = torch.rand(64, 1, *size)
    mean = method.project(x)
    assert mean.shape == (64, 3)
    assert ((mean - mean.mean(0)) < 0).any(0).all()
    torch.nn.init.zeros_(method.mean.bias)
    torch.nn.init.normal_(method.mean.weight)
    assert (method.project(x) < 0).any()
    assert (method.project(x) > 0).any()
    # The mean can stay while the variance changes, and the other way around.
    torch.nn.init.zeros_(method.mean.weight)
    log_variance = method.log_variance(method.encoder(x))
    assert (method.project(x) == 0).all()
    assert (log_variance.std(0) > 0).all()
    assert method.decoder[0].in_features == method.latent_dim == 3
    assert method.views(Batch(x, torch.arange(64)))[1].shape == (64, 3)


def test_both_heads_learn():
    """Catches a head that the loss does not reach."""
    method = make(latent_dim=5)
    x = torch.rand(4, 1, 16, 16, dtype=torch.float64)
    method.loss((x, torch.randn(4, 5, dtype=torch.float64))).backward()
    for head in (method.mean, method.log_variance):
        assert all(bool(p.grad.any()) for p in head.parameters())
    assert all(bool(p.grad.any()) for p in method.encoder.stages.parameters() if p.ndim > 1)


def test_the_bound_equals_a_loop():
    """Catches a mean where the sum is meant: over pixels, over the code, and then over images."""
    method = make(latent_dim=3, beta=0.7)
    x = torch.rand(2, 1, 16, 16, dtype=torch.float64).round()
    noise = torch.randn(2, 3, dtype=torch.float64)
    total = 0.0
    with torch.no_grad():
        features = method.encoder(x)
    for i in range(2):
        with torch.no_grad():
            mean, log_variance = method.mean(features[i]), method.log_variance(features[i])
            z = [mean[k] + math.exp(log_variance[k] / 2) * noise[i, k] for k in range(3)]
            scores = method.decoder(torch.stack(z)[None])[0].flatten()
        for score, pixel in zip(scores.tolist(), x[i].flatten().tolist(), strict=True):
            p = 1 / (1 + math.exp(-score))
            total -= pixel * math.log(p) + (1 - pixel) * math.log(1 - p)
        for m, v in zip(mean.tolist(), log_variance.tolist(), strict=True):
            total += 0.7 * (math.exp(v) + m * m - 1 - v) / 2
    assert method.loss((x, noise)).item() == pytest.approx(total / 2, rel=1e-6)


def test_samples_come_from_the_prior_of_the_code():
    """Catches noise as wide as the features."""
    method = make(latent_dim=3).float()
    torch.manual_seed(1)
    drawn = method.sample(4)
    torch.manual_seed(1)
    torch.testing.assert_close(drawn, method.decoder(torch.randn(4, 3)).sigmoid())


def test_the_learned_deviation_is_that_of_the_errors():
    """At its best σ² is the mean squared error (Rybkin et al. 2021, eq. 6)."""
    method = make(likelihood="gaussian")
    x, drawn = torch.rand(2, 5, 1, 16, 16, dtype=torch.float64)
    error = (x - drawn.sigmoid()).square().mean()
    method.log_std.data = (error.log() / 2).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        method.negative_log_likelihood(drawn, x).mean(), method.log_std
    )
    assert abs(float(gradient)) < 1e-9 * math.prod(x.shape)
    assert not make().log_std.requires_grad


def test_images_are_pairs_and_samples():
    method = make().float()
    drawn = method.visualize(torch.rand(4, 1, 16, 16))
    assert drawn["image and reconstruction"].shape == (4, 2, 1, 16, 16)
    assert drawn["samples"].shape == (4, 1, 1, 16, 16)
    assert all(float(t.min()) >= 0 and float(t.max()) <= 1 for t in drawn.values())


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 32, 32), (1, 28, 28), (2, 30, 50), (1, 5, 5)])
def test_decoders_draw_any_size(shape):
    assert deconv(7, shape, width=2)(torch.zeros(3, 7)).shape == (3, *shape)


@pytest.mark.parametrize("shape", [(1, 1, 1000), (2, 6, 300), (1, 200, 3)])
def test_decoders_of_long_images_compute_no_squares(shape):
    """Catches maps whose short side is doubled as often as the long one, and then cropped."""
    decoder, pixels = deconv(7, shape, width=2), []
    for layer in decoder:
        layer.register_forward_hook(lambda *call: pixels.append(call[2][0, 0].numel()))
    assert decoder(torch.zeros(3, 7)).shape == (3, *shape)
    assert max(pixels) <= 4 * shape[1] * shape[2]


def test_it_overfits_a_few_images(sprites):
    """The bound rises and the drawing comes to look like the image."""
    torch.manual_seed(0)
    x = torch.from_numpy(sprites[0][:16, None]).float()
    method = VAE(build("lenet", 1, (64, 64)), decoder_width=4)
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    losses = []
    for _ in range(120):
        loss = method.loss(method.views(Batch(x, torch.arange(16))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    pairs = method.eval().visualize(x)["image and reconstruction"]
    assert (pairs[:, 0] - pairs[:, 1]).square().mean() < x.var() / 2
