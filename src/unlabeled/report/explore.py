"""An interactive, self-contained HTML page to explore a data set without labels."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import adjusted_mutual_info_score

from unlabeled.data.dataset import Samples
from unlabeled.encoders.features import centered
from unlabeled.errors import UserError, notice, plural
from unlabeled.evaluation import duplicates, structure
from unlabeled.evaluation.label_errors import AGREEMENT, MARGIN
from unlabeled.evaluation.structure import Layout
from unlabeled.evaluation.suggest import FEW
from unlabeled.modality import Audio, EncoderInput, Images, Series, Table, Text
from unlabeled.report import tiles
from unlabeled.report.findings import LAYOUTS, VOTERS, Findings, find
from unlabeled.report.points import check_table, write_points
from unlabeled.runs.run import Run
from unlabeled.utils.files import write_bytes
from unlabeled.utils.progress import is_shown, showing, status
from unlabeled.utils.state import preserve_rng

SUSPECTS_SHOWN = 200
DUPLICATES_SHOWN = 200
MEMBERS_SHOWN = 20
"""Number of samples of a group of near-duplicates, if the page does not show all samples."""
OUTLIERS_SHOWN = 60
RANGES = 6
"""Number of groups into which a numeric factor is divided."""
RULES = {
    "window": min(duplicates.SIZES),
    "correlation": duplicates.CORRELATION,
    "specific": duplicates.SPECIFIC,
    "copies": duplicates.CANDIDATES,
    "far": structure.FAR,
    "density": structure.DENSITY,
    "counts": structure.COUNTS,
    "nearly": structure.NEARLY,
    "voters": VOTERS,
    "margin": MARGIN,
    "agreement": AGREEMENT,
    "few": FEW,
}
"""Constants of the methods that the page explains."""


@preserve_rng()
def explore(
    run: Run,
    data: Any,
    out: str | Path,
    *,
    labels_from: Any = None,
    table: str | Path | None = None,
    layout: Layout = "auto",
    clusters: int | None = None,
    suggest: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Write a page to explore samples: a map, neighbors, clusters, duplicates, outliers.

    Of more than 50,000 samples, the map and the clusters are fitted on a random 50,000 and the
    others are projected; the page shows the random ones and all listed samples, the table all.
    Audio is shown as spectrograms and can be played, series are shown as curves, texts and rows of
    tables as text; near-duplicates of all these are identical samples.

    Args:
        run: the run whose encoder computes the features.
        data: samples in any form that `unlabeled.open_data` accepts.
        out: the `.html` file to write; it is self-contained.
        labels_from: source of labels of files, as for `open_data`; the map is colored by them, and
            labels that are likely wrong are listed.
        table: also write the results for each sample to this .csv or .parquet file.
        layout: layout of the map; auto is UMAP if installed, or else t-SNE, or PCA for many images.
        clusters: number of clusters (default: the largest from 3 to 12 whose silhouette is at least
            0.8 of the best).
        suggest: also list this number of unlabeled samples to label next.
        seed: random seed of the map and the clusters.
        progress: show progress (default: in commands only).

    Returns:
        numbers of samples, of those on the page, of clusters, near-duplicate groups and their
        samples, outliers, and labels that are likely wrong (None without classes); names of the
        samples to label, the layout, and the bytes of the page.

    Raises:
        UserError: there are too few samples, an argument is invalid, or all features are the same.
    """
    out = Path(out).expanduser()
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out is {out}; give an .html file")
    check_table(table)
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}, but must be from 0 to {2**32 - 1}")
    samples = run.read(data, labels_from)
    n = len(samples)
    if n < 3:
        raise UserError(f"{plural(n, run.modality.noun)} cannot make a map; give at least 3")
    with showing(is_shown(progress)):
        findings, chosen = find(run, samples, layout, clusters, suggest, seed)
        with status("page", "explore"):
            content, sheets = _content(
                run, samples, findings, chosen, _name(data, run.modality.noun)
            )
            content["labeled"] = labels_from is not None
            content["made"] |= {
                "clusters": f"k-means, {len(findings.clusters)} "
                + ("by the silhouette" if clusters is None else "as asked for"),
                "seed": str(seed),
            }
            page = render(content, sheets)
            out.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(out, page)
    if table is not None:
        write_points(Path(table).expanduser(), samples, findings)
    return {
        "samples": n,
        "samples_on_page": content["n"],
        "layout": chosen,
        "clusters": len(findings.clusters),
        "duplicate_groups": len(findings.copies),
        "duplicate_samples": sum(map(len, findings.copies.groups)),
        "outliers": len(findings.outliers),
        "suspected_labels": None if findings.suspects is None else len(findings.suspects.rows),
        "suggested": [samples.names[i] if samples.names else str(i) for i in findings.suggested],
        "bytes": len(page),
    }


