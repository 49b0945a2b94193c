"""Writes the measured figures of results/ into README.md; `tests/test_docs.py` holds them equal.

python bench/readme.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def demo_table(result: dict[str, Any]) -> str:
    """The demo's encoders, one a row."""
    lines = [
        "| | linear probe | k-NN | gap, same shape − other | gap, mean taken off |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in ({"simclr": result} | result["baselines"]).items():
        title = {"simclr": "**SimCLR, no labels**", "supervised": "supervised, 16,000 labels"}
        lines.append(
            f"| {title.get(name, name)} | {row['linear']:.2%} | {row['knn']:.2%} "
            f"| {row['rsa_gap']:.3f} | {row['rsa_gap_centred']:.3f} |"
        )
    minutes = result["seconds_in_all"] / 60
    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled demo`, seed 0, {result['cores']} cores, {minutes:.1f} minutes: shape read "
            f"by a linear decoder on {result['test_pictures']:,} test pictures; chance is 33 %.",
        ]
    )


def bench_sentence(result: dict[str, Any]) -> str:
    """How a SimCLR step compares."""
    parts = []
    rows = result["rows"]
    for batch in sorted({row["batch"] for row in rows}):
        here = [row for row in rows if row["batch"] == batch]
        low = min(r["over ours bf16"] for r in here if r.get("side", "").startswith("lightly bf16"))
        single = min(r["over ours fp32"] for r in here if r.get("side", "").startswith("lightly f"))
        default = min(
            next(r for r in here if "default to default" in r)["default to default"].values()
        )
        parts.append(f"| {batch} | {low:.2f}× | {single:.2f}× | {default:.2f}× |")
    return "\n".join(
        [
            "A SimCLR training step against lightly's way (its transforms and loss; same pictures, "
            "encoder, batch and threads; alternated in one run, medians, the fastest of lightly's "
            f"variants), `make bench` on {result['cores']} cores:",
            "",
            "| batch | both bf16 | both fp32 | default to default |",
            "|---:|---:|---:|---:|",
            *parts,
        ]
    )


def filled(text: str) -> str:
    """The README with its marked blocks written anew."""
    for name, file, write in (
        ("demo", "demo.json", demo_table),
        ("bench", "bench_simclr_step.json", bench_sentence),
    ):
        block = write(json.loads((ROOT / "results" / file).read_text()))
        text = re.sub(
            rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)",
            lambda found, block=block: f"{found[1]}{block}\n{found[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
