"""Arrays of any layout, folders, torch Datasets: nobody makes dummy labels."""

import numpy as np
import pytest
import torch
from PIL import Image

from unlabeled.datasets import open_data
from unlabeled.datasets.arrays import as_pictures
from unlabeled.datasets.base import loader, read_data, resize
from unlabeled.errors import UserError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((5, 8, 9), None, (5, 1, 8, 9)),
        ((5, 8, 9, 3), None, (5, 3, 8, 9)),
        ((5, 3, 8, 9), None, (5, 3, 8, 9)),
        ((5, 1, 8, 8), None, (5, 1, 8, 8)),
        ((5, 8, 9, 7), 7, (5, 7, 8, 9)),
        ((5, 7, 8, 9), 7, (5, 7, 8, 9)),
        ((5, 7, 8, 9), None, (5, 7, 8, 9)),
    ],
)
def test_layouts(shape, channels, expected):
    x = RNG.integers(0, 255, shape).astype(np.uint8)
    out = as_pictures(x, channels)
    assert out.shape == expected
    if len(shape) == 4 and shape != expected:
        assert (out == x.transpose(0, 3, 1, 2)).all()
    assert (as_pictures(torch.from_numpy(x), channels) == out).all()


def test_an_ambiguous_layout_is_told():
    with pytest.warns(UserWarning, match=r"read as \(N, C, H, W\)"):
        assert as_pictures(np.full((4, 3, 8, 4), 9, np.uint8)).shape == (4, 3, 8, 4)


def test_number_types():
    mask = RNG.integers(0, 2, (4, 6, 6)).astype(np.uint8)
    assert (as_pictures(mask) == as_pictures(mask * 255)).all()
    assert (as_pictures(mask.astype(bool)) == as_pictures(mask)).all()
    assert (as_pictures(mask.astype(np.int64) * 200) == mask[:, None] * 200).all()
    sixteen = np.array([[[0, 65535]]], np.uint16)
    assert as_pictures(sixteen).tolist() == [[[[0.0, 1.0]]]]
    assert as_pictures(mask.astype(np.float64)).dtype == np.float32


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.zeros((4, 6)), r"\(N, H, W\)"),
        (np.zeros((4, 0, 6)), r"\(N, H, W\)"),
        (np.zeros((4, 9, 9, 9)), "no axis"),
        (np.full((2, 4, 4), 900), "no picture values"),
        (np.array([["a"]]), "arrays of numbers"),
    ],
)
def test_what_is_no_picture_is_refused(x, says):
    with pytest.raises(UserError, match=says):
        as_pictures(x)


def test_unlabelled_pictures_all_serve_to_learn():
    splits = open_data(RNG.random((20, 8, 8)))
    assert (len(splits.train), len(splits.test), splits.target) == (20, 0, None)
    assert splits.range == (0.0, 1.0)
    with pytest.raises(UserError, match="NaN"):
        open_data(np.full((3, 4, 4), np.nan))
    with pytest.raises(UserError, match="no pictures"):
        open_data(np.zeros((0, 4, 4)))


def test_labelled_pictures_are_split_and_match_their_labels():
    y = np.array(list("abcde") * 8)
    x = np.arange(40, dtype=np.uint8)[:, None, None] + np.full((40, 4, 4), 2, np.uint8)
    splits = open_data((x, y))
    assert (len(splits.train), len(splits.test)) == (32, 8)
    for part in (splits.train, splits.test):
        assert (part.factors["label"] == (part.x[:, 0, 0, 0] - 2) % 5).all()
    with pytest.raises(UserError, match="as many labels"):
        open_data((x, y[:5]))


def test_npz_and_npy(tmp_path):
    x, y = RNG.integers(0, 255, (12, 6, 6)).astype(np.uint8), np.arange(12) % 3
    np.savez(tmp_path / "a.npz", images=x, labels=y)
    np.save(tmp_path / "b.npy", x)
    assert len(open_data(str(tmp_path / "a.npz")).classes) == 3
    assert open_data(tmp_path / "b.npy").target is None
    assert (read_data(str(tmp_path / "a.npz")).x[:, 0] == x).all()
    np.savez(tmp_path / "c.npz", other=x)
    with pytest.raises(UserError, match="call the pictures"):
        open_data(tmp_path / "c.npz")
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot be read"):
        open_data(tmp_path / "d.npy")
    (tmp_path / "e.npy").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        open_data(tmp_path / "e.npy")


