"""Measures some rows of the study of pretext tasks anew, as long as they were trained before.

python bench/pretext_rows.py "context encoder" "relative patch" …

The study's own functions train and judge them. Their rows replace those in results/pretext.json,
with the errors in the hole where it is painted, and are no longer withdrawn.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from unlabeled.data.dataset import to_float
from unlabeled.data.open import open_data
from unlabeled.studies import pretext
from unlabeled.studies.lab import Lab
from unlabeled.studies.run import minutes_of
from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "results" / "pretext.json"
PAINTERS = ("context encoder", "context encoder, no critic")


def folder(title: str) -> str:
    """As the study calls the run of a task."""
    return title.replace(", ", "-").replace(" ", "-").lower()


if __name__ == "__main__":
    titles = sys.argv[1:]
    kept = json.loads(KEPT.read_text())
    found = kept["experiments"]
    out = ROOT / "runs" / "pretext"
    out.mkdir(parents=True, exist_ok=True)
    epochs = {folder(t): row["epochs"] for t, row in found["P1"]["tasks"].items() if t != "random"}
    write_json(out / "epochs.json", epochs)
    lab = Lab(out, open_data(pretext.DATA), [0], quick=False)
    for title in titles:
        found["P1"]["tasks"][title] = pretext.row(lab, title)
        kept["minutes"][folder(title)] = round(minutes_of(out / "runs" / folder(title)), 2)
        print(title, found["P1"]["tasks"][title])
    if set(PAINTERS) <= set(titles):
        x = torch.from_numpy(lab.data.test.x[: pretext.DRAWN])
        errors, off, spectra = pretext.fillings(lab, to_float(x, lab.data.range))
        found["P3"]["errors"] |= errors
        found["P3"] |= {"spectrum_off": off, "spectra": spectra}
    read = {t: max(row["linear"], row["tiles"] or 0.0) for t, row in found["P1"]["tasks"].items()}
    found["P1"]["above_random"] = [t for t in pretext.TASKS if read[t] > read["random"] + 0.05]
    done = [f"experiments/P1/tasks/{title}" for title in titles]
    done += ["experiments/P3"] if set(PAINTERS) <= set(titles) else []
    for path in list(kept.get("withdrawn", {})):
        if any(path == own or path.startswith(f"{own}/") for own in done):
            del kept["withdrawn"][path]
    named = " ".join(f'"{title}"' for title in titles)
    kept.setdefault("measured_anew", []).append(f"python bench/pretext_rows.py {named}")
    write_json(KEPT, kept)
