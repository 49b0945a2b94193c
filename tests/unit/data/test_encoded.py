"""Images that are decoded whenever they are read, and crops from the full-size ones."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import unlabeled as ul
from unlabeled.augmentations import RandomResizedCrop
from unlabeled.augmentations.full_size import FullSize
from unlabeled.data import open_data
from unlabeled.data.loader import loader, make_batch
from unlabeled.data.readers import decoding, images
from unlabeled.data.readers.encoded import DETAIL
from unlabeled.errors import Notice
from unlabeled.evaluation.evaluate import open_for

pytestmark = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """24 photos of three sizes, some of them turned by EXIF."""
    for i in range(24):
        height, width = [(60, 90), (90, 60), (50, 50)][i % 3]
        exif = Image.Exif()
        exif[decoding.ORIENTATION] = 6 if i % 4 == 0 else 1
        kind = tmp_path / "photos" / ("a" if i % 2 else "b")
        kind.mkdir(parents=True, exist_ok=True)
        noise(height, width, i).save(kind / f"{i:02}.jpg", quality=90, exif=exif)
    return tmp_path / "photos"


def test_the_array_is_that_of_images_decoded_once(folder):
    """Catches another fit, another order, and rows that are mixed up among threads."""
    once = open_data(folder, size=(24, 24), labels_from="folders", decoding="once")
    fly = open_data(folder, size=(24, 24), labels_from="folders", decoding="on_the_fly")
    for part in ("train", "test"):
        a, b = getattr(once, part), getattr(fly, part)
        assert a.names == b.names
        assert np.array_equal(a.factors["label"], b.factors["label"])
        assert b.x.is_full_size
        assert not a.x.is_full_size
        assert np.array_equal(a.x[:], b.x[:])
        assert np.array_equal(a.x[[2, 0]], b.x[[2, 0]])


def test_crops_are_from_the_whole_image(tmp_path):
    """Catches crops of the square at the center, which has no red and no blue."""
    stripes = np.zeros((60, 180, 3), np.uint8)
    for i in range(3):
        stripes[:, 60 * i : 60 * (i + 1), i] = 255
    for i in range(4):
        Image.fromarray(stripes).save(tmp_path / f"{i}.png")
    samples = open_data(tmp_path, size=(20, 20), decoding="on_the_fly").train
    batch = make_batch(samples, np.arange(len(samples)))
    assert isinstance(batch.x, FullSize)
    torch.manual_seed(0)
    crops = torch.cat([RandomResizedCrop((0.1, 0.5))(batch.x) for _ in range(20)])
    assert (crops.mean((2, 3)) > 0.5).any(0).all()
    assert batch.x.fitted()[:, 1].min() == 1.0


def test_photos_are_decoded_at_a_fraction_that_is_large_enough(tmp_path):
    """Catches decoding in full, and at a fraction that blurs small crops."""
    noise(1200, 1600).save(tmp_path / "a.jpg")
    noise(1200, 1600).save(tmp_path / "b.jpg")
    samples = open_data(tmp_path, size=(100, 100), decoding="on_the_fly").train
    full = make_batch(samples, np.arange(2)).x
    assert [tuple(image.shape) for image in full.images] == [(3, 300, 400)] * 2
    assert DETAIL * 100 <= 300


@pytest.mark.parametrize("gray", [False, True])
def test_simplejpeg_gives_pillows_pixels(gray):
    """Catches another upsampling of colors, and another color space."""
    pytest.importorskip("simplejpeg")
    file = io.BytesIO()
    image = noise(61, 47).convert("L" if gray else "RGB")
    image.save(file, "JPEG", quality=80)
    for channels in (1, 3):
        fast = decoding.decode_full(file.getvalue(), channels, "u1", 10**6)
        plain = np.asarray(Image.open(file).convert("L" if channels == 1 else "RGB"))
        assert (
            np.abs(fast.transpose(1, 2, 0).astype(int) - plain.reshape(61, 47, channels)).max() <= 1
        )


def test_what_is_damaged_is_counted(folder):
    """Catches damage that stops a training or passes without a word."""
    header, body = sorted(folder.rglob("*.jpg"))[:2]
    header.write_bytes(b"no image")
    body.write_bytes(body.read_bytes()[:700])
    with pytest.warns(Notice, match="1 of 24 images are left out"):
        samples = images.read(folder, size=(24, 24), decoding="on_the_fly")
    assert len(samples) == 23
    row = samples.names.index(body.relative_to(folder).as_posix())
    batch = make_batch(samples, np.array([row, row + 1]))
    with pytest.warns(Notice, match=r"1 of 23 images cannot be read so far, such as a/03.jpg"):
        sums = batch.x.fitted().sum((1, 2, 3))
    assert sums[0] == 0
    assert sums[1] > 0
    assert not samples.x[[row]].any()


def test_large_data_is_not_decoded_once(folder, monkeypatch):
    """Catches a cache of any size, and a choice that is not said."""
    assert not open_data(folder, size=(24, 24)).train.x.is_full_size
    monkeypatch.setattr(images, "MANY", 10_000)
    with pytest.warns(Notice, match="decoded whenever they are read.*would need 0.0 GB"):
        assert open_data(folder, size=(24, 24)).train.x.is_full_size
    with pytest.warns(Notice, match="fitted to 24×24.*--decoding on_the_fly"):
        open_data(folder, decoding="once", largest=24)


def test_the_loader_decodes_ahead_in_the_same_order(folder):
    """Catches batches that are lost or doubled at the end or after a resume."""
    fly = open_data(folder, size=(8, 8), decoding="on_the_fly").train
    once = open_data(folder, size=(8, 8), decoding="once").train
    for done in ((0, 0), (0, 2)):
        a, b = (list(loader(s, 4, seed=3, steps_done=done)) for s in (fly, once))
        assert len(a) == len(b) > 0
        assert [x.index.tolist() for x in a] == [x.index.tolist() for x in b]


def test_a_training_has_the_same_bytes_twice_and_is_opened_alike(folder, tmp_path):
    """Catches crops that depend on threads, and evaluation on other rows than the training's."""
    options = {
        "size": 16, "epochs": 1, "batch_size": 8, "decoding": "on_the_fly", "progress": False,
        "labels_from": "folders", "precision": "fp32", "logger": "none",
    }  # fmt: skip
    runs = [ul.train("simclr", folder, out=tmp_path / n, **options) for n in ("a", "b")]
    weights = [(run.path / "encoder.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert runs[0].config["decoding"] == "on_the_fly"
    once = ul.train("simclr", folder, out=tmp_path / "c", **options | {"decoding": "once"})
    assert (once.path / "encoder.safetensors").read_bytes() != weights[0]
    opened = ul.load(tmp_path / "a")
    assert open_for(opened, None).train.x.is_full_size
