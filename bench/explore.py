"""Size and speed of the explore page of 10,000 real images, in a headless Chromium.

PYTHONPATH=tests UNLABELED_DATA=… python bench/explore.py      writes results/explore_page.json

The features are 64 principal components of the pixels. Frame times are those of a browser without a
graphics card, the slowest case.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from browser import Browser
from PIL import Image

from unlabeled.encoders.base import build
from unlabeled.modality import Images, to_json
from unlabeled.report.explore import explore
from unlabeled.runs.run import Run
from unlabeled.utils.files import write_json

IMAGES = 10_000
SEED = 0
CLICKS = 20


def main() -> None:
    """Build the page, use it and write the result."""
    source = Path(os.environ.get("UNLABELED_DATA", "../shared/data"))
    x, y = cifar(source / "cifar10" / "cifar10_jpeg.npz")
    encoder: Any = build("pca", 3, (32, 32), dim=64)
    encoder.summary.fit(torch.from_numpy(x[:2000]).float() / 255)
    inputs = {"encoder": "pca", "dim": 64, "modality": to_json(Images(3, (32, 32)))}
    run = Run(Path("pca"), encoder, {"method": "pca"}, inputs)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        started = time.perf_counter()
        written = explore(run, (x, y), page, layout="tsne", seed=SEED)
        build_seconds = time.perf_counter() - started
        with Browser() as browser:
            measured = measure(browser, page)
    result = {
        "command": "PYTHONPATH=tests python bench/explore.py",
        "images": IMAGES,
        "image_pixels": 32,
        "page_megabytes": round(written["bytes"] / 1e6, 2),
        "seconds_to_make": round(build_seconds, 1),
        **measured,
        "gpu": False,
        "window": [1440, 900],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "seed": SEED,
    }
    write_json(Path("results/explore_page.json"), result)
    print(result)


def cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first images (N, 3, 32, 32), and their classes."""
    with np.load(path) as real:
        content, offsets = real["train_jpeg"], real["train_offsets"]
        y = real["train_labels"][:IMAGES].astype(np.int64)
    images = [
        np.asarray(Image.open(io.BytesIO(content[offsets[i] : offsets[i + 1]].tobytes())))
        for i in range(IMAGES)
    ]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)), y


def measure(browser: Browser, page: Path) -> dict[str, Any]:
    """Milliseconds until the first paint, from a click to its effect, and per frame of a zoom."""
    browser.open(page)
    browser.open(page)  # the second time, as the first also starts the browser's own processes
    paint = browser.js("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    ready = browser.js("performance.getEntriesByName('thumbnails')[0].startTime")
    # From a click's event to the frame after the one that draws its answer.
    browser.js(
        "window.waits = []; addEventListener('pointerup', (event) => requestAnimationFrame(() =>"
        " requestAnimationFrame(() => waits.push(performance.now() - event.timeStamp))), true)"
    )
    for i in np.random.default_rng(SEED).integers(IMAGES, size=CLICKS):
        x, y = browser.js(
            "(() => { const box = document.getElementById('map').getBoundingClientRect();"
            f" const [x, y] = explorer.at({i}); return [box.x + x, box.y + y]; }})()"
        )
        browser.click(x, y)
        assert browser.js("explorer.state().selected") >= 0
        browser.key("Escape")
    browser.js(
        "window.times = []; window.stop = false; (function tick(now) { times.push(now);"
        " if (!stop) requestAnimationFrame(tick); })(performance.now())"
    )
    for delta in [-60] * 40 + [60] * 40:
        browser.wheel(500, 450, delta)
    browser.js("stop = true")
    frames = np.diff(browser.js("times"))[1:]
    cost = browser.js(
        "(() => { const begin = performance.now(); for (let i = 0; i < 30; i++) draw();"
        " return (performance.now() - begin) / 30; })()"
    )
    waits = browser.js("waits")
    assert browser.errors == []
    return {
        "first_paint_ms": round(paint),
        "thumbnails_ready_ms": round(ready),
        "click_to_paint_ms": {
            "median": round(statistics.median(waits), 1),
            "worst": round(max(waits), 1),
        },
        "zoom_frame_ms": {
            "median": round(float(np.median(frames)), 1),
            "p95": round(float(np.quantile(frames, 0.95)), 1),
            "frames": len(frames),
        },
        "draw_script_ms": round(cost, 2),
    }


if __name__ == "__main__":
    main()
