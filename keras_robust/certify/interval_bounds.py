"""Accuracy in an L-infinity ball, verified by interval bounds."""

from typing import Any

import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.engine.batches import call_on_batch
from keras_robust.attacks.engine.batches import padded_size
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.certify.interval_network import IntervalNetwork
from keras_robust.certify.intervals import Interval
from keras_robust.certify.intervals import of_differences
from keras_robust.certify.result import IntervalResult
from keras_robust.datasets.arrays import check_form
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.data import check_model
from keras_robust.evaluation.data import read_examples
from keras_robust.evaluation.flags import baseline_flags
from keras_robust.evaluation.flags import repeat_flags
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.provenance import provenance
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.checks import check_radius
from keras_robust.utils.checks import check_value_range
from keras_robust.utils.checks import expand_radius
from keras_robust.utils.progress import Progress

# A sigmoid in float32 is off by at most this.
_SIGMOID_ROUNDING = 4 * 2.0**-24


def interval_bounds(
    model: Any,
    data: Any,
    epsilon: Any,
    batch_size: int = 128,
    verbose: int = 1,
    scaling: str | tuple[Any, ...] | None = None,
    value_range: Any = (0.0, 1.0),
    from_logits: bool | None = None,
    attacked: str | int | None = None,
    output: str | int | None = None,
) -> IntervalResult:
    """Verify a model's answers in L-infinity balls, by interval arithmetic.

    An example is certified if no input within `epsilon` of it in the box
    `value_range` gets another label: bounds on `z_y - z_t` from interval bound
    propagation (Gowal et al. 2018, arXiv:1810.12715) are above 0 for all other
    classes t. It takes two forward passes. What is not certified may be robust
    all the same. The bounds grow from layer to layer, so that networks that
    were not trained for them (see `IntervalModel`) are certified at tiny radii
    only.

    Certificates include the rounding errors of float32 sums in any order, of
    the model and of the bounds. They do not include hardware that rounds inputs
    to fewer digits, such as TensorFloat-32 on GPUs: switch that off, for the
    model that you deploy too.

    Args:
        model: A built functional or sequential Keras classifier, of layers
            that `IntervalNetwork` knows.
        data: As in `evaluate_robustness`.
        epsilon: Radius >= 0 in units of `value_range`: a number, one per
            example, or one row of the input.
        batch_size: Int >= 1.
        verbose: 0 for no progress bar.
        scaling: As in `evaluate_robustness`.
        value_range: `(low, high)`, the box that holds all inputs, or `"auto"`.
        from_logits: As in `PGDAttack`.
        attacked: Name of the input that is perturbed, of a model with several;
            the others are held fixed.
        output: Name of the output that is classified, of a model with several.

    Returns:
        `IntervalResult`.

    Raises:
        ValueError: If an argument is not as above, the model has a layer
            without bounds, or data and model do not fit.

    Example:

    ```python
    result = keras_robust.certify.interval_bounds(model, (x, y), 1 / 255)
    result.table()
    result.accuracy["certified"]
    ```
    """
    check_model(model)
    check_form(data)
    epsilon = check_radius(epsilon)
    batch_size = check_positive_integer(batch_size, "batch_size")
    value_range = check_value_range(value_range)
    options: dict[str, Any] = {
        "from_logits": from_logits,
        "attacked": attacked,
        "output": output,
    }
    examples = read_examples(
        model, data, scaling=scaling, value_range=value_range, **options
    )
    classifier = examples.classifier
    network = IntervalNetwork(classifier)
    if isinstance(value_range, str):
        value_range = classifier.value_range()
    baseline = Baseline.of(examples, batch_size)
    radius = expand_radius(epsilon, "epsilon", examples.image.shape, True)
    margins = _margins(
        examples,
        network,
        bounds=_box(examples.image, radius, value_range),
        batch_size=batch_size,
        verbose=verbose,
    )
    _check_margins(network, baseline.logits, examples.y, margins)
    facts = provenance(
        examples,
        {},
        norm="linf",
        epsilon=epsilon,
        value_range=value_range,
        scaling=scaling,
    )
    return IntervalResult(
        baseline.labels,
        baseline.right,
        margins=margins,
        certified=baseline.right & (margins > network.tie),
        epsilon=epsilon,
        flags=baseline_flags(baseline) + repeat_flags(examples),
        provenance=facts,
    )


