"""What of a run is published: its record without anything private, and its model card."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from typing import Any

from unlabeled import registry
from unlabeled.errors import UserError, plural
from unlabeled.modality import Audio, EncoderInput, Images, Series, Table, Text
from unlabeled.version import __version__

WORD = re.compile(r"[A-Za-z0-9_]{1,40}")
"""Settings that are words, such as "one_cycle"; anything with a slash could be a path."""
LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,60}")
"""Identifiers of licenses, as the hub and SPDX write them."""
BASELINE = re.compile(r"[A-Za-z0-9_ ,-]{1,40}")
NAMED = re.compile(r"(timm|hf|unlabeled):[A-Za-z0-9_]+[A-Za-z0-9_./@-]*")
"""Public weights that a training went on from; folders are not among them."""
PRIVATE = {"teacher"}
"""Arguments of methods that name a run of the user's."""
PLAIN = ("images", "seed", "labels", "preset", "precision", "size")
VERSIONS = ("unlabeled", "python", "torch")
VERSION = re.compile(r"[0-9A-Za-z.+]{1,40}")
COUNTS = ("n_train", "n_test", "n_test_groups")


def public_record(config: dict[str, Any], evaluation: dict[str, Any] | None) -> dict[str, Any]:
    """What may be known of a training and its evaluation.

    Names of data, methods and encoders are kept where they are the library's own, and settings
    where they are numbers or words: no path, host, commit, or name that the user chose.

    Args:
        config: of the run, or such a record, a stranger's perhaps.
        evaluation: as `unlabeled evaluate` writes it, if there is one.
    """
    method = config.get("method")
    is_ours = method in registry.listing("methods")
    record: dict[str, Any] = {
        "method": method if is_ours else "own method",
        "method_args": _plain(config.get("method_args")) if is_ours else {},
        "data": _known("datasets", config.get("data")),
        "test": _known("datasets", config.get("test")),
        "encoder": _known("encoders", config.get("encoder")) or _initial(config.get("encoder")),
        "encoder_args": _plain(config.get("encoder_args")),
        "init": _initial(config.get("init")),
        "recipe": _plain(config.get("recipe")),
        "versions": {},
    }
    for name in PLAIN:
        if _is_plain(value := config.get(name)):
            record[name] = value
    versions = config.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    for name in VERSIONS:
        if VERSION.fullmatch(number := str(versions.get(name, ""))):
            record["versions"][name] = number
    record["command"] = public_command(config.get("command"), record)
    record["evaluation"] = _public_evaluation(
        config.get("evaluation") if evaluation is None else evaluation
    )
    return record


def _known(kind: str, name: Any) -> str | None:
    return name if isinstance(name, str) and name in registry.listing(kind) else None


def _initial(name: Any) -> str | None:
    if name is None:
        return None
    is_public = isinstance(name, str) and NAMED.fullmatch(name) and ".." not in name
    return str(name) if is_public else "own weights"


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int | None) or (isinstance(value, str) and bool(WORD.fullmatch(value)))


def _plain(values: Any) -> dict[str, Any]:
    """The entries that are numbers or words, in lists and dicts as well."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return _plain(value)
        if isinstance(value, list | tuple):
            return [
                kept(item) for item in value if isinstance(item, dict | list) or _is_plain(item)
            ]
        return value

    entries = values.items() if isinstance(values, dict) else ()
    return {
        key: kept(value)
        for key, value in entries
        if isinstance(key, str)
        and WORD.fullmatch(key)
        and key not in PRIVATE
        and (isinstance(value, dict | list | tuple) or _is_plain(value))
    }


def public_command(command: Any, record: dict[str, Any]) -> str | None:
    """The command with capitals in the place of what the user named, such as `--data DATA`."""
    if not isinstance(command, str) or not command.startswith("unlabeled "):
        return None
    known = set(_words_in(record)) | {"unlabeled", "train", "true", "false"}
    try:
        words = shlex.split(command)[:200]
    except ValueError:
        return None
    shown, flag = [], ""
    for word in words:
        if match := re.fullmatch(r"(--[A-Za-z][A-Za-z0-9_.-]*)(?:=(.*))?", word, re.DOTALL):
            name, value = match.groups()
            flag = re.sub(r"\W", "_", name[2:]).upper()
            own = "" if value is None else "=" + (value if _is_shown(value, known) else flag)
            shown.append(name + own)
        else:
            shown.append(word if _is_shown(word, known) else flag or "METHOD")
    return " ".join(shown)


def _is_shown(word: str, known: set[str]) -> bool:
    return word in known or re.fullmatch(r"-?[0-9][0-9.,e+-]*", word) is not None


def _words_in(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [word for item in items for word in _words_in(item)]
    return [value] if isinstance(value, str) else []


def _public_evaluation(result: Any) -> dict[str, Any] | None:
    """Figures with intervals; names of data and target where the data is the library's own."""
    if not isinstance(result, dict) or not (metrics := _figures(result.get("metrics"))):
        return None
    data, tested = (_known("datasets", result.get(key)) for key in ("data", "test_data"))
    target, baselines = result.get("target"), result.get("baselines")
    is_named = data and isinstance(target, str) and WORD.fullmatch(target)
    counts = {key: result[key] for key in COUNTS if type(result.get(key)) is int}
    others = baselines.items() if isinstance(baselines, dict) else ()
    return {
        "data": data,
        "test_data": tested,
        "target": target if is_named else None,
        **counts,
        "metrics": metrics,
        "baselines": {
            name: _figures(figures)
            for name, figures in others
            if isinstance(name, str) and BASELINE.fullmatch(name)
        },
    }


