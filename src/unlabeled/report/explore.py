"""An interactive, self-contained HTML page to explore a data set without labels."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import adjusted_mutual_info_score

from unlabeled.data.dataset import Samples
from unlabeled.data.targets import Classes
from unlabeled.encoders.features import centered, embed
from unlabeled.errors import UserError, notice
from unlabeled.evaluation import duplicates, structure
from unlabeled.evaluation.duplicates import Duplicates
from unlabeled.evaluation.label_errors import Suspects, suspected_labels
from unlabeled.evaluation.structure import Layout
from unlabeled.modality import Audio, EncoderInput, Images, Text
from unlabeled.report import tiles
from unlabeled.report.points import check_table, write_points
from unlabeled.runs.run import Run
from unlabeled.utils.files import write_bytes
from unlabeled.utils.progress import can_draw, is_shown, line, showing, status
from unlabeled.utils.state import preserve_rng

MOST = 50_000
"""Samples on a page: what a browser draws at once, and the time for all pairs allows."""
VOTERS = 20
"""Neighbors whose labels are compared with each label."""
SUSPECTS_SHOWN = 200
DUPLICATES_SHOWN = 200
OUTLIERS_SHOWN = 60
RANGES = 6
"""Groups that a factor of numbers is shown in."""
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
}
"""What the page says of its own making."""
LAYOUTS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


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
    seed: int = 0,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Write a page to explore samples by: a map, neighbors, clusters, duplicates, outliers.

    Of more than 50,000 samples a random 50,000 are explored. Recordings are shown as spectrograms
    and can be heard, texts are shown as text; near-duplicates of both are those that are identical.

    Args:
        run: whose encoder says what is alike.
        data: samples in any form that `unlabeled.open_data` knows.
        out: the `.html` file to write; it holds all it needs, thumbnails included.
        labels_from: where labels of files are, as for `open_data`; the map is colored by them, and
            labels that are likely wrong are listed.
        table: also write what was found of each sample to this .csv or .parquet file.
        layout: layout of the map; auto is UMAP if installed, or else t-SNE, or PCA for many images.
        clusters: number of clusters (default: the one with the best silhouette).
        seed: random seed of the map and the clusters.
        progress: say what is computed, and show bars (default: in commands only).

    Returns:
        what was found: samples, clusters, near-duplicate groups and their samples, outliers, labels
        that are likely wrong (None without classes), the layout, and the bytes of the page.

    Raises:
        UserError: too few samples, no such layout, a number of clusters or a seed that does not
            work, features that show nothing, or `out` is no .html file.
    """
    with showing(is_shown(progress)):
        return _explore(run, data, out, labels_from, table, layout, clusters, seed)


