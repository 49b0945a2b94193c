"""Near-duplicates: each step against plain loops over pixels, and copies among real-like images."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from unlabeled.errors import Notice
from unlabeled.evaluation import cells, duplicates
from unlabeled.evaluation.duplicates import near_duplicates


def scenes(n=60, side=32, seed=0, channels=3):
    """Images with power at low frequencies, as photos have, uint8 (N, C, H, H)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) + 0.03
    noise = np.fft.fft2(rng.normal(size=(n, channels, side, side)))
    x = np.fft.ifft2(noise / frequency**1.2).real
    x -= x.mean((1, 2, 3), keepdims=True)
    x *= 50 / x.std((1, 2, 3), keepdims=True)
    return np.clip(x + 128, 0, 255).round().astype(np.uint8)


def as_image(x):
    return Image.fromarray(np.ascontiguousarray(x.transpose(1, 2, 0)))


def as_array(image):
    return np.asarray(image).transpose(2, 0, 1)


def recompressed(x):
    content = io.BytesIO()
    as_image(x).save(content, "JPEG", quality=60)
    return as_array(Image.open(content))


def resized(x):
    return as_array(as_image(x).resize((18, 18)).resize((32, 32)))


def cropped(x):
    window = (1.2, 2.9, 30.0, 31.7)
    return as_array(as_image(x).resize((32, 32), Image.Resampling.BILINEAR, window))


def gray(x):
    return as_array(as_image(x).convert("L").convert("RGB"))