def _figures(metrics: Any) -> dict[str, dict[str, float | None]]:
    known = registry.listing("metrics")
    items = metrics.items() if isinstance(metrics, dict) else ()
    return {
        key: {end: _number(value.get(end)) for end in ("value", "low", "high")}
        for key, value in items
        if isinstance(value, dict)
        and any(str(key).startswith(name) for name in known)
        and WORD.fullmatch(str(key))
        and _number(value.get("value")) is not None
    }


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) and math.isfinite(value) else None


def check_license(name: str | None) -> None:
    """Raise UserError where it is no identifier of a license."""
    if name is not None and not LICENSE.fullmatch(name):
        raise UserError(
            f"license is '{name[:60]}'; give an identifier, such as apache-2.0, mit or cc-by-4.0"
        )


def model_card(
    title: str,
    record: dict[str, Any],
    inputs: dict[str, Any],
    modality: EncoderInput,
    library: str,
    license: str | None = None,
    classes: list[str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """README.md of a published encoder, in Markdown with the hub's front matter.

    Args:
        title: the repository, or the name of the folder.
        record: from `public_record`.
        inputs: as in encoder.json.
        modality: what the encoder receives.
        library: that can load the weights beside this one: timm or transformers; else unlabeled.
        license: its identifier, as the user gave it.
        classes: of the classifier, if there is one.
        notes: sentences to add to the limits.
    """
    sections = {
        "": _lead(record, inputs, modality),
        "Use": _use(title, library, modality, classes),
        "Data": _data(record, modality),
        "Training": _training(record),
        "Evaluation": _evaluation(record["evaluation"]),
        "Limits": _limits(record, modality, notes),
        "License": f"`{license}`, as the author of the weights states; not of the training data."
        if license
        else "The author has stated none. Ask before you use the weights.",
    }
    body = "\n\n".join(f"## {head}\n\n{text}" if head else text for head, text in sections.items())
    return f"{_front_matter(record, library, modality, license)}\n# {title}\n\n{body}\n"


def _front_matter(
    record: dict[str, Any], library: str, modality: EncoderInput, license: str | None
) -> str:
    task = "image-feature-extraction" if isinstance(modality, Images) else "feature-extraction"
    method = record["method"].replace("_", "-").replace(" ", "-")
    lines = [f"library_name: {library}", f"pipeline_tag: {task}", "tags:"]
    lines += [f"- {tag}" for tag in ("unlabeled", "self-supervised-learning", method)]
    lines += [f"license: {license}"] if license else []
    return "\n".join(["---", *lines, "---", ""])


def _lead(record: dict[str, Any], inputs: dict[str, Any], modality: EncoderInput) -> str:
    title = registry.listing("methods").get(record["method"], "").rstrip(".")
    what = f"`{record['method']}` ({title})" if title else "a method of its author's own"
    encoder, version = inputs["encoder"], record["versions"].get("unlabeled", __version__)
    return (
        f"An encoder of {modality.noun}, `{encoder}` with {inputs['dim']:,} features, trained by "
        f"{what} with the Python package unlabeled {version}."
    )


def _use(title: str, library: str, modality: EncoderInput, classes: list[str] | None) -> str:
    name = f"hf:{title}" if "/" in title else title  # a repository, a folder, or unlabeled:NAME
    noun = {Audio: "waves", Table: "table"}.get(type(modality), modality.noun)
    lines = ["```python", "import unlabeled as ul", "", f'run = ul.load("{name}")']
    lines += [f"features = run.embed({noun})  # float32 (N, dim)"]
    lines += [f"classes = run.predict({noun})"] if classes else []
    text = "\n".join([*lines, "```"])
    source = f"hf-hub:{title}" if "/" in title else f"local-dir:{title}"
    if library == "timm":
        text += (
            "\n\nThe weights also load into timm, which gives the same features of images in "
            "[0, 1] after the normalization in `config.json`:\n\n```python\nimport timm\n\n"
            f'network = timm.create_model("{source}", pretrained=True)\n```'
        )
    elif library == "transformers":
        text += (
            "\n\nThe weights also load into transformers:\n\n```python\nfrom transformers import "
            f'AutoModel\n\nnetwork = AutoModel.from_pretrained("{title}")\n```'
        )
    else:
        text += (
            "\n\nNeither timm nor transformers has this network: install unlabeled to load it. "
            "`unlabeled export` writes it as ONNX or TorchScript, which need no such package."
        )
    if classes:
        text += f"\n\nA classifier of {len(classes)} classes is included."
    return text


def _data(record: dict[str, Any], modality: EncoderInput) -> str:
    number = record.get("images") or 0
    samples = f"{plural(number, modality.noun)}" if number else modality.noun.capitalize()
    where = "of data that the author has not named"
    if record["data"]:
        about = registry.listing("datasets")[record["data"]].rstrip(".")
        where = f"of the data set `{record['data']}` ({about})"
    labels = record.get("labels")
    used = f" Labels used in training: {labels}." if labels else ""
    return f"{samples} {where}; the encoder receives {_received(modality)}.{used}"


def _received(modality: EncoderInput) -> str:
    if isinstance(modality, Images):
        height, width = modality.size
        return f"{plural(modality.channels, 'channel')} of {height}×{width} pixels"
    if isinstance(modality, Audio):
        seconds = modality.length / modality.sample_rate
        return f"up to {seconds:.2g} s at {modality.sample_rate:,} Hz"
    if isinstance(modality, Series):
        return f"{plural(modality.channels, 'channel')} of {modality.length:,} timestamps"
    if isinstance(modality, Table):
        return f"{plural(len(modality.columns), 'column')}, {modality.size[1]:,} values"
    rows = f"{modality.sentences} sentences of " if modality.sentences > 1 else ""
    return f"{rows}up to {modality.length:,} of {modality.vocabulary:,} tokens"


def _training(record: dict[str, Any]) -> str:
    command = record["command"]
    made = f"```\n{command}\n```" if command else "Trained from a program in Python."
    settings = {**record["recipe"], **record["method_args"]}
    settings |= {name: record.get(name) for name in ("init", "precision")}
    rows = [f"| {name} | {_cell(value)} |" for name, value in settings.items() if _is_set(value)]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    table = "\n".join(["| setting | value |", "|---|---|", *rows])
    return f"{made}\n\n{table}" + (f"\n\nVersions: {versions}." if versions else "")


def _is_set(value: Any) -> bool:
    return value not in (None, {}, [], False)  # 0 is False: what is off is not listed


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        name = f"{value['view']}: " if "view" in value else ""
        items = ((key, item) for key, item in value.items() if key != "view")
        return name + ", ".join(f"{key} {_cell(item)}" for key, item in items if _is_set(item))
    return ", ".join(map(_cell, value)) if isinstance(value, list) else f"{value}"


def _evaluation(result: dict[str, Any] | None) -> str:
    if result is None:
        return "None is on record."
    about = registry.listing("metrics")
    data = f"`{result['data']}`" if result["data"] else "the author's data"
    target = f", target `{result['target']}`" if result["target"] else ""
    counts = f"{result.get('n_train', 0):,} to fit probes, {result.get('n_test', 0):,} to test"
    others = list(result["baselines"])
    rows = []
    for key, value in result["metrics"].items():
        cells = [_interval(value)]
        cells += [_interval(result["baselines"][name].get(key)) for name in others]
        rows.append(f"| `{key}` | {' | '.join(cells)} |")
    explained = [
        f"- `{key}`: {about[name]}"
        for key in result["metrics"]
        if (name := next((n for n in (key, key.rstrip("_0123456789")) if n in about), ""))
    ]
    head = " | ".join(["metric", "this encoder", *others])
    return "\n".join(
        [
            f"On {data}{target}: {counts}. In brackets, 95 % intervals over test samples.",
            "",
            f"| {head} |",
            "|---" * (len(others) + 2) + "|",
            *rows,
            "",
            *explained,
        ]
    )


def _interval(value: dict[str, float | None] | None) -> str:
    if not value or value["value"] is None:
        return "–"
    if value["low"] is None or value["high"] is None:
        return f"{value['value']:.4g}"
    return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"


def _limits(record: dict[str, Any], modality: EncoderInput, notes: Sequence[str]) -> str:
    seed = "" if record.get("seed") is None else f" ({record['seed']})"
    lines = [
        f"One training with one seed{seed}: another seed gives other figures, and the intervals do "
        "not include that."
    ]
    lines += [
        "Nothing is known of data other than the above."
        if record["evaluation"]
        else "Nothing is known of its quality."
    ]
    if isinstance(modality, Images):
        height, width = modality.size
        lines += [f"Images of other sizes are resized to {height}×{width} when they are read."]
    if isinstance(modality, Text):
        lines += [
            "`tokenizer.json` was made from the training texts and holds parts of words of them."
        ]
    if isinstance(modality, Table):
        lines += [
            "`config.json` holds the names of the columns of the training table, means and "
            "deviations of its numbers, and its commonest words."
        ]
    return "\n".join(f"- {line}" for line in (*lines, *notes))
