"""Bars and lines of work that goes on."""

import io
import sys

import numpy as np
import pytest

import unlabeled as ul
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError
from unlabeled.utils import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_of(monkeypatch) -> Terminal:
    """Standard error as a terminal; in a fixture, pytest would put its own back."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def tracked(asked=None, delay=0.0):
    return list(progress.track(range(3), "three steps", 3, asked, delay))


@pytest.mark.parametrize(
    ("context", "asked", "shown"),
    [
        (None, None, False),
        (None, True, True),
        (True, None, True),
        (True, False, False),
        (False, True, False),
        (False, None, False),
    ],
)
def test_a_bar_is_shown_where_it_is_wanted(context, asked, shown, monkeypatch):
    """Catches bars in Python unasked, and any under --quiet."""
    terminal = terminal_of(monkeypatch)
    if context is None:
        assert tracked(asked) == [0, 1, 2]
    else:
        with progress.showing(context):
            assert tracked(asked) == [0, 1, 2]
    assert ("three steps" in terminal.getvalue()) is shown


def test_a_bar_appears_only_after_its_delay(monkeypatch):
    terminal = terminal_of(monkeypatch)
    assert tracked(True, delay=60) == [0, 1, 2]
    assert "three steps" not in terminal.getvalue()


def test_no_bar_where_nothing_can_be_drawn(capsys):
    assert tracked(True) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_bar_ends_with_an_error(monkeypatch):
    """Catches a bar that goes on below the message, in its own thread."""
    terminal = terminal_of(monkeypatch)

    def items():
        yield 1
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        list(progress.track(items(), "title", 2, True, 0.0))
    before = terminal.getvalue()
    assert "title" in before
    progress.time.sleep(0.3)
    assert terminal.getvalue() == before


def test_a_training_that_fails_gives_the_cursor_back(monkeypatch, tmp_path):
    """Catches a bar that is stopped at a good end only: the terminal is left without a cursor."""
    terminal = terminal_of(monkeypatch)
    x = np.random.default_rng(0).integers(0, 256, (32, 8, 8), np.uint8)
    options = {"epochs": 2, "batch_size": 16, "logger": "none", "encoder_args": {"width": 2}}
    with pytest.raises(UserError, match=r"the loss became|weights are no longer finite"):
        ul.train("simclr", x, out=tmp_path / "run", lr=1e30, **options)
    hide, show = "\x1b[?25l", "\x1b[?25h"
    shown = terminal.getvalue()
    assert hide in shown
    assert shown.rindex(show) > shown.rindex(hide)


def test_lines_are_printed_unless_quiet(capsys):
    progress.line("seen")
    with progress.showing(False):
        progress.line("hidden")
    assert capsys.readouterr().err == "seen\n"


def test_features_have_a_bar(trained, sprites, monkeypatch):
    """Of as many steps as there are batches."""
    totals = []

    def track(items, title, total, asked):
        totals.append((title, total, asked))
        return items

    monkeypatch.setattr("unlabeled.encoders.features.track", track)
    x = np.ascontiguousarray(sprites[0][:7, None])
    embed(trained.encoder, x, batch_size=3)
    trained.embed(sprites[0][:1], progress=True)
    assert totals == [("features of 7 samples", 3, None), ("features of 1 sample", 1, True)]
