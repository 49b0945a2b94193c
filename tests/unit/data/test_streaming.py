"""Images in shards on other machines: servers on this one."""

import contextlib
import importlib
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import same_weights
from PIL import Image
from servers import TOKEN, GoogleStorage, Hub, numbers, png, serving, write_tar

import unlabeled as ul
from unlabeled.data import open_data, values
from unlabeled.data.dataset import LazyImages, Samples
from unlabeled.data.loader import loader
from unlabeled.data.readers import remote
from unlabeled.data.readers.streamed import Shard, StreamedImages
from unlabeled.data.split import PHOTOGRAPHS
from unlabeled.data.split import split as in_parts
from unlabeled.errors import Notice, UserError
from unlabeled.methods.simclr import SimCLR
from unlabeled.training import checkpoints
from unlabeled.training.prepare import prepare

pytestmark = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
SHARDS, EACH = 10, 12


@pytest.fixture(scope="module")
def tars(tmp_path_factory) -> Path:
    """Shards of 12 images."""
    folder = tmp_path_factory.mktemp("tars")
    for i in range(SHARDS):
        write_tar(folder / f"s-{i:03}.tar", range(EACH * i, EACH * (i + 1)))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """Nothing is cached before a test; nobody waits between tries."""
    monkeypatch.setenv("UNLABELED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    return tmp_path / "cache"


def with_notices(call, *args, **kwargs):
    """What a call gives, and all its notices in one text."""
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        result = call(*args, **kwargs)
    return result, "\n".join(str(n.message) for n in notices if issubclass(n.category, Notice))


def drawn(batches) -> np.ndarray:
    """The images' own numbers in batches, (steps, B)."""
    return np.stack([numbers((batch.x.fitted().numpy() * 255).round()) for batch in batches])


def write_table(path: Path, values: range, as_struct: bool = True, **options) -> None:
    """A table as Hugging Face writes it, or with plain bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [png(value) for value in values]
    cells = [{"bytes": image, "path": None} for image in images] if as_struct else images
    table = pa.table({"image": cells, "kind": [f"k{value % 3}" for value in values]})
    pq.write_table(table, path, **options)


def nothing(shard: int) -> Shard:
    raise AssertionError(f"shard {shard} is read, where only the order is asked for")


@pytest.mark.parametrize(("nodes", "batch"), [(1, 8), (2, 8), (3, 12), (4, 16)])
def test_every_sample_once_per_epoch(nodes, batch):
    """Catches machines that share a sample, or each copy all shards."""
    counts = np.array([5, 0, 9, 12, 3, 7, 30, 1, 11, 6])
    fetched: list[int] = []
    x = StreamedImages(
        nothing,
        [str(i) for i in range(10)],
        counts,
        *(2, 3, (8, 8), "u1", 1),
    )
    x.hold = lambda shards, coming: fetched.extend([*shards])
    subset = np.sort(np.random.default_rng(0).permutation(counts.sum())[:70])
    for rows in (None, subset):
        total = counts.sum() if rows is None else len(rows)
        orders, held = [], []
        for node in range(nodes):
            fetched.clear()
            orders.append(np.array(list(x.epoch(rows, batch, 3, 5, 0, node, nodes))))
            held.append(set(fetched))
        order = np.concatenate(orders, 1)
        assert order.shape == (total // batch, batch)
        assert len(np.unique(order)) == order.size
        assert order.max() < total
        shared = sum(len(a & b) for i, a in enumerate(held) for b in held[:i])
        assert shared < nodes + 3  # about one for each cut


def test_a_resumed_epoch_has_the_same_batches_and_skips_what_is_done():
    x = StreamedImages(nothing, ["a"] * 20, np.full(20, 5), 2, 3, (8, 8), "u1", 1)
    held: list[int] = []
    x.hold = lambda shards, coming: held.extend(shards)
    full = [batch.tolist() for batch in x.epoch(None, 4, 0, 1)]
    assert len(held) == 20
    for done in (0, 1, 5, 12, 24):
        held.clear()
        assert [batch.tolist() for batch in x.epoch(None, 4, 0, 1, done)] == full[done:]
        assert len(held) == 20 - 4 * done // 10 * 2


def test_streamed_images_without_labels_have_the_augmentation_of_photographs():
    """Catches color images that are augmented otherwise than the same ones in a folder."""
    x = StreamedImages(nothing, ["a"] * 2, np.full(2, 5), 2, 3, (8, 8), "u1", 1)
    assert in_parts(Samples(LazyImages(x)), "remote").augment == PHOTOGRAPHS


def test_images_of_a_window_are_shuffled_among_themselves():
    """Catches samples in the order of their shards, or a window that is the whole."""
    x = StreamedImages(nothing, ["a"] * 30, np.full(30, 10), 3, 3, (8, 8), "u1", 1)
    x.hold = lambda shards, coming: None
    epochs = [x.shard_of(np.concatenate(list(x.epoch(None, 10, 0, i)))) for i in range(2)]
    windows = epochs[0].reshape(10, 30)
    assert all(len(np.unique(window)) == 3 for window in windows)
    assert all(np.count_nonzero(np.diff(window)) > 10 for window in windows)
    assert len(np.unique(windows)) == 30
    assert set(windows[0]) != set(epochs[1][:30])  # other shards together


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("pattern", ["s-{000..009}.tar", "s-*.tar", ""])
def test_tars_over_http(pattern, ranges, tars, own_cache):
    """All samples of one process in an epoch, each once, and the right ones."""
    with serving(tars, ranges) as server:
        splits, notices = with_notices(open_data, f"{server.url}/{pattern}", size=(16, 16))
        assert (
            f"10 shards ({sum(p.stat().st_size for p in tars.iterdir()) / 1e6:.1f} MB)" in notices
        )
        assert "120 images are streamed" in notices
        batches = loader(splits.train, 8, 0)
        epochs = []
        for epoch in range(2):
            batches.sampler.set_epoch(epoch)
            epochs.append(drawn(batches))
            assert sorted(epochs[-1].ravel()) == list(range(120))
        assert not np.array_equal(*epochs)
        asked = [name for name in server.asked if name.endswith(".tar")]
        assert len(asked) == SHARDS  # all were in the cache after they were counted
        with_notices(open_data, f"{server.url}/{pattern}", size=(16, 16))
        assert [name for name in server.asked if name.endswith(".tar")] == asked


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("as_struct", [True, False])
def test_tables_over_http(as_struct, ranges, tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(3):
        path = tmp_path / "data" / f"train-{i:05}-of-00003.parquet"
        write_table(path, range(20 * i, 20 * i + 20), as_struct, row_group_size=8)
    with serving(tmp_path, ranges) as server:
        pattern = f"{server.url}/data/train-{{00000..00002}}-of-00003.parquet"
        splits, notices = with_notices(open_data, pattern, labels_from="kind")
        assert "counted once" not in notices
        for part in (splits.train, splits.test):
            values = numbers(part.x[:])
            assert (values % 3 == part.factors["kind"]).all()
        assert splits.classes == ["k0", "k1", "k2"]
        assert len(splits.train) == 40
        assert "20 samples of 1 shard of" in notices
        assert sorted(drawn(loader(splits.train, 8, 0)).ravel()) == sorted(
            numbers(splits.train.x[:])
        )
        with pytest.raises(UserError, match=r"no column 'kin' in .*; did you mean kind\?"):
            open_data(pattern, labels_from="kin")


def epoch_of_rank(rank: int, nodes: int, url: str, folder: Path) -> None:
    """What one of two processes with two decoders draws in an epoch, into `folder/RANK.npy`."""
    store = f"file://{folder / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    os.environ["UNLABELED_CACHE"] = str(folder / f"cache{rank % nodes}")  # one for each machine
    train = open_data(f"{url}/s-{{000..009}}.tar", size=(16, 16), workers=2).train
    np.save(folder / f"{rank}.npy", drawn(loader(train, 8, 0, processes=2, nodes=nodes)))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # its servers are idle by then
@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_draw_every_sample_once(nodes, tars, tmp_path, monkeypatch):
    """Catches ranks that draw the same samples, and machines that copy each other's shards."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    for path in tars.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "sizes.json").write_text(json.dumps({p.name: EACH for p in tars.iterdir()}))
    with serving(tmp_path) as server:
        jobs = [(rank, nodes, server.url, tmp_path) for rank in range(2)]
        ranks = [multiprocessing.get_context("fork").Process(target=epoch_of_rank, args=job)
                 for job in jobs]  # fmt: skip
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
        assert [process.exitcode for process in ranks] == [0, 0]
    parts = [np.load(tmp_path / f"{rank}.npy") for rank in range(2)]
    assert [part.shape for part in parts] == [(15, 4)] * 2
    assert sorted(np.concatenate(parts).ravel()) == list(range(120))
    copied = sum(name.endswith(".tar") for name in server.asked)
    # Of two machines, both need the shard at the cut, and the first one, for the size of images.
    assert copied == SHARDS if nodes == 1 else copied <= SHARDS + 2


def test_labels_of_tars(tars):
    with serving(tars) as server:
        splits, notices = with_notices(open_data, f"{server.url}/s-*.tar", labels_from="cls")
        assert "counted and their labels read once" in notices
        assert "24 samples of 2 shards" in notices
        for part in (splits.train, splits.test):
            assert (numbers(part.x[:]) % 3 == part.factors["cls"]).all()
        tested = set(numbers(splits.test.x[:]) // EACH)
        assert len(tested) == 2
        assert not tested & set(numbers(splits.train.x[:]) // EACH)
        with pytest.raises(UserError, match=r"no labels 'json' in .*; beside its images are cls"):
            open_data(f"{server.url}/s-*.tar", labels_from="json")
        with pytest.raises(UserError, match="column of the tables, the ending of files"):
            open_data(f"{server.url}/s-*.tar", labels_from="folders")


def test_a_damaged_shard_is_used_as_far_as_it_goes(tars, tmp_path):
    """Catches a torn last image that counts, and one that stops everything."""
    folder = tmp_path / "torn"
    folder.mkdir()
    for i in range(4):
        (folder / f"s-{i}.tar").write_bytes((tars / f"s-{i:03}.tar").read_bytes())
    torn = (folder / "s-1.tar").read_bytes()
    at = torn.index(b"000016.png") + 512 + 100  # in the middle of the fifth image
    (folder / "s-1.tar").write_bytes(torn[:at])
    (folder / "s-2.tar").write_bytes(b"not a tar" * 100)
    with serving(folder) as server:
        splits, notices = with_notices(open_data, f"{server.url}/s-*.tar")
        assert "2 of 4 shards are damaged and used as far as they go, such as http" in notices
        assert sorted(drawn(loader(splits.train, 4, 0)).ravel()) == [*range(16), *range(36, 48)]
    local, notices = with_notices(open_data, str(folder / "s-*.tar"), size=(16, 16))  # on disk, too
    assert "2 of 4 shards are damaged and used as far as they go, such as s-1.tar" in notices
    assert sorted(numbers(local.train.x[:])) == [*range(16), *range(36, 48)]


def test_a_damaged_table_is_left_out(tmp_path):
    write_table(tmp_path / "a.parquet", range(9))
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:2000])
    with serving(tmp_path) as server:
        splits, notices = with_notices(open_data, f"{server.url}/{{a,b}}.parquet")
        assert "1 of 2 shards is damaged" in notices
        assert "Parquet magic bytes" in notices
        assert len(splits.train) == 9


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sizes.json", {f"s-{i:03}.tar": 12 for i in range(10)}),
        (
            "_info.json",
            {"splits": {"train": {"filenames": [f"s-{i:03}.tar" for i in range(10)]}}},
        ),
    ],
)
def test_counts_beside_the_shards(name, content, tars, tmp_path):
    """Nothing is read through for them; other counts than theirs are said, and no batch fails."""
    for split in content.get("splits", {}).values():
        split["shard_lengths"] = [12] * 10
    for path in tars.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).write_text(json.dumps(content))
    with serving(tmp_path) as server:
        splits, notices = with_notices(open_data, f"{server.url}/s-{{000..009}}.tar")
        assert "counted" not in notices
        assert sum(asked.endswith(".tar") for asked in server.asked) == 1  # for the size of images
        assert sorted(drawn(loader(splits.train, 8, 0)).ravel()) == list(range(120))
        wrong = (tmp_path / name).read_text().replace("12", "14")
        (tmp_path / name).write_text(wrong)
        splits = open_data(f"{server.url}/s-{{000..009}}.tar")
        order, notices = with_notices(lambda: drawn(loader(splits.train, 14, 0)))
        assert "1 of 10 shards so far have another number of images" in notices
        assert "(12 instead of 14)" in notices
        assert sorted(np.unique(order)) == list(range(120))


