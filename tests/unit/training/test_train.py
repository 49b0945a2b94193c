"""Runs: same seed, same bytes; resumed, the same too; clear words where something is wrong."""

import json
import math
import os
import re
import warnings

import numpy as np
import pytest
import torch
from helpers import same_weights
from safetensors.torch import load_file
from torch import nn

import unlabeled as ul
from unlabeled.augmentations import RandomAffine
from unlabeled.core import Batch, Method
from unlabeled.encoders.base import checksum
from unlabeled.errors import UserError
from unlabeled.evaluation.evaluate import measure
from unlabeled.report.page import write_report
from unlabeled.runs.run import Run
from unlabeled.training.train import plan, reopen
from unlabeled.utils.files import read_csv

FAST = {"batch_size": 64, "progress": False}


def test_a_run_folder_holds_what_made_it(trained):
    folder = trained.path
    config = json.loads((folder / "config.json").read_text())
    assert config["method"] == "simclr"
    assert config["seed"] == 0
    assert config["recipe"]["epochs"] == 2
    assert config["versions"]["torch"] == torch.__version__
    assert json.loads((folder / "encoder.json").read_text()) == {
        "encoder": "small",
        "args": {},
        "modality": {
            "kind": "images",
            "channels": 1,
            "size": [64, 64],
            "value_range": [0.0, 1.0],
            "dtype": "mask",
        },
        "dim": 128,
    }
    columns = read_csv(folder / "metrics.csv")
    assert columns["epoch"] == [0, 1, 2]  # 0: random weights
    assert {"loss", "lr", "std", "rankme", "alignment", "uniformity"} <= set(columns)
    assert all(math.isfinite(v) for values in columns.values() for v in values[1:])
    assert (folder / "last.ckpt").is_file()
    assert (folder / "views.png").is_file()
    assert list((folder / "tensorboard").glob("events*"))
    assert not list(folder.glob("*.tmp"))


def test_weights_are_those_of_the_encoder_alone(trained):
    weights = load_file(trained.path / "encoder.safetensors")
    assert set(weights) == set(trained.encoder.state_dict())


def test_same_seed_same_bytes_and_another_seed_not(sprites, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        ul.train("simclr", sprites, out=tmp_path / name, epochs=1, seed=seed, **FAST)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_a_stopped_run_resumes_to_the_same_bytes(sprites, tmp_path, monkeypatch):
    options = {"epochs": 3, **FAST}
    ul.train("simclr", sprites, out=tmp_path / "whole", **options)

    class StopError(Exception):
        pass

    from unlabeled.methods.simclr import SimCLR

    loss, calls = SimCLR.loss, []

    def stopping(self, views):
        calls.append(1)
        if len(calls) == 14:  # in the middle of the second epoch
            raise StopError
        return loss(self, views)

    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, "loss", stopping)
        with pytest.raises(StopError):
            ul.train("simclr", sprites, out=tmp_path / "parts", **options)
    with pytest.raises(UserError, match=r"not ended, continue it with --resume"):
        ul.load(tmp_path / "parts")
    ul.train("simclr", sprites, out=tmp_path / "parts", resume=True, **options)
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    full, parts = (read_csv(tmp_path / n / "metrics.csv") for n in ("whole", "parts"))
    assert full["loss"][1:] == parts["loss"][1:]
    assert full["rankme"] == parts["rankme"]


def test_a_full_folder_is_not_overwritten(trained, sprites):
    with pytest.raises(UserError, match="--resume"):
        ul.train("simclr", sprites, out=trained.path, **FAST)
    with pytest.raises(UserError, match="was made with"):
        ul.train("simclr", sprites, out=trained.path, resume=True, temperature=0.9, **FAST)


def test_resuming_a_finished_run_changes_nothing(sprites, tmp_path):
    ul.train("simclr", sprites, out=tmp_path / "a", epochs=1, **FAST)
    before = (tmp_path / "a" / "encoder.safetensors").read_bytes()
    ul.train("simclr", sprites, out=tmp_path / "a", epochs=1, resume=True, **FAST)
    assert (tmp_path / "a" / "encoder.safetensors").read_bytes() == before


def test_a_loaded_run_embeds_as_the_trained_one(trained, sprites):
    loaded = ul.load(trained.path)
    assert np.array_equal(loaded.embed(sprites[0]), trained.embed(sprites[0]))


