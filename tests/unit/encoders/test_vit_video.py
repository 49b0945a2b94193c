"""The transformer of clips: its patches, their places, and frames that stand still."""

import pytest
import torch

from unlabeled.encoders.base import build
from unlabeled.encoders.vit_video import space_time_positions
from unlabeled.errors import UserError


def made(**options):
    torch.manual_seed(0)
    args = {"frames": 6, "tubelet": 2, "patch": 4, "width": 12, "depth": 2} | options
    return build("vit_video", 3, (16, 20), **args).eval()


def clips(n=2, t=6, size=(16, 20)):
    return torch.rand(n, t, 3, *size, generator=torch.Generator().manual_seed(1))


def test_a_frame_is_a_clip_that_stands_still():
    """Catches channels that are mixed with frames, and a single slot in place of all."""
    encoder, x = made(), clips()[:, 0]
    assert encoder(x).shape == (2, 12)
    torch.testing.assert_close(encoder(x), encoder(x[:, None].expand(-1, 6, -1, -1, -1)))
    assert not torch.allclose(encoder(x), encoder(clips()), atol=1e-3)


def test_a_token_is_of_one_patch_of_two_frames():
    """Catches slots that are not consecutive frames, and rows taken for columns."""
    encoder, x = made(), clips(1)
    before = encoder.stages[0](x).flatten(2)
    for slot, row, column in [(0, 0, 0), (1, 2, 4), (2, 3, 1)]:
        for frame in (2 * slot, 2 * slot + 1):
            other = x.clone()
            other[:, frame, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
            moved = (encoder.stages[0](other).flatten(2) - before).abs().amax((0, 1)) > 1e-6
            assert moved.nonzero().tolist() == [[20 * slot + 5 * row + column]]


def test_some_patches_alone_are_as_in_the_whole():
    """Catches positions that go with the order of the visible patches, not with their places."""
    encoder, x = made(), clips()
    whole = torch.arange(60).expand(2, -1)
    torch.testing.assert_close(encoder.encode_visible(x, whole), encoder.encode_all(x))
    order = torch.randperm(60)
    shuffled = encoder.encode_visible(x, whole[:, order])
    torch.testing.assert_close(shuffled, encoder.encode_all(x)[:, order])
    torch.testing.assert_close(encoder(x), encoder.summary.norm(encoder.map(x).mean((2, 3))))
    places = torch.tensor([[3, 7], [0, 19]])
    found = encoder.over_time(places, (4, 5))
    assert found.tolist() == [[3, 7, 23, 27, 43, 47], [0, 19, 20, 39, 40, 59]]


def test_positions_are_fixed_and_differ():
    """Catches learned positions, and a place in time that is lost."""
    encoder = made()
    assert not any("positions" in name for name, _ in encoder.named_parameters())
    found = space_time_positions(12, 3, 4, 5)
    assert found.shape == (3, 12, 4, 5)
    rows = found.movedim(1, 3).reshape(60, 12)
    assert torch.cdist(rows, rows).add(9 * torch.eye(60)).amin() > 0.05
    for axis, first in ((0, 0), (2, 4), (3, 8)):  # a third of the width each: sines, then cosines
        place = torch.arange(found.shape[axis]).float()
        at = [slice(0, 1)] * 4
        at[axis], at[1] = slice(None), slice(first, first + 4)
        values = found[tuple(at)].movedim(axis, 0).reshape(len(place), 4)
        angle = place[:, None] * torch.tensor([1.0, 0.01])
        torch.testing.assert_close(values, torch.cat([angle.sin(), angle.cos()], 1))


def test_other_sizes_are_interpolated():
    encoder = made()
    assert encoder(clips(size=(24, 28))).shape == (2, 12)


def test_what_makes_no_clips_is_refused():
    with pytest.raises(UserError, match="clips of 6 frames cannot be cut into patches of 4"):
        made(tubelet=4)
    with pytest.raises(UserError, match="patches of 17 pixels do not fit"):
        made(patch=17)
    with pytest.raises(UserError, match="clips of 6 frames, not 4"):
        made()(clips(t=4))
