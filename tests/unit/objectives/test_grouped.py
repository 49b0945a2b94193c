"""Metric learning objectives against naive loops and a second library, in every backend."""

import math
import os
import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck

from unlabeled import objectives as ob
from unlabeled.objectives.similarity import backend, log_sums, use_backend

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])  # 2 and 3 have no positive
TARGETS = torch.tensor([[2, 5], [4, 4], [0, 5], [3, 3], [1, 1], [0, 2], [6, 6]])


def rows(n=7, d=4, seed=0, dtype=torch.float64, scale=0.6):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(2, n, d, generator=generator, dtype=dtype)).unbind(0)


def squared(u, v):
    return ((u - v) ** 2).sum()


def pairs_of(y):
    n = len(y)
    same = [(i, j) for i in range(n) for j in range(i) if y[i] == y[j]]
    other = [(i, j) for i in range(n) for j in range(i) if y[i] != y[j]]
    return same, other


def mean(values):
    return sum(values) / len(values)


def naive_contrastive(z, y, margin):
    same, other = pairs_of(y)
    near = mean([squared(z[i], z[j]) / 2 for i, j in same])
    return near + mean([torch.relu(margin - squared(z[i], z[j]).sqrt()) ** 2 / 2 for i, j in other])


def triplets(y):
    n = range(len(y))
    return [(a, p, k) for a in n for p in n for k in n if a != p and y[a] == y[p] and y[a] != y[k]]


def naive_triplet_all(z, y, margin):
    costs = [
        torch.relu(squared(z[a], z[p]) - squared(z[a], z[k]) + margin) for a, p, k in triplets(y)
    ]
    return mean([c for c in costs if c > 0])


def naive_triplet_hard(z, y, margin):
    costs = []
    for a in range(len(y)):
        near = [squared(z[a], z[p]) for p in range(len(y)) if p != a and y[p] == y[a]]
        far = [squared(z[a], z[k]) for k in range(len(y)) if y[k] != y[a]]
        if near and far:
            costs.append(torch.relu(max(near) - min(far) + margin))
    return mean(costs)


def naive_triplet_semi_hard(z, y, margin):
    costs = []
    for a in range(len(y)):
        for p in range(len(y)):
            if p != a and y[p] == y[a]:
                near = squared(z[a], z[p])
                far = [squared(z[a], z[k]) for k in range(len(y)) if y[k] != y[a]]
                farther = [d for d in far if d > near]
                if farther:
                    costs.append(torch.relu(near - min(farther) + margin))
    return mean(costs)


def naive_lifted(z, y, margin):
    """Song et al.'s eq. 4, term by term."""
    total, same = 0, pairs_of(y)[0]
    for i, j in same:
        below = sum(
            torch.exp(margin - squared(z[i], z[k]).sqrt()) for k in range(len(y)) if y[k] != y[i]
        ) + sum(
            torch.exp(margin - squared(z[j], z[k]).sqrt()) for k in range(len(y)) if y[k] != y[j]
        )
        total = total + torch.relu(torch.log(below) + squared(z[i], z[j]).sqrt()) ** 2
    return total / (2 * len(same))


def naive_soft_nearest(z, y, temperature):
    costs = []
    for i in range(len(y)):
        weights = {
            j: torch.exp(-squared(z[i], z[j]) / temperature) for j in range(len(y)) if j != i
        }
        own = [w for j, w in weights.items() if y[j] == y[i]]
        if own:
            costs.append(-torch.log(sum(own) / sum(weights.values())))
    return mean(costs)


def naive_mahalanobis(z, y):
    same, other = pairs_of(y)
    distance = mean([squared(z[i], z[j]).sqrt() for i, j in other])
    return mean([squared(z[i], z[j]) for i, j in same]) - torch.log(distance)


