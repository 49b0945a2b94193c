"""The renderer against real images and against a slow polygon fill; the default split."""

import numpy as np
import pytest

from unlabeled.data import open_data
from unlabeled.data.sets.dsprites import Grid, classes_of, load, render
from unlabeled.data.sets.polygons import fill
from unlabeled.errors import UserError


@pytest.mark.parametrize("name", ["dsprites_downsampled", "dsprites_public"])
def test_rendered_images_equal_real_ones(real_data, name):
    with np.load(real_data / "dsprites" / f"{name}.npz") as real:
        images, values = real["imgs"], real["latents_values"]
    scale = np.array([1, 0.1, 2 * np.pi / 39, 1 / 31, 1 / 31])
    classes = np.rint((values - [1, 0.5, 0, 0, 0]) / scale).astype(np.int64)
    exact = (render(classes) == images).all((1, 2))
    for shape in range(3):
        assert exact[classes[:, 0] == shape].mean() > 0.999


def test_fill_equals_a_test_of_every_pixel_center():
    from matplotlib.path import Path

    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, (20, 9)), 1)
    radius = rng.uniform(5, 25, (20, 9))  # stars: far from convex
    corners = 32 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    corners = np.floor(256 * corners + 0.5) / 256
    centers = np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1).reshape(-1, 2) + 0.5
    hair = centers + np.array([1e-6, -1e-9])
    for polygon, image in zip(corners, fill(corners), strict=True):
        inside = Path(polygon.T).contains_points(hair).reshape(64, 64)
        assert (inside == image).all()


def test_centers_on_left_and_lower_edges_are_inside():
    square = np.array([[[10.5, 14.5, 14.5, 10.5], [20.5, 20.5, 23.5, 23.5]]])
    rows, columns = np.nonzero(fill(square)[0])
    assert set(rows) == {21, 22, 23}
    assert set(columns) == {10, 11, 12, 13}
    assert (fill(square) == fill(square[:, :, ::-1])).all()  # either way around


def test_render_gives_zeros_and_ones_of_the_right_shape():
    classes = classes_of(np.array([0, 5, 737279]))
    images = render(classes)
    assert images.shape == (3, 64, 64)
    assert images.dtype == np.uint8
    assert set(np.unique(images)) == {0, 1}
    assert render(np.empty((0, 5), int)).shape == (0, 64, 64)
    # Orientation 39 is orientation 0 again; larger scales hold more pixels.
    a, b = render([[2, 3, 0, 10, 20], [2, 3, 39, 10, 20]])
    assert (a == b).all()
    sizes = render([[1, s, 7, 16, 16] for s in range(6)]).sum((1, 2))
    assert (np.diff(sizes.astype(int)) > 0).all()


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ([[3, 0, 0, 0, 0]], "shape goes from 0 to 2"),
        ([[0, 0, 40, 0, 0]], "orientation goes from 0 to 39"),
        ([[0, 0, 0, 0, -1]], "y goes from 0 to 31"),
        ([[0, 0, 0, 0]], r"integers \(N, 5\)"),
        ([[0.5, 0, 0, 0, 0]], r"integers \(N, 5\)"),
    ],
)
def test_render_refuses_what_is_not_there(classes, says):
    with pytest.raises(UserError, match=says):
        render(classes)


def test_the_grid_is_a_lazy_array():
    grid = Grid()
    assert (len(grid), grid.shape) == (737280, (737280, 64, 64))
    rows = np.array([0, 1, 400_000, -1])
    assert (grid[rows] == render(classes_of(rows % len(grid)))).all()
    assert grid[5].shape == (64, 64)
    assert (grid[-1] == grid[737279]).all()
    assert (grid[10:40:10] == grid[[10, 20, 30]]).all()
    mask = np.zeros(len(grid), bool)
    mask[[3, 7]] = True
    assert (grid[mask] == grid[[3, 7]]).all()
    with pytest.raises(IndexError):
        grid[737280]


def test_the_order_is_the_originals(real_data):
    with np.load(real_data / "dsprites" / "dsprites_public.npz") as real:
        rows, images = real["original_dataset_indices"][:500], real["imgs"][:500]
    assert (Grid()[rows] == images).all((1, 2)).mean() > 0.99


def rows_of(part):
    return {tuple(int(part.factors[k][i]) for k in part.factors) for i in range(len(part))}


def test_the_default_set_and_its_split():
    splits = load()
    assert (len(splits.train), len(splits.test)) == (16_000, 4_000)
    assert (splits.target, splits.classes) == ("shape", ["square", "ellipse", "heart"])
    assert splits.train.x.shape == (16_000, 1, 64, 64)
    assert not rows_of(splits.train) & rows_of(splits.test)
    again = load()
    assert (again.test.x == splits.test.x).all()
    assert set(np.unique(splits.test.x)) == {0, 255}


def test_real_files_open_and_their_test_images_are_new(real_data):
    real = open_data(f"dsprites:{real_data / 'dsprites'}")
    rendered = load()
    assert (len(real.train), len(real.test)) == (16_000, 4_000)
    assert not rows_of(real.test) & rows_of(rendered.train)
    assert not rows_of(real.test) & rows_of(real.train)
    one = load(str(real_data / "dsprites" / "dsprites_public.npz"))
    assert len(one.train) + len(one.test) == 10_000


def test_a_folder_without_dsprites_says_so(tmp_path):
    with pytest.raises(UserError, match="holds no dSprites"):
        open_data(f"dsprites:{tmp_path}")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(UserError, match="cannot be read"):
        open_data(f"dsprites:{tmp_path}")
