"""Writing features to a file."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp

from unlabeled.errors import Notice, UserError, reason
from unlabeled.runs.run import Run, load
from unlabeled.utils.files import as_utf8

ENDINGS = (".npy", ".npz", ".parquet", ".csv")
"""Suffixes of files of features."""


def write_features(
    run: Run, data: str, out: Path, devices: int = 1, encoder: str | None = None
) -> tuple[int, int]:
    """Compute features and write one row per sample.

    `.npy` has the features; `.npz` has them as `features`, with `names` (paths in a folder) and the
    labels (−1, NaN or an empty string for unknown ones); `.parquet` has a column `features` of
    lists, and the same other columns; `.csv` has the columns `name`, those of the labels (empty for
    unknown ones), and `f0`, `f1`, … for the features.

    Args:
        run: the run with the encoder.
        data: samples in any form that `unlabeled.open_data` accepts.
        out: the file to write.
        devices: number of GPUs, or of processes on CPUs, that share the samples; each writes a part
            and the parts are joined.
        encoder: `./file.py:Class`, if the encoder is the user's own.

    Returns:
        the shape of the features.

    Raises:
        UserError: the file has another suffix, or the data cannot be read.
    """
    if out.suffix not in ENDINGS:
        raise UserError(f"--out is {out}; give a .npy, .npz, .parquet or .csv file")
    samples = run.read(data)
    gpus = torch.cuda.device_count()
    if devices < 1 or (gpus and devices > gpus):
        raise UserError(f"devices is {devices}, but must be from 1 to {gpus or 'the cores'}")
    out.parent.mkdir(parents=True, exist_ok=True)
    if devices == 1:
        features = run.features(samples)
    else:
        with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder:
            try:
                mp.spawn(
                    _embed_part,
                    (
                        devices,
                        run.source,
                        encoder,
                        data,
                        {
                            "size": None if run.is_trained else run.config["size"],
                            "tile": getattr(run.modality, "tile", None),
                            "max_pixels": getattr(run.modality, "max_pixels", None),
                        },
                        folder,
                    ),
                    nprocs=devices,
                )
            except mp.ProcessRaisedException as error:
                message = str(error).strip().splitlines()[-1]
                raise UserError(message.rpartition("UserError: ")[2]) from error
            except mp.ProcessExitedException as error:
                raise UserError(
                    f"a process was ended from outside ({reason(error)}), as when memory runs out; "
                    "give fewer --devices"
                ) from error
            parts = [np.load(Path(folder) / f"{i}.npy") for i in range(devices)]
        features = np.concatenate(parts)
    labels = {
        name: np.array([*names, ""])[codes] if (names := samples.class_names(name)) else codes
        for name, codes in samples.factors.items()
        if codes.ndim == 1  # captions stay behind
    }
    aside = out.with_name(f".{out.stem}.tmp{out.suffix}")
    try:
        _write(aside, features, samples.names, labels)
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    return features.shape


def _write(
    path: Path, features: np.ndarray, names: list[str] | None, labels: dict[str, np.ndarray]
) -> None:
    """Write features, names and labels in the format of the suffix."""
    if path.suffix == ".npy":
        np.save(path, features)
        return
    if names and path.suffix != ".npz":
        names = as_utf8(names)
    if path.suffix == ".csv":
        _write_csv(path, features, names, labels)
        return
    taken = ("features", "names", "file")  # `file` is an argument of np.savez
    beside = {f"{k} (label)" if k in taken else k: values for k, values in labels.items()}
    beside |= {"names": np.array(names)} if names else {}
    if path.suffix == ".npz":
        np.savez(path, features=features, **beside)  # type: ignore[arg-type]
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
    pq.write_table(pa.table({"features": column} | beside), path)


def _write_csv(
    path: Path, features: np.ndarray, names: list[str] | None, labels: dict[str, np.ndarray]
) -> None:
    """A row per sample: its name, its labels, its features; numbers read back to the same bits."""
    import pyarrow as pa
    from pyarrow import csv

    columns = {"name": np.array(names)} if names else {}
    numbers = {f"f{i}": column for i, column in enumerate(features.T)}
    for label, values in labels.items():
        taken = label in columns or label in numbers
        columns[f"{label} (label)" if taken else label] = values
    table = {k: pa.array(np.ascontiguousarray(v), from_pandas=True) for k, v in columns.items()}
    csv.write_csv(pa.table(table | {k: pa.array(np.array(v)) for k, v in numbers.items()}), path)


def _embed_part(
    i: int,
    devices: int,
    run: str,
    encoder: str | None,
    data: str,
    options: dict[str, Any],
    folder: str,
) -> None:
    """Write the features of one process's share of the rows as `i.npy`."""
    if torch.cuda.is_available():
        torch.cuda.set_device(i)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // devices))
    warnings.simplefilter("ignore", Notice)  # the main process has given them
    opened = load(run, encoder, data=data, **options)
    samples = opened.read(data)
    rows = np.array_split(np.arange(len(samples)), devices)[i]
    np.save(Path(folder) / f"{i}.npy", opened.features(samples.take(rows)))