def test_images_embed_the_same_in_every_usual_form(trained, sprites):
    x = sprites[0][:50]
    expected = trained.embed(x)
    assert expected.shape == (50, trained.dim)
    assert expected.dtype == np.float32
    forms = [
        x * np.uint8(255),
        x[:, None],
        x[:, None] * np.uint8(255),
        x[..., None],
        x.astype(bool),
        x.astype(np.float32),
        x.astype(np.float64) * 255,
        torch.from_numpy(x),
        torch.from_numpy(x)[:, None].float(),
    ]
    for form in forms:
        assert np.array_equal(trained.embed(form), expected)


def test_order_and_batch_size_do_not_matter_to_embedding(trained, sprites):
    x = sprites[0][:40]
    one = trained.embed(x, batch_size=7)
    np.testing.assert_allclose(one, trained.embed(x), atol=1e-5)
    np.testing.assert_allclose(trained.embed(x[::-1].copy())[::-1], trained.embed(x), atol=1e-5)


def test_a_users_own_module_trains_and_loads(sprites, tmp_path):
    def net():
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, 4), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()
        )

    run = ul.train("simclr", sprites, encoder=net(), out=tmp_path / "own", epochs=1, **FAST)
    assert run.dim == 6
    with pytest.raises(UserError, match="not loaded automatically"):
        ul.load(run.path)
    again = ul.load(run.path, encoder=net())
    assert np.array_equal(again.embed(sprites[0]), run.embed(sprites[0]))


class Volumes(nn.Module):
    """Takes the channels for the depth of a volume."""

    def __init__(self, channels=1):
        super().__init__()
        self.conv, self.dim = nn.Conv3d(1, 4, 3, padding=1), 4

    def forward(self, x):
        return self.conv(x[:, None]).amax((2, 3, 4))


def test_an_encoder_may_have_three_dimensional_convolutions(sprites, tmp_path):
    """Catches channels last for all weights: "required rank 4 tensor"."""
    x = sprites[0][:64, ::4, ::4]
    plan("simclr", x, encoder=Volumes)
    run = ul.train("simclr", x, encoder=Volumes, out=tmp_path / "run", epochs=1, **FAST)
    again = ul.load(run.path, encoder=Volumes)
    assert np.allclose(again.embed(x), run.embed(x), atol=1e-6)


def test_labels_never_reach_an_unsupervised_method(sprites, tmp_path):
    class Spy(Method):
        def views(self, batch: Batch):
            assert batch.y is None
            return batch.x

        def loss(self, views):
            return self.encoder(views).float().var()

    ul.train(Spy, sprites, out=tmp_path / "spy", epochs=1, **FAST)


def test_turns_move_only_their_player_and_update_follows(sprites, tmp_path):
    seen = []

    class Two(Method):
        optimized_modules = ("encoder", "critic")

        def __init__(self, encoder):
            super().__init__(encoder)
            self.critic = nn.Linear(encoder.dim, 1)

        def views(self, batch):
            return batch.x

        def optimizer_steps(self, x):
            before = self.critic.weight.clone()
            yield "critic", self.critic(self.encoder(x).detach()).float().pow(2).mean()
            moved = not torch.equal(before, self.critic.weight)
            head = next(self.encoder.parameters()).clone()
            critic = self.critic.weight.clone()
            yield "encoder", -self.critic(self.encoder(x)).float().mean()
            seen.append(
                (
                    moved,
                    torch.equal(critic, self.critic.weight),
                    not torch.equal(head, next(self.encoder.parameters())),
                )
            )

        def update(self):
            seen.append(self.progress)

    ul.train(Two, sprites[0], out=tmp_path / "two", epochs=2, schedule="constant", **FAST)
    turns, progress = seen[::2], seen[1::2]
    assert all(turn == (True, True, True) for turn in turns)
    assert progress == [i / len(progress) for i in range(len(progress))]


def test_nan_stops_the_run_and_says_where(sprites, tmp_path):
    class Broken(Method):
        def views(self, batch):
            return batch.x

        def loss(self, x):
            factor = math.nan if self.progress > 0.49 else 1.0
            return self.encoder(x).float().mean() * factor

    with pytest.raises(UserError, match=r"nan in epoch 2, step 1.*--lr"):
        ul.train(Broken, sprites[0], out=tmp_path / "nan", epochs=2, **FAST)
    assert (tmp_path / "nan" / "last.ckpt").is_file()


