"""Run the experiments of a study and write its results and its page."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from unlabeled.data.open import open_data
from unlabeled.errors import UserError, suggest
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training.folder import versions
from unlabeled.utils.files import read_csv, write_bytes, write_json


def run_study(
    study: ModuleType,
    out: Path,
    *,
    quick: bool = False,
    only: Sequence[str] = (),
    seeds: int = 1,
    resume: bool = False,
) -> dict[str, Any]:
    """Do the experiments in order and write `results.json` and `report/index.html`.

    Encoders that were trained before are found again, so a second call trains nothing.

    Args:
        study: the module.
        out: its folder.
        quick: a first look in minutes: half of the training images, fewer epochs; kept apart in
            `out/quick`.
        only: keys of experiments; all unless given.
        seeds: how many of the main encoders are trained.
        resume: take findings that are there already, too.

    Raises:
        UserError: an experiment of that key is not in the study.
    """
    experiments: list[Experiment] = study.EXPERIMENTS
    known = [experiment.key for experiment in experiments]
    if unknown := set(only) - set(known):
        raise UserError(f"there is no experiment '{min(unknown)}'; {suggest(min(unknown), known)}")
    if seeds < 1:
        raise UserError(f"seeds is {seeds}, but must be at least 1")
    out = out / "quick" if quick else out
    out.mkdir(parents=True, exist_ok=True)
    data = open_data(study.DATA() if callable(study.DATA) else study.DATA)
    lab = Lab(out, data, range(seeds), quick)
    chosen = [e for e in experiments if not only or e.key in only]
    started, done, planned = time.perf_counter(), 0.0, sum(e.minutes for e in chosen)
    for number, experiment in enumerate(chosen, 1):
        spent = time.perf_counter() - started
        left = f", about {(planned - done) * spent / done / 60:.0f} min left" if done else ""
        told = f"[{number}/{len(chosen)}] {experiment.key} {experiment.title}"
        print(f"{told} · {spent / 60:.0f} min{left}", file=sys.stderr)
        place = out / "findings" / experiment.key
        record = {"quick": quick, "seeds": seeds}
        if not (resume and _known(place, record)):
            finding = experiment.find(lab)
            if quick:  # too little was trained to say
                finding.claims = {n: (None, why) for n, (_, why) in finding.claims.items()}
            _keep(place, finding, record)
            _publish(study, lab, seeds, started)  # so that a stopped study shows what it found
        done += experiment.minutes
    return _publish(study, lab, seeds, started)


def _publish(study: ModuleType, lab: Lab, seeds: int, started: float) -> dict[str, Any]:
    """Write `results.json` and the page, from all findings that there are."""
    out, experiments = lab.out, study.EXPERIMENTS
    known = [experiment.key for experiment in experiments]
    findings = {
        key: _read(out / "findings" / key) for key in known if _known(out / "findings" / key)
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
    from unlabeled.studies.page import write_page

    write_page(study, [e for e in experiments if e.key in findings], findings, result, out)
    return result


def _command(study: Any, lab: Lab, seeds: int) -> str:
    """What one types to have all of it."""
    flags = " --quick" * lab.quick + f" --seeds {seeds}" * (seeds > 1)
    return f"unlabeled study {study.__name__.rpartition('.')[2]}{flags}"


def minutes_of(run: Path) -> float:
    """That a training took, by the speed of each epoch."""
    table = run / "metrics.csv"
    speeds = read_csv(table).get("samples_per_second", []) if table.is_file() else []
    images = json.loads((run / "config.json").read_text()).get("images", 0)
    return sum(images / speed for speed in speeds if speed > 0) / 60  # before the first: NaN


def _keep(place: Path, finding: Finding, record: dict[str, Any]) -> None:
    """Write a finding: its images as files, the rest as JSON, the latter last."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    files = []
    for number, (title, content) in enumerate(finding.images):
        name = f"{number:02}-{re.sub(r'[^a-z0-9]+', '-', title.lower())[:60]}"
        data = content.encode() if isinstance(content, str) else content
        name += ".svg" if isinstance(content, str) else ".gif" if data[:3] == b"GIF" else ".png"
        write_bytes(place / name, data)
        files.append([title, name])
    told = {
        "record": record,
        "figures": finding.figures,
        "did": finding.did,
        "answer": finding.answer,
        "tables": [[t.caption, t.columns, t.rows] for t in finding.tables],
        "images": files,
        "claims": {str(n): list(held) for n, held in finding.claims.items()},
    }
    write_json(place / "finding.json", told)


def _known(place: Path, record: dict[str, Any] | None = None) -> bool:
    path = place / "finding.json"
    return path.is_file() and record in (None, json.loads(path.read_text())["record"])


def _read(place: Path) -> Finding:
    content = json.loads((place / "finding.json").read_text())
    images: list[tuple[str, bytes | str]] = [
        (
            title,
            (place / name).read_text() if name.endswith(".svg") else (place / name).read_bytes(),
        )
        for title, name in content["images"]
    ]
    return Finding(
        content["figures"],
        content["did"],
        content["answer"],
        [Table(*table) for table in content["tables"]],
        images,
        {int(n): (held, why) for n, (held, why) in content["claims"].items()},
    )
