"""Images in files that are decoded whenever they are read."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from unlabeled.augmentations.full_size import FullSize
from unlabeled.data.readers.decoding import Encoded, decode_fitted, decode_full, silence
from unlabeled.errors import notice

DETAIL = 2.25
"""Minimum shorter side of a decoded image, in multiples of the batch's side: a crop of a fifth of
the area then still has the resolution of the batch."""


class EncodedImages:
    """Images (N, C, H, W) in files, as an array that decodes the rows that are accessed.

    Threads decode them, since decoders release the GIL. A damaged image is black; a notice counts
    these.

    Args:
        image: returns the encoded image of a row.
        names: of the rows.
        channels: 1 or 3, or the number that all images have.
        size: height and width.
        kind: of number: u1, u2 or f4.
        workers: number of threads.

    Attributes:
        value_range: black and white if only the first images have determined them, else None; a
            notice counts images with values outside.
    """

    advice = "; --decoding once leaves such images out"
    value_range: tuple[float, float] | None = None

    def __init__(
        self,
        image: Callable[[int], Encoded],
        names: Sequence[str],
        channels: int,
        size: tuple[int, int],
        kind: str,
        workers: int,
    ) -> None:
        self.image, self.names, self.kind, self.workers = image, names, kind, workers
        self.shape, self.dtype = (len(names), channels, *size), np.dtype(kind)
        self.damaged: dict[str, str] = {}
        self.filled, self.beyond = set[str](), set[str]()
        self._pool, self._said = ThreadPoolExecutor(workers), dict[str, int]()
        silence()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray | list[int]) -> np.ndarray:
        chosen = np.arange(len(self))[rows]
        images = list(self._pool.map(self._fitted, chosen.tolist()))
        self._say_damaged()
        return np.stack(images) if images else np.empty((0, *self.shape[1:]), self.dtype)

    def full_size(
        self,
        rows: np.ndarray,
        value_range: tuple[float, float],
        convert: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> FullSize:
        """A batch of full-size images, which threads begin to decode at once.

        Args:
            rows: of the images, (B,).
            value_range: black and white of images that are not uint8.
            convert: elementwise, from what is decoded to the images.
        """
        least = round(DETAIL * max(self.shape[2:]))
        waiting = [self._pool.submit(self._full, row, least, convert) for row in rows.tolist()]

        def images() -> list[torch.Tensor]:
            decoded = [each.result() for each in waiting]
            self._say_damaged()
            return decoded

        return FullSize(images, (len(rows), *self.shape[1:]), value_range)

    def _fitted(self, row: int) -> np.ndarray:
        _, channels, *size = self.shape
        x = decode_fitted(self.image(row), channels, (size[0], size[1]), self.kind)
        return self._black(row, x) if isinstance(x, str) else self._finite(row, x)

    def _full(
        self, row: int, least: int, convert: Callable[[np.ndarray], np.ndarray] | None
    ) -> torch.Tensor:
        x = decode_full(self.image(row), self.shape[1], self.kind, least)
        x = self._black(row, x) if isinstance(x, str) else self._finite(row, x)
        x = convert(x) if convert else x
        return torch.from_numpy(x if x.dtype == np.uint8 else x.astype(np.float32))

    def _finite(self, row: int, x: np.ndarray) -> np.ndarray:
        """The image with its smallest value in place of NaN and infinite ones."""
        if x.dtype.kind == "f" and not (finite := np.isfinite(x)).all():
            self.filled.add(self.names[row])
            x = np.where(finite, x, x.min(initial=np.inf, where=finite))
        if self.value_range and (x.min() < self.value_range[0] or x.max() > self.value_range[1]):
            self.beyond.add(self.names[row])
        return x

    def _black(self, row: int, reason: str) -> np.ndarray:
        self.damaged[self.names[row]] = reason
        return np.zeros(self.shape[1:], self.dtype)

    def _say_damaged(self) -> None:
        """Notices of the first damaged image, and again at ten times as many."""
        of = f"of {len(self):,} images"
        if self._is_news("filled", len(self.filled)):
            notice(
                f"{len(self.filled):,} {of} so far have NaN or infinite values; the smallest other "
                "value of the image takes their place"
            )
        if self.value_range and self._is_news("beyond", len(self.beyond)):
            low, high = self.value_range
            notice(
                f"{len(self.beyond):,} {of} so far have values beyond {low:g} to {high:g}, which "
                "the first images have shown as black and white; set others with --value-range"
            )
        if self._is_news("damaged", len(self.damaged)):
            name, reason = list(self.damaged.items())[-1]
            notice(
                f"{len(self.damaged):,} {of} cannot be read so far, such as {name} ({reason}); "
                f"black ones take their place{self.advice}"
            )

    def _is_news(self, what: str, number: int) -> bool:
        is_news = number >= self._said.get(what, 1)
        if is_news:
            self._said[what] = 10 * number
        return is_news
