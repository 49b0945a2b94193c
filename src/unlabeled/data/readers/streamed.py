"""Images in shards on other machines, of which a few at a time are on this disk."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from unlabeled.data.readers.decoding import Part
from unlabeled.data.readers.encoded import EncodedImages
from unlabeled.errors import notice


class Shard:
    """A shard in the cache that stays readable when it is removed from there.

    Args:
        folder: with its encoded images in `data`, and where they lie in `index.json`.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.starts, self.lengths, self.torn = index["starts"], index["lengths"], index["torn"]
        self._file = (folder / "data").open("rb", buffering=0)
        self._lock = threading.Lock()

    def image(self, number: int) -> bytes:
        """An image; of a shard with fewer than were counted, one of them again."""
        if not self.starts:
            return b""
        number %= len(self.starts)
        start, length = self.starts[number], self.lengths[number]
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), length, start)
        with self._lock:
            self._file.seek(start)
            return self._file.read(length)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


class StreamedImages(EncodedImages):
    """Images (N, C, H, W) in shards that are copied into the cache when one of them is read.

    The order of an epoch is drawn from its shards, so that few of them are needed at a time: the
    shards are shuffled, and the images of each `window` of them among themselves. It depends on
    (seed, epoch) and the shards only, so a resumed run goes on with the same batches.

    Args:
        fetch: opens a shard, which it copies into the cache if need be.
        shards: their names.
        counts: number of images of each, (S,).
        window: number of shards whose images are shuffled among themselves.
        channels: 1 or 3, or the number that all images have.
        size: height and width.
        kind: of number: u1, u2 or f4.
        workers: number of threads that decode.
        downloads: shards that are copied at the same time.
        max_pixels: of an image; larger ones are black.
    """

    advice = ""  # nothing can be left out of an order that is known beforehand

    def __init__(
        self,
        fetch: Callable[[int], Shard],
        shards: Sequence[str],
        counts: np.ndarray,
        window: int,
        channels: int,
        size: tuple[int, int],
        kind: str,
        workers: int,
        downloads: int = 1,
        max_pixels: int | None = None,
    ) -> None:
        self.shards, self.window, self.max_pixels = shards, window, max_pixels
        self.ends = np.cumsum(counts)
        self.starts = self.ends - counts
        super().__init__(self._image, _Names(self), channels, size, kind, workers)
        self._fetch, self._opened = fetch, dict[int, Future[Shard]]()
        self._lock, self._loaders = threading.Lock(), ThreadPoolExecutor(downloads)
        self._others, self._next_said = set[int](), 1

    def shard_of(self, rows: np.ndarray) -> np.ndarray:
        """The shard of each row, (B,)."""
        return np.searchsorted(self.ends, rows, "right")

    def __getitem__(self, rows: slice | np.ndarray | list[int]) -> np.ndarray:
        chosen = np.arange(len(self))[rows]
        if len(chosen):
            here = np.unique(self.shard_of(chosen))
            last = int(here[-1])
            is_late = chosen.max() - self.starts[last] > (self.ends - self.starts)[last] / 2
            self.hold(here, [last + 1] if is_late and last + 1 < len(self.shards) else [])
        return super().__getitem__(rows)

    def hold(self, shards: Sequence[int] | np.ndarray, coming: Sequence[int] | np.ndarray) -> None:
        """Keep these shards open, begin to copy the coming ones, and close all others."""
        wanted = [int(shard) for shard in (*shards, *coming)]
        with self._lock:
            for shard in set(self._opened) - set(wanted):
                self._opened.pop(shard)
        for shard in wanted[: 2 * self.window]:
            self._open(shard)

    def _open(self, shard: int) -> Future[Shard]:
        with self._lock:
            opened = self._opened.get(shard)
            if opened is None or (opened.done() and (opened.cancelled() or opened.exception())):
                opened = self._opened[shard] = self._loaders.submit(self._load, shard)
        return opened

    def _load(self, shard: int) -> Shard:
        opened = self._fetch(shard)
        counted = int(self.ends[shard] - self.starts[shard])
        if len(opened.starts) != counted:
            self._say_other(shard, len(opened.starts), counted, opened.torn)
        return opened

    def _say_other(self, shard: int, number: int, counted: int, torn: str) -> None:
        """A notice of the first shard with another number of images than was counted, and whenever
        there are ten times as many.
        """
        with self._lock:
            self._others.add(shard)
            is_said = len(self._others) < self._next_said
            if not is_said:
                self._next_said = 10 * len(self._others)
        if not is_said:
            notice(
                f"{len(self._others):,} of {len(self.shards):,} shards so far have another number "
                f"of images than was counted or stated, such as {self.shards[shard]} "
                f"({number:,} instead of {counted:,}{': ' * bool(torn)}{torn}); where some are "
                "missing, others of the shard are taken again"
            )

    def _image(self, row: int) -> Part:
        shard = int(np.searchsorted(self.ends, row, "right"))
        content = self._open(shard).result().image(row - int(self.starts[shard]))
        return Part(content, max_pixels=self.max_pixels)

    def counts_of(self, rows: np.ndarray | None) -> np.ndarray:
        """How many of these rows, sorted, each shard has, (S,); of all rows without them."""
        if rows is None:
            return self.ends - self.starts
        return np.searchsorted(rows, self.ends) - np.searchsorted(rows, self.starts)

    def epoch(
        self,
        rows: np.ndarray | None,
        batch_size: int,
        seed: int,
        epoch: int,
        done: int = 0,
        node: int = 0,
        nodes: int = 1,
    ) -> Iterator[np.ndarray]:
        """The batches of an epoch, of each the part of one machine, (batch_size // nodes,).

        The sequence of shuffled shards is cut into equal runs, one for each machine, which so needs
        its own shards only; at most one shard is needed by two machines. All rows are drawn once,
        but for a remainder smaller than a batch.

        Args:
            rows: those to draw, sorted (default: all); they are drawn as positions among them.
            batch_size: of all machines together.
            seed: of all epochs.
            epoch: its number.
            done: steps to skip, whose shards are not copied.
            node: number of this machine.
            nodes: number of machines.
        """
        counts = self.counts_of(rows)
        order = np.random.default_rng([seed, epoch]).permutation(len(counts))
        order = order[counts[order] > 0]
        ends, firsts = np.cumsum(counts[order]), np.cumsum(counts) - counts
        begins = ends - counts[order]
        own = int(ends[-1]) // batch_size * (batch_size // nodes)  # rows of a machine
        first, last = node * own, (node + 1) * own
        begin, end = int(np.searchsorted(ends, first, "right")), int(np.searchsorted(begins, last))
        windows = [np.arange(i, min(i + self.window, end)) for i in range(begin, end, self.window)]
        skipped, waiting = done * (batch_size // nodes), np.empty(0, np.int64)
        for number, window in enumerate(windows):
            low, high = max(first, begins[window[0]]), min(last, ends[window[-1]])
            if high - first <= skipped:
                continue
            rng = np.random.default_rng([seed, epoch, node, number])
            positions = low + rng.permutation(high - low)
            at = np.searchsorted(ends, positions, "right")
            drawn = firsts[order[at]] + positions - begins[at]
            drawn = drawn[max(0, skipped - (low - first)) :]
            self.hold(order[window], order[windows[number + 1]] if window[-1] + 1 < end else [])
            waiting = np.concatenate([waiting, drawn])
            while len(waiting) >= batch_size // nodes:
                yield waiting[: batch_size // nodes]
                waiting = waiting[batch_size // nodes :]


class _Names(Sequence[str]):
    """Names of images by shard and position, made when they are asked for."""

    def __init__(self, images: StreamedImages) -> None:
        self.images, self.number = images, int(images.ends[-1])

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        shard = int(np.searchsorted(self.images.ends, row, "right"))
        return f"{self.images.shards[shard]}#{row - int(self.images.starts[shard])}"
