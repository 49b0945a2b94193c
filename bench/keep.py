"""Copy the results of a study to results/STUDY.json, experiment by experiment.

python bench/keep.py STUDY        from runs/STUDY/results.json

A figure that depended on a bug stays in the file until its experiment is run again; its path, such
as "experiments/M1/methods/vae", is in `withdrawn` with the reason. Experiments run with `--only`
replace those of the file if all ran under the same conditions.
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
    """Add the experiments of the old result that the new one does not have.

    Raises:
        SystemExit: they ran under different conditions.
    """
    if set(old["experiments"]) <= set(new["experiments"]):
        return new
    if differing := [name for name in SAME if _comparable(old[name]) != _comparable(new[name])]:
        raise SystemExit(
            f"{' and '.join(differing)} differ from the results before: run the full study"
        )
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


def _comparable(value: Any) -> Any:
    """Versions without `resampling`, which is that of the last run."""
    if not isinstance(value, dict):
        return value
    return {name: of for name, of in value.items() if name != "resampling"}


if __name__ == "__main__":
    path = ROOT / "results" / f"{sys.argv[1]}.json"
    result = json.loads((ROOT / "runs" / sys.argv[1] / "results.json").read_text())
    if path.is_file():
        result = joined(json.loads(path.read_text()), result)
    write_json(path, result)
