"""What tests of several modules share."""

import io
import socket
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def same_weights(a: Path, b: Path) -> bool:
    """Byte for byte; a plain truth, since pytest would spell out the difference for minutes."""
    one, two = (run.joinpath("encoder.safetensors").read_bytes() for run in (a, b))
    return one == two


def free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def write_shards(folder: Path, shards: int, each: int, side: int = 24) -> None:
    """Tar files s00.tar, s01.tar, … of color images."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for s in range(shards):
        with tarfile.open(folder / f"s{s:02}.tar", "w") as tar:
            for i in range(each):
                content = io.BytesIO()
                pixels = rng.integers(0, 255, (side + i % 3, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(content, "png")
                info = tarfile.TarInfo(f"{i:03}.png")
                info.size = len(content.getvalue())
                content.seek(0)
                tar.addfile(info, content)
