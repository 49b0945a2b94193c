"""An interactive, self-contained HTML page to explore a data set without labels."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console

from unlabeled.data.dataset import LazyImages, Samples, to_float
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError
from unlabeled.evaluation import duplicates, structure
from unlabeled.evaluation.structure import Layout
from unlabeled.modality import Images
from unlabeled.runs.run import Run
from unlabeled.utils.files import write_bytes
from unlabeled.utils.state import preserve_rng

MOST = 100_000
"""Images on a page: what a browser draws at once, and the time for all pairs allows."""
LARGEST = 128
"""Pixels of a thumbnail's longer side."""
PIXELS = 42_000_000
"""Of all thumbnails: 10,000 of 64×64, which a browser holds decoded in 170 MB."""
SHEET = 1024
"""Pixels of a side of the sheets that thumbnails are packed into."""
QUALITY = 80
"""Of WebP."""
BLOCK = 500
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
}
"""What the page says of its own making."""
LAYOUTS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


@preserve_rng()
def explore(
    run: Run,
    data: Any,
    out: str | Path,
    *,
    layout: Layout = "auto",
    clusters: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write a page to explore images by: a map, neighbors, clusters, duplicates, outliers.

    Args:
        run: whose encoder says what is alike.
        data: images in any form that `unlabeled.open_data` knows.
        out: the `.html` file to write; it holds all it needs, thumbnails included.
        layout: layout of the map; auto is UMAP if installed, or else t-SNE, or PCA for many images.
        clusters: number of clusters (default: the one with the best silhouette).
        seed: random seed of the map and the clusters.

    Returns:
        what was found: images, clusters, near-duplicate groups and their images, outliers, the
        layout, and the bytes of the page.

    Raises:
        UserError: too few or too many images, no such layout, a number of clusters or a seed that
            does not work, features that show nothing, or `out` is no .html file.
    """
    out = Path(out).expanduser()
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out is {out}; give an .html file")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}, but must be from 0 to {2**32 - 1}")
    if not isinstance(run.modality, Images):
        raise UserError(f"{run.path} is not a run on images; use `unlabeled embed` to get features")
    samples = run.read(data)
    n = len(samples)
    if n < 3:
        raise UserError(f"{n} image{'s' * (n != 1)} cannot make a map; give at least 3")
    if n > MOST:
        raise UserError(f"{n:,} images are too many for one page; give at most {MOST:,}")
    chosen = structure.choose_layout(layout, n)
    structure.check_clusters(clusters, n)
    out.parent.mkdir(parents=True, exist_ok=True)
    span = run.value_range_of(samples.x)
    with _status(f"features of {n:,} images"):
        z = embed(run.encoder, samples.x, span)
    structure.check_features(z)
    with _status("thumbnails"):
        tiles, small = thumbnails(samples.x, span)
    with _status("neighbors, near-duplicates and outliers"):
        similarity, rows = structure.neighbors(z)
        copies = duplicates.near_duplicates(small)
        far, scores = structure.outliers(similarity)
    with _status("clusters"):
        grouped = structure.cluster(z, clusters, seed)
    with _status(f"map by {LAYOUTS[chosen]}"):
        xy = structure.place(z, chosen, seed)
    name = _name(data)
    content = {
        "name": name,
        "n": n,
        "tile": [tiles.shape[2], tiles.shape[1]],
        "sheet": _per_sheet(tiles),
        "names": samples.names,
        "xy": pack(xy, "<f4"),
        "k": rows.shape[1],
        "neighbors": pack(rows, "<u4"),
        "similarity": pack(similarity, "<f4"),
        "clusters": pack(grouped.labels, "u1"),
        "examples": [found.tolist() for found in grouped.examples],
        "duplicates": [rows.tolist() for rows in copies.groups[:DUPLICATES_SHOWN]],
        "changes": [", ".join(words) for words in copies.changes[:DUPLICATES_SHOWN]],
        "duplicateGroups": len(copies),
        "outliers": far[:OUTLIERS_SHOWN].tolist(),
        "scores": scores[:OUTLIERS_SHOWN].round(2).tolist(),
        "outlierCount": len(far),
        "factors": _factors(samples),
        "made": {
            "images": f"{n:,} of {name}, {samples.x.shape[3]} × {samples.x.shape[2]} pixels",
            "run": run.path.name,
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
    with _status("page"):
        page = render(content, list(sheets(tiles)))
        write_bytes(out, page)
    return {
        "images": n,
        "layout": chosen,
        "clusters": len(grouped),
        "duplicate_groups": len(copies),
        "duplicate_images": sum(map(len, copies.groups)),
        "outliers": len(far),
        "bytes": len(page),
    }


def thumbnails(
    x: np.ndarray | LazyImages, span: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W), read in blocks, as two sets of thumbnails.

    Of one or two channels the first is shown in gray, of more the first three in color.

    Returns:
        to show, uint8 (N, h, w, 1 or 3); to compare, uint8 (N, 1 or 3, 32, 32).
    """
    n, channels, height, width = x.shape
    shown = 3 if channels >= 3 else 1
    scale = min(1.0, LARGEST / max(height, width), (PIXELS / (n * height * width)) ** 0.5)
    size = max(1, int(height * scale)), max(1, int(width * scale))
    tiles = np.empty((n, *size, shown), np.uint8)
    small = np.empty((n, shown, duplicates.SIDE, duplicates.SIDE), np.uint8)
    for start in range(0, n, BLOCK):
        block = np.ascontiguousarray(x[start : start + BLOCK][:, :shown])
        part = torch.from_numpy(block if block.dtype == np.uint8 else block.astype(np.float32))
        part = to_float(part, span).clamp(0, 1)
        small[start : start + BLOCK] = _resized(part, (duplicates.SIDE, duplicates.SIDE))
        tiles[start : start + BLOCK] = _resized(part, size).transpose(0, 2, 3, 1)
    return tiles, small


def sheets(tiles: np.ndarray) -> Iterator[bytes]:
    """Thumbnails (N, h, w, c) packed row by row into WebP sheets of about 1024 pixels a side."""
    n, height, width, channels = tiles.shape
    columns, rows = _per_sheet(tiles)
    for start in range(0, n, columns * rows):
        part = tiles[start : start + columns * rows]
        used = -(-len(part) // columns)
        full = np.zeros((used * columns, height, width, channels), np.uint8)
        full[: len(part)] = part
        grid = full.reshape(used, columns, height, width, channels).swapaxes(1, 2)
        array = grid.reshape(used * height, columns * width, channels)
        content = io.BytesIO()
        Image.fromarray(array[..., 0] if channels == 1 else array).save(
            content, "WEBP", quality=QUALITY
        )
        yield content.getvalue()


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


def _resized(x: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Images (B, C, H, W) in 0..1 as uint8 of another size."""
    if x.shape[2:] != size:
        x = F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)
    return (x * 255).round().byte().numpy()


def _per_sheet(tiles: np.ndarray) -> list[int]:
    """Columns and rows of a full sheet."""
    return [max(1, SHEET // tiles.shape[2]), max(1, SHEET // tiles.shape[1])]


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
        found.append({"name": name, "codes": pack(codes, "<i4"), "classes": classes})
    return found


def _name(data: Any) -> str:
    """What the images are called: of a path only its end, since the page may be passed on."""
    if isinstance(data, str | Path):
        return Path(data).name or str(data)
    return str(getattr(data, "name", "images"))


def _status(doing: str) -> AbstractContextManager[Any]:
    """Say on standard error what goes on."""
    if sys.stderr.isatty():
        return Console(stderr=True).status(f"{doing} …")
    print(f"explore: {doing}", file=sys.stderr)
    return nullcontext()
