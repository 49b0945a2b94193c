"""The page to explore images by: its numbers against plain loops, its content, its clicks."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import browser
import numpy as np
import pytest
import torch
from PIL import Image

import unlabeled as ul
from unlabeled.encoders.base import build
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation import cells, structure
from unlabeled.modality import Images, to_json
from unlabeled.report import explore as page
from unlabeled.report import tiles
from unlabeled.report.explore import explore
from unlabeled.runs.run import Run


def blobs(n=120, d=8, groups=3, spread=0.05, seed=0):
    """Features around orthogonal directions, and which."""
    rng = np.random.default_rng(seed)
    y = rng.integers(groups, size=n)
    return (np.eye(d)[y] + spread * rng.normal(size=(n, d))).astype(np.float32), y


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def raw_run(tmp_path, channels=3, size=(8, 8), span=(0.0, 1.0)):
    """A run whose features are the pixels themselves."""
    encoder = build("raw", channels, size)
    inputs = {
        "encoder": "raw",
        "args": {},
        "dim": encoder.dim,
        "modality": to_json(Images(channels, tuple(size), tuple(span))),
    }
    return Run(tmp_path / "raw", encoder, {"method": "none"}, inputs)


def images(n=30, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, channels, 8, 8), dtype=np.uint8)


def read_page(path: Path):
    text = path.read_text(encoding="utf-8")
    result = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    sheets = re.findall(r'class="sheet">(.*?)</script>', text)
    return json.loads(result[1]), [Image.open(io.BytesIO(base64.b64decode(s))) for s in sheets]


def unpack(text, dtype, *shape):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(*shape)


def test_neighbors_equal_a_loop():
    z, _ = blobs(40, spread=1.0)
    similarity, rows = structure.neighbors(z, 5)
    for i in range(len(z)):
        all_ = [(cosine(z[i], z[j]), j) for j in range(len(z)) if j != i]
        best = sorted(all_, reverse=True)[:5]
        assert [j for _, j in best] == rows[i].tolist()
        np.testing.assert_allclose(similarity[i], [s for s, _ in best], atol=1e-5)


def test_neighbors_of_a_image_never_hold_itself():
    z = np.ones((30, 4), np.float32)
    _, rows = structure.neighbors(z, 12)
    assert rows.shape == (30, 12)
    assert (rows != np.arange(30)[:, None]).all()
    assert structure.neighbors(z[:3], 12)[1].shape == (3, 2)


@pytest.mark.parametrize("groups", [3, 5])
def test_clusters_find_the_groups_and_their_number(groups):
    z, y = blobs(200, groups=groups)
    result = structure.cluster(z, seed=1)
    assert len(result) == groups
    sizes = np.bincount(result.labels)
    assert (np.diff(sizes) <= 0).all()
    for label in range(groups):
        assert len(np.unique(y[result.labels == label])) == 1
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    for label, examples in enumerate(result.examples):
        members = np.flatnonzero(result.labels == label)
        center = unit[members].mean(0)
        away = {i: np.linalg.norm(unit[i] - center) for i in members}
        nearest = sorted(away, key=away.get)[: structure.EXAMPLES]
        np.testing.assert_allclose([away[i] for i in examples], [away[i] for i in nearest], 1e-3)


def test_clusters_are_as_many_as_asked_unless_images_are_the_same():
    z, _ = blobs(60, spread=0.5)
    assert len(structure.cluster(z, 7)) == 7
    twins = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    result = structure.cluster(twins, 6)
    assert len(result) == 4
    assert set(result.labels) == set(range(4))


@pytest.mark.parametrize("layout", ["pca", "tsne"])
def test_others_than_the_fitted_are_placed_and_grouped_by_them(layout, monkeypatch):
    """Catches rows that stay at the origin or in the first cluster, and blocks that overlap."""
    monkeypatch.setattr(structure, "BLOCK", 7)
    z, y = blobs(240, spread=0.1)
    fitted = np.arange(0, 240, 3)
    result = structure.cluster(z, 3, fitted=fitted)
    np.testing.assert_array_equal(result.labels[fitted], structure.cluster(z[fitted], 3).labels)
    others = np.setdiff1d(np.arange(240), fitted)
    assert [len(np.unique(y[result.labels == c])) for c in range(3)] == [1, 1, 1]
    xy = structure.project(z, layout, fitted=fitted)
    assert np.abs(xy).max() == pytest.approx(1, abs=1e-5)
    nearest = fitted[np.linalg.norm(xy[others, None] - xy[fitted], axis=2).argmin(1)]
    assert (y[nearest] == y[others]).mean() > 0.98


@pytest.mark.parametrize("twins", [0, 700])
def test_neighbors_of_many_rows_are_searched_in_cells(twins, monkeypatch):
    """Catches rows that no cell compares, and cells of equal rows that grow without bound."""
    monkeypatch.setattr(cells, "EXACT", 500)
    monkeypatch.setattr(cells, "COMPARED", 200)
    rng = np.random.default_rng(0)
    z = (blobs(2000, groups=8, spread=0.05)[0] + 0.05 * rng.normal(size=(2000, 8))).astype("f4")
    z[:twins] = z[0]
    keys = torch.nn.functional.normalize(torch.from_numpy(z))
    blocks = list(cells.comparisons(keys))
    assert sorted(np.concatenate([rows for rows, _ in blocks])) == list(range(2000))
    assert all(np.isin(rows, others).all() for rows, others in blocks)
    assert min(len(others) for _, others in blocks) >= 200
    assert max(len(others) for _, others in blocks) <= 600
    similarity, result = structure.neighbors(z, 10)
    assert (result != np.arange(2000)[:, None]).all()
    np.testing.assert_allclose(
        similarity[::97, 0], [cosine(z[i], z[result[i, 0]]) for i in range(0, 2000, 97)], atol=1e-5
    )
    some = np.arange(twins, 2000, 7)
    assert structure.neighbor_recall(z, result, some) > 0.9
    assert structure.neighbor_recall(z, np.roll(result, 1, 0), some) < 0.5


def test_outliers_equal_a_loop():
    z, _ = blobs(80, spread=0.02)
    z[17], z[40] = -z[17], -z[40] + 0.2
    similarity, _ = structure.neighbors(z)
    rows, scores = structure.outliers(similarity)
    mean = []
    for i in range(len(z)):
        away = sorted(1 - cosine(z[i], z[j]) for j in range(len(z)) if j != i)
        mean.append(np.mean(away[:10]))
    off = np.array(mean) - np.median(mean)
    robust = off / (1.4826 * np.median(np.abs(off)))
    assert set(rows[:2]) == {17, 40}
    assert set(rows) == set(np.flatnonzero(robust >= 3.5))
    np.testing.assert_allclose(scores[rows], robust[rows], rtol=1e-2)


@pytest.mark.parametrize("layout", ["pca", "tsne"])
@pytest.mark.parametrize("shape", [(3, 5), (60, 1), (60, 8)])
def test_maps_are_seeded_finite_and_within_one(layout, shape):
    z = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    xy = structure.project(z, layout, seed=3)
    assert xy.shape == (shape[0], 2)
    assert np.abs(xy).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(xy, structure.project(z, layout, seed=3))


def test_a_map_keeps_groups_together():
    z, y = blobs(90)
    xy = structure.project(z, "tsne")
    away = np.linalg.norm(xy[:, None] - xy[None], axis=2) + 9 * np.eye(len(z))
    assert (y[away.argmin(1)] == y).mean() > 0.98


def test_umap_is_taken_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(structure, "find_spec", lambda name: object())
    assert structure.choose_layout("auto", 100) == "umap"
    monkeypatch.setattr(structure, "find_spec", lambda name: None)
    assert structure.choose_layout("auto", 100) == "tsne"
    assert structure.choose_layout("auto", 20_001) == "pca"
    with pytest.raises(UserError, match=r"pip install 'unlabeled\[umap\]'"):
        structure.choose_layout("umap", 100)
    with pytest.raises(UserError, match="choose one of"):
        structure.choose_layout("circle", 100)


def test_the_page_holds_what_was_computed(trained, sprites, tmp_path):
    x, y = sprites
    out = tmp_path / "page.html"
    with pytest.warns(Notice, match="too weak to judge labels"):
        text = explore(trained, (x[:150], y[:150]), out, layout="pca", clusters=4, seed=2)
    data, sheets = read_page(out)
    assert text["bytes"] == out.stat().st_size
    assert (text["samples"], text["clusters"], text["layout"]) == (150, 4, "pca")
    z = trained.embed(x[:150])
    similarity, rows = structure.neighbors(z - z.mean(0, dtype=np.float64).astype(np.float32))
    np.testing.assert_array_equal(unpack(data["neighbors"], "<u4", 150, 12), rows)
    np.testing.assert_array_equal(unpack(data["similarity"], "<f4", 150, 12), similarity)
    np.testing.assert_array_equal(
        unpack(data["xy"], "<f4", 150, 2), structure.project(z, "pca", seed=2)
    )
    grouped = structure.cluster(z, 4, seed=2)
    np.testing.assert_array_equal(unpack(data["clusters"], "u1", 150), grouped.labels)
    assert data["examples"] == [result.tolist() for result in grouped.examples]
    (factor,) = data["factors"]
    np.testing.assert_array_equal(unpack(factor["codes"], "<i4", 150), y[:150])
    width, height = data["tile"]
    columns, per_column = data["sheet"]
    for i in (0, 71, 149):
        sheet = np.asarray(sheets[i // (columns * per_column)].convert("L")).astype(float) / 255
        at = i % (columns * per_column)
        top, left = at // columns * height, at % columns * width
        shown = sheet[top : top + height, left : left + width]
        assert np.abs(shown - x[i] / max(x.max(), 1)).mean() < 0.03


def test_the_page_needs_nothing_else(tmp_path):
    out = tmp_path / "page.html"
    explore(raw_run(tmp_path), images(), out, layout="pca")
    text = out.read_text(encoding="utf-8")
    assert not re.search(r"https?://|\ssrc=|@import|url\(", text)
    assert "{{" not in text.replace("${{", "")


@pytest.mark.parametrize(
    ("channels", "dtype", "high"),
    [(1, np.uint8, 255), (2, np.float32, 1), (3, np.float32, 7), (4, np.uint8, 255)],
)
def test_any_channels_and_types_have_thumbnails(channels, dtype, high):
    rng = np.random.default_rng(0)
    x = (rng.random((12, channels, 40, 20)) * high).astype(dtype)
    span = (0.0, float(high))
    thumbs, small = tiles.thumbnails(x, span), tiles.to_compare(x, span)
    shown = 3 if channels >= 3 else 1
    assert thumbs.shape == (12, 40, 20, shown)
    assert small.shape == (12, shown, 32, 32)
    expected = x[:, :shown].transpose(0, 2, 3, 1).astype(float) * 255 / high
    assert np.abs(thumbs - expected).max() <= 0.51


def test_large_images_are_shown_small_and_read_in_blocks():
    class Lazy:
        shape, dtype, most = (1100, 3, 60, 256), np.dtype(np.uint8), 0

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, rows):
            n = len(range(*rows.indices(len(self))))
            self.most = max(self.most, n)
            return np.full((n, *self.shape[1:]), 200, np.uint8)

    x = Lazy()
    thumbs = tiles.thumbnails(x, (0, 1))
    assert thumbs.shape == (1100, 30, 128, 3)
    assert (thumbs == 200).all()
    assert x.most <= tiles.BLOCK


HOSTILE = [
    "</script><img src=x onerror=alert(1)>.png",
    "quote\"'`${1}\\.png",
    "線\u2028\u2029 & <b>bold<!--.png",
    "{{sheets}}{{digest}}.png",
    "\udcff.png",
]


def hostile_page(tmp_path):
    x = images(40)
    names = [HOSTILE[i] if i < len(HOSTILE) else f"plain/{i}.png" for i in range(len(x))]
    samples = ul.data.Samples(x, names=names)
    run = raw_run(tmp_path)
    out = tmp_path / "hostile.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run), "read", lambda *_: samples)
        explore(run, "<img src=x onerror=alert(1)>", out, layout="pca", clusters=3)
    return out, names


def test_names_stay_data(tmp_path):
    out, names = hostile_page(tmp_path)
    text = out.read_text(encoding="utf-8")
    data, _ = read_page(out)
    assert data["names"] == names
    assert "onerror" not in text.replace("\\u003e", ">").split('id="data">')[0]
    assert text.count("</script>") == 2 + text.count('class="sheet">')
    assert text.isascii() or all(
        name not in text for name in ("\u2028", "\u2029", "線", "<img src=x")
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"out": "page.pdf"}, "give an .html file"),
        ({"data": images(2)}, "give at least 3"),
        ({"layout": "circle"}, "no layout 'circle'"),
        ({"clusters": 1}, "must be from 2 to 29"),
        ({"clusters": 30}, "must be from 2 to 29"),
        ({"seed": -1}, "from 0 to"),
        ({"data": np.full((9, 3, 8, 8), 7, np.uint8)}, "collapsed"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(change, match, tmp_path):
    options = {"data": images(), "out": "page.html", "layout": "pca", "clusters": None} | change
    out = tmp_path / options.pop("out")
    with pytest.raises(UserError, match=match):
        explore(raw_run(tmp_path), options.pop("data"), out, **options)
    assert not out.exists()


def test_features_that_are_not_finite_are_refused(tmp_path):
    run = raw_run(tmp_path)
    run.encoder.summary = torch.nn.Sequential(torch.nn.Flatten(), Broken())
    with pytest.raises(UserError, match="NaN or infinite"):
        explore(run, images(), tmp_path / "page.html")


class Broken(torch.nn.Module):
    def forward(self, x):
        return x / 0


def oklab(linear):
    """Linear sRGB (N, 3) to OKLab (Ottosson 2020), where distance is what the eye sees."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ cones.T) @ lab.T


