"""Comparisons: seeds grouped, nothing computed twice, names of any kind, tables of any program."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from torch import nn

import unlabeled as ul
from unlabeled.cli import main
from unlabeled.encoders.base import Encoder
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation import stored
from unlabeled.report.formats import LATEX

ODD = "a_b $x^2$ 100% & <b>|~`*#{é}\\"
"""A name with characters that HTML, Markdown, LaTeX and matplotlib take for commands."""


def two_classes(n=120):
    """Images (n, 16, 16), bright on the left or on the right."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.integers(0, 200, (n, 16, 16))
    x[y == 0, :, :8] += 55
    x[y == 1, :, 8:] += 55
    return x.astype(np.uint8), y


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three seeds of a training, and another training, on data in a file."""
    folder = tmp_path_factory.mktemp("compared")
    x, y = two_classes()
    np.savez(folder / "data.npz", images=x, labels=y)
    options = {"data": folder / "data.npz", "epochs": 1, "batch_size": 32, "progress": False}
    for seed in (0, 1):
        ul.train("simclr", seed=seed, out=folder / f"simclr-{seed}", **options)
    words = ["train", "simclr", "--data", str(folder / "data.npz"), "--epochs", "1"]
    words += ["--batch-size", "32", "--seed", "2", "--workers", "1"]
    assert main([*words, "--out", str(folder / "simclr-2")]) == 0  # its record has the command
    ul.train("simclr", temperature=0.9, out=folder / ODD, **options)
    return folder


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("UNLABELED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def passes():
    """The number of samples of each pass through an encoder, as a hook counts them."""
    counted = []

    def count(module, args, out):
        if type(module) is Encoder and len(args[0]) > 2:  # two tell the shape of a method's heads
            counted.append(len(args[0]))

    handle = nn.modules.module.register_module_forward_hook(count)
    yield counted
    handle.remove()


class Page(HTMLParser):
    """The texts of a page by the names of their elements, and its style attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.styles = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "path", "use", "image"):
            self.open.append(tag)
        if tag == "span":
            self.styles.append(dict(attrs)["style"])
        if tag == "b":
            self.texts.setdefault("b", [])

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        for tag in set(self.open):
            self.texts.setdefault(tag, []).append(data)


def test_seeds_are_one_column_with_their_mean(folder):
    paths = [folder / f"simclr-{seed}" for seed in (0, 1, 2)]
    result = ul.compare([*paths, folder / ODD, "histogram"])
    assert list(result["encoders"]) == ["simclr (3 seeds)", ODD, "histogram"]
    group = result["encoders"]["simclr (3 seeds)"]
    assert (group["runs"], group["seeds"]) == (["simclr-0", "simclr-1", "simclr-2"], [0, 1, 2])
    runs = [result["runs"][name]["metrics"] for name in group["runs"]]
    for key in ("knn", "similarity_gap"):
        values = [metrics[key]["value"] for metrics in runs]
        assert group["metrics"][key]["value"] == pytest.approx(np.mean(values))
        assert group["metrics"][key]["sd"] == pytest.approx(np.std(values, ddof=1))
        assert group["metrics"][key]["n"] == 3
    pairs = {(t["a"], t["b"], t["test"]) for t in result["differences"] if t["metric"] == "knn"}
    assert (ODD, "histogram", "paired") in pairs
    assert ODD not in result["best"].values()
    assert np.shape(result["similarity"]["rsa"]) == (5, 5)
    np.testing.assert_allclose(np.diag(result["similarity"]["cka_debiased"]), 1)


def test_metrics_are_those_of_evaluate(folder):
    """Catches: other rows, labels or features in what is stored."""
    result = ul.compare([folder / "simclr-0", folder / "simclr-1"])
    again = ul.compare([folder / "simclr-0", folder / "simclr-1"])
    assert result == again
    copy = folder / "copy"
    shutil.copytree(folder / "simclr-1", copy)
    expected = ul.evaluate(ul.load(copy))
    shutil.rmtree(copy)
    for key, value in result["runs"]["simclr-1"]["metrics"].items():
        for end in ("value", "low", "high"):
            assert value[end] == pytest.approx(expected["metrics"][key][end], abs=1e-6), key


