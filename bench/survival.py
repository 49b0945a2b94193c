"""Kill runs at random times, resume them and compare the weights: python bench/survival.py.

Each trial runs the command in a separate process, kills it (`kill -9`) after a random fraction of
the duration of a run, and resumes it until it ends; every second trial is killed twice. Then
checkpoints are truncated and have bits flipped. Writes results/survival.json.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("UNLABELED_DATA", ROOT.parent / "shared" / "data"))
SEED = 0
COMMON = ["--epochs", "4", "--batch_size", "64", "--trainer.limit_train_batches", "50"]


def command(directory: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    """Start a training in `directory / "run"`, with a separate cache."""
    line = [sys.executable, "-m", "unlabeled", "train", "simclr", *words, *COMMON]
    settings = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    environment = os.environ | settings | {"UNLABELED_CACHE": str(directory / "cache")}
    return [*line, "--out", str(directory / "run")], environment


def finish(directory: Path, *words: str) -> tuple[str, float]:
    """Run to the end; the hash of the weights, and the seconds it took."""
    line, environment = command(directory, *words)
    started = time.perf_counter()
    subprocess.run(line, env=environment, check=True, capture_output=True)
    weights = (directory / "run" / "encoder.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest(), time.perf_counter() - started


def killed(directory: Path, after: float, *words: str) -> str | None:
    """Start and kill after some seconds; how far it had come, None if it had ended."""
    line, environment = command(directory, *words)
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(after)
        return None
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    run = directory / "run"
    for name, state in (
        ("encoder.safetensors", "finished"),
        ("last.ckpt", "with a checkpoint"),
        ("config.json", "before the first checkpoint"),
    ):
        if (run / name).exists():
            return state
    return "before the run folder"


def trials(name: str, number: int, words: list[str]) -> dict[str, Any]:
    """Kill and resume some runs; which of them end with the weights of an uninterrupted one."""
    draw = random.Random(f"{SEED} {name}")
    with tempfile.TemporaryDirectory() as folder:
        expected, seconds = finish(Path(folder), *words)
    moments: list[tuple[list[float], list[str]]] = []
    same = 0
    while len(moments) < number:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            when = [draw.uniform(0.02, 0.98) for _ in range(1 + len(moments) % 2)]
            started = time.perf_counter()
            states = [
                state
                for i, share in enumerate(when)
                if (state := killed(directory, share * seconds, *words, *["--resume"] * (i > 0)))
            ]
            if not states:  # it was quicker than the first one
                seconds = min(seconds, time.perf_counter() - started)
                continue
            ending, _ = finish(directory, *words, "--resume")
        same += ending == expected
        moments.append(([round(share, 3) for share in when], states))
        print(f"{name} {len(moments)}/{number}: {states}, same {ending == expected}", flush=True)
    return {
        "command": " ".join(["unlabeled train simclr", *words, *COMMON]),
        "kills": sum(len(states) for _, states in moments),
        "trials": number,
        "identical": same,
        "seconds_of_a_whole_run": round(seconds, 1),
        "moments": [{"share_of_run": when, "found": states} for when, states in moments],
    }


def damage() -> list[dict[str, Any]]:
    """Damage the last checkpoint of a stopped run in five ways, and resume it."""
    words = ["--data", "dsprites", "--encoder", "lenet"]
    draw = random.Random(f"{SEED} damage")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        base.mkdir()
        expected, _ = finish(base, *words)
        (base / "run" / "encoder.safetensors").unlink()
        uninterrupted = (base / "run" / "last.ckpt").read_bytes()
        ways = ("empty", "half", "without its last 100 bytes", "10 bits flipped", "1 bit flipped")
        for way in ways:
            hurt = bytearray(uninterrupted)
            if way in ways[:3]:
                hurt = hurt[: {"empty": 0, "half": len(hurt) // 2}.get(way, len(hurt) - 100)]
            else:
                for _ in range(int(way.split()[0])):
                    hurt[draw.randrange(len(hurt))] ^= 1 << draw.randrange(8)
            directory = Path(folder) / way.replace(" ", "-")
            shutil.copytree(base, directory)
            (directory / "run" / "last.ckpt").write_bytes(hurt)
            line, environment = command(directory, *words, "--resume")
            done = subprocess.run(line, env=environment, capture_output=True, text=True)
            weights = directory / "run" / "encoder.safetensors"
            same = weights.exists() and hashlib.sha256(weights.read_bytes()).hexdigest() == expected
            messages = [
                t for t in done.stderr.splitlines() if t.startswith(("warning", "unlabeled"))
            ]
            results.append(
                {"damage": way, "exit": done.returncode, "identical": same, "messages": messages}
            )
            results[-1]["messages"] = [t.replace(str(directory), "…") for t in messages]
            print(results[-1], flush=True)
    return results


def write_images(folder: Path, number: int = 2000) -> None:
    """Write CIFAR-10 images as files: half of them JPEG, half PNG; some damaged."""
    held = np.load(DATA / "cifar10" / "cifar10_jpeg_10pct.npz")
    content, offsets = held["train_jpeg"], held["train_offsets"]
    for i in range(number):
        jpeg = content[offsets[i] : offsets[i + 1]].tobytes()
        if i % 100 == 99:
            (folder / f"{i:05}.jpg").write_bytes(jpeg[: len(jpeg) // 2])
        elif i % 2:
            (folder / f"{i:05}.jpg").write_bytes(jpeg)
        else:
            Image.open(io.BytesIO(jpeg)).save(folder / f"{i:05}.png")


def main() -> None:
    """Run all three parts, or the given ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["dsprites", "folder", "damage"])
    parser.add_argument("--trials", type=int, help="of each part (default: 20 and 10)")
    args = parser.parse_args()
    path = ROOT / "results" / "survival.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result |= {"seed": SEED, "cores": os.cpu_count(), "threads": 2}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        kinds = {
            "dsprites": (20, ["--data", "dsprites", "--encoder", "lenet"]),
            "folder": (10, ["--data", folder, "--workers", "2"]),
        }
        for name, (number, words) in kinds.items():
            if name in args.parts:
                result[name] = trials(name, args.trials or number, words)
                result[name]["command"] = result[name]["command"].replace(folder, "FOLDER")
                path.write_text(json.dumps(result, indent=2) + "\n")
    if "damage" in args.parts:
        result["damage"] = damage()
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
