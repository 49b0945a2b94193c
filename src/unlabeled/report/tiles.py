"""How samples look and sound on a page: thumbnails in sheets, clips, and texts."""

import base64
import io
import wave
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from unlabeled.data.dataset import LazyImages, Samples, to_float
from unlabeled.data.readers.audio import lengths
from unlabeled.data.readers.bpe import open_tokenizer
from unlabeled.evaluation.duplicates import SIDE
from unlabeled.modality import Audio, Table, Text
from unlabeled.utils.drawing import series_image

LARGEST = 128
"""Longer side of a thumbnail in pixels."""
PIXELS = 42_000_000
"""Maximum pixels of all thumbnails: 10,000 of 64×64, which take 170 MB decoded in a browser."""
SHEET = 1024
"""Side in pixels of the sheets that thumbnails are packed into."""
QUALITY = 80
"""Quality of WebP."""
BLOCK = 500
SPECTROGRAM = (48, 64)
"""Height and width of the thumbnail of a recording: frequencies and times."""
DECIBELS = 80
"""Decibels below the maximum of a recording that are black in its thumbnail."""
CLIP_SECONDS = 5.0
"""Maximum seconds of a recording that can be played."""
CLIPS_BYTES = 8_000_000
"""Maximum bytes of all clips of a page, as WAV."""
LETTERS = 400
"""Maximum characters of a text that are shown."""


def thumbnails(x: np.ndarray | LazyImages, span: tuple[float, float]) -> np.ndarray:
    """Images (N, C, H, W), read in blocks, as thumbnails to show, uint8 (N, h, w, 1 or 3).

    Of one or two channels the first is shown in gray, of more the first three in color.
    """
    n, _, height, width = x.shape
    scale = min(1.0, LARGEST / max(height, width), (PIXELS / (n * height * width)) ** 0.5)
    size = max(1, int(height * scale)), max(1, int(width * scale))
    tiles = np.empty((n, *size, _shown(x)), np.uint8)
    for start, part in _parts(x, span):
        tiles[start : start + BLOCK] = _resized(part, size).transpose(0, 2, 3, 1)
    return tiles


def to_compare(x: np.ndarray | LazyImages, span: tuple[float, float]) -> np.ndarray:
    """Images (N, C, H, W), read in blocks, as `near_duplicates` takes them: (N, 1 or 3, 32, 32)."""
    small = np.empty((len(x), _shown(x), SIDE, SIDE), np.uint8)
    for start, part in _parts(x, span):
        small[start : start + BLOCK] = _resized(part, (SIDE, SIDE))
    return small


def _shown(x: np.ndarray | LazyImages) -> int:
    return 3 if x.shape[1] >= 3 else 1


