"""A classifier on frozen features: trained, measured, written, opened and used."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.classify import fit, train_classifier
from unlabeled.evaluation.finetune import accuracy, finetune
from unlabeled.evaluation.knn import knn_predict
from unlabeled.evaluation.tuning import held_out

NAMES = np.array(["blue", "green", "red"])


def photographs(n, seed=0):
    """Noisy images (n, 16, 16, 3) and the names of their colors, of which many are wrong."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.integers(0, 160, (n, 16, 16, 3))
    x[np.arange(n), :, :, 2 - y] += rng.integers(0, 60, n)[:, None, None]
    return x.astype(np.uint8), NAMES[y]


@pytest.fixture(scope="module")
def data():
    return photographs(300)


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    run = ul.load("histogram", data=data)
    return ul.classify(run, data, out=tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images in files, and a .csv of their labels."""
    path = tmp_path_factory.mktemp("photos")
    x, names = photographs(60, 1)
    rows = ["file,color"]
    for i, image in enumerate(x):
        Image.fromarray(image).save(path / f"{i:02}.png")
        rows.append(f"{i:02}.png,{names[i]}")
    (path.parent / "labels.csv").write_text("\n".join(rows))
    return path


def features(seed=0, n=400, d=6, k=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    z = rng.normal(size=(n, d)) + 1.2 * np.eye(k, d)[y]
    z = 5 + z * np.array([1, 10, 0.1, 1, 1, 1])[:d]
    z[:, -1] = 7.0  # never varies
    return z.astype(np.float32), y


def test_the_linear_classifier_is_scikit_learns_on_standardized_features():
    z, y = features()
    ours = fit(z, y, list("abc"), "linear", 10.0)
    varies = z.std(0) > 0
    scaled = (z[:, varies] - z[:, varies].mean(0)) / z[:, varies].std(0)
    theirs = LogisticRegression(C=1 / 10, tol=1e-8, max_iter=5000).fit(scaled, y)
    logits = ours.logits(z).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(p, theirs.predict_proba(scaled), atol=2e-4)


@pytest.mark.parametrize("k", [1, 7, 1000])
def test_the_nearest_neighbors_vote_as_in_evaluation(k):
    z, y = features()
    new, _ = features(1, 100)
    classifier = fit(z, y, list("abc"), "knn", k)
    np.testing.assert_array_equal(classifier.logits(new).argmax(1), knn_predict(z, y, new, k))
    assert np.isfinite(classifier.logits(new)).all()


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_nothing_is_scored_by_a_classifier_that_learned_from_it(kind):
    """Labels that are noise cannot be known: what is held out is scored as by chance."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(200, 300)).astype(np.float32), rng.integers(0, 4, 200)
    (scores,), y_out = held_out(z, y, kind, [1.0 if kind == "linear" else 5])
    assert len(y_out) == 200
    assert (scores.argmax(1) == y_out).mean() < 0.4
    learned = fit(z, y, list("abcd"), kind, 1.0 if kind == "linear" else 1)
    assert (learned.logits(z).argmax(1) == y).mean() == 1


def test_the_penalty_follows_the_labels():
    """Noise needs a large one; many labels and few features a small one."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 100)).astype(np.float32)
    weak = (z[:, 0] + 3 * rng.normal(size=300) > 0).astype(np.int64)
    _, large = train_classifier(z, weak, ["a", "b"])
    _, small = train_classifier(z[:, :5], (z[:, 0] > 0).astype(np.int64), ["a", "b"])
    assert large >= 100 > 10 >= small


def test_test_labels_choose_nothing(data):
    """Other test labels, the same classifier."""
    run = ul.load("small", data=data)
    test_x, test_names = photographs(50, 5)
    with pytest.warns(Notice, match="50 of array are tested on"):
        models = [
            ul.classify(run, data, test=(test_x, labels))
            for labels in (test_names, test_names[::-1])
        ]
    first, second = (m.classifier for m in models)
    assert torch.equal(first.weight, second.weight)
    assert first.temperature == second.temperature
    assert first.figures["accuracy"] != second.figures["accuracy"]
    assert first.figures["labels"] == len(data[0])


def test_what_is_measured_is_what_predict_gives(model, data):
    splits = ul.open_data(data)
    y_test = np.array(splits.classes)[splits.test.factors[splits.target]]
    predicted = model.predict(splits.test.x)
    figures = model.classifier.figures
    assert figures["accuracy"]["value"] == pytest.approx((predicted == y_test).mean())
    assert figures["accuracy"]["low"] < figures["accuracy"]["value"] < figures["accuracy"]["high"]
    assert figures["accuracy"]["value"] > figures["most_frequent_class"]["value"] + 0.2
    assert figures["n_test"] == len(y_test) == 60
    commonest = np.unique(y_test, return_counts=True)
    assert figures["most_frequent_class"]["value"] in commonest[1] / 60
    p = model.predict_proba(splits.test.x)
    assert (p.dtype, p.shape) == (np.float32, (60, 3))
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert model.classifier.classes == list(NAMES)


def test_a_model_folder_is_opened_as_it_was(model, data):
    again = ul.load(model.path)
    expected = model.predict_proba(data[0])
    np.testing.assert_allclose(again.predict_proba(data[0]), expected, atol=1e-6)
    assert again.classifier.record() == model.classifier.record()
    np.testing.assert_array_equal(again.embed(data[0][:5]), model.embed(data[0][:5]))
    with pytest.raises(UserError, match="not empty"):
        ul.classify(model, data, out=model.path)


def test_a_model_of_neighbors(data, tmp_path):
    run = ul.load("histogram", data=data)
    model = ul.classify(run, data, kind="knn", labels=30, out=tmp_path / "m")
    assert model.classifier.bank.shape == (30, run.dim)
    again = ul.load(tmp_path / "m")
    expected = model.predict_proba(data[0])
    np.testing.assert_allclose(again.predict_proba(data[0]), expected, atol=1e-6)


def test_classes_without_a_training_label_are_wrong_not_guessed(data):
    """Catches codes of classes that are taken for columns."""
    x, names = data
    remaining = names != "blue"
    test = photographs(60, 3)
    run = ul.load("small", data=data)
    with pytest.warns(Notice) as notices:
        model = ul.classify(run, (x[remaining], names[remaining]), test=test)
    assert any("not among those to learn from: blue" in str(n.message) for n in notices)
    assert model.classifier.classes == ["green", "red"]
    predicted = model.predict(test[0])
    expected = (predicted == test[1]).mean()
    assert model.classifier.figures["accuracy"]["value"] == pytest.approx(expected)


def test_columns_are_those_of_the_classes_that_have_a_training_label(data):
    """Catches codes of the data set where its first class was never labeled."""
    splits = ul.open_data(data)
    has_others = np.flatnonzero(splits.train.factors[splits.target] > 0)
    splits.train = splits.train.take(has_others)
    model = ul.classify(ul.load("histogram", data=data), splits)
    assert model.classifier.classes == ["green", "red"]
    y_test = np.array(splits.classes)[splits.test.factors[splits.target]]
    expected = (model.predict(splits.test.x) == y_test).mean()
    assert model.classifier.figures["accuracy"]["value"] == pytest.approx(expected)
    assert expected > 0.4


def test_one_label_of_each_class_is_not_calibrated(data):
    with pytest.warns(Notice, match="not calibrated"):
        model = ul.classify(ul.load("small", data=data), data, labels=3)
    assert model.classifier.temperature == 1


def test_a_class_of_a_single_group_is_not_calibrated_on():
    """Catches a temperature of no samples, and a message that speaks of labels."""
    rng, y = np.random.default_rng(0), np.repeat([0, 1], [1200, 1000])
    z = (rng.normal(size=(2200, 4)) + np.eye(4)[y]).astype(np.float32)
    with pytest.warns(Notice, match="each class has one group, .* at least two groups of a class"):
        train_classifier(z, y, ["a", "b"], groups=y)
    groups = np.repeat([0, 1, 2], [1200, 500, 500])  # the first is all of the held-out fifth
    classifier, _ = train_classifier(z, y, ["a", "b"], groups=groups)
    assert 0.1 < classifier.temperature < 10


def test_labels_to_finetune_are_of_as_many_groups_as_they_can_be(data, monkeypatch):
    """Catches labels of one group while others have none, unlike those of `classify`."""
    from unlabeled.evaluation import finetune as module

    class DrawnError(Exception):
        """Ends the call before it trains."""

    def sample_labels(y, labels, seed=0, groups=None):
        assert groups is not None
        assert len(groups) == len(y)
        raise DrawnError

    monkeypatch.setattr(module, "sample_labels", sample_labels)
    run = ul.load("small", data=data)
    with pytest.raises(DrawnError), pytest.warns(Notice, match="no group is on both sides"):
        finetune(run, data, labels=6, groups_from=np.arange(300) // 10)


def test_a_finetuned_run_has_its_classifier(data, tmp_path):
    run = ul.load("small", data=data)
    tuned, _ = finetune(run, data, out=tmp_path / "t", epochs=12, scratch=False, progress=False)
    splits = ul.open_data(data)
    y_test = np.array(splits.classes)[splits.test.factors[splits.target]]
    again = ul.load(tmp_path / "t")
    share = (again.predict(splits.test.x) == y_test).mean()
    assert share == pytest.approx(accuracy(tuned, splits))
    assert share > 0.4
    assert again.classifier.temperature == 1


def test_a_finetuned_run_is_calibrated_on_an_official_validation_part(tmp_path):
    for part, n, seed in (("train", 60, 0), ("val", 30, 1), ("test", 30, 2)):
        x, names = photographs(n, seed)
        for i, image in enumerate(x):
            path = tmp_path / "d" / part / names[i] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    with pytest.warns(Notice, match="30 for validation are set aside"):
        tuned, _ = finetune(
            ul.load("small", data=str(tmp_path / "d"), size=16), str(tmp_path / "d"),
            labels_from="folders", out=tmp_path / "t", epochs=2, scratch=False, progress=False,
        )  # fmt: skip
    assert tuned.classifier.temperature != 1
    assert ul.load(tmp_path / "t").classifier.temperature == tuned.classifier.temperature


def test_the_commands_from_labels_to_classes(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    labels = str(folder.parent / "labels.csv")
    words = ["classify", "histogram", "--data", str(folder), "--labels-from", labels]
    assert main([*words, "--kind", "linear", "--out", "model"]) == 0
    out = capsys.readouterr().out
    figures = json.loads((tmp_path / "model" / "classifier.json").read_text())["figures"]
    assert f"{100 * figures['accuracy']['value']:.2f} %" in out
    assert "most frequent class" in out
    assert "calibration error" in out
    assert main(["predict", "model", str(folder), "--out", "labels.csv"]) == 0
    rows = list(csv.DictReader(open("labels.csv", newline="")))  # noqa: SIM115, PTH123
    assert [row["name"] for row in rows] == [f"{i:02}.png" for i in range(60)]
    model = ul.load("model")
    assert [row["class"] for row in rows] == list(model.predict(str(folder)))
    best = model.predict_proba(str(folder)).max(1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], best, atol=1e-6)
    assert list(rows[0]) == ["name", "class", "probability"]
    # What it writes is read as labels again.
    again = [*words[:-1], "labels.csv:class", "--out", "second", "--kind", "knn"]
    assert main(again) == 0


def test_all_probabilities_in_parquet_and_of_arrays_and_single_files(model, folder, tmp_path):
    np.save(tmp_path / "x.npy", photographs(7, 9)[0])
    for data, n in ((tmp_path / "x.npy", 7), (folder / "03.png", 1)):
        words = ["predict", str(model.path), str(data), "--all-probabilities"]
        assert main([*words, "--out", str(tmp_path / "y.parquet")]) == 0
        table = pq.read_table(tmp_path / "y.parquet").to_pydict()
        expected = model.predict_proba(str(data))
        assert expected.shape == (n, 3)
        for k, name in enumerate(NAMES):
            np.testing.assert_allclose(table[f"probability_{name}"], expected[:, k], atol=1e-6)
        np.testing.assert_allclose(table["probability"], expected.max(1), atol=1e-6)
        names = [str(i) for i in range(7)] if n == 7 else ["03.png"]
        assert table["name"] == names


def test_without_a_classifier_the_command_that_makes_one_is_named(data):
    run = ul.load("small", data=data)
    with pytest.raises(UserError, match=r"small has no classifier; .*unlabeled classify small"):
        run.predict(data[0])


def damage(folder, **fields):
    path = folder / "classifier.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "pickle"}, "kind"),
        ({"kind": ["linear"]}, "kind"),
        ({"kind": "knn"}, "neighbors"),
        ({"classes": ["a", "b"]}, "weights"),
        ({"classes": ["a", "a", "b"]}, "classes"),
        ({"classes": "abc"}, "classes"),
        ({"classes": [1, 2, 3]}, "classes"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": 1e300}, "temperature"),
        ({"figures": []}, "figures"),
    ],
)
def test_a_strangers_classifier_is_checked(fields, says, model, tmp_path):
    shutil.copytree(model.path, tmp_path / "m")
    damage(tmp_path / "m", **fields)
    with pytest.raises(UserError, match=rf"damaged \({says}\)"):
        ul.load(tmp_path / "m")


def test_weights_of_a_strangers_classifier_are_checked(model, data, tmp_path):
    shutil.copytree(model.path, tmp_path / "m")
    path = tmp_path / "m" / "classifier.safetensors"
    good = load_file(path)
    for change in (
        {"weight": good["weight"].double()},
        {"weight": good["weight"] * torch.nan},
        {"weight": good["weight"][:, :5].contiguous()},
        {"more": torch.zeros(3)},
    ):
        save_file(good | change, path)
        with pytest.raises(UserError, match=r"damaged \(weights\)"):
            ul.load(tmp_path / "m")
    path.write_bytes(b"\x80\x04nothing")
    with pytest.raises(UserError, match="damaged"):
        ul.load(tmp_path / "m")
    path.unlink()
    path.symlink_to(model.path / "classifier.safetensors")
    with pytest.raises(UserError, match="leads out"):
        ul.load(tmp_path / "m")
    neighbors = ul.classify(model, data, kind="knn", labels=9, out=tmp_path / "k")
    bank = load_file(tmp_path / "k" / "classifier.safetensors")
    save_file(bank | {"labels": bank["labels"] + 1}, tmp_path / "k" / "classifier.safetensors")
    with pytest.raises(UserError, match=r"damaged \(weights\)"):
        ul.load(neighbors.path)
