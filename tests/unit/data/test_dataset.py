"""Arrays of any layout, folders, torch Datasets: nobody makes dummy labels."""

import zlib
from itertools import islice

import numpy as np
import pytest
import torch

from unlabeled.data import dataset, open_data
from unlabeled.data.dataset import LazyImages, Samples, resize, to_float
from unlabeled.data.loader import loader, with_labeled
from unlabeled.data.open import read_data
from unlabeled.data.readers.arrays import from_memory
from unlabeled.data.split import split
from unlabeled.data.targets import Classes
from unlabeled.errors import Notice, UserError
from unlabeled.modality import Images

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
    out = from_memory(x, channels).x
    assert out.shape == expected
    if len(shape) == 4 and shape != expected:
        assert (out == x.transpose(0, 3, 1, 2)).all()
    assert (from_memory(torch.from_numpy(x), channels).x == out).all()


def test_an_ambiguous_layout_is_reported():
    with pytest.warns(UserWarning, match=r"read as \(N, C, H, W\)"):
        assert from_memory(np.full((4, 3, 8, 4), 9, np.uint8)).x.shape == (4, 3, 8, 4)


def test_one_image_in_color_is_not_taken_for_many_in_silence():
    """Catches an image (H, W, 3) whose rows are H images, without a word."""
    with pytest.warns(Notice, match=r"read as 20 gray images of 32×3; of one .* give x\[None\]"):
        assert from_memory(RNG.random((20, 32, 3))).x.shape == (20, 1, 32, 3)


def test_number_types():
    mask = RNG.integers(0, 2, (4, 6, 6)).astype(np.uint8)
    assert (from_memory(mask).x == from_memory(mask * 255).x).all()
    assert (from_memory(mask.astype(bool)).x == from_memory(mask).x).all()
    assert (from_memory(mask.astype(np.int64) * 200).x == mask[:, None] * 200).all()
    assert from_memory(mask.astype(np.uint16)).x.dtype == np.uint8
    assert from_memory(mask.astype(np.float64)).x.dtype == np.float32


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.zeros((4, 6)), r"\(N, H, W\)"),
        (np.zeros((4, 0, 6)), r"\(N, H, W\)"),
        (np.zeros((4, 9, 9, 9)), "no axis"),
        (np.full((2, 4, 4), 900), "integers from 0 to 900"),
        (np.array([["a"]]), "words are no images"),
    ],
)
def test_what_is_no_image_is_refused(x, says):
    with pytest.raises(UserError, match=says):
        from_memory(x)


def test_unlabeled_images_all_serve_to_learn():
    splits = open_data(RNG.random((20, 8, 8)))
    assert (len(splits.train), len(splits.test), splits.target) == (20, 0, None)
    assert splits.value_range == (0.0, 1.0)
    with pytest.raises(UserError, match="NaN"):
        open_data(np.full((3, 4, 4), np.nan))
    with pytest.raises(UserError, match="no images"):
        open_data(np.zeros((0, 4, 4)))


@pytest.mark.filterwarnings("ignore:floats from 0 to 0")
@pytest.mark.parametrize("stored", ["uint8", "uint16", "float32"])
def test_no_images_are_none_for_an_encoder_of_any_kind(stored):
    """Catches an error of numpy where the values of no image are asked for."""
    like = Images(1, (8, 8), (0.0, 4095.0) if stored == "uint16" else (0.0, 1.0), stored)
    assert read_data(np.zeros((0, 8, 8)), like=like).x.shape == (0, 1, 8, 8)


def test_labeled_images_are_split_and_match_their_labels():
    y = np.array(list("abcde") * 8)
    x = np.arange(40, dtype=np.uint8)[:, None, None] + np.full((40, 4, 4), 2, np.uint8)
    splits = open_data((x, y))
    assert (len(splits.train), len(splits.test)) == (32, 8)
    for part in (splits.train, splits.test):
        assert (part.factors["label"] == (part.x[:, 0, 0, 0] - 2) % 5).all()
    with pytest.raises(UserError, match="one label per image"):
        open_data((x, y[:5]))


