"""Encoders in the layout of the Hugging Face Hub: folders, and the weights of this package.

A folder holds config.json, model.safetensors, preprocessor_config.json and README.md, the model
card; of texts tokenizer.json, and a classifier's files where there is one. Nothing in it is
unpickled or imported, and it is checked like a stranger's run folder (`unlabeled.runs.safety`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from unlabeled.encoders.base import checksum, is_rebuildable
from unlabeled.encoders.external import Backbone
from unlabeled.encoders.layouts import Layout, layout_of, normalization_of
from unlabeled.errors import UserError, notice, reason, suggest
from unlabeled.modality import Audio, EncoderInput, Series, Table, Text, from_json, to_json
from unlabeled.runs.card import check_license, model_card, public_record
from unlabeled.runs.classifier import Classifier, load_classifier, save_classifier
from unlabeled.runs.safety import (
    Shapes,
    build_checked,
    check_config,
    check_inputs,
    inside,
    read_json,
    read_shapes,
)
from unlabeled.utils.files import write_bytes, write_json
from unlabeled.version import __version__

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
PREPROCESSOR, TOKENIZER = "preprocessor_config.json", "tokenizer.json"
CLASSIFIER = ("classifier.json", "classifier.safetensors")
FILES = (CONFIG, WEIGHTS, CARD, PREPROCESSOR, TOKENIZER, *CLASSIFIER)
OURS = "unlabeled"
"""Key in config.json of what this library reads."""
PACKAGED = Path(__file__).parents[1] / "weights"
PACKAGE_PREFIX = "unlabeled:"

Find = Callable[[Path, str], Path]
"""The path of a file in a folder, from its name."""


@dataclass(frozen=True)
class Published:
    """An encoder with what is known of it.

    Args:
        encoder: the network.
        inputs: its name, arguments and input, as in encoder.json.
        record: of its training and evaluation, from `public_record`.
        tokenizer: of texts, as JSON; else empty.
        classifier: on its features, or None.
    """

    encoder: nn.Module
    inputs: dict[str, Any]
    record: dict[str, Any]
    tokenizer: str = ""
    classifier: Classifier | None = None


def is_published(folder: Path, find: Find = inside) -> bool:
    """Whether a folder has the layout of the hub and is this library's."""
    if not (folder / CONFIG).is_file() or (folder / "encoder.json").exists():
        return False
    try:
        return isinstance(read_json(find(folder, CONFIG)).get(OURS), dict)
    except UserError:
        return False


def evaluation_of(folder: Path, encoder: nn.Module) -> dict[str, Any] | None:
    """The evaluation in a run folder, if it is of these weights, or does not say of which."""
    path = folder / "evaluation.json"
    result = read_json(path) if path.is_file() else None
    if result is None or result.get("weights") in (None, checksum(encoder)):
        return result
    notice(
        f"{path} is of other weights, such as those before the run was resumed, and is left out; "
        f"evaluate {folder} again"
    )
    return None


