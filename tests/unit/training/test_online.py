"""Accuracy while training: right, on labels that nothing learns from, and without any effect."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import same_weights
from torch import nn

import unlabeled as ul
from unlabeled.errors import UserError
from unlabeled.evaluation.evaluate import measure
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.methods.simclr import SimCLR
from unlabeled.methods.supervised import Supervised
from unlabeled.report.page import write_report
from unlabeled.training.online import hold_out
from unlabeled.training.prepare import prepare
from unlabeled.utils.files import read_csv

pytestmark = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
FAST = {"batch_size": 32, "logger": "none", "progress": False, "precision": "fp32"}
RNG = np.random.default_rng(0)
Y = np.arange(200) % 4
X = (RNG.integers(0, 120, (200, 16, 16)) + 40 * Y[:, None, None]).astype(np.uint8)


class Net(nn.Sequential):
    """With everything that behaves otherwise in training, and a layer frozen in eval mode."""

    dim = 8

    def __init__(self, channels=1):
        layers = nn.Conv2d(channels, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)
        super().__init__(*layers, nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self[4].eval()


def checkpoint(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_a_probe_changes_no_bit_of_the_training(tmp_path):
    """Catches modes that stay changed, running statistics that move, and lost random states."""
    for name, options in (("plain", {}), ("probed", {"probe_every": 1})):
        run = ul.train(
            "simclr", (X, Y), encoder=Net, out=tmp_path / name, epochs=3, **FAST, **options
        )
        assert run.dim == 8
    plain, probed = (checkpoint(tmp_path / name) for name in ("plain", "probed"))
    assert same_weights(tmp_path / "plain", tmp_path / "probed")
    for key in ("state_dict", "optimizer_states"):
        one, two = (torch.utils._pytree.tree_leaves(state[key]) for state in (plain, probed))
        assert len(one) == len(two) > 5
        for a, b in zip(one, two, strict=True):
            assert (
                torch.equal(torch.as_tensor(a), torch.as_tensor(b))
                if torch.is_tensor(a)
                else a == b
            )
    before, after = (read_csv(tmp_path / name / "metrics.csv") for name in ("plain", "probed"))
    assert set(after) - set(before) == {"knn", "linear_probe"}
    assert all(repr(after[k]) == repr(before[k]) for k in before if k != "samples_per_second")


def test_accuracies_are_those_of_the_encoder_on_held_out_labels(tmp_path):
    splits = ul.open_data((X, Y))
    options = FAST | {"logger": "tensorboard", "out": tmp_path / "a"}
    with pytest.warns(UserWarning, match=r"learn from 128 labels .* scored on 32 held out"):
        run = ul.train("simclr", splits, epochs=3, probe_every=2, **options)
    columns = read_csv(run.path / "metrics.csv")
    assert [not np.isnan(v) for v in columns["knn"]] == [True, False, True, True]
    probe = hold_out(run.method, "simclr", splits, None, 0)
    parts = probe.train, probe.held_out
    (z, y), (z_held, y_held) = ((run.features(p), p.factors[probe.target]) for p in parts)
    assert columns["knn"][-1] == knn_accuracy(z, y, z_held, y_held)
    assert columns["linear_probe"][-1] == linear_probe(z, y, z_held, y_held).test
    used = [row.tobytes() for part in parts for row in part.x]
    assert len(set(used)) == len(used) == len(splits.train)
    assert not set(used) & {row.tobytes() for row in splits.test.x}
    page = write_report(run, measure(run, splits)).read_text()
    assert "linear probe (held-out labels)" in page
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("knn")] == [2, 3]


def test_labels_are_of_the_validation_part_where_there_is_one(tmp_path):
    full = ul.open_data((X, Y))
    validation = full.train.take(np.arange(20))
    splits = replace(full, train=full.train.take(np.arange(20, 160)), validation=validation)
    probe = hold_out(SimCLR(Net()), "simclr", splits, None, 0)
    rows = sorted(row.tobytes() for row in probe.held_out.x)
    assert rows == sorted(row.tobytes() for row in validation.x)
    assert len(probe.train) == 140


@pytest.mark.parametrize(("method", "labels"), [("simclr", None), ("supervised", "8")])
def test_no_group_is_on_both_sides(method, labels):
    groups = np.repeat([f"patient {i}" for i in range(50)], 4)
    splits = ul.open_data((X, Y), groups_from=groups)
    kind = SimCLR(Net()) if method == "simclr" else Supervised(Net(), classes=4)
    probe = hold_out(kind, method, splits, labels, 0)
    assert not set(probe.train.groups) & set(probe.held_out.groups)
    assert len(probe.train) >= 8
    assert len(probe.held_out) >= 20


@pytest.mark.parametrize("method", ["supervised", "fixmatch"])
def test_a_supervised_method_is_scored_on_labels_that_it_does_not_learn_from(method, tmp_path):
    with pytest.raises(UserError, match=rf"labels that {method} does not learn from, but"):
        ul.train(method, (X, Y), probe_every=1, epochs=1, out=tmp_path / "a", **FAST)
    assert not (tmp_path / "a").exists()
    out = tmp_path / "b"
    ul.train(method, (X, Y), labels="40", probe_every=1, epochs=1, out=out, **FAST)
    assert not np.isnan(read_csv(out / "metrics.csv")["knn"]).any()
    job = prepare(method, (X, Y), labels="40", probe_every=1, precision="fp32")
    train, held_out = (
        {row.tobytes() for row in part.x} for part in (job.probe.train, job.probe.held_out)
    )
    known = job.splits.train.labeled("label")
    assert {row.tobytes() for row in known.x} == train
    assert len(held_out) == len(job.complete.train) - 40
    assert not held_out & train


@pytest.mark.parametrize(
    "data", [X, (X, Y + 0.5), (X, np.arange(200))], ids=["no", "numbers", "own"]
)
def test_data_without_classes_that_repeat_is_said_to_have_none(data, tmp_path):
    with pytest.raises(UserError, match="probe_every needs"):
        ul.train("simclr", data, probe_every=1, epochs=1, out=tmp_path / "a", **FAST)
    with pytest.raises(UserError, match="probe_every is 0, but must be at least 1"):
        ul.train("simclr", (X, Y), probe_every=0, out=tmp_path / "a", **FAST)


def test_the_alarm_stays(tmp_path):
    class Collapse(ul.Method):
        """All features become one point."""

        def views(self, batch):
            return batch.x

        def loss(self, x):
            weight, bias = self.encoder[1].weight, self.encoder[1].bias
            return weight.pow(2).sum() + (bias - 1).pow(2).sum()

    encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    options = FAST | {"epochs": 20, "lr": 3e-2, "out": tmp_path / "c", "probe_every": 2}
    with pytest.warns(UserWarning, match="collapse"):
        ul.train(Collapse, (X, Y), encoder=encoder, **options)


def test_a_probe_may_be_added_when_a_run_is_resumed(tmp_path):
    options = FAST | {"out": tmp_path / "a"}
    ul.train("simclr", (X, Y), epochs=1, **options)
    ul.train("simclr", (X, Y), epochs=3, probe_every=1, resume=True, **options)
    known = ~np.isnan(read_csv(tmp_path / "a" / "metrics.csv")["knn"])
    assert known.tolist() == [False, False, True, True]


@pytest.mark.slow
def test_two_processes_measure_once(tmp_path):
    np.savez(tmp_path / "x.npz", x=X, y=Y)
    words = ["train", "simclr", "--data", "x.npz", "--devices", "2", "--accelerator", "cpu"]
    words += ["--epochs", "2", "--batch-size", "32", "--probe-every", "1", "--out", "run"]
    command = [sys.executable, "-m", "unlabeled", *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("while training, k-NN and a linear probe") == 1
    columns = read_csv(tmp_path / "run" / "metrics.csv")
    assert columns["epoch"] == [0, 1, 2]
    assert not np.isnan(columns["linear_probe"]).any()