def _explore(
    run: Run,
    data: Any,
    out: str | Path,
    labels_from: Any,
    table: str | Path | None,
    layout: Layout,
    clusters: int | None,
    seed: int,
) -> dict[str, Any]:
    out = Path(out).expanduser()
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out is {out}; give an .html file")
    check_table(table)
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}, but must be from 0 to {2**32 - 1}")
    samples = run.read(data, labels_from)
    noun = run.modality.noun
    n = total = len(samples)
    if n < 3:
        raise UserError(
            f"{n} {noun.removesuffix('s' * (n == 1))} cannot make a map; give at least 3"
        )
    rows = np.arange(n)
    if n > MOST:
        rows = np.sort(np.random.default_rng(seed).permutation(n)[:MOST])
        notice(
            f"the page shows a random {MOST:,} of {n:,} {noun}; to map all, write their features "
            "with `unlabeled embed --out FILE.parquet` and open that with Embedding Atlas "
            "(`embedding-atlas FILE.parquet --vector features`)"
        )
        samples, n = samples.take(rows), MOST
    chosen = structure.choose_layout(layout, n)
    structure.check_clusters(clusters, n)
    out.parent.mkdir(parents=True, exist_ok=True)
    span = run.value_range_of(samples.x)
    if not can_draw():  # else `embed` shows a bar
        line(f"explore: features of {n:,} {noun}")
    z = embed(run.encoder, samples.x, span)
    structure.check_features(z)
    with _status("neighbors and outliers"):
        similarity, near = structure.neighbors(centered(torch.from_numpy(z)).numpy(), VOTERS)
        # Not centered: what lies near the mean has neighbors in no direction, and is no outlier.
        far, scores = structure.outliers(structure.neighbors(z, structure.DENSITY)[0])
    factor = _class_factor(samples)
    suspects = suspected_labels(similarity, near, samples.factors[factor]) if factor else None
    similarity, near = (part[:, : structure.NEIGHBORS] for part in (similarity, near))
    with _status("clusters"):
        grouped = structure.cluster(z, clusters, seed)
    with _status(f"map by {LAYOUTS[chosen]}"):
        xy = structure.place(z, chosen, seed)
    with _status("near-duplicates"):
        copies, sheets, content = _appearance(samples, run.modality, span)
    name = _name(data, noun)
    content |= {
        "name": name,
        "noun": noun,
        "n": n,
        "names": samples.names,
        "xy": pack(xy, "<f4"),
        "k": near.shape[1],
        "neighbors": pack(near, "<u4"),
        "similarity": pack(similarity, "<f4"),
        "clusters": pack(grouped.labels, "u1"),
        "examples": [found.tolist() for found in grouped.examples],
        "duplicates": [rows.tolist() for rows in copies.groups[:DUPLICATES_SHOWN]],
        "changes": [", ".join(words) for words in copies.changes[:DUPLICATES_SHOWN]],
        "duplicateGroups": len(copies),
        "outliers": far[:OUTLIERS_SHOWN].tolist(),
        "scores": scores[far[:OUTLIERS_SHOWN]].round(2).tolist(),
        "outlierCount": len(far),
        "factors": _factors(samples),
        "labeled": labels_from is not None,
        "suspects": _suspects(samples, factor, suspects),
        "made": {
            noun: f"{n:,} of {total:,} of {name}" if n < total else f"{n:,} of {name}",
            "run": run.path.name if run.is_trained else run.source,
            "method": str(run.config.get("method", "–")),
            "encoder": f"{run.inputs['encoder']}, {z.shape[1]:,} features",
            "map": LAYOUTS[chosen],
            "clusters": f"k-means, {len(grouped)} "
            + ("by the silhouette" if clusters is None else "as asked for"),
            "seed": str(seed),
        },
        "layout": chosen,
        "rules": RULES,
    }
    if isinstance(run.modality, Audio):
        listed = [*content["examples"], *content["duplicates"], content["outliers"]]
        order = itertools.chain(*listed, content["suspects"].get("rows", ()), range(n))
        content["clips"] = tiles.clips(samples, order)
        if (heard := len(content["clips"])) < n:
            notice(f"{heard:,} of {n:,} recordings can be heard on the page, as more are too large")
        content["made"]["can be heard"] = (
            f"{heard:,} recordings, at most {tiles.CLIP_SECONDS:g} s of each"
        )
    if factor and suspects:
        y, known = samples.factors[factor], samples.known(factor)
        shared = adjusted_mutual_info_score(y[known], grouped.labels[known])
        content["made"][f"clusters and {factor}"] = f"adjusted mutual information {shared:.2f}"
    with _status("page"):
        page = render(content, sheets)
        write_bytes(out, page)
    if table is not None:
        path = Path(table).expanduser()
        write_points(
            path, samples, rows, xy, grouped.labels, copies.groups, scores, suspects, factor
        )
    return {
        "samples": n,
        "layout": chosen,
        "clusters": len(grouped),
        "duplicate_groups": len(copies),
        "duplicate_samples": sum(map(len, copies.groups)),
        "outliers": len(far),
        "suspected_labels": None if suspects is None else len(suspects.rows),
        "bytes": len(page),
    }


