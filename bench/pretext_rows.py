"""Repeat some rows of the study `pretext`, each with the operations that the study gives it.

python bench/pretext_rows.py "context encoder" "relative patch" …

They are trained and evaluated by the functions of the study. Their rows replace those in
results/pretext.json, with the inpainting errors if both context encoders are named, and are no
longer withdrawn.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from unlabeled.data.dataset import to_float
from unlabeled.data.open import open_data
from unlabeled.studies import pretext
from unlabeled.studies.lab import Lab, Scale, run_name
from unlabeled.studies.run import minutes_of
from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "results" / "pretext.json"


if __name__ == "__main__":
    titles = sys.argv[1:]
    result = json.loads(KEPT.read_text())
    experiments = result["experiments"]
    out = ROOT / "runs" / "pretext"
    out.mkdir(parents=True, exist_ok=True)
    lab = Lab(out, open_data(pretext.DATA), scale=Scale(settings=pretext.SETTINGS))
    for title in titles:
        experiments["P1"]["tasks"][title] = pretext.evaluate(lab, title)
        result["minutes"][run_name(title)] = round(minutes_of(out / "runs" / run_name(title)), 2)
        print(title, experiments["P1"]["tasks"][title])
    if set(pretext.INPAINTERS) <= set(titles):
        x = torch.from_numpy(lab.data.test.x[: pretext.SETTINGS.inpainted])
        errors, distances, spectra = pretext.inpainting(lab, to_float(x, lab.data.value_range))
        experiments["P3"]["errors"] |= errors
        experiments["P3"] |= {"spectral_distance": distances, "spectra": spectra}
    accuracy = {
        t: max(row["linear"], row["tiles"] or 0.0) for t, row in experiments["P1"]["tasks"].items()
    }
    experiments["P1"]["above_random"] = [
        t for t in pretext.TASKS if accuracy[t] > accuracy["random"] + 0.05
    ]
    done = [f"experiments/P1/tasks/{title}" for title in titles]
    done += ["experiments/P3"] if set(pretext.INPAINTERS) <= set(titles) else []
    for path in list(result.get("withdrawn", {})):
        if any(path == own or path.startswith(f"{own}/") for own in done):
            del result["withdrawn"][path]
    named = " ".join(f'"{title}"' for title in titles)
    result.setdefault("measured_anew", []).append(f"python bench/pretext_rows.py {named}")
    write_json(KEPT, result)
