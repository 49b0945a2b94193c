"""Read videos as frames in order, with the factors clip, shot and frame.

Methods of images learn from single frames, methods of videos from consecutive frames of a shot.
Each shot is either for training or for testing.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile

import joblib
import numpy as np
import torch
import torch.nn.functional as F

from unlabeled.data.dataset import LazyImages, Samples, Splits
from unlabeled.data.disk import DiskArray
from unlabeled.data.readers import cache, folders
from unlabeled.data.readers.progress import joined
from unlabeled.data.readers.source import stamp
from unlabeled.data.split import split
from unlabeled.data.targets import Classes, Target
from unlabeled.data.values import find_value_range
from unlabeled.errors import UserError
from unlabeled.modality import Images, Video

ENDINGS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".y4m", ".ogv")
FILE = "videos_small.npz"
LARGEST = 96
"""Maximum pixels of the shorter side by default."""
IN_MEMORY = 64 << 20
"""Maximum bytes of decoded frames in memory; more are read when needed."""
BLOCK = 256
"""Number of frames of a folder that are compared at once."""
NEW, TIMES = 0.1, 2.0
"""Minimum mean change of brightness at a cut, also as a multiple of the change around it."""


def load(location: str | None = None, size: tuple[int, int] | None = None) -> Splits:
    """Videos cut into shots; about a fifth of the shots is for testing.

    Args:
        location: a folder with a sub-folder of frames for each clip, or of frames whose names end
            in numbers; a video, or a folder of videos (opened by PyAV); an `.npy` of clips
            (N, T, C, H, W) or (N, T, H, W, C); or an `.npz` with one such array `x`, or with
            `names` and for each an array of frames (T, H, W, C) (default:
            `video/videos_small.npz` below `$UNLABELED_DATA`).
        size: height and width; frames are scaled to cover it and cut at the center (default: the
            smallest of all clips, at most 96 on the shorter side).

    Raises:
        UserError: there is no video, or it cannot be read.
    """
    name = "video" if location is None else f"video:{location}"
    return split(read(_find() if location is None else Path(location).expanduser(), size), name)


def read(path: Path, size: tuple[int, int] | None = None) -> Samples:
    """All frames of the videos that `load` opens, in order."""
    if path.suffix in (".npy", ".npz") and path.is_file():
        return _arrays(path, size)
    if path.suffix.lower() in ENDINGS and path.is_file():
        return _videos(path.parent, [path.name], size)
    if not path.is_dir():
        what = "is no video" if path.exists() else "does not exist"
        raise UserError(
            f"{path} {what}; give a folder of frames, an .npy or .npz of clips, or one of "
            + ", ".join(ENDINGS)
        )
    listing = folders.walk(path)
    if videos := [name for name in listing.names if folders.ending(name) in ENDINGS]:
        folders.say_links(listing, path)
        others = folders.unread({*listing.names} - {*videos}, path)
        folders.say_left_out(path, len(videos), "video", others, listing)
        return _videos(path, videos, size)
    return _frames(path, size)


def from_array(clips: Any) -> Samples:
    """Clips (N, T, C, H, W) or (N, T, H, W, C), each a shot, as frames in order.

    Raises:
        UserError: they are not clips of images.
    """
    from unlabeled.data.readers.arrays import from_memory

    array = clips.detach().cpu().numpy() if isinstance(clips, torch.Tensor) else np.asarray(clips)
    if array.ndim != 5:
        raise UserError(f"clips are (N, T, C, H, W) or (N, T, H, W, C), but this is {array.shape}")
    n, t = array.shape[:2]
    x = from_memory(array.reshape(n * t, *array.shape[2:])).x
    clip = np.repeat(np.arange(n), t)
    names = [f"clip {i + 1}" for i in range(n)]
    return _samples(x[:], names, clip, clip, np.tile(np.arange(t), n))


def cut(x: np.ndarray) -> np.ndarray:
    """The shot of each frame (T,), from 0, of one video (T, C, H, W); see `shots`."""
    bright = x.mean(1, dtype=np.float32)
    change = np.abs(np.diff(bright, axis=0)).mean((1, 2)) / (255 if x.dtype == np.uint8 else 1)
    return shots(change)


def shots(change: np.ndarray) -> np.ndarray:
    """The shot of each frame (T,), from 0, by the change of brightness from each to the next.

    A new shot begins where a frame differs from the last one by 0.1 of the range, and by twice the
    difference of the frames around it.

    Args:
        change: mean absolute difference of two frames, as a share of the range, (T - 1,).
    """
    around = [np.delete(change[max(0, i - 5) : i + 6], min(i, 5)) for i in range(len(change))]
    usual = np.array([np.median(part) if len(part) else 0 for part in around])
    new = (change > NEW) & (change > TIMES * (usual + 0.01))
    return np.concatenate([[0], np.cumsum(new)]).astype(np.int64)


def fitted(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 frames (T, C, H, W) to cover a height and width, and crop them at the center."""
    height, width = size
    scale = max(height / x.shape[2], width / x.shape[3])
    sides = (max(height, round(x.shape[2] * scale)), max(width, round(x.shape[3] * scale)))
    if sides != x.shape[2:]:
        scaled = F.interpolate(
            torch.from_numpy(x).float(), sides, mode="bilinear", antialias=True, align_corners=False
        )
        x = scaled.round().clamp(0, 255).byte().numpy()
    top, left = (sides[0] - height) // 2, (sides[1] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def common(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The smallest height and width of all videos, at most `LARGEST` on the shorter side."""
    height, width = min(s[0] for s in sizes), min(s[1] for s in sizes)
    scale = min(1.0, LARGEST / min(height, width))
    return round(height * scale), round(width * scale)