def _appearance(
    samples: Samples, modality: EncoderInput, span: tuple[float, float]
) -> tuple[Duplicates, list[bytes], dict[str, Any]]:
    """Near-duplicates, sheets of thumbnails, and what the page has to know to show samples."""
    if isinstance(modality, Text):
        texts = tiles.texts(samples, modality)
        return duplicates.identical(samples.x[:]), [], {"texts": texts}
    if isinstance(modality, Images):
        shown, small = tiles.thumbnails(samples.x, span)
        copies = duplicates.near_duplicates(small)
    else:
        shown, copies = tiles.spectrograms(samples.x[:]), duplicates.identical(samples.x[:])
    size = {"tile": [shown.shape[2], shown.shape[1]], "sheet": tiles.per_sheet(shown)}
    return copies, list(tiles.sheets(shown)), size


def _class_factor(samples: Samples) -> str | None:
    """The first factor with several classes, which labels are compared by."""
    classes = (
        name
        for name, values in samples.factors.items()
        if isinstance(samples.targets.get(name), Classes)
        and values.ndim == 1
        and len(np.unique(values[values >= 0])) > 1
    )
    return next(classes, None)


def _suspects(samples: Samples, factor: str | None, found: Suspects | None) -> dict[str, Any]:
    """Labels that are likely wrong, for the page; empty without classes."""
    if factor is None or found is None:
        return {}
    names = samples.class_names(factor) or [
        str(code) for code in range(int(samples.factors[factor].max()) + 1)
    ]
    rows = found.rows[:SUSPECTS_SHOWN]
    return {
        "factor": factor,
        "count": len(found.rows),
        "agreement": round(found.agreement, 4),
        "rows": rows.tolist(),
        "labels": [names[code] for code in samples.factors[factor][rows]],
        "suggested": [names[code] for code in found.suggested[:SUSPECTS_SHOWN]],
        "margins": found.margins[:SUSPECTS_SHOWN].round(2).tolist(),
    }


def render(content: dict[str, Any], images: list[bytes]) -> bytes:
    """The page: the template with its numbers and thumbnails.

    Names of files are data, never markup: they stand in JSON whose `<`, `>` and `&` are escaped,
    and the page runs no script but its own, whose hash its security policy names.
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
    # The names last, so that none of them can stand for a place in the template.
    for place, value in (("digest", digest), ("sheets", encoded), ("data", values)):
        text = text.replace("{{" + place + "}}", value)
    return text.encode()


def pack(array: np.ndarray, dtype: str) -> str:
    """Numbers as base64 of little-endian bytes, row by row."""
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def _factors(samples: Samples) -> list[dict[str, Any]]:
    """Groups to color by: classes, numbers in ranges of as many samples each, "no label" last."""
    found = []
    for name, values in samples.factors.items():
        codes, classes, known = values, samples.class_names(name), samples.known(name)
        if values.dtype.kind == "f":
            edges = np.unique(np.quantile(values[known], np.linspace(0, 1, RANGES + 1)))
            codes = np.searchsorted(edges[1:-1], values, "right")
            classes = [f"{name} {a:.4g} to {b:.4g}" for a, b in itertools.pairwise(edges)]
        if not known.all():
            classes = [*(classes or map(str, range(int(codes.max()) + 1))), "no label"]
            codes = np.where(known, codes, len(classes) - 1)
        if len(np.unique(codes)) > 1:
            found.append({"name": name, "codes": pack(codes, "<i4"), "classes": classes})
    return found


def _name(data: Any, noun: str) -> str:
    """What the samples are called: of a path only its end, since the page may be passed on."""
    if isinstance(data, str | Path):
        return Path(data).name or str(data)
    return str(getattr(data, "name", noun))


def _status(doing: str) -> AbstractContextManager[Any]:
    return status(doing, "explore")
