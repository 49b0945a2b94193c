"""Features as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlabeled.errors import UserError
from unlabeled.run import Run


def write_features(run: Run, data: str, out: Path) -> tuple[int, int]:
    """Embed pictures and write one row each; returns the shape.

    `.npy` holds the features; `.npz` has them as `features`, beside `names` (paths in a folder) and
    the labels that are known; `.parquet` has a column `features` of lists, and the same beside it.

    Raises:
        UserError: the file's ending is another one, or the data cannot be read.
    """
    if out.suffix not in (".npy", ".npz", ".parquet"):
        raise UserError(f"--out is {out}; name a .npy, .npz or .parquet file")
    samples = run.read(data)
    features = run.features(samples)
    beside = {
        name: np.array(samples.classes[name])[codes] if name in samples.classes else codes
        for name, codes in samples.factors.items()
    }
    if samples.names:
        beside["names"] = np.array(samples.names)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.stem}.tmp{out.suffix}")
    if out.suffix == ".npy":
        np.save(aside, features)
    elif out.suffix == ".npz":
        np.savez(aside, features=features, **beside)  # type: ignore[arg-type]
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        column = pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
        pq.write_table(pa.table({"features": column} | beside), aside)
    aside.replace(out)
    return features.shape
