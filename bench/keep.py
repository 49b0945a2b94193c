"""Keeps what a study found: results/STUDY.json, experiment by experiment.

python bench/keep.py STUDY        from runs/STUDY/results.json, beside what was kept of it before

A figure that depended on a fault stays in its file, named under `withdrawn` with the reason, such
as "experiments/M1/methods/vae", until its experiment is found anew. What was found by `--only`
joins the experiments that were kept before, under the same conditions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
SAME = ("quick", "seeds", "cores", "versions")


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new result, with the experiments of the old one that it does not have.

    Raises:
        SystemExit: they were not found under the same conditions.
    """
    if set(old["experiments"]) <= set(new["experiments"]):
        return new
    if apart := [name for name in SAME if _told(old[name]) != _told(new[name])]:
        raise SystemExit(f"{' and '.join(apart)} differ from what was kept: do the whole study")
    parts = {
        name: dict(sorted((old[name] | new[name]).items()))
        for name in ("experiments", "claims", "minutes")
    }
    stale = {
        path: reason
        for path, reason in old.get("withdrawn", {}).items()
        if path.split("/")[1] not in new[path.split("/")[0]]
    }
    return new | parts | ({"withdrawn": stale} if stale else {})


def _told(value: Any) -> Any:
    """Versions but for how images were resampled, which is of what ran last."""
    if not isinstance(value, dict):
        return value
    return {name: of for name, of in value.items() if name != "resampling"}


if __name__ == "__main__":
    kept = ROOT / "results" / f"{sys.argv[1]}.json"
    result = json.loads((ROOT / "runs" / sys.argv[1] / "results.json").read_text())
    if kept.is_file():
        result = joined(json.loads(kept.read_text()), result)
    write_json(kept, result)
