"""What an attack runs that is the user's own code."""

import inspect
from typing import Any

from keras_robust.attacks.compiled_loss import compiled_loss
from keras_robust.classifier import Backward
from keras_robust.classifier.fingerprint import callable_sha256


def own_code_sha256(attack: Any) -> str | None:
    """A hash of the functions of an attack that are the user's, or `None`.

    A configuration has only the names of user-defined losses and attacks. Their
    code may change while the name stays, and so may what they read: defaults,
    variables of the function around them, global variables.

    Args:
        attack: An `Attack`.
    """
    functions: list[Any] = [
        value for value in vars(attack).values() if _is_own_callable(value)
    ]
    for cls in type(attack).__mro__:
        if cls.__module__.partition(".")[0] not in ("keras_robust", "builtins"):
            functions += [
                value
                for value in vars(cls).values()
                if inspect.isfunction(value)
            ]
    functions = [
        function
        for function in functions
        if not _module_of(function).startswith("keras_robust.")
    ]
    if not functions:
        return None
    # The class for its attributes.
    return callable_sha256([*functions, type(attack)])


def compiled_in(attack: Any, problem: Any) -> tuple[str | None, str | None]:
    """Hashes of what compiled loops of an attack keep, if it changes.

    Weights of layers that `backward` holds are not compiled in.

    Args:
        attack: An `Attack`.
        problem: Its `Problem`, for the loss of its model.
    """
    backward = attack.backward
    functions = [] if backward is None else list(backward.functions)
    functions += losses_of(attack, problem.classifier.given)
    others = callable_sha256(functions) if functions else None
    return own_code_sha256(attack), others


def losses_of(attack: Any, model: Any) -> list[Any]:
    """The losses of a compiled model that an attack raises.

    Args:
        attack: An `Attack`.
        model: Its model.

    Returns:
        Empty but for attacks with `loss="compiled"`.
    """
    loss = getattr(attack, "loss", None)
    if not isinstance(loss, str) or loss != "compiled":
        return []
    return [part.loss for part in compiled_loss(model).parts]


def _is_own_callable(value: Any) -> bool:
    """Whether a setting is a function, or an object that is called as one."""
    return callable(value) and not isinstance(value, (type, Backward))


def _module_of(value: Any) -> str:
    return str(getattr(value, "__module__", None) or type(value).__module__)
