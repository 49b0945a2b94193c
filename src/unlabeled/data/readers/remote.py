"""Remote files, by fsspec: `http(s)://`, `s3://`, `gs://`, `hf://` and others.

They are copied one by one, when needed, into the cache, whose size is bounded.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np

from unlabeled.data.readers import cache
from unlabeled.data.readers.patterns import expand_braces
from unlabeled.errors import UserError, reason
from unlabeled.utils.files import locked

T = TypeVar("T")
SHARDS = (".tar", ".parquet")
TRIES = 5
"""Number of attempts to read a file before the training stops."""
PAUSE = 0.5
"""Seconds before the second attempt; each further pause is twice as long."""
ALL_SIZES, SIZES = 2_000, 256
"""Maximum number of files whose sizes are all requested beforehand; of more, the number requested,
evenly spaced."""
REQUESTS = 16
"""Number of parallel requests for sizes, and for footers and columns of tables."""
EXTRAS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
VERSIONS = ("ETag", "etag", "md5Hash", "blob_id", "Last-Modified", "LastModified", "mtime")
"""Fields by which servers identify a file's version, the most reliable first."""
CLIENTS = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError", "NonRetryableError", "ChecksumError"),
    "google.auth.exceptions": ("GoogleAuthError",),
    "httpx": ("HTTPError",),
    "httpx2": ("HTTPError",),
}
"""Modules of file system clients, and their errors that are not OSErrors."""


def is_remote(data: Any) -> TypeGuard[str]:
    """Whether data is an address with a protocol, such as `s3://bucket/shards-{000..999}.tar`."""
    return isinstance(data, str) and "://" in data and data.partition("://")[0].isalnum()


