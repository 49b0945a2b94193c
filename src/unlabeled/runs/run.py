"""A run folder: what made an encoder, and the encoder, ready to use.

Nothing in it is unpickled or imported when it is opened for use: the weights are safetensors, the
rest is JSON, and only encoders of this package are rebuilt from their name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from unlabeled.data.dataset import LazyImages, Samples, rate_of, whole
from unlabeled.data.open import read_data, reopen_texts
from unlabeled.data.values import value_range
from unlabeled.encoders.base import build, is_rebuildable
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError, reason
from unlabeled.runs.safety import (
    build_checked,
    check_config,
    check_inputs,
    inside,
    read_json,
    read_shapes,
)
from unlabeled.utils.files import write_bytes, write_json
from unlabeled.utils.state import preserve_rng


class Run:
    """A trained encoder with its record.

    Args:
        path: the folder.
        encoder: the network, in eval mode.
        config: what made it, as in `config.json`.
        inputs: what it takes: channels, size and range, as in `encoder.json`.
        data: the data it was trained on, where that is not named in `config`.
        method: what trained it, with its heads, in eval mode; None when opened from a folder.
    """

    def __init__(
        self,
        path: Path,
        encoder: nn.Module,
        config: dict[str, Any],
        inputs: dict[str, Any],
        data: Any = None,
        method: nn.Module | None = None,
    ) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.path, self.encoder = path, encoder.to(device).eval()
        self.config, self.inputs = config, inputs
        self.method = method if method is None else method.eval()
        self.data = config.get("data") if data is None else data

    @property
    def dim(self) -> int:
        """Number of features."""
        return int(self.inputs["dim"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the encoder takes."""
        height, width = self.inputs["size"]
        return height, width

    @property
    def tokenizer(self) -> str:
        """Of an encoder that reads texts, as JSON; empty of others."""
        if "vocabulary" not in self.inputs["args"]:
            return ""  # captions were read beside it, if there is one
        path = inside(self.path, "tokenizer.json")
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @property
    def learned(self) -> dict[str, Any]:
        """What numbers it learned from, `stored` and `value_range`, as `open_data` takes them."""
        stored, (low, high) = self.inputs.get("stored"), self.inputs["range"]
        known = stored is not None and rate_of(stored) is None
        return {"stored": stored, "value_range": (float(low), float(high)) if known else None}

    @property
    def of_images(self) -> bool:
        """Whether the encoder sees images, neither texts nor sound."""
        return not self.tokenizer and rate_of(self.inputs.get("stored")) is None

    def embed(self, x: Any, batch_size: int = 500) -> np.ndarray:
        """Features of images, in their order: float32 (N, dim).

        Args:
            x: images as those of the training, in any usual form: an array or tensor (N, H, W),
                (N, H, W, C) or (N, C, H, W), a folder, a file, or the name of a data set. Masks of
                0 and 1 and of 0 and 255 are the same. Other sizes are resized.
            batch_size: images at a time.

        Raises:
            UserError: the images cannot be read, or have another number of channels.
        """
        return self.features(self.read(x), batch_size)

    def read(self, data: Any) -> Samples:
        """Images of any usual form, as those that the encoder learned from; of a run that reads
        texts a file, a folder, or a list of strings.
        """
        if self.tokenizer and not isinstance(data, np.ndarray | torch.Tensor):
            return whole(reopen_texts(data, self.tokenizer, self.size, tested=False))
        return read_data(data, self.inputs["channels"], self.size, **self.learned)

    @preserve_rng()
    def features(self, samples: Samples, batch_size: int = 500) -> np.ndarray:
        """Features of images that `read` gave: float32 (N, dim).

        Raises:
            UserError: they are not finite.
        """
        return embed(self.encoder, samples.x, self.span(samples.x), batch_size)

    def span(self, x: np.ndarray | LazyImages) -> tuple[float, float]:
        """Black and white of images that are not uint8: the training's, if it knew some.

        Else of uint16 as `value_range` finds them, and of floats 0 and 255 if they go well beyond
        1.
        """
        low, high = self.inputs["range"]
        if x.dtype == np.uint8 or (low, high) != (0, 1):
            return low, high
        found = value_range(x)
        if x.dtype == np.uint16:
            return found
        return (0.0, 1.0) if found[1] <= 2 else (0.0, 255.0)

    def save(self) -> None:
        """Write `encoder.safetensors` and the `encoder.json` that rebuilds it."""
        state = {
            k: v.detach().cpu().contiguous().clone() for k, v in self.encoder.state_dict().items()
        }
        write_bytes(self.path / "encoder.safetensors", save(state))
        write_json(self.path / "encoder.json", self.inputs)


@preserve_rng()
def load(run: str | Path, encoder: Any = None) -> Run:
    """Open a run folder.

    Args:
        run: the folder.
        encoder: the network to put the weights in (a module, of which a copy takes them, a class,
            `./file.py:Net`); only needed where it was the user's own.

    Raises:
        UserError: it is no finished run, it is damaged, or its encoder is not known here.
    """
    path = Path(run).expanduser()
    for name in ("encoder.json", "encoder.safetensors"):
        if not (path / name).is_file():
            why = (
                "it holds word vectors; ask them with `unlabeled words`"
                if (path / "vectors.bin").is_file()
                else "its training has not ended; go on with --resume"
                if (path / "last.ckpt").is_file()
                else "give the folder that `unlabeled train` wrote"
            )
            raise UserError(f"{path} is no finished run ({name} is missing): {why}")
    inputs = check_inputs(read_json(inside(path, "encoder.json")))
    config = check_config(read_json(inside(path, "config.json")))
    weights = inside(path, "encoder.safetensors")
    shapes = read_shapes(weights)
    name, args = inputs["encoder"], inputs["args"]
    if encoder is None and not is_rebuildable(name, args):
        raise UserError(
            f"the encoder of {path} is your own ({name}); "
            "give it as encoder=… in Python, or --encoder ./file.py:Net"
        )
    try:
        if encoder is None:
            module = build_checked(inputs, shapes)
        else:
            given = {} if isinstance(encoder, nn.Module) else args
            module = build(encoder, inputs["channels"], tuple(inputs["size"]), **given)
        module.load_state_dict(load_file(weights))
    except (RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"the weights of {path} do not fit the encoder {name}: {reason(error)}"
        ) from error
    return Run(path, module.to(memory_format=torch.channels_last), config, inputs)  # type: ignore[call-overload]
