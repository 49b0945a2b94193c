"""Known data sets: the real files, tiny ones in every official format, downloads, refusals."""

import contextlib
import functools
import gzip
import hashlib
import io
import os
import pickle
import threading
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from written_sets import (
    idx,
    photos,
    write_cifar,
    write_fashion,
    write_omniglot,
    write_stl10,
    write_tar,
)

import unlabeled as ul
from unlabeled import registry
from unlabeled.data import open_data
from unlabeled.data.open import read_data
from unlabeled.data.readers import cache
from unlabeled.data.sets import cifar10, fashion_mnist, omniglot, stl10
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe

MODULES = {"cifar10": cifar10, "fashion_mnist": fashion_mnist, "omniglot": omniglot, "stl10": stl10}
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No data folder, an empty cache, and no way to the network."""
    monkeypatch.delenv("UNLABELED_DATA", raising=False)
    monkeypatch.setenv("UNLABELED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    for module in MODULES.values():
        monkeypatch.setattr(module, "ORIGIN", replace(module.ORIGIN, address=NOWHERE))


# CIFAR-10


@pytest.mark.parametrize("version", ["bin", "py"])
def test_cifar_opens_in_both_versions_unpacked_or_not(tmp_path, version):
    folder = tmp_path / f"cifar-10-batches-{version}"
    x, y = write_cifar(folder, version)
    archive = write_tar(
        tmp_path / f"cifar-10-{'binary' if version == 'bin' else 'python'}.tar.gz", folder
    )
    file = folder / f"data_batch_2{'.bin' if version == 'bin' else ''}"
    for path in (folder, tmp_path, archive, file):
        splits = open_data(f"cifar10:{path}")
        assert (splits.train.x == x[:20]).all()
        assert (splits.test.x == x[20:]).all()
        assert (splits.train.factors["class"] == y[:20]).all()
        assert (splits.test.factors["class"] == y[20:]).all()
        assert splits.classes[y[0]] == "airplane"


def test_a_pickle_of_today_opens_and_one_that_calls_is_refused(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    x, y = write_cifar(folder, "py")
    batch = {b"data": x[:4].reshape(4, -1), b"labels": y[:4].tolist(), b"batch_label": b"1 of 5"}
    (folder / "data_batch_1").write_bytes(pickle.dumps(batch, 4))
    assert (cifar10.load(str(folder)).train.x == x[:20]).all()

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    for content in (batch | {b"more": Evil()}, {b"data": Evil(), b"labels": []}):
        (folder / "data_batch_1").write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match=r"data_batch_1 cannot be read .* would call .*mkdir"):
            cifar10.load(str(folder))
    assert not (tmp_path / "made").exists()


def test_cifar_as_jpeg_files(real_data):
    file = real_data / "cifar10" / "cifar10_jpeg_10pct.npz"
    splits = open_data(f"cifar10:{file}")
    assert splits.train.x.shape == (5000, 3, 32, 32)
    assert splits.test.x.shape == (1000, 3, 32, 32)
    with np.load(file) as npz:
        assert splits.classes == npz["class_names"].tolist()
        for part, samples in (("train", splits.train), ("test", splits.test)):
            assert (samples.factors["class"] == npz[f"{part}_labels"]).all()
            jpeg, ends = npz[f"{part}_jpeg"], npz[f"{part}_offsets"]
            for row in (0, 1, len(ends) - 2):
                image = Image.open(io.BytesIO(jpeg[ends[row] : ends[row + 1]].tobytes()))
                assert (samples.x[[row]][0] == np.asarray(image).transpose(2, 0, 1)).all()
    assert (cifar10.load(str(file)).test.x[:] == splits.test.x[:]).all()  # out of the cache


def test_a_tenth_alone_says_so_and_damaged_images_are_refused(tmp_path, monkeypatch):
    with io.BytesIO() as file:
        Image.fromarray(photos(1)[0].transpose(1, 2, 0)).save(file, "JPEG")
        jpeg = np.frombuffer(file.getvalue(), np.uint8)

    def write(content):
        arrays = {}
        for part in ("train", "test"):
            arrays[f"{part}_jpeg"] = np.concatenate([content] * 3)
            arrays[f"{part}_offsets"] = np.arange(4) * len(content)
            arrays[f"{part}_labels"] = np.arange(3)
        (tmp_path / "cifar10").mkdir(exist_ok=True)
        np.savez(tmp_path / "cifar10" / "cifar10_jpeg_10pct.npz", **arrays)

    write(jpeg)
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    with pytest.warns(Notice, match="only a tenth"):
        assert len(cifar10.load().train) == 3
    write(jpeg[:300])
    with pytest.raises(UserError, match=r"6 of the 6 images in .*10pct.npz are damaged"):
        cifar10.load(str(tmp_path / "cifar10" / "cifar10_jpeg_10pct.npz"))


# Fashion-MNIST


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_opens_zipped_or_not(tmp_path, monkeypatch, zipped):
    folder = tmp_path / "FashionMNIST" / "raw"
    known = write_fashion(folder, zipped)
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    file = next(folder.iterdir())
    for name in ("", f":{folder}", f":{tmp_path}", f":{tmp_path / 'FashionMNIST'}", f":{file}"):
        splits = open_data(f"fashion_mnist{name}")
        for part, samples in (("train", splits.train), ("t10k", splits.test)):
            assert (samples.x[:, 0] == known[part][0]).all()
            assert (samples.factors["class"] == known[part][1]).all()
            assert samples.x.flags.writeable  # or PyTorch warns


def test_the_real_fashion(real_data, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    splits = open_data("fashion_mnist")
    assert splits.train.x.shape == (60_000, 1, 28, 28)
    assert splits.test.x.shape == (10_000, 1, 28, 28)
    assert (np.bincount(splits.train.factors["class"]) == 6000).all()
    assert splits.classes[splits.train.factors["class"][0]] == "Ankle boot"  # as the paper shows
    for name, md5 in fashion_mnist.ORIGIN.files.items():
        content = (real_data / "fashion-mnist" / name).read_bytes()
        assert hashlib.md5(content).hexdigest() == md5


# Omniglot


def test_the_real_omniglot(real_data, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    splits = open_data("omniglot")
    with np.load(real_data / "omniglot" / "omniglot_28x28.npz") as npz:
        images, character, names = npz["images"], npz["character"], npz["character_names"]
        drawer = npz["drawer"]
    cut = omniglot.BACKGROUND
    assert (splits.train.x[:, 0] == images[:cut]).all()
    assert (splits.test.x[:, 0] == images[cut:]).all()
    assert (splits.test.factors["character"] == character[cut:]).all()
    assert splits.classes == names.tolist()
    assert splits.train.class_names("drawer")[splits.train.factors["drawer"][3]] == str(drawer[3])
    alphabets = [set(part.factors["alphabet"]) for part in (splits.train, splits.test)]
    assert list(map(len, alphabets)) == [30, 20]
    assert not alphabets[0] & alphabets[1]
    assert len(read_data("omniglot")) == 32_460


def test_omniglot_in_other_sizes_is_the_same_drawings(real_data):
    bits = real_data / "omniglot" / "omniglot_105x105_bits.npz"
    small = omniglot.load(str(real_data / "omniglot"))
    assert (omniglot.load(str(bits), 28).test.x == small.test.x).all()
    large = omniglot.load(str(bits))
    assert large.size == (105, 105)
    ink = large.test.x[:1000]
    assert set(np.unique(ink)) == {0, 255}
    assert ink.mean() < 50  # white on black: there is more paper than ink
    with pytest.raises(UserError, match="28×28, not 64×64"):
        omniglot.load(str(real_data / "omniglot" / "omniglot_28x28.npz"), 64)


def test_the_runs_of_omniglot(real_data, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(real_data))
    runs, test = omniglot.one_shot_runs(), open_data("omniglot").test
    assert runs.support.shape == runs.query.shape == runs.answer.shape == (20, 20)
    character, alphabet = test.factors["character"], test.factors["alphabet"]
    answered = np.take_along_axis(runs.support, runs.answer, 1)
    assert (character[answered] == character[runs.query]).all()
    for row in range(20):
        assert len(set(character[runs.support[row]])) == 20
        assert len(set(alphabet[runs.support[row]])) == 1


def zip_folder(folder):
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder.parent))


def test_omniglot_opens_as_it_was_published(tmp_path):
    known = write_omniglot(tmp_path / "folders")
    write_omniglot(tmp_path / "zips")
    for part in omniglot.PARTS:
        zip_folder(tmp_path / "zips" / part)
    (tmp_path / "zips" / "images_evaluation").rename(tmp_path / "other")
    (tmp_path / "zips" / "images_background").rename(tmp_path / "another")
    for path in ("folders", "folders/images_background", "zips", "zips/images_background.zip"):
        splits = omniglot.load(str(tmp_path / path), 105)
        x = np.concatenate([splits.train.x, splits.test.x])
        assert (x[:, 0] == 255 * np.stack([ink for *_, ink in known])).all()
        named = [
            splits.classes[c]
            for part in (splits.train, splits.test)
            for c in part.factors["character"]
        ]
        assert named == [name for _, name, *_ in known]
        assert splits.test.factors["drawer"].tolist() == [0, 1] * 3
        assert splits.test.factors["alphabet"].tolist() == [2, 2, 2, 2, 3, 3]
    assert open_data(f"omniglot:{tmp_path / 'folders'}").size == (28, 28)
    zip_folder(tmp_path / "folders" / "images_background")
    (tmp_path / "folders" / "images_evaluation").rename(tmp_path / "gone")
    with pytest.raises(UserError, match=r"lacks images_evaluation.zip; copy or download"):
        omniglot.load(str(tmp_path / "folders"))


def test_the_published_runs_are_found_by_their_ink(tmp_path):
    known = [k for k in write_omniglot(tmp_path) if k[0] == "evaluation"]
    run = tmp_path / "one-shot-classification" / "all_runs" / "run01"
    lines = []
    for kind, drawer in (("training/class", 1), ("test/item", 2)):
        order = (0, 1, 2) if drawer == 1 else (2, 0, 1)
        rows = [i for i, k in enumerate(known) if k[2] == drawer]
        for number, position in enumerate(order, 1):
            path = run / f"{kind}{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(~known[rows[position]][3]).save(path)
    for item, number in ((1, 3), (2, 1), (3, 2)):
        lines.append(f"run01/test/item{item:02}.png run01/training/class{number:02}.png\n")
    (run / "class_labels.txt").write_text("".join(lines))
    zip_folder(run.parent)
    for location in (tmp_path, run.parent, run.parent.with_suffix(".zip")):
        support, query, answer = omniglot.one_shot_runs(str(location))
        assert support.tolist() == [[0, 2, 4]]
        assert query.tolist() == [[5, 1, 3]]
        assert answer.tolist() == [[2, 0, 1]]
    with pytest.raises(UserError, match="no checksum is published"):
        omniglot.one_shot_runs()


def test_unseen_characters_are_not_scored():
    z = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    y = np.arange(8) % 2
    for judge in (linear_probe, knn_accuracy):
        judge(z, y, z, y + 1)  # one class in common: a low score, but a score
        with pytest.raises(UserError, match="no class of the test images"):
            judge(z, y, z, y + 2)


def test_a_run_is_judged_on_unseen_characters_by_pairs_alone(tmp_path, trained):
    from unlabeled.evaluation.finetune import finetune

    write_omniglot(tmp_path)
    data = f"omniglot:{tmp_path}"
    metrics = ul.evaluate(trained, data)["metrics"]
    assert "linear_probe" not in metrics
    assert "knn" not in metrics
    assert 0 <= metrics["auroc"]["value"] <= 1
    with pytest.raises(UserError, match="no class of the test images"):
        finetune(trained, data)


# STL-10


def test_stl10_opens_unpacked_or_not_labeled_or_not(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "stl10_binary"
    folder.parent.mkdir()
    x, y = write_stl10(folder)
    (tmp_path / "packed").mkdir()
    archive = write_tar(tmp_path / "packed" / "stl10_binary.tar.gz", folder)
    before = sorted(path for path in (tmp_path / "packed").rglob("*"))
    monkeypatch.setenv("UNLABELED_DATA", str(folder.parent))
    for name in ("", f":{folder}", f":{folder.parent}", f":{archive}", f":{archive.parent}"):
        splits = open_data(f"stl10{name}")
        assert (splits.train.x[:] == x[:2]).all()
        assert (splits.test.x[np.array([1, 0])] == x[[3, 2]]).all()
        assert splits.train.x[:].flags.c_contiguous
        assert splits.train.factors["class"].tolist() == (y[:2] - 1).tolist()
        assert splits.classes[splits.train.factors["class"][1]] == "truck"
    file = folder / "unlabeled_X.bin"
    for name in ("unlabeled", f"{folder}/unlabeled", f"{archive.parent}/unlabeled", file):
        splits = open_data(f"stl10:{name}")
        assert (splits.train.x[:] == x[4:]).all()
        assert (splits.target, splits.train.factors, len(splits.test)) == (None, {}, 0)
    assert sorted(path for path in (tmp_path / "packed").rglob("*")) == before
    (folder / "test_y.bin").unlink()
    with pytest.raises(UserError, match=r"lacks test_y.bin"):
        open_data("stl10")


# What is refused


def damage(name, folder):
    """A small whole copy, the file that is to be damaged, and what may then be wrong with it."""
    if name == "cifar10":
        write_cifar(folder, "bin")
        return folder / "data_batch_3.bin"
    if name == "fashion_mnist":
        write_fashion(folder)
        return folder / "train-images-idx3-ubyte.gz"
    if name == "stl10":
        write_stl10(folder)
        return folder / "train_X.bin"
    write_omniglot(folder)
    zip_folder(folder / "images_background")
    (folder / "images_background").rename(folder / "aside")
    return folder / "images_background.zip"


@pytest.mark.parametrize("name", MODULES)
def test_damaged_and_missing_files_are_named(tmp_path, name):
    folder = tmp_path / "set"
    file = damage(name, folder)
    open_data(f"{name}:{folder}")
    full = file.read_bytes()
    for content in (full[:-100], full[:50], b"", b"\x80" + full[1:]):
        if name in ("cifar10", "stl10") and len(content) == len(full):
            continue  # any byte is a pixel
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"{file.name} cannot be read .*; copy or download it"):
            open_data(f"{name}:{folder}")
    file.unlink()
    with pytest.raises(UserError, match=f"lacks {file.name}; copy or download it again"):
        open_data(f"{name}:{folder}")


def test_labels_that_do_not_fit_are_refused(tmp_path):
    damage("fashion_mnist", tmp_path / "a")
    (tmp_path / "a" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(4))))
    with pytest.raises(UserError, match="5 images need as many labels"):
        open_data(f"fashion_mnist:{tmp_path / 'a'}")
    write_stl10(tmp_path / "b")
    (tmp_path / "b" / "test_y.bin").write_bytes(b"\x00\x01")
    with pytest.raises(UserError, match="labels from 1 to 10"):
        open_data(f"stl10:{tmp_path / 'b'}")
    write_cifar(tmp_path / "c", "bin")
    (tmp_path / "c" / "test_batch.bin").write_bytes(b"\x0a" * cifar10.ROW)
    with pytest.raises(UserError, match="labels from 0 to 9"):
        open_data(f"cifar10:{tmp_path / 'c'}")


@pytest.mark.parametrize("name", MODULES)
def test_a_place_without_the_set_says_what_to_get(tmp_path, name):
    file = next(iter(MODULES[name].ORIGIN.files))
    with pytest.raises(UserError, match=f"does not contain .*download {file}.* from {NOWHERE}"):
        open_data(f"{name}:{tmp_path}")
    with pytest.raises(UserError, match="does not exist"):
        open_data(f"{name}:{tmp_path / 'nowhere'}")


def test_the_names_are_listed_and_the_helper_is_not():
    assert {"cifar10", "dsprites", "fashion_mnist", "omniglot", "stl10"} <= set(
        registry.listing("datasets")
    )
    assert "fetched" not in registry.listing("datasets")


# Downloads


@contextlib.contextmanager
def served(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", MODULES)
def test_without_a_network_one_sentence_says_where_to_get_it(name, monkeypatch):
    file = next(iter(MODULES[name].ORIGIN.files))
    with (
        pytest.warns(Notice, match="is downloaded from"),
        pytest.raises(
            UserError, match=f"cannot be downloaded.*download {file}.*{NOWHERE}.*{name}:FOLD"
        ),
    ):
        open_data(name)


def test_a_set_is_downloaded_once_and_checked(tmp_path, monkeypatch):
    known = write_fashion(tmp_path / "net")
    files = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in (tmp_path / "net").iterdir()}
    with served(tmp_path / "net") as address:
        origin = replace(fashion_mnist.ORIGIN, address=address, files=files)
        monkeypatch.setattr(fashion_mnist, "ORIGIN", origin)
        with pytest.warns(Notice, match=f"Fashion-MNIST is downloaded from {address}"):
            splits = open_data("fashion_mnist")
    assert (splits.test.x[:, 0] == known["t10k"][0]).all()
    assert len(open_data("fashion_mnist").train) == 12  # no server any more
    held = {path.name for path in (cache.folder() / "fashion_mnist-download").iterdir()}
    assert held == set(files)


def test_a_download_of_other_content_is_refused_and_not_kept(tmp_path, monkeypatch):
    write_fashion(tmp_path / "net")
    with served(tmp_path / "net") as address:
        monkeypatch.setattr(fashion_mnist, "ORIGIN", replace(fashion_mnist.ORIGIN, address=address))
        with (
            pytest.warns(Notice, match="is downloaded"),
            pytest.raises(UserError, match="what came has another checksum"),
        ):
            open_data("fashion_mnist")
    assert not list((cache.folder() / "fashion_mnist-download").iterdir())
