"""Open, build and check everything that a training needs."""

from __future__ import annotations

import copy
import inspect
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from unlabeled import registry
from unlabeled.core import DEFAULT_ENCODERS, Method, Recipe
from unlabeled.data.dataset import Splits
from unlabeled.data.open import open_data
from unlabeled.data.split import sample_labels
from unlabeled.data.values import as_range
from unlabeled.encoders.base import accepts_option, build
from unlabeled.errors import UserError, notice, plural
from unlabeled.modality import (
    Audio,
    Images,
    Modality,
    Pairs,
    Series,
    Table,
    Text,
    Video,
)
from unlabeled.runs.adapt import for_channels_of
from unlabeled.runs.run import Run, load
from unlabeled.runs.safety import IN_MEMORY
from unlabeled.training import presets
from unlabeled.training.compiling import check_compiles
from unlabeled.training.config import TrainConfig
from unlabeled.training.folder import as_json, record_data
from unlabeled.training.local import Local
from unlabeled.training.online import OnlineProbe, hold_out
from unlabeled.training.precision import choose_precision
from unlabeled.training.presets import Choice
from unlabeled.training.resolve import check_labels, resolve, scaled
from unlabeled.training.teacher import on_record, with_teacher


def build_method(
    cls: type[Method],
    encoder: nn.Module,
    arguments: dict[str, Any],
    local: bool | None,
    shape: tuple[int, int, int],
) -> Method:
    """Build the method for an encoder, or for each of its stages."""
    if not local:
        return cls(encoder, **arguments)
    return Local(encoder, lambda stage: cls(stage, **arguments), shape)


class Job(NamedTuple):
    """Everything that a training needs."""

    name: str
    method: Method
    splits: Splits
    recipe: Recipe
    config: dict[str, Any]
    complete: Splits  #: with all labels, for evaluation
    notes: list[str]  #: sentences about settings that were chosen automatically
    probe: OnlineProbe | None  #: measures accuracy during training


def make_job(
    method: str | type[Method], data: Any, config: TrainConfig, options: dict[str, Any]
) -> Job:
    """Open the data and build the method of a training.

    Args:
        method: as for `train`.
        data: as for `train`.
        config: configuration of the training.
        options: fields of the recipe and arguments of the method.

    Raises:
        UserError: the arguments do not fit together.
    """
    cls, name = _class_and_name(method)
    if config.local and not cls.by_stage:
        raise UserError(
            f"{name} cannot learn by stages; omit local, or choose one of {', '.join(_by_stage())}"
        )
    encoder, size = config.encoder, config.size
    chosen = presets.named(cls, name, config.preset)
    if config.init is None and chosen:
        encoder = encoder or chosen.settings.get("encoder")
        size = size or chosen.settings.get("size")
    device = "cpu" if config.preset == "quick" else presets.device_of(config.accelerator)
    initial = _initial_run(config.init, data, size)
    for kind, part in (("methods", method), ("encoders", encoder)):
        if isinstance(part, str):
            registry.say_which(kind, part)
    splits = _open(data, config, size, initial, cls, device)
    if chosen is None:
        chosen = Choice("quick")
        if initial is None and encoder is None:
            processes = config.devices * config.nodes
            chosen = presets.choose(cls, splits, device, processes, options)
        encoder = encoder or chosen.settings.get("encoder")
        if chosen.name == "paper":  # whose `size` is not that of the data
            size = min(splits.size)
    preset = chosen.settings
    if initial is None:
        encoder = encoder or cls.encoder_for(type(splits.modality.encoder_input))
        encoder_args = _encoder_args(cls, encoder, preset) | config.encoder_args
    else:
        encoder, encoder_args = initial.inputs["encoder"], initial.inputs["args"]
        splits = splits.with_value_range(initial.value_range_of(splits.train.x))
    check_modality(cls, name, splits)
    encoder_args = _of_modality(encoder, splits.modality.encoder_input) | encoder_args
    complete = splits
    splits = _with_labels(cls, name, splits, config.labels, config.seed)
    if chosen.batch_size:
        options = {"batch_size": chosen.batch_size} | options
    recipe, arguments = resolve(cls, splits, options, preset)
    rate = "" if "lr" in options else scaled(cls, splits, recipe, preset)[1]
    if len(splits.train) < 2:
        count = plural(len(splits.train), "training sample")
        raise UserError(f"{splits.name} has {count}; give at least 2")

    if config.compile:
        check_compiles()
    torch.manual_seed(config.seed)
    network = _network(encoder, encoder_args, splits, initial)
    check_encoder(network, encoder_name := _name_of(encoder), cls, splits)
    shape = splits.channels, *splits.size
    built = with_teacher(arguments, data, shape)
    learner = build_method(cls, network, built, config.local, shape)
    check_labels(learner, splits)  # a condition makes diffusion a supervised method
    probe = None
    if config.probe_every:
        probe = hold_out(learner, name, complete, config.labels, config.seed)
    record = {
        "method": name,
        "method_args": on_record(arguments),
        "data": record_data(data),
        "size": size,
        **_settings_of(config),
        **_origins_of(splits),
        "encoder": encoder_name,
        "encoder_args": encoder_args,
        "init": None if initial is None else initial.source,
        "recipe": asdict(recipe),
        "preset": chosen.name,
    }
    notes = [sentence for sentence in (chosen.notes, rate) if sentence]
    return Job(name, learner, splits, recipe, as_json(record), complete, notes, probe)