def _content(
    run: Run, samples: Samples, findings: Findings, layout: str, name: str
) -> tuple[dict[str, Any], list[bytes]]:
    """Content of the page, and its sheets of thumbnails; rows are those on the page."""
    noun, total = run.modality.noun, len(samples)
    rows, groups = _on_page(findings)
    shown, n = samples if len(rows) == total else samples.take(rows), len(rows)

    def at(members: np.ndarray) -> list[int]:
        return list(np.searchsorted(rows, members).tolist())

    similarity, near = findings.similarity, findings.neighbors
    if n < total:  # those among the samples on the page
        middle = centered(torch.from_numpy(findings.z[rows])).numpy()
        similarity, near = structure.neighbors(middle, structure.NEIGHBORS)
    near, similarity = near[:, : structure.NEIGHBORS], similarity[:, : structure.NEIGHBORS]
    sheets, content = _appearance(shown, run.modality, run.value_range_of(samples.x))
    far = findings.outliers[:OUTLIERS_SHOWN]
    suspects = _suspects(samples, findings)
    if suspects:
        suspects["rows"] = at(findings.suspects.rows[:SUSPECTS_SHOWN]) if findings.suspects else []
    content |= {
        "name": name,
        "noun": noun,
        "n": n,
        "total": total,
        "names": shown.names,
        "rows": None if n == total else pack(rows, "<u4"),
        "xy": pack(findings.xy[rows], "<f4"),
        "k": near.shape[1],
        "neighbors": pack(near, "<u4"),
        "similarity": pack(similarity, "<f4"),
        "clusters": pack(findings.clusters.labels[rows], "u1"),
        "examples": [at(examples) for examples in findings.clusters.examples],
        "duplicates": [at(members) for members in groups],
        "sizes": [len(members) for members in findings.copies.groups[:DUPLICATES_SHOWN]],
        "changes": [", ".join(words) for words in findings.copies.changes[:DUPLICATES_SHOWN]],
        "duplicateGroups": len(findings.copies),
        "outliers": at(far),
        "scores": findings.scores[far].round(2).tolist(),
        "outlierCount": len(findings.outliers),
        "factors": _factors(shown),
        "suspects": suspects,
        "suggested": at(findings.suggested),
        "made": _made(run, samples, findings, layout, name, n),
        "layout": layout,
        "rules": RULES,
    }
    if isinstance(run.modality, Audio):
        listed = [*content["examples"], *content["duplicates"], content["outliers"]]
        order = itertools.chain(*listed, suspects.get("rows", ()), content["suggested"], range(n))
        content["clips"] = tiles.clips(shown, order)
        if (heard := len(content["clips"])) < n:
            notice(f"{heard:,} of {n:,} recordings can be heard on the page, as more are too large")
        content["made"]["can be heard"] = (
            f"{heard:,} recordings, at most {tiles.CLIP_SECONDS:g} s of each"
        )
    return content, sheets


def _made(
    run: Run, samples: Samples, findings: Findings, layout: str, name: str, shown: int
) -> dict[str, str]:
    """How the page was made, in its words; of all samples, that many are on the page."""
    noun, total = run.modality.noun, len(samples)
    made = {
        noun: f"{shown:,} of {total:,} of {name}" if shown < total else f"{shown:,} of {name}",
        "run": run.path.name if run.is_trained else run.source,
        "method": str(run.config.get("method", "–")),
        "encoder": f"{run.inputs['encoder']}, {findings.z.shape[1]:,} features",
        "map": LAYOUTS[layout],
    }
    if shown < total:
        number = len(findings.fitted)
        made["fitted on"] = f"a random {number:,}; the other {noun} are placed among them"
        made["neighbors in the panel"] = f"among the {shown:,} on the page"
    if findings.recall < 1:
        percent = f"{100 * findings.recall:.0f} %"
        made["near-duplicates, outliers, labels"] = (
            f"of all {noun}, by neighbors in nearby cells, which hold {percent} of the exact ones"
        )
    if findings.factor and findings.suspects:
        y, known = samples.factors[findings.factor], samples.known(findings.factor)
        score = adjusted_mutual_info_score(y[known], findings.clusters.labels[known])
        made[f"clusters and {findings.factor}"] = f"adjusted mutual information {score:.2f}"
    return made


