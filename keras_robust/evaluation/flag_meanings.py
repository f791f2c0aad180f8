"""What each flag means, and what to do about it."""

# By name: `(what it means, what to do)`. The same as in
# docs/models_and_data.md, which a test compares.
_MISLED = (
    "gradients mislead: the model masks them",
    "a stronger or adaptive attack; read the black box's figure",
)
_BROKEN_RULES = (
    "what an attack returned breaks its own rules",
    "report a bug, or check an attack of your own",
)
_NOTHING_TO_FOLLOW = (
    "an attack has nothing to follow",
    "from_logits, a loss on logits, SquareAttack",
)
MEANINGS: dict[str, tuple[str, str]] = {
    "range": (
        "images fill a small part of value_range, or a model that starts with "
        "a Rescaling of bytes gets [0, 1]",
        "bring images, value_range and scaling into the same units",
    ),
    "radius": (
        "half the range or more, or under a thousandth; less than one step "
        "between two integers",
        "check the units of epsilon",
    ),
    "randomized": (
        "outputs change from call to call",
        'AutoAttack\'s version "rand", or eot',
    ),
    "nan outputs": (
        "the largest score is NaN or infinite on some examples, unperturbed "
        "or attacked",
        "mend the model or the data",
    ),
    "nan": _BROKEN_RULES,
    "outside ball": _BROKEN_RULES,
    "outside box": _BROKEN_RULES,
    "zero gradient": _NOTHING_TO_FOLLOW,
    "vanishing gradients": _NOTHING_TO_FOLLOW,
    "probabilities as logits": (
        "outputs are called logits and look like probabilities",
        "from_logits=False",
    ),
    "batch dependent": (
        "an output depends on the rest of the batch",
        "BatchNormalization in inference mode",
    ),
    "noise beats gradients": _MISLED,
    "black box beats white box": _MISLED,
    "more attack raises accuracy": _MISLED,
    "unbounded radius survived": _MISLED,
    "repeated examples": (
        "half of the examples or more are exact copies of earlier ones, as "
        ".repeat(2) makes them: each counts, and the intervals are too narrow",
        "leave out .repeat",
    ),
    "few classes": (
        "a DLR loss is not defined for so few classes",
        "nothing, margins took its place",
    ),
    "left out": (
        "a part of AutoAttack cannot take inputs of this shape",
        "read the report as one without it",
    ),
    "search disagrees": (
        "the search and the model saw the same images differently",
        "nothing for the figures, which are the model's; look for randomness",
    ),
    "flat activations hide gradients": (
        "survivors fall when activations pass gradients where they are flat",
        "backward=, which replaces such layers in the backward pass",
    ),
    "not found": (
        "an attack without a radius found no adversarial example at all",
        "another attack, more steps, or SquareAttack: gradients may be masked",
    ),
}


def explain(name: str) -> dict[str, str]:
    """Meaning and remedy of a flag; empty for a flag of one's own.

    Args:
        name: Of a `Flag`.
    """
    meaning, remedy = MEANINGS.get(name, ("", ""))
    return {"meaning": meaning, "remedy": remedy}
