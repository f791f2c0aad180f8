"""A model as a function from boxes of inputs to bounds of its logits."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_robust.certify.interval_activations import LOWEST
from keras_robust.certify.interval_activations import check_settings
from keras_robust.certify.interval_rules import RULES
from keras_robust.certify.interval_rules import rule_of
from keras_robust.certify.intervals import Interval
from keras_robust.certify.intervals import difference
from keras_robust.certify.intervals import of_differences
from keras_robust.certify.intervals import of_ends
from keras_robust.certify.intervals import of_rounded_ends
from keras_robust.certify.intervals import of_scaling
from keras_robust.certify.intervals import of_sum
from keras_robust.certify.intervals import of_valley
from keras_robust.classifier import Classifier
from keras_robust.classifier.graph import Node
from keras_robust.classifier.graph import nodes_to
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.graph_run import training_argument
from keras_robust.classifier.head import Head
from keras_robust.classifier.head import find_head

# Differences of logits that a last softmax may round to a tie.
_TIE = 1e-5
# Share of what is computed from the other inputs that is rounding.
_ROUNDING = 2.0**-18


class IntervalNetwork:
    """Bounds of a model's logits over boxes of inputs, by interval arithmetic.

    Gowal et al. 2018 (arXiv:1810.12715). Every layer maps bounds of its inputs
    to bounds of its outputs: a linear layer the middle by its weights and the
    radius by their absolute values, an increasing function both ends. The
    model is taken in inference mode. The bounds hold for the arithmetic of
    float32 too, rounding errors included.

    Known layers: dense, convolution (also depthwise and separable), pooling,
    activations that increase or have one minimum (GELU, SiLU), BatchNorm,
    rescaling, merging by a sum, mean, maximum or concatenation, layers that
    select, pad or reshape, and nested models. Others are refused by their
    names.

    All methods are differentiable in the weights, for training: see
    `IntervalModel`.

    Args:
        model: A built functional or sequential Keras classifier.
        from_logits: As in `PGDAttack`.
        attacked: Name of the input that varies, of a model with several.
        output: Name of the output that classifies, of a model with several.
        scaling: As in `evaluate_robustness`; bounds of inputs are then in
            [0, 1].

    Raises:
        ValueError: If bounds are not known for a layer.

    Attributes:
        classifier: `Classifier` of the model.
        tie: Margins up to this may be rounded to a tie by a last activation.
        sigmoids: How many outputs end in a sigmoid of their own, which is left
            out; 0 for another last activation.
        bounds_probabilities: Whether the last activation could not be left
            out, so that probabilities take the place of logits.

    Example:

    ```python
    network = keras_robust.certify.IntervalNetwork(model)
    lower, upper = network.logits(x - 0.1, x + 0.1)
    ```
    """

    def __init__(
        self,
        model: Any,
        from_logits: bool | None = None,
        attacked: str | int | None = None,
        output: str | int | None = None,
        scaling: str | tuple[Any, ...] | None = None,
    ) -> None:
        self.classifier = Classifier.of(
            model,
            from_logits=from_logits,
            attacked=attacked,
            output=output,
            scaling=scaling,
        )
        model = self.classifier.model
        _check_model(model)
        self._scaling = self.classifier.outputs.scaling
        self._inputs = self.classifier.inputs
        output = self.classifier.output
        head = find_head(model, output)
        if not self.classifier.logits.gives_probabilities:
            head = Head("linear")
        # Without the softmax or sigmoid, where there is one to leave out.
        body = head.body or model
        tensor = output_of(body, None if head.body else output)
        self._after = [head.layer] if head.layer else []
        self._after += head.shaping
        self._places = [
            source is self._inputs.tensor for source in model.inputs
        ]
        self._graph = _Graph(tensor, body.inputs, self._places)
        for layer in self._after:
            _rule(layer)
        probable = self.classifier.logits.gives_probabilities
        self.tie = _TIE if probable else 0.0
        self.bounds_probabilities = probable and head.body is None
        is_sigmoid = head.kind == "sigmoid" and not self.bounds_probabilities
        self.sigmoids = 0
        if is_sigmoid:
            self.sigmoids = int(output_of(model, output).shape[-1])

    def logits(
        self, lower: Any, upper: Any, held: dict[str, Any] | None = None
    ) -> tuple[Any, Any]:
        """Bounds of the logits.

        Args:
            lower: Float array or tensor `(N, ...)`, the lowest inputs.
            upper: The highest inputs, in the same shape.
            held: Dictionary of the other inputs, as `Inputs.split` of a
                `Classifier` gives it.

        Returns:
            Float32 tensors `(lower, upper)` of shape `(N, C)`, C >= 2: those
            of a single output z are of the two logits `[0, z]`.
        """
        found = self.interval(lower, upper, held)
        return found.lower, found.upper

    def margins(
        self,
        lower: Any,
        upper: Any,
        y: Any,
        held: dict[str, Any] | None = None,
    ) -> Any:
        """Lower bounds of the logit of each label minus each other logit.

        They are tighter than differences of `logits`: a last `Dense` layer is
        merged with the difference.

        Args:
            lower: See `logits`.
            upper: See `logits`.
            y: Int tensor `(N,)`, labels.
            held: See `logits`.

        Returns:
            Float32 tensor `(N, C)`, 0 at the label. All others above 0: no
            input of the box has another label.
        """
        return of_differences(self.interval(lower, upper, held), y)

    def worst_case_logits(
        self,
        lower: Any,
        upper: Any,
        y: Any,
        held: dict[str, Any] | None = None,
    ) -> Any:
        """Logits that are as bad for a label as the bounds allow.

        Their cross-entropy bounds that of every input of the box. It is what
        the paper minimizes.

        Args:
            lower: See `logits`.
            upper: See `logits`.
            y: See `margins`.
            held: See `logits`.

        Returns:
            Float32 tensor `(N, C)`: upper bounds of `z_t - z_y`.
        """
        return -self.margins(lower, upper, y, held)

    def interval(
        self, lower: Any, upper: Any, held: dict[str, Any] | None = None
    ) -> Interval:
        """Bounds of the logits, as `of_differences` takes them.

        See `logits`.
        """
        ends = [
            self._inputs.flat(ops.convert_to_tensor(end, "float32"), held)
            for end in (lower, upper)
        ]
        values: list[Any] = []
        for varies, low, high in zip(self._places, *ends, strict=True):
            values.append(self._box(low, high) if varies else low)
        found = _as_interval(self._graph(values))
        for layer in self._after:
            found = _rule(layer)(layer, found)
        if found.lower.shape[-1] != 1:
            return found
        return self._as_two(found)

    def _box(self, lower: Any, upper: Any) -> Interval:
        box = Interval(lower, upper)
        if self._scaling is None:
            return box
        offset = ops.abs(ops.convert_to_tensor(self._scaling.offset, "float32"))
        return of_scaling(
            box, self._scaling.scale, self._scaling.offset, offset
        )

    def _as_two(self, single: Interval) -> Interval:
        """A single output z as the two logits `[0, z]`."""
        zero = ops.zeros_like(single.lower)
        if self.bounds_probabilities:
            # A probability is compared with 1/2.
            zero = zero + 0.5
        lower, upper = (
            ops.concatenate([zero, end], -1)
            for end in (single.lower, single.upper)
        )
        return Interval(lower, upper)


class _Graph:
    """The layers between Keras tensors, as a function of intervals.

    Args:
        tensor: Keras tensor to bound.
        inputs: Keras tensors of the inputs.
        varies: Which of the inputs are intervals.

    Raises:
        ValueError: If a layer between them has no rule.
    """

    def __init__(
        self,
        tensor: keras.KerasTensor,
        inputs: list[keras.KerasTensor],
        varies: list[bool],
    ) -> None:
        self._tensor = tensor
        self._inputs = inputs
        self._nodes = nodes_to(tensor, inputs)
        self._nested: dict[int, _Graph] = {}
        varying = {
            id(source)
            for source, does in zip(inputs, varies, strict=True)
            if does
        }
        for node in self._nodes:
            operation = node.operation
            reads = [id(needed) in varying for needed in node.inputs]
            if not any(reads):
                continue
            varying |= {id(found) for found in node.outputs}
            if isinstance(operation, keras.Model):
                _check_model(operation)
                if len(operation.outputs) > 1:
                    raise _unknown(operation, "which has several outputs")
                self._nested[id(node.outputs[0])] = _Graph(
                    operation.outputs[0], operation.inputs, reads
                )
            elif isinstance(operation, keras.layers.Layer):
                _rule(operation)

    def __call__(self, values: list[Any]) -> Any:
        """Bounds of the tensor.

        Args:
            values: An `Interval` or a tensor for each input.

        Returns:
            `Interval`, or a tensor if no input is an interval.
        """
        known = {
            id(source): value
            for source, value in zip(self._inputs, values, strict=True)
        }
        for node in self._nodes:
            results = keras.tree.flatten(self._run(node, known))
            for tensor, value in zip(node.outputs, results, strict=True):
                known[id(tensor)] = value
        return known[id(self._tensor)]

    def _run(self, node: Node, known: dict[int, Any]) -> Any:
        operation = node.operation
        values = [known[id(tensor)] for tensor in node.inputs]
        args, kwargs = node.arguments(known)
        kwargs.pop("training", None)
        if not any(isinstance(value, Interval) for value in values):
            more = training_argument(operation, False)
            return operation(*args, **{**kwargs, **more})
        nested = self._nested.get(id(node.outputs[0]))
        if nested is not None:
            return nested(values)
        if len(args) > 2 or any(part is not None for part in kwargs.values()):
            raise _unknown(operation, "called with more than its inputs")
        if not isinstance(operation, keras.layers.Layer):
            return _run_operation(operation, args)
        if len(args) > 1:
            raise _unknown(operation, "called with more than its inputs")
        rule = _rule(operation)
        if isinstance(args[0], (list, tuple)):
            return rule(operation, [_as_interval(part) for part in args[0]])
        return rule(operation, args[0])


def _as_interval(value: Any) -> Interval:
    """A tensor that does not depend on the box, as bounds of itself."""
    if isinstance(value, Interval):
        return value
    value = ops.convert_to_tensor(value, "float32")
    return Interval(value, value).widened(_ROUNDING * ops.abs(value))


def _rule(layer: Any) -> Callable[..., Interval]:
    rule = rule_of(layer)
    if rule is None:
        dtype = getattr(layer, "compute_dtype", "float32")
        has_rule = type(layer) in RULES and dtype != "float32"
        what = f"which computes in {dtype}" if has_rule else "which has no rule"
        raise _unknown(layer, what)
    check_settings(layer)
    return rule


def _unknown(operation: Any, what: str) -> ValueError:
    known = sorted(kind.__name__ for kind in RULES)
    return ValueError(
        "Interval bounds are known for unmodified float32 layers of the types "
        f"{', '.join(known)}, and for sums and multiples. "
        f"Received: {operation.name!r} of type {type(operation).__name__}, "
        f"{what}"
    )


def _check_model(model: Any) -> None:
    if shows_graph(model):
        return
    raise ValueError(
        "Interval bounds need a functional or sequential model: what a "
        "subclass computes in its `call` is hidden. Received: model "
        f"{model.name!r} of type {type(model).__name__}"
    )


def _run_operation(operation: Any, args: tuple[Any, ...]) -> Interval:
    """Bounds of an operation of `keras.ops`, such as `a + b`."""
    kind = type(operation)
    name = kind.__name__ if kind.__module__.startswith("keras.") else ""
    if name in ("Add", "Subtract"):
        first, second = map(_as_interval, args)
        if name == "Subtract":
            return difference(first, second)
        return of_sum(first, second)
    if name == "Multiply" and not isinstance(args[0], Interval):
        args = args[::-1]
    if name in ("Multiply", "TrueDivide", "Divide") and isinstance(
        args[0], Interval
    ):
        if not isinstance(args[1], Interval):
            factor = ops.convert_to_tensor(args[1], "float32")
            factor = factor if name == "Multiply" else 1 / factor
            return of_scaling(args[0], factor, 0.0, 0.0)
    if name in ("Relu", "Reshape", "Squeeze", "ExpandDims"):
        return of_ends(operation.call, args[0])
    if name in ("Sigmoid", "Tanh", "Softplus"):
        return of_rounded_ends(operation.call, args[0])
    if name in ("Gelu", "Silu"):
        is_approximate = name == "Gelu" and operation.approximate
        place = "approximate_gelu" if is_approximate else name.lower()
        return of_valley(operation.call, LOWEST[place], args[0])
    if name == "Cast" and operation.dtype in ("float32", "float64"):
        return args[0]
    raise _unknown(operation, "which has no rule")