def test_a_labeled_sample_is_left_to_learn_from():
    """Catches few samples that are all drawn for testing, by their names."""
    drawn = (name for name in map(str, range(99)) if zlib.crc32(name.encode()) < 0.2 * 2**32)
    x, y = np.zeros((3, 1, 4, 4), np.uint8), np.zeros(3, np.int64)
    targets = {"label": Classes(("a", "b"))}
    splits = split(Samples(x, {"label": y}, list(islice(drawn, 3)), targets), "few")
    assert (len(splits.train), len(splits.test)) == (1, 2)


def test_sixteen_bits_are_kept_and_white_is_that_of_the_camera():
    deep = RNG.integers(0, 4000, (4, 6, 6)).astype(np.uint16)
    splits = open_data(deep)
    assert splits.train.x.dtype == np.uint16
    assert splits.value_range == (0, 4095)
    x = to_float(torch.from_numpy(splits.train.x), splits.value_range)
    np.testing.assert_allclose(x[:, 0].numpy() * 4095, deep, rtol=1e-6)
    assert resize(splits.train.x, (3, 3)).dtype == np.uint16


def test_large_images_are_resized_a_few_at_a_time(monkeypatch):
    """Catches 256 large images as floats, and a batch of them in full size, in memory at once."""
    x = RNG.integers(0, 255, (50, 3, 20, 20)).astype(np.uint8)
    rows = RNG.permutation(50)[:30]
    expected = resize(x, (7, 9))
    monkeypatch.setattr(dataset, "AT_ONCE", 4 * 3 * 20 * 20)
    most, read = [], []
    interpolate = torch.nn.functional.interpolate

    def counted(part, *args, **options):
        most.append(len(part))
        return interpolate(part, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "interpolate", counted)
    assert (resize(x, (7, 9)) == expected).all()
    lazy = LazyImages(x, convert=lambda part: read.append(len(part)) or part, size=(7, 9))
    for chosen in (rows, rows.tolist(), slice(5, 40, 2), np.arange(50) % 3 == 0):
        assert (lazy[chosen] == expected[chosen]).all()
    assert (lazy.take(rows)[3:20] == expected[rows[3:20]]).all()
    assert (lazy[7] == expected[7]).all()
    assert max(most) == max(read) == 4


def test_an_npy_stays_on_disk_whatever_its_layout(tmp_path):
    for number, x in enumerate(
        (
            RNG.integers(0, 255, (30, 8, 8, 3)).astype(np.uint8),
            RNG.integers(0, 2, (30, 8, 8)).astype(np.uint8),
            RNG.integers(0, 255, (30, 3, 8, 8)).astype(np.int64),
            RNG.random((30, 8, 8)),
        )
    ):
        path = tmp_path / f"{number}.npy"
        np.save(path, x)
        lazy, full = open_data(path, size=(4, 6)).train.x, open_data(x, size=(4, 6)).train.x
        assert isinstance(lazy, LazyImages)
        assert isinstance(lazy.base, np.memmap)
        assert (lazy.shape, lazy.dtype, len(lazy)) == (full.shape, full.dtype, len(full))
        rows = np.array([3, 3, 29, 0])
        assert np.array_equal(lazy[rows], full[rows])
        assert np.array_equal(lazy.take(rows)[1:3], full[rows][1:3])
        assert np.array_equal(lazy[:], full)


def test_npz_and_npy(tmp_path):
    x, y = RNG.integers(0, 255, (12, 6, 6)).astype(np.uint8), np.arange(12) % 3
    np.savez(tmp_path / "a.npz", images=x, labels=y)
    np.save(tmp_path / "b.npy", x)
    assert len(open_data(str(tmp_path / "a.npz")).classes) == 3
    assert open_data(tmp_path / "b.npy").target is None
    assert (read_data(str(tmp_path / "a.npz")).x[:, 0] == x).all()
    assert open_data(tmp_path / "b.npy", labels_from=y).classes == ["0", "1", "2"]
    np.savez(tmp_path / "c.npz", other=x)
    with pytest.raises(UserError, match="name it one of"):
        open_data(tmp_path / "c.npz")
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot be read"):
        open_data(tmp_path / "d.npy")
    (tmp_path / "e.npy").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        open_data(tmp_path / "e.npy")


