"""RDMs and their comparison beside naive loops over the formulas and beside rsatoolbox."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

import unlabeled as ul
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.intervals import bootstrap
from unlabeled.evaluation.rdm import noise_covariance, rdm
from unlabeled.evaluation.rdm_comparison import compare_rdms, noise_ceiling

METHODS = ["spearman", "pearson", "corr", "cosine", "tau-a", "rho-a", "corr_cov", "cosine_cov"]


def samples(n=40, d=7, conditions=5, seed=0):
    """Correlated features (n, d) far from 0, and conditions (n,), several samples of each."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 20
    return z, np.arange(n) % conditions


def noise_of(d=7):
    root = np.random.default_rng(5).normal(size=(d, d))
    return root @ root.T + np.eye(d)


def naive_rdm(z, metric, noise=None):
    def distance(a, b):
        if metric == "correlation":
            return 1 - np.corrcoef(a, b)[0, 1]
        if metric == "cosine":
            return 1 - a @ b / np.sqrt((a @ a) * (b @ b))
        precision = np.eye(len(a)) if noise is None else np.linalg.inv(noise)
        return (a - b) @ precision @ (a - b) / len(a)

    return np.array([[distance(a, b) if a is not b else 0 for b in z] for a in z])


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "mahalanobis"])
@pytest.mark.parametrize("averaged", [False, True])
def test_an_rdm_equals_a_loop_over_pairs(metric, averaged):
    z, y = samples()
    noise = noise_of() if metric == "mahalanobis" else None
    result = rdm(z, metric, labels=y if averaged else None, noise=noise)
    rows = np.stack([z[y == c].mean(0) for c in range(5)]) if averaged else z
    np.testing.assert_allclose(result, naive_rdm(list(rows), metric, noise), atol=1e-8)
    assert (result == result.T).all()


def test_tiles_of_an_rdm_fit_together():
    """Catches a tile that is written to the wrong place, or not mirrored."""
    z = np.random.default_rng(1).normal(size=(1100, 3))
    result = rdm(z, "euclidean")
    expected = ((z[:, None] - z[None]) ** 2).mean(2)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    assert (result == result.T).all()


def test_an_rdm_has_the_precision_of_the_features():
    z, _ = samples()
    single = rdm(torch.from_numpy(z).float())
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, rdm(z), atol=1e-5)
    assert rdm(torch.from_numpy(z).bfloat16()).dtype == np.float32


@pytest.mark.parametrize("whitened", [False, True])
def test_crossnobis_equals_a_loop_over_folds(whitened):
    z, y = samples(45)
    fold = np.arange(45) // 15  # in each, three samples of each condition
    noise = noise_of() if whitened else None
    precision = np.linalg.inv(noise) if whitened else np.eye(7)
    expected = np.zeros((5, 5))
    for f in range(3):
        a, b = (
            np.stack([z[part & (y == c)].mean(0) for c in range(5)])
            for part in (fold == f, fold != f)
        )
        for i in range(5):
            for j in range(5):
                expected[i, j] += (a[i] - a[j]) @ precision @ (b[i] - b[j]) / (3 * 7)
    result = rdm(z, "crossnobis", labels=y, noise=noise, folds=fold)
    np.testing.assert_allclose(result, expected, atol=1e-8)
    in_turn = rdm(z, "crossnobis", labels=y, noise=noise, folds=3)
    turns = np.arange(45) // 5 % 3
    np.testing.assert_array_equal(in_turn, rdm(z, "crossnobis", labels=y, noise=noise, folds=turns))


