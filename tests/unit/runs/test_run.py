"""Before and after training: the plan, fine-tuning, comparing, the trainer's flags."""

import json
import re

import numpy as np
import pytest
import torch
from helpers import same_weights
from torch import nn

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.data.split import sample_labels
from unlabeled.errors import UserError
from unlabeled.evaluation.finetune import finetune
from unlabeled.evaluation.tuning import SETTINGS
from unlabeled.training.planning import estimate
from unlabeled.training.precision import exact_single_pixels
from unlabeled.training.prepare import prepare
from unlabeled.training.train import plan

FAST = {"batch_size": 64, "progress": False}


@pytest.mark.parametrize(
    ("labels", "number"), [("1%", 10), (0.05, 50), ("5%", 50), (37, 37), ("100%", 1000), ("37", 37)]
)
def test_few_labels_are_spread_over_the_classes(labels, number):
    y = np.random.default_rng(0).integers(0, 7, 1000)
    rows = sample_labels(y, labels)
    assert len(rows) == len(set(rows)) == number
    if number < 1000:
        counts = np.bincount(y[rows], minlength=7)
        assert counts.max() - counts.min() <= 1
        assert set(sample_labels(y, labels, seed=1)) != set(rows)
    assert np.array_equal(sample_labels(y, labels), rows)


@pytest.mark.parametrize("labels", ["many", "0.1%", 3, 2000, "-5", "200%"])
def test_labels_that_make_no_sense_are_refused(labels):
    with pytest.raises(UserError, match="labels"):
        sample_labels(np.arange(1000) % 7, labels)


def test_finetuning_starts_from_the_run_and_leaves_it_alone(trained, sprites, tmp_path):
    before = {k: v.clone() for k, v in trained.encoder.state_dict().items()}
    tuned, figures = finetune(
        trained, sprites, labels=60, out=tmp_path / "tuned", epochs=3, progress=False
    )
    after = trained.encoder.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert figures["labels"] == 60
    assert figures["penalty"] in SETTINGS["linear"]
    for key in ("finetuned", "frozen", "scratch"):
        assert 0 < figures[key]["low"] < figures[key]["value"] <= figures[key]["high"] <= 1
        assert figures[key]["value"] >= 0.2
    again = ul.load(tmp_path / "tuned")
    assert np.array_equal(again.embed(sprites[0][:5]), tuned.embed(sprites[0][:5]))
    assert json.loads((tmp_path / "tuned" / "finetuning.json").read_text()) == figures
    assert tuned.config["init"] == str(trained.path)


def test_finetuning_with_a_rate_of_nothing_keeps_the_encoder(trained, sprites, tmp_path):
    """So it does begin with the run's weights, and from scratch does not."""
    tuned, _ = finetune(trained, sprites, out=tmp_path / "a", epochs=1, lr=1e-12, progress=False)
    scratch = ul.load(tmp_path / "a" / "scratch").encoder
    for a, b, c in zip(
        *(e.parameters() for e in (trained.encoder, tuned.encoder, scratch)), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(a, c, atol=1e-3)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"lr": 0.0}])
def test_finetuning_for_nothing_is_refused(options, trained, sprites, tmp_path):
    """Catches a 0 that becomes the default."""
    with pytest.raises(UserError, match=r"(epochs|lr) is 0(\.0)?, but must be above 0"):
        finetune(trained, sprites, out=tmp_path / "a", progress=False, **options)
    assert not (tmp_path / "a").exists()


def test_a_finetuned_run_knows_its_data(sprites, tmp_path):
    x, y = sprites
    np.savez(tmp_path / "d.npz", x=x, y=y)
    run = ul.train("simclr", str(tmp_path / "d.npz"), out=tmp_path / "a", epochs=1, **FAST)
    options = {"labels": 30, "epochs": 1, "scratch": False, "progress": False}
    finetune(run, out=tmp_path / "b", **options)
    again = ul.load(tmp_path / "b")
    assert again.config["data"] == str(tmp_path / "d.npz")
    assert ul.evaluate(again)["n_test"] == 120


def test_finetuning_without_labels_is_refused(trained, sprites, tmp_path):
    with pytest.raises(UserError, match="no labels to fine-tune with"):
        finetune(trained, sprites[0], out=tmp_path / "a")