def naive_lmnn(z, y, weight):
    pull, push = 0, 0
    for i, targets in enumerate(TARGETS):
        for j in targets:
            pull = pull + squared(z[i], z[j])
            for k in range(len(y)):
                if y[k] != y[i]:
                    push = push + torch.relu(1 + squared(z[i], z[j]) - squared(z[i], z[k]))
    return ((1 - weight) * pull + weight * push) / TARGETS.numel()


def naive_n_pair(a, b, regularization):
    n = len(a)
    costs = [
        torch.log(1 + sum(torch.exp(a[i] @ b[j] - a[i] @ b[i]) for j in range(n) if j != i))
        for i in range(n)
    ]
    lengths = mean([v @ v for v in a]) + mean([v @ v for v in b])
    return mean(costs) + regularization * lengths


def naive_nce(a, b, temperature, c, noise=None):
    """Logistic regression of true pairs against k times as much noise."""
    total = 0
    for i in range(len(a)):
        others = [b[j] for j in range(len(b)) if j != i] if noise is None else list(noise)

        k = len(others)

        def h(key, i=i, k=k):
            ratio = torch.exp(a[i] @ key / temperature - c)  # of the densities
            return ratio / (ratio + k)

        total = total - torch.log(h(b[i])) - sum(torch.log(1 - h(key)) for key in others)
    return total / len(a)


def naive_hinge(a, b):
    n = len(a)
    near = mean([torch.relu(1 - a[i] @ b[i]) for i in range(n)])
    far = [mean([torch.relu(1 + a[i] @ b[j]) for j in range(n) if j != i]) for i in range(n)]
    return near + mean(far)


def naive_dino(a, b, temperature):
    total = 0
    for s, t in zip(a, b, strict=True):
        outputs = torch.exp(s / temperature) / torch.exp(s / temperature).sum()
        total = total - (t * torch.log(outputs)).sum()
    return total / len(a)


def naive_siglip(a, b, t, c, matches=None):
    """Algorithm 1 of SigLIP: the sum over all pairs of a batch, over the number of rows."""
    total, n = 0, len(a)
    for i in range(n):
        for j in range(n):
            z = 1 if i == j or (matches is not None and matches[i][j]) else -1
            total = total - torch.log(1 / (1 + torch.exp(-z * (t * (a[i] @ b[j]) + c))))
    return total / n


GROUPED = {
    "contrastive": (
        lambda z: ob.contrastive(z, LABELS, 1.3),
        lambda z: naive_contrastive(z, LABELS, 1.3),
    ),
    "triplet, all": (
        lambda z: ob.triplet(z, LABELS, 0.3),
        lambda z: naive_triplet_all(z, LABELS, 0.3),
    ),
    "triplet, hard": (
        lambda z: ob.triplet(z, LABELS, 0.3, "hard"),
        lambda z: naive_triplet_hard(z, LABELS, 0.3),
    ),
    "triplet, semi-hard": (
        lambda z: ob.triplet(z, LABELS, 0.3, "semi-hard"),
        lambda z: naive_triplet_semi_hard(z, LABELS, 0.3),
    ),
    "lifted structure": (
        lambda z: ob.lifted_structure(z, LABELS, 1.2),
        lambda z: naive_lifted(z, LABELS, 1.2),
    ),
    "soft nearest neighbor": (
        lambda z: ob.soft_nearest_neighbor(z, LABELS, 0.7),
        lambda z: naive_soft_nearest(z, LABELS, 0.7),
    ),
    "mahalanobis": (
        lambda z: ob.mahalanobis(z, LABELS),
        lambda z: naive_mahalanobis(z, LABELS),
    ),
    "lmnn": (
        lambda z: ob.lmnn(z, LABELS, TARGETS, 0.4),
        lambda z: naive_lmnn(z, LABELS, 0.4),
    ),
    "sup_con": (lambda z: ob.sup_con(z, LABELS, 0.3), None),
    "siamese": (lambda z: ob.siamese(z, LABELS, 0.7), None),
}
PAIRED = {
    "n-pair": (lambda a, b: ob.n_pair(a, b, 0.1), lambda a, b: naive_n_pair(a, b, 0.1)),
    "nce": (
        lambda a, b: ob.nce(a, b, 0.4, log_partition=0.2),
        lambda a, b: naive_nce(a, b, 0.4, 0.2),
    ),
    "hinge": (ob.hinge, naive_hinge),
    "dino": (
        lambda a, b: ob.dino(a, b.softmax(1, torch.promote_types(b.dtype, torch.float32)), 0.2),
        lambda a, b: naive_dino(a, b.softmax(1), 0.2),
    ),
    "siglip": (
        lambda a, b: ob.siglip(a, b, 1.7, -0.4),
        lambda a, b: naive_siglip(a, b, 1.7, -0.4),
    ),
    "nt_xent": (lambda a, b: ob.nt_xent(a, b, 0.3), None),
    "info_nce": (lambda a, b: ob.info_nce(a, b, 0.3), None),
    "vicreg": (ob.vicreg, None),
    "barlow_twins": (ob.barlow_twins, None),
    "cosine_distance": (ob.cosine_distance, None),
}
NAIVE_GROUPED = [name for name, (_, naive) in GROUPED.items() if naive]
NAIVE_PAIRED = [name for name, (_, naive) in PAIRED.items() if naive]


