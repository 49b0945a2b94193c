"""Sprites that glide: short clips whose velocity is known, rendered on the fly.

A clip's frames are the channels of one image, so that whatever takes images takes clips.
"""

import numpy as np

from unlabeled.augmentations import Compose
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.sets import dsprites
from unlabeled.data.sets.captions import shrunk
from unlabeled.data.split import SPLIT_SEED, TEST_SHARE
from unlabeled.data.targets import Classes, Target
from unlabeled.errors import UserError

FRAMES = 8
SPEEDS = (-2, -1, 0, 1, 2)
"""Steps of the grid a frame, in x and in y; a step is a 31st of the sprite's range."""


def velocities() -> list[str]:
    """Every velocity in words, by its class: "x +1, y -2" for a step right and two up a frame."""
    return [f"x {vx:+d}, y {vy:+d}" for vx in SPEEDS for vy in SPEEDS]


def load(location: str | None = None, images: int = 6_000) -> Splits:
    """Clips of eight frames of 32×32; the target is the velocity, other factors are the sprite's.

    The sprite starts where it stays in its range, and keeps its shape, scale and orientation.

    Args:
        location: there is none; clips are rendered.
        images: how many clips.

    Raises:
        UserError: a location was given.
    """
    if location is not None:
        raise UserError(f"moving_sprites are rendered; omit ':{location}'")
    clips, factors = glide(np.random.default_rng(SPLIT_SEED), images)
    targets: dict[str, Target] = dsprites.TARGETS | {"velocity": Classes(tuple(velocities()))}
    samples = Samples(clips, factors, targets=targets)
    cut = round((1 - TEST_SHARE) * images)
    return Splits(
        "moving_sprites",
        samples.take(np.arange(cut)),
        samples.take(np.arange(cut, images)),
        target="velocity",
        augment=Compose([]),
        augment_labeled=Compose([]),
    )


def glide(rng: np.random.Generator, number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Clips in shades of gray, uint8 (N, 8, 32, 32), and their factors, (N,) each."""
    fixed = {
        name: rng.integers(0, dsprites.SIZES[name], number)
        for name in ("shape", "scale", "orientation")
    }
    velocity = rng.integers(0, len(SPEEDS) ** 2, number)
    speed = np.stack(np.divmod(velocity, len(SPEEDS)), 1) - 2  # (N, 2), x and y
    travel = speed * (FRAMES - 1)
    low, high = np.maximum(0, -travel), np.minimum(31, 31 - travel)
    start = low + (rng.random((number, 2)) * (high - low + 1)).astype(np.int64)
    clips = np.empty((number, FRAMES, 32, 32), np.uint8)
    sprite = np.stack([fixed[name] for name in ("shape", "scale", "orientation")], 1)
    for frame in range(FRAMES):
        shown = dsprites.render(np.concatenate([sprite, start + frame * speed], 1))
        clips[:, frame] = shrunk(shown[:, None])[:, 0]
    factors = fixed | {"velocity": velocity, "x": start[:, 0], "y": start[:, 1]}
    return clips, factors


def read_velocity(clips: np.ndarray) -> np.ndarray:
    """Steps of the grid a frame (N, 2) in x and y, from the center of what is bright.

    The slope of the center over frames, by least squares; clips (N, T, H, W) of any brightness.
    """
    mass = clips.astype(np.float64) + 1e-12
    total = mass.sum((2, 3))
    down, across = (np.arange(side) for side in clips.shape[2:])
    center = np.stack(
        [
            np.einsum("ntij,j->nt", mass, across) / total,
            np.einsum("ntij,i->nt", mass, down) / total,
        ],
        2,
    )
    time = np.arange(clips.shape[1]) - (clips.shape[1] - 1) / 2
    pixels = np.einsum("ntk,t->nk", center, time) / (time**2).sum()
    return pixels * 31 / 16  # the range of 31 steps is 16 pixels of 32
