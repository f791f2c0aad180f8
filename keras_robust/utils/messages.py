"""Error messages: how values are shown and names suggested."""

import difflib
import numbers
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

# The most elements that are written out, and characters of one value.
_FEW, _LONG = 8, 200
# Names in other libraries, and ours.
_ELSEWHERE = {
    "eps": "epsilon",
    "alpha": "step_size",
    "lr": "step_size",
    "eps_step": "step_size",
    "iterations": "steps",
    "max_iter": "steps",
    "n_iter": "steps",
    "num_steps": "steps",
    "clip_min": "value_range",
    "clip_max": "value_range",
    "bounds": "value_range",
}


def shown(value: Any) -> str:
    """Format a value for an error message, in at most two lines.

    Args:
        value: Anything. Arrays, tensors and long lists are described by shape
            and range.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _shown_array(value)
    if type(value) in (list, tuple):
        return _shown_list(value)
    if type(value) is dict:
        entries = [f"{k!r}: {shown(v)}" for k, v in [*value.items()][:_FEW]]
        more = ", ..." if len(value) > _FEW else ""
        return "{" + ", ".join(entries) + more + "}"
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _shown_list(value: list[Any] | tuple[Any, ...]) -> str:
    opened, closed = "[]" if isinstance(value, list) else "()"
    inside = ", ".join(shown(entry) for entry in value[:_FEW])
    if len(value) > _FEW:
        kind = type(value).__name__
        start = f"{opened}{inside}, ...{closed}"
        return f"a {kind} of {len(value)} elements, {start}"
    comma = "," if len(value) == 1 and isinstance(value, tuple) else ""
    return f"{opened}{inside}{comma}{closed}"


def _shown_array(value: Any) -> str:
    shape = tuple(value.shape)
    dtype = str(value.dtype).removeprefix("torch.")
    dtype = getattr(value.dtype, "name", dtype)
    text = f"an array of shape {shape} and dtype {dtype}"
    try:
        array = np.asarray(keras.ops.convert_to_numpy(value))
    except (TypeError, ValueError, RuntimeError, AttributeError):
        # Symbolic tensors have no values.
        return text
    if array.ndim == 0:
        return repr(array.item())
    if array.ndim == 1 and array.size <= _FEW:
        return np.array2string(array, precision=6, separator=", ")
    if array.dtype.kind not in "iuf" or not array.size:
        return text
    finite = array[np.isfinite(array)]
    if not finite.size:
        return f"{text}, without a finite value"
    odd = array.size - finite.size
    text = f"{text}, values from {finite.min():g} to {finite.max():g}"
    return f"{text}, and {odd} NaN or infinite" if odd else text


def shown_places(where: np.ndarray) -> str:
    """Format the places where a condition holds.

    Args:
        where: Bool array of one row of the input, `(D,)` or `(H, W, C)`.

    Returns:
        Text such as `"2 of 13 features: 3, 7"`.
    """
    places = np.argwhere(where)
    names = [
        str(place[0] if len(place) == 1 else tuple(place))
        for place in places[:_FEW].tolist()
    ]
    more = ", ..." if len(places) > _FEW else ""
    return f"{len(places)} of {where.size} features: {', '.join(names)}{more}"


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Suggest the name that was probably meant.

    Args:
        name: The unknown name.
        known: The names that exist.

    Returns:
        A sentence after a space; `""` if no name is close.
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if _ELSEWHERE.get(name) in known:
        close = [_ELSEWHERE[name]]
    return f" Did you mean {close[0]!r}?" if close else ""


def describe(value: Any) -> str:
    """Describe a value in a few words, without its numbers."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:60] + "...")
    if value is None or isinstance(value, numbers.Number):
        return repr(value)
    kind = type(value).__name__
    if isinstance(value, dict):
        return f"a {kind} with the keys {[str(key) for key in value][:8]}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = str(value.dtype).removeprefix("torch.")
        dtype = getattr(value.dtype, "name", dtype) if "<" in dtype else dtype
        return f"an array of shape {tuple(value.shape)} and dtype {dtype}"
    if isinstance(value, (list, tuple)):
        kinds = sorted({type(entry).__name__ for entry in value})
        return f"a {kind} of {len(value)} elements of type {', '.join(kinds)}"
    return f"an object of type {kind}"