def test_evaluating_spares_the_data_and_its_range(sprites):
    from unlabeled.encoders.base import build
    from unlabeled.evaluation.evaluate import compute
    from unlabeled.evaluation.metric import Subject

    x, y = sprites
    as_bytes, as_floats = (open_data((v, y)) for v in (x * np.uint8(255), x * 200.0))
    before = as_floats.train.x.copy()
    encoder = build("small", 1, (64, 64)).eval()
    a, b = (compute(Subject("", splits, encoder)) for splits in (as_bytes, as_floats))
    assert (as_floats.train.x == before).all()
    assert a["linear_probe"] == b["linear_probe"]
    assert a["similarity_gap"].value == pytest.approx(b["similarity_gap"].value, abs=1e-6)


def test_opening_spares_what_it_is_given():
    splits = open_data(RNG.random((6, 8, 8)))
    assert open_data(splits, size=(4, 4)).size == (4, 4)
    assert splits.size == (8, 8)
    assert read_data(splits, like=Images(1, (4, 4))).x.shape == (6, 1, 4, 4)


def test_names_of_labels_are_kept():
    splits = open_data((RNG.random((20, 4, 4)), np.array(["dog", "cat"] * 10)))
    assert splits.classes == ["cat", "dog"]
    with pytest.warns(UserWarning, match="all labels are the same"):
        assert open_data((RNG.random((20, 4, 4)), np.full(20, -1))).target is None


class Pairs(torch.utils.data.Dataset):
    def __init__(self, labeled: bool) -> None:
        self.labeled = labeled

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int):
        x = torch.full((1, 5, 5), i / 10)
        return (x, i % 2) if self.labeled else x


def test_torch_datasets():
    assert open_data(Pairs(False)).target is None
    splits = open_data(Pairs(True))
    assert splits.classes == ["0", "1"]
    assert read_data(Pairs(True)).x[3, 0, 0, 0] == pytest.approx(0.3)


def test_labels_of_torch_datasets_are_not_lost_in_silence():
    """Catches several labels of an image, or its boxes, that are dropped without a word."""
    x, y = RNG.random((20, 1, 8, 8), np.float32), RNG.integers(0, 2, (20, 3))
    items = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    (labels,) = from_memory(items).factors.values()
    np.testing.assert_array_equal(labels, y)
    items = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.rand(20, 2, 4))
    with pytest.warns(Notice, match=r"of shape \(2, 4\), is no label and is left out"):
        assert not from_memory(items).factors


def test_the_standard_unlabeled_torch_dataset():
    data = torch.utils.data.TensorDataset(torch.rand(7, 3, 5, 5))
    assert read_data(data).x.shape == (7, 3, 5, 5)


def test_what_is_not_there_is_reported(tmp_path):
    with pytest.raises(UserError, match="contains no images"):
        open_data(tmp_path)
    with pytest.raises(UserError, match=r"no data at 'nope'.*list datasets"):
        open_data("nope")


def test_sizes_and_channels_must_fit():
    x = RNG.integers(0, 255, (4, 6, 6, 3)).astype(np.uint8)
    assert open_data(x, channels=3, size=(12, 12)).train.x.shape == (4, 3, 12, 12)
    with pytest.raises(UserError, match="no axis of 1 channel"):
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


def test_a_batch_of_one_cannot_be_labeled_in_part():
    """Catches an error of numpy, which has nothing to concatenate."""
    with pytest.raises(UserError, match="a batch of 1 has no room"):
        with_labeled(np.array([0, 1, -1]), 1, 0.5)(np.random.default_rng(0))


def test_a_stopped_epoch_goes_on_where_it_was():
    samples = open_data(RNG.random((10, 4, 4))).train
    full, rest = loader(samples, 3, 0), loader(samples, 3, 0, steps_done=(2, 1))
    for epoch in (2, 3):
        for batches in (full, rest):
            batches.sampler.set_epoch(epoch)
        rows = [batch.index.tolist() for batch in full]
        assert [batch.index.tolist() for batch in rest] == (rows[1:] if epoch == 2 else rows)


def test_labels_reach_a_batch_only_when_asked():
    samples = open_data((RNG.random((20, 4, 4)), np.arange(20) % 2)).train
    assert next(iter(loader(samples, 4, 0))).y is None
    batch = next(iter(loader(samples, 4, 0, "label")))
    assert (batch.y.numpy() == samples.factors["label"][batch.index]).all()
