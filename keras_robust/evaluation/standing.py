"""Which examples still stand, from one attack of an evaluation to the next."""

import copy

import numpy as np

# Examples that every attack goes at, whoever broke them before: so that flags
# which compare attacks have something to compare.
WITNESSES = 100
# An attack of so many gradients keeps its own figure: little could be saved.
CHEAP = 1


def by_cost(attacks):
    """Names of attacks, the cheapest first."""
    return sorted(attacks, key=lambda name: attacks[name].passes)


def stopping(attack):
    """The attack, such that an example stops at its first success."""
    if getattr(attack, "early_stop", True):
        return attack
    attack = copy.copy(attack)
    attack.early_stop = True
    return attack


def contained(small, large, examples):
    """Where whatever `small` may do, `large` may do.

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
        and small.value_range == large.value_range
        and getattr(large, "mask", None) is None
    )
    if not same:
        return np.zeros(examples, bool)
    return np.broadcast_to(
        np.asarray(small.epsilon) <= np.asarray(large.epsilon), (examples,)
    )


class Standing:
    """What has been broken by whom.

    Args:
        clean: Bool array `(N,)`, which examples are right unperturbed.
    """

    def __init__(self, clean):
        self.clean = clean
        self.witnesses = np.flatnonzero(clean)[:WITNESSES]
        self._broken = []

    def before(self, attack):
        """Examples that are broken inside the attack's ball, `(N,)`."""
        broken = ~self.clean
        if attack.passes <= CHEAP:
            return broken
        for other, found in self._broken:
            broken = broken | (found & contained(other, attack, len(broken)))
        return broken

    def skipped(self, attack):
        """Examples that the attack need not go at, `(N,)`."""
        skipped = self.before(attack)
        skipped[self.witnesses] = False
        return skipped

    def after(self, attack, own):
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