def _find() -> Path:
    data_folder = os.environ.get("UNLABELED_DATA", "")
    for path in (Path(data_folder, "video", FILE), Path(data_folder, FILE)):
        if data_folder and path.is_file():
            return path
    raise UserError(
        f"there is no video/{FILE} below $UNLABELED_DATA; give your own videos as --data "
        "video:FOLDER"
    )


def _samples(
    x: np.ndarray | LazyImages,
    clips: list[str],
    clip: np.ndarray,
    shot: np.ndarray,
    frame: np.ndarray,
) -> Samples:
    """Frames in order with their factors; a shot has the name of its clip."""
    codes, rows = np.unique(shot, return_index=True)
    owner = clip[rows]
    alone = len(codes) == len(clips)
    first = {c: int(codes[owner == c].min()) for c in np.unique(owner)}
    names_of = {
        s: clips[c] + ("" if alone else f", shot {s - first[c] + 1}")
        for s, c in zip(codes.tolist(), owner.tolist(), strict=True)
    }
    names = [f"{names_of[s]}, frame {f}" for s, f in zip(shot.tolist(), frame, strict=True)]
    factors = {"shot": shot, "clip": clip, "frame": frame}
    targets: dict[str, Target] = {
        "shot": Classes(tuple(names_of.values())), "clip": Classes(tuple(clips)),
    }  # fmt: skip
    samples = Samples(x, factors, names, targets)
    assert isinstance(samples.modality, Images)
    return replace(samples, modality=Video(samples.modality))


def _joined(videos: dict[str, np.ndarray], known: dict[str, np.ndarray]) -> Samples:
    """Videos (T, C, H, W) of one size, cut into shots where `known` does not give them."""
    own = {name: known[name] if name in known else cut(x) for name, x in videos.items()}
    return _in_shots(np.concatenate(list(videos.values())), own)


def _in_shots(x: np.ndarray | LazyImages, shots_of: dict[str, np.ndarray]) -> Samples:
    """Frames of all videos, one after the other, with the shot of each, by the video's name."""
    clip, shot, frame, before = [], [], [], 0
    for number, codes in enumerate(shots_of.values()):
        own = np.unique(codes, return_inverse=True)[1]
        clip.append(np.full(len(own), number))
        shot.append(before + own.astype(np.int64))
        frame.append(np.arange(len(own)))
        before += int(own.max()) + 1
    return _samples(x, list(shots_of), *map(np.concatenate, (clip, shot, frame)))


def _arrays(path: Path, size: tuple[int, int] | None) -> Samples:
    """Clips in an array, or the named videos of an `.npz`; never unpickles."""
    try:
        if path.suffix == ".npy":
            return from_array(np.load(path, allow_pickle=False))
        with np.load(path, allow_pickle=False) as file:
            if "names" not in file:
                key = next((k for k in ("x", "clips", "arr_0") if k in file), None)
                if key is None:
                    raise UserError(f"{path} has no array 'x' of clips, and no 'names' of videos")
                return from_array(file[key])
            names = [str(name) for name in file["names"]]
            videos = {name: file[name].transpose(0, 3, 1, 2) for name in names}
            if other := next((x.dtype for x in videos.values() if x.dtype != np.uint8), None):
                raise UserError(f"the videos in {path} hold {other}; give frames of uint8")
            shots = {name: file[f"{name}_shot"] for name in names if f"{name}_shot" in file}
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as clips: {error}; save it again") from error
    size = size or common([x.shape[2:] for x in videos.values()])
    return _joined({name: fitted(x, size) for name, x in videos.items()}, shots)