def test_a_transfer_that_breaks_off_begins_anew(tars):
    with serving(tars) as server:
        server.broken["s-003.tar"] = remote.TRIES - 1
        splits = open_data(f"{server.url}/s-{{000..004}}.tar")
        assert sorted(numbers(splits.train.x[:])) == list(range(60))
        server.broken["s-007.tar"] = 99
        with pytest.raises(UserError, match=r"s-007\.tar (cannot be read|broke off)"):
            open_data(f"{server.url}/s-{{005..009}}.tar")
        server.broken.clear()
        assert len(open_data(f"{server.url}/s-{{005..009}}.tar").train) == 60


def test_the_cache_stays_under_its_bound(tars, own_cache, monkeypatch):
    """Catches shards that are kept for good, and copies under way that nobody counts."""
    size = sum(path.stat().st_size for path in tars.iterdir())
    limit = size / 2
    monkeypatch.setenv("UNLABELED_CACHE_GB", str(limit / 1e9))
    most, stop = [0], threading.Event()

    def used() -> int:
        total = 0
        for folder, _, names in os.walk(own_cache):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += (Path(folder) / name).stat().st_size
        return total

    def watch() -> None:
        while not stop.is_set():
            most[0] = max(most[0], used())
            time.sleep(0.001)

    with serving(tars) as server:
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            splits = open_data(f"{server.url}/s-{{000..009}}.tar")
            assert splits.train.streamed.window == 1
            for epoch in range(2):
                batches = loader(splits.train, 8, 0)
                batches.sampler.set_epoch(epoch)
                assert sorted(drawn(batches).ravel()) == list(range(120))
        finally:
            stop.set()
            watcher.join()
    assert size / 4 < most[0] <= limit
    assert len([name for name in server.asked if name.endswith(".tar")]) > 2 * SHARDS


