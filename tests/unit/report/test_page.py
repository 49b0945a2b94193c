"""The report page: names, words, and what a screen reader needs."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.targets import Classes
from unlabeled.errors import plural
from unlabeled.evaluation.evaluate import measure
from unlabeled.evaluation.metric import Subject
from unlabeled.report.compare import compare
from unlabeled.report.page import _matrices, video_image, write_report
from unlabeled.runs.run import Run


class Elements(HTMLParser):
    """All elements of a page with their attributes; texts of header cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.headers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))
        if tag == "th":
            self.headers.append("")

    def handle_data(self, data):
        if self.headers:
            self.headers[-1] += data


@pytest.fixture(scope="module")
def text(trained, tmp_path_factory) -> str:
    """The page of a run on a folder somewhere."""
    folder = tmp_path_factory.mktemp("page")
    config = trained.config | {"data": "/home/someone/photos", "images": 1}
    run = Run(folder, trained.encoder, config, trained.inputs)
    evaluation = measure(trained)
    splits = replace(evaluation.splits, name="/home/someone/photos")
    path = write_report(run, replace(evaluation, splits=splits, run=run))
    return path.read_text(encoding="utf-8")


def test_the_page_names_data_without_its_folder(text):
    assert "<h1>simclr on photos</h1>" in text
    assert "/home/someone" not in text


def test_settings_are_told_in_words(text, trained):
    recipe = trained.config["recipe"]
    words = re.search(r"Trained for [^<]*", text)[0]
    assert words.startswith("Trained for 2 epochs with batch size 64, AdamW, ")
    assert f"a learning rate of {recipe['lr']:g}" in words
    assert words.endswith("on 1 image of photos.")


def test_a_config_of_other_values_is_no_error(trained, tmp_path):
    """A run folder may be a stranger's."""
    evaluation = measure(trained)
    for recipe in ("many", {"epochs": "x", "batch_size": 2, "lr": 1}, {}):
        run = Run(tmp_path, trained.encoder, trained.config | {"recipe": recipe}, trained.inputs)
        page = write_report(run, replace(evaluation, run=run)).read_text(encoding="utf-8")
        assert "Trained for" not in page


def test_screen_readers_and_keyboards_reach_everything(text):
    """Rules of axe: alternatives of images, header cells with text, scrollable regions."""
    page = Elements(text)
    kinds = {tag for tag, _ in page.all}
    assert {"main", "h1", "img", "svg", "table"} <= kinds
    for tag, attributes in page.all:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]
    assert all(header.strip() for header in page.headers)


def test_a_video_is_still_for_readers_who_prefer_that(tmp_path):
    from PIL import Image

    frames = [Image.new("L", (4, 4), value) for value in (0, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    page = Elements(video_image((tmp_path / "a.gif").read_bytes(), "a video"))
    assert [tag for tag, _ in page.all] == ["picture", "source", "img"]
    assert page.all[2][1]["alt"] == "a video"


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "image", "1 image"),
        (0, "images", "0 images"),
        (1, "test images", "1 test image"),
        (1200, "image", "1,200 images"),
    ],
)
def test_singular_and_plural(number, noun, words):
    assert plural(number, noun) == words


def test_a_comparison_is_as_accessible_and_names_data_as_briefly(trained, tmp_path):
    config = trained.config | {"data": "/home/someone/photos", "seed": 7}
    other = Run(tmp_path / "other", trained.encoder, config, trained.inputs)
    other.data = trained.data
    compare([trained, other], tmp_path / "compare.html", data=trained.data)
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "/home/someone" not in page
    assert "<td>photos</td>" in page
    elements = Elements(page)
    regions = [attributes for _, attributes in elements.all if attributes.get("class") == "scroll"]
    assert len(regions) >= 2
    assert all(attributes["tabindex"] == "0" for attributes in regions)
    assert all(header.strip() for header in elements.headers)


def test_a_factor_that_no_shown_sample_has_is_no_matrix():
    """Catches the traceback of an image of no pixels."""
    x, y = np.eye(8, dtype=np.float32).repeat(5, 0)[:, None, None], np.arange(40) % 4
    factors = {"kind": y, "rare": np.full(40, -1)}
    part = Samples(x, factors, targets=dict.fromkeys(factors, Classes()))
    splits = Splits("some", part, part, target="kind")
    page = _matrices(splits, [Subject("mine", splits, torch.nn.Flatten())])
    assert "Sorted by kind" in page
    assert "Sorted by rare" not in page
    del part.factors["kind"]
    assert _matrices(splits, [Subject("mine", splits, torch.nn.Flatten())]) == ""
