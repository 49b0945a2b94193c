"""ELECTRA against a loop over its equations, and the traps of its two networks."""

import itertools
import math

import pytest
import torch

from unlabeled.augmentations.vocabulary import END, FIRST_WORD, MASK, PAD, UNKNOWN
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.electra import ELECTRA, draw_words

WORDS = 9


@pytest.fixture
def in_float64(monkeypatch):
    """What a method computes in full precision is computed in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def made(**options) -> ELECTRA:
    """All weights random, so that the generator has favorites."""
    torch.manual_seed(0)
    encoder = build("text_transformer", 1, (1, 12), vocabulary=WORDS, width=16, layers=2, heads=4)
    method = ELECTRA(encoder, **{"mask_ratio": 0.4} | options)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return method


def texts(n: int = 6) -> torch.Tensor:
    """Of 12 tokens, the last of 7, which end with END."""
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(FIRST_WORD, WORDS, (n, 1, 12), generator=g)
    ids[..., -1] = END
    ids[-1, :, 6], ids[-1, :, 7:] = END, PAD
    return ids


def views_of(method: ELECTRA):
    x = texts()
    return method.views(Batch(x, torch.arange(len(x))))


def test_the_loss_equals_the_papers(in_float64):
    """Catches a discriminator of masked tokens only, padding in its mean, words that were drawn
    right but count as replaced, λ on the wrong term, and a draw that is not from the softmax.
    """
    method = made(discriminator_weight=7.0).double()
    ids, masked, draws = views_of(method)
    logits = iter(method.generator(ids.masked_fill(masked, MASK), masked, method.encoder))
    nll, filled, right = [], ids.clone(), 0
    for i, j in masked.nonzero().tolist():
        row = next(logits)
        nll.append((row.exp().sum().log() - row[ids[i, j]]).item())
        weights = [0 if w in (PAD, 2, 3, MASK) else math.exp(v) for w, v in enumerate(row.tolist())]
        at, sums = draws[i, j].item() * sum(weights), itertools.accumulate(weights)
        word = next(w for w, total in enumerate(sums) if total > at)
        filled[i, j] = word
        right += word == ids[i, j].item()
    states = method.encoder.states(filled)[:, 1:]
    costs = []
    for i in range(len(ids)):
        for j in range(12):
            if ids[i, j] != PAD:
                score = method.discriminator(states[i, j]).item()
                is_replaced = filled[i, j] != ids[i, j]
                costs.append(math.log1p(math.exp(-score if is_replaced else score)))
    expected = sum(nll) / len(nll) + 7 * sum(costs) / len(costs)
    assert right > 0
    assert len(nll) < len(costs)
    assert method.loss((ids, masked, draws)).item() == pytest.approx(expected, rel=1e-9)


def test_words_are_drawn_from_the_generator():
    """Catches the most probable word, special tokens, and ends of the range that leave it."""
    torch.manual_seed(0)
    logits = torch.randn(1, 9)
    logits[0, [PAD, MASK]] = 9
    draws = torch.arange(10_000) / 10_000
    found = draw_words(logits.expand(10_000, -1), draws).bincount(minlength=9) / 10_000
    allowed = [UNKNOWN, *range(FIRST_WORD, 9)]
    expected = torch.zeros(9)
    expected[allowed] = logits[0, allowed].softmax(0)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    logits[0, UNKNOWN] = -1e9  # 0 is no draw of what has no probability
    ends = draw_words(logits.expand(2, -1), torch.tensor([0.0, 1 - 2**-24]))
    assert ends.tolist() == [FIRST_WORD, 8]


def test_the_generator_is_not_trained_to_deceive():
    """Catches an adversarial generator: its gradient would depend on λ."""
    found = []
    for weight in (0.0, 50.0):
        method = made(discriminator_weight=weight)
        method.loss(views_of(method)).backward()
        found.append([p.grad for p in method.generator.parameters()])
    assert all(p is not None for p in found[0])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_embeddings_are_shared_and_learn_from_both():
    """Catches a generator with embeddings of its own, and shared ones that it does not train."""
    method = made(discriminator_weight=0.0)
    own = {name: p.shape for name, p in method.generator.named_parameters()}
    assert not any(len(shape) == 2 and WORDS in shape for shape in own.values())
    assert not any("positions" in name for name in own)
    method.loss(views_of(method)).backward()
    assert method.encoder.embed.weight.grad.abs().sum() > 0
    assert method.encoder.bodies[0].positions.grad.abs().sum() > 0
    blocks = method.encoder.bodies[0].blocks.parameters()
    assert all(p.grad is None or not p.grad.any() for p in blocks)


def test_the_discriminator_sees_no_mask():
    """Catches tokens that are left masked, as BERT's are, which no text to embed has."""
    method, seen = made(), []
    ids, masked, draws = views_of(method)
    method.encoder.embed.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    method.loss((ids, masked, draws))
    first, second = (tokens[:, 1:] for tokens in seen)  # generator and discriminator
    assert torch.equal(first == MASK, masked)
    assert not (second == MASK).any()
    assert torch.equal(second[~masked], ids[~masked])
    assert torch.equal(second == PAD, ids == PAD)


def test_all_chosen_tokens_are_masked_and_special_ones_are_not_chosen():
    """Catches BERT's 80 % of MASK, and an END or padding that is to be guessed."""
    ids, masked, _ = views_of(made())
    assert masked.sum(1).tolist() == [4] * 5 + [2]  # 0.4 of 11 and of 6 words
    assert (ids[masked] >= FIRST_WORD).all()


def test_padding_changes_nothing(in_float64):
    """Catches padding that is attended to, or classified as original."""
    method = made().double()
    ids, masked, draws = views_of(method)
    short = ids[-1:, :7], masked[-1:, :7], draws[-1:, :7]
    long = ids[-1:], masked[-1:], draws[-1:]
    assert method.loss(short).item() == pytest.approx(method.loss(long).item(), rel=1e-9)


def test_the_encoder_is_the_discriminators():
    """Catches a saved generator, which is the narrower one."""
    method = made()
    assert method.encoder.dim == 16
    assert method.generator.input.out_features == 4
    assert made(generator_ratio=0.5).generator.blocks[0].heads == 2
    ids = texts()
    expected = method.discriminator(method.encoder.states(ids[:, 0])[:, 1:])[:, :, 0]
    torch.testing.assert_close(method.scores(ids[:, 0]), expected)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(UserError, match="electra needs a bidirectional text encoder, not a causal"):
        ELECTRA(build("text_transformer", 1, (1, 8), direction="causal", width=16))
    with pytest.raises(UserError, match=r"generator_ratio is 0\.0, which leaves no width of 16"):
        made(generator_ratio=0.0)
    with pytest.raises(UserError, match="as many blocks as the encoder; give at least 1"):
        ELECTRA(build("text_transformer", 1, (1, 8), layers=0, width=16))
