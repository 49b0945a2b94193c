"""wav2vec 2.0 against a loop over its equations, and the traps of its masks and its quantizer."""

import math

import pytest
import torch

from unlabeled.augmentations.masks import span_masks
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.quantizers import GumbelQuantizer
from unlabeled.errors import UserError
from unlabeled.methods.wav2vec2 import Wav2Vec2, unused_codes
from unlabeled.objectives.predictive import draw_distractors

STEPS = 40


@pytest.fixture
def in_float64(monkeypatch):
    """What a method computes in full precision is computed in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def made(**options) -> Wav2Vec2:
    """On frames that share no samples; all weights random, also norms and biases."""
    torch.manual_seed(0)
    args = {"width": 8, "context": 16, "depth": 2, "heads": 2}
    encoder = build("wave_transformer", 1, (1, 800), kernels=(5, 4), strides=(5, 4), **args)
    own = {"mask_length": 4, "distractors": 6, "codes": 5, "dim": 8}
    method = Wav2Vec2(encoder, **own | options)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def sound(n: int = 4) -> torch.Tensor:
    """Recordings of 40 steps, of which the last has 25."""
    x = torch.randn(n, 1, 1, 20 * STEPS, generator=torch.Generator().manual_seed(1)) / 5
    x[-1, ..., 500:] = 0
    return x


def views_of(method: Wav2Vec2, x: torch.Tensor | None = None):
    x = sound() if x is None else x
    return method.views(Batch(x, torch.arange(len(x))))


def test_the_loss_equals_equations_2_to_4(in_float64):
    """Catches distractors of other recordings or visible steps, a mean of recordings' means, soft
    targets, targets of masked frames, dot products, and entropies in place of perplexities.
    """
    method = made().double()
    method.progress = 0.35  # τ = 2 · (0.5 / 2) ** 0.5
    x, masked, distractors, noise = views_of(method, sound().double())
    noise = noise.double()
    z = method.encoder.latents(x)[:, :, 0]  # (B, C, T)
    c = method.encoder.contexts(z[:, :, None], masked, method.mask_token)
    scores, entries = method.quantizer.scores, method.quantizer.entries
    costs, shares = [], []
    for i in range(len(x)):
        vectors, codes = {}, {}
        for t in masked[i].nonzero()[:, 0].tolist():
            logits = scores(z[i, :, t]).view(2, 5)
            shares.append(torch.stack([row.exp() / row.exp().sum() for row in logits]))
            noisy = (logits + noise[i, t].view(2, 5)) / 1.0
            codes[t] = tuple(row.argmax().item() for row in noisy)
            chosen = torch.cat([entries[g, v] for g, v in enumerate(codes[t])])
            vectors[t] = method.quantizer.output(chosen)
        for t in vectors:
            context = method.head(c[i, t])

            def similarity(s, context=context, vectors=vectors):
                q = vectors[s]
                return math.exp((context @ q / context.norm() / q.norm()).item() / 0.1)

            others = [s for s in distractors[i, t].tolist() if codes[s] != codes[t]]
            total = similarity(t) + sum(similarity(s) for s in others)
            costs.append(-math.log(similarity(t) / total))
    mean = sum(shares) / len(shares)
    perplexity = sum(math.exp(-(p * (p + 1e-7).log()).sum().item()) for p in mean)
    expected = sum(costs) / len(costs) + 0.1 * (10 - perplexity) / 10
    assert len({int(n) for n in masked.sum(1)}) > 1
    assert method.loss((x, masked, distractors, noise)).item() == pytest.approx(expected, rel=1e-9)


def test_distractors_are_other_masked_steps_of_the_same_recording():
    """Catches the positive among its distractors, visible steps, and draws that favor some."""
    torch.manual_seed(0)
    masked = torch.tensor([[0, 1, 1, 0, 1, 1], [1, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0]]).bool()
    drawn = draw_distractors(masked, 3000)
    for row, step in masked.nonzero().tolist():
        others = set(masked[row].nonzero()[:, 0].tolist()) - {step} or {step}
        counts = drawn[row, step].bincount(minlength=6)
        assert set(counts.nonzero()[:, 0].tolist()) == others
        share = counts[sorted(others)] / 3000
        torch.testing.assert_close(
            share, torch.full_like(share, 1 / len(others)), atol=0.04, rtol=0
        )
    assert draw_distractors(torch.zeros(2, 4, dtype=torch.bool), 2).shape == (2, 4, 2)


def test_a_distractor_of_the_same_codes_does_not_count():
    """Catches log(K + 1) where all steps have the same codes: the positive would be a negative."""
    method = made(diversity_weight=0.0)
    with torch.no_grad():
        method.quantizer.scores.weight.zero_()
        method.quantizer.scores.bias.copy_(1e3 * (torch.arange(10) % 5 == 2))
    assert method.loss(views_of(method)).item() == pytest.approx(0, abs=1e-6)


def test_the_quantizer_sees_the_masked_frames_themselves():
    """Catches targets of the mask token: all masked steps would have the same one."""
    method, seen = made(), []
    views = views_of(method)
    method.quantizer.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    method.loss(views)
    torch.testing.assert_close(seen[0], method.encoder.latents(views[0])[:, :, 0].transpose(1, 2))


def test_a_masked_step_has_a_position_of_what_is_seen():
    """Catches a mask token without position, and positions that the frames below it give away."""
    method = made()
    x, masked, *_ = views_of(method)
    z, embedding = method.encoder.latents(x[:3]), method.encoder.stages[method.encoder.front]
    masked = masked[:3]
    h = embedding.project(z).transpose(1, 3)  # (B, T, 1, C)
    h[masked] = method.mask_token
    h = h.transpose(1, 3)
    position = torch.nn.functional.gelu(embedding.positions(h)[..., : h.shape[3]])
    torch.testing.assert_close(embedding(z, masked, method.mask_token), h + position)


def test_a_code_is_hard_forward_and_soft_backward(in_float64):
    """Catches mixtures of entries, and codes without a gradient."""
    torch.manual_seed(0)
    quantizer = GumbelQuantizer(6, groups=2, codes=4, width=6).double()
    z, noise = torch.randn(2, 3, 6).double(), torch.randn(2, 3, 8).double()
    vectors, codes, shares = quantizer(z, noise, 0.7)
    scores = quantizer.scores(z)
    soft = ((scores + noise) / 0.7).unflatten(2, (2, 4)).softmax(3)
    assert torch.equal(codes, soft.argmax(3))
    chosen = torch.stack([quantizer.entries[g, codes[..., g]] for g in range(2)], 2).flatten(2)
    torch.testing.assert_close(vectors, quantizer.output(chosen))
    torch.testing.assert_close(shares, scores.unflatten(2, (2, 4)).softmax(3))
    mixed = quantizer.output(torch.einsum("btgv,gvd->btgd", soft, quantizer.entries).flatten(2))
    weight, direction = quantizer.scores.weight, torch.randn(2, 3, 6).double()
    hard, smooth = (
        torch.autograd.grad((v * direction).sum(), weight, retain_graph=True)[0]
        for v in (vectors, mixed)
    )
    torch.testing.assert_close(hard, smooth)


def test_unused_codes_are_of_the_mean_of_masked_steps():
    """Catches the mean of entropies in place of the entropy of the mean, a flipped sign, and
    visible steps.
    """
    masked = torch.tensor([[1, 1, 0], [1, 1, 0]]).bool()
    shares = torch.zeros(2, 3, 1, 4)
    shares[:, 0, 0, 0] = shares[:, 1, 0, 1] = 1
    shares[:, 2] = 0.25
    assert unused_codes(shares, masked).item() == pytest.approx(0.5, abs=1e-4)  # 2 of 4
    shares[:, 1] = shares[:, 0]
    assert unused_codes(shares, masked).item() == pytest.approx(0.75, abs=1e-4)
    assert unused_codes(torch.full((2, 3, 3, 4), 0.25), masked).item() == pytest.approx(0, abs=1e-5)


def test_the_gumbel_temperature_falls_geometrically_and_stays():
    """Catches a linear fall, and one that lasts to the end."""
    annealed = made().annealed
    assert [annealed(t) for t in (0, 0.35, 0.7, 1)] == pytest.approx([2, 1, 0.5, 0.5])
    assert made(ramp_end=0.0).annealed(0) == pytest.approx(0.5)


def test_noise_is_gumbels():
    """Catches a normal or uniform distribution: the mean is Euler's constant, the variance π²/6."""
    *_, noise = views_of(made(codes=200), sound(20))
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.02)


