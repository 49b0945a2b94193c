"""BEST-RQ against a loop over its equations, and the traps of its quantizer and its masks."""

import math

import pytest
import torch

from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.quantizers import RandomProjectionQuantizer
from unlabeled.errors import UserError
from unlabeled.methods.best_rq import BestRQ

MEL = {"bands": 6, "window_ms": 2.5, "hop_ms": 2.5, "strides": (2, 2)}


def made(**options) -> BestRQ:
    """On windows of 20 samples, four to a frame; all weights random."""
    torch.manual_seed(0)
    args = {"width": 8, "context": 16, "depth": 2, "heads": 2} | MEL
    method = BestRQ(
        build("mel_transformer", 1, (1, 2000), **args),
        **{"codes": 9, "code_dim": 4, "mask_prob": 0.1, "mask_length": 4} | options,
    )
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def sound(n: int = 4) -> torch.Tensor:
    """Recordings of 25 frames, of which the last has 15 and a half."""
    x = torch.randn(n, 1, 1, 2000, generator=torch.Generator().manual_seed(1)) / 5
    x[-1, ..., 1240:] = 0
    return x


def views_of(method: BestRQ, x: torch.Tensor | None = None):
    x = sound() if x is None else x
    return method.views(Batch(x, torch.arange(len(x))))


def test_the_loss_equals_the_paper():
    """Catches codes of masked windows, squared distances of vectors that are not normalized, loss
    at visible frames, a mean of recordings' means, and silence among the statistics.
    """
    method = made().eval()
    x, masked, noise = views_of(method)
    bands = method.encoder.stages[0](x)  # (4, 6, 1, 100)
    logits = method.scores(bands, masked, noise)
    codebook, projection = method.quantizer.codebook, method.quantizer.projection
    costs = []
    for i in range(4):
        heard = bands[i, :, 0].double()[:, : 100 if i < 3 else 62]
        center, deviation = heard.mean(1), heard.var(1, unbiased=False).add(1e-5).sqrt()
        for t in masked[i].nonzero()[:, 0].tolist():
            parts = []
            for w in range(4 * t, 4 * t + 4):
                silent = w >= heard.shape[1]
                parts.append(0 * center if silent else (heard[:, w] - center) / deviation)
            y = projection.double() @ torch.cat(parts)
            distance = [(y / y.norm() - v / v.norm()).norm().item() for v in codebook.double()]
            code = distance.index(min(distance))
            row = logits[i, t].double()
            costs.append((row.exp().sum().log() - row[code]).item())
    assert len({int(n) for n in masked.sum(1)}) > 1
    assert method.loss((x, masked, noise)).item() == pytest.approx(
        sum(costs) / len(costs), rel=1e-4
    )


def test_the_quantizer_is_fixed():
    """Catches a codebook that learns, one with a gradient, and one that a checkpoint leaves out."""
    method = made()
    assert not any("quantizer" in name for name, _ in method.named_parameters())
    kept = {k: v for k, v in method.state_dict().items() if "quantizer" in k}
    assert set(kept) == {"quantizer.projection", "quantizer.codebook"}
    norms = kept["quantizer.codebook"].norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    bound = math.sqrt(6 / (24 + 4))  # Xavier's of a matrix of 4 × 24
    assert 0.9 * bound < kept["quantizer.projection"].abs().max() <= bound


def test_codes_are_the_nearest_vectors():
    """Catches the farthest, and the largest product with a projection of any length."""
    torch.manual_seed(0)
    quantizer = RandomProjectionQuantizer(7, 20, 3)
    x = 10 * torch.randn(5, 4, 7)
    y = torch.nn.functional.normalize(x @ quantizer.projection.T, dim=2)
    expected = torch.cdist(y, quantizer.codebook.expand(5, -1, -1)).argmin(2)
    assert torch.equal(quantizer(x), expected)
    assert torch.equal(quantizer(3 * x), expected)


def test_codes_do_not_depend_on_the_loudness():
    """Catches windows that are not standardized: few codes would be used, others by loudness."""
    method = made(codes=64)
    stage = method.encoder.stages[0]
    x = sound(8)
    codes = method.targets(stage(x))
    assert (method.targets(stage(x / 4)) != codes).float().mean() < 0.02  # but for rounding
    assert len(codes.unique()) > 32
    raw = stage(x)[:, :, 0].unflatten(2, (-1, 4)).permute(0, 2, 3, 1).flatten(2)
    assert len(method.quantizer(raw).unique()) < len(codes.unique()) / 2


def test_a_code_is_of_the_windows_of_its_frame():
    """Catches frames and codes that are not aligned, and windows of several frames mixed."""
    method = made(codes=64)
    bands = method.encoder.stages[0](sound(2)[:1].expand(2, -1, -1, -1)).clone()
    order = torch.randperm(25)
    bands[1] = bands[1].unflatten(2, (25, 4))[:, :, order].flatten(2)
    codes = method.targets(bands)
    assert torch.equal(codes[1], codes[0][order])
    hidden = torch.zeros(1, 25, dtype=torch.bool)
    hidden[0, 7] = True
    seen = []
    method.encoder.stages[1].register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    method.scores(bands[:1], hidden, torch.full((1, 6, 100), 5.0))
    changed = (seen[0] != bands[:1]).any(1)[0, 0].nonzero()[:, 0]
    assert changed.tolist() == [28, 29, 30, 31]


def test_noise_has_the_papers_deviation():
    """Catches a variance of 0.1, noise of the size of the bands, and one number for all bands."""
    noise = views_of(made(), sound(30))[2]
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std(1).mean() > 0.05


def test_silence_is_neither_masked_nor_heard():
    """Catches codes of padding, which would be the easiest to predict."""
    method = made(mask_prob=1.0)
    x, masked, _ = views_of(method)
    assert masked[3].nonzero().max() <= 15
    assert method.loss(views_of(method, torch.zeros(2, 1, 1, 2000))).isfinite()
    assert method.loss(views_of(method, x[..., :30])).isfinite()  # less than a frame


def test_what_has_no_mel_bands_is_refused():
    for name in ("wave", "wave_transformer"):
        with pytest.raises(UserError, match="use --encoder mel_transformer"):
            BestRQ(build(name, 1, (1, 800)))
