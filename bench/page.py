"""Collect all comparisons in results/bench.json and docs/bench.md.

make bench                                     runs all benchmarks, then this
python bench/page.py                           writes only the page, from the results
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
Row = tuple[str, str, float]
"""Operation, library compared with, and how many times as fast (or small) ours is."""


def steps(result: dict[str, Any]) -> list[Row]:
    """Training steps of SimCLR."""
    rows: list[Row] = []
    for row in result["rows"]:
        if "side" not in row or row["side"].startswith("ours"):
            continue
        for mine in ("ours bf16", "ours fp32"):
            if f"over {mine}" in row:
                what = (
                    f"SimCLR step, {result.get('encoder', 'small')}, batch {row['batch']}, {mine}"
                )
                rows.append((what, row["side"], row[f"over {mine}"]))
    return rows


def objectives(result: dict[str, Any]) -> list[Row]:
    """Time and memory of NT-Xent."""
    rows: list[Row] = []
    for pairs, sides in result["pairs"].items():
        mine = sides["ours"]
        for name, side in sides.items():
            if name in ("ours", "path"):
                continue
            what = f"NT-Xent with gradient, {int(pairs):,} pairs ({sides['path']})"
            rows.append((f"{what}, time", name, side["over_ours"]))
            smaller = side["extra_megabytes"] / max(mine["extra_megabytes"], 1e-9)
            rows.append((f"{what}, memory", name, smaller))
    return rows


def augmentation(result: dict[str, Any]) -> list[Row]:
    """Views per second on one thread."""
    return [
        (f"views, {what}, {way}", name, side[f"{way}_over_it"])
        for what, sides in result["views"].items()
        for name, side in sides.items()
        if not name.startswith("ours")
        for way in ("compiled", "plain")
    ]


def evaluation(result: dict[str, Any]) -> list[Row]:
    """k-NN and similarity matrices."""
    return [
        ("20 nearest neighbors", "scikit-learn, brute force", result["knn"]["ratio"]),
        ("similarity of all pairs", "rsatoolbox", result["rsa"]["ratio"]),
    ]


def time_to(result: dict[str, Any]) -> list[Row]:
    """Time to the accuracy of the tutorial."""
    seconds = result["ours"]["seconds"]
    reached = f"{100 * result['ours']['linear']:.1f} % in {seconds:.0f} s"
    return [(f"dSprites from rendering to the probe: {reached}", "lightly", result["ratio"])]


PARTS: dict[str, Callable[[dict[str, Any]], list[Row]]] = {
    "bench_simclr_step.json": steps,
    "bench_simclr_step_lenet.json": steps,
    "bench_objectives.json": objectives,
    "bench_augmentation.json": augmentation,
    "bench_evaluation.json": evaluation,
    "bench_time_to.json": time_to,
}


def main() -> None:
    """Write both files from the results that exist."""
    rows: list[Row] = []
    commands, cores = [], set()
    for file, part in PARTS.items():
        path = ROOT / "results" / file
        if path.is_file():
            result = json.loads(path.read_text())
            rows += part(result)
            commands.append(result["command"])
            cores.add(result["cores"])
    write_json(
        ROOT / "results" / "bench.json",
        {
            "commands": commands,
            "cores": sorted(cores),
            "ratios": [{"what": a, "beside": b, "ratio": r} for a, b, r in rows],
        },
    )
    lines = [
        "# Benchmarks",
        "",
        "Speed and memory relative to other libraries: 2× means twice as fast, or half the memory. "
        "Both were measured alternately in one process; ratios are medians. Of NT-Xent, `dense` "
        "holds the matrix of all similarities in memory and `tiled` does not; `ours, dense` is the "
        "dense computation of this library. Views are drawn on one thread, with (`compiled`) and "
        "without (`plain`) the kernel in C++. "
        f"On {' and '.join(map(str, sorted(cores)))} cores: "
        + ", ".join(f"`{c}`" for c in commands)
        + ".",
        "",
        "| operation | compared with | ratio |",
        "|---|---|---:|",
        *(f"| {what} | {beside} | {ratio:.2f}× |" for what, beside, ratio in rows),
        "",
    ]
    (ROOT / "docs" / "bench.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
