"""Functions, such as web services, in the place of models."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextlib import nullcontext
from typing import Any
from typing import Never

import keras
import numpy as np
from keras import ops

from keras_robust.classifier.classifier import CHECK_EXAMPLES
from keras_robust.classifier.classifier import PREDICTION_DRAW
from keras_robust.classifier.classifier import Classifier
from keras_robust.classifier.frozen_model import ROUNDING
from keras_robust.classifier.frozen_model import agree
from keras_robust.classifier.inputs import Held
from keras_robust.classifier.inputs import Inputs
from keras_robust.classifier.inputs import Shape
from keras_robust.classifier.logits import OwnOutputs
from keras_robust.classifier.logits import SearchLogits
from keras_robust.classifier.parts import Options
from keras_robust.classifier.scaling import Scaling
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.checks import check_value_range
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

# Takes a float32 array `(n, ...)`, returns labels `(n,)` or scores `(n, C)`.
Predict = Callable[[np.ndarray], Any]
# Rows that are this near to a sum of 1 hold probabilities.
_SUM_TOLERANCE = 1e-3
# Share of the differences of scores that may get lost by rounding.
_LOST = 1e-5


class FunctionOutputs(OwnOutputs):
    """The answers of a function, each image's in a row of its own.

    Args:
        predict: See `FunctionClassifier`.
        num_classes: Int >= 2.
        batch_size: Int >= 1, images in one call at most.
        scaling: How images in [0, 1] are scaled for the function, or `None`.

    Attributes:
        kind: `"labels"` or `"scores"`, once the function was called.
    """

    def __init__(
        self,
        predict: Predict,
        num_classes: int,
        batch_size: int,
        scaling: Scaling | None,
    ) -> None:
        self.predict = predict
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.scaling = scaling
        self.kind: str | None = None

    @property
    def width(self) -> int:
        """The number of classes."""
        return self.num_classes

    def structure(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """See `OwnOutputs`: there is one output only."""
        return self(x, draw, held)

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """Scores at `x` as a tensor; called outside of compiled functions."""
        del draw, held
        return ops.convert_to_tensor(self.query(ops.convert_to_numpy(x)))

    def query(self, x: np.ndarray) -> np.ndarray:
        """Call the function, with no more images at once than it takes.

        Args:
            x: Array `(N, ...)`, N >= 1.

        Returns:
            Float32 array `(N, C)`: scores; or 1 at the label and 0 elsewhere.

        Raises:
            ValueError: If the function returns neither labels nor scores.
        """
        found = []
        for start in range(0, len(x), self.batch_size):
            # A copy: the function may change what it gets.
            images = np.array(x[start : start + self.batch_size], "float32")
            if self.scaling is not None:
                scaled = self.scaling(ops.convert_to_tensor(images))
                images = np.array(ops.convert_to_numpy(scaled))
            found.append(self._as_scores(self.predict(images), len(images)))
        return np.concatenate(found)

    def _as_scores(self, answer: Any, count: int) -> np.ndarray:
        """Check one answer for `count` images and return its scores."""
        if ops.is_tensor(answer):
            answer = ops.convert_to_numpy(answer)
        try:
            answer = np.asarray(answer)
        except ValueError:
            answer = np.asarray(None)
        classes, numbers = self.num_classes, answer.dtype.kind in "uif"
        if numbers and answer.shape == (count, classes):
            kind = "scores"
        elif answer.dtype.kind in "ui" and answer.shape == (count,):
            kind = "labels"
        else:
            raise ValueError(
                "A function must return scores of shape (n, num_classes) or "
                "integer labels of shape (n,) for n images, here "
                f"({count}, {classes}) or ({count},). "
                f"Received: {describe(answer)}"
            )
        if self.kind not in (None, kind):
            raise ValueError(
                "A function must return either labels or scores in all calls. "
                f"Received: {kind} after {self.kind}"
            )
        self.kind = kind
        if kind == "scores":
            return _as_float32(answer)
        if answer.min() < 0 or answer.max() >= classes:
            raise ValueError(
                f"Labels of a function must lie in 0 ... {classes - 1}. "
                f"Received: {answer.min()} to {answer.max()}"
            )
        return np.eye(classes, dtype="float32")[answer]


class FunctionLogits(SearchLogits):
    """Logits of a function, which have no gradient.

    Args:
        outputs: The answers of the function.
        from_logits: `None` to find out by `examine`.
    """

    def __init__(
        self, outputs: FunctionOutputs, from_logits: bool | None
    ) -> None:
        self._own = outputs
        self.known = from_logits is not None
        self.gives_probabilities = from_logits is False

    @property
    def is_rewritten(self) -> bool:
        """Whether logits come from anything but the function: never."""
        return False

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """See `SearchLogits`; called outside of compiled functions."""
        outputs = ops.convert_to_numpy(self._own(x, draw, held))
        return ops.convert_to_tensor(self.from_outputs(outputs))

    def cached_weights(self) -> AbstractContextManager[None]:
        """See `SearchLogits`: a function has no weights that are known."""
        return nullcontext()

    def examine(self, outputs: np.ndarray, is_labels: bool) -> None:
        """Find out whether a function gives probabilities.

        Args:
            outputs: Its first answers, `(n, C)`.
            is_labels: Whether they stand for labels.
        """
        if is_labels:
            self.known, self.gives_probabilities = True, False
        if self.known:
            return
        near_one = np.abs(outputs.sum(-1) - 1).max() <= _SUM_TOLERANCE
        self.gives_probabilities = bool(near_one and outputs.min() >= 0)
        self.known = True


class FunctionClassifier(Classifier):
    """Any function from images to labels or scores, as a `Classifier`.

    Attacks without gradients take it in place of a Keras model:
    `SquareAttack` and `SpatialAttack` if it gives scores, `HopSkipJumpAttack`
    and `SpatialAttack` if it gives labels. So do `evaluate_robustness`,
    `robustness_curve` and, as a target, `transfer_matrix`. The function is
    called as it is: nothing around it is compiled, and nothing is known about
    it but its answers. The first call finds out whether they are labels or
    scores.

    Args:
        predict: Takes a float32 NumPy array `(n, ...)` of images and returns
            integer labels `(n,)`, or scores `(n, num_classes)` of which the
            largest wins: logits, probabilities or anything else.
        num_classes: Int >= 2.
        input_shape: Shape of one image, `None` for an axis of any size, which
            is checked before a call; or `None` if it is not known.
        value_range: `(low, high)`, the pixels that the function takes, for
            attacks with `value_range="auto"`.
        from_logits: `False` if scores are probabilities, whose logarithms
            attacks use; `None` to find out: they are if the first ones are >= 0
            and sum to 1.
        batch_size: Int >= 1, images in one call at most.
        name: What the function computes, such as `"service, version 3"`. A
            stopped evaluation is resumed (`state_path`) by this name alone, so
            that another version needs another name; without one it is refused.

    Example:

    ```python
    service = keras_robust.Classifier.from_function(
        lambda images: ask_the_service(images), num_classes=10
    )
    x_adv = keras_robust.HopSkipJumpAttack(queries=1000)(service, x, y)
    ```
    """

    def __init__(
        self,
        predict: Predict,
        num_classes: int,
        *,
        input_shape: Shape | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        from_logits: bool | None = None,
        batch_size: int = 128,
        name: str | None = None,
        scaling: Any = None,
    ) -> None:
        if isinstance(predict, keras.Model) or not callable(predict):
            raise ValueError(
                "Argument `predict` must be a function from images to labels "
                "or scores; a Keras model needs none. "
                f"Received: predict={describe(predict)}"
            )
        if name is not None and not (isinstance(name, str) and name):
            raise ValueError(
                "Argument `name` must be a text that is not empty, or None. "
                f"Received: name={shown(name)}"
            )
        self._range = check_value_range(value_range)
        if isinstance(self._range, str):
            raise ValueError(
                "Argument `value_range` of a function must be (low, high). "
                f"Received: value_range={shown(value_range)}"
            )
        self._name = name
        self._input_shape = None if input_shape is None else tuple(input_shape)
        self._options = Options(from_logits, None, None, scaling)
        self.given = predict
        self.from_logits = from_logits
        self.attacked = self.output = None
        self.inputs = Inputs(None)
        self._answers = FunctionOutputs(
            predict,
            check_positive_integer(num_classes, "num_classes", least=2),
            check_positive_integer(batch_size, "batch_size"),
            None if scaling is None else Scaling(scaling),
        )
        self._scores = FunctionLogits(self._answers, from_logits)
        self.outputs, self.logits = self._answers, self._scores
        self._cache: dict[Any, Any] = {}

    def _with_options(self, options: Options) -> Classifier:
        for key in ("attacked", "output"):
            if getattr(options, key) is not None:
                raise ValueError(
                    f"Argument `{key}` must be None for a function, which has "
                    "one input and one output. "
                    f"Received: {key}={shown(getattr(options, key))}"
                )
        if _key(options) == _key(self._options):
            return self
        return FunctionClassifier(
            self._answers.predict,
            self.num_classes,
            input_shape=self._input_shape,
            value_range=self._range,
            from_logits=options.from_logits,
            batch_size=self._answers.batch_size,
            name=self._name,
            scaling=options.scaling,
        )

    @property
    def model(self) -> Never:
        """See `Classifier`: refused, a function has no Keras model.

        Raises:
            ValueError: Always.
        """
        raise self._refusal("a Keras model")

    def _refusal(self, what: str) -> ValueError:
        return ValueError(
            f"This needs {what}. Received: the classifier {self.name!r}, made "
            "from a function, of which only answers are known"
        )

    @property
    def name(self) -> str:
        """The name as given, or that of the function."""
        known = getattr(self._answers.predict, "__name__", "function")
        return self._name or str(known)

    @property
    def layers(self) -> list[Any]:
        """None are known."""
        return []

    @property
    def access(self) -> str:
        """See `Classifier`; before the first call `"scores"`."""
        return self._answers.kind or "scores"

    @property
    def rounding(self) -> float:
        """See `Classifier`."""
        return ROUNDING

    @property
    def variables(self) -> list[keras.Variable]:
        """None are known."""
        return []

    def jit(self, jit_compile: bool | str = "auto") -> bool:
        """See `Classifier`: nothing is compiled."""
        del jit_compile
        return False

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self._answers.num_classes

    @property
    def input_shape(self) -> Shape | None:
        """Shape of one image, if given."""
        return self._input_shape

    @property
    def batch_size(self) -> None:
        """See `Classifier`: batches of any size are split for the function."""
        return None

    def value_range(self) -> tuple[float, float]:
        """The range of pixels, as given; (0, 1) where they are scaled."""
        if self.outputs.scaling is not None:
            return (0.0, 1.0)
        low, high = self._range
        return low, high

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """See `Classifier`: cached for as long as this object lives."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def refresh(self, image: Any, held: Held | None = None) -> None:
        """See `Classifier`: nothing is compiled that could be stale."""

    def check(self, image: Any, held: Held | None = None) -> int:
        """Check the shape of inputs, and once the answers to a few of them.

        Args:
            image: Array or tensor `(N, ...)`, N >= 1.
            held: Not used.

        Returns:
            The number of classes.

        Raises:
            ValueError: If inputs or answers do not have the right shape.
        """
        self.check_shape(image)
        if self._answers.kind is None:
            outputs = self.predict_outputs(image[:CHECK_EXAMPLES])
            self._scores.examine(outputs, self._answers.kind == "labels")
        return self.num_classes

    def predict_outputs(
        self,
        image: Any,
        batch_size: int = 128,
        held: Held | None = None,
        draw: int = PREDICTION_DRAW,
    ) -> np.ndarray:
        """The answers of the function.

        Args:
            image: Array `(N, ...)`, N >= 1.
            batch_size: Not used: the function has its own.
            held: Not used.
            draw: Not used: random answers are the function's own.

        Returns:
            Float32 array `(N, C)`.
        """
        del batch_size, held, draw
        return self._answers.query(ops.convert_to_numpy(image))

    def is_randomized(self, image: Any, held: Held | None = None) -> bool:
        """See `Classifier`: whether two calls on a few images differ."""

        def outputs_differ() -> bool:
            few = image[:CHECK_EXAMPLES]
            first, second = (self.predict_logits(few) for _ in range(2))
            return not agree(first, second, self.rounding)

        return bool(self.cached("randomized", outputs_differ))

    def layer_outputs(self, layer: str) -> Never:
        """See `Classifier`: refused."""
        raise self._refusal(f"layer {layer!r} of a Keras model")

    def representation(self, layer: str | None = None) -> Never:
        """See `Classifier`: refused."""
        raise self._refusal("the representation of a Keras model")

    def fingerprint(self) -> str | None:
        """A hash of the name and options; `None` without a name."""
        if self._name is None:
            return None
        facts = "function", self._name, self.num_classes, _key(self._options)
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def _key(options: Options) -> Options:
    """Options that can be compared, whatever holds the scaling."""
    if options.scaling is None:
        return options
    return options._replace(scaling=Scaling(options.scaling).key)


def _as_float32(scores: np.ndarray) -> np.ndarray:
    """Scores in float32, in which the same class is ahead as before.

    Sums of many logarithms are large, and their differences, which decide, get
    lost in float32. Those rows become their differences from the largest score.
    """
    wide = scores.astype("float64")
    with np.errstate(over="ignore"):
        narrow: np.ndarray = wide.astype("float32")
    largest, least = wide.max(-1), wide.min(-1)
    are_probabilities = (least >= 0) & (
        np.abs(wide.sum(-1) - 1) <= _SUM_TOLERANCE
    )
    rows = np.flatnonzero(
        np.isfinite(wide).all(-1) & (largest > least) & ~are_probabilities
    )
    spread = largest[rows] - least[rows]
    lost = np.abs(narrow[rows] - wide[rows]).max(-1, initial=0.0)
    rows = rows[lost > _LOST * spread]
    narrow[rows] = wide[rows] - largest[rows, None]
    return narrow