def _parts(
    x: np.ndarray | LazyImages, span: tuple[float, float]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Blocks of images in 0..1, and the row that each starts at."""
    for start in range(0, len(x), BLOCK):
        block = np.ascontiguousarray(x[start : start + BLOCK][:, : _shown(x)])
        part = torch.from_numpy(block if block.dtype == np.uint8 else block.astype(np.float32))
        yield start, to_float(part, span).clamp(0, 1)


def spectrograms(x: np.ndarray) -> np.ndarray:
    """Recordings (N, C, 1, T) as thumbnails uint8 (N, 48, 64, 1): low frequencies below, in dB.

    Without the zeros at the end; magnitudes of Hann windows of 256 samples, 80 dB below the largest
    is black.
    """
    tiles = np.empty((len(x), *SPECTROGRAM, 1), np.uint8)
    window = torch.hann_window(256)
    for row, length in enumerate(lengths(x.mean(1))):
        sound = torch.from_numpy(
            np.ascontiguousarray(x[row].mean(0)[0, : max(length, 512)])
        ).float()
        sound = F.pad(sound, (0, max(0, 512 - len(sound))))
        power = torch.stft(sound, 256, 64, window=window, return_complex=True).abs().square()
        decibels = 10 * (power / power.max().clamp_min(1e-12)).clamp_min(1e-12).log10()
        shown = (1 + decibels / DECIBELS).clamp(0, 1).flip(0)[None, None]
        tiles[row, ..., 0] = _resized(shown, SPECTROGRAM)[0, 0]
    return tiles


def curves(x: np.ndarray) -> np.ndarray:
    """Standardized series (N, C, 1, T) as thumbnails, uint8 (N, 64, 128, 3)."""
    return np.stack([np.asarray(series_image(torch.from_numpy(one))) for one in x])


def rows(samples: Samples, modality: Table) -> list[str]:
    """Rows of a table in words, the first 400 letters of each: "age 38, city Rome"."""
    shown = []
    for values in samples.x[:].squeeze((1, 2)):
        cells, start = [], 0
        for column in modality.columns:
            own = values[start : start + column.width]
            start += column.width
            if not column.words:
                cells.append(f"{column.name} {own[0] * column.scale + column.mean:.4g}")
            elif own.any():
                cells.append(f"{column.name} {column.words[int(own.argmax())]}")
        text = ", ".join(cells)
        shown.append(text if len(text) <= LETTERS else text[: LETTERS - 1] + "…")
    return shown


def clips(samples: Samples, order: Iterable[int]) -> dict[int, str]:
    """Recordings as base64 of WAV, by row: the first that fit into 8 MB, at most 5 s of each.

    Args:
        samples: recordings.
        order: rows, the most important first; rows that occur again are skipped.
    """
    modality = samples.modality.encoder_input
    assert isinstance(modality, Audio)
    sources: dict[int, str] = {}
    left = CLIPS_BYTES
    for row in order:
        if row in sources:
            continue
        sound = samples.x[row : row + 1].mean(1)
        end = min(int(lengths(sound)[0]), round(CLIP_SECONDS * modality.sample_rate))
        content = io.BytesIO()
        with wave.open(content, "wb") as file:
            file.setparams((1, 2, modality.sample_rate, 0, "NONE", ""))
            values = np.clip(sound[0, 0, :end], -1, 1) * 32767
            file.writeframes(values.round().astype("<i2").tobytes())
        left -= len(content.getvalue())
        if left < 0:
            break
        sources[row] = base64.b64encode(content.getvalue()).decode()
    return sources


def texts(samples: Samples, modality: Text) -> list[str]:
    """Texts from their tokens, the first 400 letters of each."""
    tokenizer = open_tokenizer(modality.tokenizer)
    rows = samples.x[:].reshape(len(samples), -1)
    decoded = tokenizer.decode_batch(rows.tolist(), skip_special_tokens=True)
    shown = (" ".join(text.split()) for text in decoded)
    return [text if len(text) <= LETTERS else text[: LETTERS - 1] + "…" for text in shown]


def sheets(tiles: np.ndarray) -> Iterator[bytes]:
    """Thumbnails (N, h, w, c) packed row by row into WebP sheets of about 1024 pixels a side."""
    n, height, width, channels = tiles.shape
    columns, rows = per_sheet(tiles)
    for start in range(0, n, columns * rows):
        part = tiles[start : start + columns * rows]
        used = -(-len(part) // columns)
        full = np.zeros((used * columns, height, width, channels), np.uint8)
        full[: len(part)] = part
        grid = full.reshape(used, columns, height, width, channels).swapaxes(1, 2)
        array = grid.reshape(used * height, columns * width, channels)
        content = io.BytesIO()
        Image.fromarray(array[..., 0] if channels == 1 else array).save(
            content, "WEBP", quality=QUALITY
        )
        yield content.getvalue()


def per_sheet(tiles: np.ndarray) -> list[int]:
    """Columns and rows of a full sheet."""
    return [max(1, SHEET // tiles.shape[2]), max(1, SHEET // tiles.shape[1])]


def _resized(x: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Images (B, C, H, W) in 0..1 as uint8 of another size."""
    if x.shape[2:] != size:
        x = F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)
    return (x * 255).round().byte().numpy()
