"""From a method's name and any data to a run."""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
import platform
import re
import shutil
import warnings
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from unlabeled import __version__, registry
from unlabeled.core import Method, Recipe
from unlabeled.datasets.base import PARTNER, Splits, as_range, open_data, with_test
from unlabeled.datasets.corpus import word_starts
from unlabeled.datasets.text import reopen as reopen_texts
from unlabeled.encoders.base import build, takes
from unlabeled.encoders.external import Backbone
from unlabeled.errors import Notice, UserError
from unlabeled.files import write_bytes, write_json
from unlabeled.local import Local
from unlabeled.native import check_compiles
from unlabeled.parallel import check_launch, is_first
from unlabeled.run import Run, load
from unlabeled.safety import IN_MEMORY, refuse_unopened
from unlabeled.state import preserve_rng
from unlabeled.views import kernel

LEFTOVER = re.compile(r"last\.tmp|\.[\w.-]+\.[0-9a-f]{8}\.tmp")
"""Files that a killed run may leave half written."""
RECIPE_FIELDS = {field.name for field in fields(Recipe)}


@preserve_rng()
def train(
    method: str | type[Method],
    data: Any,
    *,
    encoder: str | nn.Module | type[nn.Module] | None = None,
    encoder_args: dict[str, Any] | None = None,
    start: str | Path | Run | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    size: int | None = None,
    value_range: str | tuple[float, float] | None = None,
    labels_from: Any = None,
    test: Any = None,
    labels: str | None = None,
    local: bool = False,
    workers: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    compile: bool = False,
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto",
    devices: int = 1,
    nodes: int = 1,
    logger: str = "tensorboard",
    trainer: dict[str, Any] | None = None,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Train an encoder, without labels unless the method is a supervised one.

    Args:
        method: a name of `unlabeled list methods`, a class, or `./file.py:Class`.
        data: a folder of pictures, tar shards or tables, a film, a .npy or .npz file, or a name of
            `unlabeled list datasets`, as `NAME` or `NAME:FOLDER`; in Python also an array, a
            tensor, a pair (pictures, labels) or a torch Dataset.
        encoder: a name of `unlabeled list encoders`, or `./file.py:Net`; in Python also a class
            or a module, of which a copy is trained (all of it in train mode if the module as a
            whole is in eval mode); small unless given, or what the method needs.
        encoder_args: arguments of the encoder, such as width.
        start: a run whose encoder to begin with, instead of random weights.
        seed: of weights, order and views.
        out: the run folder; runs/METHOD unless given.
        resume: go on from the folder's last checkpoint, or start where there is none. More epochs
            than before may be given, or other devices; what that changes is said.
        size: side of the pictures in pixels; that of the data unless given, of files at most 96.
        value_range: black and white of images that are not 8-bit, as LOW,HIGH; values outside are
            clipped. What the data spans unless given.
        labels_from: where labels of pictures in files are, to judge by or for supervised methods:
            "folders", a .csv or .tsv (`labels.csv:breed` chooses a column), an array or .npy, or
            the column of a table. Samples without a label are learned from, too.
        test: other data to test on, in any form that `data` may have; then all of `data` is learned
            from, or its training part where it has an official split.
        labels: how many labels a supervised method gets, the same of each class: 160, or 1%; all
            unless given.
        local: whether each stage of the encoder learns by itself, from a head of its own: no
            gradient goes from one to the one below.
        workers: processes that decode files; as many as there are cores unless given.
        precision: bf16 is used where the hardware gains from it; losses are always in fp32.
        compile: whether `torch.compile` fuses the layers of the encoder, its moving averages, and
            decoders: a minute or two at first, then faster steps where layers are many and narrow;
            results agree to rounding.
        accelerator: cpu, gpu, mps or auto, as Lightning names them.
        devices: GPUs, or processes on CPUs, that share each batch; torchrun and SLURM are known.
        nodes: machines with so many devices each.
        logger: tensorboard, csv, wandb or none; several with commas between. metrics.csv is always
            written.
        trainer: further flags of Lightning's Trainer, such as {"max_time": "00:01:00:00"}.
        progress: show a bar.
        options: fields of the recipe (`epochs`, `batch_size`, `lr`, …) and arguments of the method.

    Returns:
        the finished run: its encoder and method in eval mode, every weight of the encoder open
        to gradients. Random generators and PyTorch's settings are as they were before the call.

    Raises:
        UserError: something does not fit; the message says what to do.
        Stopped: Ctrl-C or SIGTERM came; the run is saved.
    """
    from unlabeled.checkpoints import last_checkpoint
    from unlabeled.learner import check_flags, fit

    flags = check_flags(trainer or {}, logger)
    name = method if isinstance(method, str) else method.__name__.lower()
    folder = Path(out) if out else Path("runs") / Path(name.partition(":")[0]).stem
    if resume and test is None and not isinstance(data, Splits):
        test = _recorded_test(folder)
    job = _job(
        method,
        data,
        options,
        encoder=encoder,
        encoder_args=encoder_args,
        start=start,
        seed=seed,
        size=size,
        value_range=value_range,
        labels_from=labels_from,
        test=test,
        labels=labels,
        local=local,
        workers=workers,
        precision=precision,
        compile=compile,
        accelerator=accelerator,
    )
    for flag, count in (("devices", devices), ("nodes", nodes)):
        if count < 1:
            raise UserError(f"{flag} is {count}, but must be at least 1")
    check_launch(devices, nodes)
    job.config.update(devices=devices, nodes=nodes)
    first = is_first()  # the others leave the folder alone
    if first:
        checkpoint = prepare_folder(folder, job.config, resume)
    else:
        checkpoint = last_checkpoint(folder) if resume else None
    if first and not checkpoint:
        draw_views(job.method, job.splits, folder / "views.png")
        _write_config(folder, job.config)  # again: now it is known which resampling runs
    callbacks = []
    if progress and first:
        from unlabeled.progress import ProgressBar

        callbacks.append(ProgressBar(Path(job.name).stem, job.splits.noun))
    fit(
        job.method,
        job.splits,
        job.recipe,
        folder,
        seed=seed,
        precision=job.config["precision"],
        compile=compile,
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        checkpoint=checkpoint,
        callbacks=callbacks,
        logger=logger,
        flags=flags,
    )
    product = job.method.encoder.requires_grad_(True)  # a teacher's has none
    named = job.config["encoder"], job.config["encoder_args"]
    name, args = product.rebuild if isinstance(product, Backbone) else named
    inputs = {
        "encoder": name,
        "args": args,
        "channels": job.splits.channels,
        "size": list(job.splits.size),
        "range": list(job.splits.range),
        "stored": job.splits.stored,
        "dim": int(product.dim),
    }
    run = Run(folder, product, job.config, inputs, data=job.whole, method=job.method)
    if first:
        if checkpoint:
            _write_changes(folder, job.config)
        run.save()
        if job.splits.tokenizer:
            write_bytes(folder / "tokenizer.json", job.splits.tokenizer.encode())
        draw_pictures(job.method, job.splits, folder)
    return run


@preserve_rng()
def plan(method: str | type[Method], data: Any, **options: Any) -> str:
    """What `train` with the same arguments would take, in words; nothing is written.

    Raises:
        UserError: something does not fit, as for `train`.
    """
    from unlabeled.planning import describe, estimate

    accelerator = options.get("accelerator", "auto")
    job = prepare(method, data, **options)
    found = estimate(job.method, job.splits, job.recipe, job.config["precision"], accelerator)
    return describe(found, job.name, job.splits, job.recipe)


@preserve_rng()
def check_same(run: str | Path, method: str | type[Method], data: Any, **options: Any) -> None:
    """Refuse a run folder that was made with other arguments of `train` than these.

    Raises:
        UserError: it was; the message says with which.
    """
    folder = Path(run)
    config = prepare(method, data, **options).config
    _refuse_other(folder, _recorded(folder, config), config)


@preserve_rng()
def reopen(run: Run) -> Method:
    """The method of a finished run with its heads, in eval mode, from its last checkpoint.

    Raises:
        UserError: the checkpoint is gone or damaged, or the method is no longer what it was.
    """
    from unlabeled.checkpoints import last_checkpoint

    checkpoint = last_checkpoint(run.path)
    if checkpoint is None:
        raise UserError(f"{run.path} has no checkpoint, and so no heads; train it again")
    cls = registry.find("methods", run.config["method"])
    views = ("augment", "weak", "small", "jitter")  # on record as words
    arguments = {k: v for k, v in run.config["method_args"].items() if k not in views}
    shape = run.inputs["channels"], *run.size
    method = _made(cls, copy.deepcopy(run.encoder), arguments, run.config.get("local"), shape)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    try:
        method.load_state_dict({k.removeprefix("method."): v for k, v in state.items()})
    except RuntimeError as error:
        raise UserError(f"{checkpoint} does not fit {cls.__name__}: {error}") from error
    return method.eval()


def _made(
    cls: type[Method],
    encoder: nn.Module,
    arguments: dict[str, Any],
    local: bool | None,
    shape: tuple[int, int, int],
) -> Method:
    """The method on an encoder, or on each of its stages."""
    if not local:
        return cls(encoder, **arguments)
    return Local(encoder, lambda stage: cls(stage, **arguments), shape)


def _is_by_stage(name: str) -> bool:
    found = registry.find("methods", name)
    return inspect.isclass(found) and issubclass(found, Method) and found.by_stage


class Job(NamedTuple):
    """A training, ready to begin."""

    name: str
    method: Method
    splits: Splits
    recipe: Recipe
    config: dict[str, Any]
    whole: Splits  #: with all labels, for judging


def _job(
    method: str | type[Method],
    data: Any,
    options: dict[str, Any],
    *,
    encoder: str | nn.Module | type[nn.Module] | None = None,
    encoder_args: dict[str, Any] | None = None,
    start: str | Path | Run | None = None,
    seed: int = 0,
    size: int | None = None,
    value_range: str | tuple[float, float] | None = None,
    labels_from: Any = None,
    test: Any = None,
    labels: str | None = None,
    local: bool = False,
    workers: int | None = None,
    precision: str = "auto",
    compile: bool = False,
    accelerator: str = "auto",
) -> Job:
    found: Any = registry.find("methods", method) if isinstance(method, str) else method
    if not inspect.isclass(found):
        raise UserError(f"{method} is several trainings: call unlabeled.methods.{method}.{method}")
    cls: Any = found
    name = method if isinstance(method, str) else cls.__name__.lower()
    for flag, value, least in (("size", size, 4), ("workers", workers, 1)):
        if value is not None and value < least:
            raise UserError(f"{flag} is {value}, but must be at least {least}")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}, but must be from 0 to {2**32 - 1}")
    if size is not None and start is not None:
        raise UserError("start brings the size of its pictures; leave size away")
    if value_range is not None and start is not None:
        raise UserError("--start brings its own range of values; omit --value-range")
    shape: dict[str, Any] = {"size": None if size is None else (size, size)}
    shape["value_range"] = as_range(value_range)
    if local and not cls.by_stage:
        fitting = [n for n in registry.listing("methods") if _is_by_stage(n)]
        raise UserError(
            f"{name} cannot learn by stages; leave local away, or choose of {', '.join(fitting)}"
        )
    if start is not None:
        begun = start if isinstance(start, Run) else load(start)
        shape = {"channels": begun.inputs["channels"], "size": begun.size}
        shape |= begun.learned
    if isinstance(method, str):
        registry.say_which("methods", method)
    if isinstance(encoder, str):
        registry.say_which("encoders", encoder)
    if start is not None and begun.tokenizer:
        splits = reopen_texts(data, begun.tokenizer, begun.size)
        splits = splits if test is None else with_test(splits, test)
    else:
        splits = open_data(data, **shape, labels_from=labels_from, workers=workers, test=test)
    encoder = encoder or (cls.sound_network if splits.rate else cls.network)
    encoder_args = cls.encoder_args | (encoder_args or {})
    if start is not None:
        encoder, encoder_args = begun.inputs["encoder"], begun.inputs["args"]
        splits = replace(splits, range=begun.span(splits.train.x))
    whole = splits
    _refuse_unread(cls, name, splits)
    if splits.vocabulary and takes(encoder, "vocabulary"):
        encoder_args = {"vocabulary": splits.vocabulary} | encoder_args
    if cls.colour and splits.channels != 3:
        raise UserError(
            f"{name} needs pictures of three colours, but {splits.name} has {splits.channels}; "
            "choose another method"
        )
    splits = _with_labels(cls, name, splits, labels, seed)
    recipe, arguments = resolve(cls, splits, options)
    if len(splits.train) < 2:
        raise UserError(
            f"{splits.name} has {len(splits.train)} picture to learn from (1 sample); give more"
        )

    if compile:
        check_compiles()
    torch.manual_seed(seed)
    if start is not None:
        network = copy.deepcopy(begun.encoder).train()
    else:
        network = build(encoder, splits.channels, splits.size, **encoder_args)
        if not network.training:  # as others hand out pretrained networks
            network.train()
    learner = _made(cls, network, arguments, local, (splits.channels, *splits.size))
    from unlabeled.learner import choose_precision

    config = {
        "method": name,
        "method_args": arguments,
        "data": record_data(data),
        "size": size,
        "value_range": shape["value_range"] if start is None else None,
        "labels_from": record_data(splits.labels_from),
        "test": None if splits.test_from is None else record_data(splits.test_from) or IN_MEMORY,
        "labels": labels,
        "local": local or None,
        "encoder": encoder if isinstance(encoder, str) else _name_of(encoder),
        "encoder_args": encoder_args,
        "start": str(begun.path) if start is not None else None,
        "recipe": asdict(recipe),
        "seed": seed,
        "precision": choose_precision(precision, accelerator),
        "compile": compile or None,
        "pictures": len(splits.train),
    }
    return Job(name, learner, splits, recipe, _plain(config), whole)


def _refuse_unread(cls: type[Method], name: str, splits: Splits) -> None:
    """Raises UserError where the data is not of the kind that the method learns from."""
    rows, tokens, paired = splits.size[0], bool(splits.vocabulary), PARTNER in splits.train.factors
    wanted = {
        "pictures": (not tokens or paired, "pictures, but that is text", "FOLDER of pictures"),
        "words": (tokens and not paired, "text", "text:FILE or text:FOLDER"),
        "sentences": (tokens and rows > 1, "several sentences at once", "sentences:FOLDER"),
        "pairs": (paired, "pictures with partners", "pairs:FOLDER, a folder with captions"),
    }
    holds, what, remedy = wanted[cls.reads]
    if not holds and tokens and cls.reads == "sentences" and splits.name.startswith("sentences"):
        raise UserError(f"{name} starts with a run on pieces; train that on {splits.name}, too")
    if not holds:
        raise UserError(
            f"{name} learns from {what}, which {splits.name} has not; give --data {remedy}"
        )


def prepare(method: str | type[Method], data: Any, **options: Any) -> Job:
    """The training that these arguments of `train` mean, ready to begin; nothing is written.

    Raises:
        UserError: something does not fit, as for `train`.
    """
    known = {k: v for k, v in options.items() if k in inspect.signature(_job).parameters}
    further = {k: v for k, v in options.items() if k not in inspect.signature(train).parameters}
    return _job(method, data, further, **known)


def _with_labels(
    cls: type[Method], name: str, splits: Splits, labels: str | None, seed: int
) -> Splits:
    """What a supervised method learns from: labeled samples, or all where it uses the others, too.

    With `labels` only so many labels are known, the same of each class.
    """
    from unlabeled.evaluation.few_label import sample_labels

    if labels is not None and (not cls.supervised or splits.target is None):
        raise UserError("labels are for supervised methods and data that has some; leave it away")
    if not cls.supervised or splits.target is None:
        return splits
    train, y = splits.train, splits.train.factors[splits.target]
    rows = np.flatnonzero(train.known(splits.target))
    if len(rows) < len(y):
        how = (
            "all {1:,} samples, of which {0:,}"
            if cls.recipe.labelled
            else "the {0:,} of {1:,} that"
        )
        _tell(f"{name} learns from {how.format(len(rows), len(y))} have labels")
    if not len(rows):
        raise UserError(f"{name} learns from labels, but no training sample has one; give some")
    rows = rows if labels is None else sample_labels(y, labels, seed)
    if len(rows) == len(y):
        return splits
    if not cls.recipe.labelled:
        return replace(splits, train=train.take(rows))
    known = np.full_like(y, -1)
    known[rows] = y[rows]
    return replace(splits, train=replace(train, factors={splits.target: known}))


def resolve(
    cls: type[Method], splits: Splits, options: dict[str, Any]
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and the method's arguments: the user's, else this data's, else the defaults.

    A method's argument `augment` defaults to the data set's own, the one for labeled training where
    the method learns from labels alone, as does the `weak` one of semi-supervised methods;
    `classes` to its number of them, `names` to theirs, `shape` to that of its pictures,
    `word_starts` to those of its tokenizer; `pictures` is how many there are to learn from.
    """
    accepted = list(inspect.signature(cls).parameters)[1:]
    if unknown := set(options) - RECIPE_FIELDS - set(accepted):
        raise UserError(
            f"{cls.__name__} has no option '{min(unknown)}'; "
            f"it has {', '.join([*accepted, *sorted(RECIPE_FIELDS)])}"
        )
    if cls.supervised and splits.target is None and splits.numbers:
        raise UserError(
            f"{cls.__name__} learns from classes, but {', '.join(splits.numbers)} of {splits.name} "
            "holds numbers; write them as words to have them as classes"
        )
    if cls.supervised and splits.target is None:
        raise UserError(f"{cls.__name__} learns from labels, but {splits.name} has none; give some")
    if cls.clip > 1 and not {"shot", "frame"} <= set(splits.train.factors):
        raise UserError(
            f"{cls.__name__} learns from clips of {cls.clip} frames, but those of {splits.name} "
            "are single pictures; give a film, --data video:FOLDER of frames, or an array "
            "(N, T, C, H, W)"
        )
    options = {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()}
    merged = cls.recipes.get(splits.name.partition(":")[0], {}) | options
    recipe = replace(cls.recipe, **{k: v for k, v in merged.items() if k in RECIPE_FIELDS})
    for field, least in (("epochs", 1), ("batch_size", 2), ("weight_decay", 0.0), ("clip", 0.0)):
        if getattr(recipe, field) < least:
            raise UserError(f"{field} is {getattr(recipe, field)}, but must be at least {least}")
    if not 0 < recipe.lr < math.inf:
        raise UserError(f"lr is {recipe.lr}, but must be above 0")
    if not 0 <= recipe.labelled < 1:
        raise UserError(f"labelled is {recipe.labelled}, but must be at least 0 and below 1")
    arguments = {k: v for k, v in merged.items() if k in accepted}
    if "augment" in accepted and arguments.get("augment") is None:
        arguments["augment"] = splits.augment_labeled if cls.weak_augment else splits.augment
    if cls.supervised and "weak" in accepted and arguments.get("weak") is None:
        arguments["weak"] = splits.augment_labeled
    if "classes" in accepted and splits.classes:
        arguments.setdefault("classes", len(splits.classes))
    if "names" in accepted and splits.classes:
        arguments.setdefault("names", tuple(splits.classes))
    if "pictures" in accepted:
        arguments["pictures"] = len(splits.train)
    if "partner_shape" in accepted and PARTNER in splits.train.factors:
        arguments.setdefault("partner_shape", splits.train.factors[PARTNER].shape[1:])
    if "vocabulary" in accepted and splits.vocabulary:
        arguments.setdefault("vocabulary", splits.vocabulary)
    if "word_starts" in accepted and splits.tokenizer:
        arguments.setdefault("word_starts", word_starts(splits.tokenizer))
    if "shape" in accepted:
        arguments.setdefault("shape", (splits.channels, *splits.size))
    return recipe, arguments


def draw_views(method: Method, splits: Splits, path: Path) -> None:
    """A picture of what the method sees, beside what it was made from."""
    from unlabeled.report.plots import views_picture

    if splits.vocabulary and method.reads != "pairs":
        return  # of texts there is nothing to draw
    write_bytes(path, views_picture(method, splits))


def draw_pictures(method: Method, splits: Splits, folder: Path) -> None:
    """What the method makes of pictures, as `picture-TITLE.png` and `film-TITLE.gif`."""
    from unlabeled.report.plots import made_films, made_pictures

    for title, content in made_pictures(method, splits).items():
        write_bytes(folder / f"picture-{title.replace(' ', '-')}.png", content)
    for title, content in made_films(method, splits).items():
        write_bytes(folder / f"film-{title.replace(' ', '-')}.gif", content)


def prepare_folder(folder: Path, config: dict[str, Any], resume: bool) -> Path | None:
    """Make the run folder; the checkpoint where training goes on from one.

    Nothing is touched in a folder that is not a run which began and has no checkpoint yet.

    Raises:
        UserError: the folder holds something else, or a run of other arguments.
    """
    from unlabeled.checkpoints import last_checkpoint

    record = folder / "config.json"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose a folder with --out")
    begun = any((folder / name).is_file() for name in ("last.ckpt", "previous.ckpt"))
    if begun and resume:
        before = expected = _recorded(folder, config)
        if by_learner := "devices" in config:
            may_change = {name: config[name] for name in ("devices", "nodes")}
            recipe = before["recipe"] | {"epochs": config["recipe"]["epochs"]}
            expected = before | may_change | {"recipe": recipe}
        _refuse_other(folder, expected, config)
        if checkpoint := last_checkpoint(folder):
            if by_learner:
                _say_changes(folder, before, config, checkpoint)
            return checkpoint
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    leftovers = {name for name in held if LEFTOVER.fullmatch(name)}
    if begun or (held - leftovers and not _is_abandoned(record)):
        remedy = "go on with --resume, or choose another" if begun else "choose an empty"
        raise UserError(f"{folder} is not empty: {remedy} folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    for name in leftovers:
        (folder / name).unlink()
    if (folder / "tensorboard").is_symlink():
        raise UserError(f"{folder / 'tensorboard'} is a link; remove it")
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    _write_config(folder, config)
    return None


def _write_config(folder: Path, config: dict[str, Any]) -> None:
    write_json(folder / "config.json", config | {"versions": versions()})


def _is_abandoned(record: Path) -> bool:
    """Whether it is the record of a run of ours that did not come to its first checkpoint."""
    try:
        known = json.loads(record.read_text())
    except (OSError, ValueError):
        return False
    ours = isinstance(known, dict) and {"method", "recipe", "versions"} <= set(known)
    products = ("encoder.safetensors", "vectors.bin")
    return ours and not any(record.with_name(name).exists() for name in products)


def _recorded_test(folder: Path) -> str | None:
    """The test data of a run that is to go on, where it has its own."""
    try:
        test = json.loads((folder / "config.json").read_text()).get("test")
    except (OSError, ValueError, AttributeError):  # said of elsewhere
        return None
    return None if test is None else refuse_unopened(folder, test)


def _say_changes(
    folder: Path, before: dict[str, Any], config: dict[str, Any], checkpoint: Path
) -> None:
    """What a resumed run does otherwise than it began; UserError where it cannot."""
    from unlabeled.checkpoints import epochs_begun

    done, steps = epochs_begun(checkpoint)
    begun = done + (steps > 0)
    epochs, planned = config["recipe"]["epochs"], before["recipe"]["epochs"]
    if epochs < begun:
        raise UserError(
            f"{folder} is in epoch {begun} already, which cannot become {epochs} epochs in all; "
            f"give --epochs {begun} or more, or another --out"
            if steps
            else f"{folder} has done {done} epochs, which cannot become {epochs} in all; "
            f"give --epochs {done} or more, or another --out"
        )
    if epochs != planned:
        message = (
            f"{folder} goes on from epoch {done} to {epochs} instead of {planned}; schedules, such "
            f"as the learning rate's, are those of {epochs} epochs from here"
        )
        warnings.warn(message, Notice, stacklevel=4)
    for name in ("devices", "nodes"):  # older records know neither
        if before.get(name) not in (None, config[name]):
            message = (
                f"{folder} began with {name} = {before[name]} and goes on with {config[name]}; "
                "random views are others from here, so the result is not that of one uninterrupted "
                "run"
            )
            warnings.warn(message, Notice, stacklevel=4)


def _write_changes(folder: Path, config: dict[str, Any]) -> None:
    """Record what a resumed run was ended with, once it has; until then it is as it began."""
    before = _recorded(folder, config)
    changed = {k: config[k] for k in ("recipe", "devices", "nodes") if before.get(k) != config[k]}
    if changed:
        write_json(folder / "config.json", before | changed)


def _recorded(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What a run was made with, and the defaults of what an older record does not know."""
    record = folder / "config.json"
    try:
        before = dict(json.loads(record.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{record} is damaged ({error}); choose another --out") from error
    known = {k: v for k, v in asdict(Recipe()).items() if k in config["recipe"]}
    before["recipe"] = known | before.get("recipe", {})  # it may know fewer fields
    return before


def _refuse_other(folder: Path, before: dict[str, Any], config: dict[str, Any]) -> None:
    for key, now in config.items():
        if key != "data" or now is not None:
            _refuse_change(folder, key, before.get(key), now)


def _refuse_change(folder: Path, key: str, before: Any, now: Any) -> None:
    if isinstance(before, dict) and isinstance(now, dict):
        for inner in dict.fromkeys((*before, *now)):
            _refuse_change(folder, inner, before.get(inner), now.get(inner))
    elif before != now:
        told = "the default" if before is None else before
        raise UserError(
            f"{folder} was made with {key} = {told}, not {'the default' if now is None else now}; "
            "give the same to resume it, or another --out"
        )


def versions() -> dict[str, str]:
    """Of what the result depends on."""
    import lightning

    return {
        "unlabeled": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "platform": platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "resampling": kernel.ran(),
    }


def _plain(value: Any) -> Any:
    """As JSON has it: a view becomes its name and fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"view": type(value).__name__} | {
            f.name: _plain(getattr(value, f.name)) for f in fields(value)
        }
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _tell(message: str) -> None:
    warnings.warn(message, Notice, stacklevel=2)


def record_data(data: Any) -> str | None:
    """Data or labels as they can be opened again: a name, or a whole path; nothing for arrays."""
    if isinstance(data, Splits):  # of a part, such as the labelled pictures: the whole
        known = data.name.partition(":")[0] in registry.listing("datasets")
        return record_data(data.name) if known or Path(data.name).exists() else None
    if not isinstance(data, str | Path):
        return None
    path = Path(data).expanduser()
    file, colon, column = str(path).rpartition(":")  # labels.csv:breed
    if colon and Path(file).is_file():
        return f"{Path(file).resolve()}:{column}"
    is_name = isinstance(data, str) and data in registry.listing("datasets")
    return str(path.resolve()) if path.exists() and not is_name else str(data)


def _name_of(encoder: Any) -> str:
    kind = encoder if isinstance(encoder, type) else type(encoder)
    return f"{kind.__module__}.{kind.__qualname__}"
