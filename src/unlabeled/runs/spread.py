"""Embed many files on several machines by Ray Data, and write features in parts.

Tasks read and decode the parts, actors that hold the encoder compute their features and write them.
A part that has been written is complete, and is not computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from unlabeled.data.dataset import Samples
from unlabeled.data.open import read_data
from unlabeled.data.readers.spread import FILES, Parts, fetch, list_parts
from unlabeled.errors import Notice, UserError, notice, plural, reason
from unlabeled.modality import Images
from unlabeled.runs.features import ENDINGS
from unlabeled.runs.run import Run
from unlabeled.utils.files import write_bytes, write_json
from unlabeled.utils.progress import track

MANIFEST, NOTICES = "_manifest.json", "_notices.txt"
"""Files with the origin of the features and with notices; readers of Parquet skip both."""


def write_parts(
    run: Run, data: str | Path, out: Path, devices: int = 1, files: int = FILES
) -> tuple[int, int]:
    """Compute features on a Ray cluster and write them as a folder of Parquet files.

    `part-00000.parquet` and so on have a column `features` of lists, and `names` as of
    `write_features`. Called again after an interruption, only missing parts are computed.

    Args:
        run: the run with the encoder.
        data: a folder, file or pattern of images, tar shards or tables, or the address of one.
        out: the folder, which every machine of the cluster must see.
        devices: number of GPUs, or of processes on CPUs, that hold the encoder.
        files: image files of a part.

    Returns:
        the shape of the features.

    Raises:
        UserError: the folder holds something else, or the data cannot be read.
    """
    if out.suffix in ENDINGS:
        raise UserError(f"--engine ray writes a folder of Parquet files; give a folder, not {out}")
    if devices < 1:
        raise UserError(f"devices is {devices}, but must be at least 1")
    if not isinstance(run.modality, Images):
        raise UserError(
            f"--engine ray embeds images, and this encoder takes {run.modality.noun}; omit --engine"
        )
    ray = _import()
    parts = list_parts(data, files)
    prepare(out, run, data, parts)
    missing = [i for i in range(len(parts.names)) if not _file(out, i).exists()]
    if missing:
        if len(missing) < len(parts.names):
            notice(
                f"{out} has {plural(len(parts.names) - len(missing), 'parts')} of "
                f"{len(parts.names):,}; the others are computed"
            )
        _compute(ray, run, parts, missing, out.absolute(), devices)
    return _finish(out, len(parts.names), run.dim)


def prepare(out: Path, run: Run, data: Any, parts: Parts) -> None:
    """Make the folder, or check that it holds parts of the same features.

    Raises:
        UserError: it holds something else.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in run.encoder.state_dict().items()}
    names = json.dumps(parts.names).encode()
    manifest = {
        "data": str(data),
        "files": sum(map(len, parts.names)),
        "parts": len(parts.names),
        "names": hashlib.sha256(names).hexdigest(),
        "encoder": hashlib.sha256(save(state)).hexdigest(),
        "input": repr(run.modality),
    }
    path = out / MANIFEST
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose a folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        if any(held.suffix != ".tmp" for held in out.iterdir()):
            raise UserError(f"{out} is not empty; choose an empty folder with --out")
        write_json(path, manifest)
        return
    try:
        before = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); choose another --out") from error
    what = {"encoder": "another encoder", "input": "images that were opened otherwise"}
    for key, value in manifest.items():
        if key != "data" and before.get(key) != value:
            raise UserError(
                f"{out} holds features of {what.get(key, 'other files')}; choose another --out"
            )
    for leftover in out.glob(".*.tmp"):  # of what was killed
        leftover.unlink(missing_ok=True)


def _file(out: Path, part: int) -> Path:
    return out / f"part-{part:05}.parquet"


def _import() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise UserError("--engine ray needs Ray Data: pip install 'unlabeled[ray]'") from error
    return ray


