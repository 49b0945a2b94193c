"""The table beside the page, and the pages of recordings, texts and labeled folders."""

import base64
import csv
import io
import json
import re
import wave

import browser
import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import unlabeled as ul
from unlabeled.cli import main
from unlabeled.data.dataset import Samples
from unlabeled.data.readers.audio import Recordings
from unlabeled.data.targets import Numbers
from unlabeled.encoders.base import Encoder, build
from unlabeled.errors import Notice, UserError
from unlabeled.modality import Audio, Images, Text, to_json
from unlabeled.report import findings, points, tiles
from unlabeled.report.explore import explore
from unlabeled.runs.run import Run

RATE = 4000


def run_on(modality, encoder, tmp_path, tokenizer=""):
    inputs = {
        "encoder": "raw",
        "args": {},
        "dim": encoder.dim,
        "modality": to_json(modality),
    }
    return Run(tmp_path / "raw", encoder, {"method": "none"}, inputs, tokenizer=tokenizer)


def content_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def photos(tmp_path):
    """Two classes in folders, dark and bright; two labels are wrong, one is a mirrored copy."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    names, images = [], []
    for i in range(60):
        label = ("bright", "dark")[i % 2]
        of = label if i not in (10, 21) else ("dark", "bright")[i % 2]
        (folder / of).mkdir(parents=True, exist_ok=True)
        x = rng.normal(40 if label == "dark" else 200, 25, (8, 8, 3)).clip(0, 255).astype(np.uint8)
        images.append(images[31][:, ::-1] if i == 33 else x)
        Image.fromarray(images[i]).save(folder / of / f"{i:02}.png")
        names.append(f"{of}/{i:02}.png")
    return folder, sorted(names)


def test_labels_color_the_map_and_wrong_ones_are_listed(photos, tmp_path):
    folder, names = photos
    run = run_on(Images(3, (8, 8)), build("raw", 3, (8, 8)), tmp_path)
    result = explore(run, folder, tmp_path / "p.html", labels_from="folders", layout="pca")
    content = content_of(tmp_path / "p.html")
    suspects = content["suspects"]
    assert content["labeled"]
    assert {names[row] for row in suspects["rows"]} == {"dark/10.png", "bright/21.png"}
    pairs = dict(zip(suspects["labels"], suspects["suggested"], strict=True))
    assert pairs == {"dark": "bright", "bright": "dark"}
    assert result["suspected_labels"] == suspects["count"] == 2
    assert suspects["agreement"] == round(58 / 60, 4)
    explore(run, folder, tmp_path / "p.html", layout="pca")
    content = content_of(tmp_path / "p.html")
    assert content["suspects"] == {}
    assert content["factors"] == []
    assert not content["labeled"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_table_holds_what_the_page_shows(photos, tmp_path, ending):
    folder, names = photos
    run = run_on(Images(3, (8, 8)), build("raw", 3, (8, 8)), tmp_path)
    path = tmp_path / "tables" / f"points.{ending}"
    explore(
        run,
        folder,
        tmp_path / "p.html",
        labels_from="folders",
        layout="pca",
        table=path,
        clusters=2,
    )
    content = content_of(tmp_path / "p.html")
    if ending == "csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    assert [row["name"] for row in rows] == names
    assert [int(row["row"]) for row in rows] == list(range(60))
    xy = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    shown = np.frombuffer(base64.b64decode(content["xy"]), "<f4").reshape(60, 2)
    np.testing.assert_allclose(xy, shown, atol=1e-6)
    clusters = np.frombuffer(base64.b64decode(content["clusters"]), "u1")
    assert [int(row["cluster"]) for row in rows] == (clusters + 1).tolist()
    copies = [i for i, row in enumerate(rows) if row["duplicate_group"] not in ("", None)]
    assert copies == content["duplicates"][0]
    assert [names[i] for i in copies] == ["dark/31.png", "dark/33.png"]
    assert [row["label"] for row in rows] == [name.partition("/")[0] for name in names]
    suggested = {row["name"]: row["suggested_label"] for row in rows if row["suggested_label"]}
    assert suggested == {"dark/10.png": "bright", "bright/21.png": "dark"}
    for i, score in zip(content["outliers"], content["scores"], strict=True):
        assert float(rows[i]["outlier_score"]) == pytest.approx(score, abs=0.01)


def test_a_table_of_another_kind_is_refused(photos, tmp_path):
    run = run_on(Images(3, (8, 8)), build("raw", 3, (8, 8)), tmp_path)
    with pytest.raises(UserError, match=r"--table is points.xlsx; give a .csv or a .parquet"):
        explore(run, photos[0], tmp_path / "p.html", table="points.xlsx")


def test_the_command_takes_labels_and_writes_the_table(photos, tmp_path, capsys):
    folder, _ = photos
    options = {"epochs": 1, "batch_size": 16, "size": 8, "progress": False}
    run = ul.train("simclr", folder, out=tmp_path / "run", **options)
    words = ["--labels-from", "folders", "--table", str(tmp_path / "p.csv"), "--layout", "pca"]
    assert (
        main(["explore", str(run.path), str(folder), "--out", str(tmp_path / "p.html"), *words])
        == 0
    )
    assert "60 samples" in (output := capsys.readouterr().out)
    assert "suspected labels" in output
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 61


def test_more_samples_than_a_page_holds_are_all_in_the_table(photos, tmp_path, monkeypatch):
    """Catches a table of the page's sample alone, and lists whose rows are those of the data."""
    folder, names = photos
    monkeypatch.setattr(findings, "MOST", 20)
    run = run_on(Images(3, (8, 8)), build("raw", 3, (8, 8)), tmp_path)
    path = tmp_path / "points.parquet"
    options = {"labels_from": "folders", "table": path, "clusters": 2, "seed": 3}
    for layout in ("pca", "tsne"):
        with pytest.warns(Notice, match="fitted on a random 20 of 60 images"):
            result = explore(run, folder, tmp_path / "p.html", layout=layout, **options)
        rows = pyarrow.parquet.read_table(path).to_pylist()
        content = content_of(tmp_path / "p.html")
        shown = np.frombuffer(base64.b64decode(content["rows"]), "<u4")
        assert result["samples"] == len(rows) == content["total"] == 60
        assert result["samples_on_page"] == len(shown) == content["n"] < 60
        assert len(shown) >= 20
        assert [row["name"] for row in rows] == names
        assert [names[row] for row in shown] == content["names"]
        xy = np.array([[row["x"], row["y"]] for row in rows])
        assert np.abs(xy).max() == pytest.approx(1)
        on_page = np.frombuffer(base64.b64decode(content["xy"]), "<f4").reshape(-1, 2)
        np.testing.assert_allclose(on_page, xy[shown], atol=1e-6)
        listed = {names[shown[i]] for i in content["suspects"]["rows"]}
        assert listed == {"dark/10.png", "bright/21.png"}
        assert [names[shown[i]] for i in content["duplicates"][0]] == ["dark/31.png", "dark/33.png"]


