"""Figures that are typed into texts are those of results/.

A comment `<!-- figures` below a paragraph or list has a line for each figure in it: the number as
it is written, then the file and the keys, as in `40.6 lectures.json/experiments/L1/probe/raw/test`;
or, of a number that is no result, what it is instead. Of a list of values the mean counts.
"""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TEXTS = [*sorted(DOCS.glob("*.md")), *sorted((DOCS / "lectures").glob("*.md"))]
result = runpy.run_path(str(ROOT / "bench" / "readme.py"))["result"]


def marked(text: str) -> list[tuple[str, list[list[str]]]]:
    """Each paragraph of a text, and the numbers in it with their sources."""
    parts = [part.partition("\n<!-- figures\n") for part in text.split("\n\n")]
    return [
        (written, [line.split(" ", 1) for line in lines.partition("\n-->")[0].splitlines()])
        for written, _, lines in parts
    ]


def is_rounded(number: str, value: float) -> bool:
    """Whether a number is a value or minus it, as it is, in percent or in 10⁹, in its digits."""
    error = 0.5 * 10.0 ** -len(number.partition(".")[2])
    return any(abs(float(number) - abs(value) * by) < error + 1e-9 for by in (1, 100, 1e-9))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_typed_figures_are_those_of_the_results(path):
    """Catches a text that keeps its figures when a study is measured anew, or withdrawn."""
    for written, sources in marked(path.read_text(encoding="utf-8")):
        for number, source in sources:
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\.?\d)", written), number
            file, *keys = source.split("/")
            if file.endswith(".json"):
                value = result(file)
                for key in keys:
                    value = value[int(key) if isinstance(value, list) else key]
                assert is_rounded(number, float(np.mean(value))), f"{number}: {source} is {value}"
        if re.search(r"`results/\w+\.json`", written):
            missing = {*re.findall(r"\d+\.\d+", written)} - {number for number, _ in sources}
            assert not missing, f"say below the paragraph where {missing} are from: {written}"


def test_measured_tables_are_those_of_the_results(monkeypatch):
    """Catches tables of memory, time and speed of an earlier measurement."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    scaling = (DOCS / "scaling.md").read_text(encoding="utf-8")
    tables = runpy.run_path(str(ROOT / "bench" / "scaling.py"))["tables"](result("scaling.json"))
    for name, lines in tables.items():
        assert "\n".join([f"<!-- {name} -->", *lines, f"<!-- end of {name} -->"]) in scaling, (
            "run python bench/scaling.py page"
        )
    bench = runpy.run_path(str(ROOT / "bench" / "page.py"))
    text = (DOCS / "bench.md").read_text(encoding="utf-8")
    assert bench["page"](*bench["collected"]()) == text, "run python bench/page.py"


def test_the_claim_of_the_words_study_is_that_of_its_figures():
    """Catches a claim whose n-grams were counted anew without it."""
    from unlabeled.studies.words import claim_of

    words = result("words.json")
    held, why = claim_of(words["experiments"]["W2"])
    assert (words["claims"]["18"]["held"], words["claims"]["18"]["why"]) == (held, why)


def test_wrong_figures_are_found():
    """Catches a comparison that accepts anything."""
    assert is_rounded("44.8", 0.44775)
    assert is_rounded("3.7", -0.03662)
    assert is_rounded("0.50", 0.49964)
    assert is_rounded("1.17", 1170265430)
    assert not is_rounded("70.9", 66.55629)
    assert not is_rounded("0.5", 0.44)
    assert not is_rounded("78.1", float("nan"))  # withdrawn
    text = "It is 4.2 % (`results/a.json`).\n<!-- figures\n4.2 a.json/b c/0\n-->\n\nNothing.\n"
    assert marked(text) == [
        ("It is 4.2 % (`results/a.json`).", [["4.2", "a.json/b c/0"]]),
        ("Nothing.\n", []),
    ]
    found = [mark for path in TEXTS for _, mark in marked(path.read_text(encoding="utf-8"))]
    assert sum(map(len, found)) > 100
