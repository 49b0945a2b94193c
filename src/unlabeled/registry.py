"""Finds methods, encoders, data sets, objectives and studies by the files that hold them.

Nothing is registered by hand: `methods/foo.py` with one public `Method`, or `pipelines/foo.py` with
a function `foo`, is the method `foo`; `data/sets/foo.py` with a function `load` is the data set
`foo`; a function annotated `-> Encoder` in `encoders/` is an encoder. Listing reads the source
without importing it, so that it stays quick.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from unlabeled.errors import UserError, notice

FOLDERS = {
    "methods": ("methods", "pipelines"),
    "encoders": ("encoders",),
    "datasets": ("data/sets", "data/readers"),
    "objectives": ("objectives",),
    "studies": ("studies",),
}
KINDS = tuple(FOLDERS)
SINGULAR = {"studies": "study"}
_ROOT = Path(__file__).parent


def listing(kind: str) -> dict[str, str]:
    """Every name of a kind with the first line of its docstring, sorted by name."""
    return {name: line for name, (_, line) in sorted(_index(kind).items())}


def find(kind: str, name: str) -> Any:
    """The method (a class, or a function that trains several), encoder function, data set module or
    objective of that name.

    A method, encoder or data set of the user's own is named by its file: `./foo.py:Foo`, or
    `./foo.py` where the file has just one.

    Raises:
        UserError: there is no such name; the message lists those that there are.
    """
    if name.endswith(".py") or ".py:" in name:
        path, _, attribute = name.partition(".py:")
        return _pick(kind, _import_file(Path(path.removesuffix(".py") + ".py")), attribute)
    index = _index(kind)
    if name not in index:
        raise UserError(
            f"there is no {SINGULAR.get(kind, kind[:-1])} called '{name}'; "
            f"choose one of {', '.join(sorted(index))}"
            + (", or name your own as ./file.py:Class" if kind != "objectives" else "")
        )
    module = importlib.import_module(index[name][0])
    return _pick(kind, module, "" if kind in ("methods", "datasets", "studies") else name)


def say_which(kind: str, name: str) -> None:
    """Say that a name of ours is meant, where a file or folder here is called so, too."""
    own, _, place = name.partition(":") if kind == "datasets" else (name, "", "")
    if own not in _index(kind):
        return
    alike = [name, own, f"{own}.py"] if kind == "datasets" else [f"{own}.py"]
    here = next((path for path in alike if Path(path).exists()), None)
    if here and Path(here) not in (Path(place), *Path(place).parents):
        what = "data set" if kind == "datasets" else SINGULAR.get(kind, kind[:-1])
        other = "folder" if Path(here).is_dir() else "file"
        message = f"{own} is the {what} of that name, not the {other} {here}; that is ./{here}"
        notice(message)


def _index(kind: str) -> dict[str, tuple[str, str]]:
    """Name -> (module, first line of the docstring), from the source alone."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(p for folder in FOLDERS[kind] for p in (_ROOT / folder).glob("[!_]*.py")):
        module = ".".join(("unlabeled", *path.relative_to(_ROOT).with_suffix("").parts))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if kind in ("methods", "datasets"):
            named = (getattr(n, "name", None) == path.stem for n in tree.body)
            if any(_is_public(kind, n) for n in tree.body) or (kind == "methods" and any(named)):
                found[path.stem] = module, _first_line(tree)
        if kind == "studies" and "EXPERIMENTS" in map(_assigned, tree.body):
            found[path.stem] = module, _first_line(tree)
        for node in tree.body:
            if kind in ("encoders", "objectives") and _is_public(kind, node):
                found[node.name] = module, _first_line(node)  # type: ignore[attr-defined]
    return found


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


def _assigned(node: ast.stmt) -> str:
    """The name that a statement assigns to, if it is one."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    return target.id if isinstance(target, ast.Name) else ""


def _first_line(node: Any) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"there is no file {path}; name an existing one as ./file.py:Class")
    name = f"unlabeled_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _stem(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2].removeprefix("unlabeled_user_")


def _pick(kind: str, module: ModuleType, attribute: str) -> Any:
    """What a module offers of a kind: the attribute named, else the only one that fits."""
    from unlabeled.core import Method

    if attribute:
        if not hasattr(module, attribute):
            raise UserError(f"{module.__file__} has no '{attribute}'; name what it defines")
        found = getattr(module, attribute)
        if kind == "methods" and not (inspect.isclass(found) and issubclass(found, Method)):
            raise UserError(f"{attribute} of {module.__file__} is no subclass of unlabeled.Method")
        return found
    if kind in ("datasets", "studies"):
        return module
    fitting = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and not name.startswith("_")
        and value.__module__ == module.__name__
        and (issubclass(value, Method) if kind == "methods" else True)
    ]
    if kind == "methods" and not fitting and callable(phases := vars(module).get(_stem(module))):
        return phases
    if len(fitting) != 1:
        raise UserError(
            f"{module.__file__} defines {len(fitting)} public classes that could be meant; "
            "name one as ./file.py:Class"
        )
    return fitting[0]
