"""Transformers over frames of audio, and the mel bands that some of them see."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unlabeled.encoders.base import build
from unlabeled.encoders.wave_transformer import LogMel, mel_filters
from unlabeled.errors import UserError

SMALL = {"width": 8, "context": 16, "depth": 2, "heads": 2}
EXACT = {"kernels": (5, 4), "strides": (5, 4)}  # no frame hears samples of another
MEL = {"window_ms": 2.5, "hop_ms": 2.5}


def sound(n: int, samples: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 1, samples, generator=g) / 5


def made(name: str, **options):
    torch.manual_seed(0)
    own = EXACT if name == "wave_transformer" else MEL
    return build(name, 1, (1, 800), **SMALL | own | options)


@pytest.mark.parametrize("name", ["wave_transformer", "mel_transformer"])
def test_silence_at_the_end_changes_nothing(name):
    """Catches silent frames that are attended to, that the positions see, or that are averaged."""
    encoder, x = made(name), sound(3, 800)
    torch.testing.assert_close(encoder(F.pad(x, (0, 480))), encoder(x), atol=1e-5, rtol=1e-4)
    assert encoder(torch.zeros(2, 1, 1, 800)).isfinite().all()
    assert encoder(torch.ones(1, 1, 1, 3)).shape == (1, 32)


@pytest.mark.parametrize("name", ["wave_transformer", "mel_transformer"])
def test_frames_are_audible_where_a_latent_is_not_0(name):
    """Catches kernels or strides that are not those of the convolutions, and an end cut off."""
    encoder, x = made(name), sound(4, 1000)
    for row, (start, end) in enumerate([(0, 1000), (0, 333), (500, 1000), (211, 214)]):
        x[row, ..., :start], x[row, ..., end:] = 0, 0
    found, expected = encoder.audible(x), (encoder.latents(x) != 0).any(1)[:, 0]
    assert torch.equal(found, expected)
    assert 1 <= found[3].sum() <= 2 < found[1].sum() < found[0].sum() == found.shape[1]


def test_the_mask_token_stands_in_place_of_the_projected_frame():
    """Catches a token before the projection, one that has no position, and a mask of others."""
    encoder, z = made("wave_transformer"), torch.rand(2, 8, 1, 12)
    masked = torch.zeros(2, 12, dtype=torch.bool)
    masked[0, 3:6] = masked[1, 11] = True
    token, embedding = torch.randn(16), encoder.stages[encoder.front]
    h = embedding.project(z)
    for row, step in masked.nonzero().tolist():
        h[row, :, 0, step] = token
    expected = h + F.gelu(embedding.positions(h)[..., :12])
    torch.testing.assert_close(embedding(z, masked, token), expected)
    assert not torch.allclose(expected[0, :, 0, 3], expected[0, :, 0, 4], atol=1e-3)


def test_every_frame_sees_all_others():
    """Catches a causal network; wav2vec 2.0's sees both sides of a gap."""
    encoder, z = made("wave_transformer"), torch.rand(1, 8, 1, 60)
    other = z.clone()
    other[..., 30] += 1
    moved = (encoder.contexts(z) - encoder.contexts(other)).abs().amax(2)[0]
    assert (moved > 1e-6).all()


def test_stages_lead_to_the_states():
    """Catches contexts that leave out a stage which the features go through."""
    encoder, x = made("mel_transformer"), sound(2, 800)
    states = encoder.contexts(encoder.latents(x))
    assert states.shape == (2, 20, 16)
    torch.testing.assert_close(encoder.map(x)[:, :, 0].transpose(1, 2), states)
    bands = encoder.stages[0](x)
    torch.testing.assert_close(encoder.latents(bands, start=1), encoder.latents(x))
    assert (encoder.windows, bands.shape) == (2, (2, 40, 1, 40))


def test_mel_bands_are_librosas():
    """Catches another mel scale, a wrong window, power for amplitude, and a sine above 0 dB."""
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(0)
    y = rng.normal(size=1600).astype(np.float32) / 10
    found = LogMel(40, 8000, 25.0, 10.0)(torch.from_numpy(y)[None, None, None])[0, :, 0]
    padded = np.pad(y, 156)  # librosa has the window of 200 in the middle of 512
    energy = librosa.feature.melspectrogram(
        y=padded, sr=8000, n_fft=512, win_length=200, hop_length=80, center=False, n_mels=40,
        htk=True, norm=None,
    )  # fmt: skip
    energy = energy * (2 / librosa.filters.get_window("hann", 200).sum()) ** 2
    expected = (10 * np.log10(np.maximum(energy, 1e-8)) + 50) / 20
    np.testing.assert_allclose(found.numpy(), expected[:, : found.shape[1]], atol=2e-3)
    sine = torch.sin(2 * math.pi * 1000 * torch.arange(800) / 8000)[None, None, None]
    loudest = LogMel(40, 8000, 25.0, 10.0)(sine).amax().item() * 20 - 50
    assert -3 < loudest < 6


@pytest.mark.parametrize(("bands", "size", "rate"), [(40, 512, 8000), (80, 1024, 16000)])
def test_no_mel_filter_is_empty(bands, size, rate):
    """Catches filters between two frequencies of the transform, whose band would be constant."""
    filters = mel_filters(bands, size, rate)
    assert filters.shape == (bands, size // 2 + 1)
    assert (filters.amax(1) > 0.3).all()
    total = filters.sum(0)[20:-20]  # neighbors rise and fall together
    torch.testing.assert_close(total, torch.ones_like(total), atol=0.02, rtol=0)


def test_what_makes_no_frames_is_refused():
    with pytest.raises(UserError, match=r"windows of 0\.1 ms have 1 samples"):
        build("mel_transformer", 1, (1, 800), window_ms=0.1)
    with pytest.raises(UserError, match="2 kernels need as many strides, not 1"):
        build("wave_transformer", 1, (1, 800), kernels=(10, 8), strides=(5,))
    with pytest.raises(UserError, match="heads do not divide"):
        build("wave_transformer", 1, (1, 800), context=10)
