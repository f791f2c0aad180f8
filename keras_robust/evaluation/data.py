"""Examples as every part of an evaluation takes them."""

import os
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_robust.attacks.access import check_access
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.grid import grid_of
from keras_robust.classifier import Classifier
from keras_robust.classifier import check_built
from keras_robust.classifier import inner_model
from keras_robust.datasets.arrays import read_data
from keras_robust.datasets.pixels import DARK
from keras_robust.datasets.pixels import check_units
from keras_robust.datasets.pixels import to_unit
from keras_robust.evaluation.scaling import with_statistics
from keras_robust.utils import array_checks
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

# Options of a `Classifier` that attacks have as well.
_OPTIONS = ("from_logits", "attacked", "output")


class Examples(NamedTuple):
    """A classifier with checked inputs and labels.

    Attributes:
        classifier: `Classifier`.
        x: NumPy arrays in the structure that the model takes.
        y: Int32 array `(N,)`.
        image: The attacked input, NumPy array `(N, ...)`.
        held: Dictionary of the inputs that are held fixed.
    """

    classifier: Classifier
    x: Any
    y: np.ndarray
    image: np.ndarray
    held: dict[str, np.ndarray]

    @classmethod
    def of(cls, classifier: Classifier, x: Any, y: np.ndarray) -> "Examples":
        """Examples of checked inputs and labels."""
        image, held = classifier.split(x)
        return cls(classifier, x, y, image, held)

    def take(self, rows: np.ndarray) -> "Examples":
        """Some of the examples."""
        x = keras.tree.map_structure(lambda part: part[rows], self.x)
        return self.of(self.classifier, x, self.y[rows])

    def predict(
        self, image: np.ndarray, rows: Any, batch_size: int
    ) -> np.ndarray:
        """Labels that the model gives to changed images of some examples.

        Args:
            image: Array like `self.image[rows]`.
            rows: Indices or slice, for the inputs that are held fixed.
            batch_size: Int >= 1.

        Returns:
            Int32 array.
        """
        logits = self.predict_logits(image, rows, batch_size)
        return logits.argmax(-1).astype("int32")

    def predict_logits(
        self, image: np.ndarray, rows: Any, batch_size: int
    ) -> np.ndarray:
        """Logits that the model gives to changed images of some examples.

        Args:
            image: Array like `self.image[rows]`, not empty.
            rows: Indices or slice, for the inputs that are held fixed.
            batch_size: Int >= 1.

        Returns:
            Float32 array `(N, C)`.
        """
        held = {name: part[rows] for name, part in self.held.items()}
        return self.classifier.predict_logits(image, batch_size, held)


def check_model(model: Any, name: str = "model") -> None:
    """Raise unless `model` is a built Keras model or a `Classifier`."""
    if isinstance(model, Classifier):
        return
    if not isinstance(model, keras.Model):
        hint = ""
        if callable(model) and not isinstance(model, type):
            hint = "; of a function make one by kr.Classifier.from_function"
        raise ValueError(
            f"Argument `{name}` must be a built Keras model{hint}. "
            f"Received: {name}={describe(model)}"
        )
    check_built(inner_model(model))


def check_function(
    model: Any,
    attacks: Iterable[Attack] = (),
    state_path: str | os.PathLike[str] | None = None,
) -> None:
    """Raise where a function cannot take the place of a model.

    Args:
        model: The model; nothing is checked of one that has gradients.
        attacks: Attacks on it.
        state_path: As in `evaluate_robustness`.

    Raises:
        ValueError: If an attack needs more than the function gives, or its
            state could not be told from that of another function.
    """
    if not isinstance(model, Classifier) or model.access == "gradients":
        return
    for attack in attacks:
        check_access(attack, model)
    if state_path is not None and model.fingerprint() is None:
        raise ValueError(
            "With `state_path`, a function must have a name by which it is "
            "known again: kr.Classifier.from_function(..., name='service, "
            f"version 3'). Received: {model.name!r}, without `name`"
        )


def read_examples(
    model: Any,
    data: Any,
    attacks: Iterable[Attack] = (),
    scaling: str | tuple[Any, ...] | None = None,
    value_range: Any = "auto",
    **options: Any,
) -> Examples:
    """Read and check data for a model; see `check_data`.

    Args:
        model: A built Keras classifier or a `Classifier`.
        data: As in `datasets.arrays.read_data`.
        attacks: Attacks whose `value_range` the images must lie in, and whose
            options count where none are given here.
        scaling: As in `evaluate_robustness`.
        value_range: Another box that the images must lie in, as
            `check_value_range` gives it.
        **options: Of `from_logits`, `attacked`, `output`, see `Classifier`.

    Returns:
        `Examples`.

    Raises:
        ValueError: If data and model do not fit.
    """
    check_model(model)
    attacks = list(attacks)
    options = {
        key: _shared_option(key, options.get(key), attacks) for key in _OPTIONS
    }
    needs_data = scaling == "standardized"
    # Says which input is attacked, before any data are read.
    first = Classifier.of(
        model, **options, scaling=None if needs_data else scaling
    )
    is_scaled = needs_data or first.outputs.scaling is not None
    boxes = [attack.value_range for attack in attacks] + [value_range]
    boxes = [box for box in boxes if not isinstance(box, str)]
    if is_scaled:
        _check_scaled_ranges(boxes)

    def read(x: Any, y: Any) -> Examples:
        x = _read_x(first, x, boxes, is_scaled)
        found = first
        if needs_data:
            statistics = with_statistics(scaling, first.split(x)[0], first)
            found = Classifier.of(first, scaling=statistics)
        image, held = found.split(x)
        if not len(image):
            raise ValueError(
                "Argument `data` must hold examples. Received: none"
            )
        if found.integer_input:
            array_checks.check_whole(image, grid_of(found, image))
        classes = found.check(image, held)
        y = _labels_of(y, options["output"])
        y = array_checks.check_labels(y, len(image), classes)
        return Examples(found, x, y, image, held)

    def check(x: Any, y: Any) -> None:
        read(x, y)

    x, y = read_data(
        data,
        several=takes_several(first),
        check=None if needs_data else check,
    )
    return read(x, y)


