"""Small copies of the official files of named data sets, written for tests."""

import gzip
import tarfile

import numpy as np
from PIL import Image

from unlabeled.data.sets import cifar10


def photos(n, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), np.uint8)


def write_tar(path, folder):
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    return path


def write_cifar(folder, version):
    """Four images a batch, in the binary or the python version; all images and labels."""
    folder.mkdir()
    x = photos(24)
    y = np.arange(24) % 10
    for i, name in enumerate([*cifar10.TRAIN, *cifar10.TEST]):
        rows = slice(4 * i, 4 * i + 4)
        flat = x[rows].reshape(4, -1)
        if version == "bin":
            content = np.concatenate([y[rows, None].astype(np.uint8), flat], 1).tobytes()
        else:
            content = python_2_pickle(flat, y[rows].tolist())
        (folder / (name + (".bin" if version == "bin" else ""))).write_bytes(content)
    return x, y


def python_2_pickle(data, labels):
    """As Python 2 wrote the originals: byte strings, numpy's arrays by three calls."""
    rows, columns = data.shape
    content = data.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    kind = (
        b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN"
        + 2 * b"J\xff\xff\xff\xff"
        + b"K\x00tb"
    )
    shape = b"(K" + bytes([rows]) + b"M" + columns.to_bytes(2, "little") + b"t"
    state = b"(K\x01" + shape + kind + b"\x89T" + len(content).to_bytes(4, "little") + content
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + state + b"tbU\x06labels" + listed + b"u."


def idx(values):
    axes = values.ndim
    head = np.array([0x0800 + axes, *values.shape], ">u4").tobytes()
    return head + values.astype(np.uint8).tobytes()


def write_fashion(folder, zipped=True):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    known = {}
    for part, n in (("train", 12), ("t10k", 5)):
        known[part] = rng.integers(0, 256, (n, 28, 28)), rng.integers(0, 10, n)
        for values, kind in zip(known[part], ("images-idx3", "labels-idx1"), strict=True):
            content = idx(values)
            path = folder / f"{part}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)
    return known


def write_omniglot(folder):
    """Two characters of one alphabet and one of another in each part, each by two drawers."""
    rng = np.random.default_rng(0)
    known = []
    for part, alphabets in (("background", "BA"), ("evaluation", "DC")):
        for alphabet in alphabets:
            for character in (1, 2) if alphabet in "AC" else (1,):
                for drawer in (2, 1):
                    ink = rng.random((105, 105)) < 0.1
                    path = folder / f"images_{part}/{alphabet}/character{character:02}"
                    path.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(~ink).save(path / f"{len(known):04}_{drawer:02}.png")
                    known.append((part, f"{alphabet}/character{character:02}", drawer, ink))
    return sorted(known, key=lambda k: k[:3])


def write_stl10(folder):
    folder.mkdir()
    x = photos(9, 96)
    y = np.array([1, 10, 2, 3])
    by_column = x.transpose(0, 1, 3, 2)
    for name, rows in (("train", slice(2)), ("test", slice(2, 4)), ("unlabeled", slice(4, 9))):
        (folder / f"{name}_X.bin").write_bytes(by_column[rows].tobytes())
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes(y[rows].astype(np.uint8).tobytes())
    return x, y