class RemoteFiles:
    """Files of one server by their addresses; each is copied into the cache when needed.

    Args:
        pattern: an address; with braces (`{000..999}`) or, if the server can list its files,
            wildcards (`*`); or a folder on such a server, whose shards are used.

    Raises:
        UserError: there is no such file, access is denied, or the server cannot be reached.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern, self.protocol = pattern, pattern.partition("://")[0]
        self._infos: dict[int, dict[str, Any]] = {}
        self.fs = _filesystem(self.protocol)
        with self._explained(pattern):
            self.names = self._listed(pattern)
        if not self.names:
            raise UserError(f"no file matches '{pattern}'; check the address")
        asked = len(self) if len(self) <= ALL_SIZES else SIZES
        rows = np.linspace(0, len(self) - 1, asked).astype(int).tolist()
        with ThreadPoolExecutor(REQUESTS) as pool:
            infos = list(pool.map(self._info_or_none, rows))
        missing = [self.names[row] for row, info in zip(rows, infos, strict=True) if info is None]
        if missing:
            number = f"{len(missing):,} of the {len(rows):,} asked for"
            raise UserError(
                f"there is no {missing[0]}, which '{pattern}' names ({number} are missing); "
                "correct it"
                if len(rows) > 1
                else f"there is no {missing[0]}; check the address"
            )
        sizes = [info["size"] for info in infos if info and info.get("size")]
        self.mean_size = sum(sizes) / max(1, len(sizes))

    def __len__(self) -> int:
        return len(self.names)

    def _listed(self, pattern: str) -> list[str]:
        """The addresses that match a pattern, in order."""
        names = expand_braces(pattern)
        wild = "*[" if self.protocol in ("http", "https") else "*?["
        if not any(mark in name for name in names for mark in wild):
            if len(names) > 1 or ending(names[0]):
                return names
            return self._shards(sorted(self.fs.find(self._path(names[0]))))
        matches = [match for name in names for match in sorted(self.fs.glob(self._path(name)))]
        if not matches and self.protocol in ("http", "https"):
            raise UserError(
                f"no file matches '{pattern}', or the server does not list its files; name them "
                "all with braces, as in shards-{000..099}.tar"
            )
        return self._shards(matches)

    def _shards(self, paths: list[str]) -> list[str]:
        return [self.fs.unstrip_protocol(path) for path in paths if ending(path) in SHARDS]

    def _path(self, name: str) -> str:
        path: str = self.fs._strip_protocol(name)
        return path

    def _info_or_none(self, number: int) -> dict[str, Any] | None:
        try:
            return self.info(number)
        except FileNotFoundError:
            return None

    def info(self, number: int) -> dict[str, Any]:
        """Size and version of a file, as its server reports them.

        Raises:
            UserError: the server cannot be reached, or refuses.
            FileNotFoundError: there is no such file.
        """
        if number not in self._infos:
            with self._explained(self.names[number], missing=False):
                self._infos[number] = self.fs.info(self._path(self.names[number]))
        return self._infos[number]

    def key(self, number: int, *what: Any) -> str:
        """A cache key for content derived from this version of a file."""
        info = self.info(number)
        version = next((str(info[key]) for key in VERSIONS if info.get(key)), "")
        parts = (self.names[number], info.get("size"), version, *what)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]

    def stamp(self, *what: Any) -> str:
        """A cache key for content derived from all files."""
        known = hashlib.sha256(repr((len(self), *what)).encode())
        for start in range(0, len(self), 10_000):
            known.update("\n".join(self.names[start : start + 10_000]).encode())
        for number in sorted(self._infos):
            known.update(self.key(number).encode())
        return known.hexdigest()[:24]

    def beside(self, name: str) -> Any:
        """The content of a JSON file in the folder of the first file; None if there is none."""
        path = self._path(self.names[0]).rpartition("/")[0] + f"/{name}"
        try:
            return json.loads(self.fs.cat_file(path))
        except _errors():
            return None

    def open(self, number: int) -> Any:
        """Open a file for random access.

        Raises:
            UserError: the server cannot be reached, or refuses.
        """
        name = self.names[number]
        with self._explained(name):
            return self.fs.open(self._path(name), "rb", block_size=1 << 16)

    def copy(self, number: int, to: Path) -> None:
        """Copy a file; an interrupted transfer is restarted.

        Raises:
            UserError: it is missing, access is denied, or the transfer fails repeatedly.
        """
        name, size = self.names[number], self.info(number).get("size")
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                self.fs.get_file(self._path(name), str(to))
            except _errors() as error:
                failure = _explain(error, name)
                if not is_transient(error):
                    raise failure from error
                continue
            if size is None or to.stat().st_size == size:
                return
            failure = UserError(
                f"{name} broke off after {to.stat().st_size:,} of {size:,} bytes; check the "
                "server and the network, then start again (a training with --resume)"
            )
        raise failure

    @contextmanager
    def _explained(self, name: str, missing: bool = True) -> Iterator[None]:
        """Raise errors of a server as UserErrors; FileNotFoundError only if `missing`."""
        try:
            yield
        except UserError:
            raise
        except _errors() as error:
            is_missing = isinstance(error, FileNotFoundError) and not _cause(error)
            if is_missing and not missing:
                raise
            raise _explain(error, name) from error


def ending(name: str) -> str:
    """The ending of an address without its query, such as `.tar`."""
    last = name.partition("?")[0].rpartition("/")[2]
    return last[last.rindex(".") :].lower() if "." in last else ""


def get_or_build(key: str, fill: Callable[[Path], None], read: Callable[[Path], T], room: int) -> T:
    """Read the cached folder of that key with `read`, after `fill` has written it if needed.

    Only one thread of one process fills it; others wait.

    Raises:
        UserError: the limit of the cache is below that many bytes.
    """
    root, most = cache.folder(), cache.limit()
    if room > most:
        raise UserError(
            f"a shard needs {room / 1e9:.2g} GB of the cache, which may hold {most / 1e9:.2g} GB; "
            "set UNLABELED_CACHE_GB to three times as much or more, or make smaller shards"
        )

    def fill_all(aside: Path) -> bool:
        fill(aside)
        return True

    while True:
        with locked(root / f"shard-{int(key[:2], 16):03}.lock"):
            path = cache.build(key, fill_all, room)
        assert path is not None
        try:
            return read(path)
        except FileNotFoundError:  # it was evicted in the meantime
            continue


def _filesystem(protocol: str) -> Any:
    """The file system of a protocol, from the package that implements it."""
    try:
        import fsspec

        return fsspec.filesystem(protocol)
    except ImportError as error:
        package = EXTRAS.get(protocol, "fsspec[http]")
        raise UserError(
            f"{protocol}:// needs {package}; pip install 'unlabeled[stream]'"
        ) from error
    except ValueError as error:
        known = "http, https, s3, gs and hf"
        raise UserError(f"there is no protocol '{protocol}'; use {known}") from error


def _errors() -> tuple[type[Exception], ...]:
    """Errors of file systems, including those of their clients that are not OSErrors."""
    kinds: list[type[Exception]] = [OSError, EOFError, ValueError, RuntimeError, TimeoutError]
    for module, names in CLIENTS.items():
        client = sys.modules.get(module)  # a client that was not imported raises nothing
        kinds += [getattr(client, name) for name in names if hasattr(client, name)]
    return tuple(kinds)


def _chain(error: BaseException) -> list[BaseException]:
    """An error and its causes."""
    errors = [error]
    while (before := errors[-1].__cause__ or errors[-1].__context__) and before not in errors:
        errors.append(before)
    return errors


def _cause(error: BaseException) -> str:
    """The real reason why a file was not found: access denied, hidden or unreachable."""
    for each in _chain(error):
        kind, status = type(each).__name__, _status(each)
        if kind == "RepositoryNotFoundError" and status == 401:
            return "hidden"
        if isinstance(each, PermissionError) or status in (401, 403):
            return "refused"
        if kind in ("NoCredentialsError", "PartialCredentialsError", "GatedRepoError"):
            return "refused"
        if isinstance(each, ConnectionError | TimeoutError) or any(
            word in kind
            for word in ("Connect", "Timeout", "gaierror", "Endpoint", "MaxRetry", "Transport")
        ):
            return "unreachable"
    return ""


def _status(error: BaseException) -> int:
    """The HTTP status of an error; 0 if it has none."""
    if str(error).startswith("Forbidden: "):  # as gcsfs says it, without a number
        return 403
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):  # aiohttp warns of its `code`
            if str(code := getattr(holder, name, "")).isdigit():
                return int(code)
    return 0


def is_transient(error: BaseException) -> bool:
    """Whether a failed request may succeed when repeated."""
    cause = _cause(error)
    return cause == "unreachable" or (not cause and not isinstance(error, FileNotFoundError))


def _explain(error: BaseException, name: str) -> UserError:
    cause, why = _cause(error), reason(_chain(error)[-1])
    if cause == "refused":
        protocol = name.partition("://")[0]
        where = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE"}
        where |= {"gs": "GOOGLE_APPLICATION_CREDENTIALS", "hf": "HF_TOKEN"}
        remedy = where.get(protocol, "an address that includes them")
        return UserError(f"{name} may not be read ({why}); give credentials with {remedy}")
    if cause == "hidden":
        return UserError(
            f"there is no {name}, or it is private; check the address, or give credentials with "
            "HF_TOKEN"
        )
    if cause == "unreachable":
        return UserError(
            f"the server of {name} cannot be reached ({why}); check the address and the network"
        )
    if isinstance(error, FileNotFoundError):
        return UserError(f"there is no {name}; check the address")
    return UserError(f"{name} cannot be read ({why}); check the server, then start again")
