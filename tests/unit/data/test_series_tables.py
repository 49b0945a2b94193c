"""Time series and tables: what is read, how it is standardized, what is said and refused."""

import json
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

import unlabeled as ul
from unlabeled.data import open_data
from unlabeled.data.dataset import Samples
from unlabeled.data.open import read_data
from unlabeled.data.readers.columns import read as read_table
from unlabeled.data.readers.labels import add
from unlabeled.data.targets import Classes, Numbers
from unlabeled.errors import Notice, UserError
from unlabeled.modality import Column, Series, Table, from_json, to_json

pytestmark = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")

TEXT = """id,age,city,flat,empty,sex,score,ill
a,20,Rome,7,,f,1.5,no
b,30,Oslo,7,,m,2.5,yes
c,,Rome,7,,f,NA,no
d,50,,7,,m,4.5,yes
e,60,Oslo,7,,f,5.5,no
f,70,Kyiv,7,,m,6.5,yes
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(TEXT)
    return str(path)


def said(function, *args, **kwargs):
    """What it returns, and its notices in one text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = function(*args, **kwargs)
    return value, "\n".join(str(w.message) for w in caught if issubclass(w.category, Notice))


def test_numbers_that_count_the_rows_name_them(tmp_path):
    """Catches features that cannot be traced to the rows of their table."""
    order = [3, 1, 2, 5, 4]
    path = tmp_path / "counted.csv"
    path.write_text("id,size,mass\n" + "\n".join(f"{i},{i * i},{7 - i}.5" for i in order))
    samples, text = said(read_data, str(path))
    assert "'id' only names the rows" in text
    assert samples.names == [str(i) for i in order]


def test_a_run_on_images_says_that_a_table_holds_rows(table):
    """Catches a sentence by which a table is no file that can be read."""
    like = open_data(np.zeros((4, 8, 8), np.uint8)).modality
    with pytest.raises(UserError, match="holds rows, but the run learned from images"):
        read_data(table, like=like)


def test_a_table_is_read_as_it_is_said(table):
    """Catches labels that are learned from, and columns or cells that are lost in silence."""
    splits, text = said(open_data, table, labels_from="ill")
    assert isinstance(splits.modality, Table)
    assert [c.name for c in splits.modality.columns] == ["age", "city", "sex", "score"]
    assert splits.targets == {"ill": Classes(("no", "yes"))}
    assert len(splits.train) + len(splits.test) == 6
    assert sorted((splits.train.names or []) + (splits.test.names or [])) == list("abcdef")
    for part in (
        "'id' only names the rows",
        "1 column without any value left out: empty",
        "5 columns of people.csv to learn from, 2 of words (city, sex)",
        "2 numbers missing (age, score), the training mean takes their place",
        "1 word missing (city), they count as none",
        "1 column the same in all training rows, so left out: flat",
    ):
        assert part in text
    assert "none is a label: give one" in said(open_data, table)[1]
    assert not len(open_data(table).test)
    assert "ill" in [c.name for c in open_data(table).modality.columns]