def test_a_cache_that_cannot_hold_a_shard(tars, monkeypatch):
    monkeypatch.setenv("UNLABELED_CACHE_GB", "0.00001")
    with serving(tars) as server, pytest.raises(UserError, match="set UNLABELED_CACHE_GB to three"):
        open_data(f"{server.url}/s-{{000..009}}.tar")


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("s-{008..011}.tar", r"there is no .*s-010\.tar, which .* names \(2 of the 4 asked for"),
        ("t-000.tar", r"there is no http.*t-000\.tar; check the address"),
        ("t-*.tar", r"no file matches .*, or the server does not list its files; name them all"),
        ("notes.txt", r"names \.txt, but only images in \.tar or in \.parquet are streamed"),
        ("{s-000.tar,a.parquet}", r"names \.parquet, \.tar, but only"),
        ("empty.tar", r"there are no images in .*empty\.tar \(they hold none\)"),
        ("secret/s-000.tar", r"s-000\.tar may not be read \(.*403.*\); give credentials"),
    ],
)
def test_what_is_not_there_ends_in_one_sentence(pattern, says, tars, tmp_path):
    for path in tars.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "secret").mkdir()
    (tmp_path / "a.parquet").write_bytes(b"")
    write_tar(tmp_path / "empty.tar", range(0))
    with serving(tmp_path) as server, pytest.raises(UserError, match=says):
        open_data(f"{server.url}/{pattern}")


