"""What is wrong with a recipe, before anything is trained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from dataclasses import fields
from typing import TYPE_CHECKING
from typing import Any

from keras_robust import models
from keras_robust.messages import did_you_mean
from keras_robust.messages import shown
from keras_robust.study.report_errors import REPORT_ERRORS
from keras_robust.study.training_sets import STREAMS
from keras_robust.utils.checks import check_positive_integer

if TYPE_CHECKING:
    from keras_robust.study.recipe import Recipe

# Whose random numbers have streams of their own.
MOST_ARCHITECTURES = 9


def check_recipe(recipe: Recipe) -> None:
    """Check the names and the numbers of images in a recipe.

    A misspelled name would be passed over: the training that it was to change
    would go on as ever.

    Args:
        recipe: A `Recipe`.

    Raises:
        ValueError: If there is no such model, setting or network, or there
            are values that a file of results cannot hold.
    """
    for name in ("train_images", "test_images", "attacked_images"):
        if getattr(recipe, name) is not None:
            check_positive_integer(getattr(recipe, name), name)
    for name in ("validation_images", "autoattack_images"):
        check_positive_integer(getattr(recipe, name), name, least=0)
    known = [field.name for field in fields(recipe.training)]
    for model, changed in recipe.overrides.items():
        _check_name("overrides", model, STREAMS)
        for setting in changed:
            _check_name(f"overrides[{model!r}]", setting, known)
    for error in recipe.errors:
        _check_name("errors", error, REPORT_ERRORS)
    _check_networks(recipe)
    try:
        json.dumps(asdict(recipe))
    except TypeError as error:
        raise ValueError(
            "A recipe must be made of plain numbers, text, lists and "
            f"dictionaries, which results.json can hold. Received: {error}"
        ) from None


def _check_networks(recipe):
    functions = [
        name for name, value in vars(models).items() if callable(value)
    ]
    _check_name("network", recipe.network, functions)
    for model, (function, _) in recipe.networks.items():
        _check_name("networks", model, STREAMS)
        _check_name(f"networks[{model!r}]", function, functions)
    for name, (function, _) in recipe.architectures.items():
        _check_name(f"architectures[{name!r}]", function, functions)
        # A part of the names of files.
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError(
                "Argument `architectures` must have keys of letters, digits "
                f"and . + - _. Received: {name!r}"
            )
    if len(recipe.architectures) > MOST_ARCHITECTURES:
        raise ValueError(
            f"Argument `architectures` must hold at most {MOST_ARCHITECTURES} "
            f"networks. Received: {len(recipe.architectures)}"
        )


def _check_name(argument: str, name: Any, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(
            f"Argument `{argument}` of a recipe must be of "
            f"{sorted(known)}.{did_you_mean(name, known)} "
            f"Received: {shown(name)}"
        )
