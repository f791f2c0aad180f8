"""Data sets as arrays."""

import hashlib
import numbers
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NoReturn

import keras
import numpy as np
from keras import ops

from keras_robust.utils.messages import describe
from keras_robust.utils.plain_arrays import check_complete
from keras_robust.utils.plain_arrays import in_native_format

# How much a data set of unknown length may hold before it counts as
# endless: examples, and bytes.
MAX_EXAMPLES = 500_000
MAX_BYTES = 4 * 2**30
# A data set counts as endless after this many periods of equal batches, with at
# least this many examples.
_PERIODS = 3
_REPEATED_EXAMPLES = 1000
# What ends a data set.
_REMEDY = "end it with `.take(batches)`"


def is_dataset(data: Any) -> bool:
    """Whether `data` is a data set, an iterable of batches.

    Args:
        data: A `tf.data.Dataset`, `PyDataset`, `DataLoader`, generator or list
            of batches; or arrays, lists of numbers and data frames, which are
            not data sets.
    """
    if isinstance(data, (str, bytes, dict)) or _is_array(data):
        return False
    if isinstance(data, (list, tuple)):
        # A tuple of two lists: several inputs and several outputs.
        if not data:
            return False
        are_parts = isinstance(data, tuple) and isinstance(data[0], list)
        return not are_parts and all(map(_is_batch, data))
    return hasattr(data, "__iter__")


def _is_array(value: Any) -> bool:
    """Whether a value is an array, a tensor or a data frame."""
    return hasattr(value, "dtype") or hasattr(value, "to_numpy")


def _has_rows(value: Any) -> bool:
    return _is_array(value) and len(np.shape(value)) > 0


def _is_batch(value: Any) -> bool:
    if isinstance(value, dict):
        return {"image", "label"} <= value.keys()
    return (
        isinstance(value, (list, tuple))
        and len(value) in (2, 3)
        and all(_has_rows(part) for part in value[1:])
        and (
            _has_rows(value[0])
            or isinstance(value[0], (dict, list, tuple))
            and all(map(_has_rows, keras.tree.flatten(value[0])))
        )
    )


def read_data(
    data: Any,
    several: bool | None = None,
    check: Callable[[Any, Any], None] | None = None,
) -> tuple[Any, Any]:
    """Read inputs and labels of arrays or a data set.

    Args:
        data: `(x, y)`: arrays, tensors, lists of numbers or data frames, where
            `x` may be a dictionary or list of several inputs; a dictionary
            with `"image"` and `"label"`; or a data set of such batches. A
            third element, the sample weights, is ignored.
        several: Whether a list `x` holds several inputs rather than rows;
            `None` to infer it from the shapes.
        check: Called as `check(x, y)` with the first batch of a data set,
            before more is read; may raise.

    Returns:
        `(x, y)`: NumPy arrays, dictionaries or lists of NumPy arrays.

    Raises:
        ValueError: If `data` is something else, holds text or objects, does
            not end or is not batched.
    """
    check_form(data)
    if is_dataset(data):
        return to_arrays(data, several, check)
    return _pair(data, several)


def check_form(data: Any) -> None:
    """Raise unless `data` is a pair or a data set; reads nothing.

    Args:
        data: As in `read_data`.

    Raises:
        ValueError: If it is something else, such as the inputs alone.
    """
    is_pair = isinstance(data, (list, tuple)) and len(data) in (2, 3)
    if is_pair or isinstance(data, dict) or is_dataset(data):
        return
    raise ValueError(
        "Argument `data` must be a pair `(x, y)` of arrays, in one argument, "
        f"or a data set of batches `(x, y)`. Received: data={describe(data)}"
    )