# Machado, Oliveira & Fernandes 2009, severity 1, on linear sRGB.
SIGHTS = {
    "full": np.eye(3),
    "red-blind": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "green-blind": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_colors_stay_apart(sight):
    text = Path(page.__file__).with_name("explore.html").read_text(encoding="utf-8")
    colors = re.findall(r"#[0-9a-f]{6}", text.partition("const PALETTE = [")[2].partition("]")[0])
    srgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colors])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = oklab(np.clip(linear @ np.array(SIGHTS[sight]).T, 0, 1))
    away = np.linalg.norm(seen[:, None] - seen[None], axis=2) + np.eye(len(seen))
    assert len(colors) == 12
    assert away.min() > 0.08  # four times what the eye just tells apart


# ---- In a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    if browser.find() is None:
        pytest.skip("no Chromium here: install chromium or google-chrome")
    with browser.Browser() as running:
        yield running


@pytest.fixture(scope="module")
def shown(trained, sprites, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown") / "sprites"
    folder.mkdir()
    for i, image in enumerate(sprites[0][:80]):
        array = (image > 0).astype(np.uint8) * 255
        Image.fromarray(array).save(folder / f"{('square', 'ellipse', 'heart')[i % 3]}-{i:03}.png")
    # Copies of one image, which the page shall find.
    shutil.copy(folder / "square-000.png", folder / "zz-copy.png")
    out = folder.parent / "page.html"
    text = explore(trained, folder, out, layout="tsne", clusters=4)
    names = sorted(path.name for path in folder.iterdir())
    z = trained.embed(folder)
    return out, text, names, z


def on_screen(chromium, i):
    return chromium.js(
        "(() => { const box = document.getElementById('map').getBoundingClientRect();"
        f" const [x, y] = explorer.at({i}); return [box.x + x, box.y + y]; }})()"
    )


def listed(chromium, selector):
    return chromium.js(
        f"[...document.querySelectorAll('{selector} .pic')].map((p) => Number(p.dataset.image))"
    )


def loneliest(chromium, n):
    """An image that no other lies on."""
    at = np.array([on_screen(chromium, i) for i in range(n)])
    away = np.linalg.norm(at[:, None] - at[None], axis=2) + 1e9 * np.eye(n)
    return int(away.min(1).argmax())


def test_clicks_do_what_they_promise(chromium, shown):
    out, text, names, z = shown
    n = len(names)
    chromium.open(out)
    z = z - z.mean(0, dtype=np.float64)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosines = unit @ unit.T - 9 * np.eye(n)

    def is_selected(i):
        assert chromium.js("explorer.state().selected") == i
        assert chromium.js("document.querySelector('#content h2').textContent") == names[i]
        result = listed(chromium, "#neighbors")
        np.testing.assert_allclose(cosines[i, result], np.sort(cosines[i])[::-1][:12], atol=1e-5)
        return result

    image = loneliest(chromium, n)
    chromium.move(*on_screen(chromium, image))
    assert chromium.js("document.querySelector('#card p').textContent") == names[image]
    chromium.click(*on_screen(chromium, image))
    result = is_selected(image)

    chromium.click_on(f"#neighbors [data-image='{result[4]}']")
    is_selected(result[4])
    chromium.key("ArrowRight")
    chromium.key("ArrowRight")
    chromium.key("ArrowDown")
    walked = int(chromium.js("document.activeElement.dataset.image"))
    assert walked == listed(chromium, "#neighbors")[5]
    assert chromium.js("explorer.state().hovered") == walked
    chromium.key("Enter")
    is_selected(walked)
    chromium.js("history.back()")
    chromium.until(f"explorer.state().selected === {result[4]}")

    chromium.key("Escape")
    assert chromium.js("explorer.state().selected") == -1
    labels = structure.cluster(shown[3], 4).labels
    chromium.click_on(".group:nth-child(2) .row")
    assert chromium.js("explorer.state().focus") == np.flatnonzero(labels == 1).tolist()
    assert chromium.js("document.querySelectorAll('.group').length") == text["clusters"]

    chromium.click_on("#search")
    chromium.type("HEART")
    hearts = [i for i, name in enumerate(names) if "heart" in name]
    assert chromium.js("explorer.state().focus") == hearts
    assert listed(chromium, "#content") == hearts
    chromium.key("Enter")
    is_selected(hearts[0])
    chromium.key("Escape")
    assert chromium.js("explorer.state().focus") is None
    assert chromium.js("document.getElementById('search').value") == ""

    chromium.click_on("[data-tab=duplicates]")
    copies = [names.index("square-000.png"), names.index("zz-copy.png")]
    assert set(copies) <= set(listed(chromium, "#content"))
    assert chromium.errors == []


def test_the_map_zooms_and_moves(chromium, shown):
    out, _, _, _ = shown
    chromium.open(out)
    x, y = on_screen(chromium, 5)
    before = chromium.js("explorer.state()")
    chromium.wheel(x, y, -400)
    chromium.until("explorer.state().zoom > 1.2")
    chromium.frames()
    np.testing.assert_allclose(on_screen(chromium, 5), (x, y), atol=0.5)
    send = chromium.send
    held = {"button": "left", "buttons": 1}
    send("Input.dispatchMouseEvent", type="mousePressed", x=300, y=300, clickCount=1, **held)
    send("Input.dispatchMouseEvent", type="mouseMoved", x=360, y=330, **held)
    send("Input.dispatchMouseEvent", type="mouseReleased", x=360, y=330, clickCount=1, **held)
    chromium.frames()
    np.testing.assert_allclose(on_screen(chromium, 5), (x + 60, y + 30), atol=0.5)
    assert chromium.js("explorer.state().selected") == before["selected"] == -1
    chromium.click_on("#fit")
    chromium.until("Math.abs(explorer.state().zoom - 1) < 1e-6")


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_nothing_is_cut_off(chromium, shown, width, height):
    out, *_ = shown
    chromium.screen(width, height, mobile=width < 500)
    chromium.open(out)
    for view in ("", "openTab('duplicates')", "openTab('about')", "select(3)"):
        chromium.js(view or "0")
        chromium.frames()
        assert chromium.js("document.documentElement.scrollWidth") <= width
        cut = chromium.js(
            "[...document.querySelectorAll('button, input, h1, h2, p, dd, select')].filter((e) => {"
            " const b = e.getBoundingClientRect();"
            " return b.width && (b.left < 0 || b.right > innerWidth + 0.5);"
            "}).map((e) => e.outerHTML)"
        )
        assert cut == []
    chromium.screen(1440, 900)


def test_names_never_become_markup_and_nothing_is_fetched(chromium, tmp_path):
    out, names = hostile_page(tmp_path)
    chromium.errors.clear()
    chromium.requests.clear()
    chromium.js("window.onerror = null")
    chromium.open(out)
    for i in range(len(HOSTILE)):
        chromium.js(f"select({i})")
        text = chromium.js("document.querySelector('#content h2').textContent")
        assert text in (names[i], names[i].replace("\udcff", "\ufffd"))
    assert chromium.js("document.querySelectorAll('img, b:not(.row b)').length") == 0
    assert chromium.errors == []
    assert all(url.startswith(("file:", "data:", "about:")) for url in chromium.requests)


def sprites_with(factors, targets):
    """Thirty samples with those factors."""
    from unlabeled.data.dataset import Samples

    modality = Images(3, (8, 8), (0.0, 1.0))
    return Samples(images(), dict(factors), targets=dict(targets), modality=modality)


def test_several_labels_of_a_sample_are_no_groups(tmp_path, monkeypatch):
    """Catches codes of (N, L) labels that the page reads as those of N · L samples."""
    from unlabeled.data.targets import MultiLabel

    tags = np.random.default_rng(0).integers(0, 2, (30, 3))
    samples = sprites_with({"tags": tags}, {"tags": MultiLabel(("a", "b", "c"))})
    run = raw_run(tmp_path)
    monkeypatch.setattr(type(run), "read", lambda *_: samples)
    with pytest.warns(Notice, match="tags has several labels for each sample; the page and the"):
        explore(run, "data", tmp_path / "p.html", layout="pca", clusters=3)
    assert read_page(tmp_path / "p.html")[0]["factors"] == []


def test_a_number_that_never_varies_is_named_by_its_value(tmp_path, monkeypatch):
    """Catches "speed 0" for a speed of 5 where some are unknown, and a number that none has."""
    from unlabeled.data.targets import Numbers

    speed = np.where(np.arange(30) < 10, 5.0, np.nan)
    factors = {"speed": speed, "age": np.full(30, np.nan)}
    samples = sprites_with(factors, dict.fromkeys(factors, Numbers()))
    run = raw_run(tmp_path)
    monkeypatch.setattr(type(run), "read", lambda *_: samples)
    explore(run, "data", tmp_path / "p.html", layout="pca", clusters=3)
    (factor,) = read_page(tmp_path / "p.html")[0]["factors"]
    assert factor["classes"] == ["speed 5", "no label"]
    np.testing.assert_array_equal(unpack(factor["codes"], "<i4", 30), np.arange(30) >= 10)


def test_the_words_of_the_page_are_right(chromium, tmp_path):
    """Catches "30 seriess", and a sentence of two halves."""
    explore(raw_run(tmp_path), images(), tmp_path / "p.html", layout="pca", clusters=3)
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    (tmp_path / "s.html").write_text(text.replace('"noun":"images"', '"noun":"series"'))
    for name, summary in (("p", "30 images"), ("s", "30 series")):
        chromium.open(tmp_path / f"{name}.html")
        shown = chromium.js("document.getElementById('summary').textContent")
        assert shown.split(" · ")[0] == summary
        assert "Larger dots in the color of the text mark them" in chromium.js("NEXT_RULE")
    with pytest.raises(UserError, match="2 images cannot make a map"):
        explore(raw_run(tmp_path), images(2), tmp_path / "q.html")
