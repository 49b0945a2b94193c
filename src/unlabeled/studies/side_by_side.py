"""Several trainings at a time: small networks do not gain much from a second thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import joblib
import torch

from unlabeled import registry
from unlabeled.data.dataset import Splits
from unlabeled.errors import UserError, plural
from unlabeled.training.config import TrainConfig
from unlabeled.training.resolve import resolve
from unlabeled.training.train import train
from unlabeled.utils.progress import line, showing, track

T = TypeVar("T")
AT_ONCE = 4
"""Trainings at a time, at most."""


@dataclass(frozen=True)
class Training:
    """A training that a study needs: the name of its run, and arguments of `unlabeled.train`."""

    name: str
    method: str
    seed: int = 0
    data: Splits | None = None  #: data to use instead of the study's
    options: Mapping[str, Any] = field(default_factory=dict)


def epochs_of(training: Training, data: Splits) -> int:
    """Number of epochs, by the recipe if it is not an option."""
    options = TrainConfig.of(dict(training.options))[1]
    return resolve(registry.find("methods", training.method), data, options)[0].epochs


def train_side_by_side(jobs: Sequence[tuple[Training, Splits, Path]]) -> None:
    """Train in processes of their own, each with its share of the cores; longest trainings first.

    Does nothing on a GPU, on a single core or for a single training: they are trained when they are
    asked for. A process that loses its parent saves its run and stops.

    Args:
        jobs: trainings with their data and their run folders.

    Raises:
        UserError: some of them failed, after all others have ended.
    """
    cores = joblib.cpu_count()
    processes = min(len(jobs), cores, AT_ONCE)
    if processes < 2 or torch.cuda.is_available():
        return
    epochs = [epochs_of(training, data) for training, data, _ in jobs]
    work = [n * len(data.train) for n, (_, data, _) in zip(epochs, jobs, strict=True)]
    order = sorted(range(len(jobs)), key=lambda i: -work[i])
    line(f"  training {plural(len(jobs), 'encoder')}, {processes} at a time")
    started = time.perf_counter()
    failed: list[str] = []

    def run_all() -> None:
        with joblib.parallel_config("loky", inner_max_num_threads=cores // processes):
            pool = joblib.Parallel(
                processes, return_as="generator_unordered", pre_dispatch="n_jobs", max_nbytes=None
            )
            finished = pool(joblib.delayed(_train)(*jobs[i], cores // processes) for i in order)
            for number, (folder, error) in enumerate(finished, 1):
                minutes = (time.perf_counter() - started) / 60
                line(f"  {number} of {len(jobs)} trained after {minutes:.0f} min: {folder.name}")
                failed.extend([f"{folder.name}: {error}"] if error else [])

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(run_all)
        finished = _finished_epochs([folder for *_, folder in jobs], done.done)
        for _ in track(finished, "training", sum(epochs), progress=True):
            pass
        done.result()
    if failed:
        raise UserError(
            f"{len(failed)} of {plural(len(jobs), 'training')} failed, the others are kept for "
            f"--resume; {'; '.join(failed)}"
        )


def spread(function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> list[T]:
    """Results of a function for some arguments, in their order, computed by a process on each core.

    Args:
        function: of a module, so that other processes find it.
        calls: the arguments of each call.
    """
    pool = joblib.Parallel(min(len(calls), joblib.cpu_count()), "loky", max_nbytes=None)
    return list(pool(joblib.delayed(function)(*arguments) for arguments in calls))


def _finished_epochs(folders: Sequence[Path], done: Callable[[], bool]) -> Iterator[None]:
    """Yields once for each epoch that has finished in one of the runs."""
    seen = 0
    while not done():
        time.sleep(1)
        tables = [folder / "metrics.csv" for folder in folders]
        count = sum(max(0, len(t.read_text().splitlines()) - 2) for t in tables if t.is_file())
        yield from (None for _ in range(count - seen))
        seen = max(seen, count)


def _train(training: Training, data: Splits, folder: Path, threads: int) -> tuple[Path, str]:
    """Train in this process, until its parent dies; the run's folder, and why it failed, or ""."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)  # the run is saved

    threading.Thread(target=watch, daemon=True).start()
    torch.set_num_threads(threads)
    with showing(False):
        arguments: dict[str, Any] = {"out": folder, "resume": True, "progress": False}
        try:
            train(training.method, data, seed=training.seed, **arguments, **training.options)
        except UserError as error:
            return folder, str(error)
    return folder, ""