@pytest.mark.parametrize("name", ["mmcr", "wmse"])
def test_a_loss_by_a_decomposition_diverges_in_the_same_words(name, sprites, tmp_path):
    """Catches a traceback of LAPACK, which refuses NaN before there is a loss."""
    options = FAST | {"lr": 1e30, "optimizer": "sgd"}
    with pytest.raises(UserError, match=r"epoch 1, step \d+; try a lower --lr"):
        ul.train(name, sprites[0], out=tmp_path / "a", epochs=1, **options)


def test_collapse_is_told_in_plain_words(sprites, tmp_path):
    class Collapse(Method):
        """No negatives, no predictor, no slow target: everything may go to one point."""

        def views(self, batch):
            return RandomAffine()(batch.x), RandomAffine()(batch.x)

        def loss(self, views):
            a, b = (torch.nn.functional.normalize(self.encoder(v).float()) for v in views)
            return -(a * b).sum(1).mean()

    with pytest.warns(UserWarning, match="collapse"):
        ul.train(Collapse, sprites[0], out=tmp_path / "c", epochs=12, lr=1e-2, **FAST)


def test_a_healthy_run_raises_no_alarm(sprites, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ul.train("simclr", sprites[0], out=tmp_path / "h", epochs=2, **FAST)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "simclrr"}, "no method 'simclrr'; did you mean simclr"),
        ({"encoder": "big"}, "no encoder 'big'"),
        ({"color": 3}, "has no option 'color'"),
        ({"epochs": 0}, "at least 1"),
        ({"data": np.zeros((1, 8, 8))}, "give at least 2"),
        ({"method": "supervised", "data": np.zeros((9, 8, 8))}, "learns from labels"),
    ],
)
def test_what_does_not_fit_is_reported(change, says, sprites, tmp_path):
    options = {"method": "simclr", "data": sprites, "out": tmp_path / "x"} | change
    with pytest.raises(UserError, match=says):
        ul.train(options.pop("method"), options.pop("data"), **options)
    assert not (tmp_path / "x").exists()


def test_evaluation_has_the_figures_and_their_baselines(trained, sprites):
    result = ul.evaluate(trained, sprites)
    keys = {"linear_probe", "knn", "similarity_gap", "similarity_gap_centered", "rankme", "dim"}
    encoders = result["metrics"], result["baselines"]["raw"], result["baselines"]["random"]
    for metrics in encoders:
        assert keys <= set(metrics)
        values = {key: metric["value"] for key, metric in metrics.items()}
        assert 0 <= values["linear_probe"] <= 1
        assert 0 <= values["knn"] <= 1
        assert abs(values["similarity_gap"]) < 1
        assert values["rankme"] > 1
    assert result["metrics"]["dim"]["value"] == 128
    assert result["baselines"]["raw"]["dim"]["value"] == 4096
    page = write_report(trained, measure(trained, sprites)).read_text()
    assert page.count("<svg") >= 8
    assert not re.search(r"(src|href|url)\W+https?:", page)  # self-contained


def test_evaluation_without_labels_keeps_to_what_can_be_known(trained, sprites):
    result = ul.evaluate(trained, sprites[0])
    assert set(result["metrics"]) == {"rankme", "dim"}
    assert result["metrics"]["rankme"]["value"] > 1
    write_report(trained, measure(trained, sprites[0]))
    stored = json.loads((trained.path / "evaluation.json").read_text())
    assert set(stored["metrics"]) == {"rankme", "dim"}
    assert stored["weights"] == checksum(trained.encoder)  # else figures of others are published


def test_the_scikit_learn_transformer(sprites):
    from sklearn.base import clone

    x, _ = sprites
    model = clone(ul.SelfSupervised("simclr", epochs=1, **FAST))
    z = model.fit(x).transform(x[:9])
    assert z.shape == (9, 128)


def test_what_other_images_are_there_does_not_change_a_image(sprites, tmp_path):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 4000, (64, 16, 16)).astype(np.uint16)
    deep[0] //= 100  # a dark image
    run = ul.train("simclr", deep, out=tmp_path / "deep", epochs=1, batch_size=16, progress=False)
    assert np.allclose(run.embed(deep)[0], run.embed(deep[:1])[0], atol=1e-6)
    plain = (deep >> 4).astype(np.uint8)
    plain[0] = rng.integers(0, 2, (16, 16))
    run = ul.train("simclr", plain, out=tmp_path / "u8", epochs=1, batch_size=16, progress=False)
    loaded = ul.load(run.path)
    assert np.allclose(loaded.embed(plain)[0], loaded.embed(plain[:1])[0], atol=1e-6)
    floats = plain / np.float32(255)
    floats[1, 0, 0] = 1.01  # a little beyond white
    assert np.allclose(loaded.embed(floats)[0], loaded.embed(plain)[0], atol=1e-5)
    with pytest.raises(UserError, match="NaN or infinite"):
        loaded.embed(np.where(floats > 1, np.nan, floats))