def test_the_second_call_computes_nothing(folder, own_cache, passes):
    paths = [folder / "simclr-0", folder / ODD]
    first = ul.compare(paths)
    assert sum(passes) == 2 * 120
    passes.clear()
    assert ul.compare(paths) == first
    assert passes == []
    ul.compare([*paths, folder / "simclr-1"])
    assert sum(passes) == 120  # the new one alone


def test_other_weights_data_or_labels_are_computed_anew(folder, own_cache, passes, tmp_path):
    x, y = two_classes()
    paths = [folder / "simclr-0", folder / "simclr-1"]
    first = ul.compare(paths, data=(x, y))
    passes.clear()
    other = x.copy()
    other[::3] = 255 - other[::3]
    assert ul.compare(paths, data=(other, y))["runs"] != first["runs"]
    assert sum(passes) == 2 * 120
    passes.clear()
    labels = np.random.default_rng(1).integers(0, 2, 120)
    relabeled = ul.compare(paths, data=(x, labels))
    assert relabeled["runs"]["simclr-0"]["metrics"] != first["runs"]["simclr-0"]["metrics"]
    copy = ul.load(folder / "simclr-0")
    passes.clear()
    with_noise = next(copy.encoder.parameters())
    with_noise.data += 0.5
    changed = ul.compare([copy, paths[1]], data=(x, y))
    assert sum(passes) == 120
    assert changed["runs"]["simclr-0"]["metrics"] != first["runs"]["simclr-0"]["metrics"]


def test_damaged_entries_are_computed_again(folder, own_cache):
    paths = [folder / "simclr-0", folder / "simclr-1"]
    first = ul.compare(paths)
    files = list(own_cache.glob("features-*/arrays.npz"))
    assert len(files) == 2 * 3  # training part, test part, metrics
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    with pytest.warns(Notice, match="damaged"):
        assert ul.compare(paths) == first


def test_what_is_too_large_is_not_stored(own_cache, monkeypatch):
    monkeypatch.setenv("UNLABELED_CACHE_GB", "1e-6")
    calls = []

    def compute():
        calls.append(1)
        return {"features": np.zeros(1000)}

    for _ in range(2):
        with pytest.warns(Notice, match="not stored"):
            stored.stored("key", compute)
    assert len(calls) == 2


def test_encoders_of_the_users_own_are_not_stored(own_cache, passes):
    """Their code may change where their weights do not."""

    class Net(nn.Module):
        dim = 4

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(256, 4)

        def forward(self, x):
            return self.layer(x.flatten(1))

    run = ul.train("simclr", two_classes(), encoder=Net, epochs=1, batch_size=32, progress=False,
                   out=own_cache / "own")  # fmt: skip
    assert stored.digest_of_encoder(run) is None
    assert ul.compare([run, "raw"])["runs"]["own"]["metrics"]["dim"]["value"] == 4


def test_names_of_any_kind_in_tables_of_any_kind(folder, tmp_path):
    """Catches: a name that ends a cell, a column or the page's element, or starts a formula."""
    files = [tmp_path / f"table.{suffix}" for suffix in ("html", "csv", "md", "tex", "json")]
    ul.compare([folder / ODD, "histogram"], files)
    html, table, md, tex, written = (file.read_text() for file in files)

    page = Page(html)
    assert ODD in page.texts["thead"]
    assert ODD in "".join(page.texts["h1"])
    assert html.count("<b>") == html.count("</b>")

    rows = list(csv.DictReader(table.splitlines()))
    assert {row["encoder"] for row in rows} == {ODD, "histogram"}
    assert set(json.loads(written)["encoders"]) == {ODD, "histogram"}

    tokens = MarkdownIt().enable("table").parse(md)
    bodies = [t for t in tokens if t.type == "inline"]
    head = [i for i, t in enumerate(tokens) if t.type == "tr_open"]
    assert len(head) == 3
    names = ["".join(c.content for c in t.children) for t in bodies]
    assert ODD in names
    assert not any(c.type.startswith(("em", "strong", "link", "html", "code"))
                   for t in bodies for c in t.children if ODD in names and t.content.startswith("a")
                   )  # fmt: skip

    lines = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert r"\resizebox" in tex  # many encoders are wider than a page
    columns = len(re.search(r"\{tabular\}\{(\w+)\}", tex)[1])
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    back = {text: c for c, text in LATEX.items()}
    pattern = "|".join(map(re.escape, sorted(back, key=len, reverse=True)))
    first = re.split(r"(?<!\\) & ", lines[0].removesuffix(r" \\"))[1]
    assert re.sub(pattern, lambda m: back[m[0]], first) == ODD
    assert not re.search(r"(?<!\\)[%#$_]", re.sub(r"\$(\\pm|-)\$", "", first))


