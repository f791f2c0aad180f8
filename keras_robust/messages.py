"""How error messages show what they received, and what they suggest."""

import difflib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

# Elements that are written out, and characters of one value.
_FEW, _LONG = 8, 200
# What other libraries call the same.
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
    """Write a value for an error message, large ones in a few words.

    Args:
        value: Anything: of arrays, tensors and long lists the shape and the
            range of the numbers are told.

    Returns:
        At most a line or two of text.
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
    told = f"an array of shape {shape} and dtype {dtype}"
    try:
        array = np.asarray(keras.ops.convert_to_numpy(value))
    except (TypeError, ValueError, RuntimeError, AttributeError):
        # A symbolic tensor, or one inside a compiled step.
        return told
    if array.ndim == 0:
        return repr(array.item())
    if array.ndim == 1 and array.size <= _FEW:
        return np.array2string(array, precision=6, separator=", ")
    if array.dtype.kind not in "iuf" or not array.size:
        return told
    finite = array[np.isfinite(array)]
    if not finite.size:
        return f"{told}, without a finite value"
    odd = array.size - finite.size
    told = f"{told}, values from {finite.min():g} to {finite.max():g}"
    return f"{told}, and {odd} NaN or infinite" if odd else told


def shown_places(where: np.ndarray) -> str:
    """Say where a condition holds.

    Args:
        where: Array of bools of one row of the input, `(D,)` or `(H, W, C)`.

    Returns:
        Such as `"2 of 13 features: 3, 7"`.
    """
    places = np.argwhere(where)
    told = [
        str(place[0] if len(place) == 1 else tuple(place))
        for place in places[:_FEW].tolist()
    ]
    more = ", ..." if len(places) > _FEW else ""
    return f"{len(places)} of {where.size} features: {', '.join(told)}{more}"


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Suggest the name that was probably meant.

    Args:
        name: What was written.
        known: The names that there are.

    Returns:
        A sentence with a space in front, or `""` where no name is close.
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if _ELSEWHERE.get(name) in known:
        close = [_ELSEWHERE[name]]
    return f" Did you mean {close[0]!r}?" if close else ""
