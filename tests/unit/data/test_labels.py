"""Labels: some samples have none, some are numbers, and tables name samples in many ways."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unlabeled as ul
from unlabeled.data import open_data
from unlabeled.data.dataset import Samples
from unlabeled.data.readers.images import read
from unlabeled.data.readers.label_tables import read_table
from unlabeled.data.readers.labels import add
from unlabeled.data.targets import Classes, MultiLabel
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.evaluate import measure
from unlabeled.report.page import write_report
from unlabeled.report.table import print_table

RNG = np.random.default_rng(0)
X = RNG.integers(0, 255, (40, 8, 8)).astype(np.uint8)
QUICK = {"epochs": 1, "batch_size": 8, "progress": False, "logger": "none"}


def images(folder: Path, names: list[str]) -> Path:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[i % len(X)]).save(folder / name)
    return folder


def column(folder: Path, content: str | bytes, chosen: str = "", name: str = "labels.csv"):
    """Name of each sample -> its class, as a table says; "" without one."""
    table = folder.parent / f"{folder.name}-{name}"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    samples = read(folder, labels_from=f"{table}{chosen}")
    (factor,) = samples.factors
    classes = [*samples.class_names(factor), ""]
    return dict(zip(samples.names, (classes[c] for c in samples.factors[factor]), strict=True))


# ---- no label ------------------------------------------------------------------------------------


class Items(torch.utils.data.Dataset):
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return X[i], self.labels[i]


def some(known: list, none, missing: int = 24) -> list:
    """40 labels, of which the last are none."""
    return (known * 20)[: 40 - missing] + [none] * missing


@pytest.mark.parametrize(
    "labels",
    [
        np.array(some([3, 7], -1)),
        np.array(some([3.0, 7.0], np.nan)),
        np.array(some(["cat", "dog"], "")),
        np.array(some(["cat", "dog"], None), dtype=object),
        np.array(some([b"cat", b"dog"], b"nan")),
        some(["3", "7"], "-1"),
        some([3, 7], None),
        torch.tensor(some([3, 7], -1)),
    ],
    ids=["-1", "NaN", "empty", "None", "bytes", "text", "list", "tensor"],
)
def test_a_missing_label_is_no_class(labels):
    """Fails where −1 or NaN becomes a class, or where unlabeled samples are dropped or tested."""
    with pytest.warns(Notice, match=r"16 of 40 samples have labels \(label\), the others are kept"):
        splits = open_data((X, labels))
    assert len(splits.classes) == 2
    assert (len(splits.train), len(splits.test)) == (37, 3)
    assert splits.test.known("label").all()
    assert splits.train.known("label").sum() == 13


def test_datasets_and_files_know_no_label_too(tmp_path):
    """Fails where only pairs of arrays know what −1 means."""
    y = some([0, 1], -1)
    np.savez(tmp_path / "a.npz", x=X, y=y)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", np.array(some([0.0, 1.0], np.nan)))
    folder = images(tmp_path / "f", [f"{i:02}.png" for i in range(40)])
    for data, source in (
        (Items(y), None),
        (Items(some(["a", "b"], None)), None),
        (tmp_path / "a.npz", None),
        (tmp_path / "x.npy", tmp_path / "y.npy"),
        (folder, tmp_path / "y.npy"),
        (ul.data.Recordings(X.reshape(40, 64) / 255, 8000, y), None),
    ):
        with pytest.warns(Notice, match="16 of 40 samples"):
            splits = open_data(data, labels_from=source)
        assert len(splits.classes) == 2
        assert len(splits.train) + len(splits.test) == 40
        assert splits.test.known("label").all()


def test_minus_one_beside_classes_is_said_to_be_no_label():
    """Catches sentiments -1, 0 and 1 that lose a third of them, and no word on why."""
    with pytest.warns(Notice, match=r"26 of 40 .* kept without one \(-1 means no label\)"):
        open_data((X, np.resize([-1, 0, 1], 40)))
    with pytest.warns(Notice, match=r"20 of 40 .* kept without one$"):
        open_data((X, np.resize(["a", "", "b", ""], 40)))


def test_one_class_beside_minus_one_says_what_minus_one_means():
    """Fails where labels of −1 and 1 vanish without the reason."""
    with pytest.warns(Notice, match=r"all labels are the same \(1, as -1 means no label\)"):
        assert open_data((X, np.array([-1, 1] * 20))).target is None
    with pytest.warns(Notice, match=r"all labels are the same \(none"):
        assert open_data((X, np.full(40, np.nan))).target is None
    assert open_data((X, np.array([-2, -1, 1, 2] * 10))).classes == ["-2", "-1", "1", "2"]


def labeled_table(folder: Path, number: int = 16) -> tuple[Path, Path]:
    names = [f"{i:02}.png" for i in range(40)]
    images(folder / "x", names)
    rows = [f"{name},{'cat' if i % 2 else 'dog'}" for i, name in enumerate(names[:number])]
    (folder / "labels.csv").write_text("\n".join(["file,kind", *rows]))
    return folder / "x", folder / "labels.csv"


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
@pytest.mark.parametrize("method", ["simclr", "supervised", "fixmatch"])
def test_images_without_a_label_are_trained_on(method, tmp_path):
    """Fails where a table of some labels decides what is learned from without labels."""
    folder, table = labeled_table(tmp_path)
    data = open_data(folder, labels_from=table)
    run = ul.train(method, folder, labels_from=table, out=tmp_path / "run", **QUICK)
    number = data.train.known("kind").sum() if method == "supervised" else len(data.train)
    assert run.config["images"] == number
    assert len(data.train) + len(data.test) == 40
    figures = ul.evaluate(run)
    assert 0 <= figures["metrics"]["linear_probe"]["value"] <= 1
    assert figures["n_test"] == len(data.test)
    assert figures["n_train"] == data.train.known("kind").sum()


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_fine_tuning_and_the_pages_take_labeled_samples_alone(tmp_path):
    """Fails where −1 is drawn as a class, indexes the last class, or breaks a page."""
    from unlabeled.evaluation.finetune import finetune
    from unlabeled.evaluation.layers import evaluate_stages
    from unlabeled.report.explore import _factors
    from unlabeled.runs.features import write_features

    y = np.array(some(["cat", "dog"], "", 20)[::-1])
    np.savez(tmp_path / "a.npz", x=X, y=y)
    run = ul.train("simclr", tmp_path / "a.npz", out=tmp_path / "run", **QUICK)
    _, figures = finetune(
        run, labels=6, epochs=1, out=tmp_path / "tuned", scratch=False, progress=False
    )
    assert figures["labels"] == 6
    assert evaluate_stages(run.encoder, open_data(tmp_path / "a.npz"))
    write_features(run, str(tmp_path / "a.npz"), tmp_path / "z.npz")
    assert (np.load(tmp_path / "z.npz")["label"] == y).all()
    (shown,) = _factors(run.read(tmp_path / "a.npz"))
    assert shown["classes"] == ["cat", "dog", "no label"]


def test_every_measure_leaves_out_rows_without_a_label():
    """Fails where a measure takes −1 for a class of its own."""
    from unlabeled.evaluation import few_labels, knn, probe, retrieval, rsa, verification

    z, y = RNG.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    z += y[:, None]
    more = RNG.normal(size=(30, 4)).astype(np.float32)
    both, known = np.concatenate([more, z]), np.concatenate([np.full(30, -1), y])
    for function in (
        lambda z, y: probe.linear_probe(z, y, z, y),
        lambda z, y: knn.knn_accuracy(z, y, z, y),
        lambda z, y: few_labels.few_labels(z, y, z, y, 12, draws=2),
        lambda z, y: rsa.gap(z, y),
        lambda z, y: [part.tolist() for part in rsa.histograms(z, y)],
        lambda z, y: retrieval.retrieval(z, y),
        lambda z, y: len(verification.pairs(z, y).same),
    ):
        assert function(both, known) == function(z, y)
    rows = verification.pairs(both, known)
    assert min(rows.first.min(), rows.second.min()) == 30


def test_diffusion_asks_nothing_of_what_has_no_label():
    """Fails where −1 is looked up in the table of classes."""
    from unlabeled.core import Batch
    from unlabeled.encoders.base import build
    from unlabeled.methods.diffusion import Diffusion

    method = Diffusion(build("unet", 1, (8, 8)), condition="class", classes=2, shape=(1, 8, 8))
    batch = Batch(torch.rand(8, 1, 8, 8), torch.arange(8), torch.tensor([-1, 0, 1, -1] * 2))
    asked = method.views(batch)[3]
    assert (asked[[0, 3, 4, 7]] == 2).all()


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_the_estimator_knows_no_label_too():
    """Fails where scikit-learn's −1 or None is a class, or a regression's y a hundred of them."""
    for y in (some([0, 1], -1), some(["a", "b"], None), some([0.0, 1.0], np.nan)):
        for method, number in (("supervised", 16), ("fixmatch", 40), ("simclr", 40)):
            model = ul.SelfSupervised(method, **QUICK)
            if method != "supervised" and y[-1] != -1:
                continue  # one of each is enough
            assert model.fit(X, y).run_.config["images"] == number
    with pytest.raises(UserError, match="learns from classes, but label"):
        ul.SelfSupervised("supervised", **QUICK).fit(X, RNG.normal(size=40))


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
@pytest.mark.parametrize("method", ["uda", "vat", "pseudo_label", "s4l", "metric", "siamese"])
def test_every_supervised_method_takes_labels_of_some(method, tmp_path):
    """Fails where −1 reaches a loss that knows no such class, or labels of some drop the rest."""
    y = np.array(some([0, 1], -1))
    for labels, most in ((None, 16), ("10", 10)):
        out = tmp_path / str(labels)
        run = ul.train(method, (X, y), labels=labels, out=out, **QUICK)
        assert np.isfinite(run.embed(X)).all()
        if method in ("metric", "siamese"):
            assert run.config["images"] <= most
        else:
            assert run.config["images"] == 37


# ---- numbers -------------------------------------------------------------------------------------


AGES = RNG.integers(18, 80, 40)


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (AGES, True),
        (AGES.astype(str), True),
        (AGES + 0.5, True),
        ([f"{a},5" for a in AGES], True),
        (np.where(AGES > 70, np.nan, AGES), True),
        (np.arange(40) % 10, False),
        (np.arange(40) % 30, False),
        (np.arange(40) % 2 * 5 + 20, False),
        ([f"age {a}" for a in AGES], False),
        (AGES > 40, False),
    ],
    ids=["ints", "text", "floats", "comma", "NaN", "digits", "codes", "few", "words", "bools"],
)
@pytest.mark.filterwarnings("ignore:.*kept without one")
def test_numbers_are_numbers(labels, numbers):
    """Fails where ages become as many classes, or codes of classes numbers."""
    if numbers:
        with pytest.warns(Notice, match="label holds numbers, not classes"):
            splits = open_data((X, labels))
    else:
        splits = open_data((X, labels))
    assert (splits.target is None) == numbers
    assert splits.numbers == (["label"] if numbers else [])
    assert len(splits.test)
    assert splits.test.known("label").all()


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_numbers_in_a_table_are_measured_by_r2(tmp_path, capsys):
    """Fails where a column of ages hides the classes beside it, or gives None without a word."""
    names = [f"{i:02}.png" for i in range(40)]
    folder = tmp_path / "x"
    folder.mkdir()
    for name, age in zip(names, AGES, strict=True):
        Image.new("L", (8, 8), int(3 * age)).save(folder / name)
    rows = [f"{n},{a},{'ab'[a % 2]}" for n, a in zip(names, AGES, strict=True)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["file,age,kind", *rows]))
    splits = open_data(folder, labels_from=table)
    assert (splits.target, splits.numbers) == ("kind", ["age"])
    run = ul.train("simclr", folder, labels_from=f"{table}:age", out=tmp_path / "run", **QUICK)
    with pytest.warns(Notice, match="age of .* holds numbers, not classes, so the linear probe"):
        evaluation = measure(run)
    figures = evaluation.to_json()
    assert "linear_probe" not in figures["metrics"]
    assert figures["baselines"]["raw"]["r2"]["value"] > 0.9
    assert figures["baselines"]["raw"]["r2_age"] == figures["baselines"]["raw"]["r2"]
    assert "R² of age" in write_report(run, evaluation).read_text()
    print_table(figures)
    assert "R² of age" in capsys.readouterr().out
    with pytest.raises(UserError, match="learns from classes, but age"):
        ul.train("supervised", folder, labels_from=f"{table}:age", out=tmp_path / "s", **QUICK)


def test_a_probe_that_cannot_be_asked_says_why(tmp_path):
    """Fails where no test class was seen in training and `linear` is None without a word."""
    run = ul.train("simclr", (X, np.arange(40)), out=tmp_path / "run", **QUICK)
    with pytest.warns(Notice, match="no label of the test images is among"):
        assert "linear_probe" not in ul.evaluate(run)["metrics"]


# ---- tables --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
@pytest.mark.parametrize(
    ("row", "name"),
    [
        (unicodedata.normalize("NFD", "café.png"), unicodedata.normalize("NFC", "café.png")),
        (unicodedata.normalize("NFC", "Zoë.png"), unicodedata.normalize("NFD", "Zoë.png")),
        ("cat1", "cat1.png"),
        ("cat1.jpg", "cat1.png"),
        ("img_1.5", "img_1.5.png"),
        ("C:\\data\\photos\\cat1.png", "cat1.png"),
        ("/abs/path/cat1.png", "cat1.png"),
        ("photos/a/cat1.png", "a/cat1.png"),
        ("photos/a/cat1", "a/cat1.png"),
        ("a/cat1.png", "photos/a/cat1.png"),
        ("./a\\cat1.png", "a/cat1.png"),
        ("cat1.png", "deep/in/it/cat1.png"),
    ],
)
def test_names_in_tables_are_found(row, name, tmp_path):
    """Fails where a name is compared byte by byte, or only with its last part."""
    folder = images(tmp_path / "f", [name, "x/other.png", "x/third.png"])
    result = column(folder, f"file,kind\n{row},cat\nother.png,dog\nnobody.png,dog\n")
    assert result[name] == "cat"
    assert result["x/third.png"] == ""


def test_a_row_of_another_folder_is_not_taken(tmp_path):
    """Fails where the file name alone decides though the folders contradict each other."""
    folder = images(tmp_path / "f", ["a/1.png", "a/2.png", "b/2.png"])
    table = "file,kind\na/1.png,cat\nb/1.png,dog\na/2.png,dog\nb/2.png,cat\n"
    with pytest.warns(
        Notice, match=r"1 of 4 rows of f-labels.csv name no sample, such as 'b/1.png'"
    ):
        result = column(folder, table)
    assert list(result.values()) == ["cat", "dog", "cat"]
    with pytest.raises(UserError, match=r"names '2', but 2 have that name"):
        column(folder, "file,kind\n1,cat\n2,dog\n")
    with pytest.raises(UserError, match=r"gives 'a/1.png' two different labels"):
        column(folder, "file,kind\nx/a/1.png,cat\ny/a/1.png,dog\n")


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
@pytest.mark.parametrize(
    "content",
    [
        "file;kind\n0.png;cat, tame\n1.png;dog\n",
        "file\tkind\r\n0.png\tcat, tame\r\n1.png\tdog\r\n",
        "file|kind\n0.png|cat, tame\n1.png|dog\n",
        'file,kind\n0.png,"cat, tame"\n1.png,dog\n',
        "sep=;\nfile;kind\n0.png;cat, tame\n1.png;dog\n",
        "\ufefffile;kind\n0.png;cat, tame\n1.png;dog\n",
        "file;kind\n0.png;cat, tame\n1.png;dog\n".encode("utf-16"),
        "file;kind\n0.png;cat, tame\n1.png;dog\n".encode("utf-16-le"),
        ',file,kind\n0,0.png,"cat, tame"\n1,1.png,dog\n',
        'kind,id,file\n"cat, tame",7,0.png\ndog,8,1.png\n',
        "kind;path\ncat, tame;/data/0.png\ndog;/data/1.png\n",
        "file;kind\n\n0.png ; cat, tame\n\n1.png;dog\n",
    ],
)
def test_tables_of_any_kind(content, tmp_path):
    """Fails where a comma separates whatever the head says, or the first column is the name's."""
    folder = images(tmp_path / "f", ["0.png", "1.png"])
    chosen = (
        ":kind" if b"id" in (content if isinstance(content, bytes) else content.encode()) else ""
    )
    for name in ("labels.csv", "labels.tsv"):
        assert column(folder, content, chosen, name) == {"0.png": "cat, tame", "1.png": "dog"}