def test_samples_to_label_are_listed_on_the_page_and_in_the_table(photos, tmp_path, capsys):
    """Catches suggestions of labeled samples, and ranks in another order than the list."""
    folder, names = photos
    run = run_on(Images(3, (8, 8)), build("raw", 3, (8, 8)), tmp_path)
    labels = tmp_path / "labels.csv"
    classes = [name.partition("/")[0] if i % 4 == 0 else "" for i, name in enumerate(names)]
    lines = [f"{name},{label}" for name, label in zip(names, classes, strict=True)]
    labels.write_text("\n".join(["name,label", *lines]))
    options = {"layout": "pca", "labels_from": labels, "table": tmp_path / "p.parquet"}
    with pytest.warns(Notice, match="15 of 60 samples have labels"):
        result = explore(run, folder, tmp_path / "p.html", suggest=7, **options)
    assert capsys.readouterr().err == ""
    content = content_of(tmp_path / "p.html")
    assert [names[i] for i in content["suggested"]] == result["suggested"]
    assert len({names.index(name) for name in result["suggested"]}) == 7
    assert all(names.index(name) % 4 for name in result["suggested"])
    rank = pyarrow.parquet.read_table(tmp_path / "p.parquet")["label_next"].to_pylist()
    by_rank = {names[i]: r for i, r in enumerate(rank) if r is not None}
    assert by_rank == {name: r for r, name in enumerate(result["suggested"], 1)}
    refused = pytest.raises(UserError, match="suggest is 46, but 45 of 60 images have no label")
    with refused, pytest.warns(Notice, match="15 of 60"):
        explore(run, folder, tmp_path / "p.html", suggest=46, **options)
    explore(run, folder, tmp_path / "p.html", layout="pca")
    assert content_of(tmp_path / "p.html")["suggested"] == []
    assert capsys.readouterr().err == ""
    explore(run, folder, tmp_path / "p.html", layout="pca", progress=True)
    assert "explore: clusters" in capsys.readouterr().err


