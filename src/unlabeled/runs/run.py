"""A run folder: an encoder with the record of its training.

Nothing in it is unpickled or imported when it is opened for use: the weights are safetensors, the
rest is JSON, and only encoders of this package are rebuilt from their name.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from scipy.special import softmax
from torch import nn

from unlabeled import registry
from unlabeled.data.channels import channels_of
from unlabeled.data.dataset import LazyImages, Samples
from unlabeled.data.open import open_data, read_data
from unlabeled.data.readers.parts import Opening
from unlabeled.data.values import find_value_range
from unlabeled.encoders.base import build, channels_last, is_rebuildable
from unlabeled.encoders.channels import fits_as_is, say_adapted
from unlabeled.encoders.external import is_external, native_shape
from unlabeled.encoders.features import build_for, embed
from unlabeled.errors import UserError, plural, reason, suggest
from unlabeled.modality import EncoderInput, Images, Text, from_json, to_json
from unlabeled.runs import hub, published
from unlabeled.runs.card import public_record
from unlabeled.runs.classifier import Classifier, load_classifier, save_classifier
from unlabeled.runs.safety import (
    build_checked,
    check_config,
    check_inputs,
    inside,
    read_json,
    read_shapes,
)
from unlabeled.utils.files import short_name, write_bytes, write_json
from unlabeled.utils.notebook import table
from unlabeled.utils.state import preserve_rng


class Run:
    """A trained encoder with its record.

    Args:
        path: the folder.
        encoder: the network, in eval mode.
        config: of its training, as in `config.json`.
        inputs: its name, its arguments and what it receives, as in `encoder.json`.
        data: the data it was trained on, if that is not named in `config`.
        method: that trained it, with its heads, in eval mode; None if opened from a folder.
        tokenizer: of an encoder of texts, as JSON (default: the folder's).
        source: what `load` opens it from (default: the folder).
        classifier: on its features; None if there is none.
    """

    def __init__(
        self,
        path: Path,
        encoder: nn.Module,
        config: dict[str, Any],
        inputs: dict[str, Any],
        data: Any = None,
        method: nn.Module | None = None,
        tokenizer: str | None = None,
        source: str | None = None,
        classifier: Classifier | None = None,
    ) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.path, self.encoder = path, encoder.to(device).eval()
        self.config, self.inputs = config, inputs
        if tokenizer is None:
            tokenizer = _read_tokenizer(path) if inputs["modality"]["kind"] == "text" else ""
        self.modality = from_json(inputs["modality"], tokenizer)
        self.source = str(path) if source is None else source
        self.method = method if method is None else method.eval()
        self.data = config.get("data") if data is None else data
        self.classifier = classifier

    @property
    def dim(self) -> int:
        """Number of features."""
        return int(self.inputs["dim"])

    @property
    def is_trained(self) -> bool:
        """Whether it has a folder; else it is an encoder by name."""
        return self.source == str(self.path)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the encoder receives."""
        return self.modality.size

    def embed(self, x: Any, batch_size: int = 500, *, progress: bool | None = None) -> np.ndarray:
        """Features of samples, in their order: float32 (N, dim).

        Args:
            x: samples like those of the training, in any usual form: an array or tensor of images
                (N, H, W), (N, H, W, C) or (N, C, H, W) or of recordings (N, T), a list of texts, a
                folder, a file, or the name of a data set. Masks of 0 and 1 and of 0 and 255 are the
                same. Other sizes are resized.
            batch_size: samples at a time.
            progress: whether to show a bar once it takes a few seconds (default: in commands only).

        Raises:
            UserError: the samples cannot be read, or do not fit the encoder.
        """
        return self.features(self.read(x), batch_size, progress=progress)

    def read(self, data: Any, labels_from: Any = None) -> Samples:
        """Samples of any usual form, as the encoder receives them, and labels as in `open_data`."""
        return read_data(data, like=self.modality, labels_from=labels_from)

    @preserve_rng()
    def features(
        self, samples: Samples, batch_size: int = 500, *, progress: bool | None = None
    ) -> np.ndarray:
        """Features of samples that `read` returned: float32 (N, dim).

        Raises:
            UserError: they are not finite.
        """
        span = self.value_range_of(samples.x)
        return embed(self.encoder, samples.x, span, batch_size, progress=progress)

    def predict(self, x: Any, batch_size: int = 500) -> np.ndarray:
        """Names of the most probable classes of samples, in their order: str (N,).

        Args:
            x: samples of any form that `embed` takes.
            batch_size: samples at a time.

        Raises:
            UserError: the run has no classifier, or `embed` fails.
        """
        probability = self.predict_proba(x, batch_size)
        return np.array(self.require_classifier().classes)[probability.argmax(1)]

    def predict_proba(self, x: Any, batch_size: int = 500) -> np.ndarray:
        """Calibrated probabilities of samples, in their order: float32 (N, K).

        The columns are those of `run.classifier.classes`. Arguments and errors are as of `predict`.
        """
        self.require_classifier()
        return self.probabilities(self.read(x), batch_size)

    def probabilities(self, samples: Samples, batch_size: int = 500) -> np.ndarray:
        """Probabilities of samples that `read` returned: float32 (N, K)."""
        classifier = self.require_classifier()
        return softmax(classifier.logits(self.features(samples, batch_size)), axis=1)

    def require_classifier(self) -> Classifier:
        """The classifier.

        Raises:
            UserError: there is none.
        """
        if self.classifier is None:
            raise UserError(
                f"{self.source} has no classifier; write a model that has one with `unlabeled "
                f"classify {self.source} --data DATA --labels-from labels.csv --out FOLDER`"
            )
        return self.classifier

    def value_range_of(self, x: np.ndarray | LazyImages) -> tuple[float, float]:
        """Black and white of samples that are not uint8: the training's, if it knew some.

        Otherwise of uint16 as `find_value_range` does, and of floats 0 and 255 if they go well
        beyond 1.
        """
        low, high = self.modality.value_range
        is_known = not isinstance(self.modality, Images) or (low, high) != (0, 1)
        if x.dtype == np.uint8 or is_known:
            return low, high
        limits = find_value_range(x)
        if x.dtype == np.uint16:
            return limits
        return (0.0, 1.0) if limits[1] <= 2 else (0.0, 255.0)

    def _repr_html_(self) -> str:
        """The main settings, as a table in notebooks."""
        config = self.config
        data = config.get("data")
        epochs = config.get("recipe", {}).get("epochs")
        rows = {
            "method": config["method"],
            "data": short_name(data) if isinstance(data, str) else "in memory",
            "trained on": plural(config.get("images") or 0, self.modality.noun),
            "encoder": self.inputs["encoder"],
            "features": f"{self.dim:,}",
            "epochs": epochs,
        }
        if not self.is_trained:
            rows = {"encoder": self.source, "features": f"{self.dim:,}"}
        shown = [[name, str(value)] for name, value in rows.items() if value is not None]
        return table(f"Run {self.path}" if self.is_trained else "Encoder by name", [], shown)

    def save(self) -> None:
        """Write `encoder.safetensors` and the `encoder.json` that rebuilds it; its classifier."""
        state = {
            k: v.detach().cpu().contiguous().clone() for k, v in self.encoder.state_dict().items()
        }
        write_bytes(self.path / "encoder.safetensors", save(state))
        write_json(self.path / "encoder.json", self.inputs)
        if self.classifier is not None:
            save_classifier(self.classifier, self.path)

    def save_pretrained(self, folder: str | Path, license: str | None = None) -> Path:
        """Write a folder in the layout of the Hugging Face Hub, which `load` opens; returns it.

        Config, weights (safetensors), preprocessing, and a model card with data, command and
        figures with intervals. Paths, hosts, commits and names of your own do not go into it.

        Args:
            folder: new, empty, or written by this before.
            license: identifier of the weights' license, such as apache-2.0; none is assumed.

        Raises:
            UserError: the encoder is your own code, or the folder holds something else.
        """
        folder = Path(folder).expanduser()
        return published.write_folder(folder, self._published(), folder.name, license)

    def push_to_hub(
        self,
        repository: str,
        license: str | None = None,
        *,
        private: bool | None = None,
        revision: str | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub; returns the address.

        Args:
            repository: OWNER/NAME, which is made if it does not exist.
            license: as of `save_pretrained`.
            private: whether a new repository is its owner's only (default: as the account is set).
            revision: branch to write to (default: main).

        Raises:
            UserError: as `save_pretrained`; or huggingface_hub (`unlabeled[hub]`) or a token is
                missing, or the hub refuses or cannot be reached.
        """
        return hub.push(self._published(), repository, license, private, revision)

    def _published(self) -> published.Published:
        method = self.config["method"]
        if method == self.source:
            raise UserError(f"{self.source} was not trained here; publish a run that was")
        result = published.evaluation_of(self.path, self.encoder) if self.is_trained else None
        record = public_record(self.config, result)
        tokenizer = self.modality.tokenizer if isinstance(self.modality, Text) else ""
        return published.Published(self.encoder, self.inputs, record, tokenizer, self.classifier)


def _read_tokenizer(folder: Path) -> str:
    path = inside(folder, "tokenizer.json")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@preserve_rng()
def load(
    run: str | Path,
    encoder: Any = None,
    *,
    data: Any = None,
    labels_from: Any = None,
    groups_from: Any = None,
    size: int | None = None,
    tile: int | None = None,
    max_pixels: int | None = None,
) -> Run:
    """Open a run folder, or an encoder by its name in place of one.

    Args:
        run: the folder of a run or of `save_pretrained`; or `hf:OWNER/NAME`, with `@REVISION`,
            `timm:NAME` and folders of such weights; or `unlabeled:NAME` of `unlabeled list
            weights`; or a name in `unlabeled list encoders`, which has random weights or is
            fitted.
        encoder: the network that receives the weights (a module, which is copied, a class, or
            `./file.py:Net`); only needed for the user's own encoders.
        data: for a name in `unlabeled list encoders`: the data that it is built for or fitted to;
            for other names, the data to whose number of channels the first layer is adapted.
        labels_from: source of its labels, as for `unlabeled.train`; their column is no input.
        groups_from: what its samples have in common, likewise.
        size: side in pixels of the images that an encoder by name receives (default: the one that
            it was pretrained with, or the data's).
        tile: side of the squares that larger images in files are cut into (default: as in the
            training).
        max_pixels: of images in files (default: as in the training).

    Raises:
        UserError: it is neither, it is no finished run, it is damaged, or its encoder is not known
            here.
    """
    path = Path(run).expanduser()
    path = path if path.name.strip(".") else path.resolve()  # `.` has no name
    if size is not None and size < 1:
        raise UserError(f"--size is {size}; give the side in pixels, 1 or more")
    opening = Opening(tile, max_pixels)
    folder, find = _published_folder(path, str(run))
    if folder is not None and published.is_published(folder, find):
        if size is not None:
            raise UserError(f"{run} has its own size of images; omit --size")
        opened = _from_published(folder, find, path, str(run))
    elif not path.is_dir() and is_external(str(run)):
        opened = _pretrained(str(run), size, data, folder)
    elif not path.is_dir() and str(run) in registry.listing("encoders"):
        known = {"labels_from": labels_from, "groups_from": groups_from}
        opened = _by_name(str(run), data, size, known | vars(opening))
    elif size is not None:
        raise UserError(f"{path} has its own size of images; omit --size")
    else:
        opened = _from_folder(path, encoder)
    options = {name: value for name, value in opening.of_modality.items() if value is not None}
    if not options:
        return opened  # as it was trained
    own = opened.modality
    if not isinstance(own, Images):
        raise UserError(f"{opened.source} takes {own.noun}; omit --tile and --max-pixels")
    return with_opening(opened, replace(Opening(own.tile, own.max_pixels), **options))


def with_opening(run: Run, opening: Opening) -> Run:
    """The run with these options of opening images; a run of other modalities unchanged."""
    if not isinstance(run.modality, Images):
        return run
    other = copy.copy(run)
    other.modality = replace(run.modality, **opening.of_modality)
    other.inputs = run.inputs | {"modality": to_json(other.modality)}
    return other


def _published_folder(path: Path, name: str) -> tuple[Path | None, published.Find]:
    """The folder in which the layout of the hub may be found, and how its files are."""
    if not path.is_dir() and name.startswith(published.PACKAGE_PREFIX):
        return published.packaged_folder(name), inside
    local = Path(name.removeprefix("hf:")).expanduser()
    for folder in (path, local):
        if folder.is_dir():
            return (folder if published.is_published(folder) else None), inside
    return hub.fetch(name), Path.joinpath  # files of its cache are links


def _from_published(folder: Path, find: published.Find, path: Path, name: str) -> Run:
    opened = published.read_folder(folder, find)
    is_folder = path.is_dir()
    return Run(
        path if is_folder else _report_folder(name),
        channels_last(opened.encoder),
        opened.record,
        opened.inputs,
        tokenizer=opened.tokenizer,
        source=str(path) if is_folder else name,
        classifier=opened.classifier,
    )


def _report_folder(name: str) -> Path:
    return Path("runs") / re.sub(r"[^\w.-]+", "-", name).strip("-.")


def _pretrained(name: str, size: int | None, data: Any, downloaded: Path | None) -> Run:
    weights = f"hf:{downloaded}" if downloaded else name
    channels, native = native_shape(weights)
    of_data = None if data is None else channels_of(data)
    if of_data is not None and not fits_as_is(channels, of_data):
        say_adapted(name, channels, of_data)
        channels = of_data
    modality = Images(channels, native if size is None else (size, size))
    options = {"pretrained": True} if name.startswith("timm:") else {}
    network: Any = build(weights, channels, modality.size, **options)
    rebuilt, args = network.rebuild
    return _without_folder(name, network, rebuilt, args, modality, size)


def _by_name(name: str, data: Any, size: int | None, options: dict[str, Any]) -> Run:
    if data is None:
        raise UserError(f"the encoder '{name}' is made for the data that it receives; give --data")
    registry.say_which("encoders", name)
    side = None if size is None else (size, size)
    splits = open_data(data, size=side, **options)
    with preserve_rng(0):
        network = build_for(name, splits)
    return _without_folder(name, network, name, {}, splits.modality.encoder_input, size)


def _without_folder(
    name: str,
    network: Any,
    rebuilt: str,
    args: dict[str, Any],
    modality: EncoderInput,
    size: int | None,
) -> Run:
    """A run that has not been trained here; reports on it go into a folder of its name."""
    config = {"method": name, "data": None, "encoder": name, "size": size, "images": 0}
    record = to_json(modality)
    inputs = {"encoder": rebuilt, "args": args, "modality": record, "dim": network.dim}
    tokenizer = modality.tokenizer if isinstance(modality, Text) else ""
    return Run(_report_folder(name), network, config, inputs, tokenizer=tokenizer, source=name)


def _from_folder(path: Path, encoder: Any) -> Run:
    others = "give the folder that `unlabeled train` wrote, timm:NAME, hf:NAME, or a name in "
    others += "`unlabeled list encoders`"
    if not path.is_dir():
        known = [*registry.listing("encoders"), *map(str, path.parent.glob("*/"))]
        raise UserError(f"there is no run folder {path}; {suggest(str(path), known, others)}")
    for name in ("encoder.json", "encoder.safetensors"):
        if not (path / name).is_file():
            why = "its training has not ended, continue it with --resume"
            if (path / "vectors.bin").is_file():
                why = "query its word vectors with `unlabeled words`"
            elif not (path / "last.ckpt").is_file():
                why = others
            raise UserError(f"{path} is not a finished run ({name} is missing); {why}")
    inputs = check_inputs(read_json(inside(path, "encoder.json")))
    config = check_config(read_json(inside(path, "config.json")))
    weights = inside(path, "encoder.safetensors")
    shapes = read_shapes(weights)
    name, args = inputs["encoder"], inputs["args"]
    if encoder is None and not is_rebuildable(name, args):
        raise UserError(
            f"the encoder of {path} ({name}) is not loaded automatically; give it with --encoder "
            "./file.py:Class, or as encoder=… in Python"
        )
    try:
        if encoder is None:
            module = build_checked(inputs, shapes)
        else:
            options = {} if isinstance(encoder, nn.Module) else args
            modality = from_json(inputs["modality"])
            module = build(encoder, modality.channels, modality.size, **options)
        module.load_state_dict(load_file(weights))
    except (RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"the weights of {path} do not fit the encoder {name}: {reason(error)}"
        ) from error
    classifier = load_classifier(path, int(inputs["dim"]))
    return Run(path, channels_last(module), config, inputs, classifier=classifier)