def _shared_option(key: str, given: Any, attacks: Iterable[Attack]) -> Any:
    """An option as given, or as the attacks have it."""
    values = {getattr(attack, key, None) for attack in attacks}
    values = {given, *values} - {None}
    if len(values) > 1:
        raise ValueError(
            f"Argument `{key}` must be the same for the evaluation and for all "
            f"attacks. Received: {sorted(map(str, values))}"
        )
    return values.pop() if values else None


def check_data(
    model: Any,
    data: Any,
    from_logits: bool | None = None,
    attacked: str | int | None = None,
    output: str | int | None = None,
    scaling: str | tuple[Any, ...] | None = None,
) -> tuple[Classifier, Any, np.ndarray]:
    """Read data as NumPy arrays and check that they fit the model.

    Args:
        model: A built Keras classifier or a `Classifier`.
        data: `(x, y)` arrays, or a data set of `(x, y)` batches.
        from_logits: As in `PGDAttack`.
        attacked: Name of the input that attacks move.
        output: Name of the output that is classified.
        scaling: As in `evaluate_robustness`.

    Returns:
        `(classifier, x, y)`: `x` in the structure that the model takes, int32
        labels of shape `(N,)`.

    Raises:
        ValueError: If they do not fit, or there are no examples.
    """
    found = read_examples(
        model,
        data,
        scaling=scaling,
        from_logits=from_logits,
        attacked=attacked,
        output=output,
    )
    return found.classifier, found.x, found.y


def takes_several(classifier: Classifier) -> bool | None:
    """Whether a model takes several inputs; `None` if unknown."""
    names = classifier.inputs.names
    return len(names) > 1 if names else None


def _labels_of(y: Any, output: str | int | None) -> Any:
    """The labels of the output that is classified."""
    if isinstance(y, dict):
        if output in y:
            return y[output]
        if len(y) == 1:
            return next(iter(y.values()))
    if isinstance(y, list) and isinstance(output, int):
        return y[output]
    if isinstance(y, (dict, list)):
        raise ValueError(
            "Argument `output` must name the output whose labels count. "
            f"Received: output={shown(output)}, y={describe(y)}"
        )
    return y


def _read_x(
    classifier: Classifier, x: Any, boxes: Iterable[Any], is_scaled: bool
) -> Any:
    """`x` with floats in the place of the attacked input."""
    image, _ = classifier.split(x)
    image = np.asarray(image)
    if is_scaled:
        floats = _scaled(image)
        if classifier.integer_input:
            # Pixels as they are stored.
            floats = np.round(255 * floats) / np.float32(255)
    else:
        floats = _in_range(image, boxes)
    return classifier.join(x, floats)


def _scaled(image: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] from bytes or from [0, 1]."""
    check_units(image)
    floats: np.ndarray = to_unit(image)
    if image.size and not (0 <= floats.min() and floats.max() <= 1):
        raise ValueError(
            "With `scaling`, images must lie in [0, 1], or be pixels of 0 to "
            f"255. Received: values in [{image.min()}, {image.max()}]"
        )
    return floats


def _in_range(image: np.ndarray, boxes: Iterable[Any]) -> np.ndarray:
    """Floats, checked to lie in each box."""
    whole = image.dtype.kind in "biu"
    floats = image.astype("float32") if whole else image
    for bounds in boxes:
        if tuple(map(np.ndim, bounds)) == (0, 0) and tuple(bounds) == (0, 1):
            _check_unit(image)
        array_checks.check_images(floats, bounds)
    return np.asarray(floats)


def _check_unit(image: np.ndarray) -> None:
    """Raise for pixels of 0 to 255 where [0, 1] is expected."""
    if not image.size or image.ndim < 2:
        return
    low, high = image.min(), image.max()
    are_bytes = 0 <= low and 1 < high <= 255 and image.ndim > 2
    if are_bytes and high <= DARK and image.dtype != "uint8":
        raise ValueError(
            "The pixels must lie in value_range=(0, 1). Pass the "
            "range that they have, such as value_range=(0, "
            f"{high:g}), and radii in its units. "
            f"Received: {describe(image)}, values in [{low}, {high}]"
        )
    if are_bytes or image.dtype == "uint8":
        raise ValueError(
            "The pixels lie in [0, 255]. Pass scaling='byte' (radii stay "
            "shares of the range), or value_range=(0, 255), which an attack "
            "has for itself, and radii such as epsilon=8. "
            f"Received: {describe(image)}, values in [{low}, {high}]"
        )


def _check_scaled_ranges(boxes: Iterable[Any]) -> None:
    """Raise where `scaling` and a box assume different pixels."""
    for bounds in boxes:
        if np.all(bounds[0] == 0) and np.all(bounds[1] == 1):
            continue
        raise ValueError(
            "With `scaling`, images and radii are in [0, 1], so that an attack "
            "must have value_range=(0, 1). "
            f"Received: value_range={shown(bounds)}"
        )