def test_folders_of_others_are_left_alone(sprites, tmp_path):
    other = tmp_path / "model"
    (other / "tensorboard").mkdir(parents=True)
    (other / "config.json").write_text('{"model_type": "vit"}')
    (other / "draft.tmp").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        ul.train("simclr", sprites, out=other, epochs=1, **FAST)
    assert (other / "draft.tmp").exists()
    done = tmp_path / "done"
    ul.train("simclr", sprites, out=done, epochs=1, **FAST)
    for name in ("last.ckpt", "previous.ckpt"):
        (done / name).unlink(missing_ok=True)
    for resume in (False, True):
        with pytest.raises(UserError, match="not empty"):
            ul.train("supervised", sprites, out=done, epochs=1, resume=resume, **FAST)


def test_two_processes_do_not_train_in_one_folder(sprites, tmp_path):
    """Catches a second one that takes the folder over before its first checkpoint."""
    fcntl = pytest.importorskip("fcntl", reason="no locks on Windows")
    folder = tmp_path / "run"
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)  # what a training holds while it runs
    fcntl.flock(other, fcntl.LOCK_EX)
    for resume in (False, True):
        with pytest.raises(UserError, match=r"another process is training in .*; wait until"):
            ul.train("simclr", sprites, out=folder, epochs=1, resume=resume, **FAST)
    assert not list(folder.iterdir())
    os.close(other)  # as when a process is killed
    ul.train("simclr", sprites, out=folder, epochs=1, **FAST)
    ul.train("simclr", sprites, out=folder, epochs=1, resume=True, **FAST)


def test_a_run_that_is_killed_while_it_is_written_is_not_finished(tmp_path, monkeypatch):
    """Catches encoder.json before the tokenizer: texts are then embedded as unknown words."""
    texts = tmp_path / "texts.txt"
    texts.write_text(" ".join(np.random.default_rng(0).choice(["sun", "rain", "stone"], 3000)))

    class KilledError(Exception):
        pass

    def save(run):
        raise KilledError

    monkeypatch.setattr(Run, "save", save)
    with pytest.raises(KilledError):
        ul.train("masked_lm", texts, out=tmp_path / "run", epochs=1, **FAST)
    assert (tmp_path / "run" / "tokenizer.json").is_file()
    with pytest.raises(UserError, match="is not a finished run"):
        ul.load(tmp_path / "run")


def test_settings_may_be_numpys(sprites, tmp_path):
    options = FAST | {"epochs": np.int64(1), "lr": np.float32(1e-3)}
    run = ul.train("simclr", sprites, out=tmp_path / "a", **options)
    assert json.loads((run.path / "config.json").read_text())["recipe"]["epochs"] == 1
    with pytest.raises(UserError, match="seed"):
        ul.train("simclr", sprites, out=tmp_path / "b", seed=-1, **FAST)


def test_rows_of_a_program_keep_their_order(trained, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    x = np.random.default_rng(0).integers(0, 2, (20, 64, 64)).astype(np.uint8)\n"
        "    return x, np.arange(20) % 4\n"
    )
    x = np.random.default_rng(0).integers(0, 2, (20, 64, 64)).astype(np.uint8)
    assert np.allclose(trained.embed(f"{tmp_path}/mine.py"), trained.embed(x), atol=1e-6)


def test_nothing_learned_is_left_of_any_weight():
    from unlabeled.encoders.base import reinitialize

    encoder = nn.TransformerEncoderLayer(8, 2, 16)
    for weight in encoder.parameters():
        nn.init.normal_(weight)
    fresh = reinitialize(encoder)
    for (name, a), b in zip(encoder.named_parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(a, b), name


def test_schedules_of_a_run_are_where_training_ended(sprites, tmp_path):
    """Catches a method opened from its folder that is at the start of its schedules."""
    run = ul.train(
        "dino", sprites[0][:64], out=tmp_path / "run", prototypes=8, epochs=1,
        batch_size=32, progress=False, logger="none",
    )  # fmt: skip
    opened = reopen(ul.load(run.path))
    assert run.method.progress == opened.progress == 1.0
    x = torch.from_numpy(sprites[0][:32, None]).float() / 255
    assert opened.entropy(x) == pytest.approx(run.method.entropy(x), rel=1e-4)
