"""What the numbers of an evaluation mean, for someone who is no expert."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from keras_robust.plot.units import Units

if TYPE_CHECKING:
    from keras_robust.evaluation.flags import Flag

# Shares of the right answers that are left, and what they are called.
_LEVELS = (
    (0.05, "against such changes this model has no protection"),
    (0.5, "more than half of its right answers can be turned wrong"),
    (0.9, "most of its right answers stand, but not all"),
    (float("inf"), "nearly all of its right answers stand"),
)
# Attacks whose figures are fit to be published.
_THOROUGH = "AutoAttack"


def share_text(share: float) -> str:
    """A share of images in words."""
    return f"{100 * share:.0f} of 100 images"


def threat_text(provenance: Mapping[str, Any]) -> str:
    """The strength of the attacks of an evaluation, as the start of a sentence.

    Args:
        provenance: Of the evaluation.
    """
    norm, epsilon = provenance.get("norm"), provenance.get("epsilon")
    if not isinstance(norm, str) or not isinstance(epsilon, (int, float)):
        return "Under the attacks of this evaluation"
    units = Units.of(provenance, norm)
    number = "pixel value" if units.numbers else "number"
    if norm == "l0":
        return f"If up to {epsilon:g} {number}s may be changed at will"
    if norm == "linf":
        levels = units.levels
        size = f" ({levels * epsilon:.3g} of 255 levels)" if levels else ""
        return f"If every {number} may change by up to {epsilon:.3g}{size}"
    start = f"If an input may change by up to {epsilon:.3g} in {norm.upper()}"
    if units.levels is None:
        return start
    return (
        f"{start} (as much as {units.levels * epsilon:.2g} of 255 levels in "
        f"every {number})"
    )


def judgement(clean: float, worst: float) -> str:
    """What is left of the right answers, in a few words."""
    left = worst / clean if clean else 0.0
    return next(words for most, words in _LEVELS if left < most)


def caution(flags: "Sequence[Flag]", is_bound: bool = True) -> str:
    """What stands between these numbers and trust in them.

    Args:
        flags: Of the evaluation.
        is_bound: Whether better attacks may find more.
    """
    parts = []
    if is_bound:
        parts.append(
            "Attacks show what can be broken, not that the rest is safe: a "
            "better attack may break more."
        )
    if flags:
        names = ", ".join(dict.fromkeys(flag.name for flag in flags))
        parts.append(
            f"Warnings were raised ({names}): read them before you rely on "
            "the numbers."
        )
    else:
        parts.append("No warning was raised.")
    return " ".join(parts)


def publishing(provenance: Mapping[str, Any]) -> list[str]:
    """A sentence where no attack is fit for numbers to publish.

    Args:
        provenance: Of the evaluation.
    """
    attacks = provenance.get("attacks") or {}
    classes = {entry.get("class") for entry in attacks.values()}
    if not classes or _THOROUGH in classes:
        return []
    return ["For numbers to publish, run AutoAttack as well."]
