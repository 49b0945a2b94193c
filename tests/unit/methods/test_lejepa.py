"""LeJEPA against loops over its equations, and the traps of its loss."""

import cmath
import itertools
import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from unlabeled.augmentations import RandomAffine
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.lejepa import LeJEPA
from unlabeled.objectives import sigreg


def images(n: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


def make(**options) -> LeJEPA:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(1, 6, 8, 8), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    small = {"directions": 5, "dim": 4, "hidden_dim": 8, "augment": RandomAffine()}
    method = LeJEPA(build(encoder, 1, (32, 32)), **small | options)
    method.steps += 3
    return method


def naive_sigreg(z, directions) -> float:
    """Row by row and point by point, with complex numbers and 17 points from −5 to 5."""
    total, points = 0.0, [-5 + 10 * i / 16 for i in range(17)]
    for a in directions.T:
        heights = []
        for t in points:
            values = [cmath.exp(1j * t * float(a @ row)) for row in z]
            away = abs(sum(values) / len(z) - math.exp(-t * t / 2)) ** 2
            heights.append(away * math.exp(-t * t / 2))
        area = sum((left + right) / 2 for left, right in itertools.pairwise(heights))
        total += len(z) * area * 10 / 16
    return total / directions.shape[1]


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(("n", "scale", "shift"), [(1, 1, 0), (2, 0.1, 0), (7, 2, -0.5)])
def test_sigreg_equals_algorithm_1(n, scale, shift):
    """Catches a lost factor n, |φ̂| without its phase, half of the integral, another window."""
    z, directions = scale * rows(n, 3) + shift, nn.functional.normalize(rows(3, 4, 1), dim=0)
    expected = naive_sigreg(z, directions)
    assert sigreg(z, directions).item() == pytest.approx(expected, rel=1e-9)
    assert gradcheck(sigreg, (z.requires_grad_(), directions))


@pytest.mark.parametrize("n", [200, 4000])
def test_sigreg_is_smallest_of_standard_normal_rows(n):
    """Catches rows that are centered or scaled first, and a value that falls with n."""
    directions = nn.functional.normalize(rows(4, 200, 1), dim=0)
    normal = sum(sigreg(rows(n, 4, seed), directions).item() for seed in range(20)) / 20
    assert normal == pytest.approx(math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3)), rel=0.3)
    for other in (rows(n, 4) + 0.5, 1.5 * rows(n, 4), 0.6 * rows(n, 4), 0 * rows(n, 4)):
        assert sigreg(other, directions).item() > 5 * normal


@pytest.mark.parametrize("crops", [0, 3])
def test_lejepa_equals_algorithm_2(crops):
    """Catches a mean that local crops take part in, SIGReg of all views at once, λ exchanged."""
    method = make(local_crops=crops, trade_off=0.3, local_augment=RandomAffine())
    views = method.views(Batch(images(), torch.arange(8)))
    assert [len(view[0, 0]) for view in views] == [32] * 2 + [16] * crops
    z = [*method.project(torch.cat(views[:2])).chunk(2)]
    z += method.project(torch.cat(views[2:])).chunk(crops) if crops else []
    z = [view.detach().double() for view in z]
    directions = method.draw_directions(z[0].device).double()
    distance = gaussian = 0.0
    for view in z:
        for i in range(8):
            center = (z[0][i] + z[1][i]) / 2
            distance += sum((view[i, k] - center[k]).item() ** 2 for k in range(4)) / 8 / 4
        gaussian += naive_sigreg(view, directions)
    expected = 0.7 * distance / len(z) + 0.3 * gaussian / len(z)
    assert method.loss(views).item() == pytest.approx(expected, rel=1e-4)


def test_the_center_has_a_gradient():
    """Catches a stopped gradient, by which a local crop would pull only itself: 7 instead of 4.5.

    Without local crops both are the same.
    """
    method = make(trade_off=0.0, local_crops=1)
    z = torch.nn.Parameter(rows(8, 4).float())
    method.project = lambda x: torch.cat([z, 2 * z]) if len(x) == 16 else 4 * z
    method.loss((images(),) * 3).backward()  # distances of −0.5, 0.5 and 2.5 z from 1.5 z
    torch.testing.assert_close(z.grad, 4.5 * z.detach() / z.numel())


def test_directions_are_those_of_the_step():
    """Catches directions that each process draws for itself, and that are always the same."""
    method, other = make(), make()
    torch.manual_seed(1)
    drawn = method.draw_directions(torch.device("cpu"))
    torch.manual_seed(2)
    assert torch.equal(drawn, other.draw_directions(torch.device("cpu")))
    torch.testing.assert_close(drawn.norm(dim=0), torch.ones(5))
    method.update()
    assert not torch.equal(drawn, method.draw_directions(torch.device("cpu")))
    other.load_state_dict(method.state_dict())
    assert other.steps == 4


def test_a_trade_off_is_a_share():
    with pytest.raises(UserError, match="trade_off is 2"):
        make(trade_off=2.0)
