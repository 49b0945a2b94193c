"""Peak memory and time of opening and training on large text, audio, video and images.

python bench/memory.py [CASE …] [--folder FOLDER]          writes results/memory.json

The cases are word2vec, masked_lm, audio, video and tiles. Their data is made in FOLDER (default: a
temporary one), and removed afterwards: text of real words ($UNLABELED_DATA/text) in random order,
of which one in 50 is new, so that the vocabulary grows as that of real texts does; audio of noise
bursts between silence in FLAC at 22.05 kHz in files of an hour; video of a moving square, 160×120
pixels at 25 frames a second; a tiled TIFF, compressed without loss, cut by --tile. Each training
runs in a fresh process, with an empty cache, for a fixed number of steps (word2vec: of seconds); so
does the same command a second time, when all is in the cache. 100 hours of audio are only opened.
"""

import argparse
import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("UNLABELED_DATA", ROOT.parent / "shared" / "data"))
SEED, STEPS, SECONDS = 0, 30, 20
SIZES = {
    "word2vec": (("100 MB", 100), ("1 GB", 1000)),
    "masked_lm": (("100 MB", 100), ("1 GB", 1000)),
    "audio": (("1 hour", 1), ("5 hours", 5), ("100 hours", 100)),
    "video": (("6 minutes", 6), ("60 minutes", 60)),
    "tiles": (("10,000×10,000", 10_000), ("20,000×20,000", 20_000)),
}
OPENED = {("audio", "100 hours")}
"""What is opened, but not learned from."""
PLACES = {"audio": "audio", "video": "video.mp4", "tiles": "tiles.tif"}
TILE, STORED = 512, 256
"""Side of the tiles that are samples, and of those in the file."""
LOUD = 0.2
"""Share of half seconds that are not silent."""
NEW = 0.02
"""Share of words that are new."""


def write_text(path: Path, megabytes: int) -> None:
    """Paragraphs of real words in random order, an empty line after each fortieth."""
    rng = np.random.default_rng(SEED)
    texts = [
        gzip.decompress((DATA / "text" / f"{name}_train.txt.gz").read_bytes()).decode()
        for name in ("books", "wikipedia")
    ]
    words = np.array(" ".join(texts).split(), dtype=object)
    size = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            some = rng.choice(words, 100_000)
            new = np.flatnonzero(rng.random(len(some)) < NEW)
            some[new] += rng.integers(1 << 30, size=len(new)).astype(str).astype(object)
            cuts = np.cumsum(rng.integers(30, 150, 1200))
            lines = [" ".join(part) for part in np.split(some, cuts[cuts < len(some)])]
            parts = ["\n".join(lines[at : at + 40]) for at in range(0, len(lines), 40)]
            size += file.write("\n\n".join(parts) + "\n\n")