def test_a_run_goes_on_from_another(trained, sprites, tmp_path):
    small = sprites[0][:200, 16:48, 16:48]
    run = ul.train("simclr", small, init=trained.path, out=tmp_path / "a", epochs=1, **FAST)
    assert run.size == (64, 64)  # as the encoder it began with
    assert run.config["encoder"] == "small"


def test_the_plan_counts_parameters_steps_and_memory(sprites):
    job = prepare("simclr", sprites[0], batch_size=100, epochs=3)
    result = estimate(job.method, job.splits, job.recipe, "fp32", "cpu")
    assert result["steps"] == 3 * 6
    assert result["parameters"] == sum(p.numel() for p in job.method.parameters())
    larger = estimate(*prepare("simclr", sprites[0], batch_size=400, epochs=3)[1:4], "fp32", "cpu")
    assert 2.5 < larger["memory"] / result["memory"] < 5
    # The first map alone: 200 views, 16 channels of 32×32, float32.
    assert result["memory"] > 200 * 16 * 32 * 32 * 4
    assert result["seconds"] > 0


def test_planning_changes_nothing(sprites, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ul.train("simclr", sprites, out=tmp_path / "a", epochs=1, **FAST)
    text = plan("simclr", sprites, epochs=1, out="b", **FAST)
    assert re.search(r"1 epochs, 7 steps of 64, [\d,]+ parameters\nabout .* GB of memory", text)
    assert not (tmp_path / "b").exists()
    ul.train("simclr", sprites, out=tmp_path / "b", epochs=1, **FAST)
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_flags_of_lightnings_trainer_and_loggers(sprites, tmp_path):
    options = {"epochs": 2, "logger": "csv", **FAST}
    ul.train("simclr", sprites, out=tmp_path / "a", trainer={"limit_train_batches": 3}, **options)
    assert len(list((tmp_path / "a" / "csv").glob("metrics.csv"))) == 1
    assert not (tmp_path / "a" / "tensorboard").exists()
    for flags, says in (
        ({"wings": 2}, "no argument 'wings'"),
        ({"max_epoch": 2}, r"did you mean max_epochs"),
        ({"max_epochs": 2}, "use --epochs"),
        ({"accumulate_grad_batches": 2}, "use --accumulate"),
        ({"gradient_clip_val": 1.0}, "use --grad-clip-norm"),
    ):
        with pytest.raises(UserError, match=says):
            ul.train("simclr", sprites, out=tmp_path / "b", trainer=flags, **options)
    with pytest.raises(UserError, match="no logger 'paper'"):
        ul.train("simclr", sprites, out=tmp_path / "c", epochs=1, **FAST, logger="paper")


def test_the_command_says_what_to_do_next(sprites, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", sprites[0])
    words = ["train", "simclr", "--data", "x.npy", "--epochs", "1", "--batch-size", "64"]
    assert main([*words, "--dry-run"]) == 0
    assert "GB of memory" in capsys.readouterr().out
    assert main(words) == 0
    output = capsys.readouterr().out
    for command in ("evaluate", "explore", "embed", "export"):
        assert f"unlabeled {command} runs/simclr" in output


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False), (16, 32, 1, 1)),
        (nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), (16, 3, 2, 1)),
        (nn.Conv1d(3, 16, 3, stride=2, padding=1, bias=False), (16, 3, 1)),
        (nn.Conv3d(1, 16, 3, padding=1, bias=False), (4, 1, 1, 16, 16)),
        (nn.Conv3d(16, 16, 3, stride=2, padding=1, bias=False), (4, 16, 2, 1, 1)),
    ],
    ids=["pixel", "column", "moment", "plane", "line"],
)
def test_bf16_convolutions_across_single_pixels_are_written(layer, shape):
    """oneDNN leaves what is computed from weights that only see padding as it lay in memory."""
    torch.manual_seed(0)
    x = torch.rand(shape)
    if len(shape) == 4:
        layer, x = (part.to(memory_format=torch.channels_last) for part in (layer, x))
    true = layer(x)
    true.square().sum().backward()
    expected, layer.weight.grad = layer.weight.grad, None
    for _ in range(10):
        junk = [torch.full((2**k,), torch.nan) for k in range(4, 20) for _ in range(4)]
        del junk
        with exact_single_pixels(layer), torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        y.float().square().sum().backward()
        torch.testing.assert_close(y.float(), true, rtol=0.05, atol=0.05)
        torch.testing.assert_close(layer.weight.grad, expected, rtol=0.05, atol=0.5)
        layer.weight.grad = None
    assert not layer._forward_hooks
