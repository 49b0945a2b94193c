"""Repeat some rows of the study `generative` without training all its models.

python bench/generative_rows.py "n-gram" "VAE features" "VAE bound" "digits"

They are trained and evaluated by the functions of the study. Their rows replace those in
results/generative.json and are no longer withdrawn.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from unlabeled.data.open import open_data
from unlabeled.studies import generative
from unlabeled.studies.generative_models import SETTINGS, model_run
from unlabeled.studies.lab import Lab, Scale
from unlabeled.studies.likelihoods import digit_likelihoods, n_gram_bits, vae_bits
from unlabeled.studies.run import minutes_of
from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "results" / "generative.json"


def n_gram(lab: Lab, experiments: dict[str, Any]) -> list[str]:
    """The n-gram model of characters, beside the networks."""
    title, bits = n_gram_bits(lab)
    networks = {k: v for k, v in experiments["G6"]["bits"].items() if "Kneser" not in k}
    experiments["G6"]["bits"] = {title: bits} | networks
    return ["G6/bits/Kneser-Ney"]


def vae_features(lab: Lab, experiments: dict[str, Any]) -> list[str]:
    """Linear probe of the VAE."""
    encoder = model_run(lab, "VAE").encoder
    experiments["G2"]["probe"]["VAE"] = lab.probe("VAE", encoder).test
    return ["G2/probe/VAE"]


def vae_bound(lab: Lab, experiments: dict[str, Any]) -> list[str]:
    """Bits per pixel of the VAE."""
    experiments["G5"]["bits"]["VAE, bound"] = vae_bits(lab)
    return ["G5/bits/VAE, bound"]


def digits(lab: Lab, experiments: dict[str, Any]) -> list[str]:
    """Likelihoods of binary models of small digits."""
    log_partition, bounds = digit_likelihoods(lab)
    experiments["G8"] |= {"log_partition": log_partition, "bounds": bounds}
    return [f"G8/bounds/{title}" for title in bounds]


ROWS = {
    "n-gram": n_gram,
    "VAE features": vae_features,
    "VAE bound": vae_bound,
    "digits": digits,
}


if __name__ == "__main__":
    result = json.loads(RESULT.read_text())
    out = ROOT / "runs" / "generative"
    out.mkdir(parents=True, exist_ok=True)
    lab = Lab(out, open_data(generative.DATA), scale=Scale(settings=SETTINGS))
    for title in sys.argv[1:]:
        for path in ROWS[title](lab, result["experiments"]):
            result.get("withdrawn", {}).pop(f"experiments/{path}", None)
        result.setdefault("measured_anew", []).append(f'python bench/generative_rows.py "{title}"')
    for config in (out / "runs").rglob("config.json"):  # of stages in folders of their own, too
        name = config.parent.relative_to(out / "runs").as_posix()
        result["minutes"][name] = round(minutes_of(config.parent), 2)
    write_json(RESULT, result)
