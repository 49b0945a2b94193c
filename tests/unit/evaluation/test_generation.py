"""How made images and texts are judged."""

import itertools

import numpy as np
import pytest
from scipy.linalg import sqrtm

from unlabeled.errors import UserError
from unlabeled.evaluation.generation import frechet, shares
from unlabeled.evaluation.ngram import KneserNey, spelled

RNG = np.random.default_rng(0)


def test_frechet_equals_its_formula():
    a = RNG.normal(size=(300, 5)) @ RNG.normal(size=(5, 5))
    b = RNG.normal(size=(200, 5)) @ RNG.normal(size=(5, 5)) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, a + 2) == pytest.approx(5 * 4)
    with pytest.raises(UserError, match="two rows"):
        frechet(a[:1], b)


def test_shares_sum_to_one():
    assert shares(np.array([0, 2, 2, 2]), 4).tolist() == [0.25, 0, 0.75, 0]


def naive_kneser_ney(text, order, alphabet, sign, before):
    """The recursion as the paper has it, counting anew each time."""

    def count(sequence, n):
        if n == order:
            return sum(text[i : i + n] == sequence for i in range(len(text) - n + 1))
        longer = {text[i : i + n + 1] for i in range(len(text) - n)}
        return sum(s[1:] == sequence for s in longer)

    def p(n, context):
        if n == 0:
            return 1 / alphabet
        every = {text[i : i + n] for i in range(len(text) - n + 1)}
        if n < order:
            every = {text[i + 1 : i + n + 1] for i in range(len(text) - n)}
        values = [count(s, n) for s in every]
        discount = values.count(1) / (values.count(1) + 2 * values.count(2))
        following = [s for s in every if s[:-1] == context]
        total = sum(count(s, n) for s in following)
        if not total:
            return p(n - 1, context[1:])
        remaining = max(count(context + sign, n) - discount, 0)
        lower = p(n - 1, context[1:])
        return (remaining + discount * len(following) * lower) / total

    return p(order, before)


def test_kneser_ney_equals_its_recursion():
    text = b"xabracadabra abra cadabra dab"  # whose first characters follow nothing
    model = KneserNey(text, order=3, alphabet=256)
    for sign, before in ((b"a", b"br"), (b"d", b"ca"), (b"z", b"ab"), (b"a", b"zz"), (b"b", b"za")):
        expected = naive_kneser_ney(text, 3, 256, sign, before)
        assert model.probability(sign, before) == pytest.approx(expected), (sign, before)


def test_all_tokens_have_a_character():
    """Catches tokens from 55,296 on, which UTF-16 takes for halves of a character."""
    ids = np.array([5, 55_296, 56_320, 65_535, 57_343, 55_296, 56_320])
    text = spelled(ids)
    assert [ord(character) for character in text] == ids.tolist()
    assert np.isfinite(KneserNey(text, 3, 65_536).surprises(text)).all()


def test_kneser_ney_is_a_distribution():
    model = KneserNey(b"the cat sat on the mat and that was that" * 3, order=4)
    for before in (b"the", b"at ", b"xyz", b"qth", b"th"):
        total = sum(model.probability(bytes([i]), before) for i in range(256))
        assert total == pytest.approx(1)


def test_more_context_surprises_less():
    text = b" ".join(bytes(w) for w in itertools.permutations(b"word")) * 20
    bits = [KneserNey(text, order).bits(text) for order in (1, 2, 4)]
    assert bits[0] > bits[1] > bits[2]
