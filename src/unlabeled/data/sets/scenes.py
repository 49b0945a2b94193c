"""Scenes of several dSprites with boxes and masks, to detect and segment.

Rendered, not stored. Boxes are no classes of images, so this is no data set of the list.
"""

from dataclasses import dataclass

import numpy as np

from unlabeled.data.sets.dsprites import render
from unlabeled.errors import UserError

TILE = 32
"""Side of the square in which a sprite turns freely, in pixels."""
GRAYS = np.array([255, 220, 185, 150], np.uint8)
"""One for each sprite of a scene, so that an edge is seen where one hides another."""
SHARED = 0.3
"""Of the smaller of two boxes, what they may share."""
TRIES = 20


@dataclass
class Scenes:
    """Images of sprites, and what is where.

    Args:
        x: uint8 (N, 1, S, S).
        boxes: float32 (N, K, 4), the smallest that hold what is seen of each sprite: left, top,
            right, bottom in pixels, the last two just outside; −1 where there is no sprite.
        classes: int64 (N, K), 0 square, 1 ellipse, 2 heart, −1 none.
        masks: uint8 (N, S, S), 0 background, else the class of the pixel's sprite + 1.
    """

    x: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: np.ndarray | slice) -> "Scenes":
        """Those scenes, in that order."""
        return Scenes(self.x[rows], self.boxes[rows], self.classes[rows], self.masks[rows])


def draw(number: int, seed: int = 0, *, side: int = 128, most: int = 4) -> "Scenes":
    """Scenes of 1 to `most` sprites of any shape, scale, orientation and location.

    Later sprites hide earlier ones, in another gray. A position is drawn again while the box would
    share more than 0.3 of the smaller box with another; after 20 tries it is left out.

    Args:
        number: of scenes.
        seed: of everything in them.
        side: S, height and width in pixels.
        most: K, sprites in a scene, at most 4.

    Raises:
        UserError: no scenes, too small ones, or too many sprites.
    """
    if number < 1:
        raise UserError(f"{number} scenes were asked for; draw at least 1")
    if side < TILE:
        raise UserError(f"a sprite needs {TILE} pixels, but scenes of {side} were asked for")
    if not 1 <= most <= len(GRAYS):
        raise UserError(f"a scene holds 1 to {len(GRAYS)} sprites, not {most}")
    rng = np.random.default_rng(seed)
    shown = np.arange(most) < rng.integers(1, most + 1, (number, 1))  # (N, K)
    latents = rng.integers(0, [3, 6, 40, 1, 1], (number * most, 5))  # in the corner of an image
    tiles = render(latents)[:, :TILE, :TILE].reshape(number, most, TILE, TILE).astype(bool)
    corners, placed = _places(rng, _tight(tiles), shown, side)
    shape = np.where(placed, latents[:, 0].reshape(number, most), -1)
    gray = rng.permuted(np.tile(GRAYS, (number, 1)), axis=1)

    sprite = np.zeros((number, side, side), np.uint8)  # which one is seen, from 1; 0 none
    for k in range(most):
        window = _window(corners[:, k])
        seen = tiles[:, k] & placed[:, k, None, None]
        sprite[window] = np.where(seen, k + 1, sprite[window])
    left = np.stack([sprite[_window(corners[:, k])] == k + 1 for k in range(most)], 1)
    placed &= left.any((2, 3))
    boxes = np.where(placed[..., None], _tight(left) + np.tile(corners, 2), -1)
    classes = np.where(placed, shape, -1)

    rows = np.arange(number)[:, None, None]
    x = np.pad(gray, ((0, 0), (1, 0)))[rows, sprite]
    masks = np.pad(shape + 1, ((0, 0), (1, 0))).astype(np.uint8)[rows, sprite]
    return Scenes(x[:, None], boxes.astype(np.float32), classes.astype(np.int64), masks)


def _places(
    rng: np.random.Generator, boxes: np.ndarray, shown: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Left and top of each tile (N, K, 2), and whether its sprite found a location (N, K)."""
    number, most = shown.shape
    tries = rng.integers(0, side - TILE + 1, (TRIES, number, most, 2))
    corners, placed = tries[0].copy(), shown.copy()
    for k in range(1, most):
        here = boxes[:, k] + np.tile(tries[:, :, k], 2)  # (T, N, 4)
        free = np.ones((TRIES, number), bool)
        for j in range(k):
            there = boxes[:, j] + np.tile(corners[:, j], 2)
            free &= (_shared(here, there) <= SHARED) | ~placed[:, j]
        first = free.argmax(0)
        corners[:, k] = tries[first, np.arange(number), k]
        placed[:, k] &= free.any(0)
    return corners, placed


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection of two boxes (..., 4), as a fraction of the smaller one."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    area_a, area_b = ((v[..., 2:] - v[..., :2]).prod(-1) for v in (a, b))
    return sides.clip(0).prod(-1) / np.minimum(area_a, area_b)


def _tight(tiles: np.ndarray) -> np.ndarray:
    """The smallest boxes (..., 4) that hold all that is on in tiles (..., H, W)."""
    lines = [tiles.max(-2), tiles.max(-1)]  # columns, rows
    first = [line.argmax(-1) for line in lines]
    last = [line.shape[-1] - line[..., ::-1].argmax(-1) for line in lines]
    return np.stack([*first, *last], -1)


def _window(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the tile at each corner (N, 2) in images (N, S, S)."""
    along = np.arange(TILE)
    left, top = corners.T[:, :, None]
    rows = np.arange(len(corners))[:, None, None]
    return rows, (top + along)[:, :, None], (left + along)[:, None, :]
