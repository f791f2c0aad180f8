"""Configuration objects: every `__init__` argument is a key of the config."""

import inspect
from abc import ABCMeta
from typing import Any

import keras
import numpy as np

from keras_robust.messages import did_you_mean
from keras_robust.messages import shown


class ChecksArguments(ABCMeta):
    """Names the class that was called where its arguments are wrong.

    Python would name the base class whose `__init__` is inherited.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        """The arguments of the constructor, for `help` and editors."""
        whole = inspect.signature(cls.__init__)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object once its arguments are known to fit."""
        check_call(cls, args, kwargs)
        return super().__call__(*args, **kwargs)


def check_call(cls: type, args: tuple, kwargs: dict[str, Any]) -> None:
    """Check that a class takes the arguments of a call.

    Args:
        cls: The class that is called.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Raises:
        TypeError: If it does not; the message suggests the name meant.
    """
    signature = inspect.signature(cls)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        kinds = (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        names = [
            name
            for name, parameter in signature.parameters.items()
            if parameter.kind not in kinds
        ]
        unknown = [name for name in kwargs if name not in names]
        if not unknown:
            raise TypeError(
                f"{cls.__name__}: {error}. It takes {names}"
            ) from None
        raise TypeError(unknown_name(cls, unknown[0], names)) from None


def unknown_name(cls: type, name: str, known: list[str]) -> str:
    """The message for a setting that a class does not have.

    Args:
        cls: The class.
        name: What was written.
        known: The names that it has.
    """
    return (
        f"{cls.__name__} has no argument {name!r}."
        f"{did_you_mean(name, known)} It takes {known}"
    )


class ConfigMixin(metaclass=ChecksArguments):
    """`get_config`, `from_config` and a `repr` from the signature."""

    def arguments(self) -> dict[str, Any]:
        """Arguments of `__init__` by name, as they are kept."""
        names = inspect.signature(type(self).__init__).parameters
        kinds = (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        return {
            name: getattr(self, name)
            for name, parameter in names.items()
            if name != "self" and parameter.kind not in kinds
        }

    def get_config(self) -> dict[str, Any]:
        """Every argument of `__init__`, ready for JSON."""
        config = {}
        for name, value in self.arguments().items():
            if isinstance(value, tuple):
                value = tuple(
                    entry.tolist() if isinstance(entry, np.ndarray) else entry
                    for entry in value
                )
            if isinstance(value, np.ndarray):
                value = value.tolist()
            elif isinstance(value, keras.Model) or callable(value):
                value = keras.saving.serialize_keras_object(value)
            config[name] = value
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The object that `get_config` described."""
        return cls(
            **{
                key: keras.saving.deserialize_keras_object(value)
                if isinstance(value, dict)
                else value
                for key, value in config.items()
            }
        )

    def __reduce__(self):
        """Pickled as its arguments: compiled functions are made anew."""
        return _made, (type(self), self.arguments())

    def __repr__(self):
        arguments = [
            f"{key}={shown(value)}"
            for key, value in self.get_config().items()
            if not isinstance(value, dict)
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"


def _made(kind, arguments):
    return kind(**arguments)
