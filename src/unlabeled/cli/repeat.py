"""Flags of `unlabeled train` from the config.json of a run, to repeat its training."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from unlabeled import registry
from unlabeled.cli.parsing import augmentations_by_name
from unlabeled.data.open import is_program
from unlabeled.errors import UserError, notice
from unlabeled.runs.safety import read_json

OF_DATA = {"classes", "names", "partner_shape", "vocabulary", "word_starts", "shape", "bank_size"}
"""Arguments of methods and encoders that follow from the data."""
WITH_DATA = {"labels_from", "groups_from", "test", "value_range"}
"""Flags that a new --data makes meaningless."""
PLAIN = (
    *("data", "labels_from", "groups_from", "test", "size", "decoding", "labels", "local", "seed"),
    *("tile", "max_pixels"),
    *("preset", "precision", "accumulate", "gradient_checkpointing", "compile", "devices", "nodes"),
)
"""Keys of the record that are flags."""


def expand(argv: list[str]) -> tuple[list[str], dict[str, Any] | None]:
    """Replace the record of a run, given as `--config`, by the flags that repeat its training.

    Flags on the command line override the record's. Other configuration files are unchanged.

    Args:
        argv: the command line after `unlabeled train`.

    Returns:
        the command line, and the record if there is one.

    Raises:
        UserError: the method named is not the run's, or an argument cannot be had from a file.
    """
    words = [part for word in argv for part in _split(word)]
    if "--config" not in words[:-1]:
        return argv, None
    at = words.index("--config")
    path = Path(words[at + 1]).expanduser()
    if not _is_record(path):
        return argv, None
    record = read_json(path)
    rest = words[:at] + words[at + 2 :]
    flags = {w[2:].partition("=")[0].replace("-", "_") for w in rest if w.startswith("--")}
    named = rest.pop(0) if rest and not rest[0].startswith("-") else None
    method = _method(path, record, named)
    _refuse_unrecorded(path, record, flags)
    settings = json.dumps(_settings(path, record, registry.find("methods", method), flags))
    return [method, f"--config={settings}", *rest], record


def say_other(record: dict[str, Any], config: dict[str, Any], given_data: bool) -> None:
    """Say why the weights of a repeated training may not be those of the first, byte for byte.

    Args:
        record: of the first.
        config: of the repeated training, with `versions`.
        given_data: whether other data was given.
    """
    reasons = []
    theirs, ours = record.get("versions", {}), config.get("versions", {})
    other = [k for k in ours if k != "cores" and theirs.get(k) != ours[k]]
    reasons += [f"{k} was {theirs.get(k, 'another')} and is {ours[k]}" for k in other]
    if record.get("hardware", config.get("hardware")) != config.get("hardware"):
        was, now = (", ".join(map(str, c.get("hardware", []))) for c in (record, config))
        reasons.append(f"the hardware was {was} and is {now}")
    if not given_data and record.get("images") != config.get("images"):
        images = record.get("images"), config.get("images")
        reasons.append("the data had {} training samples and has {}".format(*images))
    reason = record.get("stopped_by", "epochs")
    if reason not in ("epochs", "max_steps"):
        reasons.append(f"the first was stopped by {reason}" if reason else "the first did not end")
    if any(entry.get("changed") for entry in record.get("resumed", [])):
        reasons.append("the first was resumed with other settings")
    if reasons:
        notice(f"the weights may differ from those of the first: {'; '.join(reasons)}")


def _split(word: str) -> list[str]:
    """`--config=FILE` as two words."""
    flag, equals, value = word.partition("=")
    return [flag, value] if flag == "--config" and equals else [word]


def _is_record(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"method", "recipe", "versions"} <= set(content)


def _method(path: Path, record: dict[str, Any], named: str | None) -> str:
    """The name of the method: the record's, or the same file of the user's own, named again."""
    method = str(record["method"])
    known = registry.listing("methods")
    if method in known and "method" not in record.get("in_memory", []):
        if named not in (None, method):
            raise UserError(
                f"{path} is of a training by {method}, not by {named}; omit the method, or name "
                f"{method}"
            )
        if not inspect.isclass(registry.find("methods", method)):
            raise UserError(
                f"{method} is several trainings, which {path} cannot repeat; use its command: "
                f"{record.get('command', f'unlabeled train {method}')}"
            )
        return method
    if named is None or not is_program(named):  # no code is run because a file says so
        own = method if is_program(method) else "./file.py:Class"
        raise UserError(
            f"the method of {path}, {method}, is not one of the library's; name its file: "
            f"unlabeled train {own} --config {path}"
        )
    if is_program(method) and _file_name(named) != _file_name(method):
        raise UserError(f"{path} is of a training by {method}, not by {named}; name that file")
    return named


def _file_name(program: str) -> str:
    return Path(program.partition(".py")[0]).name


def _refuse_unrecorded(path: Path, record: dict[str, Any], flags: set[str]) -> None:
    """Refuse what was an object in memory, and files of code, unless they are given again."""
    unknown = set(record.get("in_memory", [])) - {"method"}
    if record.get("data") is None:
        unknown.add("data")
    if "encoder_args" in unknown and "encoder" in flags:
        unknown.discard("encoder_args")
    for name in sorted(unknown - flags - (WITH_DATA if "data" in flags else set())):
        flag = f"--{name.replace('_', '-')}"
        raise UserError(
            f"{name} was an object in memory, which {path} does not hold; give {flag}, or train it "
            "in Python again"
        )
    for name in ("data", "test", "labels_from", "groups_from", "encoder"):
        value = record.get(name)
        if name in WITH_DATA and "data" in flags:
            continue
        if isinstance(value, str) and is_program(value) and name not in flags:
            if name == "encoder" and (record.get("init") or "init" in flags):
                continue
            raise UserError(
                f"the {name.replace('_', ' ')} of {path} is loaded by a file; give it as "
                f"--{name.replace('_', '-')} {value}"
            )


def _settings(path: Path, record: dict[str, Any], cls: Any, flags: set[str]) -> dict[str, Any]:
    """What jsonargparse reads as a file of settings, without what is given otherwise."""
    settings = {name: record.get(name) for name in PLAIN} | record.get("settings", {})
    settings = {name: value for name, value in settings.items() if value is not None}
    if "labels" in settings:
        settings["labels"] = str(settings["labels"])
    settings |= record["recipe"]
    if record.get("value_range") is not None:
        settings["value_range"] = ",".join(map(str, record["value_range"]))
    if "init" in flags or "encoder" in flags:
        pass
    elif record.get("init"):
        settings["init"] = record["init"]
    else:
        args = record.get("encoder_args") or {}
        settings["encoder"] = record["encoder"]
        settings["encoder_args"] = {k: v for k, v in args.items() if k not in OF_DATA}
    accepted = inspect.signature(cls).parameters
    settings |= {
        name: _argument(path, name, value)
        for name, value in record["method_args"].items()
        if name in accepted and name not in OF_DATA
    }
    dropped = flags | (WITH_DATA if "data" in flags else set())
    dropped |= {"lr"} if "optimizer" in flags else set()  # it is that of another
    return {name: value for name, value in settings.items() if name not in dropped}


def _argument(path: Path, name: str, value: Any) -> Any:
    """An argument of a method; augmentations as jsonargparse writes them."""
    if isinstance(value, list):
        return [_argument(path, name, item) for item in value]
    if not isinstance(value, dict) or "view" not in value:
        return value
    kinds = augmentations_by_name()
    if value["view"] not in kinds:
        raise UserError(
            f"{name} of {path} is {value['view']}, which is not an augmentation of the library; "
            f"give --{name.replace('_', '-')}"
        )
    kind = kinds[value["view"]]
    options = {k: _argument(path, name, v) for k, v in value.items() if k != "view"}
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": options}
