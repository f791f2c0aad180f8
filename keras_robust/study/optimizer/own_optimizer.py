"""Optimizers of a search beside those of the paper: by name, or one's own."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner

from keras_robust.utils.messages import did_you_mean

# Of `keras.optimizers`, what wraps other optimizers.
_WRAPPERS = ("optimizer", "lossscaleoptimizer", "multioptimizer")
# What a tuner chooses: `hp.Float("learning_rate", 1e-5, 1e-3)`, ...
_KINDS = ("Boolean", "Choice", "Fixed", "Float", "Int")


def keras_optimizers() -> dict[str, type[Any]]:
    """The optimizers of Keras by name in lower case: `"lion"`, `"muon"`, ..."""
    return {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type)
        and issubclass(value, keras.optimizers.Optimizer)
        and name.lower() not in _WRAPPERS
    }


def check_name(name: str, known: tuple[str, ...]) -> None:
    """Raise unless an optimizer is known.

    Args:
        name: Its name.
        known: Names besides those of Keras.

    Raises:
        ValueError: If it is not known.
    """
    names = list(dict.fromkeys([*known, *keras_optimizers()]))
    if name not in names:
        raise ValueError(
            f"An optimizer by name must be one of {names}; one of your own "
            "comes as {name: (function of learning_rate, (smallest, largest))} "
            "or as a function (hp, steps)."
            f"{did_you_mean(name, names)} Received: {name!r}"
        )


def takes(function: Any, name: str) -> bool:
    """Whether a function or a class has an argument of that name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        each.name == name or each.kind is inspect.Parameter.VAR_KEYWORD
        for each in parameters
    )


class AskedFor:
    """Hyperparameters as a function of the user's asks for them.

    It has the methods of `keras_tuner.HyperParameters` that choose a value.

    Args:
        ask: `(kind, name, arguments, keyword arguments) -> value`.

    Attributes:
        values: What was chosen, by name.
    """

    def __init__(
        self,
        ask: Callable[[str, str, tuple[Any, ...], dict[str, Any]], Any],
    ) -> None:
        self._ask = ask
        self.values: dict[str, Any] = {}

    @classmethod
    def of(cls, hp: keras_tuner.HyperParameters, prefix: str) -> "AskedFor":
        """What a tuner chooses, under names that begin with `prefix`."""

        def ask(
            kind: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            return getattr(hp, kind)(f"{prefix}_{name}", *args, **kwargs)

        return cls(ask)

    @classmethod
    def again(cls, values: dict[str, Any]) -> "AskedFor":
        """What was chosen before."""

        def ask(
            kind: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            del kind, args, kwargs
            return values[name]

        return cls(ask)

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        """One of the methods `Boolean`, `Choice`, `Fixed`, `Float`, `Int`."""
        if kind not in _KINDS:
            raise AttributeError(
                "A function of an optimizer must choose by a method of hp "
                f"among {_KINDS}. Received: hp.{kind}"
            )

        def choose(name: str, *args: Any, **kwargs: Any) -> Any:
            value = self._ask(kind, name, args, kwargs)
            self.values[name] = value
            return value

        return choose
