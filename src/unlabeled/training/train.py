"""Train a method on data."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unlabeled import registry
from unlabeled.core import Method
from unlabeled.data.dataset import Splits
from unlabeled.encoders.external import Backbone
from unlabeled.errors import Stopped, UserError, notice, signal_name
from unlabeled.modality import Text, find_part, to_json
from unlabeled.parallel import process_count
from unlabeled.runs.run import Run
from unlabeled.training import folder as record
from unlabeled.training.checkpointing import recomputed
from unlabeled.training.checkpoints import last_checkpoint
from unlabeled.training.config import TrainConfig
from unlabeled.training.drawings import draw_views, draw_visualizations
from unlabeled.training.learner import fit
from unlabeled.training.planning import describe, estimate
from unlabeled.training.prepare import Job, build_method, make_job, prepare
from unlabeled.training.progress import ProgressBar
from unlabeled.training.provenance import ENDS, provenance
from unlabeled.training.sharding import check_sharding
from unlabeled.training.teacher import with_teacher
from unlabeled.training.trainer import check_flags
from unlabeled.utils.files import reserved, write_bytes
from unlabeled.utils.launch import check_launch, is_first, requeueing, slurm_job
from unlabeled.utils.progress import is_shown, line
from unlabeled.utils.state import preserve_rng


@requeueing()
@preserve_rng()
def train(
    method: str | type[Method],
    data: Any,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Train an encoder, without labels unless the method is a supervised one.

    Args:
        method: a name of `unlabeled list methods`, a class, or `./file.py:Class`.
        data: a folder of images, tar shards or tables, a video, a .npy or .npz file, or a name of
            `unlabeled list datasets`, as `NAME` or `NAME:FOLDER`; in Python also an array, a
            tensor, a pair (images, labels) or a torch Dataset.
        out: the run folder (default: runs/METHOD).
        resume: continue from the folder's last checkpoint, or start if there is none. More epochs
            than before, or other devices, may be given; a warning explains what that changes. A
            job that SLURM restarts is resumed automatically.
        progress: show a bar.
        options: fields of `TrainConfig` (`encoder`, `seed`, `size`, `test`, …) and `Recipe`
            (`epochs`, `batch_size`, `lr`, …), and arguments of the method.

    Returns:
        the finished run: its encoder and method in eval mode, every weight of the encoder with
        `requires_grad`. Random generators and PyTorch's settings are restored.

    Raises:
        UserError: the arguments do not fit together, or another process trains in the folder.
        Stopped: Ctrl-C, SIGTERM or, in a job of SLURM, SIGUSR1 was received; the run is saved, and
            after SIGUSR1 the job is requeued.
    """
    config, options = TrainConfig.of(options)
    check_flags(config.trainer, config.logger)
    name = method if isinstance(method, str) else method.__name__.lower()
    folder = Path(out).expanduser() if out else Path("runs") / Path(name.partition(":")[0]).stem
    if record.is_of_this_job(folder) and not resume:
        notice(f"SLURM has started job {slurm_job()} again, so {folder} is resumed")
        resume = True
    if resume and config.test is None and not isinstance(data, Splits):
        config = replace(config, test=record.recorded_test(folder))
    job = make_job(method, data, config, options)
    check_sharding(job.method, config, job.config["precision"], job.recipe.optimizer)
    check_launch(config.devices, config.nodes, process_count())
    job.config.update(devices=config.devices, nodes=config.nodes)
    first = is_first()  # other processes do not write to the folder
    with reserved(folder) if first else nullcontext():
        if first:
            checkpoint = record.prepare_folder(folder, job.config, resume)
        else:
            checkpoint = last_checkpoint(folder) if resume else None
        before = None  # what stopped it before
        if first and checkpoint:
            before = record.read_record(folder, job.config).get("stopped_by")
            record.write_resumed(folder, job.config)
        elif first:
            origin = provenance(method, data, config, options)
            draw_views(job.method, job.splits, folder / "views.png")
            # after the views: by now it is known which kernel resamples
            record.write_config(folder, job.config, origin)
        callbacks = []
        if is_shown(progress) and first:
            if resume and not checkpoint:
                line(f"{folder} has nothing to resume: training starts")
            for sentence in job.notes:
                line(sentence)
            callbacks.append(ProgressBar(Path(job.name).stem, job.splits.noun))
        reason = "error"
        try:
            arguments = (config, folder, checkpoint, callbacks, job.probe)
            done = fit(job.method, job.splits, job.recipe, *arguments)
            reason = done or (before if before in ENDS else "epochs")
        except Stopped as stop:
            reason = signal_name(stop.number)
            raise
        finally:
            if first:
                record.write_stopped_by(folder, reason)
        run = _run_of(job, folder)
        if first:
            if checkpoint:
                record.write_changes(folder, job.config)
            if texts := find_part(job.splits.modality, Text):
                write_bytes(folder / "tokenizer.json", texts.tokenizer.encode())
            run.save()  # last, since it makes the folder that of a finished run
            draw_visualizations(job.method, job.splits, folder)
    return run