def test_training_rows_alone_decide_the_scale(table):
    """Catches statistics of all rows, by test rows that would change them."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(5, 3, 200), "word": rng.choice(["a", "b", "c"], 200)})
    y = np.arange(200) % 2
    splits = open_data((frame, y))
    x, one_hot = splits.train.x[:, 0, 0, 0], splits.train.x[:, 0, 0, 1:]
    assert splits.train.x.shape == (160, 1, 1, 4)
    assert splits.train.x.dtype == np.float32
    assert abs(x.mean()) < 1e-6
    assert x.std() == pytest.approx(1, abs=1e-6)
    assert abs(splits.test.x[..., 0].mean()) > 1e-3
    assert (one_hot.sum(1) == 1).all()
    column = splits.modality.columns[0]
    back = np.concatenate([p.x[:, 0, 0, 0] for p in (splits.train, splits.test)])
    restored = np.sort(back * column.scale + column.mean)
    np.testing.assert_allclose(restored, np.sort(frame.x), rtol=1e-5)
    words = splits.train.x[:, 0, 0, 1:].argmax(1)
    assert splits.modality.columns[1] == Column("word", ("a", "b", "c"))
    assert set(words) == {0, 1, 2}


def test_new_rows_are_encoded_like_those_of_the_training(table, tmp_path):
    """Catches columns by their place, scales of the new rows, and unknown words as known ones."""
    like = open_data(table, labels_from="ill").modality
    new = tmp_path / "new.csv"
    new.write_text("score,city,age,more,sex\n3.5,Lima,40,1,m\n,Rome,,2,f\n")
    samples, text = said(open_data, str(new), like=like)
    x = {c.name: i for c, i in zip(like.columns, np.cumsum([0, *like.widths]), strict=False)}
    rows = samples.train.x[:, 0, 0]
    score = like.columns[3]
    assert rows[0, x["score"]] == pytest.approx((3.5 - score.mean) / score.scale)
    assert rows[1, x["score"]] == rows[1, x["age"]] == 0
    city = like.columns[1]
    assert not rows[0, x["city"] : x["city"] + city.width].any()
    assert rows[1, x["city"] + city.words.index("Rome")] == 1
    assert "1 column of new.csv that the encoder did not learn from is left out: more" in text
    assert "1 row have a word of 'city'" in text
    assert "such as 'Lima'" in text
    array = open_data(np.array([[40, "Rome", "m", 3.5]], object), like=like).train.x
    assert array[0, 0, 0, x["score"]] == rows[0, x["score"]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            "score,age,sex\n1,2,m\n2,3,f\n",
            "lacks 1 column that the encoder learned from: city; add it",
        ),
        ("age,city,sex,score\nold,Rome,m,1\nyoung,Oslo,f,2\n", "'age' holds words, such as 'old'"),
        ("age,age\n1,2\n", "two columns 'age'"),
        ("1,2\n3,4\n", r"the first row of .* holds numbers"),
        ("a,b\n", "has no rows"),
        ("a,b\n1\n", "rows of the same length"),
    ],
)
def test_other_tables_are_refused(text, match, table, tmp_path):
    like = open_data(table, labels_from="ill").modality
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=match):
        open_data(str(path), like=like)


def test_a_column_whose_name_a_run_cannot_record_is_refused():
    """Catches a training whose run cannot be opened again."""
    frame = pd.DataFrame({"How often? " * 50: [1.0, 2.0], "age": [3.0, 4.0]})
    with pytest.raises(UserError, match=r"'How often.*…' of the table has a name of 550 letters"):
        open_data(frame)


def test_labels_that_were_learned_from_are_refused(table):
    """The accuracy of what the encoder has seen would be no accuracy."""
    like = open_data(table).modality
    with pytest.raises(UserError, match=r"learned from the column 'ill'.*--labels-from ill"):
        open_data(table, like=like, labels_from="ill")
    with pytest.raises(UserError, match="no column 'il'; did you mean"):
        open_data(table, labels_from="il")
    with pytest.raises(UserError, match=r"choose the column: people\.csv:COLUMN"):
        open_data(table, labels_from=table)
    assert open_data(table, labels_from=f"{table}:ill").target == "ill"


def test_groups_and_numbers_as_labels(table, tmp_path):
    """A group is on one side, and is not learned from; ages are numbers to predict."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"site": np.repeat(list("abcdefgh"), 10), "x": rng.normal(size=80)})
    frame["y"] = rng.normal(size=80)
    splits, _ = said(open_data, frame, labels_from="y", groups_from="site")
    assert splits.targets == {"y": Numbers()}
    assert [c.name for c in splits.modality.columns] == ["x"]
    assert not set(splits.train.groups) & set(splits.test.groups)
    assert len(splits.test)


def test_parquet_and_arrays_are_tables_for_a_method_of_tables(tmp_path):
    frame = pd.DataFrame(
        {"x": [1.0, 2, np.nan, 4], "word": ["a", "b", None, "a"], "on": [True, False] * 2}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=True)
    one, other = (
        said(open_data, str(tmp_path / name), kinds=(Table,))[0] for name in ("t.parquet", "t.csv")
    )
    assert one.modality == other.modality == said(open_data, frame)[0].modality
    assert np.array_equal(one.train.x, other.train.x)
    x = np.arange(12.0).reshape(4, 3)
    np.savez(tmp_path / "t.npz", x=x, y=[0, 1, 0, 1])
    splits = said(open_data, str(tmp_path / "t.npz"), kinds=(Table,))[0]
    assert (splits.target, splits.modality.widths) == ("label", (1, 1, 1))
    assert isinstance(said(open_data, torch.tensor(x), kinds=(Table,))[0].modality, Table)
    with pytest.raises(UserError, match="is no table; give"):
        open_data(np.zeros((4, 3, 2)), kinds=(Table,))
    with pytest.raises(UserError, match="infinite"):
        open_data(np.array([[1.0, np.inf], [2, 3]]), kinds=(Table,))
    with pytest.raises(UserError, match="no column varies"):
        said(open_data, np.ones((4, 3)), kinds=(Table,))