def _compute(ray: Any, run: Run, parts: Parts, missing: list[int], out: Path, devices: int) -> None:
    """Compute the missing parts on the cluster of `$RAY_ADDRESS`, or on this machine."""
    is_ours = not ray.is_initialized()
    if is_ours:
        address = os.environ.get("RAY_ADDRESS")
        cores = max(os.cpu_count() or 1, devices + 1)
        here = {} if address else {"num_cpus": cores, "include_dashboard": False}
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
    device = next((p.device for p in run.encoder.parameters()), torch.device("cpu"))
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if gpus and devices > gpus:
            raise UserError(f"devices is {devices}, but the cluster has {plural(gpus, 'GPUs')}")
        run.encoder.cpu()  # it travels to machines without GPUs, too
        rows = [{"part": i, "names": parts.names[i], "prefix": parts.prefix(i)} for i in missing]
        read = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _read, fn_args=(parts.root, run.modality)
        )
        written = read.map_batches(
            _Embedder,
            fn_constructor_args=([ray.put(run)], out),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=devices),
            **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
        )
        for _ in track(written.iter_rows(), "parts", len(missing)):
            pass
    except ray.exceptions.RayError as error:
        raise _cause(error) from error
    finally:
        run.encoder.to(device)
        if is_ours:
            ray.shutdown()


def _cause(error: BaseException) -> UserError:
    """The error of a task or an actor as a UserError."""
    causes: list[BaseException | None] = [error]
    while (last := causes[-1]) is not None:
        if isinstance(last, UserError):
            return UserError(str(getattr(last, "cause", last)))
        causes.append(getattr(last, "cause", None) or last.__cause__)
    return UserError(
        f"Ray did not compute all features ({reason(error)[-200:]}); run the command again to "
        "continue"
    )


def _read(row: dict[str, Any], root: str, like: Images) -> dict[str, Any]:
    """The samples of a part, in a task; downloaded and decoded files are not cached."""
    before = os.environ.get("UNLABELED_CACHE")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        os.environ["UNLABELED_CACHE"] = f"{folder}/cache"
        try:
            samples = read_data(fetch(root, list(row["names"]), Path(folder) / "files"), like=like)
            x = np.ascontiguousarray(samples.x[:])
        finally:
            os.environ.pop("UNLABELED_CACHE")
            if before is not None:
                os.environ["UNLABELED_CACHE"] = before
    messages = [str(w.message) for w in caught if issubclass(w.category, Notice)]
    names = [row["prefix"] + name for name in samples.names or []]
    return {
        "part": row["part"],
        "x": x,
        "names": json.dumps(names),
        "messages": json.dumps(messages),
    }


class _Embedder:
    """An actor that holds the encoder and writes the features of parts."""

    def __init__(self, run: list[Any], out: Path) -> None:
        import ray

        self.run, self.out = ray.get(run[0]), out
        self.run.encoder.to("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        columns = (batch[key] for key in ("part", "x", "names", "messages"))
        for part, x, names, messages in zip(*columns, strict=True):
            is_known = x.dtype == np.uint8 or self.run.modality.value_range != (0, 1)
            if not is_known:
                raise UserError(
                    "the black and white of images that are not 8-bit differ by part for an "
                    "encoder that does not know them; omit --engine, or save 8-bit images"
                )
            features = self.run.features(Samples(x), progress=False)
            _write(_file(self.out, int(part)), features, json.loads(names), str(messages))
        return {"part": batch["part"]}


def _write(path: Path, features: np.ndarray, names: list[str], messages: str) -> None:
    """Write a part atomically, with what was said while it was read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
    table = pa.table({"features": column, "names": names})
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"messages": messages}), buffer)
    write_bytes(path, buffer.getvalue().to_pybytes())


def _finish(out: Path, number: int, dim: int) -> tuple[int, int]:
    """Count the rows of all parts, and repeat what was said while they were read."""
    import pyarrow.parquet as pq

    rows, messages = 0, []
    for i in range(number):
        known = pq.read_metadata(_file(out, i))
        rows += known.num_rows
        messages += json.loads(known.metadata[b"messages"])
    if messages:
        write_bytes(out / NOTICES, "".join(f"{text}\n" for text in messages).encode())
        more = (
            f"; {len(messages) - 1:,} more like it are in {out / NOTICES}"
            if len(messages) > 1
            else ""
        )
        notice(messages[0] + more)
    return rows, dim
