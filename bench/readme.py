"""Writes the measured figures of results/ into README.md; `tests/test_docs.py` holds them equal.

python bench/readme.py
"""

from __future__ import annotations

import json
import re
import statistics
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


def beyond_sentence(study: dict[str, Any], real: dict[str, Any], exact: dict[str, Any]) -> str:
    """Another network, and what holds on real pictures."""
    probe = study["experiments"]["L6"]["probe"]["SimCLR, LeNet"]["test"][0]
    gap = study["experiments"]["L7"]["gaps"]["SimCLR, LeNet"]["cosine"][0]
    return (
        "The tutorial's own LeNet, trained without labels in the study below, reads "
        f"{probe:.2%} with a gap of {gap:.2f}: its features have both signs. Learnt from rendered "
        f"pictures and judged on real ones, the demo's encoder reads {real['linear']:.2%}: of "
        f"{exact['real_pictures']:,} real pictures the renderer misses {exact['different']} by a "
        "pixel or more."
    )


def lecture_table(study: dict[str, Any]) -> str:
    """The lecture's encoders: probe, similarity, few labels, biased data."""
    found = study["experiments"]
    probe, gap = found["L1"]["probe"] | found["L6"]["probe"], found["L7"]["gaps"]
    curves, biased = found["L9"]["curves"], found["L10"]["test"]
    lines = [
        "| | linear probe, % | gap | gap, mean taken off | 160 labels | 30 labels | biased data |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("SimCLR", "supervised", "VAE", "random", "raw", "pca", "ica", "kmeans"):
        curve = curves.get(f"{name}, frozen", {"labels": []})
        few = (
            f"{curve['test'][curve['labels'].index(n)]:.1%}" if n in curve["labels"] else "–"
            for n in (160, 30)
        )
        gaps = (
            spread(gap[name][kind], 3) if name in gap else "–" for kind in ("cosine", "centred")
        )
        hard = f"{biased[name]['biased']:.1%}" if name in biased else "–"
        accuracy = spread([100 * value for value in probe[name]["test"]], 2)
        lines.append(f"| {name} | {accuracy} | {' | '.join(gaps)} | {' | '.join(few)} | {hard} |")
    held = [claim["held"] for claim in study["claims"].values()]
    seeds = "seeds 0 to {}, mean ± deviation".format(study["seeds"] - 1)
    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled study lectures --seeds {study['seeds']}`, {study['cores']} cores "
            f"({seeds if study['seeds'] > 1 else 'seed 0'}; few labels and biased data seed 0): "
            f"shape of 4,000 test pictures; chance is 33 %. Of the {len(held)} claims of the "
            f"lecture that it tests, {sum(h is True for h in held)} held here.",
        ]
    )


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation, where there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


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


def survival_sentence(kills: dict[str, Any], folder: dict[str, Any], page: dict[str, Any]) -> str:
    """What was killed, what was listed, how quick the page is."""
    runs = [kills["dsprites"], kills["folder"]]
    same, trials = (sum(r[key] for r in runs) for key in ("identical", "trials"))
    whole = sum(case["identical"] for case in kills["damage"])
    decoding = folder["decoding"]
    memory = max(step["largest_process_so_far_mb"] for step in folder["steps"])
    return (
        f"`python bench/survival.py`: {trials} runs ({runs[0]['trials']} of LeNet on dSprites, "
        f"{runs[1]['trials']} on a folder with 2 workers) were killed at "
        f"{sum(r['kills'] for r in runs)} random moments and resumed; {same} ended in the same "
        f"bytes, as did {whole} of {len(kills['damage'])} with a damaged checkpoint. `python "
        f"bench/folder.py`: of {folder['pictures']:,} mixed pictures, 100 of them damaged in ten "
        f"ways, {folder['listed_as_left_out']} were listed; training, embedding and exploring "
        f"took at most {memory:,} MB in any process; {decoding['pictures_per_second']:,} pictures "
        f"a second were decoded, {decoding['ratio']:.1f}× a plain DataLoader with Pillow and as "
        f"many workers. `python bench/explore.py`: the page of {page['pictures']:,} pictures has "
        f"{page['page_megabytes']:.1f} MB, paints after {page['first_paint_ms']:.0f} ms and "
        f"answers a click in {page['click_to_paint_ms']['median']:.0f} ms ({kills['cores']} cores)."
    )


def result(file: str) -> dict[str, Any]:
    """What a command wrote."""
    return json.loads((ROOT / "results" / file).read_text())


def filled(text: str) -> str:
    """The README with its marked blocks written anew."""
    beyond = ("lectures.json", "simclr_dsprites_real.json", "renderer.json")
    survived = ("survival.json", "folder.json", "explore_page.json")
    for name, block in (
        ("survival", survival_sentence(*map(result, survived))),
        ("demo", demo_table(result("demo.json"))),
        ("beyond", beyond_sentence(*map(result, beyond))),
        ("lectures", lecture_table(result("lectures.json"))),
        ("bench", bench_sentence(result("bench_simclr_step.json"))),
    ):
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