@pytest.mark.parametrize("unit", ["ns", "us", "D"])
def test_dates_are_words_and_decimals_numbers(unit):
    """Catches dates as nanoseconds, a missing one as a number far below, and prices as words."""
    days = np.array(["2024-01-01", "NaT", "2024-01-02", "2024-01-01"], f"datetime64[{unit}]")
    frame = pd.DataFrame({"day": days, "price": [Decimal("1.50"), None, Decimal(2), Decimal(3)]})
    samples = read_table(frame, None)
    day, price = samples.modality.columns
    assert day.words == ("2024-01-01 00:00:00", "2024-01-02 00:00:00")
    assert price.words == ()
    expected = [[0, 1.5], [np.nan, np.nan], [1, 2], [0, 3]]
    np.testing.assert_array_equal(samples.x[:, 0, 0], expected)
    labeled = Samples(np.zeros((4, 1, 2, 2), np.uint8))
    add(labeled, {"day": days})
    assert labeled.targets == {"day": Classes(day.words)}
    assert labeled.factors["day"].tolist() == [0, -1, 1, 0]


def test_rare_words_and_words_beside_numbers_are_said():
    words = [f"w{i % 70}" for i in range(700)] + ["w3"] * 5
    mixed = ["unknown"] + [str(i) for i in range(704)]
    frame = pd.DataFrame({"word": words, "mixed": mixed, "x": np.arange(705) % 9})
    splits, text = said(open_data, frame)
    assert splits.modality.columns[0].width == 50
    assert "200 rows have a word of 'word' that is not among the 50 commonest" in text
    assert "mixed holds 1 word beside numbers, such as 'unknown'" in text


def series(n=40, length=12, channels=2):
    return np.random.default_rng(0).normal(3, 2, (n, length, channels))


def test_series_are_standardized_by_channel_and_training_part():
    x = series()
    splits = open_data((x, np.arange(40) % 2), kinds=(Series,))
    assert splits.train.x.shape == (32, 2, 1, 12)
    assert splits.train.x.dtype == np.float32
    assert np.allclose(splits.train.x.mean((0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(splits.train.x.std((0, 2, 3)), 1, atol=1e-5)
    modality = splits.modality
    again = open_data(x, like=modality).train.x
    means, scales = (np.array(v)[:, None] for v in (modality.means, modality.scales))
    expected = (x.transpose(0, 2, 1) - means) / scales
    np.testing.assert_allclose(again[:, :, 0], expected, rtol=1e-4, atol=1e-5)


def test_gaps_and_short_series_are_missing_and_nothing_else_is():
    """Catches observed values at the mean that count as missing, and gaps that do not."""
    x = np.tile([[-1.0], [0.0], [1.0], [0.0]], (6, 1, 1))
    x[0, 2:] = np.nan
    x[0, :2] = 0  # so that the mean is 0, which four of the others hold, too
    with_two = np.concatenate([x, np.arange(24.0).reshape(6, 4, 1)], 2)
    with_two[2, 1, 0] = np.nan
    two, text = said(open_data, with_two, kinds=(Series,))
    assert "3 values missing beside other channels" in text
    assert (two.train.x != 0).any(1).all()
    splits, text = said(open_data, x, kinds=(Series,))
    assert "2 of 24 timestamps are missing, in 1 of 6 series, and are masked" in text
    missing = ~(splits.train.x != 0).any(1)[:, 0]
    assert missing[0].tolist() == [False, False, True, True]
    assert not missing[1:].any()
    parts = [np.ones(3), np.arange(5.0)]
    ragged, text = said(open_data, parts, kinds=(Series,))
    assert ragged.size == (1, 5)
    assert not ragged.train.x[0, 0, 0, 3:].any()
    assert ragged.train.x[0, 0, 0, :3].all()


def test_a_tensor_is_read_as_precisely_as_an_array():
    """Catches float32 before the mean is subtracted, which leaves steps of 8 at 1e8."""
    x = 1e8 + np.random.default_rng(0).normal(size=(6, 20))
    of_array, of_tensor = (open_data(v, kinds=(Series,)) for v in (x, torch.from_numpy(x)))
    np.testing.assert_array_equal(of_tensor.train.x, of_array.train.x)


def test_series_of_another_length_are_padded_or_cut_aloud():
    like = open_data(series(), kinds=(Series,)).modality
    longer, text = said(open_data, series(length=15), like=like)
    assert longer.size == (1, 12)
    assert "40 of 40 series are longer than the 12 timestamps" in text
    shorter, text = said(open_data, series(length=7), like=like)
    assert shorter.train.x.shape == (40, 2, 1, 12)
    assert not shorter.train.x[..., 7:].any()
    assert "longer" not in text


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.zeros((3, 4, 5, 6)), "holds no series"),
        (np.array([["a", "b"]]), "holds no series"),
        (np.array([[1.0, np.inf], [1, 2]]), "infinite"),
        (np.array([[1.0, 2], [np.nan, np.nan]]), "1 of 2 series hold no value"),
        ([np.zeros((3, 2)), np.zeros((4, 3))], "of the same channels"),
    ],
)
def test_what_is_no_series_is_refused(x, match):
    with pytest.raises(UserError, match=match):
        open_data(x, kinds=(Series,))