def _class_and_name(method: str | type[Method]) -> tuple[type[Method], str]:
    """Class and name of a method."""
    if not isinstance(method, str):
        return method, method.__name__.lower()
    cls: Any = registry.find("methods", method)
    if not isinstance(cls, type):
        message = f"{method} is several trainings: call unlabeled.pipelines.{method}.{method}"
        raise UserError(message)
    return cls, method


def _by_stage() -> list[str]:
    """Names of the methods that can train each stage of an encoder by itself."""
    found = ((name, registry.find("methods", name)) for name in registry.listing("methods"))
    return [n for n, c in found if inspect.isclass(c) and issubclass(c, Method) and c.by_stage]


def _open(
    data: Any,
    config: TrainConfig,
    size: int | None,
    initial: Run | None,
    cls: type[Method],
    device: str,
) -> Splits:
    """The data of a training."""
    return open_data(
        data,
        size=None if size is None else (size, size),
        like=None if initial is None else initial.modality,
        labels_from=config.labels_from,
        groups_from=config.groups_from,
        workers=config.workers,
        decoding=config.decoding,
        tile=config.tile,
        max_pixels=config.max_pixels,
        test=config.test,
        value_range=as_range(config.value_range),
        largest=presets.LARGEST[device],
        kinds=cls.modality,
    )


def _of_modality(encoder: Any, received: Modality) -> dict[str, Any]:
    """Arguments of an encoder that its input decides."""
    if isinstance(received, Text) and accepts_option(encoder, "vocabulary"):
        return {"vocabulary": received.vocabulary}
    if isinstance(received, Audio) and accepts_option(encoder, "sample_rate"):
        return {"sample_rate": received.sample_rate}
    return {}


def _network(
    encoder: Any, encoder_args: dict[str, Any], splits: Splits, initial: Run | None
) -> nn.Module:
    """The encoder in train mode: a copy of the initial run's, or a new one."""
    if initial is not None:
        return copy.deepcopy(initial.encoder).train()
    network: nn.Module = build(encoder, splits.channels, splits.size, **encoder_args)
    if not network.training:  # pretrained networks of other libraries are in eval mode
        network.train()
    return network


def _initial_run(init: Any, data: Any, size: int | None) -> Run | None:
    """The run whose weights a training starts from, adapted to the channels of the data."""
    if init is None:
        return None
    if isinstance(init, Run) and size is not None:
        raise UserError(f"{init.source} has its own size of images; omit --size")
    run = init if isinstance(init, Run) else load(init, data=data, size=size)
    return for_channels_of(data, run)


def _encoder_args(cls: type[Method], encoder: Any, preset: dict[str, Any]) -> dict[str, Any]:
    """Default arguments of an encoder: the method's, then those of the preset for its encoder."""
    defaults = {k: v for k, v in cls.encoder_args.items() if accepts_option(encoder, k)}
    is_presets = encoder == preset.get("encoder", DEFAULT_ENCODERS[Images])
    return defaults | (preset.get("encoder_args", {}) if is_presets else {})


def _settings_of(config: TrainConfig) -> dict[str, Any]:
    """The part of config.json that is the user's configuration."""
    return {
        "value_range": as_range(config.value_range),
        "decoding": config.decoding,
        "tile": config.tile,
        "max_pixels": config.max_pixels,
        "labels": config.labels,
        "local": config.local or None,
        "seed": config.seed,
        "precision": choose_precision(config.precision, config.accelerator),
        "compile": config.compile or None,
        "accumulate": None if config.accumulate == 1 else config.accumulate,
        "gradient_checkpointing": config.gradient_checkpointing or None,
    }