def write_folder(
    folder: Path,
    published: Published,
    title: str,
    license: str | None = None,
    dtype: torch.dtype | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write a folder in the layout of the hub, after its weights were read again and compared.

    Args:
        folder: to be made, or one that was written before; its files are replaced.
        published: the encoder; its record is made public by `public_record` before.
        title: of the model card: OWNER/NAME, or the name of a folder.
        license: its identifier, such as apache-2.0; none is stated if not given.
        dtype: of the stored floating-point weights (default: as they are).
        notes: sentences to add to the limits on the model card.

    Raises:
        UserError: the encoder is the user's own code, or the folder holds something else.
    """
    check_license(license)
    inputs, classifier = published.inputs, published.classifier
    name, args = inputs["encoder"], inputs["args"]
    if not is_rebuildable(name, args):
        raise UserError(
            f"the encoder {Path(name).name} is code of your own, which the hub's layout does not "
            "hold; export it with --to torchscript or onnx"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose another --out")
    if folder.is_dir() and any(folder.iterdir()) and not is_published(folder):
        raise UserError(f"{folder} is not empty; choose an empty folder with --out")
    modality = from_json(inputs["modality"], published.tokenizer)
    layout = layout_of(name, args, modality)
    content = _packed(published, layout, dtype)
    classes = classifier.classes if classifier else None
    card = model_card(
        title, published.record, inputs, modality, layout.library, license, classes, notes
    )
    config = layout.config(published.encoder) | {
        OURS: {
            "version": __version__,
            "encoder": inputs,
            "record": published.record,
            "license": license,
        }
    }
    if isinstance(published.encoder, Backbone):
        mean, std = normalization_of(published.encoder, modality.channels)
        config[OURS] |= {"mean": mean, "std": std}
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        (folder / file).unlink(missing_ok=True)
    write_bytes(folder / WEIGHTS, content)
    write_bytes(folder / CARD, card.encode())
    write_json(folder / PREPROCESSOR, _preprocessing(published.encoder, modality))
    if published.tokenizer:
        write_bytes(folder / TOKENIZER, published.tokenizer.encode())
    if classifier is not None:
        figures = {k: v for k, v in classifier.figures.items() if not isinstance(v, str)}
        own, classifier.figures = classifier.figures, figures
        try:
            save_classifier(classifier, folder)
        finally:
            classifier.figures = own
    write_json(folder / CONFIG, config)
    return folder


def _packed(published: Published, layout: Layout, dtype: torch.dtype | None) -> bytes:
    """The weights in safetensors, of which it was seen that they give the same encoder again."""

    def stored(value: Tensor) -> Tensor:
        kept = value.detach().cpu()
        return kept.to(dtype) if dtype and kept.is_floating_point() else kept

    named = layout.save(published.encoder)
    content = save(
        {key: stored(v).contiguous().clone() for key, v in named.items()}, {"format": "pt"}
    )
    weights = load(content)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    again = _rebuilt(published.inputs, shapes, weights).state_dict()
    beside = {"mean", "std"} if isinstance(published.encoder, Backbone) else set()
    for key, value in published.encoder.state_dict().items():
        if key not in beside and not torch.equal(again[key], stored(value).to(value.dtype)):
            raise UserError(f"the weight {key} is another when it is read again; not written")
    return content


def _rebuilt(inputs: dict[str, Any], shapes: Shapes, weights: Mapping[str, Tensor]) -> nn.Module:
    modality = from_json(inputs["modality"])
    layout = layout_of(inputs["encoder"], inputs["args"], modality)
    module = build_checked(inputs, shapes, layout.save)
    try:
        layout.load(module, weights)
    except (RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"the weights do not fit the encoder {inputs['encoder']}: {reason(error)}"
        ) from error
    return module


def _preprocessing(encoder: nn.Module, modality: EncoderInput) -> dict[str, Any]:
    """preprocessor_config.json: how samples become what the network takes."""
    if isinstance(modality, Audio):
        return {
            "feature_size": modality.channels,
            "sampling_rate": modality.sample_rate,
            "max_length": modality.length,
            "padding_value": 0.0,
            "do_normalize": False,
        }
    if isinstance(modality, Text):
        return {"max_length": modality.length, "sentences": modality.sentences}
    if isinstance(modality, Series | Table):
        return to_json(modality)
    height, width = modality.size
    low, high = modality.value_range
    is_uint8 = (low, high) == (0.0, 1.0)
    scale = 1 / 255 if is_uint8 else 1 / max(high - low, 1e-30)
    mean, std = normalization_of(encoder, modality.channels)
    shift = 0.0 if is_uint8 else low * scale
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 2,  # bilinear, with antialiasing
        "do_rescale": True,
        "rescale_factor": scale,
        "do_normalize": True,
        "image_mean": [value + shift for value in mean],
        "image_std": std,
    }


def read_folder(folder: Path, find: Find = inside) -> Published:
    """Read what `write_folder` wrote; a stranger's folder can do no harm.

    Args:
        folder: the folder.
        find: the path of one of its files; by default links out of the folder are refused.

    Raises:
        UserError: it is damaged, or its encoder is not known here.
    """
    own = read_json(find(folder, CONFIG)).get(OURS)
    if not isinstance(own, dict) or not isinstance(own.get("encoder"), dict):
        raise UserError(f"{folder}/{CONFIG} describes no encoder of this library; export it again")
    inputs = check_inputs(own["encoder"])
    name, args = inputs["encoder"], inputs["args"]
    if not is_rebuildable(name, args):
        raise UserError(f"the encoder of {folder} ({name[:80]}) is unknown here; update unlabeled")
    weights = find(folder, WEIGHTS)
    if not weights.is_file():
        raise UserError(f"{folder} has no {WEIGHTS}; export it again")
    encoder = _rebuilt(inputs, read_shapes(weights), load_file(weights))
    if isinstance(encoder, Backbone):
        for key in ("mean", "std"):
            buffer = getattr(encoder, key)
            buffer.copy_(_by_channel(folder, own.get(key), len(buffer)))
    record = own.get("record")
    if not isinstance(record, dict):
        raise UserError(f"{folder}/{CONFIG} has no record of a training; export it again")
    tokenizer = find(folder, TOKENIZER)
    is_text = inputs["modality"]["kind"] == "text"
    return Published(
        encoder,
        inputs,
        check_config(public_record(record, None)),
        tokenizer.read_text(encoding="utf-8") if is_text and tokenizer.is_file() else "",
        load_classifier(folder, int(inputs["dim"]), find),
    )


def _by_channel(folder: Path, values: Any, channels: int) -> Tensor:
    is_numbers = isinstance(values, list) and all(type(v) in (int, float) for v in values)
    if not is_numbers or len(values) != channels or not all(abs(v) < 1e30 for v in values):
        raise UserError(f"{folder}/{CONFIG} is damaged (mean or std); export it again")
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)


def packaged() -> dict[str, str]:
    """Names of the encoders whose weights are in this package, each with a line about it."""
    lines = {}
    for path in sorted(PACKAGED.glob(f"*/{CONFIG}")):
        own = json.loads(path.read_text(encoding="utf-8"))[OURS]
        record, inputs = own["record"], own["encoder"]
        figures = (record["evaluation"] or {}).get("metrics", {})
        probe = figures.get("linear_probe")
        figure = "" if probe is None else f"; linear probe accuracy {probe['value']:.1%}"
        lines[f"{PACKAGE_PREFIX}{path.parent.name}"] = (
            f"{record['method']} on {record['data']}: encoder {inputs['encoder']}, "
            f"{inputs['dim']} features{figure}"
        )
    return lines


def packaged_folder(name: str) -> Path:
    """The folder of an encoder in this package.

    Raises:
        UserError: there is none of that name.
    """
    if name not in packaged():
        raise UserError(
            f"there are no weights '{name}' in this package; {suggest(name, packaged())}"
        )
    return PACKAGED / name.removeprefix(PACKAGE_PREFIX)
