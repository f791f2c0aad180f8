"""Which of a model's inputs is attacked; the others are held fixed."""

from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_robust.backend import Tensor
from keras_robust.classifier.graph import input_structure
from keras_robust.classifier.graph import shows_graph
from keras_robust.utils.messages import shown
from keras_robust.utils.plain_arrays import check_complete
from keras_robust.utils.plain_arrays import in_native_format

# The inputs that are not attacked, by name.
Held: TypeAlias = dict[str, Any]
# Sizes of axes, `None` for any.
Shape: TypeAlias = tuple[int | None, ...]

# Prefix of the keys of inputs that the model takes as a list.
_ITEM = "#"


class Inputs:
    """The inputs of a model: one is attacked, the others are held fixed.

    Args:
        model: A built Keras model.
        attacked: Name or position of the attacked input; `None` for the only
            one.

    Raises:
        ValueError: If there is no such input, or there are several and
            `attacked` is `None`.

    Attributes:
        attacked: Key of the attacked input; `None` for a model with one input
            that is not a dictionary.
    """

    def __init__(
        self, model: keras.Model, attacked: str | int | None = None
    ) -> None:
        self.names: list[str] = []
        self.structured = False
        self._tensors = None
        if shows_graph(model):
            structure = input_structure(model)
            if isinstance(structure, dict):
                self.names = list(structure)
                self._tensors = [structure[name] for name in self.names]
                self.structured = True
                self._keys = list(self.names)
            else:
                self._tensors = list(model.inputs)
                self.names = [tensor.name for tensor in self._tensors]
                self._keys = [f"{_ITEM}{i}" for i in range(len(self.names))]
                self.structured = len(self.names) > 1
        self.attacked = self._find(model, attacked)

    def _find(
        self, model: keras.Model, attacked: str | int | None
    ) -> str | None:
        if self._tensors is None:
            # A subclassed model: the structure of the data decides.
            if isinstance(attacked, int):
                return f"{_ITEM}{attacked}"
            return attacked
        if attacked is None:
            if len(self.names) > 1:
                raise ValueError(
                    "Argument `attacked` must name the input to perturb, one "
                    f"of {self.names}; the others are held fixed. Received: "
                    f"attacked=None for model {model.name!r}"
                )
            return self._keys[0] if self.structured else None
        if isinstance(attacked, int) and -len(self.names) <= attacked < len(
            self.names
        ):
            return self._keys[attacked] if self.structured else None
        if attacked in self.names:
            key = self._keys[self.names.index(attacked)]
            return key if self.structured else None
        raise ValueError(
            f"Argument `attacked` must be one of {self.names}, the inputs of "
            f"model {model.name!r}. Received: attacked={shown(attacked)}"
        )

    @property
    def tensor(self) -> keras.KerasTensor | None:
        """The attacked input's Keras tensor; `None` if the graph is hidden."""
        if self._tensors is None:
            return None
        if self.attacked is None:
            return self._tensors[0]
        return self._tensors[self._keys.index(self.attacked)]

    @property
    def takes_integers(self) -> bool:
        """Whether the attacked input has an integer dtype."""
        if self.tensor is None:
            return False
        return "int" in keras.backend.standardize_dtype(self.tensor.dtype)

    def split(self, x: Any) -> tuple[Any, Held]:
        """Separate the attacked input from the others.

        Args:
            x: Inputs of the model: an array or tensor `(N, ...)`, or a list or
                dictionary of them.

        Returns:
            `(image, held)`: array or tensor, and a dictionary of arrays.

        Raises:
            ValueError: If the model does not take such inputs.
        """
        if isinstance(x, dict):
            return self._split_dictionary(x)
        several = isinstance(x, (list, tuple)) and any(
            hasattr(part, "shape") for part in x
        )
        if several and (self.structured or self._takes_items()):
            return self._split_list(x)
        if several and len(x) == 1:
            return _as_array(x[0]), {}
        if several and len({np.shape(part) for part in x}) > 1:
            raise ValueError(
                "Argument `x` must be one array of shape (N, ...): the model "
                f"has one input. Received: a list of {len(x)} arrays"
            )
        if self.structured and len(self.names) > 1:
            raise ValueError(
                f"Argument `x` must hold the inputs {self.names} of the "
                f"model. Received: {_described(x)}"
            )
        return _as_array(x), {}

    @property
    def _position(self) -> int | None:
        """Position of the attacked input where the model takes a list."""
        if self.attacked is None or not self.attacked.startswith(_ITEM):
            return None
        return int(self.attacked[len(_ITEM) :])

    def _takes_items(self) -> bool:
        """Whether a subclass is known to take a list."""
        return self._tensors is None and self._position is not None

    def _split_dictionary(self, x: dict[str, Any]) -> tuple[Any, Held]:
        key = self.attacked
        if self._tensors is not None and key is None:
            # One input, which Keras takes under its name, too.
            (name,) = self.names
            if name not in x and len(x) != 1:
                raise _missing_inputs(x, self.names)
            value = x[name] if name in x else next(iter(x.values()))
            return _as_array(value), {}
        if key is None:
            if len(x) > 1:
                raise ValueError(
                    "Argument `attacked` must name the input to perturb, one "
                    f"of {list(x)}. Received: attacked=None"
                )
            key = next(iter(x))
        if self._position is not None:
            # Keras takes a dictionary for a list by the names of its Inputs.
            if any(name not in x for name in self.names):
                raise _missing_inputs(x, self.names)
            return self._split_list([x[name] for name in self.names])
        expected = self.names or list(x)
        if any(name not in x for name in (*expected, key)):
            raise _missing_inputs(x, expected)
        held = {name: _as_array(x[name]) for name in expected if name != key}
        return _checked(_as_array(x[key]), held)

    def _split_list(self, x: Sequence[Any]) -> tuple[Any, Held]:
        if self._tensors is not None and len(x) != len(self.names):
            raise ValueError(
                f"Argument `x` must hold the inputs {self.names} of the "
                f"model. Received: {len(x)} arrays"
            )
        position = self._position
        if position is None:
            return self._split_dictionary(dict(zip(self.names, x, strict=True)))
        arrays = [_as_array(part) for part in x]
        held = {
            f"{_ITEM}{i}": array
            for i, array in enumerate(arrays)
            if i != position
        }
        return _checked(arrays[position], held)

    def pack(self, x: Any, held: Held | None) -> Any:
        """Put the attacked input and the others together, for the model.

        Args:
            x: Tensor or array `(N, ...)`.
            held: Dictionary as `split` returns it, or `None`.
        """
        if self.attacked is None:
            return x
        whole = {**(held or {}), self.attacked: x}
        whole = {key: _like_tensor(value, x) for key, value in whole.items()}
        if self._position is not None:
            return [whole[f"{_ITEM}{i}"] for i in range(len(whole))]
        return whole

    def flat(self, x: Any, held: Held | None) -> list[Any]:
        """As `pack`, as a list in the order of `model.inputs`."""
        return keras.tree.flatten(self.pack(x, held))

    def join(self, x: Any, image: Any) -> Any:
        """A copy of the inputs `x` with `image` as the attacked one."""
        if isinstance(x, dict):
            key = self._name_in(x)
            return {**x, key: image}
        position = self._position
        if not isinstance(x, (list, tuple)):
            return image
        if position is None:
            if self.attacked is None or len(x) != len(self.names):
                return image
            position = self.names.index(self.attacked)
        parts = [image if i == position else p for i, p in enumerate(x)]
        return tuple(parts) if isinstance(x, tuple) else parts

    def _name_in(self, x: dict[str, Any]) -> str:
        """The key of the attacked input in a dictionary of inputs."""
        if self.attacked is not None and self.attacked in x:
            return self.attacked
        if self._position is not None:
            return self.names[self._position]
        name = self.names[0] if self.names else None
        return name if name is not None and name in x else next(iter(x))