def test_rows_without_a_name_are_counted(tmp_path):
    """Catches empty cells that are taken for one sample with two labels."""
    folder = images(tmp_path / "f", ["0.png", "1.png"])
    with pytest.warns(Notice, match=r"2 of 4 rows of f-labels.csv name no sample"):
        result = column(folder, "file,kind\n0.png,cat\n,cat\n1.png,dog\n,dog\n")
    assert result == {"0.png": "cat", "1.png": "dog"}


def test_latin_letters_are_read_and_reported(tmp_path):
    """Fails where a table of Windows ends in a decoding error, or is read without a word."""
    folder = images(tmp_path / "f", ["müde.png", "1.png"])
    with pytest.warns(Notice, match="not UTF-8, so it is read as Latin-1"):
        result = column(folder, "file;art\nmüde.png;größer\n1.png;Hund\n".encode("latin-1"))
    assert result["müde.png"] == "größer"


def test_a_column_is_chosen_and_a_mistyped_one_lists_them(tmp_path):
    """Fails where the first column is always the target, or the message keeps the names back."""
    folder = images(tmp_path / "f", ["0.png", "1.png"])
    table = "file,age,breed\n0.png,a,x\n1.png,b,y\n"
    assert column(folder, table, ":breed") == {"0.png": "x", "1.png": "y"}
    with pytest.raises(UserError, match="no column 'bred'; did you mean breed"):
        column(folder, table, ":bred")
    with pytest.raises(UserError, match=r"'file' of .* names the samples"):
        column(folder, table, ":file")
    with pytest.raises(UserError, match=r"the first row of .* names a sample"):
        column(folder, "0.png,x\n1.png,y\n")