def test_crossnobis_is_zero_on_average_where_conditions_do_not_differ():
    """Catches folds that share samples, whose distance of equal conditions is positive."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 6)
    pairs = np.triu_indices(4, 1)
    draws = [rng.normal(size=(24, 5)) for _ in range(400)]
    result = np.array([rdm(z, "crossnobis", labels=y)[pairs].mean() for z in draws])
    biased = np.mean([rdm(z, "euclidean", labels=y)[pairs].mean() for z in draws])
    assert abs(result.mean()) < 4 * result.std() / 20
    assert biased > 0.3


def test_noise_covariance_equals_the_formula_of_the_paper():
    """Schäfer and Strimmer 2005: table 2, target D, on standardized data."""
    z, _ = samples(30)
    n, d = z.shape
    x = (z - z.mean(0)) / z.std(0, ddof=1)
    correlation, variance = np.eye(d), np.zeros((d, d))
    for i in range(d):
        for j in range(d):
            w = x[:, i] * x[:, j]
            correlation[i, j] = n / (n - 1) * w.mean()
            variance[i, j] = n / (n - 1) ** 3 * ((w - w.mean()) ** 2).sum()
    other = ~np.eye(d, dtype=bool)
    shrinkage = variance[other].sum() / (correlation[other] ** 2).sum()
    assert 0.02 < shrinkage < 0.98
    expected = np.where(other, (1 - shrinkage) * correlation, 1)
    expected *= np.outer(z.std(0, ddof=1), z.std(0, ddof=1))
    np.testing.assert_allclose(noise_covariance(z), expected, rtol=1e-10)


def test_noise_covariance_within_conditions_is_that_of_the_noise():
    """Catches means of conditions that count as noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(50, size=4000)
    z = 10 * rng.normal(size=(50, 3))[y] + rng.normal(size=(4000, 3)) * [1, 2, 3]
    np.testing.assert_allclose(noise_covariance(z, y), np.diag([1, 4, 9]), atol=0.5)


def naive_comparison(x, y, method, contrast):
    if method in ("spearman", "rho-a"):
        x, y = rankdata(x), rankdata(y)
    if method in ("pearson", "corr", "spearman"):
        return np.corrcoef(x, y)[0, 1]
    if method == "cosine":
        return x @ y / np.sqrt((x @ x) * (y @ y))
    if method == "rho-a":
        return 12 * (x - x.mean()) @ (y - y.mean()) / (len(x) ** 3 - len(x))
    if method == "tau-a":
        signs = [np.sign(v[:, None] - v)[np.tril_indices(len(v), -1)] for v in (x, y)]
        return (signs[0] * signs[1]).mean()
    precision = np.linalg.inv((contrast @ contrast.T) ** 2)
    if method == "corr_cov":
        x, y = x - x.mean(), y - y.mean()
    return x @ precision @ y / np.sqrt((x @ precision @ x) * (y @ precision @ y))


def two_rdms(n=12):
    """The second with ties."""
    z, _ = samples(n)
    other = z + 3 * np.random.default_rng(1).normal(size=z.shape)
    return rdm(z, "euclidean"), rdm(other, "euclidean").round(0)


@pytest.mark.parametrize("method", METHODS)
def test_comparison_equals_the_formula(method):
    a, b = two_rdms()
    pairs = np.triu_indices(12, 1)
    contrast = np.eye(12)[pairs[0]] - np.eye(12)[pairs[1]]
    expected = naive_comparison(a[pairs], b[pairs], method, contrast)
    result = compare_rdms(a, b, method)
    assert result == pytest.approx(expected, abs=1e-8)
    assert result.interval[0] < result < result.interval[1]
    assert compare_rdms(1e-9 * a, 1e6 * b, method, interval=False) == pytest.approx(
        result, abs=1e-8
    )


@pytest.mark.parametrize(("method", "n"), [*((m, 9) for m in METHODS), ("cosine_cov", 6)])
def test_the_interval_is_that_of_the_formula_on_copies_of_rows(method, n):
    """Catches pairs of a condition with its copy, and means or ranks not of the draw.

    Of 6 conditions, draws of 4 times the same split the matrix that whitening solves with.
    """
    a, b = two_rdms(n)

    def naive(times):
        rows = np.repeat(np.arange(n), times)
        i, j = np.triu_indices(n, 1)
        i, j = (side[rows[i] != rows[j]] for side in (i, j))
        x, y = (m[rows[i], rows[j]] for m in (a, b))
        return naive_comparison(x, y, method, np.eye(n)[i] - np.eye(n)[j])

    with np.errstate(invalid="ignore"):  # no pair is left of a draw of one condition
        expected = bootstrap(lambda draws: np.array([naive(times) for times in draws]), n)
    assert compare_rdms(a, b, method).interval == pytest.approx(expected, abs=1e-7)


