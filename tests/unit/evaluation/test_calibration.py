"""Temperature scaling and the expected calibration error."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from unlabeled.evaluation.calibration import expected_calibration_error
from unlabeled.evaluation.temperature import cross_entropy, fit_temperature


def drawn(n, temperature, seed=0, k=4):
    """Scores whose softmax at that temperature are the probabilities that classes are drawn by."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (n, k))
    p = np.exp(scores / temperature)
    p /= p.sum(1, keepdims=True)
    y = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=k - 1)
    return scores.astype(np.float32), y


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_plain_gradient_descent(temperature):
    """Guo et al. 2017 by autograd in float64, on 1/T."""
    scores, y = drawn(3000, temperature)
    z, target = torch.from_numpy(scores).double(), torch.from_numpy(y)
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([inverse], lr=0.03)
    for _ in range(600):
        loss = torch.nn.functional.cross_entropy(z * inverse, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    result = fit_temperature(scores, y)
    assert result == pytest.approx(1 / inverse.item(), rel=2e-4)
    assert result == pytest.approx(temperature, rel=0.1)
    assert cross_entropy(scores / result, y) == pytest.approx(loss.item(), abs=1e-6)


def test_the_error_is_that_of_a_loop_over_bins():
    scores, y = drawn(500, 2.0)
    p = softmax(scores, 1)
    expected, confidence = 0.0, p.max(1)
    for b in range(15):
        inside = (confidence >= b / 15) & ((confidence < (b + 1) / 15) | (b == 14))
        if inside.any():
            right = (p.argmax(1) == y)[inside].mean()
            expected += inside.mean() * abs(right - confidence[inside].mean())
    result = expected_calibration_error(p, y)
    assert result.value == pytest.approx(expected, abs=1e-7)
    assert result.low <= result.value <= result.high
    sure = np.eye(4)[[0, 1, 2, 3]]
    assert expected_calibration_error(sure, np.array([0, 1, 2, -1])).value == pytest.approx(0.25)


def test_the_interval_covers_the_error_of_large_data():
    """The percentile interval of the bootstrap lies above it where probabilities are right."""

    for temperature in (1.0, 1.5):
        large, _ = drawn(200_000, temperature, 99)
        confidence = softmax(large, 1).max(1)
        # The most probable class is right with the probability that the classes are drawn by.
        off = confidence - softmax(large / np.float32(temperature), 1).max(1)
        cells = (confidence * 15).astype(int).clip(max=14)
        true = np.abs(np.bincount(cells, off)).sum() / len(off)
        samples = [drawn(400, temperature, seed) for seed in range(40)]
        result = [expected_calibration_error(softmax(s, 1), y) for s, y in samples]
        covered = sum(v.low - 1e-9 <= true <= v.high for v in result)
        assert covered >= 34, (temperature, true, covered)
