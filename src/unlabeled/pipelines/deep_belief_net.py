"""Deep belief network: restricted Boltzmann machines stacked greedily (Hinton et al. 2006).

Hinton, Osindero, Teh 2006, "A Fast Learning Algorithm for Deep Belief Nets", sections 4–5.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.core import check_options
from unlabeled.data.dataset import Samples, Splits, to_float
from unlabeled.data.open import open_data
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.rbm import RBM
from unlabeled.modality import Images
from unlabeled.runs.run import Run, load
from unlabeled.training.train import reopen, train
from unlabeled.utils.files import write_json
from unlabeled.utils.state import preserve_rng


def deep_belief_net(
    data: Any,
    *,
    widths: tuple[int, ...] = (500, 500),
    epochs: int | None = None,
    gibbs_steps: int = 1,
    lr: float | None = None,
    seed: int = 0,
    size: int | None = None,
    workers: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Run:
    """Train Boltzmann machines one after another; each is a run folder in `out`.

    The first learns from images, each further one from the hidden probabilities of the one below.
    Stacked they are an encoder of dense layers, `net` in `out`.

    Args:
        data: images in any supported form.
        widths: hidden units of each machine.
        epochs: of each machine (default: those of `rbm`).
        gibbs_steps: of each machine.
        lr: of each machine (default: that of `rbm`).
        seed: of all randomness.
        size: side of the images in pixels.
        workers: processes that decode files.
        out: the folder (default: runs/deep_belief_net).
        resume: continue where it was stopped.
        progress: show progress bars.

    Returns:
        the stack; `deep_belief_net.json` in `out` has the likelihood bound by number of layers.

    Raises:
        UserError: there are no layers, or the data does not fit.
    """
    check_options(deep_belief_net, dict(locals()))
    if not widths or min(widths) < 1:
        raise UserError(f"widths is {widths}; give at least 1 unit for each of at least 1 layer")
    splits = open_data(data, size=None if size is None else (size, size), workers=workers)
    folder = Path(out or "runs/deep_belief_net")
    options: dict[str, Any] = {"seed": seed, "resume": resume, "progress": progress}
    options |= {k: v for k, v in {"epochs": epochs, "lr": lr}.items() if v is not None}
    options["gibbs_steps"] = gibbs_steps
    runs: list[Run] = []
    machines: list[RBM] = []
    inputs, figures = splits, {}
    for number, width in enumerate(widths, 1):
        layer, args = folder / f"layer{number}", {"widths": (width,)}
        run = train("rbm", inputs, encoder_args=args, out=layer, **options)
        machine: Any = run.method
        runs.append(run)
        machines.append(machine.cpu())
        with preserve_rng(seed):
            figures[f"bound_with_{number}"] = bound(machines, splits)
        inputs = hidden_probabilities(run, inputs)
    write_json(folder / "deep_belief_net.json", figures | {"seed": seed})
    return stacked(machines, runs[0], splits, folder / "net")


def hidden_probabilities(run: Run, inputs: Splits) -> Splits:
    """Hidden probabilities of a machine's inputs as images of one row, (N, 1, 1, units)."""

    def part(samples: Samples) -> Samples:
        if not len(samples):
            return samples
        x = (255 * run.features(samples)).round().astype(np.uint8)[:, None, None]
        return Samples(x, samples.factors, modality=Images(1, (1, run.dim), (0.0, 255.0)))

    return Splits(f"hidden units of {inputs.name}", part(inputs.train), part(inputs.test))


@torch.no_grad()
def bound(machines: list[RBM], splits: Splits) -> float:
    """Lower bound of log p of up to 1,000 test images, nats per image (their eq. 8).

    E_q[log p(v|h₁) + log p(h₁|h₂) + … + log p(v_top)] + the entropy of q; the top machine's
    partition function is estimated by annealed importance sampling.
    """
    part = splits.test if len(splits.test) else splits.train
    x = to_float(torch.from_numpy(part.x[:1000]), splits.value_range)
    v = torch.bernoulli(x.flatten(1).clamp(0, 1))
    total = torch.zeros(len(v))
    *below, top = machines
    for machine in below:
        p = machine.hidden(v).sigmoid()
        h = torch.bernoulli(p)
        entropy = torch.special.entr(p) + torch.special.entr(1 - p)
        pixels = machine.pixels(h).clamp(1e-6, 1 - 1e-6)
        total += entropy.sum(1) - F.binary_cross_entropy(pixels, v, reduction="none").sum(1)
        v = h
    return float((total - top.free_energy(v) - top.log_partition()).mean())


def stacked(machines: list[RBM], first: Run, splits: Splits, out: Path) -> Run:
    """One encoder of all layers, in its run folder."""
    widths = tuple(machine.hidden.out_features for machine in machines)
    encoder: Any = build("dense", splits.channels, splits.size, widths=widths)
    for stage, machine in zip(encoder.stages, machines, strict=True):
        stage.linear.load_state_dict(machine.hidden.state_dict())
    args = {"widths": list(widths)}
    config = first.config | {"method": "deep_belief_net", "encoder_args": args}
    out.mkdir(parents=True, exist_ok=True)
    run = Run(out, encoder, config, first.inputs | {"args": args, "dim": widths[-1]}, splits)
    run.save()
    write_json(out / "config.json", config)
    return run


@dataclass
class Stack:
    """Stacked machines, from the pixels up, that can be sampled."""

    machines: list[RBM]

    @torch.no_grad()
    def sample(self, number: int, steps: int = 1000) -> Tensor:
        """Pixel probabilities (number, C, H, W): chains of the top machine, then a pass down."""
        *below, top = self.machines
        x = top.sample(number, steps).flatten(1)
        for machine in reversed(below):
            x = machine.pixels(torch.bernoulli(x))
        return x.view(-1, *self.machines[0].shape)


def restored(run: Run) -> Stack:
    """The machines of a finished net, from the folders beside it.

    Raises:
        UserError: one of them is missing or damaged.
    """
    layers = range(1, len(run.inputs["args"]["widths"]) + 1)
    machines: Any = [reopen(load(run.path.parent / f"layer{number}")) for number in layers]
    return Stack([machine.cpu() for machine in machines])