@pytest.mark.parametrize("scale", [0.2, 0.6, 1.5])
@pytest.mark.parametrize("name", NAIVE_GROUPED)
def test_grouped_objectives_equal_their_papers(name, scale):
    ours, naive = GROUPED[name]
    z = rows(scale=scale)[0]
    assert abs(ours(z) - naive(z)) < 1e-6


@pytest.mark.parametrize("scale", [0.2, 0.6, 1.5])
@pytest.mark.parametrize("name", NAIVE_PAIRED)
def test_paired_objectives_equal_their_papers(name, scale):
    ours, naive = PAIRED[name]
    a, b = rows(scale=scale)
    assert abs(ours(a, b) - naive(a, b)) < 1e-6


@pytest.mark.parametrize("name", NAIVE_GROUPED)
def test_grouped_objectives_pass_gradcheck(name):
    assert gradcheck(GROUPED[name][0], rows()[0].requires_grad_())


@pytest.mark.parametrize("name", NAIVE_PAIRED)
def test_paired_objectives_pass_gradcheck(name):
    assert gradcheck(PAIRED[name][0], [v.requires_grad_() for v in rows()])


def test_equal_samples_match_in_siglip():
    """Catches a caption that occurs twice as its own negative, and one modality that counts."""
    a, b = rows()
    same_a, same_b = torch.tensor([0, 1, 2, 0, 4, 5, 6]), torch.tensor([7, 8, 8, 3, 9, 9, 9])
    matches = [
        [same_a[i] == same_a[j] or same_b[i] == same_b[j] for j in range(7)] for i in range(7)
    ]
    for options, expected in (((same_a, same_b), matches), ((None, None), None)):
        naive = naive_siglip(a, b, 2.0, -1.0, expected)
        assert abs(ob.siglip(a, b, 2.0, -1.0, *options) - naive) < 1e-9
    assert ob.siglip(a, b, 2.0, -1.0, same_a, same_b) != ob.siglip(a, b, 2.0, -1.0)


def test_noise_and_negatives_may_be_given():
    (a, b), (noise, _) = rows(), rows(9, 4, seed=1)
    expected = naive_nce(a, b, 0.4, 0.2, noise)
    assert abs(ob.nce(a, b, 0.4, noise, 0.2) - expected) < 1e-6
    negatives = torch.stack([b.roll(1, 0), b.roll(2, 0)], 1)
    expected = mean(
        [
            torch.relu(1 - a[i] @ b[i])
            + mean([torch.relu(1 + a[i] @ negatives[i, k]) for k in range(2)])
            for i in range(len(a))
        ]
    )
    assert abs(ob.hinge(a, b, negatives) - expected) < 1e-6


