"""What the numbers of an evaluation depend on."""

import datetime
import hashlib
import json
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.own_code import losses_of
from keras_robust.attacks.own_code import own_code_sha256
from keras_robust.classifier.fingerprint import callable_sha256
from keras_robust.evaluation.data import Examples
from keras_robust.utils.environment import installed_versions
from keras_robust.version import __version__

# Longer lists are replaced by their shape and hash.
_LONG = 32


def describe_attack(attack: Attack, model: Any) -> dict[str, Any]:
    """Class and arguments of an attack on a model as plain values."""
    found = {
        "class": type(attack).__name__,
        "config": _plain(attack.get_config()),
    }
    if attack.backward is not None:
        found["backward"] = attack.backward.sha256()
    losses = losses_of(attack, model)
    if losses:
        found["compiled_loss"] = callable_sha256(losses)
    code = own_code_sha256(attack)
    return {**found, "code": code} if code else found


def data_fingerprint(examples: Examples) -> str:
    """A hash of inputs and labels."""
    digest = hashlib.sha256()
    for array in keras.tree.flatten((examples.x, examples.y)):
        array = np.ascontiguousarray(array)
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def provenance(
    examples: Examples, attacks: Mapping[str, Attack], **more: Any
) -> dict[str, Any]:
    """All that the result of an evaluation depends on.

    Args:
        examples: What is evaluated.
        attacks: Attacks by name.
        **more: Other settings, plain values.

    Returns:
        Dictionary of plain values, with the versions and the date.
    """
    described = {
        name: {
            "norm": getattr(attack, "norm", None),
            "epsilon": _plain(attack.epsilon),
            "seed": attack.seed,
            **describe_attack(attack, examples.classifier.given),
        }
        for name, attack in attacks.items()
    }
    return {
        "attacks": described,
        **{
            key: _shared(entry[key] for entry in described.values())
            for key in ("norm", "epsilon", "seed")
        },
        "model": examples.classifier.name,
        "model_fingerprint": examples.classifier.fingerprint(),
        "classes": int(examples.classifier.num_classes),
        "examples": len(examples.y),
        "input_shape": list(examples.image.shape[1:]),
        "data_fingerprint": data_fingerprint(examples),
        **_plain(more),
        "versions": installed_versions(),
        "backend": keras.backend.backend(),
        "date": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
    }


def fingerprint(facts: Any) -> str:
    """A hash of what decides the result of an evaluation.

    Args:
        facts: What `provenance` returned, or a list or dictionary of such.

    Returns:
        Hexadecimal text.
    """
    digest = hashlib.sha256(__version__.encode())
    text = json.dumps(_without_date(facts), sort_keys=True)
    digest.update(text.encode())
    return digest.hexdigest()


def _without_date(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_date(entry)
            for key, entry in value.items()
            if key not in ("date", "versions")
        }
    if isinstance(value, (list, tuple)):
        return [_without_date(entry) for entry in value]
    return value


def _shared(values: Iterable[Any]) -> Any:
    """The common value, or a list of the values if they differ."""
    values = list(values)
    first = values[0] if values else None
    return first if all(value == first for value in values) else values


def _plain(value: Any) -> Any:
    """A value for JSON, with hashes in place of long lists."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        if len(keras.tree.flatten(value)) > _LONG:
            text = json.dumps(value, default=repr)
            digest = hashlib.sha256(text.encode()).hexdigest()
            return {"shape": list(np.shape(value)), "sha256": digest}
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return repr(value)
