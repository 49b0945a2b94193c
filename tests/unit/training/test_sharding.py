"""Which trainings can be sharded; that the result is DDP's is a slow test."""

import pytest

import unlabeled as ul
from unlabeled.errors import UserError


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("simclr", {"devices": 1}, "--devices or --nodes above 1"),
        ("byol", {}, "a moving average of its networks, which BYOL has"),
        ("gan", {}, "one loss and one optimizer, and GAN has several"),
        ("simclr", {"accumulate": 2}, "whole batches; omit it, or --accumulate"),
    ],
)
def test_what_cannot_be_sharded_is_refused_before_a_folder_is_made(
    method, options, says, sprites, tmp_path
):
    """A sharded moving average would be of parts that are elsewhere in the next step."""
    few = sprites[0][:64, ::2, ::2]
    choice = {"devices": 2, "strategy": "fsdp", "out": tmp_path / "run", "progress": False}
    with pytest.raises(UserError, match=f"--strategy fsdp needs .*{says}"):
        ul.train(method, few, **choice | options)
    assert not (tmp_path / "run").exists()
