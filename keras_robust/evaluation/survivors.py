"""Which examples survive, from one attack of an evaluation to the next."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_robust.attacks.attack import Attack

# Every attack runs on the first so many correctly classified examples, even if
# already broken, so that flags compare like with like.
ALWAYS_ATTACKED = 100
# Attacks with at most this many gradients skip nothing: it would save little.
CHEAP = 1


def by_cost(attacks: Mapping[str, Attack]) -> list[str]:
    """Sort the names of attacks, the cheapest first."""
    return sorted(attacks, key=lambda name: attacks[name].cost)


def with_early_stop(attack: Attack) -> Attack:
    """The attack, set to stop each example at its first success.

    An attack that cannot stop early is returned unchanged.
    """
    if getattr(attack, "early_stop", True):
        return attack
    try:
        return attack.replace(early_stop=True)
    except TypeError:
        return attack


def is_contained(small: Attack, large: Attack, examples: int) -> np.ndarray:
    """Whether all perturbations of one attack are allowed in another.

    Args:
        small: An attack.
        large: Another attack.
        examples: N.

    Returns:
        Bool array `(N,)`.
    """
    small_norm = getattr(small, "norm", None)
    comparable = (
        small_norm is not None
        and small_norm == getattr(large, "norm", None)
        and small.epsilon is not None
        and large.epsilon is not None
        and _same_range(small.value_range, large.value_range)
        and getattr(large, "mask", None) is None
    )
    if not comparable:
        return np.zeros(examples, bool)
    inner, outer = np.asarray(small.epsilon), np.asarray(large.epsilon)
    if inner.shape == outer.shape and not _is_per_example(inner, examples):
        return np.full(examples, (inner <= outer).all())
    largest = _per_example(inner, examples, np.max)
    smallest = _per_example(outer, examples, np.min)
    return np.broadcast_to(largest <= smallest, (examples,))


def _per_example(
    epsilon: np.ndarray,
    examples: int,
    reduce_features: Callable[[np.ndarray], Any],
) -> Any:
    """A radius for each example, or one number for all."""
    if _is_per_example(epsilon, examples):
        return epsilon.reshape(examples)
    return reduce_features(epsilon)


def _is_per_example(epsilon: np.ndarray, examples: int) -> bool:
    return epsilon.shape in ((examples,), (examples, 1))


def _same_range(first: Any, second: Any) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return first is second
    return all(map(np.array_equal, first, second))


class Survivors:
    """Which examples earlier attacks have broken, and which are left.

    Args:
        clean: Bool array `(N,)`, which examples are correct without an attack.
        nested: Whether each attack's ball contains those of all attacks
            before; then what they broke counts for attacks of one step too.

    Attributes:
        always_attacked: Rows that no attack skips.
    """

    def __init__(self, clean: np.ndarray, nested: bool = False) -> None:
        self.clean = clean
        self.nested = nested
        self.always_attacked = np.flatnonzero(clean)[:ALWAYS_ATTACKED]
        self._broken: list[tuple[Attack, np.ndarray]] = []

    def broken_before(self, attack: Attack) -> np.ndarray:
        """Examples that are known to be broken inside an attack's ball, `(N,)`.

        Those are misclassified without an attack, or were broken by an earlier
        attack whose ball this one contains.
        """
        broken = ~self.clean
        if attack.cost <= CHEAP and not self.nested:
            return broken
        for earlier, found in self._broken:
            inside = self.nested or is_contained(earlier, attack, len(broken))
            broken = broken | (found & inside)
        return broken

    def skipped_by(self, attack: Attack) -> np.ndarray:
        """Examples that an attack need not run on, `(N,)`."""
        skipped = self.broken_before(attack)
        skipped[self.always_attacked] = False
        return skipped

    def record(self, attack: Attack, broken: np.ndarray) -> np.ndarray:
        """Keep what an attack broke, for the attacks that follow.

        Args:
            attack: The attack.
            broken: Bool array `(N,)`, which examples it broke itself.

        Returns:
            Bool array `(N,)`, which examples survive this attack and the
            cheaper ones inside its ball.
        """
        self._broken.append((attack, broken))
        left: np.ndarray = ~(broken | self.broken_before(attack))
        return left