def test_nce_learns_its_normalization():
    """For a constant model the optimal c gives the true pair probability 1 / (k + 1)."""
    a = b = torch.zeros(5, 3, dtype=torch.float64)
    c = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        (slope,) = torch.autograd.grad(ob.nce(a, b, 1.0, log_partition=c), c)
        c = (c - 0.5 * slope).detach().requires_grad_()
    assert abs(c.item()) < 1e-3


@pytest.mark.parametrize("name", [*GROUPED, *PAIRED])
def test_objectives_are_invariant_to_the_order_of_rows(name):
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    a, b = rows()
    if name in PAIRED:
        ours = PAIRED[name][0]
        torch.testing.assert_close(ours(a[order], b[order]), ours(a, b))
        return
    shuffled = {
        "contrastive": lambda z, y: ob.contrastive(z, y, 1.3),
        "triplet, all": lambda z, y: ob.triplet(z, y, 0.3),
        "triplet, hard": lambda z, y: ob.triplet(z, y, 0.3, "hard"),
        "triplet, semi-hard": lambda z, y: ob.triplet(z, y, 0.3, "semi-hard"),
        "lifted structure": lambda z, y: ob.lifted_structure(z, y, 1.2),
        "soft nearest neighbor": lambda z, y: ob.soft_nearest_neighbor(z, y, 0.7),
        "mahalanobis": ob.mahalanobis,
        "lmnn": lambda z, y: ob.lmnn(z, y, torch.argsort(order)[TARGETS[order]], 0.4),
        "sup_con": lambda z, y: ob.sup_con(z, y, 0.3),
        "siamese": lambda z, y: ob.siamese(z, y, 0.7),
    }[name]
    torch.testing.assert_close(shuffled(a[order], LABELS[order]), GROUPED[name][0](a))


ANY_LABELS = {
    "contrastive": ob.contrastive,
    "triplet, all": ob.triplet,
    "triplet, hard": lambda z, y: ob.triplet(z, y, mining="hard"),
    "triplet, semi-hard": lambda z, y: ob.triplet(z, y, mining="semi-hard"),
    "lifted structure": ob.lifted_structure,
    "soft nearest neighbor": ob.soft_nearest_neighbor,
    "mahalanobis": ob.mahalanobis,
    "sup_con": ob.sup_con,
    "siamese": ob.siamese,
}
LIMITS = {
    "one class": (rows(dtype=torch.float32)[0], torch.zeros(7, dtype=torch.long)),
    "each its own class": (rows(dtype=torch.float32)[0], torch.arange(7)),
    "one row": (torch.ones(1, 4), torch.zeros(1, dtype=torch.long)),
    "identical rows": (torch.ones(7, 4), LABELS),
    "zero rows": (torch.zeros(7, 4), LABELS),
    "long rows": (1e4 * torch.randn(7, 4), LABELS),
}


@pytest.mark.parametrize("selected", ["dense", "tiled"])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("name", ANY_LABELS)
def test_grouped_objectives_are_finite_at_their_limits(name, limit, selected):
    z, y = LIMITS[limit]
    z = z.clone().requires_grad_()
    with use_backend(selected):
        loss = ANY_LABELS[name](z, y)
        (slope,) = torch.autograd.grad(loss, z)
    assert loss.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize("selected", ["dense", "tiled"])
@pytest.mark.parametrize("limit", ["one row", "identical rows", "zero rows", "long rows"])
@pytest.mark.parametrize("name", [n for n in PAIRED if n not in ("vicreg", "barlow_twins")])
def test_paired_objectives_are_finite_at_their_limits(name, limit, selected):
    a = LIMITS[limit][0].clone().requires_grad_()
    b = LIMITS[limit][0].clone().requires_grad_()
    with use_backend(selected):
        loss = PAIRED[name][0](a, b)
        slopes = torch.autograd.grad(loss, (a, b))
    assert loss.isfinite()
    assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [*GROUPED, *PAIRED])