def test_a_server_that_is_not_there(tars):
    with serving(tars) as server:
        url = server.url
    with pytest.raises(UserError, match=r"the server of .* cannot be reached \(.*\); ch"):
        open_data(f"{url}/s-000.tar")
    with pytest.raises(UserError, match="there is no protocol 'ftq'; use http"):
        open_data("ftq://here/s-000.tar")


@pytest.fixture
def s3(monkeypatch):
    """The address of a server of S3, and a client that writes to it."""
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    server = pytest.importorskip("moto.server", reason="moto is the server of S3")
    import botocore.session
    from s3fs import S3FileSystem

    threaded = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    threaded.start()
    host, port = threaded.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    client = botocore.session.get_session().create_client("s3")
    client.create_bucket(Bucket="bucket")
    yield client
    threaded.stop()
    S3FileSystem.clear_instance_cache()


def test_shards_of_s3(s3, tars):
    for path in tars.iterdir():
        s3.put_object(Bucket="bucket", Key=f"photos/{path.name}", Body=path.read_bytes())
    for pattern in ("s3://bucket/photos/s-{000..009}.tar", "s3://bucket/photos/"):
        splits, notices = with_notices(open_data, pattern, size=(16, 16))
        assert "10 shards" in notices
        assert sorted(drawn(loader(splits.train, 8, 0)).ravel()) == list(range(120))
    with pytest.raises(UserError, match=r"no file matches 's3://bucket/photo/\*\.tar'"):
        open_data("s3://bucket/photo/*.tar")
    with pytest.raises(UserError, match=r"there is no s3://nowhere/s-000\.tar; check"):
        open_data("s3://nowhere/s-000.tar")


