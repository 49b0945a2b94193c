"""Pages of methods for the site, from their code, their figures and docs/methods/NAME.md.

python bench/method_pages.py METHOD prints one. `docs/conf.py` makes them while the site is built:
the hand-written text has the title, the loss and when to use the method; all else comes from the
class (or function) of the method, its docstrings, results/ and `bench/method_views.py`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from method_figures import tables

from unlabeled import objectives, registry
from unlabeled.augmentations import Augmentation
from unlabeled.core import Recipe
from unlabeled.modality import Audio, Images, Pairs, Series, Table, Text, Video

ROOT = Path(__file__).parent.parent
KINDS = {
    Images: "images, also frames of videos and images of pairs",
    Audio: "audio",
    Text: "texts",
    Series: "time series",
    Table: "tables",
    Video: "videos",
    Pairs: "pairs, such as images with captions",
}
NOT_SHOWN = {"encoder", "data", "progress"}
COMPARED = re.compile(r"\b(papers?|authors|codes?|lightly|open_clip|TensorFlow|gensim|BERT)\b")
"""Words of a paragraph that says what differs from a paper or its code."""


def page(name: str, text: str) -> str:
    """The page of a method.

    Args:
        name: of the method.
        text: of docs/methods/NAME.md.
    """
    method = registry.find("methods", name)
    title, _, body = text.partition("\n\n")
    tagline, *sources = paragraphs(inspect.getmodule(method))
    summary, *details = paragraphs(method)
    cited = [p for p in sources if re.search(r"\b(19|20)\d\d\b", p)]
    details = [*(p for p in sources if p not in cited), *details, *differences(method)]
    parts = [title, f"*{tagline}*", summary, facts(method), views(name, title), stacked(body)]
    if details:
        parts += ["## Details, and differences to the paper", *details]
    parts += ["## Options", options(method)]
    if inspect.isclass(method):
        parts += ["## Recipe", recipe(method)]
    if measured := tables(name):
        parts += ["## Measured", *measured, MEASURED]
    if cited:
        parts += ["## Sources", *cited]
    return "\n\n".join(part for part in parts if part) + "\n"


def stacked(body: str) -> str:
    """The text with the parts of a formula below each other, as a narrow page needs them."""

    def below(match: re.Match[str]) -> str:
        parts = re.split(r"\s*\\qquad\s*", match[1].strip())
        if len(parts) == 1 or r"\begin" in match[1]:
            return match[0]
        lines = " \\\\[1ex]\n".join(parts)
        return f"$$\n\\begin{{gathered}}\n{lines}\n\\end{{gathered}}\n$$"

    return re.sub(r"^\$\$\n(.*?)\n\$\$$", below, body.rstrip(), flags=re.MULTILINE | re.DOTALL)


def escaped(text: str) -> str:
    """Plain text for Markdown: what is no code has no markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*_])", r"\\\1", p) for p in parts)


def views(name: str, title: str) -> str:
    """The figure that `bench/method_views.py` drew; empty if there is none."""
    if not (ROOT / "docs" / "_static" / "views" / f"{name}.png").is_file():
        return ""
    what = f"Rows of an image and what {title.removeprefix('# ')} makes of it"
    return f"""```{{figure}} ../_static/views/{name}.png
:alt: {what}
:figclass: views
:class: dark-light

On the left, rendered images; beside them, views of them that `{name}` is trained on. Those of your
images: `unlabeled views {name} --data photos/ --out views.png`.
```"""


MEASURED = (
    "All measured results, with their conditions: [results](../results.md). How to read them: "
    "[reading the numbers](../reading.md)."
)


def paragraphs(documented: Any) -> list[str]:
    """Paragraphs of a docstring before its arguments, as Markdown."""
    text = (inspect.getdoc(documented) or "").partition("\n\nArgs:")[0]
    text = text.partition("\n\nSource:")[0]
    return [p if p.startswith("- ") else " ".join(p.split()) for p in text.split("\n\n")]


def differences(method: Any) -> list[str]:
    """What the objectives of a method say about a paper or its code."""
    used = {
        value.__name__: value
        for value in vars(inspect.getmodule(method)).values()
        if getattr(objectives, getattr(value, "__name__", ""), None) is value
        and inspect.isfunction(value)
    }
    return [
        f"{{py:func}}`{key}() <unlabeled.objectives.{key}>`: {paragraph}"
        for key, function in used.items()
        for paragraph in paragraphs(function)[1:]
        if COMPARED.search(paragraph)
    ]


def facts(method: Any) -> str:
    """A list of what a method learns from and with."""
    if not inspect.isclass(method):
        return ""
    cls: Any = method
    labels = "not needed"
    if cls.supervised:
        share = cls.recipe.labeled_fraction
        labels = f"of some samples, {share:.0%} of each batch" if share else "of all samples"
    encoders = [f"`{cls.encoder_for(kind)}` for {kind.noun}" for kind in cls.modality]
    rows = {
        "learns from": "; ".join(KINDS[kind] for kind in cls.modality),
        "encoder": ", ".join(encoders) + ", or any other that fits (`--encoder`)",
        "labels": labels,
        "each stage by itself": "with `--local`" if cls.by_stage else "no",
        "several processes": cls.inexact_across_processes or "same gradient as one process",
    }
    if "paper" in cls.presets:
        rows["settings of the paper"] = "`--preset paper`"
    return "\n".join(f"- **{key}**: {value}" for key, value in rows.items())


