"""Attacks of one's own inside training steps."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.engine.gradient_loop import Objective
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.randomness import in_graph_draws
from keras_robust.attacks.gradient_attack import GradientAttack
from keras_robust.attacks.own_batch import make_batch
from keras_robust.attacks.own_batch import perturbed
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.utils import array_checks

# What an attack and `PGDAttack` have in common.
_SHARED = (
    "value_range",
    "batch_size",
    "from_logits",
    "attacked",
    "output",
    "targeted",
    "seed",
)


@dataclass(eq=False, repr=False)
class OwnAttackInStep(PGDAttack):
    """An attack that defines `perturb_batch`, as training steps call attacks.

    Its arguments are those of a single step of PGD in the same ball, by which
    labels, losses and gradients are checked.

    Args:
        own: The attack.
    """

    _: KW_ONLY
    own: Any = None

    def perturb(
        self,
        model: Any,
        x: Tensor,
        y: Any,
        seed: Any = None,
        held: dict[str, Any] | None = None,
        objective: Objective | None = None,
        epsilon: Tensor | None = None,
        start: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """See `GradientAttack`; its gradients are its own."""
        x = ops.stop_gradient(ops.cast(x, "float32"))
        classifier = self._classifier(model)
        rows = {"center": x, "y": y}
        if objective is None:
            rows["y"] = array_checks.labels_in_graph(y)
        if self.own.epsilon is not None:
            rows["epsilon"], _ = self._lengths_in_graph(x, epsilon)
        if held:
            rows["held"] = held
        batch = make_batch(
            self.own.resolve(classifier),
            classifier,
            rows,
            in_graph_draws(seed),
            objective,
            start,
        )
        return perturbed(self.own, batch), None

    def for_validation(self) -> GradientAttack:
        """See `GradientAttack`: how many steps it has is its own affair."""
        return self

    def plain_step(self) -> GradientAttack:
        """See `GradientAttack`."""
        arguments = {**self.arguments(), "epsilon": self.epsilon}
        del arguments["own"]
        return PGDAttack(**arguments)


def for_steps(attack: Any) -> Any:
    """An attack in the form in which training steps call it.

    Args:
        attack: Anything.

    Returns:
        For an attack that defines `perturb_batch` an `OwnAttackInStep`;
        anything else as it is.
    """
    if not isinstance(attack, Attack) or not attack.defines_batches:
        return attack
    shared = {name: getattr(attack, name) for name in _SHARED}
    return OwnAttackInStep(
        norm=getattr(attack, "norm", "linf"),
        epsilon=attack.epsilon,
        steps=1,
        own=attack,
        **shared,
    )
