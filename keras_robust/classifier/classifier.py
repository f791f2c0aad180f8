"""A Keras model as attacks, evaluation and training see it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from typing import TypeVar

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.backend import Tensor
from keras_robust.classifier.backward import Backward
from keras_robust.classifier.backward import variables_with
from keras_robust.classifier.batches import in_batches
from keras_robust.classifier.batches import padded_rows
from keras_robust.classifier.fingerprint import model_sha256
from keras_robust.classifier.freshness import compiled_matches
from keras_robust.classifier.freshness import draws_compared
from keras_robust.classifier.freshness import plain_calls_differ
from keras_robust.classifier.frozen import check_built
from keras_robust.classifier.frozen import inner_model
from keras_robust.classifier.frozen_model import FrozenModel
from keras_robust.classifier.frozen_model import agree
from keras_robust.classifier.frozen_model import rounding_of
from keras_robust.classifier.head import precise_dtype
from keras_robust.classifier.inputs import Held
from keras_robust.classifier.inputs import Shape
from keras_robust.classifier.inputs import check_input_shape
from keras_robust.classifier.layer_search import check_lookups
from keras_robust.classifier.parts import Options
from keras_robust.classifier.parts import Parts
from keras_robust.classifier.parts import parts_of
from keras_robust.classifier.scaling import implied_range
from keras_robust.classifier.views import layer_view
from keras_robust.classifier.views import representation_view

# The draw of a randomized model's noise for predictions. Attacks count their
# draws from 0 and never reach it.
PREDICTION_DRAW = 1_000_000
# Inputs on which the rewritten logits are compared with the model's outputs.
CHECK_EXAMPLES = 8

T = TypeVar("T")


class Classifier:
    """A Keras model as attacks, evaluation and training see it.

    The one place that knows a model's inputs, outputs, scaling, number of
    classes, last activation, representation and randomness. Attacks
    differentiate `logits`, which may be a faster equivalent of the model.
    Reports use `predict_labels`, which calls the model itself.

    Create one by `Classifier.of`. Classifiers of one model share compiled
    functions for as long as the structure of the model stays the same.

    Attributes:
        model: The plain Keras model.
        inputs: Which of its inputs is attacked.
        given: The model as given to `of`, which may have a compiled loss.
        from_logits: As given to `of`.
        attacked: As given to `of`.
        output: As given to `of`.
        logits: `(x, draw=None, held=None) -> (N, C)` float32 logits, C >= 2,
            in inference mode, differentiable.
        outputs: `(x, draw=None, held=None)` to the model's own output.
    """

    def __init__(self, model: Any, options: Options, parts: Parts) -> None:
        """Use `Classifier.of` instead."""
        self.given = model
        self.model: keras.Model = inner_model(model)
        self.from_logits = options.from_logits
        self.attacked = options.attacked
        self.output = options.output
        self.inputs = parts.inputs
        self.outputs = parts.outputs
        self.logits = parts.logits
        self._options = options
        self._parts = parts

    @classmethod
    def of(
        cls,
        model: Any,
        from_logits: bool | None = None,
        attacked: str | int | None = None,
        output: str | int | None = None,
        scaling: Any = None,
        backward: Backward | None = None,
    ) -> "Classifier":
        """Create the classifier of a model.

        Args:
            model: A built Keras model, or an `AdversarialModel`, whose inner
                model is taken. A `Classifier` keeps its own options where
                arguments here are `None`.
            from_logits: `True` if the output is logits, `False` if it is
                probabilities, `None` to read it off the last layer. Logarithms
                of probabilities are taken if the last activation is not found.
            attacked: Name or position of the input to perturb; `None` for the
                only one.
            output: Name or position of the output that classifies; `None` for
                the only one.
            scaling: How images in [0, 1] are scaled for the model, see
                `Scaling`; `None` to pass them unchanged.
            backward: Which layers `logits` differentiates as something else.

        Returns:
            `Classifier`.

        Raises:
            ValueError: If the model is not a built Keras model, or has no such
                input.
        """
        options = Options(from_logits, attacked, output, scaling, backward)
        if isinstance(model, Classifier):
            given = {
                k: v for k, v in options._asdict().items() if v is not None
            }
            return model._with_options(model._options._replace(**given))
        inner = inner_model(model)
        check_built(inner)
        return Classifier(model, options, parts_of(inner, options))

    @classmethod
    def from_function(
        cls,
        predict: Callable[[np.ndarray], Any],
        num_classes: int,
        *,
        input_shape: tuple[int | None, ...] | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        from_logits: bool | None = None,
        batch_size: int = 128,
        name: str | None = None,
    ) -> "Classifier":
        """Create a classifier of any function, such as a web service.

        See `FunctionClassifier`: attacks that need no gradients take it in
        place of a model, and so do evaluations.
        """
        from keras_robust.classifier.function import FunctionClassifier

        return FunctionClassifier(
            predict,
            num_classes,
            input_shape=input_shape,
            value_range=value_range,
            from_logits=from_logits,
            batch_size=batch_size,
            name=name,
        )

    def _with_options(self, options: Options) -> "Classifier":
        """The classifier of the same model with other options."""
        return Classifier.of(self.given, **options._asdict())

    @property
    def name(self) -> str:
        """The name of the model."""
        return str(self.model.name)

    @property
    def layers(self) -> list[Any]:
        """The layers of the model, as far as they show."""
        return list(getattr(self.model, "layers", None) or [])

    @property
    def access(self) -> str:
        """What an attack gets: `"gradients"`, `"scores"` or `"labels"`."""
        return "gradients"

    @property
    def rounding(self) -> float:
        """The relative difference of two outputs that counts as rounding."""
        return rounding_of(self.model)

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the model, and of what replaces its layers."""
        return variables_with(self.model, self._options.backward)

    def jit(self, jit_compile: bool | str = "auto") -> bool | str:
        """How functions of the model are compiled.

        Args:
            jit_compile: `"auto"`, `True` or `False`, as in `PGDAttack`.

        Returns:
            The argument; but `False` for `"auto"` if a layer of the model has
            `supports_jit=False`, as in Keras.
        """
        if jit_compile == "auto" and self._parts.uncompiled:
            return False
        return jit_compile

    @property
    def num_classes(self) -> int:
        """The number of classes.

        Raises:
            ValueError: If the graph of the model is hidden and `check` has not
                seen inputs yet.
        """
        if self._parts.num_classes is None:
            width = self.outputs.width
            if width is None:
                raise ValueError(
                    "The number of classes of a model without a visible graph "
                    "is known only after its first call on images."
                )
            return max(width, 2)
        return self._parts.num_classes

    @property
    def input_shape(self) -> Shape | None:
        """Shape of one attacked input; `None` if the graph is hidden."""
        tensor = self.inputs.tensor
        return None if tensor is None else tuple(tensor.shape[1:])

    @property
    def batch_size(self) -> int | None:
        """The batch size that the model's Input fixes, or `None`."""
        tensor = self.inputs.tensor
        return None if tensor is None else tensor.shape[0]

    @property
    def integer_input(self) -> bool:
        """Whether the attacked input has an integer dtype."""
        return self.inputs.takes_integers

    def value_range(self) -> tuple[float, float]:
        """The range of pixels, inferred from the first layers of the model.

        Returns:
            (0, 255) if a `Rescaling` by 1/255 or 1/127.5 comes first or the
            input has an integer dtype; otherwise (0, 1).
        """
        if self.outputs.scaling is not None:
            return (0.0, 1.0)
        return implied_range(self.model, self.inputs.tensor)

    def split(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """See `Inputs.split`."""
        return self.inputs.split(x)

    def join(self, x: Any, image: Any) -> Any:
        """See `Inputs.join`."""
        return self.inputs.join(x, image)

    def cached(self, key: Any, make: Callable[[], T]) -> T:
        """The result of `make()`, cached until the model's structure changes.

        Args:
            key: Hashable; the same key gives the same object.
            make: Called without arguments. Its result must not hold a strong
                reference to the model, or neither is ever freed.
        """
        cache = self._parts.cache
        if key not in cache:
            cache[key] = make()
        result: T = cache[key]
        return result

    def cached_weights(self) -> AbstractContextManager[None]:
        """A context for many calls of `logits` with the same weights."""
        return self.logits.cached_weights()

    def refresh(self, image: Any, held: Held | None = None) -> None:
        """Clear the cache if compiled functions no longer match the model.

        User code in the model may read what is not a part of its structure,
        such as a global variable. So its outputs are computed once without
        compilation, and compared.

        Args:
            image: Array or tensor `(N, ...)`, N >= 1.
            held: The inputs that are not attacked.
        """
        cache = self._parts.cache
        if not self._parts.runs_user_code or cache.get("randomized"):
            return
        rows, others = self._check_batch(image, held)
        if not compiled_matches(self, rows, others):
            cache.clear()
            # Outputs that still differ are random, without Keras's control.
            if not compiled_matches(self, rows, others):
                cache["randomized"] = True

    def check(self, image: Any, held: Held | None = None) -> int:
        """Check a model on real inputs, before anything expensive.

        Inputs must have the shape of the model's Input, outputs that of a
        classifier. Logits that do not come from a plain call of the model are
        compared with its outputs, and replaced by a plain call if they differ.

        Args:
            image: Array or tensor `(N, ...)`, N >= 1.
            held: The inputs that are not attacked.

        Returns:
            The number of classes.

        Raises:
            ValueError: If inputs or outputs are not as above.
        """
        self.check_shape(image)
        check_lookups(self._parts.lookups)
        self.refresh(image, held)
        parts = self._parts
        if not self.logits.is_rewritten and parts.num_classes is not None:
            return parts.num_classes
        rows, others = self._check_batch(image, held)
        draw = ops.zeros((), "int32")
        inputs = {"x": rows, "draw": draw, "held": others}
        while True:
            logits, outputs = self._logits_and_outputs(inputs)
            if self.logits.agrees_with(logits, outputs):
                break
            _, again = self._logits_and_outputs(inputs)
            randomized = parts.cache.get("randomized", False)
            randomized |= not np.array_equal(again, outputs, equal_nan=True)
            self.logits.fall_back(self.model, rows, others, warn=not randomized)
            parts.cache.clear()
            if randomized:
                parts.cache["randomized"] = True
                break
        parts.num_classes = self.logits.check(logits, outputs)
        return parts.num_classes

    def check_shape(self, image: Any, name: str = "x") -> None:
        """Check that inputs have the shape of the model's Input.

        Args:
            image: Array or tensor `(N, ...)`.
            name: Name of the argument in errors.

        Raises:
            ValueError: If they do not.
        """
        shape = tuple(image.shape)
        check_input_shape(self.input_shape, shape, name, self.name)

    def _check_batch(
        self, image: Any, held: Held | None
    ) -> tuple[Tensor, Held]:
        """The first few inputs as tensors, padded to a compiled size."""
        size = self.batch_size
        count = min(image.shape[0], size or CHECK_EXAMPLES)
        target = count
        if size or backend.needs_padding():
            target = size or CHECK_EXAMPLES
        rows = ops.cast(padded_rows(image, count, target), "float32")
        if self.integer_input:
            # The model truncates fractions, the rewritten logits round them.
            steps = 1.0 if self.outputs.scaling is None else 255.0
            rows = ops.round(rows * steps) / steps
        return rows, {
            key: padded_rows(value, count, target)
            for key, value in (held or {}).items()
        }

    def _logits_and_outputs(
        self, inputs: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        logits, outputs = self.logits, self.outputs

        def both(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
            x, draw, held = inputs["x"], inputs["draw"], inputs["held"]
            own = ops.cast(outputs(x, draw, held), "float32")
            return logits(x, draw, held), own

        compiled = self.cached(
            "logits and outputs", lambda: backend.compile(both, self.variables)
        )
        first, second = compiled(inputs)
        return ops.convert_to_numpy(first), ops.convert_to_numpy(second)

    def predict_outputs(
        self,
        image: Any,
        batch_size: int = 128,
        held: Held | None = None,
        draw: int = PREDICTION_DRAW,
    ) -> np.ndarray:
        """The model's own outputs in inference mode.

        Args:
            image: Array `(N, ...)`, N >= 1.
            batch_size: Int >= 1.
            held: Dictionary of arrays, the inputs that are not attacked.
            draw: Int; which draw of a randomized model's noise.

        Returns:
            Array `(N, ...)`: float64 of a model in float64, in float32
            otherwise.
        """
        outputs = self.outputs

        def own(inputs: dict[str, Any]) -> Tensor:
            found = outputs(inputs["x"], inputs["draw"], inputs["held"])
            return ops.cast(found, precise_dtype(found))

        predict = self.cached(
            ("own outputs", tuple(image.shape[1:])),
            lambda: backend.compile(own, self.variables, self.jit()),
        )
        return in_batches(
            predict, image, held, draw, batch_size, fixed=self.batch_size
        )

    def predict_logits(
        self,
        image: Any,
        batch_size: int = 128,
        held: Held | None = None,
        draw: int = PREDICTION_DRAW,
    ) -> np.ndarray:
        """Logits, computed from the model's own outputs.

        See `predict_outputs`.

        Returns:
            Float32 array `(N, C)`, C >= 2; logarithms of probabilities where
            the model gives probabilities.
        """
        outputs = self.predict_outputs(image, batch_size, held, draw)
        return self.logits.from_outputs(outputs)

    def predict_labels(
        self, image: Any, batch_size: int = 128, held: Held | None = None
    ) -> np.ndarray:
        """Labels predicted by the model itself; see `predict_outputs`.

        Returns:
            Int32 array `(N,)`.
        """
        if not len(image):
            return np.zeros(0, "int32")
        logits = self.predict_logits(image, batch_size, held)
        return logits.argmax(-1).astype("int32")

    def is_randomized(self, image: Any, held: Held | None = None) -> bool:
        """Whether draws of the model's noise differ, tested once.

        Args:
            image: Array or tensor `(N, ...)`, N >= 1.
            held: The inputs that are not attacked.
        """

        def outputs_differ() -> bool:
            few = ops.convert_to_numpy(image[:CHECK_EXAMPLES])
            kept = {k: v[:CHECK_EXAMPLES] for k, v in (held or {}).items()}
            first, *others = (
                self.predict_logits(
                    few, CHECK_EXAMPLES, kept, PREDICTION_DRAW + draw
                )
                for draw in range(draws_compared(self.model))
            )
            if not all(agree(first, other, self.rounding) for other in others):
                return True
            return self._parts.runs_user_code and plain_calls_differ(
                self, few, kept
            )

        return self.cached("randomized", outputs_differ)

    def layer_outputs(self, layer: str) -> Callable[..., Tensor]:
        """Outputs of a layer in inference mode, `(x, draw=None, held=None)`."""

        def make() -> Callable[..., Tensor]:
            view = layer_view(self.model, layer, self.output)
            frozen = FrozenModel(
                view,
                self.inputs,
                is_integer=self.integer_input,
                backward=self._options.backward,
            )
            scale = self.outputs.scale
            # The default argument keeps the view alive.
            return lambda x, draw=None, held=None, view=view: frozen(
                scale(x), draw, held
            )

        return self.cached(("layer", layer), make)

    def representation(self, layer: str | None = None) -> keras.Model:
        """See `views.representation_view`."""
        return self.cached(
            ("representation", layer),
            lambda: representation_view(self.model, layer, self.output),
        )

    def fingerprint(self) -> str | None:
        """A hash of all that predictions depend on; `None` if unknown."""
        # What is replaced in the backward pass changes no prediction.
        return model_sha256(self.model, self._options[:-1])
