"""CKA and CCA beside naive loops over the formulas, and on features whose answer is known."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch

import unlabeled as ul
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.rdm import rdm
from unlabeled.evaluation.rdm_comparison import compare_rdms
from unlabeled.evaluation.rsa import Similarity
from unlabeled.evaluation.similarity import cca, cka, similarity_of_encoders


def two(n=60, p=5, q=8, shared=2, seed=0):
    """Features (n, p) and (n, q) far from 0 with some shared directions."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, shared))
    return tuple(
        common @ rng.normal(size=(shared, d)) + rng.normal(size=(n, d)) + 20 for d in (p, q)
    )


def naive_cka(a, b, debiased):
    """Kernels, loops; Kornblith et al. 2019, equation 4, and Nguyen et al. 2021, equation 3."""
    n, center = len(a), np.eye(len(a)) - 1 / len(a)

    def hsic(k, m):
        if not debiased:
            return np.trace(k @ center @ m @ center)
        k, m = (x - np.diag(np.diag(x)) for x in (k, m))
        one = np.ones(n)
        middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + middle - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))

    k, m = a @ a.T, b @ b.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("n", [6, 60])  # by kernels and by features
def test_cka_equals_the_formula(n, debiased):
    a, b = two(n)
    result = cka(a, b, debiased=debiased)
    assert result == pytest.approx(naive_cka(a, b, debiased), abs=1e-8)
    assert cka(1e-12 * b, 1e12 * a, debiased=debiased) == pytest.approx(result, abs=1e-8)
    assert cka(*map(torch.tensor, (a, b)), debiased=debiased) == result
    assert float(cka(a, a, debiased=debiased)) == pytest.approx(1)


@pytest.mark.parametrize("debiased", [False, True])
def test_the_interval_of_cka_holds_the_value_of_the_population(debiased):
    """Catches an influence without the terms of the denominator: it covers 100 %."""
    features = two(120_000, shared=4)
    population, parts = cka(*features), [slice(i, i + 400) for i in range(0, 120_000, 400)]
    intervals = [cka(*(z[rows] for z in features), debiased=debiased).interval for rows in parts]
    covered = np.mean([low < population < high for low, high in intervals])
    assert 0.9 < covered < 0.985


def test_the_interval_of_debiased_cka_fits_more_features_than_samples():
    """Catches the influence of the plain estimate: an interval three times as wide covers 100 %."""
    features = two(12_000, 120, 150, shared=30)
    population, parts = cka(*features), [slice(i, i + 60) for i in range(0, 12_000, 60)]
    intervals = [cka(*(z[rows] for z in features), debiased=True).interval for rows in parts]
    covered = np.mean([low < population < high for low, high in intervals])
    assert 0.9 < covered < 0.985


def test_the_interval_of_cka_is_the_same_by_kernels_and_by_features():
    """Catches an influence that only one of the two ways computes: the kernels are equal."""
    a, b = two(60)
    wide = [np.hstack([z] * 20) / 20**0.5 for z in (a, b)]  # 100 × 160 > 60²
    for debiased in (False, True):
        expected = cka(a, b, debiased=debiased).interval
        np.testing.assert_allclose(cka(*wide, debiased=debiased).interval, expected, rtol=1e-9)


def test_debiased_cka_of_unrelated_features_is_about_0_and_the_plain_one_is_not():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 500))
    assert cka(a, b) > 0.85
    assert abs(cka(a, b, debiased=True)) < 0.05


def naive_correlations(a, b):
    """Canonical correlations by the generalized eigenvalues of covariances (Hotelling 1936)."""
    a, b = a - a.mean(0), b - b.mean(0)
    between = a.T @ b
    reduced = between @ np.linalg.solve(b.T @ b, between.T)
    squares, directions = scipy.linalg.eigh(reduced, a.T @ a)
    return np.sqrt(squares[::-1]), a @ directions[:, ::-1]


def reduced(z, share=0.99):
    """Principal components of z that hold a share of the variance."""
    z = z - z.mean(0)
    variance, directions = np.linalg.eigh(z.T @ z)
    variance, directions = variance[::-1], directions[:, ::-1]
    k = next(k for k in range(1, 99) if variance[:k].sum() >= share * variance.sum())
    return z @ directions[:, :k]


def test_cca_equals_the_formulas():
    a, b = two()
    b[:, 3:] *= 1e-2  # SVCCA leaves these out
    correlations, variates = naive_correlations(a, b)
    assert cca(a, b) == pytest.approx(correlations[:5].mean(), abs=1e-8)
    weights = np.abs(variates.T @ (a - a.mean(0))).sum(1)
    pwcca = (weights * correlations).sum() / weights.sum()
    assert cca(a, b, "pwcca") == pytest.approx(pwcca, abs=1e-8)
    small = reduced(b)
    assert small.shape[1] == 3
    by_components, _ = naive_correlations(small, reduced(a))
    assert cca(a, b, "svcca") == pytest.approx(by_components.mean(), abs=1e-8)
    assert cca(b, a, "svcca") == pytest.approx(by_components.mean(), abs=1e-8)
    assert cca(b, a, "pwcca") != pytest.approx(pwcca, abs=1e-3)


