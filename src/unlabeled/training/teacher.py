"""The teacher of a distillation method, opened like any encoder by name."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from unlabeled.encoders.base import AtOwnSize, build
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.runs.adapt import for_channels_of
from unlabeled.runs.run import Run, load


def with_teacher(
    arguments: dict[str, Any], data: Any, shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Replace the name of a teacher in the arguments of a method by its network.

    Args:
        arguments: of the method; `teacher` is a name that `load` takes, a run, or a module.
        data: its input, which determines the number of channels of an encoder by name.
        shape: channels, height and width of the images.

    Raises:
        UserError: there is no such encoder, or it does not take images.
    """
    teacher = arguments.get("teacher")
    if isinstance(teacher, str):
        teacher = load(teacher, data=data, size=arguments.get("teacher_size"))
    if isinstance(teacher, nn.Module):
        return arguments | {"teacher": build(teacher, shape[0], shape[1:])}
    if not isinstance(teacher, Run):
        return arguments
    run = for_channels_of(data, teacher)
    if not isinstance(run.modality, Images):
        raise UserError(f"the teacher {run.source} takes {run.modality.noun}; give one of images")
    network: nn.Module = copy.deepcopy(run.encoder).cpu()
    return arguments | {"teacher": AtOwnSize(network, run.modality.channels, run.size, run.dim)}


def on_record(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the teacher's name instead of its network."""
    teacher = arguments.get("teacher")
    if isinstance(teacher, Run):
        return arguments | {"teacher": teacher.source}
    if isinstance(teacher, nn.Module):
        kind = type(teacher)
        return arguments | {"teacher": f"{kind.__module__}.{kind.__qualname__}"}
    return arguments
