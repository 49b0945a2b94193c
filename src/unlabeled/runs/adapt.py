"""Runs adapted to data: to its number of channels, and to how its files are opened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unlabeled.data.channels import channels_of
from unlabeled.data.readers.parts import Opening
from unlabeled.encoders.base import build, is_rebuildable
from unlabeled.encoders.channels import adapted_weights, fits_as_is, say_adapted
from unlabeled.errors import UserError
from unlabeled.modality import Images, to_json
from unlabeled.runs.run import Run


def common_opening(
    opened: list[Run], trained: list[Run], tile: int | None, max_pixels: int | None
) -> Opening:
    """Common options of opening images in files: as given, else those of the first trained run.

    Raises:
        UserError: no encoder takes images.
    """
    others = [run for run in opened if not isinstance(run.modality, Images)]
    options = {
        key: value
        for key, value in {"tile": tile, "max_pixels": max_pixels}.items()
        if value is not None
    }
    if others and options:
        noun = others[0].modality.noun
        raise UserError(f"{others[0].source} takes {noun}; omit --tile and --max-pixels")
    own = trained[0].modality if trained else None
    first = Opening(own.tile, own.max_pixels) if isinstance(own, Images) else Opening()
    return replace(first, **options)


def for_channels_of(data: Any, run: Run) -> Run:
    """The run with its first layer adapted to the number of channels of the images in `data`.

    The run is unchanged if there is nothing to adapt: images of 1 and 3 channels are converted to
    one another when they are read.

    Raises:
        UserError: other layers depend on the number of channels, too.
    """
    own, channels = run.modality.channels, channels_of(data)
    known = is_rebuildable(run.inputs["encoder"])
    if channels is None or not known or fits_as_is(own, channels):
        return run
    if not isinstance(run.modality, Images):
        return run
    network = build(run.inputs["encoder"], channels, run.size, **run.inputs["args"])
    network.load_state_dict(adapted_weights(run.encoder.state_dict(), network.state_dict()))
    say_adapted(run.source, own, channels)
    modality = replace(run.modality, channels=channels)
    inputs = run.inputs | {"modality": to_json(modality)}
    return Run(run.path, network, run.config, inputs, run.data, source=run.source)