def test_channels_and_statistics_must_fit():
    one = open_data(series(), kinds=(Series,))
    with pytest.raises(UserError, match=r"have 3 channels, but the encoder learned from 2"):
        open_data(series(channels=3), like=one.modality)
    other = open_data(series() + 1, kinds=(Series,))
    with pytest.raises(UserError, match="standardized by other training rows"):
        open_data(one, like=other.modality)
    assert open_data(one, like=one.modality).train.x is one.train.x
    with pytest.raises(UserError, match="standardized, not resized"):
        open_data(series(), size=(4, 4), kinds=(Series,))
    _, text = said(open_data, series(length=3, channels=9), kinds=(Series,))
    assert "transpose (N, C, T)" in text


def test_records_survive_json_and_damaged_ones_do_not(table):
    for modality in (
        open_data(table, labels_from="ill").modality,
        open_data(series(), kinds=(Series,)).modality,
    ):
        record = json.loads(json.dumps(to_json(modality)))
        assert from_json(record) == from_json(to_json(modality)) == modality
    good = json.loads(json.dumps(to_json(modality)))
    for bad in ({"scales": [1.0]}, {"scales": [0.0, 1.0]}, {"means": ["a", 1]}, {"channels": 0}):
        with pytest.raises(ValueError):  # noqa: PT011  names the field alone
            from_json(good | bad)
    for columns in (
        [],
        [["a"]],
        [["a", [], 0.0, 0.0]],
        [["a", [1], 0.0, 1.0]],
        [[1, [], 0.0, 1.0]],
    ):
        with pytest.raises(ValueError, match="columns"):
            from_json({"kind": "table", "columns": columns})


RUN = ["--epochs", "2", "--batch-size", "16", "--logger", "none", "--encoder-args.width", "8"]


