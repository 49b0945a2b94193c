"""Servers on this machine that tests read shards from."""

import io
import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image


def png(value: int, side: int = 16) -> bytes:
    """A noisy color image whose first pixel says its number."""
    pixels = np.random.default_rng(value).integers(0, 255, (side, side, 3), dtype=np.uint8)
    pixels[0, 0] = value // 65536, value // 256 % 256, value % 256
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def numbers(x: np.ndarray) -> np.ndarray:
    """The numbers of images (N, 3, H, W), (N,)."""
    first = x[:, :, 0, 0].astype(int)
    return first[:, 0] * 65536 + first[:, 1] * 256 + first[:, 2]


def write_tar(path: Path, values: range, side: int = 16) -> None:
    """A shard as WebDataset writes it, of images and their classes."""
    with tarfile.open(path, "w") as tar:
        for value in values:
            for ending, content in (("cls", str(value % 3).encode()), ("png", png(value, side))):
                member = tarfile.TarInfo(f"{value:06}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, with ranges; `broken` are names whose transfers break off so often."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args, broken: dict[str, int], ranges: bool, asked: list[str], **kwargs):
        self.broken, self.ranges, self.asked = broken, ranges, asked
        super().__init__(*args, **kwargs)

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        self.asked.append(path.name)
        if "secret" in self.path:
            self.send_error(403)
            return
        if not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and self.ranges:
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.broken.get(path.name, 0):
            self.broken[path.name] -= 1
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.wfile.write(content)


class Server:
    """An HTTP server of a folder.

    Attributes:
        url: its address.
        broken: how many transfers of a file break off in the middle, by name.
        asked: names of the files that were asked for.
    """

    def __init__(self, folder: Path, ranges: bool = True) -> None:
        self.broken: dict[str, int] = {}
        self.asked: list[str] = []
        handler = partial(
            Handler, directory=folder, broken=self.broken, ranges=ranges, asked=self.asked
        )
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def serving(folder: Path, ranges: bool = True) -> Iterator[Server]:
    """Context with a server of a folder."""
    server = Server(folder, ranges)
    thread = threading.Thread(target=server.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
        thread.join()