COPIES = {
    "recompressed": (recompressed, []),
    "resized": (resized, []),
    "brighter": (lambda x: np.clip(x * 1.3, 0, 255).astype(np.uint8), []),
    "gray": (gray, []),
    "cropped": (cropped, ["cropped"]),
    "mirrored": (lambda x: x[:, :, ::-1], ["mirrored"]),
    "turned": (lambda x: np.rot90(x, 1, (1, 2)), ["turned 90°"]),
    "upside down": (lambda x: x[:, ::-1], ["mirrored", "turned 180°"]),
    "mirrored and recompressed": (lambda x: recompressed(x[:, :, ::-1]), ["mirrored"]),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_and_nothing_else(kind):
    change, words = COPIES[kind]
    x = scenes()
    result = near_duplicates(np.concatenate([x, [change(x[7])]]))
    assert [rows.tolist() for rows in result.groups] == [[7, 60]]
    assert result.changes == [words]


def test_groups_are_all_that_pairs_connect_the_largest_first():
    x = scenes()
    copies = [x[3], x[9][:, :, ::-1], np.rot90(x[9], 2, (1, 2)), recompressed(x[9])]
    result = near_duplicates(np.concatenate([x, copies]))
    assert [rows.tolist() for rows in result.groups] == [[9, 61, 62, 63], [3, 60]]


def test_another_color_is_another_image():
    x = scenes()
    x[:, 0] //= 4
    assert near_duplicates(np.concatenate([x, x[:3, ::-1]])).groups == []


def test_images_that_are_all_alike_are_no_copies():
    """Fails without the comparison with the 8th: all correlate by more than 0.8."""
    base, more = scenes(1, channels=1), scenes(40, seed=1, channels=1)
    x = (0.8 * base + 0.2 * more).astype(np.uint8)
    details = duplicates._details(torch.from_numpy(x[:, 0]).float()).flatten(1).numpy()
    assert np.corrcoef(details).min() > duplicates.CORRELATION
    result = near_duplicates(np.concatenate([x, x[5:6, :, :, ::-1]]))
    assert [rows.tolist() for rows in result.groups] == [[5, 40]]


def test_many_exact_copies_are_one_group():
    x = scenes(30)
    (rows,) = near_duplicates(np.concatenate([x, np.repeat(x[4:5], 20, 0)])).groups
    assert rows.tolist() == [4, *range(30, 50)]


def test_blank_images_are_grouped_by_color():
    x = scenes(20)
    rng = np.random.default_rng(0)
    for row, color in {2: 0, 5: 0, 9: 255, 11: 255, 13: 255, 15: 120}.items():
        x[row] = np.clip(color + rng.integers(-1, 2, x[row].shape), 0, 255)
    assert [r.tolist() for r in near_duplicates(x).groups] == [[9, 11, 13], [2, 5]]


def test_copies_among_many_are_found_in_cells(monkeypatch):
    """Catches cells by what mirroring and turning changes: copies then lie in other cells."""
    for module in (cells, duplicates):
        monkeypatch.setattr(module, "EXACT", 100)
    monkeypatch.setattr(duplicates, "COMPARED", 60)
    x = scenes(600)
    copies = [x[3][:, :, ::-1], np.rot90(x[70], 1, (1, 2)), x[500][:, ::-1]]
    result = near_duplicates(np.concatenate([x, copies]))
    assert [rows.tolist() for rows in result.groups] == [[3, 600], [70, 601], [500, 602]]


def test_pairs_that_are_not_compared_in_full_are_counted(monkeypatch):
    """Catches pairs that are dropped without a word, or the most similar ones dropped first."""
    for module in (cells, duplicates):
        monkeypatch.setattr(module, "EXACT", 100)
    monkeypatch.setattr(duplicates, "ALIGNED", 2)
    x = scenes(200)
    blurred = cropped(x[70])
    copies = [x[3], blurred, x[150][:, ::-1]]
    with pytest.warns(Notice, match="3 pairs of images may be near-duplicates; the 2 most similar"):
        result = near_duplicates(np.concatenate([x, copies]))
    assert [rows.tolist() for rows in result.groups] == [[3, 200], [150, 202]]


@pytest.mark.parametrize("n", [2, 3])
def test_few_images_are_compared_all(n):
    x = scenes(n)
    x[1] = x[0]
    assert [rows.tolist() for rows in near_duplicates(x).groups] == [[0, 1]]


@pytest.mark.parametrize("view", range(8))
def test_frequencies_are_turned_like_images(view):
    x = scenes(3, channels=1)[:, 0].astype(np.float64)
    turned = duplicates.turned(torch.from_numpy(x), view).numpy()
    for one, other in zip(x, turned, strict=True):
        expected = dctn(other, norm="ortho")[:6, :6]
        options = torch.from_numpy(dctn(one, norm="ortho")[:6, :6])
        result = duplicates.turned_frequencies(options, view).numpy()
        np.testing.assert_allclose(result, expected, atol=1e-9)


def test_candidates_equal_a_loop():
    x = torch.from_numpy(scenes(30, channels=1)[:, 0].astype(np.float32))
    x[20] = x[4].flip(-1) + 5 * torch.randn(32, 32, generator=torch.manual_seed(0))

    def describe(image):
        low = dctn(image, norm="ortho")[:6, :6]
        axis = np.arange(6)
        low = (low * np.sqrt(np.hypot(axis[:, None], axis))).ravel()
        return low / np.linalg.norm(low)

    expected = set()
    for i in range(30):
        best = []
        for j in set(range(30)) - {i}:
            views = [duplicates.turned(x[i], view).numpy() for view in range(8)]
            best.append((max(describe(v) @ describe(x[j].numpy()) for v in views), j))
        near = sorted(best, reverse=True)[: duplicates.CANDIDATES]
        expected |= {(min(i, j), max(i, j)) for c, j in near if c >= duplicates.LIKELY}
    one, other, view, _ = duplicates.candidates(torch.from_numpy(duplicates.frequencies(x)))
    assert set(zip(one.tolist(), other.tolist(), strict=True)) == expected
    at = np.flatnonzero((one == 4) & (other == 20))
    assert view[at] == 4


def test_alignment_equals_a_loop_over_windows():
    thumbnails = scenes(4, channels=1)
    x = torch.from_numpy(thumbnails[:, 0].astype(np.float32)) / 255
    one, other, view = np.array([0, 2]), np.array([1, 3]), np.array([0, 5])
    result, _ = duplicates.align(thumbnails, one, other, view)
    axis = np.arange(32) + 0.5

    def seen(image, side, top, left):
        step = side * 32 / 16
        rows = []
        for start in (top, left):
            centers = 32 * start + step * (np.arange(16) + 0.5)
            w = np.clip(1 - np.abs(axis - centers[:, None]) / max(1, step), 0, None)
            rows.append(w / w.sum(1, keepdims=True))
        return (rows[0] @ image @ rows[1].T).ravel()

    def details(image):
        out = np.empty((32, 32))
        for i in range(32):
            for j in range(32):
                window = image[max(0, i - 4) : i + 5, max(0, j - 4) : j + 5]
                out[i, j] = image[i, j] - window.mean()
        return out

    for a, b, v, value in zip(one, other, view, result, strict=True):
        first = duplicates.turned(torch.from_numpy(details(x[a].numpy())), int(v)).numpy()
        second = details(x[b].numpy())
        best = -1.0
        for p, q in ((first, second), (second, first)):
            for side in (1.0, 0.95, 0.9, 0.85, 0.8):
                steps = np.arange(round((1 - side) / 0.05) + 1) * 0.05
                for top in steps:
                    for left in steps:
                        c = np.corrcoef(seen(p, side, top, left), seen(q, 1.0, 0, 0))[0, 1]
                        best = max(best, c)
        assert value == pytest.approx(best, abs=1e-4)
