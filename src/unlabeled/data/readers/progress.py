"""Tasks of worker processes, with a bar."""

from collections.abc import Iterable
from typing import Any

import joblib

from unlabeled.utils.progress import can_draw, is_shown


def mapped(jobs: Iterable[Any], total: int, title: str, workers: int) -> Iterable[Any]:
    """Results of joblib's jobs, in order, by worker processes, with a bar.

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
