"""Checks of every batch inside the compiled step, for any source of data."""

import warnings
from collections import deque
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_robust.backend import Tensor
from keras_robust.classifier.classifier import CHECK_EXAMPLES
from keras_robust.training.tasks import CLASSES
from keras_robust.utils import array_checks
from keras_robust.utils.messages import shown

# The key of findings in the logs of a step. They are removed before callbacks
# see the logs.
FINDINGS = "keras_robust_findings"
_SUMS = (
    "batches",
    "outside",
    "infinite",
    "wrong",
    "measured",
    "moved",
    "probable",
)
_LEAST = ("least", "label_least")
_MOST = ("most", "label_most")
_FAR = 3e38
# After this many calls, findings of a step are read one step later, so that an
# accelerator need not wait.
_PROMPT_CALLS = 4


def image_findings(image: Any, value_range: Any) -> dict[str, Any]:
    """Findings about a batch of images, as float scalars.

    Args:
        image: Float tensor `(N, ...)`.
        value_range: `(low, high)` as in attacks.
    """
    low, high = (ops.convert_to_tensor(b, "float32") for b in value_range)
    inside = ops.logical_and(image >= low, image <= high)
    return {
        "outside": 1.0 - _all(inside),
        "infinite": 1.0 - _all(ops.isfinite(image)),
        "least": ops.min(image),
        "most": ops.max(image),
    }


def label_findings(
    y: Any, task: str, num_classes: int | None
) -> dict[str, Tensor]:
    """Findings about labels, as float scalars.

    Args:
        y: Labels as `fit` takes them.
        task: Result of `task_of`.
        num_classes: The number of classes; `None` for labels of another kind.
    """
    parts = [part for part in keras.tree.flatten(y) if part is not None]
    parts = [ops.cast(part, "float32") for part in parts if _is_number(part)]
    if not parts:
        return {}
    right = [_all(ops.isfinite(part)) for part in parts]
    if num_classes is not None:
        (labels,) = parts
        column = len(labels.shape) == 1 or labels.shape[-1] == 1
        soft = task != CLASSES or not column
        most = 1.0 if soft else float(num_classes - 1)
        valid = ops.logical_and(labels >= 0, labels <= most)
        if task == CLASSES or (column and num_classes > 2):
            valid = ops.logical_and(valid, ops.equal(labels, ops.round(labels)))
        right.append(_all(valid))
    found = {"wrong": 1.0 - sum(right) / len(right)}
    if num_classes is not None:
        found["label_least"] = ops.min(labels)
        found["label_most"] = ops.max(labels)
    return found


def _is_number(part: Any) -> bool:
    return keras.backend.standardize_dtype(part.dtype) not in ("string",)


def _all(values: Tensor) -> Tensor:
    return ops.cast(ops.all(values), "float32")


class BatchChecks(keras.metrics.Metric):
    """Accumulates the findings of batches inside compiled steps."""

    def __init__(self, name: str = "batch_checks") -> None:
        super().__init__(name=name)
        self._sums = self.add_variable((len(_SUMS),), "zeros", name="sums")
        far = keras.initializers.Constant(_FAR)
        self._least = self.add_variable((len(_LEAST),), far, name="least")
        far = keras.initializers.Constant(-_FAR)
        self._most = self.add_variable((len(_MOST),), far, name="most")

    def reset_state(self) -> None:
        """Forget all batches."""
        self._sums.assign(np.zeros(len(_SUMS), "float32"))
        self._least.assign(np.full(len(_LEAST), _FAR, "float32"))
        self._most.assign(np.full(len(_MOST), -_FAR, "float32"))

    @property
    def batches(self) -> Any:
        """How many batches were counted, as a float tensor."""
        return ops.convert_to_tensor(self._sums)[0]

    @property
    def is_first(self) -> Any:
        """Whether no batch was counted yet, as a bool tensor."""
        return ops.equal(self.batches, 0)

    def update_state(self, findings: dict[str, Any]) -> None:
        """Add the findings of a batch.

        Args:
            findings: Float scalars by name; missing ones leave sums and
                extremes unchanged.
        """
        findings = {"batches": 1.0, **findings}

        def row(names: tuple[str, ...], neutral: float) -> Tensor:
            values = [findings.get(name, neutral) for name in names]
            return ops.stack([ops.cast(v, "float32") for v in values])

        self._sums.assign(self._sums + row(_SUMS, 0.0))
        self._least.assign(ops.minimum(self._least, row(_LEAST, _FAR)))
        self._most.assign(ops.maximum(self._most, row(_MOST, -_FAR)))

    def result(self) -> Any:
        """All findings as one vector, which is copied to the host at once."""
        return ops.concatenate(
            [
                ops.convert_to_tensor(part)
                for part in (self._sums, self._least, self._most)
            ]
        )


