"""Attacks made of a function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.own_batch import AttackBatch
from keras_robust.utils.messages import describe


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class FunctionAttack(Attack):
    """An attack that a function makes; see `from_function`.

    Args:
        function: `AttackBatch -> x_adv`.
        norm: As in `PGDAttack`.
        epsilon: As in `PGDAttack`.
        targeted: As in `PGDAttack`.
        seed: As in `PGDAttack`.
        value_range: As in `PGDAttack`.
        batch_size: As in `PGDAttack`.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`; the function itself is not compiled.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.
    """

    function: Callable[[AttackBatch], Tensor]
    norm: Any = "linf"
    epsilon: Any = None
    targeted: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise ValueError(
                "Argument `function` must be a function of an AttackBatch "
                "that returns perturbed inputs. "
                f"Received: function={describe(self.function)}"
            )
        self.norm = get_ball(self.norm).name

    def perturb_batch(self, batch: AttackBatch) -> Tensor:
        """See `Attack`."""
        return self.function(batch)


def from_function(
    function: Callable[[AttackBatch], Tensor],
    norm: Any,
    epsilon: Any,
    **options: Any,
) -> FunctionAttack:
    """Make an attack of a function, to evaluate and to train with.

    Args:
        function: Takes an `AttackBatch` and returns perturbed inputs like its
            `x`. Written with `keras.ops` it can be trained with as well. It is
            not held to the radius: `batch.project` does that, and a report has
            a flag where results leave the ball or the box.
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`.
        epsilon: Radius of the ball in units of `value_range`.
        **options: `targeted`, `seed`, and the other arguments that `PGDAttack`
            and `Attack` share, such as `value_range` and `batch_size`.

    Returns:
        `FunctionAttack`.

    Example:

    ```python
    from typing import Any


    def sign_step(batch: keras_robust.attacks.AttackBatch) -> Any:
        step = batch.epsilon * keras.ops.sign(batch.gradient(batch.start))
        return batch.project(batch.start + step)


    attack = keras_robust.attacks.from_function(sign_step, "linf", 8 / 255)
    report = keras_robust.evaluate_robustness(model, (x, y), attack)
    ```
    """
    return FunctionAttack(function, norm=norm, epsilon=epsilon, **options)
