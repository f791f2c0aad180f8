"""Configuration objects: every `__init__` argument is a key of the config."""

import dataclasses
import inspect
from abc import ABCMeta
from typing import Any

import keras
import numpy as np

from keras_robust.classifier import Backward
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

# Kinds of parameters without names of their own.
_PASSED_ON = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _constructor(cls: type) -> Any:
    """Return the `__init__` that a class has or inherits."""
    return next(
        vars(base)["__init__"]
        for base in cls.__mro__
        if "__init__" in vars(base)
    )


class ChecksArguments(ABCMeta):
    """Names the class that was called where its arguments are wrong.

    Python would name the base class whose `__init__` is inherited.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        """The arguments of the constructor, for `help` and editors."""
        whole = inspect.signature(_constructor(cls))
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object once its arguments are known to fit.

        It remembers those that its class does not keep by itself.
        """
        check_call(cls, args, kwargs)
        made = super().__call__(*args, **kwargs)
        if isinstance(made, cls):
            not_kept = _not_kept(made, args, kwargs)
            object.__setattr__(made, "_not_kept", not_kept)
        return made


def check_call(
    cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
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
        names = _named(signature)
        unknown = [name for name in kwargs if name not in names]
        if not unknown:
            raise TypeError(
                f"{cls.__name__}: {error}. It takes {names}"
            ) from None
        raise TypeError(unknown_name(cls, unknown[0], names)) from None


def _named(signature: inspect.Signature) -> list[str]:
    """The names of arguments, without `*args` and `**kwargs`."""
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind not in _PASSED_ON
    ]


def _not_kept(
    made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of a call that are no attributes, or are not named.

    A subclass may take `*args` and `**kwargs` and pass them on: they decide
    what the object does as much as those that have a name.
    """
    signature = inspect.signature(type(made))
    given = signature.bind(*args, **kwargs)
    given.apply_defaults()
    found = {}
    for name, value in given.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found.update(value)
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            found.update(_by_name(type(made), value))
        elif not hasattr(made, name):
            found[name] = value
    return found


def _by_name(cls: type, values: tuple[Any, ...]) -> dict[str, Any]:
    """Positional arguments that a class passes on, by their names there."""
    for base in cls.__mro__[1:]:
        if "__init__" not in vars(base):
            continue
        parameters = list(
            inspect.signature(vars(base)["__init__"]).parameters.values()
        )
        if all(each.kind not in _PASSED_ON for each in parameters):
            names = [each.name for each in parameters[1:]]
            return dict(zip(names, values, strict=False))
    return {}


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


def hidden_defaults(cls: type) -> list[str]:
    """Return class attributes that look like defaults of fields and are not.

    A subclass of a dataclass that is not decorated itself, or leaves out the
    annotation, changes no default: `__init__` still has that of its base.

    Args:
        cls: A class.
    """
    if not dataclasses.is_dataclass(cls):
        return []
    return [
        field.name
        for field in dataclasses.fields(cls)
        if field.init
        and field.default is not dataclasses.MISSING
        and getattr(cls, field.name, field.default) is not field.default
        and not hasattr(getattr(cls, field.name), "__set__")
    ]


class ConfigMixin(metaclass=ChecksArguments):
    """`get_config`, `from_config` and a `repr` from the signature."""

    def arguments(self) -> dict[str, Any]:
        """Arguments of `__init__` by name, with the attributes' values."""
        names = _named(inspect.signature(type(self)))
        not_kept = vars(self).get("_not_kept", {})
        names += [name for name in not_kept if name not in names]
        return {
            name: getattr(self, name, not_kept[name])
            if name in not_kept
            else getattr(self, name)
            for name in names
        }

    @classmethod
    def takes_more(cls) -> bool:
        """Whether the constructor takes arguments without naming them."""
        parameters = inspect.signature(cls).parameters.values()
        return any(
            each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters
        )

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
            elif isinstance(value, (keras.Model, Backward)) or callable(value):
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

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments only: compiled functions are created again."""
        return _made, (type(self), self.arguments())

    def __repr__(self) -> str:
        arguments = [
            f"{key}={shown(value)}"
            for key, value in self.get_config().items()
            if not isinstance(value, dict)
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"


def _made(kind: type, arguments: dict[str, Any]) -> Any:
    return kind(**arguments)
