"""The texts of the site, without building it: links, commands, and a page for every method."""

import inspect
import json
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest

import unlabeled
from unlabeled import registry
from unlabeled.cli.help import Parser
from unlabeled.cli.main import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "ipynb" not in p.parts)
METHODS = sorted(registry.listing("methods"))
FENCE = re.compile(r"^(```+|:::+)(\{?[\w-]*\}?).*?\n(.*?)^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s:#]*)(?:#([\w-]+))?\)")
SHELL = ("", "sh", "bash")
"""Languages of blocks that hold commands."""


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every complete command of the pages and the README, once."""
    found: dict[str, None] = {}
    for path in [ROOT / "README.md", *PAGES]:
        text = read(path)
        blocks = [body for _, language, body in FENCE.findall(text) if language in SHELL]
        lines = "\n".join(blocks).replace("\\\n", " ").split("\n")
        inline = FENCE.sub("", text).replace("\n", " ")
        lines += re.findall(r"`(unlabeled (?:list|study|views) [^`]+)`", inline)
        for line in lines:
            for part in line.split("&&"):
                if match := re.search(r"(?:^|-m |srun (?:-\S+ \S+ )*)(unlabeled .*)", part.strip()):
                    found[" ".join(re.split(r"\s#\s", match[1])[0].split())] = None
    return [c for c in found if not re.search(r"\b(COMMAND|METHOD|KIND|NAME|RUN|DATA)\b|…", c)]


@pytest.fixture
def only_parsing(monkeypatch, tmp_path):
    """Commands end once their words are understood."""

    class UnderstoodError(Exception):
        pass

    parse = Parser.parse_args

    def parse_and_stop(self, *args, **options):
        parse(self, *args, **options)
        raise UnderstoodError

    monkeypatch.setattr(Parser, "parse_args", parse_and_stop)
    monkeypatch.chdir(tmp_path)
    for name in ("runs/simclr/config.json", "settings.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"data": "photos/"}')
    return UnderstoodError


def test_there_are_commands():
    assert len(commands()) > 100


@pytest.mark.parametrize("command", commands())
def test_a_command_of_a_page_is_understood(command, only_parsing):
    """Catches flags, methods and commands that a text names and the library does not have."""
    _, *words = shlex.split(command)
    if words[0] == "--version":
        return
    if words[0] == "study":
        assert words[1].startswith("./") or words[1] in registry.listing("studies")
    with pytest.raises(only_parsing):
        main(words)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_links_lead_somewhere(path):
    """Catches links to files that are not there, and to headings that are no more."""
    for file, anchor in LINK.findall(FENCE.sub("", read(path))):
        target = path.parent / file if file else path
        assert target.exists(), file
        if anchor:
            headings = re.findall(r"^#+ (.*)$", read(target), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            named = re.findall(r"^\(([\w-]+)\)=$", read(target), re.MULTILINE)
            assert anchor in [*slugs, *named], f"{file}#{anchor}"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_page(name):
    """Catches a method without its loss, and a page that leaves an option out."""
    path = DOCS / "methods" / f"{name}.md"
    assert path.is_file(), f"write the loss of {name} in mathematics into {path}"
    text = read(path)
    assert re.match(r"# .+\n\n## Loss\n", text)
    assert text.count("$$") >= 2
    assert len(re.findall(r"^\*\*When to use it\.\*\* ", text, re.MULTILINE)) == 1
    assert f"unlabeled train {name} --data" in text
    page = pages()["page"](name, text)
    for option in inspect.signature(registry.find("methods", name)).parameters:
        if option not in pages()["NOT_SHOWN"]:
            assert f"| `--{option.replace('_', '-')}` |" in page


def test_no_page_is_of_a_method_that_is_gone():
    assert {p.stem for p in (DOCS / "methods").glob("*.md")} == {*METHODS, "index"}


def test_the_table_of_other_libraries_is_that_of_its_sources():
    """Catches an edited page, a method that it lacks, and a source of a method that is gone."""
    peers = runpy.run_path(str(ROOT / "bench" / "peer_methods.py"))
    page = read(DOCS / "peers.md")
    assert peers["filled"](page) == page, "run python bench/peer_methods.py"
    assert re.findall(r"^\| \[`(\w+)`\]\(methods/\1\.md\) \|", page, re.MULTILINE) == METHODS
    sources = json.loads(read(ROOT / "bench" / "peer_methods.json"))
    linked = re.findall(r"\]\(https://github\.com/(.+?)/blob/HEAD/(.+?)\)", page)
    rows = [*sources["methods"].values(), *sources["others"].values()]
    repositories = sources["repositories"]
    expected = [(repositories[peer], path) for files in rows for peer, path in files.items()]
    assert sorted(linked) == sorted(expected)
    for wrong in ({"methods": {"simcl": {}}}, {"others": {"BEiT": {"lightning": "beit.py"}}}):
        with pytest.raises(SystemExit, match=r"is no method|has no repository"):
            peers["filled"](page, sources | wrong)


def test_every_method_is_in_a_family_of_the_readme():
    """Catches a method that the README does not name, so that the site has no place for it."""
    families = pages()["families"]()
    assert "other" not in families, families["other"]
    assert sorted(n for names in families.values() for n in names) == METHODS


def test_parts_of_a_formula_are_below_each_other():
    """Catches formulas that are wider than a page, and text that is changed with them."""
    stacked = pages()["stacked"]
    text = "Let $a$ be\n\n$$\na = 1, \\qquad\nb = 2\n$$\n\nand $c \\qquad d$.\n\n$$\ne\n$$"
    lines = "a = 1, \\\\[1ex]\nb = 2"
    gathered = f"\\begin{{gathered}}\n{lines}\n\\end{{gathered}}"
    assert stacked(text) == text.replace("a = 1, \\qquad\nb = 2", gathered)


def test_every_extra_is_on_the_page_of_the_installation():
    """Catches an extra that nobody would find, and a message that names a package instead."""
    text = read(ROOT / "pyproject.toml").partition("[project.optional-dependencies]")[2]
    extras = re.findall(r"^([\w-]+) = \[", text.partition("\n[")[0], re.MULTILINE)
    page = read(DOCS / "install.md")
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert {*re.findall(r"`([\w-]+)`", rows)} == {*extras}
    sources = "".join(map(read, (ROOT / "src" / "unlabeled").rglob("*.py")))
    known = {f"'unlabeled[{extra}]'" for extra in (*extras, "{source}")}  # timm or hf
    assert {match.rstrip('",)') for match in re.findall(r"pip install (\S+)", sources)} <= known


def test_views_of_methods_are_drawn(monkeypatch):
    """Catches views that are the images, masks that are not drawn, and another seed each time."""
    from io import BytesIO

    from PIL import Image

    monkeypatch.syspath_prepend(ROOT / "bench")
    drawn = runpy.run_path(str(ROOT / "bench" / "method_views.py"))["drawn"]
    masked = np.asarray(Image.open(BytesIO(drawn("simmim"))))
    gray = (np.abs(masked[:128].astype(int) - 128) < 2).all(
        2
    )  # of the first row, each image drawn twice as large
    assert not gray[:, :128].any()  # the image itself
    assert 0.55 < gray[:, 144:272].mean() < 0.65  # 60 % of the patches of a view
    assert drawn("simclr") == drawn("simclr")
    assert drawn("vae") is None  # trained on the images themselves
    assert drawn("word2vec") is None


def test_figures_are_of_methods_that_exist(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    tables = runpy.run_path(str(ROOT / "bench" / "method_figures.py"))["TABLES"]
    for table in tables:
        named = (
            {table.methods} if isinstance(table.methods, str) else {*(table.methods or {}).values()}
        )
        assert named <= {*METHODS}, table.path


def test_pages_of_methods_show_withdrawn_figures_as_such():
    """Catches figures of a bug on the page of a method."""
    text = pages()["page"]("vae", read(DOCS / "methods" / "vae.md"))
    rows = [line for line in text.splitlines() if line.startswith(("| **vae**", "| **VAE"))]
    withdrawn = [line for line in rows if "withdrawn" in line]
    assert withdrawn  # its samples
    assert not any("%" in line for line in withdrawn)
    assert not any("11.6" in line for line in rows)  # the Fréchet distance of its samples


def test_pages_of_methods_show_baselines():
    """Catches baselines that are missing once they have another name, as n-grams by their order."""
    text = pages()["page"]("autoregressive", read(DOCS / "methods" / "autoregressive.md"))
    assert re.search(r"^\| Kneser-Ney, \d characters \| 1\.\d+ \|$", text, re.MULTILINE)
    text = pages()["page"]("simclr", read(DOCS / "methods" / "simclr.md"))
    assert re.search(r"^\| most frequent class \| \d+\.\d% \(", text, re.MULTILINE)
    assert re.search(r"^\| random \| \d+\.\d% \(", text, re.MULTILINE)


def test_figures_in_the_guides_are_those_of_the_results():
    readme = runpy.run_path(str(ROOT / "bench" / "readme.py"))
    for path, text in readme["pages"]().items():
        assert read(path) == text, f"{path}: run python bench/readme.py"


def test_every_public_name_is_in_the_reference():
    text = read(DOCS / "api" / "functions.md") + read(DOCS / "api" / "modules.md")
    assert not [n for n in unlabeled.__all__ if not re.search(rf"\bunlabeled\.{n}\b|{n}\n", text)]


_pages: dict = {}


def pages() -> dict:
    """The names in bench/method_pages.py, loaded once."""
    if not _pages:
        import sys

        sys.path.insert(0, str(ROOT / "bench"))
        try:
            _pages.update(runpy.run_path(str(ROOT / "bench" / "method_pages.py")))
        finally:
            sys.path.remove(str(ROOT / "bench"))
    return _pages
