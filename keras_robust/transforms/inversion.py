"""Images made to have a given representation."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import Box
from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.batches import Report
from keras_robust.attacks.engine.batches import map_batches
from keras_robust.attacks.engine.compiled import CompiledLoop
from keras_robust.attacks.engine.gradient_loop import GradientLoop
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.grid import grid_of
from keras_robust.classifier import Classifier
from keras_robust.classifier import FrozenModel
from keras_robust.classifier import cached_weights
from keras_robust.utils import array_checks

# Images on which a rewritten representation is compared with the model's.
_PROOF_IMAGES = 8
# Share of the last direction that the next one keeps in a `PolyakLoop`.
MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True)
class PolyakLoop(GradientLoop):
    """Gradient descent on a distance whose least value, 0, is known.

    For `r = ||g(z) - g(x)||` a linear model of r is 0 after a step of length
    `r / ||grad r||` (B. T. Polyak 1969, Minimization of unsmooth
    functionals), here averaged over steps by momentum (the same 1964):
    `m <- 0.9 m + min(0.1 r / ||grad r||, step_size) unit(-grad r)`, `z + m`.

    The objective must be minus the squared distance; there is no ball, and
    the arguments are those of `GradientLoop`.
    """

    def init(self, inputs: Inputs) -> State:
        """See `Loop`."""
        state = super().init(inputs)
        direction = ops.zeros_like(state.rows["x"])
        return state._replace(rows={**state.rows, "direction": direction})

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: one step inside the box."""
        x, i = state.rows["x"], state.shared["step"]
        values, _, gradient = self.value_and_gradient(inputs, x, i)
        # The gradient of r is that of r ** 2 divided by 2 r.
        length = -2 * values / nonzero(l2_norm(gradient))
        length = ops.minimum((1 - MOMENTUM) * length, inputs.rows["step_size"])
        unit = self.ball.unit(gradient)
        direction = MOMENTUM * state.rows["direction"] + unit * per_example(
            length, x
        )
        x = ops.clip(x + direction, *self.value_range)
        rows = {**state.rows, "x": x, "direction": direction}
        return State(rows=rows, shared={"step": i + 1})


OPTIMIZERS: dict[str, type[GradientLoop]] = {
    "gradient_descent": GradientLoop,
    "polyak": PolyakLoop,
}


class RepresentationObjective:
    """Closeness to a target representation.

    Args:
        represent: `x -> (N, ...)`, a frozen representation.
    """

    def __init__(self, represent: Callable[[Any], Any]) -> None:
        self.represent = represent

    def cached_weights(self) -> AbstractContextManager[None]:
        """See `classifier.cached_weights`."""
        return cached_weights(self.represent)

    def __call__(self, inputs: Any, x: Any) -> tuple[Any, Any]:
        """Minus the squared distance `(N,)`, and `False` for every success."""
        # The square has the direction of the distance, and a gradient at 0.
        difference = self.represent(x) - inputs["target"]
        axes = tuple(range(1, len(difference.shape)))
        values = -ops.sum(ops.square(difference), axis=axes)
        return values, ops.zeros_like(values, dtype="bool")


class FrozenRepresentation:
    """A representation as a frozen function of images, in float32.

    Args:
        frozen: `FrozenModel` of the representation, which is held weakly.
        scale: Function from images to what the model takes.
    """

    def __init__(
        self, frozen: FrozenModel, scale: Callable[[Any], Any]
    ) -> None:
        self._frozen = frozen
        self._scale = scale

    def __call__(self, x: Any) -> Any:
        """The representations `(N, ...)` of images."""
        return ops.cast(self._frozen(self._scale(x)), "float32")

    def cached_weights(self) -> AbstractContextManager[None]:
        """See `classifier.cached_weights`."""
        return self._frozen.cached_weights()

    @property
    def is_rewritten(self) -> bool:
        """Whether outputs are computed without calling the model itself."""
        return self._frozen.is_rewritten

    def verify(self, x: Any) -> None:
        """Compare it with the model on a few images; see `FrozenModel`."""
        x = ops.cast(ops.convert_to_tensor(x), "float32")
        self._frozen.verify(self._scale(x))