def to_arrays(
    dataset: Any,
    several: bool | None = None,
    check: Callable[[Any, Any], None] | None = None,
) -> tuple[Any, Any]:
    """Read inputs and labels of a data set of batches, in order.

    Args:
        dataset: Iterable of batches `(x, y)` or `(x, y, sample_weight)`, or
            of dictionaries with `"image"` and `"label"`, that ends. The
            weights are ignored.
        several: As in `read_data`.
        check: As in `read_data`.

    Returns:
        `(x, y)`: NumPy arrays, dictionaries or lists of NumPy arrays.

    Raises:
        ValueError: If it is empty, endless or not batched, or its elements
            are not pairs.
    """
    watch = None if has_known_length(dataset) else EndlessWatch()
    pairs: list[tuple[Any, Any]] = []
    for batch in _batches(dataset):
        pair = _pair(batch, several, is_batch=True)
        if check and not pairs:
            check(*pair)
        if watch:
            watch.add(pair)
        # A copy: a generator may fill the same arrays again.
        pairs.append(keras.tree.map_structure(np.array, pair))
    if not pairs:
        raise ValueError("A data set must have batches. Received: none")
    try:
        x, y = keras.tree.map_structure(
            lambda *parts: np.concatenate(parts), *pairs
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            "All batches of a data set must have the same structure and the "
            f"same shape of an example. Received: batches that differ ({error})"
        ) from None
    return x, y


def as_array(value: Any, name: str = "x") -> np.ndarray:
    """Convert numbers to a NumPy array.

    Args:
        value: Array, tensor, list of numbers, data frame or series.
        name: Name for error messages.

    Returns:
        NumPy array of booleans, integers, float32 or float64.

    Raises:
        ValueError: If it holds text or other objects, or rows of different
            lengths.
    """
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    check_complete(value, name)
    is_tensor = hasattr(value, "dtype") and not isinstance(value, np.ndarray)
    try:
        array = np.asarray(ops.convert_to_numpy(value) if is_tensor else value)
    except (TypeError, ValueError):
        raise ValueError(
            f"Argument `{name}` must hold numbers, in rows of one shape. "
            f"Received: {name}={describe(value)}"
        ) from None
    if array.dtype.kind == "O":
        array = _numbers_of(array)
    # Half precision: `V` is bfloat16.
    if array.dtype.kind == "V" or array.dtype == "float16":
        array = array.astype("float32")
    array = in_native_format(array)
    if array.dtype.kind in "biuf":
        return array
    example = array.reshape(-1)[0] if array.size else None
    hint = (
        "; number the classes first: `numpy.unique(y, return_inverse=True)[1]`"
        if name.startswith("y") and array.dtype.kind in "USO"
        else ""
    )
    raise ValueError(
        f"Argument `{name}` must hold numbers{hint}. "
        f"Received: {name}.dtype={array.dtype}, such as {describe(example)}"
    )


def _numbers_of(array: np.ndarray) -> np.ndarray:
    """Convert an array of objects to numbers, where they are numbers."""
    flat = array.reshape(-1)
    if not all(
        isinstance(entry, (bool, np.bool_, numbers.Real)) for entry in flat
    ):
        return array
    whole = all(
        isinstance(entry, (bool, np.bool_, numbers.Integral)) for entry in flat
    )
    return array.astype("int64" if whole else "float64")


def _pair(
    batch: Any, several: bool | None = None, is_batch: bool = False
) -> tuple[Any, Any]:
    """`(x, y)` as NumPy, checked to hold as many labels as examples."""
    if isinstance(batch, dict):
        if not {"image", "label"} <= batch.keys():
            raise ValueError(
                "A dictionary of data must hold 'image' and 'label'. "
                f"Received: {describe(batch)}"
            )
        batch = batch["image"], batch["label"]
    if not isinstance(batch, (list, tuple)) or len(batch) not in (2, 3):
        raise ValueError(
            f"A data set must give batches (x, y). Received: {describe(batch)}"
        )
    y = _leaves(batch[1], "y", None)
    labels = keras.tree.flatten(y)
    count = len(labels[0]) if labels and labels[0].ndim else None
    x = _leaves(batch[0], "x", several, count)
    inputs = keras.tree.flatten(x)
    if is_batch and any(
        part.ndim == 0 or len(part) != count for part in (*inputs, *labels)
    ):
        raise ValueError(
            "A data set must give batches: call `.batch(128)` on it. Received: "
            f"an element with x of shape {_shapes(inputs)} and y of shape "
            f"{_shapes(labels)}"
        )
    return x, y


def _shapes(parts: Iterable[np.ndarray]) -> str:
    return ", ".join(str(part.shape) for part in parts)


