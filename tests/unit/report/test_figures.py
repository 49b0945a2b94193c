"""Figures of similarity: sorted, with borders between classes, and right values."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import unlabeled as ul
from unlabeled.errors import Notice, UserError


def matrix_of(y):
    """0 within a class, 1 between."""
    return (y[:, None] != y).astype(float)


def drawn(figure):
    """The figure as a PNG, which must not fail."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return Image.open(content)


def test_an_rdm_is_sorted_by_a_factor_with_borders_between_its_classes():
    y = np.array([2, 0, 1, 1, 0, 2, 2])
    figure = ul.plot.rdm(matrix_of(y), sort_by=y, names=["zero", "one", "two"], title="classes")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix_of(np.sort(y)))
    assert sorted(line.get_ydata()[0] for line in axes.lines[::2]) == [2, 4]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["zero", "one", "two"]
    assert list(axes.get_yticks()) == [1, 3, 5.5]
    assert axes.get_title() == "classes"
    assert drawn(figure).width > 100


def test_an_rdm_without_a_factor_keeps_its_order():
    matrix = ul.rdm(np.random.default_rng(0).normal(size=(9, 4)))
    axes = ul.plot.rdm(matrix).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix)
    assert not axes.lines
    named = ul.plot.rdm(matrix, names=list("abcdefghi")).axes[0]
    assert [text.get_text() for text in named.get_xticklabels()] == list("abcdefghi")


def test_a_factor_of_many_values_sorts_without_borders():
    y = np.random.default_rng(0).permutation(50) / 7
    axes = ul.plot.rdm(np.abs(y[:, None] - y), sort_by=y).axes[0]
    assert not axes.lines
    assert (np.diff(axes.images[0].get_array()[0]) > 0).all()


def test_a_large_rdm_is_averaged():
    y = np.random.default_rng(0).integers(5, size=3_001)
    matrix = matrix_of(y).astype(np.float32)
    with pytest.warns(Notice, match="mean of 3 × 3 of the 3,001"):
        figure = ul.plot.rdm(matrix, sort_by=y)
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (1001, 1001)
    ordered = matrix_of(np.sort(y))
    assert image[400, 203] == pytest.approx(ordered[1200:1203, 609:612].mean())
    assert image[-1, 0] == pytest.approx(ordered[3000:, :3].mean())
    assert image[0, -1] == pytest.approx(ordered[:3, 3000:].mean())
    assert figure.axes[0].lines[0].get_ydata()[0] == (y == 0).sum()


def test_a_similarity_matrix_shows_its_values():
    values = np.array([[1, 0.25, np.nan], [-0.125, 1, 0.5], [0, 0.5, 1]])
    figure = ul.plot.similarity_matrix(["simclr", "vae", "pixels"], values, title="CKA")
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["1.00", "0.25", "–", "−0.12", "1.00", "0.50", "0.00", "0.50", "1.00"]
    assert [text.get_position() for text in axes.texts[:2]] == [(0, 0), (1, 0)]
    assert axes.images[0].get_clim() == (-0.125, 1)
    assert drawn(figure).width > 100


