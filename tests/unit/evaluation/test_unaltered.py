"""What is judged, drawn, exported or started from stays what it was: weights, modes, gradients."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled import registry
from unlabeled.data import open_data
from unlabeled.data.dataset import Samples
from unlabeled.data.sets.scenes import draw
from unlabeled.encoders.base import build, reinitialize
from unlabeled.encoders.features import embed
from unlabeled.evaluation.baselines import random_of
from unlabeled.evaluation.evaluate import evaluate
from unlabeled.evaluation.finetune import accuracy, finetune
from unlabeled.evaluation.layers import embed_stages, evaluate_stages
from unlabeled.evaluation.transfer import Dense, learn
from unlabeled.methods.denoising_autoencoder import DenoisingAutoencoder
from unlabeled.methods.video_colorization import VideoColorization
from unlabeled.modality import Images, to_json
from unlabeled.runs.export import export
from unlabeled.runs.run import Run
from unlabeled.studies.lectures import in_train_mode
from unlabeled.training.history import History, _features
from unlabeled.training.local import alone
from unlabeled.training.planning import estimate
from unlabeled.training.prepare import prepare
from unlabeled.utils.state import eval_mode

SIZE = (32, 32)


def images(n: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (n, 1, *SIZE), dtype=np.uint8)


def splits(n: int = 24):
    return open_data((images(n), np.arange(n) % 2))


def half_frozen(channels: int = 1, name: str = "small") -> nn.Module:
    """An encoder in train mode whose first stage its owner froze."""
    torch.manual_seed(0)
    encoder = build(name, channels, SIZE, width=4).train()
    encoder.stages[0].eval().requires_grad_(False)
    return encoder


def a_run(path, encoder=None) -> Run:
    """Of an encoder of one's own, which no name rebuilds."""
    encoder = half_frozen() if encoder is None else encoder
    inputs = {
        "encoder": "Own",
        "args": {},
        "modality": to_json(Images(1, SIZE)),
        "dim": encoder.dim,
    }
    run = Run(path, encoder, {"method": "x", "data": None}, inputs)
    encoder.stages[1].train()  # whatever its owner wants
    return run


def snapshot(module: nn.Module) -> list:
    """All that an owner could miss."""
    state = [(k, v.device.type, v.cpu().numpy().tobytes()) for k, v in module.state_dict().items()]
    modes = [layer.training for layer in module.modules()]
    return [state, modes, [p.requires_grad for p in module.parameters()]]


def same(module: nn.Module, before: list) -> bool:
    """A plain truth, since pytest would spell out the difference for minutes."""
    return snapshot(module) == before


WITH_RUN = {
    "evaluate": lambda run, _: evaluate(run, splits()),
    "embed": lambda run, _: run.embed(images()),
    "finetune": lambda run, out: finetune(
        run, splits(48), out=out / "tuned", epochs=1, progress=False
    ),
    "export": lambda run, out: export(run, "safetensors", out / "x.safetensors"),
    "random weights": lambda run, _: random_of(run, splits()),
    "save": lambda run, _: run.save(),
}


@pytest.mark.filterwarnings("ignore:The .srun. command")
@pytest.mark.parametrize("use", WITH_RUN)
def test_a_run_is_left_as_it_was(use, tmp_path):
    """Fails for what trains it in place, moves it, or puts all its layers into one mode."""
    run = a_run(tmp_path)
    before, z = snapshot(run.encoder), run.embed(images())
    WITH_RUN[use](run, tmp_path)
    assert same(run.encoder, before)
    assert run.embed(images()).tobytes() == z.tobytes()


def measured(encoder: nn.Module) -> None:
    method = registry.find("methods", "simclr")(encoder)
    History("unused.csv", Samples(images()), (0.0, 255.0)).measure(method)


WITH_ENCODER = {
    "embed": lambda net: embed(net, images()),
    "build": lambda net: build(net, 1, SIZE),
    "forget": reinitialize,
    "embed_stages": lambda net: embed_stages(net, images()),
    "evaluate_stages": lambda net: evaluate_stages(net, splits()),
    "dense": lambda net: Dense(net, (1, 64, 64), freeze=True).train(),
    "transfer, frozen": lambda net: learn(net, SCENES, freeze=True, epochs=1),
    "transfer, fine-tuned": lambda net: learn(net, SCENES, freeze=False, epochs=1),
    "by stages": lambda net: alone(net, (1, *SIZE)),
    "stacked": lambda net: DenoisingAutoencoder(net, stacked=True, shape=(1, *SIZE)),
    "health in training": measured,
    "alignment": lambda net: _features(net, torch.rand(4, 1, *SIZE)),
    "batch statistics": lambda net: in_train_mode(net, images(), (0.0, 255.0)),
}
SCENES = draw(32, seed=1, side=64)


@pytest.mark.parametrize("use", WITH_ENCODER)
def test_an_encoder_is_left_as_it_was(use):
    encoder = half_frozen()
    before = snapshot(encoder)
    WITH_ENCODER[use](encoder)
    assert same(encoder, before)


def test_an_encoder_of_places_is_left_as_it_was():
    encoder = half_frozen(3, "spatial_resnet")
    before = snapshot(encoder)
    VideoColorization(encoder, shape=(3, *SIZE))
    assert same(encoder, before)


def test_a_classifier_is_scored_where_it_is():
    """Fails where scoring moves the classifier from its device, or trains what it scores."""
    method = registry.find("methods", "supervised")(half_frozen(), classes=2)
    run = a_run(None, method.encoder)
    run.method = method
    before = snapshot(method)
    assert 0 <= accuracy(run, open_data((images(), np.arange(24) % 2))) <= 1
    assert same(method, before)


def test_planning_leaves_the_method_as_it_was():
    job = prepare("simclr", images(), epochs=1, batch_size=8)
    job.method.encoder.stages[0].eval()
    before = snapshot(job.method)
    estimate(job.method, job.splits, job.recipe, "fp32", "cpu")
    assert same(job.method, before)


def test_modes_come_back_after_an_error():
    encoder, other = half_frozen(), copy.deepcopy(half_frozen()).eval()
    before = snapshot(encoder)

    def fail():
        with eval_mode(encoder, other):
            assert not any(layer.training for layer in encoder.modules())
            raise ValueError("so")

    with pytest.raises(ValueError, match="so"):
        fail()
    assert same(encoder, before)
    assert not other.training