def _missing_inputs(x: dict[str, Any], expected: list[str]) -> ValueError:
    return ValueError(
        f"Argument `x` must hold the inputs {expected} of the model. "
        f"Received: {list(x)}"
    )


def _checked(image: Any, held: Held) -> tuple[Any, Held]:
    for name, value in held.items():
        if value.shape[0] != image.shape[0]:
            raise ValueError(
                "All inputs must hold as many examples as the attacked one, "
                f"{image.shape[0]}. Received: {value.shape[0]} for {name!r}"
            )
    return image, held


def _as_array(x: Any) -> Any:
    """Convert to an array or tensor of numbers."""
    check_complete(x, "x")
    if ops.is_tensor(x):
        return x
    if hasattr(x, "to_numpy"):
        x = x.to_numpy()
    kind = "something that cannot be converted to one"
    try:
        x = np.asarray(x)
        kind = f"x.dtype={x.dtype}"
    except ValueError:
        x = np.asarray(None)
    if x.dtype == object or x.dtype.kind in "USM":
        raise ValueError(
            "Argument `x` must be an array of numbers of shape (N, ...). "
            f"Received: {kind}"
        )
    return in_native_format(x)


def _like_tensor(value: Any, x: Any) -> Any:
    """`value` as a tensor if `x` is one: Keras does not mix them."""
    if ops.is_tensor(x) and isinstance(value, np.ndarray):
        return ops.convert_to_tensor(value)
    return value