def frozen_view(
    classifier: Classifier, layer: str | None, x: Any
) -> tuple[keras.Model, FrozenRepresentation]:
    """The representation as a model, and as a frozen function of images.

    Where the function does something other than calling the model, it is
    compared with the model on a few of the images first.

    Args:
        classifier: A `Classifier`.
        layer: See `Classifier.representation`.
        x: Array or tensor of images `(N, ...)`, N >= 1.

    Returns:
        `(view, frozen)`; the function does not keep the view alive.
    """
    classifier.refresh(x)
    view = classifier.representation(layer)
    frozen = classifier.cached(
        ("frozen representation", layer),
        lambda: FrozenRepresentation(
            FrozenModel(view, is_integer=classifier.integer_input),
            classifier.outputs.scale,
        ),
    )
    size = classifier.batch_size or min(_PROOF_IMAGES, x.shape[0])
    rows = np.arange(size) % x.shape[0]
    few = x[rows] if isinstance(x, np.ndarray) else ops.take(x, rows, axis=0)
    frozen.verify(few)
    return view, frozen


class Inversion:
    """Images in a box whose representations come close to given ones.

    Args:
        classifier: A `Classifier`, the source of the representation.
        layer: `None` for what the classifying layer reads, or the name of a
            layer.
        value_range: `(low, high)`, the box.
        jit_compile: As in `PGDAttack`.
        optimizer: A key of `OPTIMIZERS`.
    """

    def __init__(
        self,
        classifier: Classifier,
        layer: str | None,
        value_range: tuple[Any, Any],
        jit_compile: bool | str = "auto",
        optimizer: str = "gradient_descent",
    ) -> None:
        self.classifier = classifier
        self.layer = layer
        self.value_range = value_range
        self.jit_compile = jit_compile
        self.optimizer = optimizer

    def __call__(
        self,
        x: Any,
        start: Any,
        step_size: float,
        steps: int,
        batch_size: int,
        verbose: int,
    ) -> dict[str, Any]:
        """Move start images towards given representations.

        Args:
            x: Float array or tensor `(N, ...)`, N >= 1.
            start: Array like `x`.
            step_size: L2 length of a step.
            steps: Int >= 0.
            batch_size: Int >= 1; a size that the model fixes comes first.
            verbose: 0 for no progress bar.

        Returns:
            Dictionary: `x`, and arrays `(N,)`, `distance_before` and
            `distance_after` between representations.
        """
        classifier = self.classifier
        grid = grid_of(classifier, x)
        if grid is not None:
            array_checks.check_whole(x, grid)
        represent, distance, loop = self._compiled(x)
        inputs = {
            "start": start,
            "step_size": np.full(x.shape[0], step_size, "float32"),
        }

        def invert_batch(inputs: Inputs, report: Report) -> dict[str, Any]:
            rows = inputs.rows
            target = represent({"x": rows.pop("center")})
            initial = {"x": rows["start"], "target": target}
            inputs = Inputs({**rows, "target": target})
            x = loop(inputs, steps, report)["x"]
            if grid is not None:
                # In the units that the model takes.
                x = ops.round(x / grid) * grid
            return {
                "x": x,
                "distance_before": distance(initial),
                "distance_after": distance({"x": x, "target": target}),
            }

        return map_batches(
            invert_batch,
            x,
            inputs,
            value_range=self.value_range,
            batch_size=classifier.batch_size or batch_size,
            pads=loop.pads,
            steps=steps,
            verbose=verbose,
            fixed=classifier.batch_size is not None,
        )

    def _compiled(
        self, x: Any
    ) -> tuple[Callable[[Any], Any], Callable[[Any], Any], CompiledLoop]:
        """Compiled functions for images of one shape, made once.

        They are the representation, its distance from a target, and the loop.
        """
        classifier = self.classifier
        view, frozen = frozen_view(classifier, self.layer, x)

        def make() -> Any:
            loop = OPTIMIZERS[self.optimizer](
                objective=RepresentationObjective(frozen),
                ball=L2Ball,
                value_range=self.value_range,
                inside_ball=False,
            )

            def represent(inputs: Any) -> Any:
                return frozen(inputs["x"])

            def distance(inputs: Any) -> Any:
                return l2_norm(represent(inputs) - inputs["target"])

            options = {
                "variables": view.variables,
                "jit_compile": self.jit_compile,
            }
            fixed = classifier.batch_size is not None
            return (
                backend.compile(represent, **options),
                backend.compile(distance, **options),
                CompiledLoop(loop, **options, fixed=fixed),
            )

        key = (
            "inversion",
            self.layer,
            Box(self.value_range),
            self.jit_compile,
            tuple(x.shape[1:]),
            self.optimizer,
            frozen.is_rewritten,
        )
        return classifier.cached(key, make)
