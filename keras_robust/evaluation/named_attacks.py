"""Attacks by name, as the command line and the curve want them."""

from keras_robust import attacks

_BY_NAME = {
    "autoattack": lambda **o: attacks.AutoAttack(**o),
    "autoattack-plus": lambda **o: attacks.AutoAttack(version="plus", **o),
    "autoattack-rand": lambda **o: attacks.AutoAttack(version="rand", **o),
    "apgd": lambda **o: attacks.APGDAttack(early_stop=True, **o),
    "apgd-dlr": lambda **o: attacks.APGDAttack(
        loss="dlr", early_stop=True, **o
    ),
    "apgd-t": lambda **o: attacks.APGDAttack(
        loss="targeted_dlr", early_stop=True, **o
    ),
    "fab": lambda **o: attacks.FABAttack(early_stop=True, **o),
    "fab-t": lambda **o: attacks.FABAttack(targets=9, early_stop=True, **o),
    "square": lambda **o: attacks.SquareAttack(**o),
    "pgd": lambda **o: attacks.PGDAttack(
        steps=20, random_start=True, keep_best=True, **o
    ),
    "fgsm": lambda seed, **o: attacks.FGSMAttack(**o),
    "carlini-wagner": lambda seed, norm, **o: attacks.CarliniWagnerL2(**o),
}
ATTACK_NAMES = tuple(_BY_NAME)


def get_attack(name, norm, epsilon, seed=0, **options):
    """The attack of a name, with the settings of its paper.

    Args:
        name: `"autoattack"`, `"autoattack-plus"`, `"autoattack-rand"`,
            `"apgd"`, `"apgd-dlr"`, `"apgd-t"`, `"fab"`, `"fab-t"`,
            `"square"`, `"pgd"` (20 steps, random start, the best iterate),
            `"fgsm"` or `"carlini-wagner"` (L2 only).
        norm: `"l2"`, `"linf"`, or where the attack can do it `"l1"`.
        epsilon: Float >= 0, radius in units of `value_range`.
        seed: Int or `None`.
        **options: More arguments of the attack.

    Returns:
        `Attack`.

    Raises:
        ValueError: If the name is unknown, or norm or epsilon are missing.
    """
    if name not in _BY_NAME:
        raise ValueError(
            f"An attack's name must be one of {ATTACK_NAMES}. "
            f"Received: {name!r}"
        )
    if norm is None or epsilon is None:
        raise ValueError(
            "An attack by name needs `norm` and `epsilon`. "
            f"Received: norm={norm!r}, epsilon={epsilon!r}"
        )
    if name == "carlini-wagner" and norm not in ("l2", 2):
        raise ValueError(
            "'carlini-wagner' must come with norm='l2'. "
            f"Received: norm={norm!r}"
        )
    return _BY_NAME[name](norm=norm, epsilon=epsilon, seed=seed, **options)