def test_a_table_is_learned_from_and_evaluated_by_the_command(tmp_path, monkeypatch, capsys):
    """End to end: train, evaluate beside raw, PCA and random, embed, classify, predict, explore."""
    from unlabeled.cli.main import main

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 150)
    frame = pd.DataFrame(
        {
            "a": rng.normal(y, 0.5),
            "b": rng.normal(size=150),
            "s": np.where(y ^ (rng.random(150) < 0.2), "u", "v"),
        }
    )
    frame["kind"] = np.where(y, "yes", "no")
    frame.to_csv("t.csv", index=False)
    frame.drop(columns="kind").to_csv("new.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        words = ["train", "scarf", "--data", "t.csv", "--labels-from", "kind", "--out", "run"]
        assert main([*words, *RUN]) == 0
        assert main(["evaluate", "run", "--json"]) == 0
        result = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
        assert {"raw", "pca", "random"} <= set(result["baselines"])
        assert result["modality"] == "table"
        assert result["metrics"]["linear_probe"]["value"] > 0.7
        assert "knn" in result["metrics"]
        assert json.loads((tmp_path / "run/config.json").read_text())["method_args"]["widths"] == [
            1,
            1,
            2,
        ]
        assert main(["embed", "run", "new.csv", "--out", "z.npy"]) == 0
        assert np.load("z.npy").shape == (150, 8)
        assert main(["classify", "run", "--out", "model"]) == 0
        assert main(["predict", "model", "new.csv", "--out", "c.csv"]) == 0
        assert set(pd.read_csv("c.csv")["class"]) == {"yes", "no"}
        found = ul.explore(ul.load("run"), "new.csv", "map.html", layout="pca", clusters=3)
        assert main(["export", "model", "--to", "torchscript", "--out", "mlp.pt"]) == 0
        assert main(["export", "run", "--to", "onnx", "--out", "mlp.onnx"]) == 0
        for name in ("pca", "mlp"):  # whose input is the table without its labels
            assert main(["evaluate", name, "--data", "t.csv", "--labels-from", "kind"]) == 0
        rows = ul.load("run").read("new.csv")
        folder = ul.load("run").save_pretrained("hub")
        np.testing.assert_allclose(ul.load(folder).embed("new.csv"), np.load("z.npy"), atol=1e-5)
    assert "holds the names of the columns" in (tmp_path / "hub/README.md").read_text()
    z = torch.jit.load("mlp.pt")(torch.from_numpy(rows.x))[0]
    np.testing.assert_allclose(z.detach(), np.load("z.npy"), atol=1e-5)
    assert found["samples"] == 150
    assert "a -" in (tmp_path / "map.html").read_text()


def test_series_are_learned_from_and_evaluated_by_the_command(tmp_path, monkeypatch, capsys):
    from unlabeled.cli.main import main

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    phase = rng.random((80, 1)) * 6
    x = np.sin(np.arange(32) * np.where(y, 0.4, 1.1)[:, None] + phase)
    x[::7, 25:] = np.nan
    np.savez("s.npz", x=x, y=y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        assert (
            main(
                [
                    "train",
                    "ts2vec",
                    "--data",
                    "s.npz",
                    "--out",
                    "run",
                    *RUN,
                    "--encoder-args.dim",
                    "16",
                ]
            )
            == 0
        )
        assert (tmp_path / "run/views.png").stat().st_size > 1000
        assert main(["evaluate", "run", "--json"]) == 0
        result = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
        assert {"raw", "pca", "spectrum", "random"} <= set(result["baselines"])
        assert result["modality"] == "series"
        assert result["metrics"]["linear_probe"]["value"] > 0.7
        assert (tmp_path / "run/report/index.html").is_file()
        found = ul.explore(ul.load("run"), "s.npz", "map.html", layout="pca", clusters=2)
        assert main(["export", "run", "--to", "torchscript", "--out", "dilated.pt"]) == 0
    assert found["samples"] == 80
    seen = torch.jit.load("dilated.pt", _extra_files=(files := {"metadata.json": ""}))
    assert json.loads(files["metadata.json"])["input_name"] == "series"
    run = ul.load("run")
    np.testing.assert_allclose(
        ul.load(run.save_pretrained("hub")).embed(x), run.embed(x), atol=1e-5
    )
    again = seen(torch.from_numpy(run.read(x).x)).detach()
    np.testing.assert_allclose(again, run.embed(x), atol=1e-5)


def test_the_estimator_takes_tables_and_series():
    """Catches a fit that needs images, and an encoder of images for other data."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=30), "b": list("xyz") * 10})
    quick = {"epochs": 1, "batch_size": 8, "progress": False, "logger": "none"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        model = ul.SelfSupervised("scarf", **quick).fit(frame)
        z = model.transform(frame)
        assert z.shape == (30, 256)
        np.testing.assert_allclose(model.transform(frame[["b", "a"]]), z, rtol=1e-5)
        assert model.feature_names_in_.tolist() == ["a", "b"]
        again = ul.SelfSupervised("ts2vec", encoder_args={"width": 4, "dim": 6}, **quick)
        assert again.fit(rng.normal(size=(20, 16))).transform(rng.normal(size=(3, 16))).shape == (
            3,
            6,
        )
