"""The loss that a model was compiled with, as one number per example."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from functools import cache
from typing import Any

import keras
from keras import ops

from keras_robust.utils.messages import shown

# Names of losses in `keras.losses`, by what labels they take.
_LABELS = {
    "classes": ("SparseCategoricalCrossentropy",),
    "rows": (
        "CategoricalCrossentropy",
        "CategoricalFocalCrossentropy",
        "CategoricalGeneralizedCrossEntropy",
        "CategoricalHinge",
        "KLDivergence",
    ),
    "bits": ("BinaryCrossentropy", "BinaryFocalCrossentropy"),
    "signs": ("Hinge", "SquaredHinge"),
    "values": (
        "CosineSimilarity",
        "Dice",
        "Huber",
        "LogCosh",
        "MeanAbsoluteError",
        "MeanAbsolutePercentageError",
        "MeanSquaredError",
        "MeanSquaredLogarithmicError",
        "Poisson",
        "Tversky",
        "CTC",
        "Circle",
    ),
}
_FUNCTIONS = {
    "classes": ("sparse_categorical_crossentropy",),
    "rows": (
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_generalized_cross_entropy",
        "categorical_hinge",
        "kl_divergence",
    ),
    "bits": ("binary_crossentropy", "binary_focal_crossentropy"),
    "signs": ("hinge", "squared_hinge"),
    "values": (
        "cosine_similarity",
        "ctc",
        "circle",
        "dice",
        "huber",
        "log_cosh",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "poisson",
        "tversky",
    ),
}
_AUTOMATIC = ("crossentropy", "ce")


def resolve_loss(loss: Any, y: Any, outputs: Any) -> Any:
    """A loss object or function from what `compile` takes.

    Args:
        loss: A string, function or `keras.losses.Loss`.
        y: Labels, for the strings that stand for several losses.
        outputs: Outputs, for the same.

    Returns:
        A `keras.losses.Loss` or a function.
    """
    if not isinstance(loss, str) or loss.lower() not in _AUTOMATIC:
        return keras.losses.get(loss)
    # The rule of `compile`.
    if outputs.shape[-1] == 1:
        return keras.losses.binary_crossentropy
    if len(y.shape) < len(outputs.shape) or y.shape[-1] == 1:
        return keras.losses.sparse_categorical_crossentropy
    return keras.losses.categorical_crossentropy


def labels_of(loss: Any) -> str | None:
    """What labels a loss of Keras takes.

    Args:
        loss: What `resolve_loss` gave.

    Returns:
        `"classes"` (numbers of classes), `"rows"` (one-hot or soft rows),
        `"bits"` (0, 1 or between), `"signs"` (-1 and 1) or `"values"`; `None`
        for a loss that Keras does not have.
    """
    for kind, names in _LABELS.items():
        classes = [getattr(keras.losses, name, None) for name in names]
        if isinstance(loss, tuple(cls for cls in classes if cls)):
            return kind
    for kind, names in _FUNCTIONS.items():
        if any(loss is getattr(keras.losses, name, name) for name in names):
            return kind
    return None


def mask_of(tensor: Any) -> Any:
    """Keras's mask of a tensor, such as that of padded steps.

    Args:
        tensor: What a layer returned.

    Returns:
        Bool tensor `(N, ...)`, or `None`.
    """
    return _mask_layer()(tensor)


class _MaskOf(keras.layers.Layer):
    """Returns the mask that Keras hands to a layer with its input."""

    def __init__(self) -> None:
        super().__init__(name="mask_of")
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        del inputs
        return mask

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        del inputs, previous_mask


@cache
def _mask_layer() -> _MaskOf:
    return _MaskOf()


def masked(values: Any, mask: Any) -> Any:
    """Values with zeros where a mask says so.

    Args:
        values: Float tensor `(N, ...)`.
        mask: Bool tensor of the first axes of `values`, or `None`.
    """
    if mask is None:
        return values
    more = (1,) * (len(values.shape) - len(mask.shape))
    mask = ops.reshape(mask, (*ops.shape(mask), *more))
    return values * ops.cast(mask, values.dtype)


def per_example(loss: Any, mask: Any = None) -> Callable[[Any, Any], Any]:
    """A Keras loss as a function of labels and outputs, one per example.

    Whatever the loss's `reduction`; what a loss gives for each pixel, step or
    output is averaged, or added up where `reduction="sum"`. A loss that gives
    one number for the batch gives it for each example.

    Args:
        loss: A `keras.losses.Loss`, or a function `(y, outputs)`.
        mask: See `mask_of`: where the loss does not count, as in Keras.

    Returns:
        Callable `(y, outputs) -> (N,)`, float32.
    """
    total = getattr(loss, "reduction", "mean") in ("sum", "none", None)
    if isinstance(loss, keras.losses.Loss):
        # `copy.copy` would use `get_config`, which does not hold everything.
        unreduced = object.__new__(type(loss))
        vars(unreduced).update(vars(loss))
        unreduced.reduction = "none"
    else:
        unreduced = _FunctionLoss(loss, reduction="none")

    def call(y: Any, outputs: Any) -> Any:
        values = ops.cast(unreduced(y, outputs), "float32")
        axes = tuple(range(1, len(values.shape)))
        if axes:
            values = masked(values, mask)
            reduce = ops.sum if total else ops.mean
            values = reduce(values, axis=axes)
        return values * ones_for(outputs)

    return call


def ones_for(outputs: Any) -> Any:
    """Float32 ones, one for each example of a tensor `(N, ...)`."""
    return ops.ones((ops.shape(outputs)[0],), "float32")


class _FunctionLoss(keras.losses.Loss):
    """A plain function as a loss, as `compile` takes it."""

    def __init__(self, function: Callable[..., Any], **kwargs: Any) -> None:
        # TensorFlow refuses the name that Keras makes of the class.
        super().__init__(name="function_loss", **kwargs)
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The function, after `(N,)` and `(N, 1)` are brought together."""
        y_rank, rank = len(y_true.shape), len(y_pred.shape)
        if y_rank == rank + 1 and y_true.shape[-1] == 1:
            if rank == 1:
                y_pred = ops.expand_dims(y_pred, -1)
            else:
                y_true = ops.squeeze(y_true, -1)
        elif rank == y_rank + 1 and y_pred.shape[-1] == 1:
            if y_rank == 1:
                y_true = ops.expand_dims(y_true, -1)
            else:
                y_pred = ops.squeeze(y_pred, -1)
        return self.function(y_true, y_pred)


