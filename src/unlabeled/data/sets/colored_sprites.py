"""Videos of two colored sprites that glide over a colored ground, with their masks."""

from dataclasses import dataclass

import numpy as np
import torch

from unlabeled.augmentations import RandomHorizontalFlip
from unlabeled.augmentations.color import lab_to_rgb
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.sets.dsprites import TARGETS
from unlabeled.data.sets.moving_sprites import FRAMES, glide, velocities
from unlabeled.data.split import SPLIT_SEED
from unlabeled.data.targets import Classes, Target
from unlabeled.errors import UserError
from unlabeled.modality import Images, Video

CONTRAST = 15.0
"""Minimum difference in lightness L* between the sprites, and between each and the background."""


@dataclass
class Videos:
    """Clips of sprites, and which sprite is where.

    Args:
        x: uint8 (N, T, 3, 32, 32).
        masks: uint8 (N, T, 32, 32): 0 ground, 1 the sprite behind, 2 the one in front.
        factors: of the sprite in front, (N,) each.
    """

    x: np.ndarray
    masks: np.ndarray
    factors: dict[str, np.ndarray]


def draw(clips: int, seed: int = 0) -> Videos:
    """Clips of eight frames; each sprite glides by itself, and the one in front hides the other.

    Raises:
        UserError: no clips.
    """
    if clips < 1:
        raise UserError(f"{clips} clips were asked for; draw at least 1")
    rng = np.random.default_rng(seed)
    (behind, _), (front, factors) = glide(rng, clips), glide(rng, clips)
    colors = _colors(rng, clips)[:, :, None, :, None, None]  # (N, 3, 1, 3, 1, 1)
    x, masks = colors[:, 0], np.zeros(front.shape, np.uint8)
    for number, sprite in enumerate((behind, front), 1):
        shade = sprite[:, :, None] / 255  # (N, T, 1, 32, 32)
        x = (1 - shade) * x + shade * colors[:, number]
        masks[sprite > 127] = number
    return Videos((255 * x).round().astype(np.uint8), masks, factors)


def _colors(rng: np.random.Generator, clips: int) -> np.ndarray:
    """Of ground and two sprites, (N, 3, 3) of red, green, blue in [0, 1]: any hue, any order of
    lightness, no two as light as each other.
    """
    steps = rng.permuted(np.tile(np.arange(3), (clips, 1)), axis=1)
    light = 25 + 25 * steps + rng.uniform(0, 25 - CONTRAST, (clips, 3))
    hue, chroma = rng.uniform(0, 2 * np.pi, (clips, 3)), rng.uniform(15, 45, (clips, 3))
    colors = np.stack([light, chroma * np.cos(hue), chroma * np.sin(hue)], 2)
    flat = torch.from_numpy(colors).float().view(-1, 3, 1, 1)
    return lab_to_rgb(flat).numpy().reshape(clips, 3, 3)


def load(location: str | None = None, clips: int = 500) -> Splits:
    """Frames in order; a clip is a shot, and the last fifth of the clips is for testing.

    Args:
        location: there is none; videos are rendered.
        clips: how many.

    Raises:
        UserError: a location was given.
    """
    if location is not None:
        raise UserError(f"colored_sprites are rendered; omit ':{location}'")
    videos = draw(clips, SPLIT_SEED)
    shot = np.repeat(np.arange(clips), FRAMES)
    factors = {name: np.repeat(codes, FRAMES) for name, codes in videos.factors.items()}
    targets: dict[str, Target] = TARGETS | {"velocity": Classes(tuple(velocities()))}
    factors |= {"shot": shot, "frame": np.tile(np.arange(FRAMES), clips)}
    x = videos.x.reshape(-1, *videos.x.shape[2:])
    samples = Samples(x, factors, targets=targets, modality=Video(Images(3, (32, 32))))
    cut = round(0.8 * clips) * FRAMES
    return Splits(
        "colored_sprites",
        samples.take(np.arange(cut)),
        samples.take(np.arange(cut, len(samples))),
        target="shape",
        augment=RandomHorizontalFlip(),
        augment_labeled=RandomHorizontalFlip(),
    )