def write_audio(folder: Path, hours: int) -> None:
    """Recordings of an hour, bursts of filtered noise between silence, 22.05 kHz in FLAC."""
    import soundfile

    rate = 22_050
    folder.mkdir()
    rng = np.random.default_rng(SEED)
    noise = np.convolve(rng.normal(size=60 * rate), np.ones(8) / 8, "same").astype(np.float32)
    for hour in range(hours):
        with soundfile.SoundFile(folder / f"{hour:03d}.flac", "w", rate, 1, "PCM_16") as file:
            for _ in range(60):
                levels = rng.uniform(0, 0.3, 120) * (rng.random(120) < LOUD)
                loud = np.repeat(levels, len(noise) // 120).astype(np.float32)
                file.write(np.roll(noise, int(rng.integers(len(noise)))) * loud)


def write_video(path: Path, minutes: int) -> None:
    """A bright square that moves over a background, which changes each minute."""
    import av

    rng = np.random.default_rng(SEED)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(minutes * 60 * 25):
            if number % (60 * 25) == 0:
                small = rng.integers(0, 160, (6, 8, 3)).astype(np.uint8)
                background = np.kron(small, np.ones((20, 20, 1), np.uint8))
            image = background.copy()
            left, top = number * 3 % 140, number * 2 % 100
            image[top : top + 20, left : left + 20] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        container.mux(stream.encode())


def write_tiles(path: Path, side: int) -> None:
    """A color image of smooth patches with noise, in square tiles."""
    import tifffile

    def tiles() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(SEED)
        for _ in range((-(-side // STORED)) ** 2):
            patches = rng.integers(0, 200, (8, 8, 3)).repeat(STORED // 8, 0).repeat(STORED // 8, 1)
            yield (patches + rng.integers(0, 32, patches.shape)).astype(np.uint8)

    tifffile.imwrite(
        path, tiles(), shape=(side, side, 3), dtype=np.uint8, photometric="rgb", bigtiff=True,
        tile=(STORED, STORED), compression="zlib",
    )  # fmt: skip


def run_word2vec(location: Path, out: Path) -> dict[str, Any]:
    """Open the text, and train for some seconds."""
    from unlabeled.data.readers.word_lines import read_lines
    from unlabeled.pipelines.word2vec import word2vec

    started = time.perf_counter()
    words, lines = read_lines(str(location), "", 5)
    opened = time.perf_counter() - started
    threading.Timer(SECONDS, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with contextlib.suppress(KeyboardInterrupt):  # of the timer, after its state was saved
        word2vec(str(location), out=out, progress=False)
    return {"opened_seconds": opened, "tokens": len(lines), "words": len(words)}


def run_training(
    method: str, data: str, out: Path, steps: int, tile: int | None = None, **options: Any
) -> dict[str, Any]:
    """Open the data, and train for some steps, if any."""
    import unlabeled as ul
    from unlabeled.data import open_data

    started = time.perf_counter()
    samples = len(open_data(data, tile=tile).train)
    opened = time.perf_counter() - started
    if steps:
        ul.train(method, data, out=out, trainer={"max_steps": steps}, epochs=1, progress=False,
                 logger="none", tile=tile, **options)  # fmt: skip
    return {"opened_seconds": opened, "samples": samples, "steps": steps}


def peak(process: str = "self") -> int:
    """Peak resident bytes of a process; `ru_maxrss` would begin with that of its parent."""
    status = Path(f"/proc/{process}/status").read_text()
    return int((status.partition("VmHWM:")[2].split() or ["0"])[0]) * 1024


def watch(most: list[int]) -> None:
    """Keep the largest peak of the processes that this one starts, as long as it runs."""
    own = psutil.Process()
    while True:
        for worker in own.children(recursive=True):
            with contextlib.suppress(OSError):  # it has ended
                most[0] = max(most[0], peak(str(worker.pid)))
        time.sleep(0.1)


def child(case: str, location: Path, out: Path, steps: int) -> None:
    """One measurement, in a process of its own; its last line is JSON."""
    most = [0]
    threading.Thread(target=watch, args=(most,), daemon=True).start()
    started = time.perf_counter()
    if case == "word2vec":
        figures = run_word2vec(location, out)
    elif case == "masked_lm":
        figures = run_training("masked_lm", f"text:{location}", out, steps)
    elif case == "audio":
        figures = run_training("cpc", str(location), out, steps)
    elif case == "tiles":
        figures = run_training("simclr", str(location), out, steps, tile=TILE)
    else:
        figures = run_training("video_colorization", f"video:{location}", out, steps, batch_size=8)
    figures["seconds"] = time.perf_counter() - started
    figures |= {"peak_bytes": peak(), "peak_bytes_of_a_worker": most[0]}
    print(json.dumps(figures), flush=True)
    for worker in psutil.Process().children(recursive=True):
        worker.kill()  # idle ones would keep the pipe open
    os._exit(0)  # the timer's signal may still come


def measure(case: str, name: str, number: int, folder: Path) -> list[dict[str, Any]]:
    """Peak memory with an empty cache and with a full one."""
    location = folder / PLACES.get(case, "text.txt")
    steps = "0" if (case, name) in OPENED else str(STEPS)
    command = [sys.executable, __file__, "--make", case, str(location), str(number)]
    subprocess.run(command, check=True)
    files = [location] if location.is_file() else list(location.iterdir())
    rows = []
    for cached in (False, True):
        words = ["--child", case, str(location), str(folder / "run"), steps]
        command = [sys.executable, __file__, *words]
        environment = os.environ | {
            "UNLABELED_CACHE": str(folder / "cache"), "UNLABELED_CACHE_GB": "100",
        }  # fmt: skip
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        row = {"case": case, "size": name, "bytes": sum(f.stat().st_size for f in files)}
        rows.append(row | {"cached": cached} | json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
        shutil.rmtree(folder / "run", ignore_errors=True)  # there is none where nothing is learned
    kept = [p for p in (folder / "cache").rglob("*.bin") if p.is_file()]
    rows[0]["bytes_in_cache"] = sum(p.stat().st_size for p in kept)
    shutil.rmtree(folder / "cache")
    shutil.rmtree(location) if location.is_dir() else location.unlink()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(SIZES))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", nargs=4, help="one measurement: case, data, run, steps")
    parser.add_argument("--make", nargs=3, help="data of one: case, where, how much")
    args = parser.parse_args()
    if args.make:
        case, location, number = args.make
        writers = {"audio": write_audio, "video": write_video, "tiles": write_tiles}
        writers.get(case, write_text)(Path(location), int(number))
        return
    if args.child:
        case, location, out, steps = args.child
        child(case, Path(location), Path(out), int(steps))
    path = ROOT / "results" / "memory.json"
    for case in args.cases:
        rows = []
        for name, number in SIZES[case]:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                rows += measure(case, name, number, Path(folder))
        result = json.loads(path.read_text()) if path.is_file() else {"rows": []}
        result["rows"] = [row for row in result["rows"] if row["case"] != case] + rows
        result |= {
            "command": "python bench/memory.py", "seed": SEED, "steps": STEPS,
            "word2vec_seconds": SECONDS, "cores": os.cpu_count(), "versions": versions(),
        }  # fmt: skip
        write_json(path, result)


if __name__ == "__main__":
    main()