def test_one_color_for_each_encoder_in_every_panel(folder, tmp_path):
    runs = [folder / "simclr-0", folder / "simclr-1", folder / ODD]
    without = tmp_path / "less"
    shutil.copytree(runs[0], without)
    lines = (without / "metrics.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    keep = [i for i, name in enumerate(cells[0]) if name != "rankme"]
    (without / "metrics.csv").write_text("\n".join(",".join(c[i] for i in keep) for c in cells))
    ul.compare([without, *runs[1:]], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    colors = re.findall(r'swatch" style="background:(#\w+)', text)
    assert colors[:2] == colors[2:]  # of the table and of the curves
    assert len(set(colors)) == 2
    panels = re.findall(r"<figure>(<svg.*?</svg>)\s*</figure>", text, re.DOTALL)
    lines = [re.findall(r"stroke: (#\w{6}); stroke-width: 1.5", p) for p in panels]
    drawn = [set(result) for result in lines if result]
    assert drawn
    assert all(result == set(colors) for result in drawn)


def test_the_command_takes_names_and_writes_several_files(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["compare", str(folder / "simclr-0"), "raw", "--out", "a.html", "--out", "b/t.md"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Linear probe accuracy" in out
    assert out.endswith("a.html\nb/t.md\n")
    assert (tmp_path / "a.html").is_file()
    assert (tmp_path / "b" / "t.md").is_file()


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (["simclr-0"], {}, "at least two"),
        (["simclr-0", "simclr-0"], {}, "given twice"),
        (["raw", "raw"], {"data": "data.npz"}, "given twice"),
        (["raw", "pca"], {}, "give --data"),
        (["simclr-0", "nothing"], {}, "there is no run folder"),
        (["simclr-0", "simclr-1"], {"out": ["a.html", "b.txt"]}, "b.txt; give a .html, .csv"),
    ],
)
def test_what_cannot_be_compared_is_reported(folder, monkeypatch, runs, options, message):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message):
        ul.compare(runs, **options)
    assert not (folder / "a.html").exists()


def test_data_of_a_program_in_a_strangers_folder_is_not_run(folder, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(folder / "simclr-0", tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        program = tmp_path / "mine.py"
        program.write_text("raise SystemExit('it was run')")
        config["data"] = str(program)
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    for runs in ([tmp_path / "a", tmp_path / "b"], ["raw", tmp_path / "a"]):
        with pytest.raises(UserError, match="loaded by a file"):
            ul.compare(runs)


def test_other_limits_of_the_trainer_are_another_configuration(folder, tmp_path):
    shutil.copytree(folder / "simclr-1", tmp_path / "short")
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    config["settings"]["trainer"] = {"max_steps": 1}
    (tmp_path / "short" / "config.json").write_text(json.dumps(config))
    result = ul.compare([folder / "simclr-0", tmp_path / "short"])
    assert list(result["encoders"]) == ["simclr-0", "short"]


def test_copies_of_a_run_are_no_seeds(folder, tmp_path):
    """Catches: n = 2 of one seed, which has no deviation."""
    shutil.copytree(folder / "simclr-0", tmp_path / "copy")
    result = ul.compare([folder / "simclr-0", tmp_path / "copy", folder / "simclr-1"])
    assert [encoder["seeds"] for encoder in result["encoders"].values()] == [[0, 1], [0]]


def test_a_notice_where_runs_had_other_data(folder, tmp_path):
    shutil.copytree(folder / "simclr-0", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["data"] = "elsewhere.npz"
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.warns(Notice, match="other data, groups or tiles in training"):
        result = ul.compare([folder / "simclr-1", tmp_path / "other"])
    assert result["n_test"] == 24