def _origins_of(splits: Splits) -> dict[str, Any]:
    """The part of config.json on the data: origin of labels, groups and test part, and size."""
    groups, test, streamed = splits.groups_from, splits.test_from, splits.train.streamed
    return {
        "labels_from": record_data(splits.labels_from),
        "groups_from": None if groups is None else record_data(groups) or IN_MEMORY,
        "test": None if test is None else record_data(test) or IN_MEMORY,
        "images": len(splits.train),
        "shuffled_shards": streamed.window if streamed else None,
    }


DATA_EXAMPLES: dict[type[Modality], str] = {
    Images: "a folder of images",
    Audio: "a folder of recordings",
    Text: "text:FILE or text:FOLDER",
    Series: "a .npy or .npz of an array (N, T, C)",
    Table: "a .csv, a .parquet or a data frame",
    Video: "video:FOLDER, or an array (N, T, C, H, W)",
    Pairs: "pairs:FOLDER, a folder of images with captions",
}


def check_modality(cls: type[Method], name: str, splits: Splits) -> None:
    """Raise UserError if a method cannot learn from the modality of a data set."""
    modality = splits.modality
    received = modality.encoder_input
    if not isinstance(modality, cls.modality) and not isinstance(received, cls.modality):
        raise UserError(
            f"{name} learns from {' or '.join(kind.noun for kind in cls.modality)}, but "
            f"{splits.name} holds {modality.noun}; give --data {DATA_EXAMPLES[cls.modality[0]]}"
        )
    if isinstance(received, Text) and received.sentences < cls.min_sentences:
        raise UserError(
            f"{name} learns from texts of {cls.min_sentences} or more sentences, but {splits.name} "
            f"holds texts of {received.sentences}; give --data sentences:FOLDER, and as --init a "
            "run on such data, if any"
        )
    if cls.needs_color and received.channels != 3:
        raise UserError(
            f"{name} needs images of three colors, but {splits.name} has {received.channels} "
            "channels; choose another method"
        )


def check_encoder(encoder: nn.Module, name: str, cls: type[Method], splits: Splits) -> None:
    """Raise UserError if an encoder cannot receive the samples of a data set."""
    received = splits.modality.encoder_input
    takes: tuple[type[Modality], ...] = getattr(encoder, "modality", (Images, Audio))
    if not isinstance(received, takes):
        raise UserError(
            f"the encoder {name} takes {' or '.join(kind.noun for kind in takes)}, but "
            f"{splits.name} holds {splits.noun}; use --encoder "
            f"{cls.encoder_for(type(received))}"
        )


def prepare(method: str | type[Method], data: Any, **options: Any) -> Job:
    """Prepare the training with these arguments of `train`, without writing anything.

    Raises:
        UserError: the arguments do not fit together.
    """
    options = {k: v for k, v in options.items() if k not in ("out", "resume", "progress")}
    return make_job(method, data, *TrainConfig.of(options))


def _with_labels(
    cls: type[Method], name: str, splits: Splits, labels: str | None, seed: int
) -> Splits:
    """The labeled samples for a supervised method, or all samples for a semi-supervised one.

    With `labels`, only that many labels are used, the same number of each class.
    """
    if labels is not None and (not cls.supervised or splits.target is None):
        raise UserError("labels is only for supervised methods and labeled data; omit it")
    if not cls.supervised or splits.target is None:
        return splits
    train, y = splits.train, splits.train.factors[splits.target]
    rows = np.flatnonzero(train.known(splits.target))
    if len(rows) < len(y):
        how = (
            "all {1:,} samples, of which {0:,}"
            if cls.recipe.labeled_fraction
            else "the {0:,} of {1:,} that"
        )
        notice(f"{name} learns from {how.format(len(rows), len(y))} have labels")
    if not len(rows):
        raise UserError(f"{name} learns from labels, but no training sample has one; add some")
    rows = rows if labels is None else sample_labels(y, labels, seed)
    if len(rows) == len(y):
        return splits
    if not cls.recipe.labeled_fraction:
        return replace(splits, train=train.take(rows))
    known = np.full_like(y, -1)
    known[rows] = y[rows]
    return replace(splits, train=replace(train, factors={splits.target: known}))


def _name_of(encoder: Any) -> str:
    if isinstance(encoder, str):
        return encoder
    kind = encoder if isinstance(encoder, type) else type(encoder)
    return f"{kind.__module__}.{kind.__qualname__}"
