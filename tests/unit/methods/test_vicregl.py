"""VICRegL against a loop over its equations, and its traps."""

import pytest
import torch
from torch import nn
from two_views import Mean

from unlabeled.augmentations import Compose, RandomAffine, RandomHorizontalFlip, RandomResizedCrop
from unlabeled.core import Batch
from unlabeled.encoders.base import Encoder, build
from unlabeled.encoders.spatial import nearest_positions
from unlabeled.errors import UserError
from unlabeled.methods.vicregl import VICRegL

SHAPE = (1, 24, 32)


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    """What a method computes in full precision is computed in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def images(seed: int = 1, n: int = 7) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)).double()


def make(**options) -> VICRegL:
    """On maps of 3×4 positions and 6 channels; expanders without BatchNorm."""
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Conv2d(1, 6, 8, 8), nn.Tanh())
    encoder = build(Encoder([stage], Mean(), 6), 1, SHAPE[1:])
    small = {"dim": 5, "local_dim": 4, "augment": RandomResizedCrop((0.3, 1.0))}
    method = VICRegL(encoder, shape=SHAPE, **small | options).double()
    method.expander, method.local_expander = (
        nn.Linear(6, d).double() for d in (method.expander[-1].out_features, 4)
    )
    return method


def views_of(method: VICRegL):
    torch.manual_seed(1)
    return method.views(Batch(images(), torch.arange(7)))


def naive_vicreg(a, b, invariance, variance, covariance) -> torch.Tensor:
    """Of rows (n, d): the mean of both views' covariance terms, as in the authors' code."""
    loss = invariance * (a - b).pow(2).mean()
    for z in (a, b):
        n, d = z.shape
        std = torch.stack([(z[:, k].var() + 1e-4).sqrt() for k in range(d)])
        loss = loss + variance * (1 - std).relu().mean() / 2
        c = (z - z.mean(0)).T @ (z - z.mean(0)) / (n - 1)
        off = sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j)
        loss = loss + covariance * off / d / 2
    return loss


def pairs(distance, number) -> list[tuple[int, int]]:
    """(position, nearest position of the other view) of the nearest pairs, by position."""
    best = [(min(row), i, row.index(min(row))) for i, row in enumerate(distance.tolist())]
    return sorted((i, j) for _, i, j in sorted(best)[:number])


def location(matrix, rows: int, columns: int) -> torch.Tensor:
    """Of each position's center, one by one."""
    points = []
    for r in range(rows):
        for c in range(columns):
            point = matrix.new_tensor([(2 * c + 1) / columns - 1, (2 * r + 1) / rows - 1, 1])
            points.append(matrix @ point)
    return torch.stack(points)


@pytest.mark.parametrize("options", [{}, {"matches": 3, "feature_matches": 5}])
def test_vicregl_equals_its_equations(options):
    """Catches one direction only, matches across images, statistics over positions, α exchanged.

    And matches without a gradient in either view, a sum instead of a mean of covariances, all
    pairs by location, and as few by embedding as by location.
    """
    weights = {"invariance": 20.0, "variance": 10.0, "covariance": 3.0}
    method = make(global_weight=0.6, **weights, **options)
    views = views_of(method)
    kept = options.get("matches", 5), options.get("feature_matches", 12)
    maps = [method.encoder.map(x) for x in views[:2]]
    whole = [method.expander(h.mean((2, 3))) for h in maps]
    expected = 0.6 * naive_vicreg(*whole, *weights.values())
    local = [method.local_expander(h.flatten(2).transpose(1, 2)) for h in maps]
    for one, two in ((0, 1), (1, 0)):
        chosen = {"location": [], "embedding": []}
        for i in range(7):
            p, q = (location(views[2 + view][i], 3, 4) for view in (one, two))
            by_location = torch.stack([(point - q).norm(dim=1) for point in p])
            by_embedding = torch.stack(
                [(z - local[two][i].detach()).norm(dim=1) for z in local[one][i].detach()]
            )
            chosen["location"].append(pairs(by_location, kept[0]))
            chosen["embedding"].append(pairs(by_embedding, kept[1]))
        for matches in chosen.values():
            number = len(matches[0])
            for slot in range(number):
                a = torch.stack([local[one][i, m[slot][0]] for i, m in enumerate(matches)])
                b = torch.stack([local[two][i, m[slot][1]] for i, m in enumerate(matches)])
                term = naive_vicreg(a, b, *weights.values())
                expected = expected + 0.4 * term / number / 2
    loss = method.loss(views)
    torch.testing.assert_close(loss, expected)
    parameters = [*method.parameters()]
    for ours, naive in zip(
        *(torch.autograd.grad(value, parameters) for value in (loss, expected)), strict=True
    ):
        torch.testing.assert_close(ours, naive)


