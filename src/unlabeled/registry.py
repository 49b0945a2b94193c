"""Registry of methods, encoders, data sets, objectives and studies, filled from their files.

Nothing is registered by hand: `methods/foo.py` with one public `Method`, or `pipelines/foo.py` with
a function `foo`, is the method `foo`; `data/sets/foo.py` with a function `load` is the data set
`foo`; a function annotated `-> Encoder` in `encoders/` is an encoder. Listing parses the source
without importing it, so it is fast; each version of a file is parsed once.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from unlabeled.errors import UserError, notice, suggest

FOLDERS = {
    "methods": ("methods", "pipelines"),
    "encoders": ("encoders",),
    "datasets": ("data/sets", "data/readers"),
    "objectives": ("objectives",),
    "augmentations": ("augmentations",),
    "metrics": ("evaluation/metrics",),
    "studies": ("studies",),
}
KINDS = tuple(FOLDERS)
_ROOT = Path(__file__).parent


def singular(kind: str) -> str:
    """The word for one of a kind: "methods" -> "method"."""
    return {"studies": "study", "datasets": "data set"}.get(kind, kind[:-1])


def listing(kind: str) -> dict[str, str]:
    """All names of a kind, sorted, each with the first line of its docstring."""
    return {name: line for name, (_, line) in sorted(_index(kind).items())}


def find(kind: str, name: str) -> Any:
    """Get a method, encoder, data set, objective or study by name.

    Args:
        kind: one of `KINDS`.
        name: a name in `listing(kind)`; or `./foo.py:Foo` for one of the user's own, or `./foo.py`
            if the file defines just one.

    Returns:
        A method's class (or the function of a method that is several trainings), the function of an
        encoder or objective, the module of a data set or study.

    Raises:
        UserError: the name is unknown; the message suggests similar ones.
    """
    if name.endswith(".py") or ".py:" in name:
        path, _, attribute = name.partition(".py:")
        return _pick(kind, _import_file(Path(path.removesuffix(".py") + ".py")), attribute)
    index = _index(kind)
    if name not in index:
        other = f"`unlabeled list {kind}` shows all"
        if kind != "objectives":
            other += ", or give one that you wrote as ./file.py:Class"
        raise UserError(f"there is no {singular(kind)} '{name}'; {suggest(name, index, other)}")
    module = importlib.import_module(index[name][0])
    return _pick(kind, module, "" if kind in ("methods", "datasets", "studies") else name)


def say_which(kind: str, name: str) -> None:
    """Warn that a name means the library's own when a file or folder here has the same name."""
    own, _, folder = name.partition(":") if kind == "datasets" else (name, "", "")
    if own not in _index(kind):
        return
    candidates = [name, own, f"{own}.py"] if kind == "datasets" else [f"{own}.py"]
    here = next((path for path in candidates if Path(path).exists()), None)
    if here and Path(here) not in (Path(folder), *Path(folder).parents):
        other = "folder" if Path(here).is_dir() else "file"
        notice(
            f"{own} means the {singular(kind)}, not the {other} {here}; write ./{here} for that one"
        )


def _index(kind: str) -> dict[str, tuple[str, str]]:
    """Name -> (module, first line of the docstring), from the source alone."""
    index: dict[str, tuple[str, str]] = {}
    for path in sorted(p for folder in FOLDERS[kind] for p in (_ROOT / folder).glob("[!_]*.py")):
        module = ".".join(("unlabeled", *path.relative_to(_ROOT).with_suffix("").parts))
        stamp = path.stat()
        names = _names_in(kind, path, stamp.st_mtime_ns, stamp.st_size)
        index |= {name: (module, line) for name, line in names.items()}
    return index


@functools.cache
def _names_in(kind: str, path: Path, modified: int, size: int) -> dict[str, str]:
    """Names of a kind that a version of a file defines, with the first line of their docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if kind in ("augmentations", "metrics"):
        classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
        named = ((_listed_as(kind, node), _first_line(node)) for node in classes)
        return {name: line for name, line in named if name}
    if kind in ("encoders", "objectives"):
        public = [node for node in tree.body if _is_public(kind, node)]
        return {node.name: _first_line(node) for node in public}  # type: ignore[attr-defined]
    if kind == "studies":
        fits = "EXPERIMENTS" in map(_assigned, tree.body)
    else:
        fits = any(_is_public(kind, node) for node in tree.body)
        if kind == "methods":
            fits |= any(getattr(node, "name", None) == path.stem for node in tree.body)
    return {path.stem: _first_line(tree)} if fits else {}


def _is_public(kind: str, node: ast.stmt) -> bool:
    name = getattr(node, "name", "_")
    if kind == "methods":
        return isinstance(node, ast.ClassDef) and not name.startswith("_")
    if not isinstance(node, ast.FunctionDef) or name.startswith("_"):
        return False
    if kind == "datasets":
        return name == "load"
    returns = ast.unparse(node.returns) if node.returns else ""
    return returns == ("Encoder" if kind == "encoders" else "Float[Tensor, '']")  # a scalar


def _listed_as(kind: str, node: ast.ClassDef) -> str:
    """The name of an augmentation's class, or the key of a metric; empty for other classes."""
    if kind == "augmentations":
        return node.name if "Augmentation" in map(ast.unparse, node.bases) else ""
    keys = [child for child in node.body if _assigned(child) == "key"]
    key = keys[0].value if keys and isinstance(keys[0], ast.Assign) else None
    return str(key.value) if isinstance(key, ast.Constant) else ""


def _assigned(node: ast.stmt) -> str:
    """The name that a statement assigns to, or an empty string."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    return target.id if isinstance(target, ast.Name) else ""


def _first_line(node: Any) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"the file {path} does not exist; give an existing one as ./file.py:Class")
    name = f"unlabeled_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _pick(kind: str, module: ModuleType, attribute: str) -> Any:
    """The attribute of a module, or without one, the only object in it that fits the kind."""
    from unlabeled.core import Method

    if attribute:
        if not hasattr(module, attribute):
            names = [name for name, value in vars(module).items() if inspect.isclass(value)]
            advice = suggest(attribute, names, "check the name after the colon")
            raise UserError(f"{module.__file__} defines no '{attribute}'; {advice}")
        value = getattr(module, attribute)
        if kind == "methods" and not (inspect.isclass(value) and issubclass(value, Method)):
            raise UserError(
                f"{attribute} in {module.__file__} is not a method; make it a subclass of "
                "unlabeled.Method"
            )
        return value
    if kind in ("datasets", "studies"):
        return module
    classes = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and not name.startswith("_")
        and value.__module__ == module.__name__
        and (kind != "methods" or issubclass(value, Method))
    ]
    stem = module.__name__.rpartition(".")[2].removeprefix("unlabeled_user_")
    if kind == "methods" and not classes and callable(function := vars(module).get(stem)):
        return function
    if len(classes) != 1:
        what = "subclasses of unlabeled.Method" if kind == "methods" else "public classes"
        raise UserError(
            f"{module.__file__} defines {len(classes)} {what}; name one as ./file.py:Class"
        )
    return classes[0]
