"""Dependencies point one way: DESIGN of the package, held by reading every import.

Catches an import cycle (deferred imports and TYPE_CHECKING included), a lower layer that
imports a higher one, a private name used by another module, and files that grow too long.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import unlabeled

ROOT = Path(unlabeled.__file__).parent
LAYERS = [
    {"errors", "version", "modality"},
    {"parallel", "utils", "augmentations", "objectives"},
    {"core", "registry"},
    {"data", "encoders", "methods"},
    {"runs"},
    {"training"},
    {"evaluation"},
    {"pipelines", "sklearn", "report"},
    {"studies"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
RANK |= {
    "evaluation.knn": 3,
    "evaluation.probe": 3,
}  # know features only; training measures by them
METHODS_MAY_IMPORT = {
    *("core", "augmentations", "encoders", "objectives", "parallel"),
    *("errors", "modality", "utils"),
}
LONGEST = 450
LONG = {"studies/lectures.py"}


def modules() -> dict[str, Path]:
    """By dotted name below the package."""
    paths = {p.relative_to(ROOT): p for p in ROOT.rglob("*.py")}
    return {
        ".".join(p.with_suffix("").parts).removesuffix(".__init__"): q for p, q in paths.items()
    }


MODULES = modules()


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import of this package in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            package, _, base = (node.module or "").partition(".")
            if package == "unlabeled":
                for alias in node.names:
                    inner = f"{base}.{alias.name}".lstrip(".")
                    yield (inner, "") if inner in MODULES else (base or "__init__", alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("unlabeled."):
                    yield alias.name.removeprefix("unlabeled."), ""


GRAPH = {name: {target for target, _ in imports(path)} - {name} for name, path in MODULES.items()}


def rank(name: str) -> int | None:
    """The layer of a module: its own, else that of its folder."""
    return RANK.get(name, RANK.get(name.split(".")[0]))


def test_no_module_imports_itself_by_way_of_others():
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way, name))
        if name not in done:
            for target in GRAPH.get(name, ()):
                visit(target, (*way, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


def test_a_layer_imports_those_below_it_only():
    wrong = [
        f"{name} imports {target}"
        for name, targets in GRAPH.items()
        for target in targets
        if (own := rank(name)) is not None and rank(target) > own
    ]
    assert wrong == []


def test_methods_know_the_parts_they_are_made_of_and_nothing_else():
    wrong = [
        f"{name} imports {target}"
        for name, targets in GRAPH.items()
        for target in targets
        if name.startswith("methods.") and target.split(".")[0] not in METHODS_MAY_IMPORT
    ]
    assert wrong == []


def test_no_private_name_is_imported():
    wrong = [
        f"{module} imports {target}.{name}".rstrip(".")
        for module, path in MODULES.items()
        for target, name in imports(path)
        if (name.startswith("_") and not name.startswith("__"))
        or any(part.startswith("_") for part in target.split(".") if part != "__init__")
    ]
    assert wrong == []


def test_files_and_the_top_of_the_package_stay_small():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in MODULES.values()}
    assert {name: n for name, n in lengths.items() if n > LONGEST and name not in LONG} == {}
    assert len(list(ROOT.glob("*.py"))) <= 8
