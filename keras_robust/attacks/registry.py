"""Attacks by name, with the settings of their papers."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from keras_robust.attacks.apgd import APGDAttack
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.auto_attack import AutoAttack
from keras_robust.attacks.carlini_wagner import CarliniWagnerL2
from keras_robust.attacks.ddn import DDNAttack
from keras_robust.attacks.fab import FABAttack
from keras_robust.attacks.fgsm import FGSMAttack
from keras_robust.attacks.fmn import FMNAttack
from keras_robust.attacks.hop_skip_jump import HopSkipJumpAttack
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.pdpgd import PDPGDAttack
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.attacks.sigma_zero import SigmaZeroAttack
from keras_robust.attacks.square import SquareAttack
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

_BY_NAME: dict[str, Callable[..., Attack]] = {
    "autoattack": lambda **o: AutoAttack(**o),
    "autoattack-plus": lambda **o: AutoAttack(version="plus", **o),
    "autoattack-rand": lambda **o: AutoAttack(version="rand", **o),
    "apgd": lambda **o: APGDAttack(early_stop=True, **o),
    "apgd-dlr": lambda **o: APGDAttack(loss="dlr", early_stop=True, **o),
    "apgd-t": lambda **o: APGDAttack(loss="targeted_dlr", early_stop=True, **o),
    "malt": lambda **o: APGDAttack(
        loss="targeted_dlr", targets_by="malt", early_stop=True, **o
    ),
    "fab": lambda **o: FABAttack(early_stop=True, **o),
    "fab-t": lambda **o: FABAttack(targets=9, early_stop=True, **o),
    "square": lambda **o: SquareAttack(**o),
    "hopskipjump": lambda **o: HopSkipJumpAttack(early_stop=True, **o),
    "pgd": lambda **o: PGDAttack(
        steps=20, random_start=True, keep_best=True, **o
    ),
    "fgsm": lambda seed, **o: FGSMAttack(**o),
    "carlini-wagner": lambda seed, norm, **o: CarliniWagnerL2(**o),
    "ddn": lambda seed, norm, **o: DDNAttack(early_stop=True, **o),
    "fmn": lambda seed, **o: FMNAttack(early_stop=True, **o),
    "pdpgd": lambda seed, norm, **o: PDPGDAttack(early_stop=True, **o),
    "sigma-zero": lambda seed, norm, **o: SigmaZeroAttack(early_stop=True, **o),
}
ATTACK_NAMES = tuple(_BY_NAME)
# Attacks that look for the nearest adversarial example.
MINIMUM_NORM_NAMES = (
    "ddn",
    "fmn",
    "pdpgd",
    "sigma-zero",
    "fab",
    "fab-t",
    "carlini-wagner",
    "hopskipjump",
)
# Attacks for one norm, which is not an argument of theirs.
_ONLY_NORM = {
    "carlini-wagner": "l2",
    "ddn": "l2",
    "pdpgd": "l1",
    "sigma-zero": "l0",
}

# Rows of a report that are no attacks.
_RESERVED = ("clean", "worst case")


def get_attack(
    name: str, norm: Any, epsilon: Any, seed: int | None = 0, **options: Any
) -> Attack:
    """The attack of a name, with the settings of its paper.

    Args:
        name: `"autoattack"`, `"autoattack-plus"`, `"autoattack-rand"`,
            `"apgd"`, `"apgd-dlr"`, `"apgd-t"`, `"malt"` (`"apgd-t"`
            towards the nearest boundaries first), `"fab"`, `"fab-t"`,
            `"square"`, `"hopskipjump"`, `"pgd"` (20 steps, random start, the
            best iterate), `"fgsm"`, `"carlini-wagner"` (L2 only), `"ddn"` (L2
            only), `"fmn"`, `"pdpgd"` (L1 only) or `"sigma-zero"` (L0 only).
        norm: `"l0"` (`"fmn"` and `"sigma-zero"` only), `"l1"`, `"l2"` or
            `"linf"`; not every attack can do `"l1"`.
        epsilon: Float >= 0, radius in units of `value_range`.
        seed: Int or `None`.
        **options: More arguments of the attack, such as `value_range`; those
            that are `None` keep their defaults.

    Returns:
        `Attack`.

    Raises:
        ValueError: If the name is unknown, or norm or epsilon are missing.
    """
    if name not in _BY_NAME:
        raise ValueError(
            f"An attack's name must be one of {ATTACK_NAMES}. "
            f"Received: {shown(name)}"
        )
    if norm is None or epsilon is None:
        raise ValueError(
            "An attack by name needs `norm` and `epsilon`. "
            f"Received: norm={shown(norm)}, epsilon={shown(epsilon)}"
        )
    return _make(name, norm, epsilon=epsilon, seed=seed, **options)


def get_minimum_norm_attack(
    name: str, norm: Any = None, seed: int | None = 0, **options: Any
) -> Attack:
    """The minimum-norm attack of a name: the nearest success at any distance.

    Args:
        name: `"ddn"`, `"carlini-wagner"` (L2 only), `"sigma-zero"` (L0 only),
            `"pdpgd"` (L1 only), `"fmn"`, `"fab"` (no L0), `"fab-t"` (no L0)
            or `"hopskipjump"` (L2 and L-infinity, by labels alone).
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`; `None` where the attack is
            for one norm only.
        seed: Int or `None`.
        **options: As in `get_attack`.

    Returns:
        `Attack` with `epsilon=None` that does not stop at its first success.

    Raises:
        ValueError: If the name is another one, or the norm is missing.
    """
    if name not in MINIMUM_NORM_NAMES:
        raise ValueError(
            "The name of a minimum-norm attack must be one of "
            f"{MINIMUM_NORM_NAMES}; for attacks inside a given radius use "
            "`robustness_curve` or `evaluate_robustness`. "
            f"Received: {shown(name)}"
        )
    if norm is None:
        norm = _ONLY_NORM.get(name)
    if norm is None:
        raise ValueError(
            f"The attack {name!r} needs `norm`. Received: norm=None"
        )
    attack = _make(name, norm, epsilon=None, seed=seed, **options)
    if getattr(attack, "early_stop", False):
        attack = attack.replace(early_stop=False)
    return attack


def _make(
    name: str, norm: Any, epsilon: Any, seed: int | None, **options: Any
) -> Attack:
    """Create the attack of a known name."""
    only = _ONLY_NORM.get(name)
    if only is not None and get_ball(norm).name != only:
        raise ValueError(
            f"{name!r} must come with norm={only!r}. "
            f"Received: norm={shown(norm)}"
        )
    options = {key: v for key, v in options.items() if v is not None}
    return _BY_NAME[name](norm=norm, epsilon=epsilon, seed=seed, **options)


def as_attacks(
    value: Any, make: Callable[..., Attack] = get_attack, **options: Any
) -> dict[str, Attack]:
    """Untargeted attacks by name, of what a user gives.

    Args:
        value: An attack, the name of one, a list of them, or a dictionary of
            attacks.
        make: Creates the attack of a name.
        **options: Arguments of `make`; `norm`, `epsilon` and `value_range`
            belong to names only.

    Returns:
        Dictionary of attacks by name.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(value, dict):
        attacks_given = value
    elif isinstance(value, (str, Attack)):
        attacks_given = _numbered([value])
    elif isinstance(value, (list, tuple)):
        attacks_given = _numbered(value)
    else:
        raise ValueError(_wrong(value))
    given = {
        key: options[key]
        for key in ("norm", "epsilon", "value_range")
        if options.get(key) is not None
    }
    by_name = [a for a in attacks_given.values() if isinstance(a, str)]
    if given and not by_name:
        raise ValueError(
            f"Arguments {', '.join(f'`{key}`' for key in given)} must come "
            "with the name of an attack; an attack has its own. "
            f"Received: {shown(given)}, attacks={describe(value)}"
        )
    found = {}
    for name, attack in attacks_given.items():
        if isinstance(attack, str) and not isinstance(value, dict):
            attack = make(attack, **options)
        if not isinstance(attack, Attack):
            raise ValueError(_wrong(attack, name))
        if name in _RESERVED:
            raise ValueError(
                "Argument `attacks` must not use the names 'clean' and "
                f"'worst case', which are reserved. Received: {shown(name)}"
            )
        if attack.targeted:
            raise ValueError(
                "An attack in an evaluation must be untargeted: its labels "
                f"are the true ones. Received: {shown(name)}: {shown(attack)}"
            )
        found[name] = attack
    return found


def _numbered(values: Iterable[Any]) -> dict[str, Any]:
    """Attacks by their type or name, counted where it repeats."""
    found = {}
    for value in values:
        name = value if isinstance(value, str) else type(value).__name__
        number = 2
        unique = name
        while unique in found:
            unique = f"{name} {number}"
            number += 1
        found[unique] = value
    return found


def _wrong(value: Any, name: str | None = None) -> str:
    if isinstance(value, type) and issubclass(value, Attack):
        hint = f"; call the class: {value.__name__}(...)"
    else:
        hint = ""
    where = "" if name is None else f"{name!r}: "
    return (
        "Argument `attacks` must be an attack, the name of one, a list of "
        f"attacks, or a dictionary {{name: attack}}{hint}. "
        f"Received: {where}{describe(value)}"
    )
