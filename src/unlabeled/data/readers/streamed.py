"""Images in remote shards, a few of which are on the local disk at a time."""

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
    """A cached shard that stays readable after it is evicted from the cache.

    Args:
        folder: with its encoded images in `data`, and their positions in `index.json`.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.starts, self.lengths, self.torn = index["starts"], index["lengths"], index["torn"]
        self._lock = threading.Lock()
        # A descriptor: a file object of a garbage cycle could be collected, unclosed, before this.
        self._file = os.open(folder / "data", os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def image(self, number: int) -> bytes:
        """An encoded image; repeated if the shard has fewer images than were counted."""
        if not self.starts:
            return b""
        number %= len(self.starts)
        start, length = self.starts[number], self.lengths[number]
        if hasattr(os, "pread"):
            return os.pread(self._file, length, start)
        with self._lock:
            os.lseek(self._file, start, os.SEEK_SET)
            return os.read(self._file, length)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


class StreamedImages(EncodedImages):
    """Images (N, C, H, W) in remote shards, each copied into the cache when it is first read.

    Each epoch shuffles the shards, and the images within each window of `window` shards, so that
    few shards are needed at a time. The order depends only on (seed, epoch) and the shards, so that
    a resumed run continues with the same batches.

    Args:
        fetch: opens a shard, after copying it into the cache if needed.
        shards: names of the shards.
        counts: number of images of each shard, (S,).
        window: number of shards whose images are shuffled together.
        channels: 1 or 3, or the number that all images have.
        size: height and width.
        kind: of number: u1, u2 or f4.
        workers: number of threads that decode.
        downloads: number of shards that are copied in parallel.
        max_pixels: of an image; larger ones are black.
    """

    advice = ""  # images cannot be left out of an order that is fixed beforehand

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
        """Keep these shards open, start to copy the next ones, and close all others."""
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
        """Notices of the first shard with another number of images than counted, and again at ten
        times as many.
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
        """Number of these sorted rows (default: all rows) in each shard, (S,)."""
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
        """One machine's part of the batches of an epoch, (batch_size // nodes,) rows each.

        The sequence of shuffled shards is cut into equal runs, one for each machine, which then
        needs only its own shards; at most one shard is needed by two machines. All rows are drawn
        once, except for a remainder smaller than a batch.

        Args:
            rows: rows to draw, sorted (default: all); results are positions among them.
            batch_size: of all machines together.
            seed: of all epochs.
            epoch: number of the epoch.
            done: number of steps to skip, whose shards are not copied.
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
    """Names of images by shard and position, formatted lazily."""

    def __init__(self, images: StreamedImages) -> None:
        self.images, self.number = images, int(images.ends[-1])

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        shard = int(np.searchsorted(self.images.ends, row, "right"))
        return f"{self.images.shards[shard]}#{row - int(self.images.starts[shard])}"
