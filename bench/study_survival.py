"""Kill the quick lecture study twice at random times, resume it and compare the results.

    unlabeled study lectures --quick --out COMPLETE
    python bench/study_survival.py COMPLETE

It is killed with `kill -9` at times drawn from the duration of the uninterrupted study. Writes
results/study_survival.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from unlabeled.utils.files import write_json

LINE = [sys.executable, "-m", "unlabeled", "study", "lectures", "--quick", "--resume", "--out"]
SEED = 0


def read(folder: Path) -> tuple[dict[str, Any], float]:
    """Results of a study without its duration, and the duration in seconds."""
    results = json.loads((folder / "quick" / "results.json").read_text())
    results.pop("minutes")
    return results, results.pop("seconds_in_all")


def last_line(log: Path) -> str:
    """Last line of the log of a study."""
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    return lines[-1].split("\r")[-1].strip() if lines else ""


def main() -> None:
    """Kill and resume twice, then compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("complete", type=Path, help="folder of a quick study that was not stopped")
    args = parser.parse_args()
    expected, seconds = read(args.complete)
    draw = random.Random(SEED)
    moments = sorted(draw.uniform(0.05, 0.95) for _ in range(2))
    kills = []
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "study", Path(folder) / "log"
        before = 0.0
        for share in moments:
            with log.open("w") as file:
                process = subprocess.Popen([*LINE, str(out)], stdout=file, stderr=file)
                try:
                    process.wait((share - before) * seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            kills.append({"share_of_the_study": round(share, 3), "found": last_line(log)})
            print(kills[-1], flush=True)
            before = share
        subprocess.run([*LINE, str(out)], check=True)
        results, _ = read(out)
    result = {
        "command": "python bench/study_survival.py",
        "study": "unlabeled study lectures --quick",
        "seed": SEED,
        "cores": os.cpu_count(),
        "seconds_of_the_whole_study": seconds,
        "kills": kills,
        "identical": results == expected,
        "differ": [
            key
            for key in expected["experiments"]
            if results["experiments"].get(key) != expected["experiments"][key]
        ],
    }
    write_json(Path("results/study_survival.json"), result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