def _described(x: Any) -> str:
    shape = getattr(x, "shape", None)
    return type(x).__name__ if shape is None else f"x.shape={tuple(shape)}"


def check_input_shape(
    expected: Shape | None, shape: Shape, name: str, model_name: str
) -> None:
    """Check that inputs have the shape of a model's Input.

    Args:
        expected: Shape of one input, with `None` for any size; `None` if it is
            not known.
        shape: Shape of the given inputs, `(N, ...)`.
        name: Name of the argument in errors.
        model_name: Name of the model.

    Raises:
        ValueError: If the shapes do not match.
    """
    if (
        expected is None
        or len(shape) == len(expected) + 1
        and _fits(expected, shape)
    ):
        return
    hint = ""
    if len(shape) == len(expected):
        if _fits(expected, (None, *shape)):
            hint = "; one image needs a batch axis: x[None]"
        elif expected[-1] == 1 and shape[1:] == expected[:-1]:
            hint = "; an axis of channels is missing: x[..., None]"
    elif sorted(map(str, shape[1:])) == sorted(map(str, expected)):
        hint = ", perhaps with its axis of channels in another place"
    sizes = ", ".join("any" if size is None else str(size) for size in expected)
    raise ValueError(
        f"Argument `{name}` must have the shape (N, {sizes}) of the input "
        f"of model {model_name!r}{hint}. Received: {name}.shape={shape}"
    )


def _fits(expected: Shape, shape: Shape) -> bool:
    """Whether all sizes but the first are as expected."""
    pairs = zip(expected, shape[1:], strict=True)
    return all(size in (None, given) for size, given in pairs)


def batch_of(
    array: Any, start: int, stop: int, missing: int, dtype: str | None = None
) -> Tensor:
    """Rows of an array as a tensor, filled up with copies of the first.

    Args:
        array: Array `(N, ...)`.
        start: First row.
        stop: Row after the last.
        missing: How many copies to add.
        dtype: Of the tensor; `None` for its own, with float32 for float64.
    """
    batch = np.asarray(array[start:stop], dtype)
    if batch.dtype == np.float64:
        batch = batch.astype("float32")
    if missing:
        batch = np.concatenate([batch, batch[:1].repeat(missing, 0)])
    return ops.convert_to_tensor(batch)
