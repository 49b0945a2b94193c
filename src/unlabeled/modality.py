"""What kind of data a data set holds: images, audio, text, series, tables, video or pairs.

Every data set declares one of these types, every method and encoder the types that it takes, and
`unlabeled.training.prepare` checks once that they fit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, NamedTuple, TypeVar

DTYPES = ("mask", "uint8", "uint16", "float32")
T = TypeVar("T")


class _EncoderInput:
    @property
    def encoder_input(self: T) -> T:
        """What an encoder receives: the samples themselves."""
        return self


@dataclass(frozen=True)
class Images(_EncoderInput):
    """Images (N, channels, height, width).

    Args:
        channels: number of channels.
        size: height and width in pixels.
        value_range: black and white of uint16 and float32 images; uint8 is always 0 and 255.
        dtype: what the images were given as: uint8, uint16, float32, or a mask of 0 and 1, which
            is stored as uint8 of 0 and 255.
        tile: side of the squares that larger images in files are cut into, each a sample.
        max_pixels: of images in files, above which they are left out (default: Pillow's limit).
    """

    channels: int
    size: tuple[int, int]
    value_range: tuple[float, float] = (0.0, 1.0)
    dtype: str = "uint8"
    tile: int | None = None
    max_pixels: int | None = None

    noun: ClassVar[str] = "images"


@dataclass(frozen=True)
class Audio(_EncoderInput):
    """Recordings, float32 (N, channels, 1, length) in [−1, 1]; shorter ones end in zeros.

    Args:
        sample_rate: samples per second.
        length: samples of a recording.
        channels: number of channels.
    """

    sample_rate: int
    length: int
    channels: int = 1

    noun: ClassVar[str] = "recordings"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a recording as an encoder receives it."""
        return 1, self.length


@dataclass(frozen=True)
class Text(_EncoderInput):
    """Texts in tokens, int32 (N, sentences, length), padded at the end.

    Args:
        vocabulary: number of tokens.
        length: tokens of a sentence, or of a text where that is one row.
        sentences: number of consecutive sentences in a sample.
        tokenizer: as JSON of the library tokenizers.
    """

    vocabulary: int
    length: int
    sentences: int = 1
    tokenizer: str = ""

    noun: ClassVar[str] = "texts"
    channels: ClassVar[int] = 1
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def size(self) -> tuple[int, int]:
        """Sentences, and tokens of each."""
        return self.sentences, self.length


@dataclass(frozen=True)
class Series(_EncoderInput):
    """Time series, float32 (N, channels, 1, length), standardized by channel.

    A timestamp that is 0 in all channels is missing, as are those behind the end of a shorter
    series; the reader keeps observed ones from being 0.

    Args:
        channels: number of values of a timestamp.
        length: number of timestamps.
        means: of each channel in training, which are subtracted; empty before they are known.
        scales: standard deviation of each channel in training, which it is divided by.
    """

    channels: int
    length: int
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()

    noun: ClassVar[str] = "series"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a series as an encoder receives it."""
        return 1, self.length


class Column(NamedTuple):
    """A column of a table: numbers, or one of several words."""

    name: str
    words: tuple[str, ...] = ()  #: empty for numbers
    mean: float = 0.0  #: of numbers in training, which is subtracted
    scale: float = 1.0  #: standard deviation in training, which they are divided by

    @property
    def width(self) -> int:
        """Values that it becomes: one number, or 0 or 1 for each word."""
        return len(self.words) or 1


@dataclass(frozen=True)
class Table(_EncoderInput):
    """Rows of a table, float32 (N, 1, 1, width): standardized numbers, words as 0 and 1.

    Args:
        columns: what is learned from, in order.
    """

    columns: tuple[Column, ...]

    noun: ClassVar[str] = "rows"
    channels: ClassVar[int] = 1
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a row as an encoder receives it."""
        return 1, sum(self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Values that each column becomes."""
        return tuple(column.width for column in self.columns)


@dataclass(frozen=True)
class Video:
    """Frames of videos, in order; the factors "shot" and "frame" say which frame is which.

    Args:
        frames: what each frame is.
    """

    frames: Images

    noun: ClassVar[str] = "frames"

    @property
    def encoder_input(self) -> Images:
        """One frame."""
        return self.frames


@dataclass(frozen=True)
class Pairs:
    """Samples with one or more partners each, such as images with captions.

    Args:
        first: the samples, which the encoder receives.
        second: their partners.
    """

    first: EncoderInput
    second: EncoderInput

    noun: ClassVar[str] = "pairs"

    @property
    def encoder_input(self) -> EncoderInput:
        """The first of each pair."""
        return self.first


EncoderInput = Images | Audio | Text | Series | Table
"""What an encoder can receive; `modality.encoder_input` of each modality is one of these."""
Modality = Images | Audio | Text | Series | Table | Video | Pairs


def find_part(modality: Modality, kind: type[T]) -> T | None:
    """The part of a modality that is of a kind: itself, or the first or second of pairs."""
    parts = (modality.first, modality.second) if isinstance(modality, Pairs) else (modality,)
    return next((part for part in parts if isinstance(part, kind)), None)


def require_part(modality: Modality, kind: type[T]) -> T:
    """The part of a modality that is of a kind, as `find_part` returns it.

    Raises:
        TypeError: it has none.
    """
    part = find_part(modality, kind)
    if part is None:
        raise TypeError(f"{type(modality).__name__} has no {kind.__name__}")
    return part


KINDS: dict[str, type[EncoderInput]] = {
    "images": Images,
    "audio": Audio,
    "text": Text,
    "series": Series,
    "table": Table,
}
COUNTS = {
    "images": ("channels",),
    "audio": ("sample_rate", "length", "channels"),
    "text": ("vocabulary", "length", "sentences"),
    "series": ("channels", "length"),
    "table": (),
}
"""Fields of each kind that are whole numbers above 0."""
LETTERS = 500
"""Of the name of a column, or of a word in it, at most."""


def to_json(modality: EncoderInput) -> dict[str, Any]:
    """A record of what an encoder receives; a tokenizer is left out, since it has its own file."""
    kind = next(name for name, cls in KINDS.items() if isinstance(modality, cls))
    fields = {name: value for name, value in asdict(modality).items() if value is not None}
    fields.pop("tokenizer", None)
    return {"kind": kind} | {name: _as_lists(value) for name, value in fields.items()}


def _as_lists(value: Any) -> Any:
    return [_as_lists(v) for v in value] if isinstance(value, tuple) else value


def from_json(record: Any, tokenizer: str = "") -> EncoderInput:
    """The modality that `to_json` recorded.

    Args:
        record: what was read from the file; nothing about it is trusted.
        tokenizer: of texts.

    Raises:
        ValueError: a field is missing, unknown, of another type or out of range.
    """
    values = dict(record) if isinstance(record, dict) else {}
    kind: Any = values.pop("kind", None)
    _require("kind", isinstance(kind, str) and kind in KINDS)
    for name in COUNTS[kind]:
        _require(name, type(values.get(name)) is int and 1 <= values[name] <= 1 << 24)
    if kind == "images":
        size: Any = values.get("size")
        ends: Any = values.get("value_range")
        _require("size", _is_list_of(size, (int,)) and all(1 <= side <= 1 << 24 for side in size))
        _require("value_range", _is_list_of(ends, (int, float)) and -1e30 <= ends[0] <= ends[1])
        _require("value_range", ends[1] <= 1e30)
        _require("dtype", values.get("dtype") in DTYPES)
        for name in ("tile", "max_pixels"):
            _require(name, name not in values or (type(values[name]) is int and values[name] >= 8))
        values |= {"size": tuple(size), "value_range": (float(ends[0]), float(ends[1]))}
    elif kind == "series":
        for name in ("means", "scales"):
            _require(name, _is_list_of(values.get(name), (int, float), values["channels"]))
            _require(name, all(abs(v) <= 1e300 for v in values[name]))
            values[name] = tuple(map(float, values[name]))
        _require("scales", all(v > 0 for v in values["scales"]))
    elif kind == "table":
        columns: Any = values.get("columns")
        _require("columns", isinstance(columns, list) and len(columns) > 0)
        _require("columns", all(map(_is_column, columns)))
        values["columns"] = tuple(Column(c[0], tuple(c[1]), *map(float, c[2:])) for c in columns)
    try:
        modality = KINDS[kind](**values)
    except TypeError as error:  # a field that this kind does not have
        raise ValueError(kind) from error
    return replace(modality, tokenizer=tokenizer) if isinstance(modality, Text) else modality


def _is_list_of(value: Any, types: tuple[type, ...], number: int = 2) -> bool:
    return isinstance(value, list) and len(value) == number and all(type(v) in types for v in value)


def _is_column(value: Any) -> bool:
    """Whether it can be what JSON makes of a `Column`."""
    if not isinstance(value, list) or len(value) != 4 or not isinstance(value[1], list):
        return False
    name, words, mean, scale = value
    if not all(type(v) in (int, float) and abs(v) <= 1e300 for v in (mean, scale)):
        return False
    return scale > 0 and all(type(v) is str and len(v) <= LETTERS for v in (name, *words))


def _require(field: str, holds: bool) -> None:
    if not holds:
        raise ValueError(field)