def test_half_precision_inputs_are_upcast(name, dtype):
    """Only the rows are rounded: the loss equals that of the rounded rows."""
    full = rows(dtype=torch.float32)
    objective = (GROUPED | PAIRED)[name][0]
    low = [v.to(dtype) for v in full][: 1 if name in GROUPED else 2]
    assert objective(*low).dtype == torch.float32
    assert torch.equal(objective(*low), objective(*(v.float() for v in low)))
    expected = objective(*full[: len(low)])
    assert abs(objective(*low) - expected) < 0.03 * max(1, abs(expected))


@pytest.mark.parametrize("which", ["all", "others", "same", "different"])
@pytest.mark.parametrize("n", [1, 2, 37])
def test_the_tiled_backend_equals_the_dense_one(which, n, monkeypatch):
    """Values and gradients, with tiles of a few rows, the last one partial."""
    monkeypatch.setattr("unlabeled.objectives.similarity.TILE", 5 * n)
    (a, b), y = rows(n, 6, seed=n), torch.arange(n) % 4
    weights = torch.linspace(-1, 2, n, dtype=torch.float64)
    for b_given in (None, b):
        result = []
        for name in ("dense", "tiled"):
            u, v = (x.clone().requires_grad_() for x in (a, b))
            with use_backend(name):
                sums = log_sums(u, None if b_given is None else v, which, y)
            keep = sums > -1e29
            loss = (weights * sums)[keep].sum()
            slopes = torch.autograd.grad(loss, (u, v), allow_unused=True, materialize_grads=True)
            result.append((sums, *slopes))
        for dense, tiled in zip(*result, strict=True):
            torch.testing.assert_close(tiled, dense)


def test_the_tiled_backend_passes_gradcheck(monkeypatch):
    monkeypatch.setattr("unlabeled.objectives.similarity.TILE", 20)
    a, b = (v.requires_grad_() for v in rows())
    with use_backend("tiled"):
        assert gradcheck(lambda a: log_sums(a, None, "others"), a)
        assert gradcheck(lambda a, b: log_sums(a, b), (a, b))
        assert gradcheck(lambda a, b: ob.nt_xent(a, b, 0.3), (a, b))
        assert gradcheck(lambda a, b: ob.nt_xent(a, b, 0.3, None, False), (a, b))
        assert gradcheck(lambda z: ob.soft_nearest_neighbor(z, LABELS), a)
        assert gradcheck(lambda z: ob.sup_con(z, LABELS, 0.3), a)


def test_the_size_selects_the_backend():
    assert backend(512, 512) == "dense"
    assert backend(16384, 16384) == "tiled"
    with use_backend("tiled"):
        assert backend(2, 2) == "tiled"
    assert backend(2, 2) == "dense"


def test_a_large_batch_needs_no_matrix():
    """The matrix of 5,000 pairs would have 100 million entries, 400 MB; tiles need a hundredth."""
    a, b = (v.requires_grad_() for v in rows(5000, 8, dtype=torch.float32))
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    with Watch():
        ob.nt_xent(a, b, 0.2).backward()
    assert 10_000 * 8 <= largest <= 2 * 2**20
    assert a.grad.isfinite().all()


def pml():
    return pytest.importorskip("pytorch_metric_learning")


def of_pml(name, **options):
    pml()
    from pytorch_metric_learning import losses
    from pytorch_metric_learning.distances import LpDistance

    power = options.pop("power", 1)
    distance = LpDistance(normalize_embeddings=False, p=2, power=power)
    return getattr(losses, name)(distance=distance, **options)


def test_triplet_equals_pytorch_metric_learning():
    """With squared distances; its mean is also over triplets of positive loss."""
    z, y = rows(24, 8)[0], torch.arange(24) % 5
    theirs = of_pml("TripletMarginLoss", margin=0.3, power=2)
    torch.testing.assert_close(ob.triplet(z, y, 0.3), theirs(z, y))


