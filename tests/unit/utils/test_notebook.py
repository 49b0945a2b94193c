"""What notebooks show of runs and results, and what data is called there."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

import unlabeled as ul
from unlabeled.evaluation.result import Result
from unlabeled.utils.files import short_name
from unlabeled.utils.notebook import table


class Cells(HTMLParser):
    """The texts of the cells of a table, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.inside = tag in ("td", "th") or (self.inside and tag in ("br", "span"))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag == "span"

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += f"|{data}" if self.rows[-1][-1] else data


def test_a_table_is_escaped():
    html = table("<b>", ["", "<i>"], [["a & b", "1\n<2>"]])
    assert Cells(html).rows == [["", "<i>"], ["a & b", "1|<2>"]]
    assert "<i>" not in html
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("/home/someone/photos", "photos"),
        ("/home/someone/photos/*.jpg", "photos/*.jpg"),
        ("/home/someone/photos/**/*.jpg", "photos/**/*.jpg"),
        ("/home/s-{000..004}.tar", "home/s-{000..004}.tar"),
        ("omniglot:/home/someone/data", "omniglot:data"),
        ("dsprites", "dsprites"),
        ("data/photos", "data/photos"),
        ("hf:facebook/dinov2", "hf:facebook/dinov2"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_data_is_called_by_the_end_of_its_path(data, name):
    assert short_name(data) == name


def test_a_run(trained):
    rows = dict(Cells(trained._repr_html_()).rows)
    assert rows == {
        "method": "simclr",
        "data": "in memory",
        "trained on": "480 images",
        "encoder": "small",
        "features": "128",
        "epochs": "2",
    }
    named = ul.load("small", data=np.zeros((4, 8, 8), np.uint8))
    assert dict(Cells(named._repr_html_()).rows)["encoder"] == "small"


def test_a_result_is_a_dictionary_and_a_table(trained):
    """Catches what is no JSON, a metric without its interval, and values of another column."""
    result = ul.evaluate(trained)
    assert isinstance(result, Result)
    assert json.loads(json.dumps(result)) == result
    head, *rows = Cells(result._repr_html_()).rows
    columns = ["simclr", *result["baselines"]]
    assert head == ["", *(column.replace("_", " ") for column in columns)]
    probe = next(row for row in rows if row[0] == "Linear probe accuracy")
    for name, cell in zip(columns, probe[1:], strict=True):
        values = result["metrics"] if name == "simclr" else result["baselines"][name]
        if "linear_probe" in values:
            share, interval = cell.split("|")
            assert share == f"{100 * values['linear_probe']['value']:.1f} %"
            assert interval.startswith(f"({100 * values['linear_probe']['low']:.1f}")
        else:
            assert cell == ""


def test_a_figure_is_a_png():
    content = ul.plot.rdm(np.eye(3))._repr_png_()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
