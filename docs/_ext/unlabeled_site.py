"""Parts of the site: pages of methods, lists of what there is by name, cells of notebooks."""

import re
from typing import Any

import method_pages
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from unlabeled import registry

NOTEBOOK = re.compile(r"lectures/\d\d-")
SUMMARIES = {"exercise": "Your turn", "check": "Check", "solution": "Solution"}
"""What stands above the cells of a notebook that have one of these tags."""


class CodeCell(SphinxDirective):
    """A code cell of a notebook in MyST text, shown and not run; solutions are folded."""

    has_content = True
    optional_arguments = 1
    option_spec = {"tags": directives.unchanged}  # noqa: RUF012  docutils declares it so

    def run(self) -> list[nodes.Node]:
        """The nodes of the cell."""
        text = "\n".join(self.content)
        block = nodes.literal_block(text, text, language="python")
        tags = re.findall(r"[\w-]+", self.options.get("tags", ""))
        name = next((tag for tag in SUMMARIES if tag in tags), "")
        if not name:
            return [block]
        if name != "solution":
            title = nodes.paragraph("", SUMMARIES[name], classes=["cell-title"])
            return [nodes.container("", title, block, classes=["cell", name])]
        fold = f'<details class="cell solution"><summary>{SUMMARIES[name]}</summary>'
        return [
            nodes.raw("", fold, format="html"),
            block,
            nodes.raw("", "</details>", format="html"),
        ]


class Intervals(SphinxPostTransform):
    """Keeps intervals in tables, such as (45.1–48.2), on one line."""

    default_priority = 500
    formats = ("html",)

    def run(self, **options: Any) -> None:
        """Wrap each in an element of its own."""
        for entry in self.document.findall(nodes.entry):
            for text in list(entry.findall(nodes.Text)):
                parts = re.split(r"(\(−?[\d.,]+–−?[\d.,]+\))", text.astext())
                if len(parts) > 1:
                    wrapped = [
                        nodes.inline("", part, classes=["interval"]) if i % 2 else nodes.Text(part)
                        for i, part in enumerate(parts)
                        if part
                    ]
                    text.parent.replace(text, wrapped)


def complete(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add to the text of a page what is made from code and results."""
    folder, _, name = docname.rpartition("/")
    if docname == "methods/index":
        source[0] = method_pages.index(source[0])
    elif folder == "methods":
        source[0] = method_pages.page(name, source[0])
    elif docname == "api/names":
        source[0] = names(source[0])
    elif NOTEBOOK.match(docname):
        link = f"[Download this notebook (.ipynb)](ipynb/{name}.ipynb)"
        source[0] = re.sub(r"^(# .*)$", rf"\1\n\n{link}", source[0], count=1, flags=re.MULTILINE)


def names(text: str) -> str:
    """The page of everything that is found by its name."""
    parts = [text.rstrip()]
    for kind in registry.KINDS:
        listed = registry.listing(kind).items()
        rows = [(f"`{name}`", method_pages.escaped(line)) for name, line in listed]
        title = "Data sets" if kind == "datasets" else kind.capitalize()
        parts += [f"## {title}", method_pages.table(["name", "what it is"], rows)]
    return "\n\n".join(parts) + "\n"


def as_markup(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape what reStructuredText would take for markup in the plain text of a docstring."""
    lines[:] = [re.sub(r"(?<![`\w])([|*])(?=\w)|(?<=\w)_(?=[ ,.;)]|$)", r"\\\g<0>", line)
                for line in lines]  # fmt: skip


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the parts with Sphinx."""
    app.add_directive("code-cell", CodeCell)
    app.add_post_transform(Intervals)
    app.connect("source-read", complete)
    # Before napoleon, whose own markup is meant.
    app.connect("autodoc-process-docstring", as_markup, priority=400)
    app.add_css_file("site.css")
    app.add_js_file("site.js")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