def test_evaluating_spares_the_data_and_its_range(sprites):
    from unlabeled.encoders.base import build
    from unlabeled.evaluation.evaluate import judge

    x, y = sprites
    as_bytes, as_floats = (open_data((v, y)) for v in (x * np.uint8(255), x * 200.0))
    before = as_floats.train.x.copy()
    encoder = build("small", 1, (64, 64)).eval()
    a, b = (judge("", encoder, splits).figures for splits in (as_bytes, as_floats))
    assert (as_floats.train.x == before).all()
    assert a["linear"] == b["linear"]
    assert a["rsa_gap"] == pytest.approx(b["rsa_gap"], abs=1e-6)


def test_opening_spares_what_it_is_given():
    splits = open_data(RNG.random((6, 8, 8)))
    assert open_data(splits, size=(4, 4)).size == (4, 4)
    assert splits.size == (8, 8)
    assert read_data(splits, size=(4, 4)).x.shape == (6, 1, 4, 4)


def test_names_of_labels_are_kept():
    splits = open_data((RNG.random((20, 4, 4)), np.array(["dog", "cat"] * 10)))
    assert splits.classes == ["cat", "dog"]
    with pytest.warns(UserWarning, match="all labels are the same"):
        assert open_data((RNG.random((20, 4, 4)), np.full(20, -1))).target is None


class Pairs(torch.utils.data.Dataset):
    def __init__(self, labelled: bool) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int):
        x = torch.full((1, 5, 5), i / 10)
        return (x, i % 2) if self.labelled else x


def test_torch_datasets():
    assert open_data(Pairs(False)).target is None
    splits = open_data(Pairs(True))
    assert splits.classes == ["0", "1"]
    assert read_data(Pairs(True)).x[3, 0, 0, 0] == pytest.approx(0.3)


def test_the_standard_unlabelled_torch_dataset():
    data = torch.utils.data.TensorDataset(torch.rand(7, 3, 5, 5))
    assert read_data(data).x.shape == (7, 3, 5, 5)


def test_sixteen_bit_grey_is_not_clipped(tmp_path):
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert (open_data(tmp_path).train.x[0, 0] == (deep >> 8)).all()


def make_folder(folder):
    (folder / "cats" / "old").mkdir(parents=True)
    Image.new("L", (20, 16), 100).save(folder / "cats" / "a.png")
    Image.new("RGB", (16, 16), (255, 0, 0)).save(folder / "cats" / "old" / "b.jpg")
    Image.new("RGBA", (30, 16), (0, 0, 255, 255)).save(folder / "c.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_folders(tmp_path):
    with pytest.warns(UserWarning, match="16 to 30 px"):
        splits = open_data(make_folder(tmp_path))
    assert splits.train.x.shape == (3, 3, 16, 16)
    assert splits.target is None  # sub-folders are no labels
    assert splits.train.names == ["c.png", "cats/a.png", "cats/old/b.jpg"]
    assert splits.train.x[0, :, 8, 8].tolist() == [0, 0, 255]
    assert (splits.train.x[1] == 100).all()
    small = open_data(tmp_path, channels=1, size=(8, 8))
    assert small.train.x.shape == (3, 1, 8, 8)


def test_damaged_pictures_are_named_and_left_out(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "torn.png").write_bytes((tmp_path / "c.png").read_bytes()[:40])
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2 pictures.*empty.jpg.*torn.png"):
        assert len(open_data(tmp_path, size=(16, 16)).train) == 3


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no pictures"):
        open_data(tmp_path)
    with pytest.raises(UserError, match=r"no data at 'nope'.*dsprites"):
        open_data("nope")


def test_sizes_and_channels_must_fit():
    x = RNG.integers(0, 255, (4, 6, 6, 3)).astype(np.uint8)
    assert open_data(x, channels=3, size=(12, 12)).train.x.shape == (4, 3, 12, 12)
    with pytest.raises(UserError, match="channels"):
        open_data(x, channels=1)
    flat = np.full((2, 1, 6, 6), 77, np.uint8)
    assert (resize(flat, (9, 4)) == 77).all()


def test_batches_depend_on_seed_and_epoch_alone():
    samples = open_data(RNG.random((10, 4, 4))).train

    def order(seed, epoch):
        batches = loader(samples, 3, seed)
        batches.sampler.set_epoch(epoch)
        return [row for batch in batches for row in batch.index.tolist()]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4
    assert len(set(order(0, 0))) == 9  # three full batches, no row twice


def test_labels_reach_a_batch_only_when_asked():
    samples = open_data((RNG.random((20, 4, 4)), np.arange(20) % 2)).train
    assert next(iter(loader(samples, 4, 0))).y is None
    batch = next(iter(loader(samples, 4, 0, "label")))
    assert (batch.y.numpy() == samples.factors["label"][batch.index]).all()
