"""How `--help` looks: flags as users type them, in groups, each default once, no Python types."""

from __future__ import annotations

import inspect
from argparse import SUPPRESS, Action
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter

GROUPS = {
    "data": (
        "data",
        "test",
        "labels_from",
        "groups_from",
        "labels",
        "size",
        "value_range",
        "workers",
        "decoding",
        "tile",
        "max_pixels",
    ),
    "encoder": ("encoder", "encoder_args", "init"),
    "method": (),
    "training": (
        "preset",
        *("epochs", "batch_size", "optimizer", "lr", "lr_scaling", "schedule", "warmup_epochs"),
        *(
            "final_lr",
            "lr_factors",
            "constant_lr",
            "layer_decay",
            "weight_decay",
            "final_weight_decay",
        ),
        *("decay_biases", "grad_clip_norm", "beta1", "beta2", "sgd_momentum", "nesterov"),
        *("labeled_fraction", "local", "seed"),
    ),
    "hardware": (
        *("accelerator", "devices", "nodes", "strategy", "precision", "accumulate"),
        *("gradient_checkpointing", "compile", "trainer"),
    ),
    "output": ("out", "resume", "probe_every", "logger", "dry_run"),
    "other": ("config", "print_config", "quiet", "help"),
}
"""Title of a group -> its flags, in the order shown; flags that are in none are the method's."""
METAVARS = {
    "config": "FILE",
    "encoder": "NAME",
    "groups_from": "GROUPS",
    "labels": "N",
    "labels_from": "LABELS",
    "logger": "NAMES",
    "out": "FOLDER",
    "print_config": "",
    "init": "RUN",
    "test": "DATA",
}
WIDE = 40
"""Characters from which on choices are shown in the text of a flag, not beside its name."""


class Parser(ArgumentParser):
    """A parser whose help is in groups when `method` is set."""

    method = ""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter} | options)

    def format_help(self, formatter: Any = None) -> str:
        if getattr(self, "_inner_parser", False):  # of --augment.help
            self.usage, self.description = SUPPRESS, None
        elif self.method:
            self._arrange()
        self._action_groups[0].title = "arguments" if not self.method else "data"
        return super().format_help(formatter)

    def _arrange(self) -> None:
        """Put every flag into its group."""
        actions = [action for group in self._action_groups for action in group._group_actions]
        of = {name: title for title, names in GROUPS.items() for name in names}
        groups = []
        for title, names in GROUPS.items():
            group = self.add_argument_group(f"{title} ({self.method})" if not names else title)
            group._group_actions = [a for a in actions if of.get(_name(a), "method") == title]
            if names:
                group._group_actions.sort(key=lambda action: names.index(_name(action)))
            groups.append(group)
        self._action_groups = [group for group in groups if group._group_actions]


class HelpFormatter(DefaultHelpFormatter):
    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any) -> str:
        needed = [a for a in actions if not a.option_strings or a.required]
        needed.sort(key=lambda a: bool(a.option_strings))
        words = [self._format_action_invocation(action) for action in needed]
        return f"usage: {' '.join([self._prog, *words, '[options]'])}\n\n"

    def _metavar_formatter(self, action: Action, default_metavar: str) -> Any:
        metavar = _metavar(action)
        return lambda n: metavar if isinstance(metavar, tuple) else (metavar,) * n

    def _format_action_invocation(self, action: Action) -> str:
        values = self._format_args(action, "")
        if not action.option_strings:
            return values
        shown = (flag for flag in action.option_strings if not flag.endswith("+"))
        flags = ", ".join(flag.replace("_", "-") for flag in shown)
        return f"{flags} {values}".rstrip()

    def _expand_help(self, action: Action) -> str:
        if action.dest == "help":
            return "show this help"
        if _name(action) == "print_config":
            return "print all settings as a YAML file for --config"
        if action.dest.endswith(".help"):
            return f"show the options of a {_flag(action)} and exit"
        text = " ".join((action.help or "").replace("%%", "%").split()).rstrip(".")
        choices = _choices(action)
        if augmentations := [kind.__name__ for kind in all_subclasses(_hint(action))]:
            choices = augmentations
            text += f"; {_flag(action)}.OPTION sets an option of it"
        if choices and _is_wide(choices):
            text += f"; one of {{{', '.join(choices)}}}"
        defaults = [] if "(default" in text or " by default" in text else _defaults(action)
        notes = ["required"] * (action.required and bool(action.option_strings)) + defaults
        return text + f" ({', '.join(notes)})" * bool(notes)


def all_subclasses(of: Any) -> list[type]:
    """The library's subclasses of one of its classes, sorted by name; of any other type, none."""
    if not inspect.isclass(of) or not of.__module__.startswith("unlabeled."):
        return []
    kinds = {kind for kind in of.__subclasses__() if kind.__module__.startswith("unlabeled.")}
    return sorted(kinds, key=lambda kind: kind.__name__)


def _flag(action: Action) -> str:
    """The flag of an action as users type it."""
    return f"--{_name(action).replace('_', '-')}"


def _name(action: Action) -> str:
    """The name that a flag is grouped by, without the `no_` or `+` of its other forms."""
    flag = action.option_strings[-1] if action.option_strings else action.dest
    name = flag.lstrip("-").rstrip("+").partition(".")[0].removeprefix("no_")
    return name if flag != "-h" else "help"


def _hint(action: Action) -> Any:
    """The type of a flag's value; of several the first that is not None."""
    hint = getattr(action, "_typehint", None) or action.type
    if get_origin(hint) in (Union, UnionType):
        return next(option for option in get_args(hint) if option is not type(None))
    return hint


def _choices(action: Action) -> list[str]:
    hint = _hint(action)
    return list(map(str, action.choices or (get_args(hint) if get_origin(hint) is Literal else ())))


def _is_wide(choices: list[str]) -> bool:
    return len(", ".join(choices)) > WIDE


def _metavar(action: Action) -> str | tuple[str, ...]:
    """What stands for the value of a flag: N, FILE, {a,b}, …"""
    name, hint, choices = _name(action), _hint(action), _choices(action)
    if name in METAVARS and not action.metavar:
        return METAVARS[name]
    if choices and not _is_wide(choices):
        return f"{{{','.join(choices)}}}"
    if choices and not action.option_strings:
        return action.dest.upper()
    if choices or (inspect.isclass(hint) and hint not in (str, int, float, Path)):
        return "NAME"
    if action.metavar and action.metavar != "[ITEM,...]":
        return action.metavar
    letters = {int: "N", float: "X", ...: "..."}
    if get_origin(hint) in (tuple, list):
        return f"[{','.join(letters.get(kind, 'NAME') for kind in get_args(hint))}]"
    return "JSON" if get_origin(hint) is dict else letters.get(hint) or action.dest.upper()


def _defaults(action: Action) -> list[str]:
    """The default in words; nothing for flags that are off or have no value by default."""
    default = action.default
    if isinstance(action, ActionYesNo) and default is True:
        return ["default: on"]
    if default is None or default is False or default in (SUPPRESS, "", {}, []):
        return []
    if isinstance(default, tuple):
        default = list(default)
    return [f"default: {default:g}" if isinstance(default, float) else f"default: {default}"]
