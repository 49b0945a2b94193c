"""Objectives of several views: naive float64 loops over the papers' equations, and their traps."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from unlabeled.errors import UserError
from unlabeled.objectives import dclw, emp_ssl, frossl, mmcr, nt_xent, ssl_ey, wmse

N, K, D = 7, 3, 4


def views(n: int = N, k: int = K, d: int = D, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, d, generator=torch.Generator().manual_seed(seed)).double()


def unit(v: torch.Tensor) -> torch.Tensor:
    return v / v.norm()


def covariance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of rows (n, d) and (n, d), over n − 1, entry by entry."""
    x, y = x - x.mean(0), y - y.mean(0)
    c = torch.zeros(x.shape[1], y.shape[1]).double()
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            c[i, j] = sum(x[r, i] * y[r, j] for r in range(len(x))) / (len(x) - 1)
    return c


def naive_wmse(z, shrinkage):
    """Each view of a part is whitened by the inverse of its Cholesky factor."""
    n, k, d = z.shape
    parts = max(1, n // (2 * d))
    w = torch.zeros_like(z)
    for rows in torch.arange(n).tensor_split(parts):
        for view in range(k):
            x = z[rows, view]
            c = covariance(x, x)
            c = (1 - shrinkage) * c + shrinkage * c.diagonal().mean() * torch.eye(d).double()
            inverse = torch.linalg.inv(torch.linalg.cholesky(c))
            for row in rows.tolist():
                w[row, view] = inverse @ (z[row, view] - x.mean(0))
    pairs = [(i, j) for i in range(k) for j in range(i)]
    total = 0.0
    for row in range(n):
        for i, j in pairs:
            total += (unit(w[row, i]) - unit(w[row, j])).pow(2).sum().item()
    return total / (n * len(pairs))


def naive_mmcr(z, compression):
    """By eigenvalues: singular values are their roots."""

    def nuclear(m):
        gram = m @ m.T if len(m) < m.shape[1] else m.T @ m
        return torch.linalg.eigvalsh(gram).sqrt().sum().item()

    rows = [torch.stack([unit(v) for v in sample]) for sample in z]
    centroids = torch.stack([sum(sample) / len(sample) for sample in rows])
    return -nuclear(centroids) + compression * sum(map(nuclear, rows)) / len(rows)


def naive_frossl(z, invariance):
    n, k, d = z.shape
    centered = torch.stack([z[:, v] - z[:, v].mean(0) for v in range(k)])
    scaled = torch.zeros_like(centered)
    for v in range(k):
        for column in range(d):
            scaled[v, :, column] = math.sqrt(d) * unit(centered[v, :, column])
    mean, total = sum(scaled) / k, 0.0
    for v in range(k):
        c = scaled[v].T @ scaled[v]
        eigenvalues = torch.linalg.eigvalsh(c / c.trace())
        total += math.log(sum(e.item() ** 2 for e in eigenvalues))
        total += invariance * ((scaled[v] - mean) ** 2).sum().item() / (n * d)
    return total


def naive_ssl_ey(z):
    k = z.shape[1]
    a = sum(covariance(z[:, i], z[:, j]) for i in range(k) for j in range(k) if i != j)
    b = sum(covariance(z[:, i], z[:, i]) for i in range(k))
    return (-2 * a.trace() + (b @ b).trace()).item()


def naive_emp_ssl(z, epsilon, invariance):
    n, k, d = z.shape
    total = 0.0
    for v in range(k):
        rows = torch.stack([unit(row) for row in z[:, v]])
        values = torch.linalg.eigvalsh(torch.eye(d).double() + d / (n * epsilon) * rows.T @ rows)
        total -= sum(math.log(e.item()) for e in values) / 2 / k
        for i in range(n):
            mean = sum(unit(z[i, w]) for w in range(k)) / k
            total -= invariance * torch.dot(rows[i], unit(mean)).item() / (n * k)
    return total


OBJECTIVES = {
    "wmse": (lambda z: wmse(z, 0.1), lambda z: naive_wmse(z, 0.1)),
    "mmcr": (lambda z: mmcr(z, 0.3), lambda z: naive_mmcr(z, 0.3)),
    "frossl": (lambda z: frossl(z, 0.7), lambda z: naive_frossl(z, 0.7)),
    "ssl_ey": (ssl_ey, naive_ssl_ey),
    "emp_ssl": (lambda z: emp_ssl(z, 0.3, 5.0), lambda z: naive_emp_ssl(z, 0.3, 5.0)),
}


@pytest.mark.parametrize("shape", [(N, K, D), (19, 2, 4), (5, 4, 9)])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_of_views_equal_their_papers(name, shape):
    """More rows than dimensions and fewer, parts of several sizes: catches a wrong Gram matrix."""
    ours, naive = OBJECTIVES[name]
    z = views(*shape)
    assert ours(z).item() == pytest.approx(naive(z), rel=1e-9)
    assert ours(z.float()).dtype == torch.float32


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_of_views_pass_gradcheck(name):
    assert gradcheck(OBJECTIVES[name][0], views().requires_grad_())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_order_of_views_does_not_matter(name):
    """Catches a view that is treated as the only target."""
    ours = OBJECTIVES[name][0]
    torch.testing.assert_close(ours(views()[:, [2, 0, 1]]), ours(views()))


def test_wmse_is_blind_to_linear_maps_of_a_view():
    """Catches a covariance not inverted, a mean that stays, and both views whitened as one.

    By its Cholesky factor, whitening undoes maps that are lower triangular.
    """
    z = views(40, 2)
    mixed = torch.stack([3 * z[:, 0] + 5, z[:, 1] * torch.tensor([1.0, 2, 3, 4]) - 1], 1)
    torch.testing.assert_close(wmse(mixed, 0.0), wmse(z, 0.0))
    assert wmse(torch.stack([z[:, 0], z[:, 0]], 1)) < 1e-9
    assert wmse(z, 0.0) > 0.1


def test_shrinkage_follows_the_scale():
    """Catches a share of I: of large projections along few directions it is no help."""
    z = views(40, 2)
    torch.testing.assert_close(wmse(1e4 * z, 0.1), wmse(z, 0.1))
    line = 1e4 * z[:, :, :1] * torch.ones(z.shape[2])
    flat = line.float() + torch.randn(line.shape, generator=torch.Generator().manual_seed(0)) * 1e-4
    assert torch.isfinite(wmse(flat, 1e-3))
    assert torch.isfinite(wmse(torch.zeros(40, 2, 4), 1e-3))


def test_wmse_without_shrinkage_needs_more_rows_than_dimensions():
    """Catches LAPACK's traceback of a singular covariance matrix."""
    with pytest.raises(UserError, match="4 rows of 4 dimensions cannot be whitened"):
        wmse(views(4, 2, 4), 0.0)
    assert wmse(views(6, 2, 4), 0.0).isfinite()
    assert wmse(views(4, 2, 4)).isfinite()


def test_collapse_costs_most():
    """Catches losses that reward equal embeddings of all images."""
    spread = 0.5 * views()[:, :1].expand(N, K, D)
    collapsed = spread[:1].expand(N, K, D) + 1e-3 * views()
    for name in ("mmcr", "frossl", "ssl_ey", "emp_ssl"):
        ours = OBJECTIVES[name][0]
        assert ours(spread) < ours(collapsed) - 0.1, name


def test_the_least_values_are_reached():
    """Of equal views: white for SSL-EY (−d) and FroSSL (−2 log d), orthogonal for MMCR (−n)."""
    basis = torch.linalg.qr(views(9, 1, 9)[:, 0])[0]
    white = torch.linalg.qr(basis[:, :D] - basis[:, :D].mean(0))[0]  # centered, too
    twice = torch.stack([white, white], 1)
    assert ssl_ey(twice * math.sqrt(8 / 2)).item() == pytest.approx(-D)
    assert frossl(twice).item() == pytest.approx(-2 * math.log(D))
    assert mmcr(torch.stack([basis, basis], 1)).item() == pytest.approx(-9)


def test_dclw_equals_the_paper():
    """Catches weights of the similarity instead of 2 − them, and a positive in the denominator."""
    a, b = (torch.stack([unit(v) for v in x]) for x in views(6, 2, 4).unbind(1))
    tau, sigma, n = 0.3, 0.5, 6
    similarities = [torch.dot(a[i], b[i]).item() for i in range(n)]
    mean = sum(math.exp(s / sigma) for s in similarities) / n
    total = 0.0
    for z, other in ((a, b), (b, a)):
        for i in range(n):
            weight = 2 - math.exp(similarities[i] / sigma) / mean
            below = sum(
                math.exp(torch.dot(z[i], v[j]).item() / tau)
                for v in (z, other)
                for j in range(n)
                if j != i
            )
            total += (-weight * similarities[i] / tau + math.log(below)) / (2 * n)
    assert dclw(3 * a, b, tau, sigma).item() == pytest.approx(total, rel=1e-9)
    assert gradcheck(lambda x, y: dclw(x, y, tau), [v.requires_grad_() for v in (a, b)])
    equal = dclw(a, a, tau)  # all weights are 1
    torch.testing.assert_close(equal, nt_xent(a, a, tau, keep_positive=False))
