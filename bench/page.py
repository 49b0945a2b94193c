"""Every comparison on one page of ratios: results/bench.json and docs/bench.md.

make bench                                     runs them all, then this
python bench/page.py                           the page alone, from what was measured before
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
Row = tuple[str, str, float]
"""What, beside whom, how many times as fast (or as small) ours is."""


def steps(found: dict[str, Any]) -> list[Row]:
    """A training step of SimCLR."""
    rows: list[Row] = []
    for row in found["rows"]:
        if "side" not in row or row["side"].startswith("ours"):
            continue
        for mine in ("ours bf16", "ours fp32"):
            if f"over {mine}" in row:
                what = f"SimCLR step, {found.get('encoder', 'small')}, batch {row['batch']}, {mine}"
                rows.append((what, row["side"], row[f"over {mine}"]))
    return rows


def objectives(found: dict[str, Any]) -> list[Row]:
    """Time and memory of NT-Xent."""
    rows: list[Row] = []
    for pairs, sides in found["pairs"].items():
        mine = sides["ours"]
        for name, side in sides.items():
            if name in ("ours", "path"):
                continue
            what = f"NT-Xent with gradient, {int(pairs):,} pairs ({sides['path']})"
            rows.append((f"{what}, time", name, side["over_ours"]))
            smaller = side["extra_megabytes"] / max(mine["extra_megabytes"], 1e-9)
            rows.append((f"{what}, memory", name, smaller))
    return rows


def augmentation(found: dict[str, Any]) -> list[Row]:
    """Views a second on one thread."""
    return [
        (f"views, {what}, {way}", name, side[f"{way}_over_it"])
        for what, sides in found["views"].items()
        for name, side in sides.items()
        if not name.startswith("ours")
        for way in ("compiled", "plain")
    ]


def evaluation(found: dict[str, Any]) -> list[Row]:
    """Neighbors and similarities."""
    return [
        ("20 nearest neighbors", "scikit-learn, brute force", found["knn"]["ratio"]),
        ("similarity of all pairs", "rsatoolbox", found["rsa"]["ratio"]),
    ]


def time_to(found: dict[str, Any]) -> list[Row]:
    """Time to the tutorial's figure."""
    seconds = found["ours"]["seconds"]
    reached = f"{100 * found['ours']['linear']:.1f} % in {seconds:.0f} s"
    return [(f"dSprites from rendering to the probe: {reached}", "lightly's way", found["ratio"])]


PARTS: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
    "bench_simclr_step.json": steps,
    "bench_simclr_step_lenet.json": steps,
    "bench_objectives.json": objectives,
    "bench_augmentation.json": augmentation,
    "bench_evaluation.json": evaluation,
    "bench_time_to.json": time_to,
}


def main() -> None:
    """Read what there is, write both."""
    rows: list[Row] = []
    commands, cores = [], set()
    for file, part in PARTS.items():
        path = ROOT / "results" / file
        if path.is_file():
            found = json.loads(path.read_text())
            rows += part(found)
            commands.append(found["command"])
            cores.add(found["cores"])
    write_json(
        ROOT / "results" / "bench.json",
        {
            "commands": commands,
            "cores": sorted(cores),
            "ratios": [{"what": a, "beside": b, "ratio": r} for a, b, r in rows],
        },
    )
    lines = [
        "# Side by side",
        "",
        "How many times as fast, or as small in memory, this library is. Both sides of each line "
        "were measured in turn in one run; medians of the ratios. "
        f"On {' and '.join(map(str, sorted(cores)))} cores: "
        + ", ".join(f"`{c}`" for c in commands)
        + ".",
        "",
        "| what | beside | ratio |",
        "|---|---|---:|",
        *(f"| {what} | {beside} | {ratio:.2f}× |" for what, beside, ratio in rows),
        "",
    ]
    (ROOT / "docs" / "bench.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