def test_hard_triplets_equal_pytorch_metric_learning():
    pml()
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import BatchHardMiner
    from pytorch_metric_learning.reducers import MeanReducer

    z, y = rows(24, 8)[0], torch.arange(24) % 5
    distance = LpDistance(normalize_embeddings=False, p=2, power=2)
    result = BatchHardMiner(distance=distance)(z, y)
    theirs = of_pml("TripletMarginLoss", margin=0.3, power=2, reducer=MeanReducer())
    torch.testing.assert_close(ob.triplet(z, y, 0.3, "hard"), theirs(z, y, result))


def test_lifted_structure_equals_pytorch_metric_learning():
    """Each pair once, as in the paper's P; the generalized form is another loss."""
    z, y = rows(24, 8)[0], torch.arange(24) % 5
    theirs = of_pml("LiftedStructureLoss", neg_margin=1.2, pos_margin=0)
    torch.testing.assert_close(ob.lifted_structure(z, y, 1.2), theirs(z, y))


def test_n_pair_equals_pytorch_metric_learning():
    pml()
    from pytorch_metric_learning.distances import DotProductSimilarity
    from pytorch_metric_learning.losses import NPairsLoss

    a, b = rows(10, 8)
    theirs = NPairsLoss(distance=DotProductSimilarity(normalize_embeddings=False))
    z, y = torch.stack([a, b], 1).flatten(0, 1), torch.arange(10).repeat_interleave(2)
    torch.testing.assert_close(ob.n_pair(a, b), theirs(z, y))


def test_soft_nearest_neighbor_of_equal_distances_is_a_log_share():
    """At equal distances the probability is the share of the row's class among the others."""
    z = torch.eye(6, dtype=torch.float64)
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    assert ob.soft_nearest_neighbor(z, y).item() == pytest.approx(-math.log(2 / 5))


FUSED = """
import torch
from unlabeled.objectives.similarity import log_sums, use_backend

device = "cuda" if torch.cuda.is_available() else "cpu"
for n, m, d in ((70, 70, 5), (130, 67, 33)):
    torch.manual_seed(n)
    a, b = torch.randn(n, d, device=device), torch.randn(m, d, device=device)
    y, weights = torch.arange(n, device=device) % 50, torch.linspace(-1, 2, n, device=device)
    for which in ("all", "others", "same", "different"):
        for other in [None, b] if which == "all" else [None, a * 0.5] * (n == m):
            found = []
            for name in ("dense", "triton"):
                u = a.clone().requires_grad_()
                v = None if other is None else other.clone().requires_grad_()
                with use_backend(name):
                    sums = log_sums(u, v, which, y)
                loss = (weights * sums)[sums > -1e29].sum()
                found.append((sums, *torch.autograd.grad(loss, [u] if v is None else [u, v])))
            for dense, fused in zip(*found, strict=True):
                torch.testing.assert_close(fused, dense, rtol=1e-4, atol=1e-4)
print("equal on", device)
"""


def test_fused_kernels_equal_the_dense_backend():
    """On a GPU, or by Triton's interpreter if Triton is installed."""
    pytest.importorskip("triton")
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FUSED], env=os.environ | interpreted, capture_output=True, text=True
    )
    assert "equal on" in done.stdout, done.stderr[-2000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_uses_the_fused_backend():
    assert backend(16384, 16384, "cuda") == "triton"
    a, b = (v.cuda().requires_grad_() for v in rows(4096, 32, dtype=torch.float32))
    fused = torch.autograd.grad(ob.nt_xent(a, b, 0.2), (a, b))
    with use_backend("tiled"):
        tiled = torch.autograd.grad(ob.nt_xent(a, b, 0.2), (a, b))
    for one, other in zip(fused, tiled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-7)
