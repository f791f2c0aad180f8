"""FAB: the nearest point of the decision boundary, step by step."""

from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import l1_norm
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import linf_norm
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.hyperplane import step_to_hyperplane
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.loop import nearest_within
from keras_robust.attacks.loop import select
from keras_robust.attacks.objectives import difference
from keras_robust.attacks.objectives import says
from keras_robust.classifier import prepared

# The distance to a hyperplane divides by the dual norm of its normal.
_DUAL = {"l1": linf_norm, "l2": l2_norm, "linf": l1_norm}


@dataclass(frozen=True, kw_only=True)
class FABLoop(GradientLoop):
    """Fast adaptive boundary (Croce & Hein 2020, arXiv:1907.02044, alg. 1).

    Each step goes to the linearized boundary from the current point and from
    the image, mixes the two, overshoots a little; a point beyond the boundary
    is remembered if it is nearer than before, and moved back to the image.

    Attributes, besides those of `GradientLoop`:
        logits: `(x, draw) -> (N, C)` logits of a frozen model.
        to_target: Whether the boundary is that to `inputs["target"]`, instead
            of the nearest one.
        targeted: Whether only the target counts as a success.
        mix: Largest weight of the step from the image (alpha_max).
        overshoot: Factor of the steps (eta).
        shrink_back: Factor of a success's distance to go on from (beta).
        early_stop: Whether an example stops at its first success inside its
            radius.
    """

    unrolls: ClassVar[bool] = False

    objective: Any = None
    logits: Any
    to_target: bool
    targeted: bool = False
    mix: float = 0.1
    overshoot: float = 1.05
    shrink_back: float = 0.9

    def prepared(self) -> Any:
        """A context for many looks at the same weights."""
        return prepared(self.logits)

    def init(self, inputs: Any) -> Any:
        """State before the first step."""
        center = inputs["center"]
        x = center
        if "noise" in inputs:
            # Half the radius, or where there is none, a tenth of the box.
            low, high = box(self.value_range)
            point = self.ball.surface(inputs["noise"], inputs.get("mask"))
            width = high - low
            width = ops.min(width) if np.ndim(self.value_range[0]) else width
            reach = ops.minimum(inputs["epsilon"], width / 10)
            x = center + per_example(reach, center) / 2 * point
            x = ops.clip(x, low, high)
        none = ops.zeros_like(inputs["epsilon"])
        state = {
            "x": x,
            "nearest": {"x": center, "distance": none + 1e30},
            "shared": {"i": ops.zeros((), "int32")},
        }
        if self.early_stop:
            state["active"] = none > -1
        return state

    def step(self, inputs: Any, state: Any) -> Any:
        """Two projections, and a look at where their mixture is."""
        x, center, i = state["x"], inputs["center"], state["shared"]["i"]
        value, normal = self.boundary(inputs, x, 2 * i)
        shape = ops.shape(x)
        here, image = _flat(x), _flat(center)
        if "mask" in inputs:
            normal = normal * inputs["mask"]
        normal = _flat(normal)
        offset = ops.sum(normal * here, axis=-1) - value

        def to_boundary(start):
            return ops.reshape(
                step_to_hyperplane(
                    norm=self.ball.name,
                    x=start,
                    normal=normal,
                    offset=offset,
                    value_range=self._flat_range(),
                ),
                shape,
            )

        step, from_image = to_boundary(here), to_boundary(image)
        length = ops.maximum(self.ball.norm(step), 1e-8)
        other = ops.maximum(self.ball.norm(from_image), 1e-8)
        weight = ops.minimum(length / (length + other), self.mix)
        weight = per_example(weight, x)
        x = (x + self.overshoot * step) * (1 - weight) + (
            center + self.overshoot * from_image
        ) * weight
        x = ops.clip(x, *self.value_range)
        success = self.succeeds(
            inputs, self.logits(x, 2 * i + 1, inputs.get("held"))
        )
        distance = self.ball.norm(x - center)
        nearest = state["nearest"]
        nearer = ops.logical_and(success, distance < nearest["distance"])
        nearest = select(nearer, {"x": x, "distance": distance}, nearest)
        back = center + self.shrink_back * (x - center)
        state = {
            **state,
            "x": ops.where(per_example(success, x), back, x),
            "nearest": nearest,
            "shared": {"i": i + 1},
        }
        if self.early_stop:
            radius = ops.minimum(inputs["epsilon"], 1e29)
            state["active"] = nearest["distance"] > radius
        return state

    def _flat_range(self):
        """The box of flat examples."""
        if np.ndim(self.value_range[0]) == 0:
            return self.value_range
        return tuple(np.reshape(end, (1, -1)) for end in self.value_range)

    def succeeds(self, inputs: Any, logits: Any) -> Any:
        """Whether the goal is reached, shape `(N,)`."""
        if self.targeted:
            return says(inputs["target"], logits)
        return ops.logical_not(says(inputs["y"], logits))

    def boundary(self, inputs: Any, x: Any, draw: Any) -> Any:
        """A function that is 0 at the boundary, and its gradient, at `x`."""
        y = inputs["y"]
        if self.to_target:
            return self._gap(inputs, inputs["target"], x, draw)
        classes = self.logits(x, draw, inputs.get("held")).shape[-1]
        nearest = None
        for other in range(classes):
            label = ops.zeros_like(y) + other
            value, gradient = self._gap(inputs, label, x, draw)
            size = _DUAL[self.ball.name](gradient)
            far = ops.abs(value) / ops.where(size > 0, size, 1e-12)
            far = ops.where(ops.equal(label, y), 1e30, far)
            one = {"value": value, "gradient": gradient, "far": far}
            if nearest is not None:
                one = select(far < nearest["far"], one, nearest)
            nearest = one
        return nearest["value"], nearest["gradient"]

    def _gap(self, inputs, target, x, draw):
        (value, _), gradient = backend.value_and_gradient(
            lambda x: (
                difference(
                    inputs["y"],
                    target,
                    self.logits(x, draw, inputs.get("held")),
                ),
                0.0,
            ),
            x,
        )
        return value, gradient

    def finish(self, inputs: Any, state: Any) -> Any:
        """The nearest point found, where it is inside the radius."""
        return nearest_within(inputs, state["nearest"])


def _flat(x):
    return ops.reshape(x, (ops.shape(x)[0], -1))