def _on_page(findings: Findings) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows on the page, and its groups of near-duplicates.

    All rows, or those that the map was fitted on and all listed ones.
    """
    groups = findings.copies.groups[:DUPLICATES_SHOWN]
    if len(findings.fitted) == len(findings.z):
        return findings.fitted, groups
    groups = [members[:MEMBERS_SHOWN] for members in groups]
    suspects = [findings.suspects.rows[:SUSPECTS_SHOWN]] if findings.suspects else []
    listed = [*groups, *findings.clusters.examples, *suspects, findings.outliers[:OUTLIERS_SHOWN]]
    return np.unique(np.concatenate([findings.fitted, *listed, findings.suggested])), groups


def _appearance(
    samples: Samples, modality: EncoderInput, span: tuple[float, float]
) -> tuple[list[bytes], dict[str, Any]]:
    """Sheets of thumbnails, and the data with which the page shows samples."""
    if isinstance(modality, Text):
        return [], {"texts": tiles.texts(samples, modality)}
    if isinstance(modality, Table):
        return [], {"texts": tiles.rows(samples, modality)}
    if isinstance(modality, Images):
        shown = tiles.thumbnails(samples.x, span)
    else:
        draw = tiles.curves if isinstance(modality, Series) else tiles.spectrograms
        shown = draw(samples.x[:])
    size = {"tile": [shown.shape[2], shown.shape[1]], "sheet": tiles.per_sheet(shown)}
    return list(tiles.sheets(shown)), size


def _suspects(samples: Samples, findings: Findings) -> dict[str, Any]:
    """Labels that are likely wrong, for the page; empty without classes."""
    factor, suspects = findings.factor, findings.suspects
    if factor is None or suspects is None:
        return {}
    names = samples.class_names(factor) or [
        str(code) for code in range(int(samples.factors[factor].max()) + 1)
    ]
    return {
        "factor": factor,
        "count": len(suspects.rows),
        "agreement": None if np.isnan(suspects.agreement) else round(suspects.agreement, 4),
        "tooWeak": suspects.too_weak,
        "labels": [names[code] for code in samples.factors[factor][suspects.rows[:SUSPECTS_SHOWN]]],
        "suggested": [names[code] for code in suspects.suggested[:SUSPECTS_SHOWN]],
        "margins": suspects.margins[:SUSPECTS_SHOWN].round(2).tolist(),
    }


def render(content: dict[str, Any], images: list[bytes]) -> bytes:
    """The page: the template with its numbers and thumbnails.

    File names are data, never markup: they are in JSON whose `<`, `>` and `&` are escaped, and the
    content security policy allows only the page's own script, by its hash.
    """
    template = resources.files("unlabeled.report").joinpath("explore.html")
    text = template.read_text(encoding="utf-8")
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = json.dumps(content, separators=(",", ":"))  # ASCII only: U+2028 and the like escaped
    for sign in "<>&":
        values = values.replace(sign, f"\\u{ord(sign):04x}")
    encoded = "\n".join(
        f'<script type="text/plain" class="sheet">{base64.b64encode(image).decode()}</script>'
        for image in images
    )
    # The data last, so that file names cannot contain placeholders of the template.
    for key, value in (("digest", digest), ("sheets", encoded), ("data", values)):
        text = text.replace("{{" + key + "}}", value)
    return text.encode()


def pack(array: np.ndarray, dtype: str) -> str:
    """Numbers as base64 of little-endian bytes, row by row."""
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def _factors(samples: Samples) -> list[dict[str, Any]]:
    """Groups to color by: classes, numbers in ranges of as many samples each, "no label" last.

    Not by a factor of several labels a sample, which are no groups.
    """
    factors = []
    for name, values in samples.factors.items():
        codes, classes, known = values, samples.class_names(name), samples.known(name)
        if values.ndim > 1:
            notice(f"{name} has several labels for each sample; the page and the table omit them")
            continue
        if not known.any():
            continue
        if values.dtype.kind == "f":
            edges = np.unique(np.quantile(values[known], np.linspace(0, 1, RANGES + 1)))
            codes = np.searchsorted(edges[1:-1], values, "right")
            ends = itertools.pairwise(edges) if len(edges) > 1 else [(edges[0], edges[0])]
            classes = [f"{name} {a:.4g}" + (f" to {b:.4g}" if b > a else "") for a, b in ends]
        if not known.all():
            classes = [*(classes or map(str, range(int(codes.max()) + 1))), "no label"]
            codes = np.where(known, codes, len(classes) - 1)
        if len(np.unique(codes)) > 1:
            factors.append({"name": name, "codes": pack(codes, "<i4"), "classes": classes})
    return factors


def _name(data: Any, noun: str) -> str:
    """Name of the data: only the end of a path, since the page may be shared."""
    if isinstance(data, str | Path):
        return Path(data).name or str(data)
    return str(getattr(data, "name", noun))
