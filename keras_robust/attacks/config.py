"""Configuration objects: every `__init__` argument is a key of the config."""

import inspect

import keras
import numpy as np


class ConfigMixin:
    """`get_config`, `from_config` and a `repr` from the signature."""

    def arguments(self):
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

    def get_config(self):
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
    def from_config(cls, config):
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
            f"{key}={value!r}"
            for key, value in self.get_config().items()
            if not isinstance(value, dict)
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"


def _made(kind, arguments):
    return kind(**arguments)