def _run_of(job: Job, folder: Path) -> Run:
    """The run of a training that has ended, and with it the schedules of its method."""
    job.method.progress = 1.0
    encoder = job.method.encoder.requires_grad_(True)  # off in a teacher
    named = job.config["encoder"], job.config["encoder_args"]
    name, args = encoder.rebuild if isinstance(encoder, Backbone) else named
    received = to_json(job.splits.modality.encoder_input)
    inputs = {"encoder": name, "args": args, "modality": received, "dim": int(encoder.dim)}
    texts = find_part(job.splits.modality, Text)
    tokenizer = texts.tokenizer if texts else ""
    return Run(folder, encoder, job.config, inputs, job.complete, job.method, tokenizer)


@preserve_rng()
def plan(method: str | type[Method], data: Any, **options: Any) -> str:
    """Describe the memory and time that `train` with the same arguments would take.

    Raises:
        UserError: the arguments do not fit together.
    """
    config = TrainConfig.of(options)[0]
    check_flags(config.trainer, config.logger)
    accelerator = options.get("accelerator", "auto")
    job = prepare(method, data, **options)
    every, epochs = options.get("probe_every"), job.recipe.epochs
    probed = len(job.probe) * (1 + -(-epochs // every)) if job.probe and every else 0
    precision = job.config["precision"]
    accumulate = options.get("accumulate", 1)
    arguments = (job.method, job.splits, job.recipe, precision, accelerator, probed, accumulate)
    with recomputed(job.method, options.get("gradient_checkpointing", False)):
        result = estimate(*arguments)
    text = describe(result, job.name, job.splits, job.recipe, accumulate)
    return "\n".join([text, *job.notes])


@preserve_rng()
def check_same(run: str | Path, method: str | type[Method], data: Any, **options: Any) -> None:
    """Check that a run was trained with these arguments of `train`.

    Raises:
        UserError: it was trained with others.
    """
    folder = Path(run)
    config = prepare(method, data, **options).config
    record.refuse_other(folder, record.read_record(folder, config), config)


@preserve_rng()
def reopen(run: Run) -> Method:
    """Load the method of a finished run with its heads, in eval mode, from the last checkpoint.

    Raises:
        UserError: the checkpoint is missing or damaged, or the method has changed.
    """
    checkpoint = last_checkpoint(run.path)
    if checkpoint is None:
        raise UserError(f"{run.path} has no checkpoint, and so no heads; train it again")
    cls = registry.find("methods", run.config["method"])
    views = (
        "augment",
        "second_augment",
        "weak",
        "local_augment",
        "patch_augment",
    )  # recorded as strings
    arguments = {k: v for k, v in run.config["method_args"].items() if k not in views}
    shape, local = (run.modality.channels, *run.size), run.config.get("local")
    arguments = with_teacher(arguments, run.data, shape)
    method = build_method(cls, copy.deepcopy(run.encoder), arguments, local, shape)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    try:
        method.load_state_dict({k.removeprefix("method."): v for k, v in state.items()})
    except RuntimeError as error:
        raise UserError(f"{checkpoint} does not fit {cls.__name__}: {error}") from error
    method.progress = 1.0  # schedules are where training ended
    return method.eval()
