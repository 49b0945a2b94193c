"""SimCLR on rendered dSprites, beside supervised training, raw pixels and random weights."""

import time
from dataclasses import replace
from pathlib import Path

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.evaluation.evaluate import measure_encoders
from unlabeled.evaluation.knn import NEIGHBORS
from unlabeled.report.page import write_report
from unlabeled.report.table import print_table
from unlabeled.runs.run import Run, load
from unlabeled.training.folder import versions
from unlabeled.training.train import train
from unlabeled.utils.files import write_json

METHODS = ("simclr", "supervised")


def demo(out: Path) -> None:
    """Train both, evaluate them on the 4,000 test images, print a table and the page's path.

    A method whose run is finished is not trained again; one that was interrupted is resumed.
    """
    started = time.perf_counter()
    print("rendering dSprites: 16,000 training images, 4,000 test images")
    splits = open_data("dsprites")
    runs = {name: _finished(name, out / name) for name in METHODS}
    print("evaluating them beside raw pixels, PCA and random weights of the same network")
    evaluation = measure_encoders(runs, splits, penalty=1.0, k=NEIGHBORS)
    for i, run in enumerate(runs.values()):
        own = evaluation.subjects[i]
        others = [subject for subject in evaluation.subjects if subject is not own]
        write_report(run, replace(evaluation, subjects=[own, *others], run=run))
    result = evaluation.to_json()
    configs = {name: run.config for name, run in runs.items()}
    seconds = time.perf_counter() - started
    record = {"command": "unlabeled demo", "runs": configs, "seconds_in_all": seconds}
    write_json(out / "results.json", result | record | {"versions": versions()})
    print_table(result)
    print(f"{seconds:.0f} s. Now open the report in a browser:")
    print(f"  {(runs['simclr'].path / 'report' / 'index.html').resolve()}")


def _finished(name: str, folder: Path) -> Run:
    try:
        run = load(folder)
        print(f"{name}: already trained, in {folder}")
        return run
    except UserError:
        return train(name, "dsprites", out=folder, resume=True)