def test_spans_cover_half_of_a_long_recording():
    """Catches starts drawn with replacement, spans that wrap around, and spans of silence.

    Of 0.065 of the steps with 10 each, 1 − (1 − 0.065)¹⁰ = 0.49 are masked, as in the paper.
    """
    torch.manual_seed(0)
    steps = torch.ones(50, 800, dtype=torch.bool)
    steps[25:, 400:] = False
    masked = span_masks(steps, 0.065, 10)
    assert not masked[25:, 400:].any()
    assert masked[:25].float().mean().item() == pytest.approx(0.49, abs=0.02)
    assert masked[25:, :400].float().mean().item() == pytest.approx(0.49, abs=0.02)
    one = span_masks(steps, 0.0, 10)  # at least one span of each
    for row, end in ((0, 800), (30, 400)):
        places = one[row].nonzero()[:, 0]
        assert len(places) == places[-1] - places[0] + 1
        assert len(places) == 10 or places[-1] == end - 1
    ones = torch.cat([span_masks(steps[:1], 0.0, 10) for _ in range(400)])
    starts, lengths = ones.float().argmax(1), ones.sum(1)
    assert starts.min() < 30
    assert starts.max() > 770
    assert (lengths == (800 - starts).clamp(max=10)).all()  # a span goes on from where it begins


