"""The results of `explore` for each sample, as a table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from unlabeled.data.dataset import Samples
from unlabeled.errors import UserError
from unlabeled.report.findings import Findings
from unlabeled.utils.files import write_bytes

ENDINGS = (".csv", ".parquet")
RESERVED = {
    *("row", "name", "x", "y", "cluster", "duplicate_group", "outlier_score"),
    *("label_error_margin", "label_next"),
}
"""Columns that are no factors."""


def check_table(table: str | Path | None) -> None:
    """Raise UserError if the table cannot be written under that name."""
    if table is not None and Path(table).suffix not in ENDINGS:
        raise UserError(f"--table is {table}; give a .csv or a .parquet file")


def write_points(path: Path, samples: Samples, findings: Findings) -> None:
    """Write a row per sample: row, name, x, y, cluster, duplicate_group, outlier_score and factors.

    And ranks of suggestions. Clusters, groups and ranks are numbered from 1, as on the page;
    missing values are empty. A factor with the name of another column, such as the `x` of dSprites,
    is `factor_x`; factors of several labels a sample are left out.

    Args:
        path: `.csv` or `.parquet`.
        samples: with names and factors, (N,).
        findings: what was found of them.
    """
    n = len(samples)
    group = np.zeros(n, np.int64)
    for number, members in enumerate(findings.copies.groups, 1):
        group[members] = number
    columns = {"row": pa.array(np.arange(n))}
    if samples.names:
        safe = [name.encode("utf-8", "replace").decode() for name in samples.names]
        columns["name"] = pa.array(safe)
    columns |= {
        "x": pa.array(findings.xy[:, 0]),
        "y": pa.array(findings.xy[:, 1]),
        "cluster": pa.array(findings.clusters.labels.astype(np.int64) + 1),
        "duplicate_group": pa.array(group, mask=group == 0),
        "outlier_score": pa.array(findings.scores.astype(np.float32)),
    }
    for name, values in samples.factors.items():
        if values.ndim == 1:
            columns[f"factor_{name}" if name in RESERVED else name] = _named(samples, name, values)
    suspects, factor = findings.suspects, findings.factor
    if suspects is not None and factor is not None:
        label, margin = np.full(n, -1), np.zeros(n, np.float32)
        label[suspects.rows], margin[suspects.rows] = suspects.suggested, suspects.margins
        columns[f"suggested_{factor}"] = _named(samples, factor, label)
        columns["label_error_margin"] = pa.array(margin, mask=label < 0)
    if len(findings.suggested):
        rank = np.zeros(n, np.int64)
        rank[findings.suggested] = np.arange(1, len(findings.suggested) + 1)
        columns["label_next"] = pa.array(rank, mask=rank == 0)
    content = pa.BufferOutputStream()
    write = pa.csv.write_csv if path.suffix == ".csv" else pa.parquet.write_table
    write(pa.table(columns), content)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue().to_pybytes())


def _named(samples: Samples, factor: str, values: np.ndarray) -> pa.Array:
    """Values of a factor: names of classes, or numbers; empty if there are none."""
    if values.dtype.kind == "f":
        return pa.array(values, mask=np.isnan(values))
    if names := samples.class_names(factor):
        return pa.array([names[code] if code >= 0 else None for code in values], pa.string())
    return pa.array(values, mask=values < 0)
