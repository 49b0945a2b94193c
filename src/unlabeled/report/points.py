"""What `explore` found of each sample, as a table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from unlabeled.data.dataset import Samples
from unlabeled.errors import UserError
from unlabeled.evaluation.label_errors import Suspects
from unlabeled.utils.files import write_bytes

ENDINGS = (".csv", ".parquet")


def check_table(table: str | Path | None) -> None:
    """Raise a UserError where the table cannot be written under that name."""
    if table is not None and Path(table).suffix not in ENDINGS:
        raise UserError(f"--table is {table}; give a .csv or a .parquet file")


def write_points(
    path: Path,
    samples: Samples,
    rows: np.ndarray,
    xy: np.ndarray,
    clusters: np.ndarray,
    groups: list[np.ndarray],
    scores: np.ndarray,
    suspects: Suspects | None,
    factor: str | None,
) -> None:
    """Write a row per sample: row, name, x, y, cluster, duplicate_group, outlier_score and factors.

    Clusters and groups are numbered from 1, as on the page; what a sample has not is empty.

    Args:
        path: `.csv` or `.parquet`.
        samples: with names and factors.
        rows: of the samples in the data, (N,).
        xy: of the map, (N, 2).
        clusters: of each sample, from 0, (N,).
        groups: rows of each group of near-duplicates.
        scores: outlier scores, (N,).
        suspects: labels that are likely wrong.
        factor: that they are labels of.
    """
    n = len(samples)
    group = np.zeros(n, np.int64)
    for number, members in enumerate(groups, 1):
        group[members] = number
    columns = {"row": pa.array(rows)}
    if samples.names:
        safe = [name.encode("utf-8", "replace").decode() for name in samples.names]
        columns["name"] = pa.array(safe)
    columns |= {
        "x": pa.array(xy[:, 0]),
        "y": pa.array(xy[:, 1]),
        "cluster": pa.array(clusters.astype(np.int64) + 1),
        "duplicate_group": pa.array(group, mask=group == 0),
        "outlier_score": pa.array(scores.astype(np.float32)),
    }
    for name, values in samples.factors.items():
        if values.ndim == 1:
            columns[name] = _named(samples, name, values)
    if suspects is not None and factor is not None:
        label, margin = np.full(n, -1), np.zeros(n, np.float32)
        label[suspects.rows], margin[suspects.rows] = suspects.suggested, suspects.margins
        columns[f"suggested_{factor}"] = _named(samples, factor, label)
        columns["label_error_margin"] = pa.array(margin, mask=label < 0)
    content = pa.BufferOutputStream()
    write = pa.csv.write_csv if path.suffix == ".csv" else pa.parquet.write_table
    write(pa.table(columns), content)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue().to_pybytes())


def _named(samples: Samples, factor: str, values: np.ndarray) -> pa.Array:
    """Values of a factor: names of classes, or numbers; empty where there are none."""
    if values.dtype.kind == "f":
        return pa.array(values, mask=np.isnan(values))
    if names := samples.class_names(factor):
        return pa.array([names[code] if code >= 0 else None for code in values], pa.string())
    return pa.array(values, mask=values < 0)