def test_something_remains_visible_and_silence_is_not_masked():
    """Catches recordings shorter than a span, of which nothing would be seen."""
    torch.manual_seed(0)
    steps = torch.zeros(3, 12, dtype=torch.bool)
    steps[0, :5] = steps[1, 0] = True
    for _ in range(30):
        masked = span_masks(steps, 1.0, 10)
        assert masked.sum(1).tolist() == [4, 0, 0]
        assert not (masked & ~steps).any()
    assert made().loss(views_of(made(), torch.zeros(2, 1, 1, 800))).isfinite()


def test_every_part_learns_and_the_quantizer_too():
    """Catches a quantizer that is detached, and codebooks that no gradient reaches."""
    method = made()
    method.loss(views_of(method)).backward()
    still = {n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == set()


def test_crops_are_of_the_length_that_was_asked_for():
    method = made(crop_length=400)
    x, masked, *_ = views_of(method)
    assert (x.shape, masked.shape) == ((4, 1, 1, 400), (4, 20))
    assert views_of(made(crop_length=5000))[0].shape == (4, 1, 1, 800)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(UserError, match="use --encoder wave_transformer"):
        Wav2Vec2(build("wave", 1, (1, 800), width=4))
    with pytest.raises(UserError, match="dim is 9, which 2 groups do not divide"):
        made(dim=9)
    with pytest.raises(UserError, match="final_gumbel_temperature is 0, but must be above 0"):
        made(final_gumbel_temperature=0)


def test_the_papers_weight_decay_is_decoupled():
    """Catches an L2 penalty: fairseq's "adam" decays weights as AdamW does."""
    assert Wav2Vec2.presets["paper"]["optimizer"] == "adamw"
