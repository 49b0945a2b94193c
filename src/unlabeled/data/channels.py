"""How many channels images have, before they are opened."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlabeled.data.dataset import Splits
from unlabeled.data.readers import arrays, audio, images, patterns
from unlabeled.data.readers.source import TABLES
from unlabeled.errors import Notice, UserError
from unlabeled.modality import Images


def channels_of(data: Any) -> int | None:
    """Number of channels of images in files or arrays, without decoding them and without notices.

    None for a named data set, for data without images, and for unreadable data, which `open_data`
    reports.
    """
    if isinstance(data, Splits):
        return data.channels if isinstance(data.modality, Images) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            if isinstance(data, str | Path):
                return _of_files(data)
            images_only = data[0] if isinstance(data, tuple) and len(data) == 2 else data
            if isinstance(images_only, np.ndarray | torch.Tensor) and images_only.ndim in (3, 4):
                return _of_array(arrays.from_memory(images_only[:2]).modality)
    except UserError:
        pass
    return None


def _of_files(data: str | Path) -> int | None:
    path, listing = patterns.find_files(data)
    if path.suffix in (".npy", ".npz") and path.is_file():
        return _of_array(arrays.read(path).modality)
    if listing and audio.is_folder_of_audio(path, listing):
        return None
    if listing or (path.is_file() and path.suffix.lower() in (".tar", *TABLES)):
        return images.channels_of(path, listing)
    return None


def _of_array(modality: Any) -> int | None:
    return modality.channels if isinstance(modality, Images) else None
