"""DICOM images in the units of the device, without windowing; each frame is a sample."""

import hashlib
import importlib.util
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from unlabeled.data.readers.planes import Box, Planes, UnfitError, inside, kind_of

ENDINGS = (".dcm", ".dicom", ".dic")
MAGIC = b"DICM"
"""Follows a preamble of 128 arbitrary bytes."""
IS_READ = importlib.util.find_spec("pydicom") is not None
NO_DICOM = "DICOM, which pip install 'unlabeled[dicom]' makes readable"
PREFIX = "dicom:"
"""Prefix of the keyword of an element in `labels_from` and `groups_from`."""
NAMES = ("PatientID", "PatientName", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber")
"""Elements that identify a person; only their hash leaves this module."""


def version() -> str:
    """Version of pydicom; empty if it is not installed."""
    if not IS_READ:
        return ""
    import pydicom

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # damage is reported by this library
    return str(pydicom.__version__)


def is_dicom(first: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM."""
    return first[128:132] == MAGIC


@dataclass(frozen=True)
class Dicom(Planes):
    """A frame of a DICOM file; gray values are in the units of the device.

    Args:
        source: the file.
        dataset: its elements without the pixels.
        frame: number of the frame.
    """

    source: BinaryIO | Path = None  # type: ignore[assignment]  # always given
    dataset: Any = None
    frame: int = 0

    def read(self, box: Box | None = None) -> np.ndarray:
        """Its values, (channels, H, W)."""
        from pydicom.pixels import apply_color_lut, apply_modality_lut

        ds = self.dataset
        x = self._stored()
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            x = apply_color_lut(x, ds)
            x = x >> 8 if x.dtype.itemsize == 2 else x
        if self.channels == 3:
            return inside(np.moveaxis(x, 2, 0), box).astype(self.kind)
        if ds.PhotometricInterpretation == "MONOCHROME1":  # white is 0
            low, high = _ends(ds)
            x = (low + high - x.astype(np.int64)) if x.dtype.kind != "f" else x.max() - x
        if ds.get("ModalityLUTSequence"):
            x = apply_modality_lut(x, ds)
        elif (scale := _rescale(ds, self.frame)) != (1.0, 0.0):
            x = x.astype(np.float64) * scale[0] + scale[1]
        if ds.get("BitsStored") == 1:  # a mask
            x = x * 255
        return inside(x[None], box).astype(self.kind)

    def as_kind(self, x: np.ndarray, kind: str) -> np.ndarray:
        """Convert values to another number type: exactly, or to the high byte for 8 bits."""
        order = ("u1", "u2", "f4")
        if order.index(kind) >= order.index(self.kind):
            return x.astype(kind)
        if (kind, self.kind) == ("u1", "u2"):
            return (x >> max(0, int(self.dataset.BitsStored) - 8)).astype(kind)
        return super().as_kind(x, kind)

    def _stored(self) -> np.ndarray:
        """(H, W) or (H, W, 3) as stored."""
        from pydicom.pixels import pixel_array

        index = self.frame if self.frames > 1 else 0
        try:
            return pixel_array(self.source, index=index)
        except RuntimeError as error:
            compressed = not isinstance(error, NotImplementedError)
            if compressed and importlib.util.find_spec("pylibjpeg") is None:
                raise UnfitError(
                    "DICOM, compressed as pip install 'unlabeled[dicom-compressed]' makes readable"
                ) from error
            raise


def opened(source: BinaryIO | Path, frame: int, limit: float) -> Dicom:
    """A frame of a DICOM file.

    Raises:
        UnfitError: it holds no image, or pydicom is missing.
        DecompressionBombError: it is too large.
    """
    if not IS_READ:
        raise UnfitError(NO_DICOM)
    from pydicom import dcmread

    version()
    ds = dcmread(source, stop_before_pixels=True, force=True)
    if not isinstance(source, Path):
        source.seek(0)
    if not all(ds.get(name) for name in ("Rows", "Columns", "PhotometricInterpretation")):
        raise UnfitError("DICOM without an image")
    size = int(ds.Columns), int(ds.Rows)
    if math.prod(size) > limit:
        raise Image.DecompressionBombError
    frames = max(1, int(ds.get("NumberOfFrames") or 1))
    palette = ds.PhotometricInterpretation == "PALETTE COLOR"
    channels = 3 if palette else int(ds.get("SamplesPerPixel") or 1)
    if channels not in (1, 3):
        raise UnfitError(f"DICOM of {channels} samples per pixel")
    kind = _kind(ds, palette, channels)
    return Dicom(channels, kind, size, frames=frames, source=source, dataset=ds, frame=frame)


def _kind(ds: Any, palette: bool, channels: int) -> str:
    if palette:
        return "u1"
    bits = int(ds.get("BitsAllocated") or 16)
    stored = kind_of(f"u{bits // 8}") if bits in (8, 16, 32, 64) else "u1"
    if channels == 3:
        return stored
    is_scaled = ds.get("ModalityLUTSequence") or _rescale(ds, 0) != (1.0, 0.0)
    return "f4" if is_scaled or ds.get("PixelRepresentation") == 1 else stored


def _rescale(ds: Any, frame: int) -> tuple[float, float]:
    """Slope and intercept, of the image or of a frame."""
    sources = [ds]
    for groups, row in (
        (ds.get("SharedFunctionalGroupsSequence"), 0),
        (ds.get("PerFrameFunctionalGroupsSequence"), frame),
    ):
        if groups and row < len(groups):
            sources += groups[row].get("PixelValueTransformationSequence") or []
    for source in reversed(sources):
        if source.get("RescaleSlope") is not None:
            return float(source.RescaleSlope), float(source.get("RescaleIntercept") or 0.0)
    return 1.0, 0.0


def _ends(ds: Any) -> tuple[int, int]:
    """The smallest and the largest storable value."""
    bits = int(ds.get("BitsStored") or ds.get("BitsAllocated") or 16)
    return (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        if ds.get("PixelRepresentation") == 1
        else (0, (1 << bits) - 1)
    )


def element(path: Path, keyword: str) -> str:
    """An element of a file as text, "" if missing; a hash if it identifies a person."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    version()
    try:
        ds = dcmread(path, stop_before_pixels=True, specific_tags=[keyword])
        value = ds.get(keyword)
    except (InvalidDicomError, OSError, ValueError, AttributeError, KeyError, EOFError):
        return ""
    text = "" if value is None else str(value).strip()
    if text and keyword in NAMES:
        return hashlib.sha256(text.encode()).hexdigest()[:12]
    return text


def is_keyword(keyword: str) -> bool:
    """Whether DICOM has an element of that keyword."""
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(keyword) is not None