def test_a_flipped_view_is_matched_mirrored():
    """Catches locations of the crop before its flip, as of the authors' `--no-flip-grid 1`."""
    flip, still = RandomHorizontalFlip(1.0), Compose([])
    method = make(augment=still, second_augment=flip, matches=12)
    views = views_of(method)
    x, mirrored, matrix, mirrored_matrix = views
    assert torch.equal(mirrored, x.flip(3))
    p, q = (location(m[0], 3, 4) for m in (matrix, mirrored_matrix))
    torch.testing.assert_close(q.view(3, 4, 2), p.view(3, 4, 2).flip(1))
    index, partner = nearest_positions(p[None], q[None], 12)
    assert index[0].tolist() == list(range(12))
    expected = torch.arange(12).view(3, 4).flip(1).flatten().tolist()
    assert partner[0].tolist() == expected
    assert p[0].tolist() == [-12.0, -8.0]  # in pixels, from the center


def test_crops_without_overlap_match_at_their_border():
    """Catches pairs in the order of the map: those that are kept are the nearest ones."""
    p = torch.tensor([[[0.0, 0], [1, 0], [2, 0], [3, 0]]])
    q = torch.tensor([[[5.0, 0], [4, 0], [6, 0], [7, 0]]])
    index, partner = nearest_positions(p, q, 2)
    assert index.tolist() == [[2, 3]]
    assert partner.tolist() == [[1, 1]]


def test_near_positions_of_large_coordinates_are_distinguished(monkeypatch):
    """Catches distances by products of matrices, which cancel in float32."""
    monkeypatch.undo()
    p = 5000 + torch.arange(40.0).view(1, 40, 1).expand(-1, -1, 2) / 100
    _, partner = nearest_positions(p, p.flip(1), 40)
    assert partner[0].tolist() == list(range(39, -1, -1))


def test_the_distance_is_in_pixels_of_the_image():
    """Catches coordinates from −1 to 1, by which the longer side would count as the shorter."""
    views = views_of(make(augment=RandomAffine()))
    shape = torch.tensor([SHAPE[2] / 2, SHAPE[1] / 2]).double()
    rotation = views[2][:, :, :2].double() / shape  # columns: pixels of the image per pixel
    columns = rotation.transpose(1, 2)
    torch.testing.assert_close(
        (columns[:, 0] * columns[:, 1]).sum(1), torch.zeros(7).double(), atol=1e-5, rtol=0
    )
    lengths = columns.norm(dim=2)
    torch.testing.assert_close(lengths[:, 0], lengths[:, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["small", "spatial_resnet", "vit", "vit_tiny", "patches"])
def test_every_encoder_with_a_map_fits(name, monkeypatch):
    """Catches class tokens among the positions, and views of another size than the images."""
    monkeypatch.undo()
    width = {"vit": {"width": 12, "depth": 1}, "vit_tiny": {}}.get(name, {"width": 2})
    encoder = build(name, 3, (32, 32), **width)
    other = RandomResizedCrop(size=None if name == "patches" else 48)  # patches have one size
    method = VICRegL(encoder, dim=8, local_dim=4, second_augment=other)
    loss = method.loss(method.views(Batch(torch.rand(6, 3, 32, 32), torch.arange(6))))
    loss.backward()
    assert loss.isfinite()
    moved = [p.grad is not None and p.grad.any() for p in method.local_expander.parameters()]
    assert any(moved)


def test_more_matches_than_positions_and_none_are_refused():
    """Catches 0 that silently stands for the default, which is all for embeddings."""
    with pytest.raises(UserError, match="13 matches are more than the 12 positions"):
        make(feature_matches=13)
    for name in ("matches", "feature_matches"):
        with pytest.raises(UserError, match=f"{name} is 0, but must be at least 1"):
            make(**{name: 0})
    with pytest.raises(UserError, match="global_weight is 2"):
        make(global_weight=2.0)
    assert make().matches == 5  # 20 of 49
