"""Run the experiments of a study and write its results and its page."""

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from unlabeled.data.open import open_data
from unlabeled.errors import UserError, plural, suggest
from unlabeled.studies.lab import (
    FULL,
    Chooser,
    Experiment,
    Finding,
    Lab,
    Scale,
    Table,
    TitledImages,
)
from unlabeled.studies.page import write_page
from unlabeled.training.folder import versions
from unlabeled.utils.files import read_csv, write_bytes, write_json
from unlabeled.utils.progress import line


def run_study(
    study: ModuleType,
    out: Path,
    *,
    scale: Scale = FULL,
    data: Any = None,
    only: Sequence[str] = (),
    seeds: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Run the experiments in order and write `results.json` and `report/index.html`.

    Encoders that are complete are not trained again.

    Args:
        study: module of the study.
        out: folder of the study; a quick study is written to `out/quick`.
        scale: how large the study is.
        data: data to use instead of the study's `DATA`.
        only: keys of the experiments to run; all by default.
        seeds: number of seeds of the main encoders.
        resume: also reuse findings that are complete.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: the study has no experiment of that key, or `seeds` is less than 1.
    """
    experiments: list[Experiment] = study.EXPERIMENTS
    keys = [experiment.key for experiment in experiments]
    if unknown := set(only) - set(keys):
        raise UserError(f"there is no experiment '{min(unknown)}'; {suggest(min(unknown), keys)}")
    if seeds < 1:
        raise UserError(f"seeds is {seeds}, but must be at least 1")
    if scale.settings is None:
        full = getattr(study, "SETTINGS", None)
        scale = replace(scale, settings=getattr(study, "QUICK", full) if scale.quick else full)
    decides = not scale.quick or getattr(study, "QUICK_DECIDES", False)
    scale = replace(scale, all_training=decides)
    out = out / "quick" if scale.quick else out
    out.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = study.DATA() if callable(study.DATA) else study.DATA
    lab = Lab(out, open_data(data), range(seeds), scale)
    selected = [e for e in experiments if not only or e.key in only]
    record = {"quick": scale.quick, "seeds": seeds}
    folders = {experiment.key: out / "findings" / experiment.key for experiment in experiments}
    pending = [e for e in selected if not (resume and _is_complete(folders[e.key], record))]
    if kept := len(selected) - len(pending):
        line(f"kept from before: {plural(kept, 'complete experiment')} of {len(selected)}")
    started = time.perf_counter() - _seconds_before(out)
    done, planned = 0.0, sum(e.minutes for e in pending)
    if hasattr(study, "trainings"):
        lab.train_all(study.trainings(lab, [experiment.key for experiment in pending]))
    began = time.perf_counter()
    for number, experiment in enumerate(pending, 1):
        spent = time.perf_counter() - began
        left = f", about {(planned - done) * spent / done / 60:.0f} min left" if done else ""
        heading = f"[{number}/{len(pending)}] {experiment.key} {experiment.title}"
        line(f"{heading} · {(time.perf_counter() - started) / 60:.0f} min{left}")
        finding = experiment.run(lab)
        if not decides:  # too little training
            finding.claims = {n: (None, why) for n, (_, why) in finding.claims.items()}
        _write_finding(folders[experiment.key], finding, record)
        _publish(study, lab, seeds, started)  # a stopped study shows what is complete
        done += experiment.minutes
    return _publish(study, lab, seeds, started)


def _seconds_before(out: Path) -> float:
    """Seconds that the study took until it was stopped."""
    path = out / "results.json"
    return float(json.loads(path.read_text())["seconds_in_all"]) if path.is_file() else 0.0


def _publish(study: ModuleType, lab: Lab, seeds: int, started: float) -> dict[str, Any]:
    """Write `results.json` and the page from all complete findings."""
    out, experiments = lab.out, study.EXPERIMENTS
    folders = {experiment.key: out / "findings" / experiment.key for experiment in experiments}
    findings = {
        key: _read_finding(folder) for key, folder in folders.items() if _is_complete(folder)
    }
    result = {
        "study": study.TITLE,
        "experiments": {key: finding.figures for key, finding in findings.items()},
        "claims": {
            str(number): {"claim": study.CLAIMS[number], "held": held, "why": why, "where": key}
            for key, finding in findings.items()
            for number, (held, why) in finding.claims.items()
        },
        "seeds": seeds,
        "quick": lab.quick,
        "decides": not lab.quick or getattr(study, "QUICK_DECIDES", False),
        "cores": os.cpu_count(),
        "versions": versions(),
        "command": _command(study, lab, seeds),
        "minutes": {
            config.parent.relative_to(out / "runs").as_posix(): round(minutes_of(config.parent), 2)
            for config in sorted((out / "runs").rglob("config.json"))
        },
        "seconds_in_all": round(time.perf_counter() - started),
    }
    write_json(out / "results.json", result)
    write_page(study, [e for e in experiments if e.key in findings], findings, result, out)
    return result


def _command(study: Any, lab: Lab, seeds: int) -> str:
    """The command that reproduces the study."""
    flags = " --quick" * lab.quick + f" --seeds {seeds}" * (seeds > 1)
    return f"unlabeled study {study.__name__.rpartition('.')[2]}{flags}"


def minutes_of(run: Path) -> float:
    """Duration of a training, from the speed of each epoch."""
    table = run / "metrics.csv"
    speeds = read_csv(table).get("samples_per_second", []) if table.is_file() else []
    images = json.loads((run / "config.json").read_text()).get("images", 0)
    return sum(images / speed for speed in speeds if speed > 0) / 60  # before the first: NaN


def _write_finding(folder: Path, finding: Finding, record: dict[str, Any]) -> None:
    """Write the images of a finding as files and the rest as JSON; the JSON file comes last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    content = {"record": record, **vars(finding)}
    content["images"] = _write_images(folder, finding.images)
    content["tables"] = [[t.caption, t.columns, t.rows] for t in finding.tables]
    if finding.chooser:
        chosen = [
            [choice, _write_images(folder, images, "-".join(choice) + "-")]
            for choice, images in finding.chooser.images.items()
        ]
        content["chooser"] = {"menus": finding.chooser.menus, "images": chosen}
    write_json(folder / "finding.json", content)


def _write_images(folder: Path, images: TitledImages, prefix: str = "") -> list[list[str]]:
    """Title and file name of each image."""
    files = []
    for number, (title, image) in enumerate(images):
        name = f"{number:02}-{re.sub(r'[^a-z0-9]+', '-', (prefix + title).lower())[:80]}"
        data = image.encode() if isinstance(image, str) else image
        name += ".svg" if isinstance(image, str) else ".gif" if data[:3] == b"GIF" else ".png"
        write_bytes(folder / name, data)
        files.append([title, name])
    return files


def _read_images(folder: Path, files: list[list[str]]) -> TitledImages:
    images: TitledImages = []
    for title, name in files:
        data = (folder / name).read_bytes()
        images.append((title, data.decode() if name.endswith(".svg") else data))
    return images


def _is_complete(folder: Path, record: dict[str, Any] | None = None) -> bool:
    path = folder / "finding.json"
    return path.is_file() and record in (None, json.loads(path.read_text())["record"])


def _read_finding(folder: Path) -> Finding:
    content = json.loads((folder / "finding.json").read_text())
    del content["record"]
    content["tables"] = [Table(*table) for table in content["tables"]]
    content["images"] = _read_images(folder, content["images"])
    if chooser := content["chooser"]:
        images = {tuple(choice): _read_images(folder, files) for choice, files in chooser["images"]}
        content["chooser"] = Chooser(chooser["menus"], images)
    claims = {int(n): (held, why) for n, (held, why) in content["claims"].items()}
    return Finding(**content | {"claims": claims})
