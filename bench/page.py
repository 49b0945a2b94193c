"""Collect all comparisons in results/bench.json, docs/bench.md and its chart.

make bench                                     runs all benchmarks, then this
python bench/page.py                           writes only the page, from the results
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from maps import INK, OUT, TEXT, write
from matplotlib.figure import Figure

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


KINDS = {
    "SimCLR step": "training step of SimCLR",
    "NT-Xent": "NT-Xent with gradient",
    "views, affine": "rotation, translation, scale",
    "views, colors 3": "crop and color jitter",
    "views, colors and": "crop, color jitter and blur",
    "20 nearest": "20 nearest neighbors",
    "similarity of": "similarity of all pairs",
    "dSprites from": "dSprites to an accuracy",
}
"""Beginnings of operations, and the rows of the chart."""
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")


def chart(rows: list[Row]) -> Figure:
    """How many times as fast as each other library, a dot for each case."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    points: dict[str, list[tuple[float, int]]] = {}
    for what, beside, ratio in rows:
        library = beside.partition(",")[0].removesuffix(" bf16").removesuffix(" fp32")
        row = next(i for i, start in enumerate(KINDS) if what.startswith(start))
        if library != "ours" and not what.endswith("memory"):
            points.setdefault(library, []).append((ratio, row))
    for color, (library, dots) in zip(COLORS, points.items(), strict=True):
        ratios, places = zip(*dots, strict=True)
        axis.scatter(ratios, places, s=36, color=color, label=library, alpha=0.8)
    axis.axvline(1, lw=1, color=mpl.rcParams["text.color"])
    axis.set_xscale("log")
    ticks = [1, 2, 5, 10, 100, 500]
    axis.set_xticks(ticks, [f"{tick}×" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("times as fast; left of the line the other library is faster")
    axis.set_yticks(range(len(KINDS)), list(KINDS.values()))
    axis.invert_yaxis()
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def collected() -> tuple[list[Row], list[str], list[int]]:
    """Rows of the results that exist, the commands that wrote them, and numbers of cores."""
    rows: list[Row] = []
    commands, cores = [], set()
    for file, part in PARTS.items():
        path = ROOT / "results" / file
        if path.is_file():
            result = json.loads(path.read_text())
            rows += part(result)
            commands.append(result["command"])
            cores.add(result["cores"])
    return rows, commands, sorted(cores)


def page(rows: list[Row], commands: list[str], cores: list[int]) -> str:
    """docs/bench.md."""
    lines = [
        "# Benchmarks",
        "",
        "Speed and memory relative to other libraries: 2× means twice as fast, or half the memory. "
        "Both were measured alternately in one process; ratios are medians. Of NT-Xent, `dense` "
        "holds the matrix of all similarities in memory and `tiled` does not; `ours, dense` is the "
        "dense computation of this library. Views are drawn on one thread, with (`compiled`) and "
        "without (`plain`) the kernel in C++. "
        f"On {' and '.join(map(str, cores))} cores: " + ", ".join(f"`{c}`" for c in commands) + ".",
        "",
        *(
            f"```{{figure}} _static/bench-{theme}.png\n:figclass: only-{theme}\n"
            ":alt: Dots on a logarithmic axis: for each operation, how many times as fast as each "
            "other library. The table below has the numbers.\n```\n"
            for theme in TEXT
        ),
        "| operation | compared with | ratio |",
        "|---|---|---:|",
        *(f"| {what} | {beside} | {ratio:.2f}× |" for what, beside, ratio in rows),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write the files."""
    rows, commands, cores = collected()
    ratios = [{"what": a, "beside": b, "ratio": r} for a, b, r in rows]
    content = {"commands": commands, "cores": cores, "ratios": ratios}
    write_json(ROOT / "results" / "bench.json", content)
    (ROOT / "docs" / "bench.md").write_text(page(rows, commands, cores), encoding="utf-8")
    print(page(rows, commands, cores))
    for theme, color in TEXT.items():
        settings: Any = dict.fromkeys((*INK, "axes.edgecolor"), color) | {"font.size": 11}
        with mpl.rc_context(settings):
            write(chart(rows), OUT / f"bench-{theme}.png")


if __name__ == "__main__":
    main()
