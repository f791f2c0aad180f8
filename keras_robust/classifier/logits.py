"""A model's own outputs, and the logits that attacks differentiate."""

import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.classifier.backward import Backward
from keras_robust.classifier.frozen import call_frozen
from keras_robust.classifier.frozen_model import FrozenModel
from keras_robust.classifier.frozen_model import agree
from keras_robust.classifier.frozen_model import choose_output
from keras_robust.classifier.frozen_model import rounding_of
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.head import Head
from keras_robust.classifier.head import as_logits
from keras_robust.classifier.head import find_head
from keras_robust.classifier.inputs import Inputs
from keras_robust.classifier.scaling import Scaling
from keras_robust.utils.messages import shown

# Probabilities are clipped to this before the logarithm.
_TINY = 1e-37


class OwnOutputs:
    """The outputs of a model as Keras computes them in inference.

    Args:
        model: A built Keras model; the reference is weak.
        inputs: Which input is attacked.
        output: Which of several outputs; `None` for the only one.
        scaling: How images in [0, 1] are scaled for the model, or `None`.

    Attributes:
        batch_size: Images in one call where nobody says how many.
    """

    batch_size: int = 128

    def __init__(
        self,
        model: keras.Model,
        inputs: Inputs,
        output: str | int | None,
        scaling: Scaling | None,
    ) -> None:
        self._model: Callable[[], keras.Model] = weakref.ref(model)
        self.inputs = inputs
        self.output = output
        self.scaling = scaling

    @property
    def width(self) -> int | None:
        """Size of the output for an example; `None` if it is not known."""
        model = self._model()
        if not shows_graph(model):
            return None
        try:
            shape = output_of(model, self.output).shape
        except (KeyError, IndexError, ValueError):
            return None
        return shape[-1] if len(shape) == 2 else None

    def scale(self, x: Any) -> Any:
        """The input of the model for an image `x`."""
        return x if self.scaling is None else self.scaling(x)

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """The chosen output at `x`.

        Args:
            x: Tensor `(N, ...)`.
            draw: Which draw of a randomized model's noise.
            held: The inputs that are not attacked.
        """
        found = self.structure(x, draw, held)
        return choose_output(found, self.output, self._model())

    def structure(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """All outputs at `x`, in the structure of the model's."""
        packed = self.inputs.pack(self.scale(x), held)
        return call_frozen(self._model(), packed, draw)


class SearchLogits:
    """Logits of a classifier in inference mode, a function `x -> (N, C)`.

    A last softmax or sigmoid is left out if `head.find_head` finds it, and
    BatchNorm is folded. Both are undone if `agrees_with` finds that they change
    the outputs. A single output `z` stands for the two logits `[0, z]`.

    Args:
        model: A built Keras model; the reference is weak.
        outputs: Its own outputs.
        from_logits: See `Classifier.of`.
        is_integer: Whether the attacked Input takes integers.
        backward: Which layers are differentiated as something else, or `None`.

    Raises:
        ValueError: If `backward` does not fit the model.
    """

    def __init__(
        self,
        model: keras.Model,
        outputs: OwnOutputs,
        from_logits: bool | None,
        is_integer: bool = False,
        backward: Backward | None = None,
    ) -> None:
        self._own = outputs
        self._is_plain = False
        self._backward = backward
        self._is_integer = is_integer
        if backward is not None:
            backward.check(model, outputs.output)
        self._rounding = rounding_of(model)
        head = find_head(model, outputs.output)
        self.known = head.kind is not None or from_logits is not None
        if from_logits is None:
            self.gives_probabilities = head.kind in ("softmax", "sigmoid")
        else:
            self.gives_probabilities = not from_logits
        self._is_sigmoid = head.kind == "sigmoid"
        self._softmax_of_one = head.kind == "softmax" and outputs.width == 1
        self._head = None
        if self.gives_probabilities and self._leaves_out(head, model):
            self._head = head
        if self._head is None:
            frozen = FrozenModel(
                model, outputs.inputs, outputs.output, is_integer, backward
            )
        else:
            # Keeps the body alive, which `FrozenModel` does not.
            self._body = head.body
            frozen = FrozenModel(
                head.body,
                outputs.inputs,
                is_integer=is_integer,
                backward=backward,
            )
        self._frozen: FrozenModel | None = frozen

    def _leaves_out(self, head: Head, model: keras.Model) -> bool:
        """Whether the last activation can be left out."""
        if head.body is None or self._backward is None:
            return head.body is not None
        # What is replaced must not be left out with it.
        inside = self._backward.replaced_in(head.body)
        whole = self._backward.replaced_in(model, self._own.output)
        return set(inside) == set(whole)

    @property
    def is_rewritten(self) -> bool:
        """Whether logits are computed without calling the model itself."""
        if self._frozen is None:
            return False
        return self._frozen.is_rewritten or self._head is not None

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """Logits of shape `(N, C)` in float32, C >= 2.

        Args:
            x: Tensor `(N, ...)`.
            draw: Which draw of a randomized model's noise.
            held: Dictionary of the inputs that are not attacked.
        """
        if self._frozen is None:
            outputs = self._own(x, draw, held)
            return as_logits(outputs, self.gives_probabilities)
        outputs = self._frozen(self._own.scale(x), draw, held)
        if self._head is None:
            return as_logits(outputs, self.gives_probabilities)
        return as_logits(self._head.finish(outputs), takes_log=False)

    def cached_weights(self) -> AbstractContextManager[None]:
        """A context in which folded weights are computed once for all calls."""
        if self._frozen is None:
            return nullcontext()
        return self._frozen.cached_weights()

    def from_outputs(self, outputs: np.ndarray) -> np.ndarray:
        """Convert the model's own outputs to logits `(N, C)`, in NumPy."""
        if outputs.ndim != 2:
            as_logits(ops.convert_to_tensor(outputs), takes_log=False)
        single = outputs.shape[-1] == 1
        if not self.gives_probabilities:
            zeros = np.zeros_like(outputs)
            return np.concatenate([zeros, outputs], -1) if single else outputs
        positive = np.log(np.maximum(outputs, _TINY))
        if not single:
            return positive
        negative = np.log(np.maximum(1 - outputs, _TINY))
        return np.concatenate([negative, positive], -1)

    def agrees_with(self, logits: np.ndarray, outputs: np.ndarray) -> bool:
        """Whether logits agree with the model's own outputs.

        Args:
            logits: Logits of a few inputs.
            outputs: Outputs of the model for the same inputs.
        """
        if not self.is_rewritten or self._softmax_of_one:
            return True
        if outputs.ndim != 2:
            return False
        logits = logits.astype("float64")
        single = outputs.shape[-1] == 1
        if not self.gives_probabilities:
            ours = logits[:, 1:] if single else logits
        elif self._is_sigmoid and self._head is not None:
            ours = _sigmoid(logits[:, 1:] if single else logits)
        elif self._head is not None:
            ours = _softmax(logits)
        else:
            ours = np.exp(logits[:, 1:] if single else logits)
        return agree(ours, outputs.astype("float64"), self._rounding)

    def fall_back(self, model: Any, x: Any, held: Any, warn: bool) -> None:
        """Stop folding, and if that was not the cause, call the model itself.

        Args:
            model: The model, for the warning.
            x: Tensor, inputs at which outputs differ.
            held: The inputs that are not attacked.
            warn: Whether to warn. Outputs of a randomized model always differ.
        """
        if self._backward is not None:
            if warn:
                self._run_plainly(model)
            return
        if warn and self._frozen is not None and self._frozen.is_rewritten:
            self._frozen.verify(self._own.scale(x), held)
            if not self._frozen.is_rewritten:
                return
        self._frozen = self._head = None
        if warn:
            warnings.warn(
                f"The last activation of model {model.name!r} is not left "
                "out: applied to the logits before it, it does not give the "
                "outputs of model(x, training=False). Logarithms of its "
                "probabilities are taken instead, whose gradients vanish on "
                "confident examples.",
                UserWarning,
                stacklevel=3,
            )

    def _run_plainly(self, model: Any) -> None:
        """Run the graph with its last activation and without folding.

        Raises:
            ValueError: If that is what was done already.
        """
        if self._is_plain:
            raise ValueError(
                "Argument `backward` needs a model that gives the same as its "
                "graph, run layer by layer. "
                f"Received: model {model.name!r}, whose outputs differ"
            )
        self._is_plain = True
        self._head = None
        self._frozen = FrozenModel(
            model,
            self._own.inputs,
            self._own.output,
            self._is_integer,
            self._backward,
            folds=False,
        )

    def check(self, logits: np.ndarray, outputs: np.ndarray) -> int:
        """Check the outputs of a classifier and count its classes.

        Args:
            logits: Logits of a few inputs, `(N, C)`.
            outputs: Outputs of the model for the same inputs.

        Returns:
            The number of classes.

        Raises:
            ValueError: If the output is a softmax of one unit, which is always
                1; or if the last activation is unknown and the output looks
                like probabilities, or is a single number.
        """
        single = outputs.shape[-1] == 1
        # TensorFlow's softmax of one unit is 1 up to a rounding error.
        near_one = np.abs(outputs - 1).max() <= np.finfo("float32").eps
        always_one = single and not self._is_sigmoid and near_one
        if self._softmax_of_one or (always_one and not self.known):
            raise ValueError(
                "A softmax of one unit is always 1, so the model always "
                "predicts one class; use Dense(1, activation='sigmoid'), or "
                "Dense(2, activation='softmax'). "
                f"Received: output {shown(outputs[0])} for the first example"
            )
        if self.known:
            return logits.shape[-1]
        inside = outputs.min() >= 0 and outputs.max() <= 1
        sums_to_one = np.abs(outputs.sum(-1) - 1).max() <= self._rounding
        # Sigmoids hardly ever give an exact 0; logits after a ReLU do.
        probable = inside and (sums_to_one or outputs.min() > 0)
        if probable or single:
            looks = "looks like probabilities (all in [0, 1])"
            if not inside:
                looks = "is one number, which may be a logit or something else"
            raise ValueError(
                "The model must give logits, or end in a layer with a softmax "
                "or sigmoid; this one does not, and its output "
                f"{looks}. Pass `from_logits=False` if it is a probability, "
                "`from_logits=True` if it is not. "
                f"Received: output {shown(outputs[0])} for the first example"
            )
        return logits.shape[-1]


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -700, 700)))


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
