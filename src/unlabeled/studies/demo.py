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
PACKAGED = "unlabeled:simclr-dsprites"


def demo(out: Path, quick: bool = False) -> None:
    """Train both, evaluate them on the 4,000 test images, print a table and the page's path.

    A method whose run is finished is not trained again; one that was interrupted is resumed.

    Args:
        out: folder of the runs.
        quick: train nothing, but evaluate the SimCLR encoder of the package, in `out/quick`.
    """
    started = time.perf_counter()
    out = out / "quick" if quick else out
    print("rendering dSprites: 16,000 training images, 4,000 test images")
    splits = open_data("dsprites")
    if quick:
        print(f"simclr: taken from the package ({PACKAGED}); `unlabeled demo` trains one here")
        runs = {"simclr": _packaged(out / "simclr")}
    else:
        runs = {name: _finished(name, out / name) for name in METHODS}
    print("evaluating beside raw pixels, PCA and random weights of the same network")
    evaluation = measure_encoders(runs, splits, penalty=1.0, k=NEIGHBORS)
    for i, run in enumerate(runs.values()):
        own = evaluation.subjects[i]
        others = [subject for subject in evaluation.subjects if subject is not own]
        write_report(run, replace(evaluation, subjects=[own, *others], run=run))
    result = evaluation.to_json()
    configs = {name: run.config for name, run in runs.items()}
    seconds = time.perf_counter() - started
    command = "unlabeled demo --quick" if quick else "unlabeled demo"
    record = {"command": command, "runs": configs, "seconds_in_all": seconds}
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


def _packaged(folder: Path) -> Run:
    run = load(PACKAGED)
    run.path = folder
    folder.mkdir(parents=True, exist_ok=True)
    return run