def test_a_chosen_column_is_found_again_from_elsewhere(tmp_path, monkeypatch):
    """Fails where a run records `labels.csv:kind` by a path that holds in one folder only."""
    labeled_table(tmp_path, 40)
    monkeypatch.chdir(tmp_path)
    run = ul.train("simclr", "x", labels_from="labels.csv:kind", out=tmp_path / "run", **QUICK)
    monkeypatch.chdir("/")
    again = ul.load(tmp_path / "run")
    assert again.config["labels_from"] == f"{tmp_path / 'labels.csv'}:kind"
    assert ul.evaluate(again)["target"] == "kind"
    assert run.config["images"] < 40


def test_one_long_cell_does_not_fill_the_memory(tmp_path):
    """Catches columns as arrays of strings, in which each is as long as the longest."""
    names = [f"{i}.png" for i in range(300)]
    rows = [f"{name},{'ab'[i % 2]},{'long ' * 5_000 * (i == 7)}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,kind,remark", *rows]))
    columns, _ = read_table(tmp_path / "labels.csv", None, names)
    assert columns["kind"].tolist() == ["a", "b"] * 150
    assert columns["remark"].nbytes < 10_000


def test_cells_with_several_labels_are_multi_label(tmp_path, recwarn):
    """Catches: `cat|dog` as a class of its own, an empty cell as "no label applies"."""
    folder = images(tmp_path / "photos", [f"{i}.png" for i in range(4)])
    table = "file,tags,site\n0.png,cat|dog,a\n1.png,dog,b\n2.png,,a\n3.png,cat | bird,b\n"
    (tmp_path / "labels.csv").write_text(table)
    samples = read(folder, labels_from=str(tmp_path / "labels.csv"))
    assert samples.targets["tags"] == MultiLabel(("bird", "cat", "dog"))
    expected = [[0, 1, 1], [0, 0, 1], [-1, -1, -1], [1, 1, 0]]
    np.testing.assert_array_equal(samples.factors["tags"], expected)
    assert samples.known("tags").tolist() == [True, True, False, True]
    assert samples.class_names("site") == ["a", "b"]
    assert any("tags holds several labels a sample" in str(w.message) for w in recwarn)