def _videos(folder: Path, names: list[str], size: tuple[int, int] | None) -> Samples:
    """Every frame of videos, decoded by PyAV once, into the cache."""
    size = size or common([_side(folder / name) for name in names])
    height, width = size
    expected = sum(_frames_of(folder / name) for name in names) * 3 * height * width

    def fill(aside: Path) -> bool:
        jobs = (
            joblib.delayed(_write_frames)(folder / name, size, aside / f"{number}.part")
            for number, name in enumerate(names)
        )
        processes = 1 if expected < IN_MEMORY else joblib.cpu_count()
        title = f"decoding {len(names):,} videos"
        changes = joined(jobs, len(names), title, processes, aside / "frames.bin")
        np.savez(aside / "changes.npz", *changes)
        return True

    def load(entry: Path) -> tuple[DiskArray, dict[str, np.ndarray]]:
        with np.load(entry / "changes.npz", allow_pickle=False) as file:
            own = {name: shots(file[f"arr_{i}"]) for i, name in enumerate(names)}
        frames = sum(map(len, own.values()))
        return DiskArray(entry / "frames.bin", np.uint8, (frames, 3, height, width)), own

    stamps = [[name, *stamp(folder / name)] for name in names]
    key = hashlib.sha256(json.dumps([2, size, stamps]).encode()).hexdigest()[:24]
    x, own = cache.get_or_build(f"video-{key}", fill, load, expected, f"frames of {folder}")
    lazy = LazyImages(x)  # type: ignore[arg-type]
    return _in_shots(lazy if x.nbytes > IN_MEMORY else lazy[:], own)


def _write_frames(path: Path, size: tuple[int, int], target: Path) -> np.ndarray:
    """Write the frames of a video; returns the change of brightness from each to the next."""
    last, changes = None, []
    with target.open("wb") as file:
        for frame in _decoded(path, size):
            file.write(frame.tobytes())
            bright = frame.mean(1, dtype=np.float32)
            if last is not None:
                changes.append(np.abs(bright - last).mean() / 255)
            last = bright
    if last is None:
        raise UserError(f"{path} has no frames; give another video")
    return np.array(changes, np.float32)


def _frames_of(path: Path) -> int:
    """Approximate number of frames of a video; 0 if unknown."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        seconds = float(container.duration or 0) / 1e6
        return int(stream.frames or seconds * float(stream.average_rate or 0))


def _side(path: Path) -> tuple[int, int]:
    """Height and width of a video as it is shown."""
    with closing(_upright(path)) as frames:
        first = next(frames, None)
    if first is None:
        raise UserError(f"{path} has no frames; give another video")
    return first.shape[0], first.shape[1]


def _decoded(path: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Frames of a video, fitted, (1, 3, H, W) each."""
    return (fitted(frame.transpose(2, 0, 1)[None], size) for frame in _upright(path))


def _upright(path: Path) -> Generator[np.ndarray]:
    """Frames of a video, uint8 (H, W, 3), rotated as its container says, such as of a phone."""
    with _opened(path) as container:
        from av import FFmpegError  # there, since a container was opened

        try:
            for frame in container.decode(video=0):
                turns = round(frame.rotation / 90)  # counterclockwise
                yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
        except FFmpegError as error:
            raise UserError(f"{path} is damaged ({error.strerror}); copy it again") from error


def _opened(path: Path) -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path} is a video, and opening videos needs PyAV: pip install 'unlabeled[video]'"
        ) from error
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise UserError(f"{path} is not a readable video ({error.strerror})") from error
    if not container.streams.video:
        container.close()
        raise UserError(f"{path} has no images, only audio; give another video")
    return container


def _frames(path: Path, size: tuple[int, int] | None) -> Samples:
    """Images in a folder; those of a sub-folder, or of one name before a number, are a clip."""
    from unlabeled.data.readers import images

    samples = images.read(path, size=size)
    names = samples.names or []
    keys = [_position(name) for name in names]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    clips, clip = np.unique([keys[i][0] for i in order], return_inverse=True)
    x, shots_of = samples.x, {}
    low, high = (0.0, 255.0) if x.dtype == np.uint8 else find_value_range(x)
    for i, name in enumerate(clips):
        shots_of[str(name)] = shots(_changes(x, order[clip == i], high - low))
    x = x.take(order) if isinstance(x, LazyImages) else x[order]
    size_in_memory = math.prod(x.shape) * x.dtype.itemsize
    return _in_shots(x if size_in_memory > IN_MEMORY else x[:], shots_of)


def _changes(x: np.ndarray | LazyImages, rows: np.ndarray, span: float = 255.0) -> np.ndarray:
    """The change of brightness from each of these frames to the next, read in blocks, as a share
    of the range `span`.
    """
    parts = [
        x[rows[at : at + BLOCK + 1]].mean(1, dtype=np.float32) for at in range(0, len(rows), BLOCK)
    ]
    changes = [np.abs(np.diff(bright, axis=0)).mean((1, 2)) / span for bright in parts]
    return np.concatenate(changes)


def _position(name: str) -> tuple[str, int, str]:
    """Clip, number and name of a frame: "a/frame_10.png" -> "a", 10, "a/frame_10.png"."""
    path = PurePosixPath(name)
    match = re.search(r"(\d+)\D*$", path.stem)
    number = int(match[1]) if match else 0
    if len(path.parts) > 1:
        return str(path.parent), number, name
    before = path.stem[: match.start()].rstrip("-_ .") if match else path.stem
    return before or "clip", number, name
