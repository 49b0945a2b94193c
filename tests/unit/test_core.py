"""EMA, schedules, recipes."""

import pytest
import torch
from torch import nn

from unlabeled.core import EMA, Average, Recipe, cosine, linear, one_cycle, warmup_cosine
from unlabeled.encoders.attention import DropPath
from unlabeled.training.optim import make_optimizer


def test_ema_starts_as_a_copy_takes_no_gradient_and_follows():
    torch.manual_seed(0)
    fast = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    slow = EMA(fast)
    x = torch.randn(6, 3)
    assert torch.equal(slow(x), fast(x))
    assert not any(p.requires_grad for p in slow.parameters())
    assert not slow(x.requires_grad_()).requires_grad

    before = [p.clone() for p in slow.parameters()]
    with torch.no_grad():
        for p in fast.parameters():
            p.add_(1.0)
    slow.update(fast, 0.9)
    for old, new, target in zip(before, slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * target)
    slow.update(fast, 1.0)
    slow.update(fast, 0.0)
    for new, target in zip(slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(new, target)


@pytest.mark.parametrize("random", [nn.Dropout(0.5), DropPath(0.5)])
def test_an_average_is_not_random_but_has_the_statistics_of_its_batch(random):
    """Catches teachers that drop paths, whose targets are random, or BatchNorm in eval mode."""
    owner = nn.Module()
    owner.slow = EMA(nn.Sequential(random, nn.BatchNorm1d(3)))
    x = torch.arange(24.0).view(8, 3)
    for slow in (owner.slow, owner.eval().train().slow):
        assert torch.equal(slow(x), slow(x))
        torch.testing.assert_close(slow(x).mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    seen = owner.slow.module[1].running_mean.clone()
    assert seen.abs().min() > 0
    owner.eval()
    owner.slow(x)
    assert torch.equal(owner.slow.module[1].running_mean, seen)


def test_an_average_soon_forgets_what_it_began_with():
    """After 100 steps nothing of the first weights is left, where an EMA would keep nine tenths."""
    fast = nn.Linear(2, 2)
    average = Average(fast)
    with torch.no_grad():
        fast.weight.add_(1.0)
    for _ in range(100):
        average.update(fast, 0.999)
    assert (average.module.weight - fast.weight).abs().max() < 1e-3
    again = Average(nn.Linear(2, 2))
    again.load_state_dict(average.state_dict())
    assert int(again.steps) == 100


def test_ema_is_in_the_checkpoint_of_its_owner():
    owner = nn.Module()
    owner.slow = EMA(nn.Linear(2, 2))
    assert {"slow.module.weight", "slow.module.bias"} == set(owner.state_dict())


@pytest.mark.parametrize(
    ("schedule", "ends"), [(linear(0.2, 0.8), (0.2, 0.8)), (cosine(0.996, 1.0), (0.996, 1.0))]
)
def test_schedules_start_and_end_where_they_say(schedule, ends):
    assert schedule(0.0) == pytest.approx(ends[0])
    assert schedule(1.0) == pytest.approx(ends[1])
    assert schedule(0.5) == pytest.approx(sum(ends) / 2)


def test_one_cycle_equals_torch():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=1001, pct_start=0.3)
    ours = one_cycle(0.3, 1 / 25, 1 / 25e4)
    for step in range(1000):
        # torch counts its rise to step 0.3·1001 − 1; the same curve to within a step.
        assert ours(step / 1000) == pytest.approx(theirs.get_last_lr()[0], abs=0.011)
        optimizer.step()
        theirs.step()


def test_warmup_peaks_at_its_end_and_falls_to_zero():
    lr = warmup_cosine(0.1)
    assert lr(0.0) == 0
    assert lr(0.1) == pytest.approx(1)
    assert lr(1.0) == pytest.approx(0)


def test_decay_spares_biases_and_norms():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    decayed, spared = make_optimizer(Recipe(weight_decay=0.1), net).param_groups
    assert decayed["weight_decay"] == 0.1
    assert {p.ndim for p in decayed["params"]} == {4, 2}
    assert spared["weight_decay"] == 0
    assert {p.ndim for p in spared["params"]} == {1}