def test_remarks_with_semicolons_are_not_several_labels():
    """Catches a column of remarks that becomes a matrix of all samples by all their parts."""
    remarks = np.array([f"seen at {i}; tired" for i in range(200)])
    samples = Samples(np.zeros((200, 1, 2, 2), np.uint8))
    with pytest.warns(Notice, match=r"';' in its cells, but 200 of the 201 parts occur only once"):
        add(samples, {"remark": remarks})
    assert samples.targets["remark"] == Classes(tuple(sorted(remarks)))


def test_multi_label_data_is_measured_by_mean_average_precision(tmp_path):
    """Catches: a split that draws by classes, test labels matched by position, a lost label."""
    y = RNG.integers(0, 2, (120, 3))
    x = np.zeros((120, 8, 8, 3), np.uint8)
    x[..., :] = 100 * y[:, None, None, :] + RNG.integers(0, 60, (120, 8, 8, 3))
    splits = open_data((x, y))
    assert splits.target is None
    assert len(splits.test) == 24
    run = ul.load("raw", data=splits)
    run.path = tmp_path / "run"
    result = ul.evaluate(run, splits)
    assert result["metrics"]["mean_average_precision"]["value"] > 0.95
    assert result["baselines"]["chance"]["mean_average_precision"]["value"] < 0.7

    np.savez(tmp_path / "other.npz", images=x[:30], labels=y[:30])
    with pytest.warns(Notice, match="30 of .* are tested on"):
        tested = open_data((x, y), test=str(tmp_path / "other.npz"))
    np.testing.assert_array_equal(tested.test.factors["label"], y[:30])


def test_one_hot_labels_are_classes():
    with pytest.warns(Notice, match="one-hot"):
        splits = open_data((X, np.eye(4, dtype=int)[np.arange(40) % 4]))
    assert splits.classes == ["0", "1", "2", "3"]