@dataclass(frozen=True)
class Part:
    """The loss of one output.

    Attributes:
        key: Name or position of the output; `None` for the only one.
        index: Its position.
        loss: A string, function or `keras.losses.Loss`.
        weight: Its share in the model's loss.
    """

    key: str | int | None
    index: int
    loss: Any
    weight: float = 1.0


class CompiledLoss:
    """The loss of `compile`, taken apart by outputs.

    Args:
        loss: As in `keras.Model.compile`.
        loss_weights: As in `keras.Model.compile`.
        names: Names of the outputs in their order: keys of a dictionary, or
            names of layers; `None` for a single output.

    Attributes:
        parts: List of `Part`, without outputs that have no loss.

    Raises:
        ValueError: If the losses do not fit the outputs.
    """

    def __init__(
        self,
        loss: Any,
        loss_weights: Any = None,
        names: list[str] | None = None,
    ) -> None:
        self.names = list(names or [])
        count = max(len(self.names), 1)
        self.is_single = count == 1
        losses = self._aligned(loss, count, "loss")
        weights = self._aligned(loss_weights, count, "loss_weights")
        self.parts = [
            Part(
                None if self.is_single else self.names[i],
                i,
                losses[i],
                1.0 if weights[i] is None else float(weights[i]),
            )
            for i in range(count)
            if losses[i] is not None
        ]
        # Of all of these, also where `only` chooses one.
        self._with_loss = [part.index for part in self.parts]

    def _aligned(self, given: Any, count: int, argument: str) -> list[Any]:
        """One entry for each output."""
        if isinstance(given, dict):
            if self.is_single and len(given) == 1:
                return list(given.values())
            unknown = [name for name in given if name not in self.names]
            if not unknown:
                return [given.get(name) for name in self.names]
        elif not isinstance(given, (list, tuple)):
            return [given] * count
        elif len(given) == count:
            return list(given)
        raise ValueError(
            f"Argument `{argument}` of compile must be one for all outputs, or "
            f"a list or dictionary with one for each of {self.names or 1}. "
            f"Received: {argument}={shown(given)}"
        )

    def only(self, output: str | int | None) -> "CompiledLoss":
        """The loss of one output; of all for `None`.

        Args:
            output: Name or position.

        Raises:
            ValueError: If it has none.
        """
        if output is None or self.is_single:
            return self
        kept = [part for part in self.parts if output in (part.key, part.index)]
        if not kept:
            raise ValueError(
                "Argument `output` must choose an output that has a compiled "
                f"loss, one of {[part.key for part in self.parts]}. "
                f"Received: output={shown(output)}"
            )
        chosen = copy.copy(self)
        chosen.parts = kept
        return chosen

    def with_loss(self, loss: Any) -> "CompiledLoss":
        """One loss in place of each, all with the same weight.

        Args:
            loss: A string, function or `keras.losses.Loss`.
        """
        changed = copy.copy(self)
        changed.parts = [
            replace(part, loss=loss, weight=1.0) for part in self.parts
        ]
        return changed

    def labels(self, y: Any, part: Part) -> Any:
        """The labels of one output."""
        if self.is_single:
            return _only(y, "labels")
        if isinstance(y, dict):
            return y[part.key]
        if isinstance(y, (list, tuple)):
            return y[self.positions(len(y)).index(part.index)]
        return y

    def positions(self, count: int) -> list[int]:
        """Which outputs the entries of a list of labels belong to.

        Keras takes one for each output, or for each that has a loss.

        Args:
            count: Length of the list.

        Raises:
            ValueError: If it is neither.
        """
        every = list(range(max(len(self.names), 1)))
        for found in (every, self._with_loss):
            if len(found) == count:
                return found
        raise ValueError(
            "Argument `y` must hold labels for each of the outputs "
            f"{self.names}, or for each that has a loss. "
            f"Received: {count} arrays"
        )

    def replaced(self, y: Any, part: Part, labels: Any) -> Any:
        """`y` with other labels for one output."""
        old = self.labels(y, part)
        if isinstance(y, dict):
            return {k: labels if v is old else v for k, v in y.items()}
        if isinstance(y, (list, tuple)):
            return [labels if value is old else value for value in y]
        return labels

    def output(self, outputs: Any, part: Part) -> Any:
        """One of the model's outputs."""
        if self.is_single:
            return _only(outputs, "outputs")
        if isinstance(outputs, dict):
            return outputs[part.key]
        if isinstance(outputs, (list, tuple)):
            return outputs[part.index]
        return outputs

    def __call__(self, y: Any, outputs: Any) -> Any:
        """The compiled loss of each example.

        Args:
            y: Labels as `fit` takes them.
            outputs: The model's own outputs.

        Returns:
            Float32 tensor `(N,)`.
        """
        terms = []
        for part in self.parts:
            labels, output = self.labels(y, part), self.output(outputs, part)
            loss = resolve_loss(part.loss, labels, output)
            terms.append((part, loss, per_example(loss)(labels, output)))
        return self.total(terms)

    def total(self, terms: list[tuple[Part, Any, Any]]) -> Any:
        """The weighted sum of `(part, loss, values)`."""
        sums = [_adds_up(loss) for _, loss, _ in terms]
        total = 0.0
        for adds_up, (part, _, values) in zip(sums, terms, strict=True):
            if adds_up and not all(sums):
                # Others are divided by the size of the batch.
                values = values * ops.sum(ones_for(values))
            total = total + part.weight * values
        return total


