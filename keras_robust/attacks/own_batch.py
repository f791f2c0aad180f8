"""What an attack of one's own gets, and how it runs on many examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import Ball
from keras_robust.attacks.balls import add_towards
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.batches import Report
from keras_robust.attacks.engine.batches import map_batches
from keras_robust.attacks.engine.gradient_loop import Objective
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.randomness import Draws
from keras_robust.attacks.engine.randomness import RowDraws
from keras_robust.attacks.engine.randomness import Sampler
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.problem import Problem
from keras_robust.classifier import Classifier
from keras_robust.utils import checks
from keras_robust.utils.messages import shown

if TYPE_CHECKING:
    from keras_robust.attacks.attack import Attack

# Tells this use of a seed apart from others.
_STREAM = 77


@dataclass(frozen=True, kw_only=True)
class AttackBatch:
    """A batch of examples, with what an attack asks of the model.

    Everything but draws from a ball runs inside compiled functions as well, so
    that the same attack evaluates and trains.

    Attributes:
        x: Float32 tensor `(N, ...)`, the unperturbed inputs.
        y: Int32 tensor `(N,)`, the labels to leave, or where the attack is
            targeted those to reach. In training whatever `fit` takes.
        start: Like `x`, where an attack should begin that does not begin at a
            random point: `x` itself, or in training a point close to it where
            the loss has no gradient at `x`.
        epsilon: Tensor that broadcasts to `x`, the radius; `None` for none. In
            training it follows the schedule of the model, unlike the
            attack's own `epsilon`.
        value_range: `(low, high)`, the box that holds all inputs.
        classifier: The `Classifier` that is attacked.
        objective: `(rows, x) -> (loss, success)`, both `(N,)`.
        rows: What the objective reads: tensors with a row per example.
        ball: Distances and projection of the attack's norm, or `None`.
        draws: Random numbers for the examples.
    """

    x: Tensor
    y: Tensor
    start: Tensor
    epsilon: Tensor | None
    value_range: Any
    classifier: Classifier
    objective: Objective
    rows: dict[str, Any]
    ball: type[Ball] | None
    draws: Draws

    def logits(self, x: Tensor) -> Tensor:
        """Logits of shape `(N, C)`.

        Args:
            x: Tensor like `self.x`.
        """
        return self.classifier.logits(x, None, self.rows.get("held"))

    def loss(self, x: Tensor) -> Tensor:
        """The loss to increase, `(N,)`, whether targeted or not.

        That of `PGDAttack`: log-odds of the label, or in training the loss
        that the model is trained with.

        Args:
            x: Tensor like `self.x`.
        """
        return self.objective(self.rows, x)[0]

    def gradient(
        self, x: Tensor, loss: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """The gradient of a loss, summed over the batch.

        Args:
            x: Tensor like `self.x`.
            loss: Function from points to values `(N,)`; `None` for
                `self.loss`.

        Returns:
            Tensor like `x`.
        """
        function = loss or self.loss

        def values(x: Tensor) -> tuple[Tensor, tuple[()]]:
            return function(x), ()

        _, gradient = backend.value_and_gradient(values, x)
        return ops.stop_gradient(gradient)

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the ball, clipped to `value_range`.

        Args:
            x: Tensor like `self.x`.
        """
        ball, epsilon = self._ball()
        delta = ball.project(x - self.x, epsilon)
        return ops.clip(add_towards(self.x, delta), *box(self.value_range))

    def random_point(self) -> Tensor:
        """A uniform draw from the ball, clipped to `value_range`.

        In L0 `floor(epsilon)` entries, each anywhere in `value_range`.
        It belongs to the example and the attack's seed, and does not depend on
        the size of batches or the backend.
        """
        ball, epsilon = self._ball()
        shape = tuple(self.x.shape)
        if None in shape:
            shape = ops.shape(self.x)
        return ball.random_point(
            self.x,
            epsilon,
            noise=ball.noise(self.draws, shape),
            value_range=self.value_range,
        )

    def _ball(self) -> tuple[type[Ball], Tensor]:
        if self.ball is None or self.epsilon is None:
            raise ValueError(
                "An attack that uses the ball must have the settings `norm` "
                "and `epsilon`. Received: an attack without them"
            )
        return self.ball, self.rows["epsilon"]


