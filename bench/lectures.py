"""Measure the quick study of the lectures beside the demo, and compare its answers.

python bench/lectures.py                run both, one after the other
python bench/lectures.py --folder OUT   take what these wrote, run one after the other:
                                        unlabeled demo --out OUT/demo
                                        unlabeled study lectures --quick --out OUT/lectures
python bench/lectures.py --full OUT     add how long the full study took beside the demo, from
                                        unlabeled demo --out OUT/demo
                                        unlabeled study lectures --out OUT/lectures

Writes results/lectures_quick.json: seconds of both and their ratio, the quick study's figures, and
each claim with the verdict of the quick and of the full study (results/lectures.json).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from unlabeled.cli import main as unlabeled
from unlabeled.utils.files import write_json

RESULTS = Path(__file__).parent.parent / "results"


def compared(folder: Path) -> dict[str, Any]:
    """What the demo and the quick study in a folder took and found."""
    demo = json.loads((folder / "demo" / "results.json").read_text())
    quick = json.loads((folder / "lectures" / "quick" / "results.json").read_text())
    full = json.loads((RESULTS / "lectures.json").read_text())
    claims = {
        number: {
            "claim": claim["claim"],
            "quick": claim["held"],
            "full": full["claims"][number]["held"],
            "why": claim["why"],
        }
        for number, claim in quick["claims"].items()
    }
    seconds = {"demo": demo["seconds_in_all"], "study": quick["seconds_in_all"]}
    figures = quick["experiments"]
    return {
        "command": "python bench/lectures.py",
        "seconds": seconds,
        "ratio": seconds["study"] / seconds["demo"],
        "minutes": quick["minutes"],
        "claims": claims,
        "same_answers": all(claim["quick"] == claim["full"] for claim in claims.values()),
        "linear_probe": figures["L6"]["probe"] | figures["L1"]["probe"],
        "few_labels": figures["L9"]["curves"],
        "biased_data": figures["L10"]["test"],
        "cores": quick["cores"],
        "versions": quick["versions"],
    }


def seconds_of_full(folder: Path) -> dict[str, Any]:
    """Seconds of the demo and of the full study in a folder, and their ratio."""
    demo, study = (
        json.loads((folder / name / "results.json").read_text()) for name in ("demo", "lectures")
    )
    seconds = {"demo": demo["seconds_in_all"], "study": study["seconds_in_all"]}
    return {
        "command": study["command"],
        "seconds": seconds,
        "ratio": seconds["study"] / seconds["demo"],
        "versions": study["versions"],
    }


def main() -> None:
    """Run both, or take them from a folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="of a demo and a quick study that have run")
    parser.add_argument("--full", type=Path, help="of a demo and a full study that have run")
    args = parser.parse_args()
    path = RESULTS / "lectures_quick.json"
    if args.full:
        write_json(path, json.loads(path.read_text()) | {"full": seconds_of_full(args.full)})
        return
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        if not args.folder:
            unlabeled(["demo", "--out", str(folder / "demo")])
            unlabeled(["study", "lectures", "--quick", "--out", str(folder / "lectures")])
        result = compared(folder)
    before = json.loads(path.read_text()) if path.is_file() else {}
    write_json(path, result | ({"full": before["full"]} if "full" in before else {}))
    print(
        f"{result['seconds']}, ratio {result['ratio']:.2f}, same answers {result['same_answers']}"
    )


if __name__ == "__main__":
    main()
