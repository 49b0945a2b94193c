"""Images, or columns of values, in Parquet, Arrow and Feather tables."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unlabeled.data.readers.decoding import Encoded
from unlabeled.data.readers.source import CHUNK, ENDINGS, Source, stamp
from unlabeled.errors import UserError, suggest

COLUMNS = ("image", "img", "picture", "jpg", "png", "webp", "bytes", "content")


def table_source(root: Path, tables: list[str]) -> Source:
    """Parquet or Arrow tables with a column of encoded images, or of their paths, absolute or
    relative to the table's folder; rows are read when needed.
    """
    names: list[str] = []
    columns: dict[str, str] = {}
    schemas: dict[str, list[str]] = {}
    lengths: dict[str, int] = {}
    stamps: list[tuple[Any, ...]] = []
    for table in tables:
        with readable(root / table):
            schema, rows = _schema(root / table)
            columns[table] = column = image_column(root / table, schema)
            folder = (root / table).parent
            paths = [
                _file(folder, c) for held in _paths(root / table, column, schema) for c in held
            ]
        stamps += [stamp(p.absolute()) for p in (root / table, *filter(None, paths))]
        schemas[table], lengths[table] = schema.names, rows
        names += [f"{table}#{row}" for row in range(rows)]

    def cells(pick: Callable[[str], str]) -> Iterator[tuple[str, list[Any]]]:
        for table in tables:
            if not pick(table):  # such as labels of a test part
                yield table, [None] * lengths[table]
                continue
            with readable(root / table):
                for batch in _batches(root / table, pick(table)):
                    yield table, batch.column(0).to_pylist()

    def images() -> Iterator[Encoded]:
        for table, held in cells(columns.__getitem__):
            yield from (content_of((root / table).parent, cell) for cell in held)

    def labels(column: str) -> list[str] | None:
        known = dict.fromkeys(name for names in schemas.values() for name in names)
        if column not in known:
            raise UserError(f"there is no column '{column}' in this data; {suggest(column, known)}")
        columns = cells(lambda table: column if column in schemas[table] else "")
        return ["" if cell is None else str(cell) for _, held in columns for cell in held]

    return Source(names, stamps, images, labels)


def read_values(path: Path) -> tuple[list[str], list[np.ndarray]]:
    """Names and cells of all columns, None where a cell is empty.

    Raises:
        UserError: it is damaged, or a column holds neither numbers, truth values nor words.
    """
    import pyarrow.parquet as pq
    import pyarrow.types as t

    with readable(path):
        is_parquet = path.suffix.lower() == ".parquet"
        parts = [pq.read_table(path)] if is_parquet else _arrow_batches(path)
        schema, _ = _schema(path)
    for field in schema:
        if t.is_nested(field.type) or t.is_binary(field.type) or t.is_large_binary(field.type):
            raise UserError(
                f"the column '{field.name}' of {path} holds {field.type}, neither numbers nor "
                "words; leave it out"
            )
    return schema.names, [
        np.array([cell for part in parts for cell in part.column(i).to_pylist()], object)
        for i in range(len(schema.names))
    ]


def content_of(folder: Path, cell: Any) -> bytes | Path:
    """The encoded image of a cell, or the path of its file; b"" if it has neither."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, bytes) and content:
        return content
    return _file(folder, cell.get("path") if isinstance(cell, dict) else cell) or b""


def _file(folder: Path, path: Any) -> Path | None:
    """A file named in a table of that folder, with slashes of any system."""
    if not isinstance(path, str) or not path:
        return None
    there = folder / path
    return there if there.exists() else folder / path.replace("\\", "/")


def _paths(table: Path, column: str, schema: Any) -> Iterator[list[Any]]:
    """The paths in the column of images, in batches; none if it contains only bytes."""
    import pyarrow.types as t

    kind = schema.field(column).type
    if t.is_struct(kind) and any(field.name == "path" for field in kind):
        cells = (batch.column(0) for batch in _batches(table, column, "path"))
        yield from (
            c.field("path").to_pylist() if t.is_struct(c.type) else c.to_pylist() for c in cells
        )
    elif t.is_string(kind) or t.is_large_string(kind):
        yield from (batch.column(0).to_pylist() for batch in _batches(table, column))


@contextmanager
def readable(table: Path) -> Iterator[None]:
    """Raise the errors of a damaged table as a UserError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, KeyError, OSError) as error:
        why = str(error).partition(". ")[0]
        raise UserError(f"{table} cannot be read as a table ({why}); copy it again") from error


def _schema(table: Path) -> tuple[Any, int]:
    """Columns, and number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if table.suffix.lower() == ".parquet":
        with pq.ParquetFile(table) as file:
            return file.schema_arrow, file.metadata.num_rows
    batches = _arrow_batches(table)
    return batches[0].schema if batches else pa.schema([]), sum(map(len, batches))


def _batches(table: Path, column: str, part: str = "") -> Iterator[Any]:
    """One column, in batches; of Parquet, only that part of its structs."""
    import pyarrow.parquet as pq

    if table.suffix.lower() == ".parquet":
        with pq.ParquetFile(table) as file:
            yield from file.iter_batches(CHUNK, columns=[f"{column}.{part}" if part else column])
        return
    for batch in _arrow_batches(table):
        for start in range(0, len(batch), CHUNK):
            yield batch.select([column]).slice(start, CHUNK)


def _arrow_batches(table: Path) -> list[Any]:
    """The batches of an Arrow file or stream, memory-mapped."""
    import pyarrow as pa

    source = pa.memory_map(str(table))
    try:
        file = pa.ipc.open_file(source)
        return [file.get_batch(i) for i in range(file.num_record_batches)]
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all().to_batches()


def image_column(path: Path, schema: Any) -> str:
    """The column of encoded images: bytes, or a struct of bytes or a path as Hugging Face writes
    it; else one of texts whose first ends as images do.
    """
    import pyarrow.types as t

    def holds(kind: Any) -> bool:
        if t.is_struct(kind):
            return any(
                (f.name == "bytes" and holds(f.type)) or (f.name == "path" and is_text(f.type))
                for f in kind
            )
        return t.is_binary(kind) or t.is_large_binary(kind)

    def is_text(kind: Any) -> bool:
        return t.is_string(kind) or t.is_large_string(kind)

    def names_files(column: str) -> bool:
        first = next((c for b in _batches(path, column) for c in b.column(0).to_pylist() if c), "")
        return PurePosixPath(first).suffix.lower() in ENDINGS

    fitting = [field.name for field in schema if holds(field.type)]
    fitting = fitting or [f.name for f in schema if is_text(f.type) and names_files(f.name)]
    if not fitting:
        raise UserError(
            f"{path} has no column of encoded images (columns: {', '.join(schema.names) or 'none'}"
            "); add one of bytes, of structs with a field 'bytes' or 'path', or of paths"
        )
    return next((name for name in COLUMNS if name in fitting), fitting[0])
