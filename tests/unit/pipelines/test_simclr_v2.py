"""SimCLRv2: three trainings, one after another."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import unlabeled as ul
from unlabeled import registry
from unlabeled.cli.main import main
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.pipelines import simclr_v2


@pytest.fixture
def few_epochs() -> dict:
    return {"epochs": 1, "batch_size": 64, "finetune_epochs": 2, "distill_epochs": 1}


def test_the_command_trains_all_three_and_resumes(sprites, tmp_path, few_epochs, capsys):
    np.savez(tmp_path / "d.npz", x=sprites[0], y=sprites[1])
    flags = [f"--{k}={v}" for k, v in few_epochs.items()]
    command = ["train", "simclr_v2", "--data", str(tmp_path / "d.npz"), "--labels", "30", *flags]
    out = ["--out", str(tmp_path / "v2")]
    assert main([*command, *out]) == 0
    output = capsys.readouterr().out
    figures = json.loads((tmp_path / "v2" / "simclr_v2.json").read_text())
    assert figures["labels"] == 30
    for key in ("linear", "finetuned", "student"):
        assert 0 < figures[key] <= 1
        assert key in output
    student = ul.load(tmp_path / "v2" / "student")
    weights = (student.path / "encoder.safetensors").read_bytes()
    assert main([*command, *out, "--resume"]) == 0
    assert (student.path / "encoder.safetensors").read_bytes() == weights
    assert json.loads((tmp_path / "v2" / "simclr_v2.json").read_text()) == figures


def test_fine_tuning_starts_from_the_first_layer_of_the_head(sprites, tmp_path):
    """What is fine-tuned begins as the pretrained encoder and one of its head's three layers."""
    from unlabeled.data import open_data
    from unlabeled.training.train import reopen

    splits = open_data(sprites)
    options = {"epochs": 1, "batch_size": 64, "progress": False}
    pretrained = ul.train("simclr", splits, out=tmp_path / "a", head_layers=3, dim=16, **options)
    head = reopen(pretrained).head
    assert sum(isinstance(layer, torch.nn.Linear) for layer in head) == 3
    tuned = simclr_v2.finetune_from_middle(
        pretrained, splits, "30", out=tmp_path / "b", epochs=1, progress=False
    )
    encoder, layer, *_ = tuned.encoder
    assert layer.weight.shape == head[0].weight.shape
    moved = (layer.weight - head[0].weight.to(layer.weight)).abs().max()
    assert 0 < moved < 0.1
    assert tuned.config["labels"] == "30"
    assert tuned.config["images"] == 30
    assert encoder.dim == 128


def test_each_step_leaves_the_ones_before_as_they_were(sprites, tmp_path):
    """Fails where fine-tuning trains the pretrained encoder in place, so that the "linear" figure
    is a probe of the fine-tuned one; or where the teacher learns, moves or changes its mode.
    """
    from unlabeled.data import open_data

    def snapshot(run):
        state = {k: v.cpu().numpy().tobytes() for k, v in run.method.state_dict().items()}
        return (
            state,
            [m.training for m in run.method.modules()],
            run.embed(sprites[0][:7]).tobytes(),
        )

    splits = open_data((sprites[0][:120], sprites[1][:120]))
    options = {"batch_size": 32, "progress": False, "logger": "none"}
    pretrained = ul.train(
        "simclr", splits, out=tmp_path / "a", epochs=1, head_layers=3, dim=16, **options
    )
    pretrained.encoder.stages[0].train()  # an owner's own mode
    before = snapshot(pretrained)
    quiet = {"epochs": 1, "progress": False}
    teacher = simclr_v2.finetune_from_middle(pretrained, splits, "30", out=tmp_path / "b", **quiet)
    assert snapshot(pretrained) == before
    taught = snapshot(teacher)
    student = simclr_v2.distill(teacher, splits, encoder="small", out=tmp_path / "c", **quiet)
    figures = simclr_v2.accuracies(pretrained, teacher, student, splits, "30", 0)
    assert snapshot(pretrained) == before
    assert snapshot(teacher) == taught
    fresh = simclr_v2.accuracies(ul.load(tmp_path / "a"), teacher, student, splits, "30", 0)
    assert figures["linear"] == fresh["linear"]


def test_distillation_is_the_cross_entropy_of_equation_2():
    torch.manual_seed(0)
    teacher = registry.find("methods", "supervised")(
        build("small", 1, (32, 32), width=2), classes=4
    )

    class Student(simclr_v2._Distillation):
        teacher_model = teacher

    student = Student(build("small", 1, (32, 32), width=2), classes=4, temperature=3.0).eval()
    x = student.views(Batch(torch.rand(5, 1, 32, 32), torch.arange(5)))
    loss = student.loss(x)
    with torch.no_grad():
        p = F.softmax(teacher.eval().classifier(teacher.encoder(x)) / 3, 1)
        q = F.softmax(student.classifier(student.encoder(x)) / 3, 1)
    naive = -sum(p[i, c] * q[i, c].log() for i in range(5) for c in range(4)) / 5
    assert loss.item() == pytest.approx(naive.item(), abs=1e-6)
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert not any("teacher_model" in key for key in student.state_dict())


def test_it_is_listed_and_refused_where_it_does_not_fit(sprites, capsys):
    assert "simclr_v2" in registry.listing("methods")
    with pytest.raises(UserError, match="no labels"):
        simclr_v2.simclr_v2(sprites[0])
    with pytest.raises(UserError, match="several trainings"):
        ul.train("simclr_v2", sprites)
    assert main(["views", "simclr_v2", "--data", "dsprites", "--out", "v.png"]) == 2
    assert "several trainings" in capsys.readouterr().err