def _only(structure: Any, what: str) -> Any:
    """The only entry of a list or dictionary; other values unchanged."""
    if not isinstance(structure, (dict, list, tuple)):
        return structure
    entries = structure
    if isinstance(structure, dict):
        entries = list(structure.values())
    if len(entries) != 1:
        raise ValueError(
            f"Several {what} need a functional model, which shows the names "
            f"of its outputs. Received: {len(entries)} {what}"
        )
    return entries[0]


def _adds_up(loss: Any) -> bool:
    return getattr(loss, "reduction", "mean") in ("sum", "none", None)


def output_names(model: keras.Model) -> list[str] | None:
    """Names of a functional model's outputs, in the order of its lists.

    Returns:
        `None` for a model that does not show them.
    """
    if not getattr(model, "outputs", None):
        return None
    if isinstance(model, keras.Sequential):
        return None
    structure = model.output
    if isinstance(structure, dict):
        # The order in which Keras takes lists for such a model.
        return sorted(structure)
    return list(model.output_names)


def compiled_loss(model: keras.Model) -> CompiledLoss:
    """The loss a model was compiled with: `(y, outputs) -> (N,)`.

    Args:
        model: A compiled model, also an `AdversarialModel`.

    Returns:
        `CompiledLoss`.

    Raises:
        ValueError: If the model was not compiled with a loss.
    """
    known = getattr(model, "compiled_loss_by_example", None)
    if known is not None:
        return known
    loss = getattr(model, "loss", None) if model.compiled else None
    if loss is None:
        raise ValueError(
            "With loss='compiled' the model must be compiled with a loss. "
            f"Received: model {model.name!r}, which has none"
        )
    names, weights = output_names(model), None
    if names and len(names) > 1:
        weights = model.get_compile_config().get("loss_weights")
    return CompiledLoss(loss, weights, names)