def test_cca_ignores_invertible_maps_and_cka_rotations():
    a, b = two()
    rng = np.random.default_rng(1)
    skew = rng.normal(size=(5, 5))
    rotation = np.linalg.qr(skew)[0]
    assert cca(a, a @ skew) == pytest.approx(1)
    assert cca(a @ skew, b) == pytest.approx(cca(a, b))
    assert cka(a @ rotation, b) == pytest.approx(cka(a, b))
    assert abs(cka(a @ skew, b) - cka(a, b)) > 0.01


def test_features_that_do_not_vary_count_for_nothing():
    """Catches a constant that rounding makes vary, which CCA would scale up to any other."""
    a, b = (z.astype(np.float32) for z in two())
    wider = np.c_[a, np.full(60, 0.1, np.float32), a[:, :1]]
    for measure in (cka, cca, lambda x, y: cca(x, y, "svcca"), lambda x, y: cca(x, y, "pwcca")):
        assert np.isnan(measure(np.full_like(a, 0.1), b))
    assert cca(wider, b) == pytest.approx(cca(a, b), abs=1e-5)
    assert cka(wider[:, :-1], b) == pytest.approx(cka(a, b), abs=1e-5)


def test_too_few_samples_for_cca_are_named():
    a, b = two(12)
    with pytest.warns(Notice, match="12 samples are too few .* 5 and 8 .* 2 canonical"):
        cca(a, b)
    left = naive_correlations(a, b)[0]
    assert (left > 1 - 1e-9).sum() == 2


def test_encoders_are_compared_by_all_measures():
    a, b = two(80)
    features = {"a": a, "b": b.astype(np.float32), "c": torch.from_numpy(a[:, :4])}
    result = similarity_of_encoders(features)
    assert list(result) == ["cka", "cka_debiased", "rsa", "cca", "pwcca", "svcca"]
    one, other = features["b"], a[:, :4]
    expected = {
        "cka": cka(one, other),
        "cka_debiased": cka(one, other, debiased=True),
        "rsa": compare_rdms(rdm(one), rdm(other)),
        "cca": cca(one, other),
        "pwcca": cca(one, other, "pwcca"),
        "svcca": cca(one, other, "svcca"),
    }
    for key, matrix in result.items():
        assert matrix.shape == (3, 3)
        assert matrix[1, 2] == pytest.approx(expected[key], abs=1e-10), key
        np.testing.assert_allclose(np.diag(matrix), 1)
    assert result["pwcca"][2, 1] == pytest.approx(cca(other, one, "pwcca"), abs=1e-10)


def test_rdms_of_many_samples_are_those_of_some_of_them():
    a, b = two(1_500)
    with pytest.warns(Notice, match="1,000 of the 1,500 samples"):
        result = similarity_of_encoders({"a": a, "b": b})["rsa"][0, 1]
    assert result == pytest.approx(compare_rdms(rdm(a), rdm(b), interval=False), abs=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: cka(a, b[1:]), r"60 and of 59 samples \(b\) cannot be compared"),
        (lambda a, b: cka(a[:3], b[:3]), "3 samples are too few"),
        (lambda a, b: cka(a * np.inf, b), "60 of 60 rows of features"),
        (lambda a, b: cca(a, b, "svca"), "no kind 'svca' of CCA; did you mean svcca"),
        (lambda a, b: similarity_of_encoders({"a": a}), "1 encoder cannot be compared"),
        (lambda a, b: similarity_of_encoders({"a": a, "net": b[2:]}), r"58 samples \(net\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call(*two())


@pytest.mark.slow
@pytest.mark.parametrize("call", ["similarity.cka(a, b, debiased=True)", "rdm.rdm(a)"])
def test_20_000_samples_of_512_features_stay_within_2_gb(call):
    """Catches kernels of all samples, 3 GB each in float64, and copies of an RDM of 1.5 GB."""
    code = (
        "import resource, numpy as np; from unlabeled.evaluation import rdm, similarity; "
        "a, b = (np.random.default_rng(i).random((20_000, 512), np.float32) for i in (0, 1)); "
        f"{call}; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 2


def test_the_package_offers_them():
    a, b = two()
    assert ul.cka(a, b) == cka(a, b)
    assert ul.compare_rdms(ul.rdm(a), ul.rdm(b)) == compare_rdms(rdm(a), rdm(b))
    assert {"rdm", "compare_rdms", "cka", "plot"} <= set(dir(ul))
    assert repr(Similarity(0.5, (0.25, 1.0))) == "Similarity(0.5, interval=(0.25, 1))"
    assert pickle.loads(pickle.dumps(ul.cka(a, b))).interval == cka(a, b).interval
