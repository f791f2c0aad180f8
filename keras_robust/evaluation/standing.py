"""Which examples still stand, from one attack of an evaluation to the next."""

import numpy as np

from keras_robust.attacks.attack import Attack

# Every attack runs on this many of the correctly classified examples, even if
# they are broken already, so that flags compare like with like.
WITNESSES = 100
# An attack of so many gradients keeps its own figure: little could be saved.
CHEAP = 1


def by_cost(attacks: dict[str, Attack]) -> list[str]:
    """Returns the names of attacks, the cheapest first."""
    return sorted(attacks, key=lambda name: attacks[name].cost)


def stopping(attack: Attack) -> Attack:
    """Returns the attack, such that an example stops at its first success.

    An attack that cannot stop early is returned as it is.
    """
    if getattr(attack, "early_stop", True):
        return attack
    try:
        return attack.replace(early_stop=True)
    except TypeError:
        return attack


def contained(small: Attack, large: Attack, examples: int) -> np.ndarray:
    """Returns where whatever `small` may do, `large` may do.

    Args:
        small: An `Attack`.
        large: Another one.
        examples: N.

    Returns:
        Bool array `(N,)`.
    """
    norms = getattr(small, "norm", None), getattr(large, "norm", None)
    bounded = small.epsilon is not None and large.epsilon is not None
    same = (
        norms[0] == norms[1]
        and bounded
        and _same_range(small.value_range, large.value_range)
        and getattr(large, "mask", None) is None
    )
    if not same:
        return np.zeros(examples, bool)
    small, large = np.asarray(small.epsilon), np.asarray(large.epsilon)
    if small.shape == large.shape and not _is_per_example(small, examples):
        return np.full(examples, (small <= large).all())
    inside = _extreme(small, examples, np.max) <= _extreme(
        large, examples, np.min
    )
    return np.broadcast_to(inside, (examples,))


def _is_per_example(epsilon, examples):
    return epsilon.shape in ((examples,), (examples, 1))


def _extreme(epsilon, examples, extreme):
    """Radii per example, or the extreme one of a radius per feature."""
    if _is_per_example(epsilon, examples):
        return epsilon.reshape(examples)
    return extreme(epsilon)


def _same_range(first, second):
    if isinstance(first, str) or isinstance(second, str):
        return first is second
    return all(map(np.array_equal, first, second))


class Standing:
    """What has been broken by whom.

    Args:
        clean: Bool array `(N,)`, which examples are right unperturbed.
        nested: Whether each attack's ball holds those of the attacks before,
            and what they broke counts even for attacks of a single step.
    """

    def __init__(self, clean: np.ndarray, nested: bool = False) -> None:
        self.clean = clean
        self.nested = nested
        self.witnesses = np.flatnonzero(clean)[:WITNESSES]
        self._broken = []

    def before(self, attack: Attack) -> np.ndarray:
        """Examples that are broken inside the attack's ball, `(N,)`."""
        broken = ~self.clean
        if attack.cost <= CHEAP and not self.nested:
            return broken
        for other, found in self._broken:
            inside = self.nested or contained(other, attack, len(broken))
            broken = broken | (found & inside)
        return broken

    def skipped(self, attack: Attack) -> np.ndarray:
        """Examples that the attack may skip, `(N,)`."""
        skipped = self.before(attack)
        skipped[self.witnesses] = False
        return skipped

    def after(self, attack: Attack, own: np.ndarray) -> np.ndarray:
        """Keeps an outcome.

        Args:
            attack: The attack.
            own: Bool array `(N,)`, which examples it broke itself.

        Returns:
            Bool array `(N,)`, which are right: under this attack and under
            cheaper ones in its ball.
        """
        self._broken.append((attack, own))
        return ~(own | self.before(attack))
