"""A Keras model as attacks, evaluation and training see it."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.classifier.fingerprint import model_sha256
from keras_robust.classifier.freshness import computes_as_now
from keras_robust.classifier.freshness import plain_calls_differ
from keras_robust.classifier.freshness import runs_users_code
from keras_robust.classifier.frozen import check_built
from keras_robust.classifier.frozen import inner_model
from keras_robust.classifier.frozen_model import FrozenModel
from keras_robust.classifier.frozen_model import agree
from keras_robust.classifier.frozen_model import rounding_of
from keras_robust.classifier.inputs import Inputs
from keras_robust.classifier.inputs import check_input_shape
from keras_robust.classifier.layer_search import LOOKUPS
from keras_robust.classifier.layer_search import layers_that
from keras_robust.classifier.logits import OwnOutputs
from keras_robust.classifier.logits import SearchLogits
from keras_robust.classifier.scaling import Scaling
from keras_robust.classifier.scaling import shown_range
from keras_robust.classifier.structure import Structure
from keras_robust.classifier.views import layer_view
from keras_robust.classifier.views import representation_view

# No attack looks at this draw of a randomized model.
PREDICTION_DRAW = 1_000_000
# Real inputs on which the fast way is compared with the model's own.
PROOF_EXAMPLES = 8

# model -> (structure, {options: what was made}); dropped with the model.
_MADE = weakref.WeakKeyDictionary()


class Classifier:
    """A Keras model as attacks, evaluation and training see it.

    The one place that knows a model's inputs, outputs, scaling, number of
    classes, last activation, representation and randomness. What attacks climb
    are its `logits`, which may be a faster rewriting of the model; what is
    reported are `predict_labels`, the answers of the model itself.

    Made by `Classifier.of`, which keeps compiled functions for as long as the
    structure of the model stays the same.

    Attributes:
        model: The plain Keras model.
        inputs: Which of its inputs is attacked.
        from_logits: As given.
        output: As given.
        logits: `(x, draw=None, held=None) -> (N, C)` float32 logits, C >= 2,
            in inference mode, differentiable.
        outputs: `(x, draw=None, held=None)` to the model's own output.
    """

    def __init__(self, model: keras.Model, options: tuple, made: dict) -> None:
        """Not to be called; see `of`."""
        self.model = model
        self.from_logits, self.attacked, self.output, self._scaling = options
        self._options = options
        self._made = made
        self.inputs: Inputs = made["inputs"]
        self.outputs: OwnOutputs = made["outputs"]
        self.logits: SearchLogits = made["logits"]

    @classmethod
    def of(
        cls,
        model: Any,
        from_logits: bool | None = None,
        attacked: str | int | None = None,
        output: str | int | None = None,
        scaling: Any = None,
    ) -> "Classifier":
        """The classifier of a model.

        Args:
            model: A built Keras model; of an `AdversarialModel` the model
                inside it. A `Classifier` is returned as it is, or with the
                options that are given here in place of its own.
            from_logits: `None` to find out, `True` if the output is logits,
                `False` if it is probabilities (their logarithm is taken where
                the model does not show its activation).
            attacked: Name or position of the input to perturb; `None` for the
                only one.
            output: Name or position of the output that classifies; `None` for
                the only one.
            scaling: What pixels the model takes where images are in [0, 1],
                see `Scaling`; `None` for what they are.

        Returns:
            `Classifier`.

        Raises:
            ValueError: If it is no built Keras model, or has no such input.
        """
        options = (from_logits, attacked, output, scaling)
        if isinstance(model, cls):
            options = tuple(
                own if given is None else given
                for own, given in zip(model._options, options, strict=True)
            )
            model = model.model
        model = inner_model(model)
        check_built(model)
        structure, made = _MADE.get(model, (None, None))
        now = Structure(model)
        if structure is None or structure != now:
            made = {}
            _MADE[model] = (now, made)
        from_logits, attacked, output, scaling = options
        affine = None if scaling is None else Scaling(scaling)
        key = (from_logits, attacked, output, affine and affine.key)
        if key not in made:
            made[key] = _parts(model, from_logits, attacked, output, affine)
        return cls(model, options, made[key])

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the model."""
        return self.model.variables

    def jit(self, jit_compile: bool | str = "auto") -> bool | str:
        """How functions of the model are compiled.

        Args:
            jit_compile: `"auto"`, `True` or `False`, as in `PGDAttack`.

        Returns:
            The same; `False` for `"auto"` where a layer says that it cannot
            be compiled, as Keras does.
        """
        if jit_compile == "auto" and self._made["uncompiled"]:
            return False
        return jit_compile

    @property
    def num_classes(self) -> int:
        """The number of classes.

        Raises:
            ValueError: If the model does not show it and no image was seen.
        """
        if "num_classes" not in self._made:
            width = self.outputs.width
            if width is None:
                raise ValueError(
                    "The number of classes of a model that does not show its "
                    "output is known once it has seen images."
                )
            return max(width, 2)
        return self._made["num_classes"]

    @property
    def input_shape(self) -> tuple | None:
        """Shape of one attacked input, `None` where it is not shown."""
        tensor = self.inputs.tensor
        return None if tensor is None else tuple(tensor.shape[1:])

    @property
    def batch_size(self) -> int | None:
        """The batch size that the model's Input fixes, or `None`."""
        tensor = self.inputs.tensor
        return None if tensor is None else tensor.shape[0]

    @property
    def integer_input(self) -> bool:
        """Whether the attacked Input takes integers."""
        return _is_integer(self.inputs)

    def value_range(self) -> tuple[float, float]:
        """The range of pixels, as the front of the model shows it.

        Returns:
            (0, 255) where a `Rescaling` by 1/255 or 1/127.5 comes first, or
            integers are taken; otherwise (0, 1).
        """
        if self.outputs.scaling is not None:
            return (0.0, 1.0)
        return shown_range(self.model, self.inputs.tensor)

    def split(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """See `Inputs.split`."""
        return self.inputs.split(x)

    def join(self, x: Any, image: Any) -> Any:
        """See `Inputs.join`."""
        return self.inputs.join(x, image)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, made once for each key while the structure is the same.

        What is made must not hold the model, or neither is ever dropped.
        """
        kept = self._made["kept"]
        if key not in kept:
            kept[key] = make()
        return kept[key]

    def prepared(self) -> AbstractContextManager:
        """A context for many calls of `logits` with the same weights."""
        return self.logits.prepared()

    def refresh(self, image: Any, held: dict | None = None) -> None:
        """Forget compiled functions that do something else than the model now.

        Code of a user's own may read what is no part of the model's structure,
        such as a global; so its outputs are computed once without compilation.

        Args:
            image: Array or tensor `(N, ...)`, N >= 1.
            held: The other inputs.
        """
        kept = self._made["kept"]
        if not self._made["foreign"] or kept.get("randomized"):
            return
        rows, others = self._few(image, held)
        if not computes_as_now(self, rows, others):
            kept.clear()
            # What still differs draws by means that Keras does not know.
            if not computes_as_now(self, rows, others):
                kept["randomized"] = True

    def check(self, image: Any, held: dict | None = None) -> int:
        """Look at real inputs before anything expensive.

        The shape must be that of the model's Input, the output that of a
        classifier; where `logits` do not call the model, they are compared with
        its own outputs, and given up where they differ.

        Args:
            image: Array or tensor `(N, ...)`, N >= 1.
            held: The other inputs.

        Returns:
            The number of classes.

        Raises:
            ValueError: If something does not fit.
        """
        self.check_shape(image)
        self._check_layers()
        self.refresh(image, held)
        if not self.logits.is_rewritten and "num_classes" in self._made:
            return self._made["num_classes"]
        rows, kept = self._few(image, held)
        number = ops.zeros((), "int32")
        inputs = {"x": rows, "draw": number, "held": kept}
        while True:
            logits, outputs = self._computed_proof(inputs)
            if self.logits.is_proven_by(logits, outputs):
                break
            _, again = self._computed_proof(inputs)
            randomized = self._made["kept"].get("randomized", False)
            randomized |= not np.array_equal(again, outputs, equal_nan=True)
            self.logits.give_up(self.model, rows, kept, warn=not randomized)
            self._made["kept"].clear()
            if randomized:
                self._made["kept"]["randomized"] = True
                break
        self._made["num_classes"] = self.logits.check(logits, outputs)
        return self._made["num_classes"]

    def _check_layers(self):
        """Refuse layers that cannot run in a frozen function."""
        names = self._made["lookups"]
        if names and not backend.runs_lookups:
            raise ValueError(
                "The model must have no layers that look up values on the "
                f"{backend.name} backend, which cannot compute them; apply "
                f"them to the data, before the model. Received: layers {names}"
            )

    def check_shape(self, image: Any, name: str = "x") -> None:
        """Check that inputs have the shape of the model's Input.

        Args:
            image: Array or tensor `(N, ...)`.
            name: What to call it in errors.

        Raises:
            ValueError: If they have another one.
        """
        shape = tuple(image.shape)
        check_input_shape(self.input_shape, shape, name, self.model.name)

    def _few(self, image, held):
        """A few real inputs as tensors, as many as compile best."""
        size = self.batch_size
        count = min(image.shape[0], size or PROOF_EXAMPLES)
        target = count
        if size or backend.needs_padding():
            target = size or PROOF_EXAMPLES

        def take(values):
            values = values[:count]
            values = ops.convert_to_tensor(values)
            if "float" in keras.backend.standardize_dtype(values.dtype):
                values = ops.cast(values, "float32")
            more = target - values.shape[0]
            if not more:
                return values
            filling = ops.repeat(values[:1], more, axis=0)
            return ops.concatenate([values, filling])

        rows = ops.cast(take(image), "float32")
        if self.integer_input:
            # The model cuts off what is not whole, and so proves nothing.
            steps = 1.0 if self.outputs.scaling is None else 255.0
            rows = ops.round(rows * steps) / steps
        return rows, {key: take(value) for key, value in (held or {}).items()}

    def _computed_proof(self, inputs):
        found = self._compiled_proof()(inputs)
        return tuple(ops.convert_to_numpy(part) for part in found)

    def _compiled_proof(self):
        logits, outputs = self.logits, self.outputs

        def both(inputs):
            given = (inputs["x"], inputs["draw"], inputs["held"])
            found = outputs(given[0], given[1], given[2])
            return (
                logits(given[0], given[1], given[2]),
                ops.cast(found, "float32"),
            )

        return self.once("proof", lambda: backend.compile(both, self.variables))

    def predict_outputs(
        self,
        image: Any,
        batch_size: int = 128,
        held: dict | None = None,
        draw: int = PREDICTION_DRAW,
    ) -> np.ndarray:
        """The model's own outputs in inference mode.

        Args:
            image: Array `(N, ...)`, N >= 1.
            batch_size: Int >= 1.
            held: Dictionary of arrays, the other inputs.
            draw: Which draw of a randomized model's noise.

        Returns:
            Float32 array `(N, ...)`.
        """
        outputs = self.outputs
        predict = self.once(
            ("own outputs", tuple(image.shape[1:])),
            lambda: backend.compile(
                lambda inputs: ops.cast(
                    outputs(inputs["x"], inputs["draw"], inputs["held"]),
                    "float32",
                ),
                self.variables,
                self.jit(),
            ),
        )
        batch_size = self.batch_size or batch_size
        image = ops.convert_to_numpy(image)
        held = {k: ops.convert_to_numpy(v) for k, v in (held or {}).items()}
        made = []
        for start in range(0, len(image), batch_size):
            stop = min(start + batch_size, len(image))
            fixed = start or self.batch_size
            missing = start + batch_size - stop if fixed else 0
            found = predict(
                {
                    "x": _batch(image, start, stop, missing, "float32"),
                    # Each batch has its own noise.
                    "draw": ops.convert_to_tensor(
                        draw + start // batch_size, "int32"
                    ),
                    "held": {
                        key: _batch(value, start, stop, missing)
                        for key, value in held.items()
                    },
                }
            )
            made.append(ops.convert_to_numpy(found)[: stop - start])
        return np.concatenate(made)

    def predict_logits(
        self,
        image: Any,
        batch_size: int = 128,
        held: dict | None = None,
        draw: int = PREDICTION_DRAW,
    ) -> np.ndarray:
        """Logits from the model's own outputs; see `predict_outputs`.

        Returns:
            Float32 array `(N, C)`, C >= 2: of probabilities their logarithms.
        """
        outputs = self.predict_outputs(image, batch_size, held, draw)
        return self.logits.from_outputs(outputs)

    def predict_labels(
        self, image: Any, batch_size: int = 128, held: dict | None = None
    ) -> np.ndarray:
        """The model's own answers; see `predict_outputs`.

        Returns:
            Int32 array `(N,)`.
        """
        if not len(image):
            return np.zeros(0, "int32")
        logits = self.predict_logits(image, batch_size, held)
        return logits.argmax(-1).astype("int32")

    def is_randomized(self, image: Any, held: dict | None = None) -> bool:
        """Whether two draws of the model's noise differ, found out once.

        Args:
            image: Array or tensor `(N, ...)`, N >= 1.
            held: The other inputs.
        """

        def look():
            few = ops.convert_to_numpy(image[:PROOF_EXAMPLES])
            kept = {k: v[:PROOF_EXAMPLES] for k, v in (held or {}).items()}
            first, second = (
                self.predict_logits(few, PROOF_EXAMPLES, kept, draw)
                for draw in (PREDICTION_DRAW, PREDICTION_DRAW + 1)
            )
            if not agree(first, second, rounding_of(self.model)):
                return True
            return self._made["foreign"] and plain_calls_differ(self, few, kept)

        return self.once("randomized", look)

    def layer_outputs(self, layer: str) -> Callable:
        """The frozen outputs of a layer, `(x, draw=None, held=None)`."""

        def make():
            view = layer_view(self.model, layer, self.output)
            frozen = FrozenModel(
                view, self.inputs, is_integer=self.integer_input
            )
            scale = self.outputs.scale
            # The view has no other owner than this function.
            return lambda x, draw=None, held=None, view=view: frozen(
                scale(x), draw, held
            )

        return self.once(("layer", layer), make)

    def representation(self, layer: str | None = None) -> keras.Model:
        """See `views.representation_view`."""
        return self.once(
            ("representation", layer),
            lambda: representation_view(self.model, layer, self.output),
        )

    def fingerprint(self) -> str:
        """A hash of all that the classifier's answers depend on."""
        return model_sha256(self.model, self._options)


def _parts(model, from_logits, attacked, output, scaling):
    inputs = Inputs(model, attacked)
    outputs = OwnOutputs(model, inputs, output, scaling)
    logits = SearchLogits(
        model, outputs, from_logits, is_integer=_is_integer(inputs)
    )
    return {
        "inputs": inputs,
        "outputs": outputs,
        "logits": logits,
        "uncompiled": layers_that(
            model, lambda layer: not getattr(layer, "supports_jit", True)
        ),
        "foreign": runs_users_code(model),
        "lookups": layers_that(model, lambda layer: isinstance(layer, LOOKUPS)),
        "kept": {},
    }


def _is_integer(inputs):
    if inputs.tensor is None:
        return False
    return "int" in keras.backend.standardize_dtype(inputs.tensor.dtype)


def _batch(array, start, stop, missing, dtype=None):
    batch = np.asarray(array[start:stop], dtype)
    if batch.dtype == np.float64:
        batch = batch.astype("float32")
    if missing:
        batch = np.concatenate([batch, batch[:1].repeat(missing, 0)])
    return ops.convert_to_tensor(batch)
