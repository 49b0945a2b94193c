"""Trainings side by side: the same weights as one after another, and none without its parent."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from unlabeled.data.sets import dsprites
from unlabeled.errors import UserError
from unlabeled.studies.lab import Lab
from unlabeled.studies.side_by_side import Training

pytestmark = pytest.mark.slow
SMALL = {"epochs": 2, "batch_size": 32, "logger": "none"}
STUDY = """
import sys
from unlabeled.data.sets import dsprites
from unlabeled.studies.lab import Lab
from unlabeled.studies.side_by_side import Training
long = {"epochs": 10_000, "batch_size": 32, "logger": "none"}
lab = Lab(__import__("pathlib").Path(sys.argv[1]), dsprites.load(images=300))
lab.train_all([Training(name, "simclr", options=long) for name in "ab"])
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="one after another on a GPU")
def test_weights_are_those_of_one_training_after_another(tmp_path):
    """Catches options, data or seeds that are lost on the way to the other process."""
    data = dsprites.load(images=300)
    part = dsprites.load(images=200)
    trainings = [
        Training("a", "simclr", 0, None, SMALL | {"temperature": 0.3}),
        Training("a", "simclr", 1, None, SMALL | {"temperature": 0.3}),
        Training("b", "supervised", 0, part, SMALL),
    ]
    together, distance = Lab(tmp_path / "together", data), Lab(tmp_path / "apart", data)
    together.train_all(trainings)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for training in trainings:
            ours = together.folder(training.name, training.seed)
            assert (ours / "encoder.safetensors").is_file()
            expected, result = distance.trained(training), together.trained(training)
            for a, b in zip(
                expected.encoder.parameters(), result.encoder.parameters(), strict=True
            ):
                np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-3, atol=1e-4)
            config = json.loads((ours / "config.json").read_text())
            assert config["seed"] == training.seed
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(torch.cuda.is_available(), reason="one after another on a GPU")
def test_the_others_are_trained_when_one_fails(tmp_path):
    """Catches hours of trainings that are given up, and a message without the run's name."""
    broken = Training("broken", "simclr", 0, None, SMALL | {"lr": 1e30, "optimizer": "sgd"})
    fine = [Training(name, "simclr", 0, None, SMALL) for name in ("b", "c", "d")]
    lab = Lab(tmp_path, dsprites.load(images=300))
    with pytest.raises(UserError, match=r"1 of 4 trainings failed.*; broken: .*lower --lr"):
        lab.train_all([broken, *fine])
    for training in fine:
        assert (lab.folder(training.name, 0) / "encoder.safetensors").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="one after another on a GPU")
def test_a_training_stops_with_its_parent_and_is_saved(tmp_path):
    """Catches processes that go on for hours after the study was killed."""
    study = subprocess.Popen([sys.executable, "-c", STUDY, str(tmp_path)])
    tables = [tmp_path / "runs" / name / "metrics.csv" for name in "ab"]
    try:
        deadline = time.monotonic() + 120
        while not all(table.is_file() for table in tables):
            assert study.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        study.send_signal(signal.SIGKILL)
        study.wait()
    deadline = time.monotonic() + 60
    records = [table.parent / "config.json" for table in tables]
    while not all("SIGTERM" in record.read_text() for record in records):
        assert time.monotonic() < deadline, "the trainings go on, or were not saved"
        time.sleep(0.5)