def make_batch(
    attack: "Attack",
    classifier: Classifier,
    rows: dict[str, Any],
    draws: Draws,
    objective: Objective | None = None,
    start: Tensor | None = None,
) -> AttackBatch:
    """Make a batch for an attack of one's own.

    Args:
        attack: The attack, whose `value_range` is known.
        classifier: What it attacks.
        rows: Tensors: `center`, the inputs; `y`; `epsilon`, `(N,)` or like
            the inputs, if there is a radius; `held`, other inputs, if any.
        draws: Random numbers.
        objective: `(rows, x) -> (values, success)`; `None` for the loss of the
            labels.
        start: See `AttackBatch`; `None` for the inputs.
    """
    if objective is None:
        loss = get_loss("cross_entropy")
        objective = LabelObjective(classifier.logits, loss, attack.targeted)
    x, norm = rows["center"], getattr(attack, "norm", None)
    epsilon = rows.get("epsilon")
    return AttackBatch(
        x=x,
        y=rows["y"],
        start=x if start is None else start,
        epsilon=None if epsilon is None else per_example(epsilon, x),
        value_range=attack.value_range,
        classifier=classifier,
        objective=objective,
        rows=rows,
        ball=None if norm is None else get_ball(norm),
        draws=draws,
    )


def attack_in_batches(
    attack: "Attack", problem: Problem, verbose: int, scored: bool
) -> dict[str, Any]:
    """Run an attack that defines `perturb_batch` on all examples.

    Args:
        attack: The attack.
        problem: A checked `Problem`.
        verbose: 0 for no progress bar.
        scored: Whether `loss` and `success` are needed.

    Returns:
        Dictionary of `x`, and where `scored` of the others.
    """
    draws = RowDraws(attack.seed, _STREAM)
    count = problem.shape[0]
    inputs: dict[str, Any] = {"y": problem.y, "number": np.arange(count)}
    if problem.held:
        inputs["held"] = problem.held
    if attack.epsilon is not None:
        inputs["epsilon"] = checks.expand_radius(
            attack.epsilon, "epsilon", problem.shape, attack.takes_rows
        )

    def perturb(inputs: Inputs, report: Report) -> dict[str, Tensor]:
        del report
        rows = dict(inputs.rows)
        numbers = np.asarray(ops.convert_to_numpy(rows.pop("number")))
        batch = make_batch(
            attack, problem.classifier, rows, _draws_of(draws, numbers)
        )
        x = perturbed(attack, batch)
        if not scored:
            return {"x": x}
        loss, success = batch.objective(rows, x)
        return {"x": x, "loss": loss, "success": success}

    size = problem.batch_size
    return map_batches(
        perturb,
        problem.x,
        inputs,
        value_range=attack.value_range,
        batch_size=size or attack.batch_size,
        pads=False,
        steps=1,
        verbose=verbose,
        fixed=size is not None,
    )


def perturbed(attack: "Attack", batch: AttackBatch) -> Tensor:
    """What an attack makes of a batch, checked.

    Args:
        attack: The attack.
        batch: The batch.

    Returns:
        Float32 tensor like `batch.x`.

    Raises:
        ValueError: If the attack returns something else.
    """
    found = attack.perturb_batch(batch)
    shape = getattr(found, "shape", None)
    if shape is None or not _is_like(tuple(shape), tuple(batch.x.shape)):
        raise ValueError(
            f"{type(attack).__name__}.perturb_batch must return inputs like "
            f"batch.x, of shape {tuple(batch.x.shape)}. "
            f"Received: {shown(found)}"
        )
    return ops.stop_gradient(ops.cast(ops.convert_to_tensor(found), "float32"))


def _is_like(shape: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """Whether all sizes are as expected that are known."""
    return len(shape) == len(expected) and all(
        size == other or size is None or other is None
        for size, other in zip(shape, expected, strict=True)
    )


def _draws_of(draws: RowDraws, numbers: np.ndarray) -> Draws:
    """Draws for rows of which the last may repeat the first one."""
    rows, places = np.unique(numbers, return_inverse=True)
    of_rows = draws.for_rows(rows)

    def repeated(sampler: Sampler) -> Sampler:
        return lambda shape: ops.take(
            sampler((len(rows), *shape[1:])), places, axis=0
        )

    return Draws(
        normal=repeated(of_rows.normal), uniform=repeated(of_rows.uniform)
    )
