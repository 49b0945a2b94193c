"""Methods of clusters and groups, each against its paper: naive loops, and traps."""

import pytest
import torch
from two_views import make, two_views, unit, updated

from unlabeled.encoders.memory import assign, spherical_kmeans


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    """What a method computes in full precision is computed in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def test_kmeans_finds_what_is_apart_and_is_the_same_for_a_seed():
    """Catches centers that are no unit vectors, starts drawn anew, and too few different rows."""
    torch.manual_seed(0)
    corners = torch.eye(3)[torch.arange(60) % 3]
    x = unit(corners + 0.05 * torch.randn(60, 3))
    tries = [spherical_kmeans(x, 3, seed) for seed in range(5)]
    result = max(tries, key=lambda centers: (x @ centers.T).amax(1).sum())
    torch.testing.assert_close(result.norm(dim=1), torch.ones(3))
    assert len({tuple(assign(x, result)[i::3].tolist()) for i in range(3)}) == 3
    assert all(len(set(assign(x, result)[i::3].tolist())) == 1 for i in range(3))
    torch.manual_seed(9)
    assert torch.equal(spherical_kmeans(x, 3, 1), spherical_kmeans(x, 3, 1))
    assert spherical_kmeans(x[:2], 5, 0).shape == (5, 3)


def test_clusters_are_found_in_full_precision():
    """Catches similarities in bfloat16, by which one row of a hundred is in a wrong cluster."""
    torch.manual_seed(0)
    x, centers = (torch.nn.functional.normalize(torch.randn(n, 32), dim=1) for n in (900, 100))
    expected = assign(x, centers), spherical_kmeans(x, 9, 0)
    with torch.autocast("cpu", torch.bfloat16):  # training updates its clusters so
        assert torch.equal(assign(x, centers), expected[0])
        assert torch.equal(spherical_kmeans(x, 9, 0), expected[1])


# DeepCluster-v2


def deepcluster(**options):
    small = {"dim": 4, "hidden_dim": 6, "prototypes": 5, "bank_size": 20}
    return make("deepclusterv2", **small | options)


def batch(rows):
    first, second = two_views(len(rows))
    return torch.tensor(rows), first, second


@pytest.mark.parametrize("clusterings", [1, 3])
def test_deepcluster_equals_a_loop(clusterings):
    """Catches targets of other rows, and of other clusterings."""
    method = deepcluster(clusterings=clusterings)
    views = batch([3, 0, 7, 12])
    expected = 0.0
    for z in unit(method.project(torch.cat(views[1:]))).chunk(2):
        for head in range(clusterings):
            for i, row in enumerate(views[0].tolist()):
                scores = [torch.exp(z[i] @ g / 0.1) for g in method.prototypes[head]]
                p = scores[method.clusters[head, row]] / sum(scores)
                expected = expected - torch.log(p) / (2 * 4 * clusterings)
    torch.testing.assert_close(method.loss(views), expected)


def test_deepcluster_clusters_after_an_epoch_and_then_keeps_the_prototypes():
    """Catches clusters that change within an epoch, learned prototypes, and a bank of second views.

    Of 20 images, batches of 8 leave 4 out: an epoch has two steps.
    """
    method = deepcluster()
    assert "prototypes" not in dict(method.named_parameters())
    for epoch in range(3):
        before = method.prototypes.clone(), method.clusters.clone()
        order = torch.randperm(20).tolist()
        for step, rows in enumerate((order[:8], order[8:16])):
            same = all(map(torch.equal, before, (method.prototypes, method.clusters)))
            assert same, (epoch, step)
            views = batch(rows)
            z = unit(method.project(torch.cat(views[1:])))[:8]
            updated(method, views)
            torch.testing.assert_close(method.bank.rows[rows], z)
        assert not torch.equal(method.prototypes, before[0])
        bank = method.bank.rows
        assert torch.equal(method.clusters[0], (bank @ method.prototypes[0].T).argmax(1))
    assert method.seen.tolist() == [0, 3]


def test_deepcluster_goes_on_within_an_epoch():
    """Catches an epoch that starts anew when a run is resumed."""
    method, other = deepcluster(), deepcluster()
    updated(method, batch(list(range(8))))
    other.load_state_dict(method.state_dict())
    before = other.prototypes.clone()
    updated(other, batch(list(range(8, 16))))
    assert not torch.equal(other.prototypes, before)


# SMoG


def test_smog_equals_the_paper():
    """Catches old groups in the loss, groups without gradient, targets by new groups.

    Groups without embeddings stay.
    """
    method = make("smog", dim=4, hidden_dim=6, groups=6, group_momentum=0.6)
    views = two_views()
    for _ in range(3):
        z = unit(method.project(views[0]))
        p = unit(method.predictor(method.project(views[0])))
        t = unit(method.target(views[1]))
        old = method.groups.clone()
        nearest = [max(range(6), key=lambda k, i=i: (z[i] @ old[k]).item()) for i in range(8)]
        new = []
        for k in range(6):
            mine = [z[i] for i in range(8) if nearest[i] == k]
            g = 0.6 * old[k] + 0.4 * sum(mine) / len(mine) if mine else old[k]
            new.append(g / g.norm())
        expected = 0.0
        for i in range(8):
            target = max(range(6), key=lambda k, i=i: (t[i] @ old[k]).item())
            scores = [torch.exp(p[i] @ g / 0.1) for g in new]
            expected = expected - torch.log(scores[target] / sum(scores)) / 8
        loss = method.loss(views)
        torch.testing.assert_close(loss, expected)
        slopes = [torch.autograd.grad(x, method.encoder.parameters()) for x in (loss, expected)]
        for ours, naive in zip(*slopes, strict=True):
            torch.testing.assert_close(ours, naive)
        assert torch.equal(method.groups, old)
        updated(method, views)
        torch.testing.assert_close(method.groups, torch.stack(new).detach())
    assert 0 < len(set(nearest)) < 6


def test_smog_clusters_the_queue_from_time_to_time():
    """Catches groups that are never set anew, and a count that is lost in a checkpoint."""
    method = make("smog", dim=4, groups=6, reset_every=3, queue_size=16)
    for step in range(1, 7):
        moved = method.moved(unit(method.project(two_views()[0]))).detach()
        updated(method, two_views())
        assert torch.allclose(method.groups, moved) == bool(step % 3), step
        if step == 4:
            other = make("smog", dim=4, groups=6, reset_every=3, queue_size=16)
            other.load_state_dict(method.state_dict())
            method = other
    centers = spherical_kmeans(method.queue.rows, 6, 6)
    assert torch.equal(method.groups, centers)


def test_smog_clusters_no_random_rows():
    """Catches groups that are set to what the queue held at the start."""
    method = make("smog", dim=4, groups=6, reset_every=2, queue_size=500)
    for _ in range(2):
        updated(method, two_views())
    assert torch.equal(method.groups, spherical_kmeans(method.queue.rows[:16], 6, 2))