def recordings(n=30):
    """Tones of two pitches, of different lengths; the last is the first again."""
    rng = np.random.default_rng(0)
    waves = []
    for i in range(n - 1):
        t = np.arange(RATE // 2 + 50 * i) / RATE
        tone = np.sin(2 * np.pi * (300, 1500)[i % 2] * t) + 0.05 * rng.normal(size=len(t))
        waves.append((0.5 * tone).astype(np.float32))
    return Recordings([*waves, waves[0]], RATE), waves


class Loudness(Encoder):
    """Mean absolute value of 16 parts of a recording."""

    def __init__(self):
        super().__init__([], torch.nn.Identity(), dim=16)

    def forward(self, x):
        return x[:, 0, 0].unflatten(1, (16, -1)).diff(dim=2).abs().mean(2)


def audio_page(tmp_path):
    data, waves = recordings()
    length = 16 * 130
    run = run_on(Audio(RATE, length), Loudness(), tmp_path)
    with pytest.warns(Notice, match="27 of 30 recordings are longer than .* and are cut"):
        return explore(run, data, tmp_path / "p.html", layout="pca"), waves, length


def test_recordings_are_heard_and_seen(tmp_path):
    result, waves, length = audio_page(tmp_path)
    content = content_of(tmp_path / "p.html")
    assert result["samples"] == 30
    assert content["noun"] == "recordings"
    assert content["duplicates"] == [[0, 29]]
    assert set(map(int, content["clips"])) == set(range(30))
    for i in (0, 7):
        with wave.open(io.BytesIO(base64.b64decode(content["clips"][str(i)]))) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
            heard = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
        np.testing.assert_allclose(heard, waves[i][:length].clip(-1, 1), atol=1e-4)


def test_clips_that_do_not_fit_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "CLIPS_BYTES", 20_000)
    with pytest.warns(Notice, match=r"\d of 30 recordings can be heard"):
        audio_page(tmp_path)
    content = content_of(tmp_path / "p.html")
    sizes = [len(base64.b64decode(clip)) for clip in content["clips"].values()]
    assert 0 < sum(sizes) <= 20_000
    assert str(content["examples"][0][0]) in content["clips"]


def test_spectrograms_show_pitch():
    t = np.arange(RATE) / RATE
    x = np.stack([np.sin(2 * np.pi * f * t) for f in (250, 1750)])[:, None, None].astype(np.float32)
    shown = tiles.spectrograms(np.concatenate([x, 0 * x[:1]]))[..., 0]
    height = shown.shape[1]
    for image, frequency in zip(shown, (250, 1750), strict=False):
        row = height - 1 - image.mean(1).argmax()
        assert row / height == pytest.approx(frequency / (RATE / 2), abs=0.05)
    assert shown[2].max() == 0


def test_texts_are_shown_as_text(tmp_path):
    from unlabeled.data.readers.bpe import train_tokenizer

    words = [f"The {a} {b} is here." for a in ("old", "new", "red") for b in ("dog", "cat", "<b>")]
    texts = [*words, words[0], "word " * 200]
    tokenizer = train_tokenizer(texts, 300).to_str()
    modality = Text(300, 600, tokenizer=tokenizer)

    class Counts(Encoder):
        def forward(self, x):
            return torch.nn.functional.one_hot(x.flatten(1), 300).float()[:, :, 5:].sum(1)

    run = run_on(modality, Counts([], torch.nn.Identity(), dim=295), tmp_path, tokenizer)
    result = explore(run, texts, tmp_path / "p.html", layout="pca")
    content = content_of(tmp_path / "p.html")
    assert result["samples"] == 11
    assert content["texts"][:10] == [*words, words[0]]
    assert len(content["texts"][10]) == tiles.LETTERS
    assert content["texts"][10].endswith("…")
    assert content["duplicates"] == [[0, 9]]


