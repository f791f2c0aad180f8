"""Images made to have a given representation."""

import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.batches import map_batches
from keras_robust.attacks.compiled import CompiledLoop
from keras_robust.attacks.frozen import FrozenModel
from keras_robust.attacks.frozen import prepared
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.per_model import once_per_model
from keras_robust.features.polyak import PolyakLoop

OPTIMIZERS = {"gradient_descent": GradientLoop, "polyak": PolyakLoop}


class RepresentationObjective:
    """Closeness to a target representation.

    Args:
        represent: `x -> (N, ...)` representation of a frozen model.
    """

    def __init__(self, represent):
        self.represent = represent

    def prepared(self):
        """See `frozen.prepared`."""
        return prepared(self.represent)

    def __call__(self, inputs, x):
        """Minus the squared distance, `(N,)`; there is no success."""
        # The square has the direction of the distance, and a gradient at 0.
        difference = ops.cast(self.represent(x), "float32") - inputs["target"]
        axes = tuple(range(1, len(difference.shape)))
        values = -ops.sum(ops.square(difference), axis=axes)
        return values, ops.zeros_like(values, dtype="bool")


def inverted(
    view,
    x,
    start,
    step_size,
    steps,
    value_range,
    batch_size,
    jit_compile,
    verbose,
    optimizer="gradient_descent",
):
    """Images in the box whose representations come close to those of `x`.

    Args:
        view: Model from images to representations.
        x: Float array or tensor `(N, ...)`, N >= 1.
        start: Array like `x`.
        step_size: L2 length of a step.
        steps: Int >= 0.
        value_range: `(low, high)`, the box.
        batch_size: Int >= 1.
        jit_compile: As in `PGDAttack`.
        verbose: 0 for no progress bar.
        optimizer: A key of `OPTIMIZERS`.

    Returns:
        Dictionary: `x`, and arrays `(N,)`, `distance_before` and
        `distance_after` between representations.
    """
    represent, distance, loop = _compiled(
        view, value_range, jit_compile, tuple(x.shape[1:]), optimizer
    )
    inputs = {
        "start": start,
        "step_size": np.full(x.shape[0], step_size, "float32"),
    }

    def invert_batch(batch, report):
        image = batch.pop("center")
        batch["target"] = target = represent({"x": image})
        begun = {"x": batch["start"], "target": target}
        x = loop(batch, steps, report)["x"]
        return {
            "x": x,
            "distance_before": distance(begun),
            "distance_after": distance({"x": x, "target": target}),
        }

    return map_batches(
        invert_batch,
        x,
        inputs,
        value_range=value_range,
        batch_size=batch_size,
        pads=loop.pads,
        steps=steps,
        verbose=verbose,
    )


def _compiled(view, value_range, jit_compile, shape, optimizer):
    def make():
        frozen = FrozenModel(view)
        loop = OPTIMIZERS[optimizer](
            RepresentationObjective(frozen),
            L2Ball,
            value_range,
            inside_ball=False,
        )

        def represent(inputs):
            return ops.cast(frozen(inputs["x"]), "float32")

        def distance(inputs):
            return l2_norm(represent(inputs) - inputs["target"])

        variables = view.variables
        return (
            backend.compile(represent, variables, jit_compile),
            backend.compile(distance, variables, jit_compile),
            CompiledLoop(loop, variables, jit_compile),
        )

    key = ("inversion", value_range, jit_compile, shape, optimizer)
    return once_per_model(view, key, make)