def options(method: Any) -> str:
    """A table of the flags of a method."""
    texts = arguments(method)
    parameters = inspect.signature(method).parameters.values()
    rows = [
        (f"`--{p.name.replace('_', '-')}`", default(p), choices(p.annotation) + texts[p.name])
        for p in parameters
        if p.name not in NOT_SHOWN
    ]
    if not rows:
        return "It has no options of its own."
    return f":::{{container}} options\n{table(['option', 'default', 'meaning'], rows)}\n:::"


def arguments(of: Any) -> dict[str, str]:
    """Help of each argument, from the docstring."""
    text = (inspect.getdoc(of) or "").partition("Args:\n")[2].partition("\n\n")[0]
    matches = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", text, re.MULTILINE)
    return {name: " ".join(help_.split()) for name, help_ in matches}


def default(parameter: inspect.Parameter) -> str:
    """The default of an argument; a dash where its help says what applies."""
    value = parameter.default
    if value is None or value is parameter.empty or value == "":
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    return shown(value)


def choices(annotation: Any) -> str:
    """The words among which an option chooses, if it does."""
    if isinstance(annotation, str):  # of modules with postponed annotations
        words = re.findall(r"'(\w+)'", annotation) if annotation.startswith("Literal[") else []
    else:
        words = [word for word in get_args(annotation) if get_origin(annotation) is Literal]
    named = ", ".join(f"`{word}`" for word in words if isinstance(word, str))
    return f"{named}: " if named else ""


def recipe(cls: Any) -> str:
    """A table of hyperparameters: the defaults, those of data sets, and those of the paper."""
    base = {f.name: getattr(cls.recipe, f.name) for f in dataclasses.fields(Recipe)}
    usual = Recipe()
    always = ("epochs", "batch_size", "optimizer", "lr", "schedule", "weight_decay")
    arguments_of = {
        name: p.default
        for name, p in inspect.signature(cls).parameters.items()
        if p.default is not p.empty
    }
    columns: dict[str, dict[str, Any]] = {"default": base}
    for name, other in cls.recipes.items():
        same = next((title for title in columns if columns[title] == other), "")
        if same:
            columns[f"{same}, `{name}`"] = columns.pop(same)
        else:
            columns[f"`{name}`"] = other
    if "paper" in cls.presets:
        columns["`--preset paper`"] = cls.presets["paper"]
    keys = [k for k in base if k in always or base[k] != getattr(usual, k)]
    keys += [
        k for values in columns.values() for k in values if k not in base or values is not base
    ]
    first = arguments_of | base
    rows = []
    for key in dict.fromkeys(keys):
        cells = (shown((first if v is base else v).get(key)) for v in columns.values())
        rows.append((f"`--{key.replace('_', '-')}`", *cells))
    return f"{table(['', *columns], rows)}\n\n{RECIPE}"


RECIPE = "Empty cells are as in the first column. Learning rates are of the batch sizes shown."


def shown(value: Any) -> str:
    """A value as it is written in a table."""
    if value is None:
        return ""
    if isinstance(value, Augmentation):
        fields = dataclasses.fields(value)  # type: ignore[arg-type]
        other = {f.name: getattr(value, f.name) for f in fields}
        options = ", ".join(
            f"{f.name}={other[f.name]!r}" for f in fields if other[f.name] != f.default
        )
        return f"`{type(value).__name__}({options})`"
    if isinstance(value, dict):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items()) or "–"
    if isinstance(value, tuple | list):
        return ", ".join(map(shown, value)) or "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(head: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def families() -> dict[str, list[str]]:
    """Names of methods by family, as in the README's table; unnamed ones are the last family."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Methods\n")[2]
    rows = re.findall(r"^\| ([^|`]+) \| (`.*) \|$", text.partition("\n## ")[0], re.MULTILINE)
    every = registry.listing("methods")
    groups = {
        family: [name for name in re.findall(r"`(\w+)`", names) if name in every]
        for family, names in rows
    }
    named = {name for names in groups.values() for name in names}
    other = [name for name in every if name not in named]
    return {family: names for family, names in (groups | {"other": other}).items() if names}


def index(text: str) -> str:
    """The page of all methods: a table and the pages of each family.

    Args:
        text: of docs/methods/index.md.
    """
    listed = registry.listing("methods")
    parts = [text.rstrip()]
    for family, names in families().items():
        title = family[0].upper() + family[1:]
        rows = [(f"[`{name}`]({name}.md)", escaped(listed[name])) for name in names]
        tree = "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```"])
        parts += [f"## {title}", table(["method", "what it does"], rows), tree]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    written = (ROOT / "docs" / "methods" / f"{sys.argv[1]}.md").read_text(encoding="utf-8")
    print(page(sys.argv[1], written))
