"""Writing the classes of samples to a file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.errors import UserError
from unlabeled.runs.run import Run
from unlabeled.utils.files import as_utf8, write_bytes

SUFFIXES = (".csv", ".parquet")


def write_predictions(run: Run, data: Any, out: Path, all_probabilities: bool = False) -> int:
    """Write `name`, `class` and `probability` of each sample, in their order.

    Args:
        run: a run with a classifier.
        data: samples of any form that `run.embed` takes.
        out: a .csv or .parquet file. Names are paths in a folder, and numbers from 0 where samples
            have none.
        all_probabilities: whether a column `probability_CLASS` for each class follows.

    Returns:
        the number of samples.

    Raises:
        UserError: the run has no classifier, the file has another suffix, or the data cannot be
            read.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out is {out}; give a .csv or .parquet file")
    classes = run.require_classifier().classes
    samples = run.read(data)
    probability = run.probabilities(samples)
    best = probability.argmax(1)
    columns: dict[str, Any] = {
        "name": samples.names or [str(row) for row in range(len(samples))],
        "class": [classes[code] for code in best],
        "probability": probability[np.arange(len(best)), best],
    }
    if all_probabilities:
        columns |= {f"probability_{c}": probability[:, k] for k, c in enumerate(classes)}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(out, columns)
    return len(samples)


def write_table(out: Path, columns: dict[str, Any]) -> None:
    """Write columns of equal length to a .csv or a .parquet file; floats in CSV have 6 digits."""
    if out.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns | {"name": as_utf8(columns["name"])}), sink)
        write_bytes(out, sink.getvalue().to_pybytes())
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    cells = (
        [f"{value:.6f}" for value in column] if getattr(column, "dtype", None) else column
        for column in columns.values()
    )
    writer.writerows(zip(*cells, strict=True))
    write_bytes(out, text.getvalue().encode("utf-8", "surrogateescape"))
