"""Features and metrics of a run on a data set, cached so that they are computed once.

The name of an entry is a hash of everything it depends on: the content of the samples and labels,
the weights, the configuration, and the code of this package.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.data.dataset import LazyImages, Samples
from unlabeled.data.readers import cache as disk
from unlabeled.encoders.base import is_rebuildable
from unlabeled.errors import UserError, notice
from unlabeled.runs.run import Run

LARGEST = 0.25
"""Maximum share of the cache's limit for one entry; larger ones are not stored."""
ROWS = 4096
"""Number of samples that are hashed at a time."""
WITNESSES = 16
"""Number of images that determine how all of them are converted."""

Arrays = dict[str, np.ndarray]


def digest(*parts: Any) -> str:
    """A hash of arrays, by their content, and of other values, by their representation."""
    state = hashlib.blake2b(digest_size=20)
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype.str}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).view(np.uint8).data)
        else:
            state.update(repr(part).encode(errors="backslashreplace"))
        state.update(b"\0")
    return state.hexdigest()


def digest_of_samples(samples: Samples) -> str:
    """A hash of the samples without their labels."""
    x, modality = samples.x, samples.modality
    if not isinstance(x, LazyImages):
        return digest(modality, x)
    rows = np.arange(len(x.base)) if x.rows is None else x.rows
    read = (np.asarray(x.base[rows[i : i + ROWS]]) for i in range(0, len(rows), ROWS))
    return digest(modality, x.shape, x.dtype, x[:WITNESSES], *map(digest, read))


def digest_of_labels(samples: Samples) -> str:
    """A hash of the factors, targets, partners and groups of samples."""
    factors = (item for name in sorted(samples.factors) for item in (name, samples.factors[name]))
    rest = samples.partners, samples.group_codes()
    return digest(*factors, sorted(samples.targets.items(), key=str), *rest)


def digest_of_encoder(run: Run) -> str | None:
    """A hash of an encoder and its weights; None for one whose code is not in this package."""
    name, args = run.inputs["encoder"], run.inputs["args"]
    if not is_rebuildable(name, args):
        return None
    return digest(name, args, run.inputs["modality"], repr(run.encoder), _weights(run.encoder))


def digest_of_method(run: Run) -> str:
    """A hash of a run's configuration and of the heads that metrics of the method itself use."""
    if run.method is not None:
        return digest(run.config, _weights(run.method))
    files = (run.path / name for name in ("last.ckpt", "previous.ckpt") if run.is_trained)
    states = [file.stat() for file in files if file.is_file()]
    return digest(run.config, [(state.st_size, state.st_mtime_ns) for state in states])


def _weights(module: nn.Module) -> str:
    state = module.state_dict()
    arrays = (state[name].detach().cpu().contiguous().view(-1) for name in sorted(state))
    return digest(sorted(state), *(array.view(torch.uint8).numpy() for array in arrays))


@cache
def _code() -> str:
    """A hash of this package's code and of the versions of numerical libraries."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return digest(torch.__version__, np.__version__, *(file.read_bytes() for file in files))


def stored(key: str | None, compute: Callable[[], Arrays]) -> Arrays:
    """The cached result of that key, computed if it is missing.

    Args:
        key: a digest of everything that the result depends on; None disables storing.
        compute: returns arrays by name.
    """
    if key is None:
        return compute()
    try:
        entry = disk.folder() / f"features-{digest(key, _code())}"
        limit = disk.limit()
    except UserError as error:
        notice(f"features are not stored: {error}")
        return compute()
    if entry.is_dir():
        try:
            with np.load(entry / "arrays.npz") as file:
                arrays = {name: file[name] for name in file.files}  # its checksums are verified
        except FileNotFoundError:  # another process has just removed it
            pass
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            notice(f"the features in {entry} are damaged ({error}); they are computed again")
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.utime(entry)
            return arrays
    arrays = compute()
    size = sum(array.nbytes for array in arrays.values())
    if size > LARGEST * limit or size > shutil.disk_usage(entry.parent).free:
        notice(f"{size / 1e9:.1f} GB of features are not stored; UNLABELED_CACHE_GB sets the limit")
        return arrays

    def fill(folder: Path) -> bool:
        np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
        return True

    try:
        disk.build(entry.name, fill)
    except OSError as error:
        notice(f"features are not stored in {entry.parent}: {error}")
    return arrays
