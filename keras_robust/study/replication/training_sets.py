"""The sets that the models of a replication are trained on."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

Target = Literal["random", "deterministic", "other"]


class Kind(Enum):
    """The way in which the images of a training set are made."""

    ORIGINAL = "images of the data set"
    INVERSION = "inverted representations, labels kept"
    RELABELLED = "perturbed images, labelled with the target"


@dataclass(frozen=True)
class TrainingSet:
    """What one model of a replication is trained on.

    Attributes:
        name: Name of the set and of the model that is trained on it.
        description: What it is, for reports.
        kind: How its images come about.
        target: Target classes of a relabelled set, see `NonRobustifier`;
            `None` for other kinds.
        base: Name of the set that this one is a variant of, whose recipe it
            shares; empty for a set that is no variant.
        control: Whether the perturbation is a fixed pattern per target
            (`Shortcut`), which takes no features from any model.
        robust_source: Whether the features come from the adversarial model.
        error: The error of the AM207 report that this set shows, a name in
            `AM207_ERRORS`; `None` for a set without one.
    """

    name: str
    description: str
    kind: Kind = Kind.ORIGINAL
    target: Target | None = None
    base: str = ""
    control: bool = False
    robust_source: bool = False
    error: str | None = None

    def __post_init__(self) -> None:
        if not self.base:
            object.__setattr__(self, "base", self.name)

    @property
    def is_generated(self) -> bool:
        """Whether the images are generated from those of the data set."""
        return self.kind is not Kind.ORIGINAL

    @property
    def variant(self) -> str:
        """The difference of a set from its base, in words; empty for a base."""
        if self.error:
            return self.error.replace("_", " ")
        if self.control:
            return "shortcut"
        if self.robust_source and self.base != self.name:
            return "robust source"
        return ""


# Sets of every replication, each followed by its variants.
_ALWAYS = (
    TrainingSet("standard", "the data set"),
    TrainingSet("adversarial", "the data set, attacked at every step"),
    TrainingSet(
        "D_R",
        "inversions of a robust representation, labels kept",
        kind=Kind.INVERSION,
        robust_source=True,
    ),
    TrainingSet(
        "D_NR",
        "inversions of a standard representation, labels kept",
        kind=Kind.INVERSION,
    ),
    TrainingSet(
        "D_rand",
        "adversarial examples, labelled with their random target",
        kind=Kind.RELABELLED,
        target="random",
    ),
    TrainingSet(
        "D_rand_robust",
        "D_rand of the adversarial model: few non-robust features",
        kind=Kind.RELABELLED,
        target="random",
        base="D_rand",
        robust_source=True,
    ),
    TrainingSet(
        "D_rand_shortcut",
        "a pattern per random target: no features at all",
        kind=Kind.RELABELLED,
        target="random",
        base="D_rand",
        control=True,
    ),
    TrainingSet(
        "D_det",
        "adversarial examples, labelled with their target y + 1",
        kind=Kind.RELABELLED,
        target="deterministic",
    ),
    TrainingSet(
        "D_det_robust",
        "D_det of the adversarial model",
        kind=Kind.RELABELLED,
        target="deterministic",
        base="D_det",
        robust_source=True,
    ),
    TrainingSet(
        "D_det_shortcut",
        "a pattern per target y + 1: no features at all",
        kind=Kind.RELABELLED,
        target="deterministic",
        base="D_det",
        control=True,
    ),
    TrainingSet(
        "D_other",
        "adversarial examples, their random target never the true label",
        kind=Kind.RELABELLED,
        target="other",
    ),
    TrainingSet(
        "D_other_shortcut",
        "a pattern per wrong random target: no features at all",
        kind=Kind.RELABELLED,
        target="other",
        base="D_other",
        control=True,
    ),
)
# Only where a recipe makes the relabelled sets from a network of its own.
SOURCE = TrainingSet(
    "source", "the data set; the relabelled sets are made from it"
)
# Only where a recipe includes the errors of the AM207 report.
_WITH_ERRORS = (
    TrainingSet(
        "standard_frozen_flips",
        "the data set, all images enlarged and cropped, none flipped anew",
        base="standard",
        error="frozen_flips",
    ),
    TrainingSet(
        "D_R_unpooled",
        "D_R with the representation before its pooling",
        kind=Kind.INVERSION,
        base="D_R",
        robust_source=True,
        error="unpooled",
    ),
    TrainingSet(
        "D_rand_nine_targets",
        "D_rand with targets of all classes but one",
        kind=Kind.RELABELLED,
        target="random",
        base="D_rand",
        error="nine_targets",
    ),
    TrainingSet(
        "D_rand_no_box",
        "D_rand whose images may leave [0, 1]",
        kind=Kind.RELABELLED,
        target="random",
        base="D_rand",
        error="no_box",
    ),
)

TRAINING_SETS = {each.name: each for each in (*_ALWAYS, SOURCE, *_WITH_ERRORS)}
# What the models of every replication are trained on, in words.
MODELS = {each.name: each.description for each in _ALWAYS}
# The relabelled sets that have variants.
RELABELLED = ("D_rand", "D_det", "D_other")
# The place of a name decides its random numbers (`Replication.seed_of`), so
# that new names go to the end.
STREAMS = (
    "standard",
    "adversarial",
    "D_R",
    "D_NR",
    "D_rand",
    "D_det",
    "D_rand_robust",
    "D_det_robust",
    "D_rand_shortcut",
    "D_det_shortcut",
    "D_other",
    "D_other_shortcut",
    "standard_frozen_flips",
    "D_R_unpooled",
    "D_rand_nine_targets",
    "D_rand_no_box",
    "leakage",
    "source",
)


def training_set(name: str) -> TrainingSet:
    """The training set of that name.

    Args:
        name: Such as `"D_rand_shortcut"`.

    Raises:
        ValueError: If there is none.
    """
    if name not in TRAINING_SETS:
        raise ValueError(
            f"A model must be one of {sorted(TRAINING_SETS)}. "
            f"Received: {name!r}"
        )
    return TRAINING_SETS[name]


def sets_with_error(error: str) -> tuple[TrainingSet, ...]:
    """The training sets that show an error of the AM207 report.

    Args:
        error: A name in `AM207_ERRORS`.

    Returns:
        One set, or none for an error of the evaluation.
    """
    return tuple(each for each in _WITH_ERRORS if each.error == error)