def test_a_browser_plays_the_clips_and_lists_the_labels(photos, tmp_path):
    if browser.find() is None:
        pytest.skip("no Chromium here: install chromium or google-chrome")
    _, waves, length = audio_page(tmp_path)
    run = run_on(Images(3, (8, 8)), build("raw", 3, (8, 8)), tmp_path)
    explore(run, photos[0], tmp_path / "q.html", labels_from="folders", layout="pca")
    names = photos[1]
    classes = [name.partition("/")[0] if i % 4 else "" for i, name in enumerate(names)]
    lines = [f"{name},{label}" for name, label in zip(names, classes, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["name,label", *lines]))
    options = {"labels_from": tmp_path / "labels.csv", "layout": "pca", "suggest": 9}
    with pytest.warns(Notice, match="45 of 60 samples have labels"):
        explore(run, photos[0], tmp_path / "r.html", **options)
    with browser.Browser() as chromium:
        chromium.open(tmp_path / "p.html")
        chromium.js("select(4)")
        chromium.until("document.querySelector('audio').readyState > 0")
        seconds = chromium.js("document.querySelector('audio').duration")
        assert seconds == pytest.approx(min(len(waves[4]), length) / RATE, abs=0.01)
        chromium.open(tmp_path / "q.html")
        assert chromium.js("document.querySelector('#color select').value") == "1"
        for width in (1280, 390):
            chromium.screen(width, 844, mobile=width == 390)
            chromium.js("openTab('labels')")
            chromium.frames()
            tabs = "[...document.querySelectorAll('.tabs button')]"
            edges = chromium.js(f"{tabs}.map((e) => e.getBoundingClientRect().right)")
            panel = chromium.js("document.querySelector('aside').getBoundingClientRect().right")
            assert len(edges) == 5
            assert max(edges) <= panel
            assert chromium.js("document.querySelectorAll('.pairs .pic').length") == 2
        chromium.open(tmp_path / "r.html")
        for width in (1280, 390):
            chromium.screen(width, 844, mobile=width == 390)
            chromium.js("openTab('next')")
            chromium.frames()
            edges = chromium.js(f"{tabs}.map((e) => e.getBoundingClientRect().right)")
            panel = chromium.js("document.querySelector('aside').getBoundingClientRect().right")
            assert len(edges) == 6
            assert max(edges) <= panel
            assert chromium.js("document.documentElement.scrollWidth") <= width
            assert chromium.js("document.querySelectorAll('.walk .pic').length") == 9
            assert len(chromium.js("explorer.state().focus")) == 9
        assert chromium.errors == []


def test_factors_do_not_replace_columns(tmp_path):
    """Catches a map whose coordinates are those of the shapes: dSprites has factors x and y."""
    rng = np.random.default_rng(0)
    factors = {name: rng.random(30) for name in ("x", "y", "speed")}
    x, modality = rng.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8), Images(3, (8, 8))
    samples = Samples(x, factors, targets=dict.fromkeys(factors, Numbers()), modality=modality)
    found, _ = findings.find(run_on(modality, build("raw", 3, (8, 8)), tmp_path), samples, "pca")
    points.write_points(tmp_path / "p.parquet", samples, found)
    table = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pydict()
    np.testing.assert_array_equal(np.float32(table["x"]), found.xy[:, 0])
    for column, factor in (("factor_x", "x"), ("factor_y", "y"), ("speed", "speed")):
        np.testing.assert_array_equal(table[column], factors[factor])


def test_labels_without_labeled_neighbors_are_not_judged(photos, tmp_path):
    """Catches NaN in the page's JSON, which no browser reads."""
    folder, names = photos
    run = run_on(Images(3, (8, 8)), build("raw", 3, (8, 8)), tmp_path)
    few = [next(name for name in names if name.startswith(kind)) for kind in ("bright", "dark")]
    lines = [f"{name},{name.partition('/')[0] if name in few else ''}" for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(["name,label", *lines]))
    with pytest.warns(Notice, match="2 of 60 samples have labels"):
        explore(run, folder, tmp_path / "p.html", labels_from=tmp_path / "labels.csv", layout="pca")
    assert "NaN" not in re.search(r'id="data">(.*?)</script>', (tmp_path / "p.html").read_text())[1]
    assert content_of(tmp_path / "p.html")["suspects"]["agreement"] is None
