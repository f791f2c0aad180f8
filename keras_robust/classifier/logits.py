"""A model's own outputs, and the logits that attacks climb."""

import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.classifier.frozen import call_frozen
from keras_robust.classifier.frozen_model import FrozenModel
from keras_robust.classifier.frozen_model import agree
from keras_robust.classifier.frozen_model import choose_output
from keras_robust.classifier.frozen_model import rounding_of
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.head import as_logits
from keras_robust.classifier.head import find_head
from keras_robust.classifier.inputs import Inputs
from keras_robust.classifier.scaling import Scaling
from keras_robust.messages import shown

# Smallest probability whose logarithm is taken.
_TINY = 1e-37


class OwnOutputs:
    """The outputs of a model, called as Keras calls it in inference.

    Args:
        model: A built Keras model, held weakly.
        inputs: Which input moves.
        output: Which of several outputs; `None` for the only one.
        scaling: What pixels the model takes, or `None`.
    """

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
        """Numbers in the output for an example, where the model shows it."""
        model = self._model()
        if not shows_graph(model):
            return None
        try:
            shape = output_of(model, self.output).shape
        except (KeyError, IndexError, ValueError):
            return None
        return shape[-1] if len(shape) == 2 else None

    def scale(self, x: Any) -> Any:
        """What the model takes for `x`."""
        return x if self.scaling is None else self.scaling(x)

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """The chosen output at `x`.

        Args:
            x: Tensor `(N, ...)`.
            draw: Which draw of a randomized model's noise.
            held: The other inputs.
        """
        found = self.structure(x, draw, held)
        return choose_output(found, self.output, self._model())

    def structure(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """All outputs at `x`, as the model gives them."""
        packed = self.inputs.pack(self.scale(x), held)
        return call_frozen(self._model(), packed, draw)


class SearchLogits:
    """Logits of a classifier as a frozen function `x -> (N, C)`.

    A last activation of softmax or sigmoid is left out where the model shows
    it (`head.find_head`), and BatchNorm is folded: both only for as long as
    `agrees_with` finds the model's own outputs. A single output `z` stands
    for the two logits `[0, z]`.

    Args:
        model: A built Keras model, held weakly.
        outputs: Its own outputs.
        from_logits: See `Classifier.of`.
        is_integer: Whether the attacked Input takes integers.
    """

    def __init__(
        self,
        model: keras.Model,
        outputs: OwnOutputs,
        from_logits: bool | None,
        is_integer: bool = False,
    ) -> None:
        self._own = outputs
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
        if self.gives_probabilities and head.body is not None:
            self._head = head
        if self._head is None:
            frozen = FrozenModel(
                model, outputs.inputs, outputs.output, is_integer
            )
        else:
            # The body has no other owner.
            self._body = head.body
            frozen = FrozenModel(
                head.body, outputs.inputs, is_integer=is_integer
            )
        self._frozen: FrozenModel | None = frozen

    @property
    def is_rewritten(self) -> bool:
        """Whether it does something else than calling the model."""
        if self._frozen is None:
            return False
        return self._frozen.is_rewritten or self._head is not None

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """Logits of shape `(N, C)` in float32, C >= 2.

        Args:
            x: Tensor `(N, ...)`.
            draw: Which draw of a randomized model's noise.
            held: Dictionary of the inputs that are held fixed.
        """
        if self._frozen is None:
            outputs = self._own(x, draw, held)
            return as_logits(outputs, self.gives_probabilities)
        outputs = self._frozen(self._own.scale(x), draw, held)
        if self._head is None:
            return as_logits(outputs, self.gives_probabilities)
        return as_logits(self._head.finish(outputs), takes_log=False)

    def prepared(self) -> AbstractContextManager[None]:
        """A context for many calls with the same weights."""
        if self._frozen is None:
            return nullcontext()
        return self._frozen.prepared()

    def from_outputs(self, outputs: np.ndarray) -> np.ndarray:
        """Logits `(N, C)` from the model's own outputs, in NumPy."""
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
        """Whether logits and the model's own outputs are the same function.

        Args:
            logits: What this gave for a few inputs.
            outputs: What the model gave for them.
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
        """Do less of what could be proven: first no folding, then nothing.

        Args:
            model: The model, for the warning.
            x: Tensor, the inputs that showed the difference.
            held: The other inputs.
            warn: Whether to warn; a randomized model agrees with nothing.
        """
        if warn and self._frozen is not None and self._frozen.is_rewritten:
            self._frozen.prove(self._own.scale(x), held)
            if not self._frozen.is_rewritten:
                return
        self._frozen = self._head = None
        if warn:
            warnings.warn(
                f"The last activation of model {model.name!r} is not left "
                "out, since the logits before it do not give the outputs of "
                "model(x, training=False); logarithms of its probabilities "
                "are taken instead, whose gradients vanish on confident "
                "examples.",
                UserWarning,
                stacklevel=3,
            )

    def check(self, logits: np.ndarray, outputs: np.ndarray) -> int:
        """Find the number of classes, and mistakes in the output.

        Args:
            logits: What the call gave for a few inputs, `(N, C)`.
            outputs: What the model gave for them.

        Returns:
            The number of classes.

        Raises:
            ValueError: If one softmax unit gives the output, which is always
                1; or if the model does not tell what the output is and it
                looks like probabilities, or is a single number.
        """
        single = outputs.shape[-1] == 1
        # TensorFlow's softmax of one unit is 1 up to a rounding error.
        near_one = np.abs(outputs - 1).max() <= np.finfo("float32").eps
        always_one = single and not self._is_sigmoid and near_one
        if self._softmax_of_one or (always_one and not self.known):
            raise ValueError(
                "A softmax of one unit is always 1, so the model always gives "
                "one answer; use Dense(1, activation='sigmoid'), or "
                "Dense(2, activation='softmax'). "
                f"Received: output {shown(outputs[0])} for the first example"
            )
        if self.known:
            return logits.shape[-1]
        inside = outputs.min() >= 0 and outputs.max() <= 1
        sums_to_one = np.abs(outputs.sum(-1) - 1).max() <= self._rounding
        # Sigmoids hardly ever give an exact 0, as logits behind a ReLU do.
        probable = inside and (sums_to_one or outputs.min() > 0)
        if probable or single:
            looks = "looks like probabilities (all in [0, 1])"
            if not inside:
                looks = "is one number, which may be a logit or something else"
            raise ValueError(
                "The model must give logits, or end in a layer whose "
                "activation shows; this one ends in neither and its output "
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
