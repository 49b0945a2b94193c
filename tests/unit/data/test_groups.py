"""Groups, such as patients, are never on both sides of a split."""

import json

import numpy as np
import pytest
from PIL import Image

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.data import open_data
from unlabeled.data.split import sample_labels
from unlabeled.errors import UserError
from unlabeled.evaluation.evaluate import measure

pytestmark = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
RNG = np.random.default_rng(0)


def patients(folder, names, each=6, parts=("",)):
    """Images of patients, in folders by patient, half of each of two kinds; and a table."""
    rows = ["file,kind,patient"]
    for part in parts:
        for name in names:
            for i in range(each):
                path = folder / part / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                x = RNG.integers(0, 128, (16, 16)) + 100 * (i % 2)
                Image.fromarray(x.astype(np.uint8)).save(path)
                rows.append(f"{path.relative_to(folder)},{'ab'[i % 2]},{name}")
    (folder / "table.csv").write_text("\n".join(rows))
    return folder


def parquet(folder, place):
    """The same images as a table of bytes, with their names, kinds and patients as columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [line.split(",") for line in (folder / "table.csv").read_text().splitlines()[1:]]
    columns = {
        "image": [{"bytes": (folder / name).read_bytes(), "path": name} for name, *_ in rows],
        "kind": [kind for _, kind, _ in rows],
        "patient": [patient for *_, patient in rows],
    }
    pq.write_table(pa.table(columns), place / "all.parquet")
    return str(place / "all.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return patients(tmp_path_factory.mktemp("patients"), [f"p{i}" for i in range(10)])


def of_group(samples):
    return {name.rpartition("/")[0].rpartition("/")[2] for name in samples.names}


@pytest.mark.parametrize("groups", ["folders", "table", "array", "npy", "column"])
def test_no_group_is_on_both_sides(groups, folder, tmp_path):
    """Fails where samples are drawn by their own names."""
    table = folder / "table.csv"
    names = np.repeat([f"p{i}" for i in range(10)], 6)
    np.save(tmp_path / "groups.npy", names)
    path = {"table": f"{table}:patient", "array": names, "npy": str(tmp_path / "groups.npy")}
    if groups == "column":
        splits = open_data(parquet(folder, tmp_path), labels_from="kind", groups_from="patient")
        train, test = set(splits.train.groups), set(splits.test.groups)
    else:
        splits = open_data(
            str(folder), labels_from=f"{table}:kind", groups_from=path.get(groups, groups)
        )
        train, test = of_group(splits.train), of_group(splits.test)
    assert len(train) == 8
    assert len(test) == 2
    assert not train & test
    assert len(splits.train) + len(splits.test) == 60
    plain = open_data(str(folder), labels_from=f"{table}:kind")
    assert of_group(plain.train) & of_group(plain.test)


def test_groups_are_the_second_folder_where_the_first_is_the_label(tmp_path):
    for kind in "ab":
        patients(tmp_path / "data" / kind, [f"{kind}{i}" for i in range(5)])
        (tmp_path / "data" / kind / "table.csv").unlink()
    splits = open_data(str(tmp_path / "data"), labels_from="folders", groups_from="folders")
    assert set(splits.train.groups) == of_group(splits.train)
    assert not of_group(splits.train) & of_group(splits.test)
    assert len(of_group(splits.test)) == 2


def test_official_splits_lose_what_they_share(tmp_path):
    patients(tmp_path, ["p0", "p1", "p2"], parts=("train",))
    patients(tmp_path, ["p2", "p3"], parts=("test",))
    x = open_data(str(tmp_path), groups_from="folders")
    assert of_group(x.train) == {"p0", "p1"}
    assert of_group(x.test) == {"p2", "p3"}


def test_a_test_set_takes_its_groups_from_the_training(folder, tmp_path):
    other = patients(tmp_path / "other", ["p3", "q1"])
    splits = open_data(str(folder), groups_from="folders", test=str(other))
    assert of_group(splits.train) == {f"p{i}" for i in range(10)} - {"p3"}
    assert of_group(splits.test) == {"p3", "q1"}


def test_samples_without_a_group_are_groups_of_their_own(folder, tmp_path):
    lines = (folder / "table.csv").read_text().splitlines()
    lines[1:7] = [line.replace(",p0", ",") for line in lines[1:7]]
    (tmp_path / "some.csv").write_text("\n".join(lines))
    splits = open_data(
        str(folder),
        labels_from=f"{folder / 'table.csv'}:kind",
        groups_from=f"{tmp_path / 'some.csv'}:patient",
    )
    for part in (splits.train, splits.test):
        codes = part.group_codes()
        alone = part.groups == ""
        assert len(set(codes[alone])) == alone.sum()
        assert len(set(codes[~alone])) == len(set(part.groups[~alone]))
    assert not set(splits.train.groups) & set(splits.test.groups) - {""}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("table.csv", "choose that of the groups"),
        ("nothing.csv:patient", "check the path"),
        ("patient", "there are no groups 'patient'"),
        (np.arange(3), "one group for each"),
        (np.zeros(60), "all labeled samples"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message, folder):
    path = str(folder / groups) if isinstance(groups, str) and ".csv" in groups else groups
    with pytest.raises(UserError, match=message):
        open_data(str(folder), labels_from=f"{folder / 'table.csv'}:kind", groups_from=path)


def test_labels_and_groups_may_be_in_the_home_folder(tmp_path, monkeypatch):
    """Catches ~, which is found for the data and for tables, but not for arrays."""
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", RNG.integers(0, 255, (20, 8, 8)).astype(np.uint8))
    np.save(tmp_path / "y.npy", np.arange(20) % 2)
    np.save(tmp_path / "site.npy", np.arange(20) // 4)
    splits = open_data("~/x.npy", labels_from="~/y.npy", groups_from="~/site.npy")
    assert splits.classes == ["0", "1"]


def test_named_sets_have_their_own_split():
    with pytest.raises(UserError, match="omit --groups-from"):
        open_data("dsprites", groups_from="folders")


def test_groups_are_recorded_and_used_again(folder, tmp_path, capsys):
    """Fails where a run on groups is evaluated on a split of single samples."""
    out = tmp_path / "run"
    labels = f"{folder / 'table.csv'}:kind"
    words = ["--labels-from", labels, "--groups-from", "folders", "--epochs", "1"]
    words += ["--batch-size", "16", "--out", str(out), "--logger", "none"]
    assert main(["train", "simclr", "--data", str(folder), *words]) == 0
    assert json.loads((out / "config.json").read_text())["groups_from"] == "folders"
    run = ul.load(out)
    evaluation = measure(run)
    assert not of_group(evaluation.splits.train) & of_group(evaluation.splits.test)
    assert evaluation.to_json()["n_test_groups"] == 2
    grouped = evaluation.subjects[0].metrics["linear_probe"]
    capsys.readouterr()
    assert main(["evaluate", str(out), "--data", str(folder), *words[:2], "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["n_test_groups"] is None
    width = alone["metrics"]["linear_probe"]["high"] - alone["metrics"]["linear_probe"]["low"]
    assert grouped.high - grouped.low > width  # two patients say less than twelve images


def test_few_labels_are_of_as_many_groups_as_they_can_be():
    """Catches: labels of one group while others have none."""
    groups = np.array(["p0"] * 40 + [f"p{i}" for i in range(1, 6)] * 2)
    y = np.arange(50) % 2
    rows = sample_labels(y, 10, groups=groups)
    assert np.bincount(y[rows]).tolist() == [5, 5]
    for c in range(2):
        own = groups[rows][y[rows] == c]
        assert len(set(own)) == 5
    plain = sample_labels(y, 10)
    assert (groups[plain] == "p0").sum() > 5
    partly = np.where(np.arange(50) < 45, y, -1)
    assert not set(sample_labels(partly, 10, groups=groups)) & set(range(45, 50))


@pytest.mark.slow
def test_simclr_v2_keeps_groups_apart(folder, tmp_path):
    """Catches: a pipeline that opens its data without groups."""
    from unlabeled.pipelines.simclr_v2 import simclr_v2

    options = {"epochs": 1, "finetune_epochs": 1, "distill_epochs": 1, "batch_size": 16}
    labels = f"{folder / 'table.csv'}:kind"
    out = tmp_path / "run"
    simclr_v2(
        str(folder),
        labels="50%",
        labels_from=labels,
        groups_from="folders",
        out=out,
        progress=False,
        **options,
    )
    assert json.loads((out / "simclr_v2.json").read_text())["n_test"] == 12
    config = json.loads((out / "pretrained" / "config.json").read_text())
    assert config["groups_from"] == "folders"
