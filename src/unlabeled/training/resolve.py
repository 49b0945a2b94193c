"""Recipe and arguments of a method: the user's, then the data set's, then the defaults."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np

from unlabeled.augmentations import RandomResizedCrop, SimCLRAugment
from unlabeled.core import Method, Recipe
from unlabeled.data.dataset import Splits
from unlabeled.data.readers.bpe import word_starts
from unlabeled.errors import UserError, notice, suggest
from unlabeled.modality import Table, Text, find_part
from unlabeled.training.optim import say_unused, scaled_rate

RECIPE_FIELDS = {field.name for field in fields(Recipe)}
LEAST = {
    **{"epochs": 1, "batch_size": 2, "weight_decay": 0.0, "final_weight_decay": 0.0},
    **{"grad_clip_norm": 0.0, "warmup_epochs": 0.0, "final_lr": 0.0},
}
"""Least values of fields of a recipe, for those that are not None."""
BELOW_ONE = ("beta1", "beta2", "sgd_momentum", "labeled_fraction")
"""Fields of a recipe that are at least 0 and below 1."""


def resolve(
    cls: type[Method],
    splits: Splits,
    options: dict[str, Any],
    preset: dict[str, Any] | None = None,
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and arguments of a method for a data set.

    Args:
        cls: the method.
        splits: the data.
        options: the user's: fields of the recipe and arguments of the method.
        preset: replaces the data set's defaults, if given.

    Raises:
        UserError: an option is unknown or out of range, or the method needs other labels.
    """
    accepted = list(inspect.signature(cls).parameters)[1:]
    if unknown := set(options) - RECIPE_FIELDS - set(accepted):
        advice = suggest(min(unknown), [*accepted, *sorted(RECIPE_FIELDS)])
        raise UserError(f"{cls.__name__} has no option '{min(unknown)}'; {advice}")
    check_labels(cls, splits)
    options = {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()}
    merged = _tuned(cls, splits, preset) | options
    recipe = replace(cls.recipe, **{k: v for k, v in merged.items() if k in RECIPE_FIELDS})
    check_recipe(recipe)
    say_unused(recipe, _usual(cls, splits, preset))
    if recipe.labeled_fraction and not cls.supervised:
        notice(f"labeled_fraction has no effect on {cls.__name__}, which learns without labels")
    if "lr" not in options:
        recipe = replace(recipe, lr=scaled(cls, splits, recipe, preset)[0])
    if not 0 < recipe.lr < math.inf:
        raise UserError(f"lr is {recipe.lr}, but must be above 0")
    given = {k: v for k, v in merged.items() if k in accepted}
    return recipe, _arguments_of_data(cls, splits, accepted, given)


def check_labels(method: Method | type[Method], splits: Splits) -> None:
    """Raise UserError if a supervised method, or one made so by its options, gets no classes."""
    if not method.supervised or splits.target is not None:
        return
    name = getattr(method, "__name__", type(method).__name__)
    raise UserError(
        f"{name} learns from classes, but {', '.join(splits.numbers)} of {splits.name} holds "
        "numbers; write them as words to have them as classes"
        if splits.numbers
        else f"{name} learns from labels, but {splits.name} has none; give labeled data"
    )


def check_recipe(recipe: Recipe) -> None:
    """Raise UserError if a field of a recipe, except its learning rate, is out of range."""
    for field, least in LEAST.items():
        value = getattr(recipe, field)
        if value is not None and not value >= least:
            raise UserError(f"{field} is {value}, but must be at least {least}")
    for field in BELOW_ONE:
        if not 0 <= getattr(recipe, field) < 1:
            raise UserError(
                f"{field} is {getattr(recipe, field)}, but must be at least 0 and below 1"
            )
    if not 0 < recipe.layer_decay <= 1:
        raise UserError(f"layer_decay is {recipe.layer_decay}, but must be above 0 and at most 1")
    if recipe.nesterov and (recipe.optimizer != "sgd" or not recipe.sgd_momentum):
        raise UserError("nesterov needs --optimizer sgd with --sgd-momentum above 0; omit it")
    for part, factor in recipe.lr_factors.items():
        if not 0 <= factor < math.inf:
            raise UserError(f"lr_factors.{part} is {factor}, but must be at least 0")


def scaled(
    cls: type[Method], splits: Splits, recipe: Recipe, preset: dict[str, Any] | None
) -> tuple[float, str]:
    """The learning rate of a recipe by optimizer and batch size, and an explanation."""
    defaults = _usual(cls, splits, preset), cls.recipe
    return scaled_rate(recipe, defaults, cls.base_lr, cls.__name__)


def _arguments_of_data(
    cls: type[Method], splits: Splits, accepted: list[str], given: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of a method, with those that the data decides unless they are given.

    `augment` is the data set's, or its weak one for labeled training where the method learns from
    labels alone. `weak` is that weak one for semi-supervised methods, and for others where views of
    the data set are no crops, such as those of recordings.
    """
    arguments = dict(given)
    if "augment" in accepted and arguments.get("augment") is None:
        arguments["augment"] = splits.augment_labeled if cls.weak_augment else splits.augment
    if {"augment", "weak"} <= {*accepted} and arguments.get("weak") is None:
        has_crops = isinstance(splits.augment, SimCLRAugment | RandomResizedCrop)
        if cls.supervised or not has_crops:
            arguments["weak"] = splits.augment_labeled
    if "bank_size" in accepted:
        arguments["bank_size"] = len(splits.train)
    of_data: dict[str, Any] = {"shape": (splits.channels, *splits.size)}
    if splits.classes:
        of_data |= {"classes": len(splits.classes), "names": tuple(splits.classes)}
    if splits.train.partners is not None:
        of_data["partner_shape"] = splits.train.partners.shape[1:]
    if texts := find_part(splits.modality, Text):
        of_data["vocabulary"] = texts.vocabulary
        if texts.tokenizer and "word_starts" in accepted:
            of_data["word_starts"] = word_starts(texts.tokenizer)
    if table := find_part(splits.modality, Table):
        of_data["widths"] = table.widths
    return {k: v for k, v in of_data.items() if k in accepted} | arguments


def _tuned(cls: type[Method], splits: Splits, preset: dict[str, Any] | None) -> dict[str, Any]:
    """Defaults that replace the method's: of a preset, else of the data set."""
    return preset or cls.recipes.get(splits.name.partition(":")[0], {})


def _usual(cls: type[Method], splits: Splits, preset: dict[str, Any] | None) -> Recipe:
    """The recipe without the user's options."""
    other = _tuned(cls, splits, preset).items()
    return replace(cls.recipe, **{k: v for k, v in other if k in RECIPE_FIELDS})
