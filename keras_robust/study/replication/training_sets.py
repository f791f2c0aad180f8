"""The sets that the models of a study are trained on."""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace
from enum import Enum
from typing import Any
from typing import Literal

import keras

from keras_robust.classifier import inner_model
from keras_robust.classifier.fingerprint import callable_sha256
from keras_robust.classifier.fingerprint import model_sha256
from keras_robust.transforms import Shortcut
from keras_robust.transforms import Transform
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import did_you_mean

Target = Literal["random", "deterministic", "other"]


class Kind(Enum):
    """The way in which the images of a training set are made."""

    ORIGINAL = "images of the data set"
    INVERSION = "inverted representations, labels kept"
    RELABELLED = "perturbed images, labelled with the target"
    OWN = "images of a transform of the user"


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


@dataclass(frozen=True)
class OwnSet(TrainingSet):
    """A set of a study that a transform of the user makes.

    A network is trained on it and attacked like the others. Where the
    transform gives new labels, their control is made as well: the same labels
    with a fixed pattern for each, `Shortcut`.

    Attributes:
        transform: A `Transform` of images in [0, 1]; or a function of the
            source model, which takes such images, that returns one. Where its
            seed is `None`, each seed of the study has another one.
        source: The model whose features it takes: `"standard"` or
            `"adversarial"`; `None` for none, and for a transform that is not
            a function.
        new_labels: Whether it gives new labels; `None` to read it off a
            transform that is not a function.

    Example:

    ```python
    nine = kr.study.OwnSet(
        "D_nine",
        "labelled 9 - y",
        transform=lambda model: kr.NonRobustifier(
            model, target=lambda y, classes, random: 9 - y, steps=20
        ),
        new_labels=True,
    )
    study = kr.Study("digits", make_model, sets=("D_rand", nine))
    ```
    """

    kind: Kind = Kind.OWN
    transform: Any = None
    source: str | None = "standard"
    new_labels: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[\w.+-]+", self.name):
            # A part of the names of files.
            raise ValueError(
                "An `OwnSet` must have a name of letters, digits and . + - _. "
                f"Received: name={self.name!r}"
            )
        if self.source not in ("standard", "adversarial", None):
            raise ValueError(
                "Argument `source` of an `OwnSet` must be 'standard', "
                f"'adversarial' or None. Received: source={self.source!r}"
            )
        if isinstance(self.transform, Transform):
            # It has its model, if it needs one.
            object.__setattr__(self, "source", None)
            return
        if not callable(self.transform) or isinstance(self.transform, type):
            raise ValueError(
                "Argument `transform` of an `OwnSet` must be a Transform, or a "
                "function of the source model that returns one. "
                f"Received: transform={describe(self.transform)}"
            )
        if self.new_labels is None and not self.control:
            raise ValueError(
                "Argument `new_labels` of an `OwnSet` must be True or False "
                "where `transform` is a function: it is not called before the "
                "source model is trained. Received: new_labels=None"
            )

    @classmethod
    def of(cls, transform: Transform) -> OwnSet:
        """The set that a transform makes, with its name and docstring."""
        first = (type(transform).__doc__ or "").strip().partition("\n")[0]
        return cls(
            transform.config_name,
            first or f"made by {type(transform).__name__}",
            transform=transform,
        )

    @property
    def gives_new_labels(self) -> bool:
        """Whether its labels are not those of the data set."""
        if self.new_labels is not None:
            return self.new_labels
        return not self.transform.keeps_labels

    @property
    def shortcut(self) -> OwnSet:
        """Its control: the same labels, and a fixed pattern for each."""
        return replace(
            self,
            name=f"{self.name}_shortcut",
            description=f"a pattern per label of {self.name}: no features",
            base=self.name,
            control=True,
        )

    def description_of(self) -> dict[str, Any]:
        """Plain values that change with the set."""
        return {
            "name": self.name,
            "source": self.source,
            "control": self.control,
            "sha256": transform_sha256(self.transform),
        }

    def make_transform(
        self,
        source: keras.Model | None,
        num_classes: int,
        epsilon: float,
        seed: int,
    ) -> Transform:
        """The transform that makes it, or its control.

        Args:
            source: The model whose features it takes, or `None`.
            num_classes: C.
            epsilon: Norm of the patterns of a control whose transform has no
                radius.
            seed: Where the transform has none.
        """
        made = self.transform
        if not isinstance(made, Transform):
            made = made(source)
        if not isinstance(made, Transform):
            raise ValueError(
                f"The `transform` of the set {self.name!r} must return a "
                f"Transform. Received: {describe(made)}"
            )
        if tuple(made.value_range) != (0.0, 1.0):
            raise ValueError(
                f"The transform of the set {self.name!r} must take images in "
                f"[0, 1]. Received: value_range={made.value_range}"
            )
        if made.seed is None:
            made = copy.copy(made)
            made.seed = seed
        if not self.is_shortcut:
            return made
        radius = getattr(made, "epsilon", None)
        return Shortcut(
            num_classes,
            target=made.draw_targets,
            epsilon=epsilon if radius is None else radius,
            seed=made.seed,
        )

    @property
    def is_shortcut(self) -> bool:
        """Whether this is the control that `shortcut` returns."""
        return self.control and self.name == f"{self.base}_shortcut"