def _leaves(
    value: Any, name: str, several: bool | None, examples: int | None = None
) -> Any:
    """NumPy arrays in the structure of the inputs or outputs of a model."""
    if isinstance(value, dict):
        return {
            key: as_array(part, f"{name}[{key!r}]")
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)) and (
        _are_inputs(value, examples) if several is None else several
    ):
        return [
            as_array(part, f"{name}[{number}]")
            for number, part in enumerate(value)
        ]
    return as_array(value, name)


def _are_inputs(parts: Sequence[Any], examples: int | None) -> bool:
    """Whether a list holds several inputs rather than one row per example."""
    if not parts or not all(_has_rows(part) for part in parts):
        return False
    lengths = {len(part) for part in parts}
    if examples is None:
        return len(lengths) == 1 and isinstance(parts, tuple)
    return lengths == {examples}


def has_known_length(dataset: Any, remedy: str = _REMEDY) -> bool:
    """Whether a data set is known to end.

    Args:
        dataset: `tf.data.Dataset`, `PyDataset` or another iterable.
        remedy: What to do about one that does not, for the error message.

    Raises:
        ValueError: If it is known that it does not.
    """
    endless = ""
    if isinstance(dataset, keras.utils.PyDataset):
        try:
            count = dataset.num_batches
            endless = "num_batches=None" if count is None else ""
        except NotImplementedError:
            endless = "no `num_batches`"
    elif hasattr(dataset, "cardinality"):
        # A `tf.data.Dataset`: -1 is endless, -2 unknown.
        count = int(dataset.cardinality())
        endless = "`.repeat()`" if count == -1 else ""
        if count == -2:
            return False
    else:
        try:
            len(dataset)
        except (TypeError, NotImplementedError):
            return False
    if endless:
        _refuse_endless(
            f"an endless {type(dataset).__name__} ({endless})", remedy
        )
    return True


def _refuse_endless(received: str, remedy: str) -> NoReturn:
    raise ValueError(
        "A data set must end after one pass; leave out `.repeat()`, or "
        f"{remedy}. Received: {received}"
    )


def _batches(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, keras.utils.PyDataset):
        return (dataset[number] for number in range(dataset.num_batches))
    return iter(dataset)


class EndlessWatch:
    """Notices that a data set of unknown length does not end.

    Args:
        remedy: What to do about one that does not, for the error message.
        in_memory: Whether its batches are kept in memory: then so many
            examples or bytes that no end is in sight are refused, too.
    """

    def __init__(self, remedy: str = _REMEDY, in_memory: bool = True) -> None:
        self.remedy = remedy
        self.in_memory = in_memory
        self.examples = 0
        self.bytes = 0
        self.digests: list[bytes] = []
        # For each batch: how many batches up to it are also the first ones.
        self.borders: list[int] = []

    def add(self, pair: Any) -> None:
        """Count a batch.

        Args:
            pair: Its arrays, nested.

        Raises:
            ValueError: If there have been too many.
        """
        digest = hashlib.blake2b(digest_size=16)
        for part in keras.tree.flatten(pair):
            self.bytes += part.nbytes
            digest.update(np.ascontiguousarray(part).data)
        self.examples += len(part)
        self._extend(digest.digest())
        count = len(self.digests)
        period = count - self.borders[-1]
        if count >= _PERIODS * period and self.examples >= _REPEATED_EXAMPLES:
            _refuse_endless(
                f"the same {period} batches again and again, "
                f"{self.examples} examples so far",
                self.remedy,
            )
        if self.in_memory and (
            self.examples > MAX_EXAMPLES or self.bytes > MAX_BYTES
        ):
            _refuse_endless(
                f"{self.examples} examples without an end; where so many are "
                "meant, pass arrays or a data set of known length",
                self.remedy,
            )

    def _extend(self, digest: bytes) -> None:
        """The step of Knuth, Morris and Pratt's search for a period."""
        border = self.borders[-1] if self.borders else 0
        while border and self.digests[border] != digest:
            border = self.borders[border - 1]
        if self.digests and self.digests[border] == digest:
            border += 1
        self.digests.append(digest)
        self.borders.append(border)
