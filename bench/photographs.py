"""What training without flags gives on photographs: CIFAR-10 as a folder of files.

    python bench/photographs.py [--folder FOLDER]      writes results/photographs.json

FOLDER (default: runs/photographs) keeps the files and the run; a run that was stopped goes on, a
finished one is only evaluated. Nothing is chosen on the test images.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from unlabeled.data import open_data
from unlabeled.utils.files import read_csv, write_json

KEPT = ("metrics", "baselines", "settings", "n_train", "n_test")


def write_files(folder: Path) -> None:
    """The images of CIFAR-10 as PNGs in train/CLASS and test/CLASS."""
    splits = open_data("cifar10")
    for part, samples in (("train", splits.train), ("test", splits.test)):
        names, classes = samples.class_names(splits.target), samples.factors[str(splits.target)]
        for row, image in enumerate(samples.x[:]):
            path = folder / part / names[classes[row]] / f"{row:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path, compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/photographs"))
    folder = parser.parse_args().folder
    files, run = folder / "files", folder / "simclr"
    if not files.is_dir():
        write_files(files)
    command = [sys.executable, "-m", "unlabeled"]
    if not (run / "encoder.safetensors").is_file():
        train = ["train", "simclr", "--data", str(files), "--out", str(run), "--resume"]
        subprocess.run([*command, *train], check=True)
    subprocess.run([*command, "evaluate", str(run), "--labels-from", "folders"], check=True)
    results = json.loads((run / "evaluation.json").read_text())
    config = json.loads((run / "config.json").read_text())
    speeds = read_csv(run / "metrics.csv")["samples_per_second"]
    seconds = sum(config["images"] / speed for speed in speeds if speed > 0)
    result = {"command": "python bench/photographs.py", "training_seconds": seconds}
    result |= {key: results[key] for key in KEPT}
    keys = ("encoder", "encoder_args", "recipe", "preset", "seed", "precision", "versions")
    result |= {"run": {key: config[key] for key in keys}, "cores": os.cpu_count()}
    write_json(Path("results/photographs.json"), result)


if __name__ == "__main__":
    main()