def transform_sha256(transform: Any) -> str:
    """Hash of the settings and the code of a transform.

    Args:
        transform: A `Transform`, or a function that returns one.
    """
    if not isinstance(transform, Transform):
        return callable_sha256(transform)
    model = transform.model
    settings = {
        key: value for key, value in vars(transform).items() if key != "model"
    }
    return callable_sha256(
        [type(transform), settings, model and model_sha256(inner_model(model))]
    )


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
# The sets that a study may leave out, with their variants.
SETS = ("D_R", "D_NR", "D_rand", "D_det", "D_other")
# The relabelled sets that have variants.
RELABELLED = ("D_rand", "D_det", "D_other")
# Places of random numbers for sets of the user, behind those of `STREAMS`.
_OWN_STREAMS = 70
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
            f"A model must be one of {sorted(TRAINING_SETS)}."
            f"{did_you_mean(name, TRAINING_SETS)} Received: {name!r}"
        )
    return TRAINING_SETS[name]


def stream_of(name: str) -> int:
    """The place of a name among the random numbers of a seed.

    Args:
        name: One of `STREAMS`, or that of a set of the user, whose place
            follows from the name alone.

    Returns:
        Int in 0 ... 99.
    """
    if name in STREAMS:
        return STREAMS.index(name)
    own = 100 - _OWN_STREAMS
    return own + zlib.crc32(name.encode()) % _OWN_STREAMS


def own_sets(sets: Iterable[Any]) -> list[OwnSet]:
    """The sets of the user, each with the control that follows from it.

    Args:
        sets: As of `Study`.
    """
    given = [made for made in sets if isinstance(made, OwnSet)]
    names = {made.name for made in given}
    found = []
    for made in given:
        found.append(made)
        control = made.shortcut.name
        if not made.control and made.gives_new_labels and control not in names:
            found.append(made.shortcut)
    return found


def sets_of(sets: Iterable[Any], controls: bool) -> list[TrainingSet]:
    """What the models of a study are trained on, in the order of its table.

    Args:
        sets: As of `Study`.
        controls: As of `Study`.
    """
    sets = list(sets)
    always = ("standard", "adversarial")
    found: list[TrainingSet] = [
        made
        for made in _ALWAYS
        if made.base in (*always, *sets)
        and (controls or made.name == made.base)
    ]
    found += [made for made in own_sets(sets) if controls or made in sets]
    return found


def sets_with_error(error: str) -> tuple[TrainingSet, ...]:
    """The training sets that show an error of the AM207 report.

    Args:
        error: A name in `AM207_ERRORS`.

    Returns:
        One set, or none for an error of the evaluation.
    """
    return tuple(each for each in _WITH_ERRORS if each.error == error)
