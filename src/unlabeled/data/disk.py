"""Arrays and texts on disk that are read in pieces, so that they need not fit into memory."""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

BLOCK = 1 << 20
"""Number of bytes of text that are read at once."""


class DiskArray:
    """An array in a raw binary file; indexing reads and copies rows.

    Pages are released after reading: otherwise everything that was ever read from the memory map
    would count as memory of this process.

    Args:
        source: the file's path, or an open file, which may be closed afterwards.
        dtype: data type.
        shape: of the array.
    """

    def __init__(self, source: Path | IO[bytes], dtype: Any, shape: Sequence[int]) -> None:
        self.dtype, self.shape = np.dtype(dtype), tuple(int(side) for side in shape)
        self.path = source if isinstance(source, Path) else None
        if isinstance(source, Path):
            with source.open("rb") as file:
                self._map(file)
        else:
            source.flush()
            self._map(source)

    def _map(self, file: IO[bytes]) -> None:
        self._pages = None
        if not np.prod(self.shape):  # an empty file cannot be mapped
            self._values = np.empty(self.shape, self.dtype)
            return
        self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        count = int(np.prod(self.shape))
        self._values = np.frombuffer(self._pages, self.dtype, count).reshape(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self._values.nbytes

    def __getitem__(self, rows: Any) -> np.ndarray:
        values = np.array(self._values[rows])
        if self._pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)
        return values

    def __reduce__(self) -> Any:
        """Other processes open the file by its path."""
        if self.path is None:
            raise TypeError("an array in a file without a name cannot be sent to other processes")
        return DiskArray, (self.path, self.dtype, self.shape)


def store(blocks: Iterable[np.ndarray], path: Path | None, dtype: Any) -> np.ndarray | DiskArray:
    """Concatenate blocks of rows (n, …): in memory, or in a file as a `DiskArray`."""
    if path is None:
        parts = [np.asarray(block, dtype) for block in blocks]
        return np.concatenate(parts) if parts else np.empty(0, dtype)
    rows, row = 0, ()
    with path.open("wb") as file:
        for block in blocks:
            rows, row = rows + len(block), block.shape[1:]
            file.write(np.ascontiguousarray(block, dtype).data)
    return DiskArray(path, dtype, (rows, *row))


class DiskTexts(Sequence[str]):
    """Texts concatenated in a UTF-8 file; slices are views.

    Args:
        content: bytes of all texts.
        ends: where each text ends, (N,).
        first: index of the first text of this view.
        stop: index after its last text (default: all).
    """

    __slots__ = ("content", "ends", "first", "stop")

    def __init__(
        self, content: DiskArray, ends: np.ndarray, first: int = 0, stop: int | None = None
    ) -> None:
        self.content, self.ends = content, ends
        self.first, self.stop = first, len(ends) if stop is None else stop

    def __len__(self) -> int:
        return self.stop - self.first

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "DiskTexts": ...
    def __getitem__(self, index: int | slice) -> "str | DiskTexts":
        if isinstance(index, slice):
            first, stop, _ = slice(index.start, index.stop).indices(len(self))
            return DiskTexts(
                self.content, self.ends, self.first + first, self.first + max(first, stop)
            )
        row = range(self.first, self.stop)[index]
        return next(iter(self[row - self.first : row - self.first + 1]))

    def __iter__(self) -> Iterator[str]:
        row = self.first
        while row < self.stop:
            start = int(self.ends[row - 1]) if row else 0
            until = int(np.searchsorted(self.ends, start + BLOCK, "right"))
            until = min(self.stop, max(row + 1, until))
            ends = (self.ends[row:until] - start).tolist()
            content = self.content[start : start + ends[-1]].tobytes()
            for begin, end in zip([0, *ends], ends, strict=False):
                yield content[begin:end].decode()
            row = until
