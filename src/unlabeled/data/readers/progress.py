"""Tasks of worker processes, with a progress bar."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import joblib

from unlabeled.utils.progress import can_draw, is_shown


def mapped(jobs: Iterable[Any], total: int, title: str, workers: int) -> Iterable[Any]:
    """Results of joblib's jobs, in order, by worker processes, with a progress bar.

    Args:
        jobs: of `joblib.delayed`.
        total: number of jobs.
        title: of the bar.
        workers: processes; 1 is this one.
    """
    from rich.console import Console
    from rich.progress import track

    return track(
        joblib.Parallel(n_jobs=workers, return_as="generator")(jobs),
        title,
        total=total,
        console=Console(stderr=True),
        transient=True,
        disable=not (is_shown(True) and can_draw()),
    )


def joined(
    jobs: Iterable[Any], total: int, title: str, workers: int, target: Path
) -> Iterator[Any]:
    """Results as of `mapped`; the files `NUMBER.part` of the jobs are joined into `target`."""
    with target.open("wb") as output:
        for number, result in enumerate(mapped(jobs, total, title, workers)):
            part = target.with_name(f"{number}.part")
            with part.open("rb") as file:
                shutil.copyfileobj(file, output)
            part.unlink()
            yield result