class StepContext(NamedTuple):
    """What the findings of a step are compared with.

    Attributes:
        value_range: `(low, high)`, the range of pixels.
        num_classes: The number of classes, or `None` if labels are of
            another kind.
        replicas: The number of devices that share a batch.
        rank: The number of axes of a batch of images.
    """

    value_range: Any
    num_classes: int | None
    replicas: int
    rank: int


class BatchInspector:
    """Raises the errors of array checks for batches of any source.

    Attributes:
        context: `StepContext` by the name of the step.
    """

    def __init__(self) -> None:
        self.context: dict[str, StepContext] = {}
        self._waiting: deque[tuple[str, Any]] = deque()
        self._calls = 0
        self._warned = False

    def reset(self) -> None:
        """Forget findings that were not read yet."""
        self._waiting.clear()
        self._calls = 0

    def wrap(
        self, function: Callable[..., Any], step: str
    ) -> Callable[..., Any]:
        """Wrap a compiled step: take findings out of its logs for `check`.

        An error is raised by the next call, when the state of this one has
        been saved: on JAX a step that raises would lose the weights.

        Args:
            function: A train or test function of Keras.
            step: `"train"` or `"test"`.
        """

        def call(*args: Any) -> Any:
            self.check(lag=0 if self._calls < _PROMPT_CALLS else 1)
            result = function(*args)
            logs = result[0] if isinstance(result, tuple) else result
            self._waiting.append((step, logs.pop(FINDINGS)))
            self._calls += 1
            return result

        return call

    def check(self, lag: int = 0) -> None:
        """Check the findings of finished steps.

        Args:
            lag: How many of the last steps to leave for later.

        Raises:
            ValueError: If a batch was invalid.
        """
        while len(self._waiting) > lag:
            step, vector = self._waiting.popleft()
            values = np.asarray(ops.convert_to_numpy(vector), "float64")
            names = (*_SUMS, *_LEAST, *_MOST)
            found = dict(zip(names, values.tolist(), strict=True))
            try:
                self._raise_if_invalid(found, self.context[step])
            except ValueError:
                self.reset()
                raise
            self._warn_if_stuck(found, step)

    def _raise_if_invalid(
        self, found: dict[str, float], context: StepContext
    ) -> None:
        value_range, classes, replicas, rank = context
        if found["outside"]:
            pair = np.asarray([found["least"], found["most"]], "float32")
            pair = pair.reshape((1,) * (rank - 1) + (2,))
            if found["infinite"]:
                pair[:] = np.nan
            if replicas == 1 and np.ndim(value_range[0]) == 0:
                # The same error as for arrays.
                array_checks.check_images(pair, value_range)
            raise ValueError(
                "Argument `x` must lie in "
                f"value_range={shown(tuple(value_range))} and be finite. "
                "Received: values outside"
            )
        if found["wrong"]:
            if classes is None:
                raise ValueError(
                    "Argument `y` must be finite. Received: NaN or infinity"
                )
            raise ValueError(
                f"Argument `y` must lie in 0 ... {classes - 1}, the classes of "
                "the model, or be one-hot. Received: labels from "
                f"{found['label_least']:g} to {found['label_most']:g}"
            )
        if 0 < found["probable"] == found["batches"]:
            raise ValueError(
                "The model must give logits, or end in a layer with a softmax "
                "or sigmoid; this one does not, and its output may be "
                "probabilities. Pass `from_logits=False` to the "
                "attack if it is, `from_logits=True` if it is not. "
                "Received: outputs that are all in [0, 1], or single numbers"
            )

    def _warn_if_stuck(self, found: dict[str, float], step: str) -> None:
        if self._warned or not found["measured"] or found["moved"]:
            return
        self._warned = True
        what = "trains on" if step == "train" else "evaluates"
        warnings.warn(
            "The attack moves nothing: its first gradient is exactly zero for "
            "every example of the first batch. Are outputs saturated or "
            f"rounded, or inputs cast to integers? The model {what} clean "
            "inputs.",
            UserWarning,
            stacklevel=2,
        )


def could_be_probabilities(outputs: Any) -> Any:
    """Whether all rows could be probabilities, as a float scalar.

    Args:
        outputs: Tensor `(N, C)`. A single number, C = 1, always could.
    """
    if outputs.shape[-1] == 1:
        return ops.ones(())
    total = ops.abs(ops.sum(outputs, axis=-1) - 1) < 1e-3
    inside = ops.logical_and(outputs >= 0, outputs <= 1)
    # As for arrays: sigmoids hardly ever give an exact 0. Of a few logits all
    # can lie in [0, 1] by chance.
    is_enough = ops.convert_to_tensor(ops.shape(outputs)[0] >= CHECK_EXAMPLES)
    positive = _all(outputs > 0) * ops.cast(is_enough, "float32")
    return _all(inside) * ops.maximum(_all(total), positive)
