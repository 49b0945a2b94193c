"""Captions and clips say what is shown."""

import numpy as np
import pytest

from unlabeled.data import open_data
from unlabeled.data.sets import captions, moving_sprites
from unlabeled.errors import UserError


def test_captions_tell_shape_size_and_place():
    data = open_data("captions")
    assert len(data.classes) == 24
    assert data.classes[-1] == "a large heart, bottom right"
    some = data.train.take(np.arange(600))
    for x, row in zip(some.x, range(600), strict=True):
        text = data.classes[some.factors["caption"][row]]
        down, across = (np.average(np.arange(32), weights=x[0].sum(1 - axis)) for axis in (0, 1))
        assert ("left" in text) == (some.factors["x"][row] < 16)
        if abs(across - 15.5) > 1:  # a heart's center of mass is not its own
            assert ("left" in text) == (across < 15.5)
        if abs(down - 15.5) > 1:
            assert ("top" in text) == (down < 15.5)
        assert ("large" in text) == (some.factors["scale"][row] >= 3)
    small = np.array(["small" in data.classes[c] for c in some.factors["caption"]])
    assert some.x[small].mean() < 0.6 * some.x[~small].mean()


def test_clips_move_as_they_say():
    data = moving_sprites.load(images=300)
    assert data.train.x.shape == (240, 8, 32, 32)
    assert data.classes[0] == "x -2, y -2"
    asked = np.stack(np.divmod(data.train.factors["velocity"], 5), 1) - 2
    read = moving_sprites.read_velocity(data.train.x)
    assert np.abs(read - asked).max() < 0.35
    for axis in (0, 1):
        assert np.corrcoef(read[:, axis], asked[:, axis])[0, 1] > 0.99
    with pytest.raises(UserError, match="are rendered"):
        open_data("moving_sprites:somewhere")
    assert captions.words()[0] == "a small square, top left"