def test_whitened_cosine_of_euclidean_rdms_is_linear_cka():
    """Diedrichsen et al. 2021, section 2.5."""
    z, _ = samples()
    a, b = (rdm(x, "euclidean") for x in (z, z[:, :3] ** 2))
    assert compare_rdms(a, b, "cosine_cov") == pytest.approx(ul.cka(z, z[:, :3] ** 2), abs=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_the_noise_ceiling_holds_the_best_model(method):
    """Catches a ceiling of RDMs averaged at their own scale, and bounds that are swapped."""
    z, _ = samples(14)
    rng = np.random.default_rng(2)
    scales = [1, 100, 0.01, 3]
    subjects = [s * rdm(z + 2 * rng.normal(size=z.shape), "euclidean") for s in scales]
    lower, upper = noise_ceiling(subjects, method)

    def of(model):
        return np.mean([compare_rdms(model, s, method, interval=False) for s in subjects])

    assert lower < upper
    assert of(rdm(z, "euclidean")) < upper
    models = [
        sum(w * s / s.mean() for w, s in zip(rng.random(4), subjects, strict=True))
        for _ in range(20)
    ]
    best = max(map(of, models))
    assert best < upper + (5e-3 if method in ("spearman", "tau-a", "rho-a") else 1e-12)
    others = [
        np.mean([x / x.mean() for j, x in enumerate(subjects) if j != i], 0) for i in range(4)
    ]
    nearly = [
        compare_rdms(o, s, method, interval=False) for o, s in zip(others, subjects, strict=True)
    ]
    assert lower == pytest.approx(np.mean(nearly), abs=0.05)


def test_conditions_without_dissimilarity_are_left_out_and_counted():
    a, b = two_rdms()
    without = compare_rdms(np.delete(np.delete(a, 3, 0), 3, 1), np.delete(np.delete(b, 3, 0), 3, 1))
    a[3] = a[:, 3] = np.nan
    with pytest.warns(Notice, match="1 of 12 conditions"):
        result = compare_rdms(a, b)
    assert (result, result.interval) == (without, without.interval)


def test_samples_without_label_are_left_out_and_counted():
    z, y = samples()
    y[:10] = -1
    with pytest.warns(Notice, match="10 of 40 samples"):
        result = rdm(z, labels=y)
    np.testing.assert_array_equal(result, rdm(z[10:], labels=y[10:]))


def test_names_are_labels():
    z, y = samples()
    names = np.array(["e", "d", "c", "b", "a"])[y]
    np.testing.assert_array_equal(rdm(z, labels=list(names)), rdm(z, labels=4 - y))


def test_what_is_constant_has_no_correlation():
    z, _ = samples()
    z[4] = 0.1
    matrix = rdm(z.astype(np.float32))
    assert np.isnan(np.delete(matrix[4], 4)).all()
    assert np.isfinite(np.delete(np.delete(matrix, 4, 0), 4, 1)).all()
    same = np.full((5, 5), 0.3)
    for method in ("spearman", "pearson", "corr_cov"):
        assert np.isnan(compare_rdms(same, rdm(z[:5] + np.eye(5, 7)), method))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, y: rdm(z, "corelation"), "no metric 'corelation' of RDMs; did you mean corr"),
        (lambda z, y: rdm(z[None]), r"shape \(1, 40, 7\) .* pass numbers \(samples, dim\)"),
        (lambda z, y: rdm(z.astype(str)), "type <U.* cannot be compared"),
        (lambda z, y: rdm(np.where(z > 21, np.nan, z)), "rows of features contain NaN"),
        (lambda z, y: rdm(z, "mahalanobis"), "lacks the covariance of the noise"),
        (lambda z, y: rdm(z, noise=noise_of()), "'correlation' takes no noise"),
        (lambda z, y: rdm(z, folds=2), "'correlation' takes no folds"),
        (lambda z, y: rdm(z, "mahalanobis", noise=np.eye(3)), r"shape \(3, 3\); features of 7"),
        (lambda z, y: rdm(z, "mahalanobis", noise=-np.eye(7)), "not positive definite"),
        (lambda z, y: rdm(z, labels=y[1:]), "39 labels are given for 40 samples"),
        (lambda z, y: rdm(z, "crossnobis"), "lacks labels"),
        (lambda z, y: rdm(z, "crossnobis", labels=y, folds=y), "20 of 25 cells"),
        (lambda z, y: rdm(z, "crossnobis", labels=y, folds=y[1:]), "39 folds are given for 40"),
        (lambda z, y: rdm(z, "crossnobis", labels=y, folds=1), "two or more folds"),
        (lambda z, y: rdm(np.zeros((20_001, 1))), "20,001 rows is too large"),
        (lambda z, y: noise_covariance(z, np.arange(40)), "40 conditions show no noise"),
        (lambda z, y: noise_covariance(np.c_[z, y], y), "1 of 8 features do not vary"),
        (lambda z, y: compare_rdms(rdm(z), rdm(z[1:])), "40 and 39 conditions"),
        (lambda z, y: compare_rdms(z, z), r"shape \(40, 7\) is not square"),
        (lambda z, y: compare_rdms(z[:7], z[:7]), "not symmetric"),
        (lambda z, y: compare_rdms(rdm(z), rdm(z), "kendal"), "by 'kendal'; choose one of spear"),
        (lambda z, y: compare_rdms(rdm(z[:2]), rdm(z[:2])), "2 conditions are too few"),
        (lambda z, y: noise_ceiling([rdm(z)]), "ceiling of 1 RDM"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call(*samples())


# Beside rsatoolbox.


@pytest.fixture(scope="module")
def toolbox():
    reason = "rsatoolbox is not installed"
    pytest.importorskip("rsatoolbox", reason=reason)
    return pytest.importorskip("rsatoolbox.rdm", reason=reason)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_rdms_equal_those_of_rsatoolbox(toolbox):
    from rsatoolbox.data import Dataset

    z, y = samples(45)
    noise, fold = noise_of(), np.arange(45) // 15
    data = Dataset(z, obs_descriptors={"y": y, "fold": fold})
    for metric in ("correlation", "euclidean", "mahalanobis", "crossnobis"):
        needs = {"noise": noise} if metric in ("mahalanobis", "crossnobis") else {}
        theirs = {"noise": np.linalg.inv(noise)} if needs else {}
        if metric == "crossnobis":
            needs, theirs = needs | {"folds": fold}, theirs | {"cv_descriptor": "fold"}
        expected = toolbox.calc_rdm(data, metric, descriptor="y", **theirs).get_matrices()[0]
        np.testing.assert_allclose(rdm(z, metric, labels=y, **needs), expected, atol=1e-5)


def test_noise_covariance_is_nearly_that_of_rsatoolbox(toolbox):
    """They differ by the factor n / (n − 1) in one term; the paper is followed."""
    from rsatoolbox.data.noise import cov_from_residuals

    z, _ = samples(500)
    np.testing.assert_allclose(noise_covariance(z), cov_from_residuals(z), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_comparison_equals_that_of_rsatoolbox(toolbox, method):
    a, b = two_rdms()
    pairs = np.triu_indices(12, 1)
    theirs = toolbox.compare(
        *(toolbox.RDMs(m[pairs][None]) for m in (a, b)), {"pearson": "corr"}.get(method, method)
    )
    assert compare_rdms(a, b, method, interval=False) == pytest.approx(theirs[0, 0], abs=1e-5)


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
@pytest.mark.parametrize("method", METHODS)
def test_the_noise_ceiling_equals_that_of_rsatoolbox(toolbox, method):
    """Where it whitens, rsatoolbox's ceiling scales RDMs to length 1 before whitening: nearly."""
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling

    z, _ = samples(14)
    rng = np.random.default_rng(2)
    rdms = np.stack([rdm(z + 2 * rng.normal(size=z.shape), "euclidean") for _ in range(4)])
    theirs = boot_noise_ceiling(toolbox.RDMs(rdms), {"pearson": "corr"}.get(method, method))
    assert noise_ceiling(rdms, method) == pytest.approx(
        tuple(theirs), abs=5e-3 if method.endswith("_cov") else 1e-5
    )


@pytest.mark.parametrize("metric", ["correlation", "crossnobis"])
def test_nan_is_no_label(metric):
    """Catches a condition of the samples that are unknown, such as empty cells of pandas."""
    z, y = samples()
    some = np.where(np.arange(40) % 3 == 0, np.nan, y)
    with pytest.warns(Notice, match=r"14 of 40 samples have no label \(−1, NaN\)"):
        result = rdm(z, metric, labels=some)
    with pytest.warns(Notice, match="14 of 40 samples"):
        expected = rdm(z, metric, labels=np.where(np.isnan(some), -1, y))
    np.testing.assert_array_equal(result, expected)