@pytest.fixture
def cloud(tars, tmp_path) -> Path:
    """A folder with the shards in `user/name/photos`."""
    folder = tmp_path / "cloud" / "user" / "name" / "photos"
    folder.mkdir(parents=True)
    for path in tars.iterdir():
        (folder / path.name).symlink_to(path)
    return tmp_path / "cloud"


def test_shards_of_google_storage(cloud, tmp_path, monkeypatch):
    """Its own client, endpoint and credentials; catches a refusal that is taken for a failure."""
    gcsfs = pytest.importorskip("gcsfs", reason="gs:// needs gcsfs")
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from cryptography.hazmat.primitives import serialization as form

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    )
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # whether this is a machine of Google's
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    address = "gs://user/name/photos"
    with serving(cloud, kind=GoogleStorage) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        gcsfs.GCSFileSystem.clear_instance_cache()
        says = r"s-000\.tar may not be read \(.*\); give credentials with GOOGLE_APPLICATION_CRED"
        with pytest.raises(UserError, match=says):
            open_data(f"{address}/s-{{000..009}}.tar")
        account = {"type": "service_account", "client_email": "a@b.c", "private_key_id": "1"}
        account |= {"private_key": key.decode(), "token_uri": f"{server.url}/token"}
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        gcsfs.GCSFileSystem.clear_instance_cache()
        for pattern in (f"{address}/s-{{000..009}}.tar", f"{address}/", f"{address}/s-*.tar"):
            splits, notices = with_notices(open_data, pattern, size=(16, 16))
            assert "10 shards" in notices
        assert sorted(drawn(loader(splits.train, 8, 0)).ravel()) == list(range(120))
        with pytest.raises(UserError, match=r"there is no gs://user/other/s-000\.tar; check"):
            open_data("gs://user/other/s-000.tar")
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_shards_of_the_hub(cloud, monkeypatch):
    """Its own client, endpoint and token; catches errors of its client that nobody explains."""
    hub = pytest.importorskip("huggingface_hub", reason="hf:// needs huggingface_hub")
    address = "hf://datasets/user/name/photos"
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(cloud, kind=Hub) as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
        }.items():
            monkeypatch.setattr(hub.constants, name, value)  # of HF_ENDPOINT, when it is imported
        says = "there is no hf.*s-000.tar, or it is private; check the address, or give .* HF_TOKEN"
        with pytest.raises(UserError, match=says):
            open_data(f"{address}/s-{{000..009}}.tar")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        hub.HfFileSystem.clear_instance_cache()
        for pattern in (f"{address}/s-{{000..009}}.tar", f"{address}/", f"{address}/s-*.tar"):
            splits, notices = with_notices(open_data, pattern, size=(16, 16))
            assert "10 shards" in notices
        assert sorted(drawn(loader(splits.train, 8, 0)).ravel()) == list(range(120))
        with pytest.raises(UserError, match=r"there is no hf://.*/t\.tar; check the address"):
            open_data(f"{address}/t.tar")
        with pytest.raises(UserError, match=r"there is no hf://datasets/user/other/s\.tar; check"):
            open_data("hf://datasets/user/other/s.tar")
    hub.HfFileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"the server of hf://.* cannot be reached"):
        open_data(f"{address}/s-000.tar")
    hub.HfFileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("hf", "huggingface_hub")]
)
def test_a_missing_package_is_named(protocol, package, monkeypatch):
    known = importlib.import_module("fsspec.registry")._registry
    monkeypatch.delitem(known, protocol, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    says = rf"{protocol}:// needs {package}; pip install 'unlabeled\[stream\]'"
    with pytest.raises(UserError, match=says):
        open_data(f"{protocol}://datasets/user/name/s-000.tar")


def deep(kind: str, number: int, top: float) -> tuple[str, bytes]:
    """The ending and content of an image with values up to `top`, without a name."""
    tifffile = pytest.importorskip("tifffile", reason="pip install 'unlabeled[tiff]'")
    x = np.random.default_rng(number).random((12, 14, 4)) * top
    file = io.BytesIO()
    if kind == "gray png":
        Image.fromarray(x[..., 0].astype(np.uint16)).save(file, "PNG")
        return ".png", file.getvalue()
    if kind == "color png":
        imagecodecs = pytest.importorskip("imagecodecs", reason="pip install 'unlabeled[tiff]'")
        return ".png", imagecodecs.png_encode(x[..., :3].astype(np.uint16))
    x = x.astype(np.float32) if kind == "float tiff" else x.astype(np.uint16)
    tifffile.imwrite(file, np.moveaxis(x, 2, 0), photometric="minisblack", planarconfig="separate")
    return ".tif", file.getvalue()


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "white"),
    [
        ("gray png", (1, 12, 12), "u2", 4095),
        ("color png", (3, 12, 12), "u2", 4095),
        ("channels tiff", (4, 12, 12), "u2", 4095),
        ("float tiff", (4, 12, 12), "f4", None),
    ],
)
def test_deep_images_are_those_of_a_folder(kind, shape, dtype, white, tmp_path):
    """Catches 16 bits and floats cut to 8, and a range of values that only a folder has."""
    folder, served = tmp_path / "folder", tmp_path / "served"
    for path in (folder, served):
        path.mkdir()
    for shard in range(2):
        with tarfile.open(served / f"{shard}.tar", "w") as tar:
            for i in range(6 * shard, 6 * shard + 6):
                ending, content = deep(kind, i, 4000)
                (folder / f"{i:03}{ending}").write_bytes(content)
                info = tarfile.TarInfo(f"{i:03}{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    local = open_data(folder, decoding="on_the_fly")
    with serving(served) as server:
        streamed = open_data(f"{server.url}/{{0,1}}.tar")
        a, b = streamed.train.x[:], local.train.x[:]
        assert (a.dtype, a.shape[1:]) == (dtype, shape)
        np.testing.assert_array_equal(a, b)
        assert a.max() > 255
        assert streamed.value_range == local.value_range
        assert streamed.value_range == (0, white) or white is None
        batch = next(iter(loader(streamed.train, 4, 0)))
        low, high = streamed.value_range
        expected = (b[batch.index.numpy()].astype("f4") - low) / (high - low)
        np.testing.assert_allclose(batch.x.fitted().numpy(), expected, atol=1e-3)
        options = open_data(f"{server.url}/{{0,1}}.tar", value_range=(100, 1000))
        assert options.value_range == (100, 1000)
        np.testing.assert_array_equal(options.train.x[:], b.astype("f4").clip(100, 1000))
        again = open_data(f"{server.url}/{{0,1}}.tar", like=local.modality)
        np.testing.assert_array_equal(again.train.x[:], b)
        assert again.value_range == local.value_range


def test_values_beyond_those_of_the_first_images_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(values, "FIRST", 3)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(6):
            ending, content = deep("gray png", i, 4000 if i < 4 else 60_000)
            info = tarfile.TarInfo(f"{i}{ending}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with serving(tmp_path) as server:
        splits, notices = with_notices(open_data, f"{server.url}/a.tar")
        assert splits.value_range == (0, 4095)
        assert "beyond" not in notices
        x, notices = with_notices(lambda: splits.train.x[:])
        assert x.max() > 50_000
        assert "2 of 6 images so far have values beyond 0 to 4095" in notices


def test_shards_are_not_cut_into_tiles(tars):
    with serving(tars) as server:
        address = f"{server.url}/s-000.tar"
        assert len(open_data(address, tile=16).train) == EACH  # none is larger
        with pytest.raises(UserError, match="--tile cuts images in files on this disk, not those"):
            open_data(address, tile=8)
        with pytest.raises(UserError, match=r"none of the first 12 images .* more than 100 pixels"):
            open_data(address, max_pixels=100)


def test_tests_probes_and_estimates_need_few_shards(tars, tmp_path):
    """Catches samples spread over all shards for what a run shows or measures of itself."""
    content = json.dumps({f"s-{i:03}.tar": EACH for i in range(SHARDS)})
    for path in tars.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "sizes.json").write_text(content)
    with serving(tmp_path) as server:
        job = prepare("simclr", f"{server.url}/s-{{000..009}}.tar")
        rows = job.splits.train.spread(10)
        assert rows.tolist() == list(range(10))
        job.splits.train.x[rows]
        assert sum(name.endswith(".tar") for name in server.asked) <= 2


@pytest.mark.parametrize("step", [10, 13])  # seven steps an epoch
def test_cut_in_an_epoch_and_resumed_gives_the_same_bytes(step, tars, tmp_path, monkeypatch):
    """Catches a resumed run that begins its epoch again, or draws others of the window."""
    monkeypatch.setenv("UNLABELED_CACHE_GB", "0.0002")  # a few shards
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", 0.0)
    options = {"epochs": 2, "batch_size": 16, "encoder_args": {"width": 4}, "logger": "none"}
    loss, calls = SimCLR.loss, []

    def breaking(self, views):
        calls.append(1)
        if len(calls) == step:
            raise RuntimeError("the machine broke down")
        return loss(self, views)

    with serving(tars) as server:
        data = f"{server.url}/s-{{000..009}}.tar"
        ul.train("simclr", data, out=tmp_path / "whole", progress=False, **options)
        with monkeypatch.context() as patch:
            patch.setattr(SimCLR, "loss", breaking)
            with pytest.raises(RuntimeError):
                ul.train("simclr", data, out=tmp_path / "cut", progress=False, **options)
        ul.train("simclr", data, out=tmp_path / "cut", progress=False, resume=True, **options)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


TRAIN = """
import os, signal, sys
import unlabeled as ul
from unlabeled.methods.simclr import SimCLR
from unlabeled.training import checkpoints

data, out, kill, devices = sys.argv[1:]
checkpoints.SAVE_EVERY, checkpoints.AGREE_EVERY = 0.0, 1
loss, calls = SimCLR.loss, []

def dying(self, views):
    calls.append(1)
    if len(calls) == int(kill):
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, views)

SimCLR.loss = dying
if __name__ == "__main__":
    ul.train("simclr", data, out=out, epochs=2, batch_size=16, resume=True, progress=False,
        logger="none", encoder_args={"width": 4}, devices=int(devices), accelerator="cpu")
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_killed_in_an_epoch_and_resumed_gives_the_same_bytes(devices, tars, tmp_path, monkeypatch):
    """SIGKILL of a process, and of two that share the cache and each batch."""
    script = tmp_path / "go.py"
    script.write_text(TRAIN)
    monkeypatch.setenv("UNLABELED_CACHE_GB", "0.0002")

    def go(out: str, kill: int) -> int:
        words = (sys.executable, script, f"{server.url}/s-{{000..009}}.tar", tmp_path / out)
        words = [*map(str, words), str(kill), str(devices)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        print(done.stderr)
        return done.returncode

    with serving(tars) as server:
        assert go("whole", 0) == 0
        assert go("killed", 11) != 0
        assert not (tmp_path / "killed" / "encoder.safetensors").exists()
        assert (tmp_path / "killed" / "last.ckpt").exists()
        assert go("killed", 0) == 0
    assert same_weights(tmp_path / "whole", tmp_path / "killed")