def _box(
    image: np.ndarray, radius: np.ndarray, value_range: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The ball within the box, rounded outwards to float32."""
    if radius.ndim == 1:
        radius = radius.reshape((-1,) + (1,) * (image.ndim - 1))
    image, radius = image.astype("float64"), radius.astype("float64")
    low, high = (np.asarray(edge, "float64") for edge in value_range)
    lower = np.maximum(image - radius, low).astype("float32")
    upper = np.minimum(image + radius, high).astype("float32")
    infinity = np.float32(np.inf)
    return np.nextafter(lower, -infinity), np.nextafter(upper, infinity)


def _margins(
    examples: Examples,
    network: IntervalNetwork,
    *,
    bounds: tuple[np.ndarray, np.ndarray],
    batch_size: int,
    verbose: int,
) -> np.ndarray:
    """The least margin of each example in its box."""
    classifier = examples.classifier
    own_size = classifier.batch_size
    batch_size = own_size or batch_size
    compiled = backend.compile(
        lambda inputs: {"margins": _least_margins(network, inputs.rows)},
        classifier.variables,
        classifier.jit(),
    )
    count = len(examples.y)
    progress = Progress(count, verbose, unit_name="example")
    found = []
    for start in range(0, count, batch_size):
        rows = slice(start, min(start + batch_size, count))
        size = rows.stop - start
        result = call_on_batch(
            compiled,
            Inputs(
                {
                    "lower": bounds[0][rows],
                    "upper": bounds[1][rows],
                    "y": examples.y[rows],
                    "held": {k: v[rows] for k, v in examples.held.items()},
                }
            ),
            size=size,
            padded_size=padded_size(
                size,
                batch_size,
                pads=backend.needs_padding(classifier.jit()),
                fixed=own_size is not None,
            ),
        )
        found.append(ops.convert_to_numpy(result["margins"]))
        progress.add(size)
    least = np.concatenate(found)
    # Bounds that overflow say nothing.
    return np.where(np.isnan(least), -np.inf, least)


def _least_margins(network: IntervalNetwork, rows: dict[str, Any]) -> Any:
    bounds = network.interval(rows["lower"], rows["upper"], rows["held"])
    margins = of_differences(bounds, rows["y"])
    if network.sigmoids > 1:
        margins = _not_tied(margins, bounds, network.tie)
    is_label = ops.one_hot(rows["y"], margins.shape[-1])
    return ops.min(ops.where(is_label > 0, float("inf"), margins), -1)


def _not_tied(margins: Any, bounds: Interval, tie: float) -> Any:
    """Margins, at most 0 where sigmoids may round unlike logits to a tie.

    The difference of the sigmoids of `z + margin` and `z` is least at one of
    the two bounds of z.
    """
    below, above = (
        ops.sigmoid(end + margins) - ops.sigmoid(end)
        for end in (bounds.lower, bounds.upper)
    )
    is_apart = ops.minimum(below, above) > tie
    return ops.where(is_apart, margins, ops.minimum(margins, 0.0))


def _check_margins(
    network: IntervalNetwork,
    logits: np.ndarray,
    y: np.ndarray,
    margins: np.ndarray,
) -> None:
    """Raise where the model itself has a smaller margin than the bounds.

    Its logits belong to a point of the box, so that a layer has done something
    else than its rule says.
    """
    if network.bounds_probabilities:
        return
    rounding = network.classifier.rounding * np.abs(logits).max(-1)
    if network.sigmoids:
        logits, of_sigmoids = _before_sigmoids(logits, network.sigmoids)
        rounding = rounding + of_sigmoids
    places = np.arange(len(y)), y
    others = logits.copy()
    others[places] = -np.inf
    with np.errstate(invalid="ignore"):
        own = logits[places] - others.max(-1)
    # Logarithms of probabilities end at about -85.
    wrong = own < np.minimum(margins, 80.0) - rounding
    if wrong.any():
        raise ValueError(
            "The outputs of the model must lie within their interval bounds; "
            "a layer computes something else than its type says. Received: "
            f"{int(wrong.sum())} of {len(y)} examples outside"
        )


def _before_sigmoids(
    logarithms: np.ndarray, units: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of sigmoids, and how far rounded probabilities put them off.

    Args:
        logarithms: Array `(N, C)`, those of the probabilities p; of a single
            unit of `1 - p` and p.
        units: How many sigmoids there are.

    Returns:
        Arrays `(N, C)` and `(N,)`.
    """
    with np.errstate(divide="ignore"):
        p = np.exp(logarithms.astype("float64"))
        # The derivative of a logit is 1 / (p (1 - p)).
        error = (_SIGMOID_ROUNDING / (p * (1 - p))).max(-1)
        if units == 1:
            return logarithms, error
        return np.log(p) - np.log(1 - p), 2 * error