def test_a_matrix_has_rows_and_columns_by_name():
    values = {"rotation": {"shape": 0.9, "size": -0.25}, "random": {"size": 0.5, "x": 1.5}}
    figure = ul.plot.matrix(values, label="known", title="factors", limits=(0.0, 1.0))
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["shape", "size", "x"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["rotation", "random"]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[0, 0] == "0.90"
    assert texts[1, 0] == "−0.25"
    assert texts[0, 1] == "–"
    assert texts[2, 1] == "1.50"
    assert axes.images[0].get_clim() == (0, 1)
    assert drawn(figure).width > 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ul.plot.rdm(np.zeros((3, 4))), r"shape \(3, 4\) is not an RDM"),
        (lambda: ul.plot.rdm(np.zeros((3, 3)), sort_by=[1, 2]), "2 values for 3 rows"),
        (lambda: ul.plot.rdm(np.zeros((3, 3)), names=["a"]), "1 names are given for 3 values"),
        (lambda: ul.plot.similarity_matrix(["a"], np.eye(2)), r"\(2, 2\) does not fit 1 names"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()


def shown(figure, i):
    """The i-th image of a grid."""
    return np.asarray(figure.axes[i].images[0].get_array())


def test_images_stand_in_rows():
    """Catches channels in the wrong place, and 8-bit values that are not scaled."""
    x = np.zeros((5, 3, 4, 6), np.uint8)
    x[4, 1, 2, 3] = 255
    figure = ul.plot.images(x, columns=3, titles=list("abcde"))
    assert shown(figure, 4).shape == (4, 6, 3)
    assert shown(figure, 4)[2, 3].tolist() == [0, 1, 0]
    assert shown(figure, 4).sum() == 1
    assert [axes.get_title() for axes in figure.axes] == [*"abcde", ""]
    assert len(figure.axes) == 6
    assert drawn(figure).width > 100


def test_views_stand_beside_their_image_and_random_numbers_go_on():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    x = np.stack([np.full((1, 8, 8), value, np.uint8) for value in (51, 255)])
    figure = ul.plot.views(lambda batch: batch / 2 + 0 * torch.rand(()), x, draws=2)
    assert [shown(figure, i).max().round(2) for i in range(6)] == [0.2, 0.1, 0.1, 1, 0.5, 0.5]
    assert torch.equal(before, torch.get_rng_state())


def test_a_histogram_has_both_kinds_of_pairs():
    """Catches classes exchanged."""
    z = np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], np.float32)
    axes = ul.plot.histogram(z, np.array([0, 0, 1, 1]), "cosine").axes[0]
    within, between = (patch.get_data() for patch in axes.patches)
    assert within.values[-1] > 0 == within.values[0]
    assert between.values[0] > 0 == between.values[-1]
    assert [t.get_text() for t in axes.get_legend().texts] == ["same class", "other class"]


def test_neighbors_are_the_nearest_others():
    """Catches an image among its own neighbors."""
    z = np.array([[0, 1], [0.1, 1], [1, 0], [0.9, 0.1]], np.float32)
    x = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 1, 2, 2), np.uint8) * 60
    figure = ul.plot.neighbors(z, x, queries=[0, 2], k=1)
    rows = [round(float(shown(figure, i).max()) * 255 / 60) for i in range(4)]
    assert rows == [0, 1, 2, 3]


def test_curves_and_bars_have_their_figures():
    lines = {"SimCLR": ([6, 160], [0.9, 1.0]), "random": ([6, 160], [0.3, 0.4])}
    axes = ul.plot.curves(lines, log=True).axes[0]
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.9, 1.0], [0.3, 0.4]]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["6", "160"]
    figure = ul.plot.bars({"a": (0.5, 0.4, 0.7), "b": 0.25}, chance=0.1)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.25]
    assert axes.collections[0].get_segments()[0][:, 0].tolist() == pytest.approx([0.4, 0.7])
    assert {"a", "b", "0.5", "0.25", "chance"} == {t.get_text() for t in axes.texts}
    assert drawn(figure).width > 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ul.plot.images(np.zeros((2, 4, 4))), r"shape \(2, 4, 4\) holds no images"),
        (lambda: ul.plot.images(np.zeros((2, 1, 4, 4)), titles=["a"]), "1 titles are given for 2"),
    ],
)
def test_what_is_no_image_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_fewer_neighbors_than_asked_for_stay_in_their_row():
    """Catches rows of the grid that begin with a neighbor of the query before."""
    z = np.array([[0, 1], [0.1, 1], [1, 0], [0.9, 0.1]], np.float32)
    x = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 1, 2, 2), np.uint8) * 60
    figure = ul.plot.neighbors(z, x, queries=[0, 2], k=8)
    assert figure.axes[0].get_gridspec().ncols == 4
    assert [axes.get_title() for axes in figure.axes[::4]] == ["image", "image"]
