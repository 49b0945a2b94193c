"""The first look: SimCLR on rendered dSprites, beside labels, raw pixels and random weights."""

from __future__ import annotations

import time
from pathlib import Path

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.evaluation.evaluate import Evaluation, baselines, judge, table
from unlabeled.report.page import write_report
from unlabeled.report.table import print_table
from unlabeled.runs.run import Run, load
from unlabeled.training.folder import versions
from unlabeled.training.train import train
from unlabeled.utils.files import write_json

METHODS = ("simclr", "supervised")


def demo(out: Path) -> None:
    """Train both, judge them on the 4,000 test images, print a table and the page's path.

    A method whose run is finished is not trained again; one that was interrupted is resumed.
    """
    started = time.perf_counter()
    print("rendering dSprites: 16,000 images to learn from, 4,000 to test on")
    splits = open_data("dsprites")
    runs = {name: _finished(name, out / name) for name in METHODS}
    print("judging them beside raw pixels and random weights of the same network")
    judged = [judge(name, run.encoder, splits) for name, run in runs.items()]
    judged += baselines(runs["simclr"], splits)
    for run, first in zip(runs.values(), judged, strict=False):
        others = [j for j in judged if j is not first]
        write_report(run, Evaluation(splits, [first, *others], table([first, *others], splits)))
    configs = {name: run.config for name, run in runs.items()}
    result = table(judged, splits) | {"command": "unlabeled demo", "runs": configs}
    seconds = time.perf_counter() - started
    write_json(out / "results.json", result | {"seconds_in_all": seconds, "versions": versions()})
    print_table("simclr", result)
    print(f"{seconds:.0f} s. Now open the report in a browser:")
    print(f"  {(runs['simclr'].path / 'report' / 'index.html').resolve()}")


def _finished(name: str, folder: Path) -> Run:
    try:
        run = load(folder)
        print(f"{name}: trained before, in {folder}")
        return run
    except UserError:
        return train(name, "dsprites", out=folder, resume=True)
