"""Servers on this machine that tests read shards from."""

import io
import json
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

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


TOKEN = "token-of-these-tests"


class WithToken(Handler):
    """Files of a folder behind an API, for who shows the token."""

    def do_GET(self):
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse()
            return
        url = urlsplit(self.path)
        self.api(url.path, {key: values[0] for key, values in parse_qs(url.query).items()})

    def content(self, path: str) -> None:
        """Answer with a file."""
        self.path = path
        super().do_GET()

    def answer(self, content: object, status: int = 200) -> None:
        """Answer with JSON."""
        text = json.dumps(content).encode()
        self.send_response(status)
        if status != 200:
            self.send_header("X-Error-Code", "RepoNotFound")  # as the Hub says it
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class GoogleStorage(WithToken):
    """The four calls of Google Cloud Storage that reading needs; folders are buckets."""

    def refuse(self):
        self.answer({"error": {"message": "caller does not have access"}}, 403)

    def do_POST(self):  # a service account asks for its token
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

    def api(self, path, query):
        match = re.fullmatch(r"(/download)?/storage/v1/b/(\w+)/o(?:/(.*))?", path)
        bucket, key = match[2], unquote(match[3] or "")
        root = Path(self.directory) / bucket
        objects = [
            {
                "bucket": bucket,
                "name": str(p.relative_to(root)),
                "size": str(p.stat().st_size),
                "generation": "1",
                "updated": "2026-01-01T00:00:00Z",
            }
            for p in sorted(root.rglob("*"))
            if p.is_file()
        ]
        if match[1]:
            self.content(f"/{bucket}/{key}")
        elif key:
            own = [each for each in objects if each["name"] == key]
            self.answer(own[0] if own else {"error": {"message": "no"}}, 200 if own else 404)
        else:
            prefix = query.get("prefix", "")
            self.answer({"items": [o for o in objects if o["name"].startswith(prefix)]})


class Hub(WithToken):
    """The three calls of the Hugging Face Hub that reading needs; `USER/NAME` are data sets."""

    def refuse(self):
        self.answer({"error": "Repository not found"}, 401)  # as if it were not there

    def api(self, path, query):
        match = re.fullmatch(r"/(api/)?datasets/(\w+/\w+)(/tree|/resolve|/revision)?(.*)", path)
        name, rest = match[2], unquote(match[4]).removeprefix("/main").strip("/")
        root = Path(self.directory) / name
        if not match[1]:
            self.content(f"/{name}/{rest}")
        elif not root.is_dir():
            self.answer({"error": "Repository not found"}, 404)
        elif match[3] == "/tree":
            all_below = query.get("recursive", "").lower() == "true"
            entries = (root / rest).rglob("*") if all_below else (root / rest).iterdir()
            self.answer(
                [
                    {
                        "type": "directory" if p.is_dir() else "file",
                        "path": str(p.relative_to(root)),
                        "size": p.stat().st_size,
                        "oid": p.name,
                    }
                    for p in sorted(entries)
                ]
            )
        else:
            self.answer({"id": name, "_id": "1", "sha": "0" * 40, "tags": [], "private": True})


class Closing(ThreadingHTTPServer):
    """A server that ends the connections that its clients keep open, when it is closed itself."""

    def __init__(self, *args):
        self.connections = []
        super().__init__(*args)

    def get_request(self):
        self.connections.append(super().get_request())
        return self.connections[-1]

    def server_close(self):
        super().server_close()
        for connection, _ in self.connections:
            with suppress(OSError):  # ended already
                connection.shutdown(socket.SHUT_RDWR)


class Server:
    """An HTTP server of a folder.

    Attributes:
        url: its address.
        broken: how many transfers of a file break off in the middle, by name.
        asked: names of the files that were asked for.
    """

    def __init__(self, folder: Path, ranges: bool = True, kind: type[Handler] = Handler) -> None:
        self.broken: dict[str, int] = {}
        self.asked: list[str] = []
        handler = partial(
            kind, directory=folder, broken=self.broken, ranges=ranges, asked=self.asked
        )
        self.server = Closing(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def serving(folder: Path, ranges: bool = True, kind: type[Handler] = Handler) -> Iterator[Server]:
    """Context with a server of a folder."""
    server = Server(folder, ranges, kind)
    thread = threading.Thread(target=server.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
        thread.join()
