"""Images in files that are decoded whenever they are read."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from unlabeled.augmentations.full_size import FullSize
from unlabeled.data.readers.decoding import Encoded, decode, decode_full
from unlabeled.errors import notice

DETAIL = 2.25
"""Shorter side of a decoded image at least, in sides of the batch, where the file has as much: a
fifth of the area is then still as sharp as the batch."""


class EncodedImages:
    """Images (N, C, H, W) in files, as an array that decodes the rows that are asked for.

    Threads decode them: decoders work outside Python's lock. An image that turns out to be damaged
    is black; a notice counts these.

    Args:
        image: the encoded image of a row.
        names: of the rows.
        channels: 1 or 3, or the number that all images have.
        size: height and width.
        kind: of number: u1, u2 or f4.
        workers: number of threads.
    """

    def __init__(
        self,
        image: Callable[[int], Encoded],
        names: list[str],
        channels: int,
        size: tuple[int, int],
        kind: str,
        workers: int,
    ) -> None:
        self.image, self.names, self.kind, self.workers = image, names, kind, workers
        self.shape, self.dtype = (len(names), channels, *size), np.dtype(kind)
        self.damaged: dict[str, str] = {}
        self._lock, self._pool = threading.Lock(), ThreadPoolExecutor(workers)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray | list[int]) -> np.ndarray:
        chosen = np.arange(len(self))[rows]
        images = list(self._pool.map(self._fitted, chosen.tolist()))
        return np.stack(images) if images else np.empty((0, *self.shape[1:]), self.dtype)

    def full_size(self, rows: np.ndarray, value_range: tuple[float, float]) -> FullSize:
        """A batch of full-size images, which threads begin to decode at once.

        Args:
            rows: of the images, (B,).
            value_range: black and white of images that are not uint8.
        """
        least = round(DETAIL * max(self.shape[2:]))
        waiting = [self._pool.submit(self._full, row, least) for row in rows.tolist()]
        shape = (len(rows), *self.shape[1:])
        return FullSize(lambda: [each.result() for each in waiting], shape, value_range)

    def _fitted(self, row: int) -> np.ndarray:
        _, channels, *size = self.shape
        images, reasons = decode([self.image(row)], channels, (size[0], size[1]), self.kind)
        if reasons[0] is None:
            return images[0]
        self._say_damaged(row, reasons[0])
        return np.zeros(self.shape[1:], self.dtype)

    def _full(self, row: int, least: int) -> torch.Tensor:
        x = decode_full(self.image(row), self.shape[1], self.kind, least)
        if isinstance(x, str):
            self._say_damaged(row, x)
            x = np.zeros(self.shape[1:], self.dtype)
        return torch.from_numpy(x if self.kind == "u1" else x.astype(np.float32))

    def _say_damaged(self, row: int, reason: str) -> None:
        """A notice of the first, the tenth, the hundredth … image."""
        with self._lock:
            if self.names[row] in self.damaged:
                return
            self.damaged[self.names[row]] = reason
            number = len(self.damaged)
        if number == 10 ** (len(str(number)) - 1):
            notice(
                f"{number:,} of {len(self):,} images cannot be read so far, such as "
                f"{self.names[row]} ({reason}); black ones take their place; --decoding once "
                "leaves such images out"
            )
