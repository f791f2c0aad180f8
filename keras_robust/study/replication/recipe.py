"""The settings of a replication, as plain numbers."""

import json
import re
from collections.abc import Collection
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from dataclasses import replace
from typing import Any

from keras_robust import models
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.datasets.pipelines import check_augmentation
from keras_robust.study.replication.am207_errors import AM207_ERRORS
from keras_robust.study.replication.training_sets import MODELS
from keras_robust.study.replication.training_sets import SOURCE
from keras_robust.study.replication.training_sets import STREAMS
from keras_robust.study.replication.training_sets import Kind
from keras_robust.study.replication.training_sets import sets_with_error
from keras_robust.study.replication.training_sets import training_set
from keras_robust.study.training import Training
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

# A function of `models` and its arguments.
NetworkSpec = tuple[str, dict[str, Any]]
# `Replication.seed_of` has room for that many before two streams meet.
MOST_ARCHITECTURES = 9


@dataclass(frozen=True)
class Recipe:
    """Everything that the replication's results depend on, except the seed.

    Radii and steps are L2, in units of images in [0, 1].

    Attributes:
        dataset: Name for `datasets.load`.
        network: Name of a function of `models`.
        network_options: Its arguments.
        networks: Other networks by model, as `[function, options]`; controls
            have those of what they control. One for `"source"` is trained on
            the data set as well, and the relabelled sets are made from it
            instead of from the standard model.
        training: Training of the standard model.
        overrides: Other values of `training` by model; controls have those of
            what they control.
        train_images: How many training images are used, `None` for all.
        test_images: How many test images are used, `None` for all.
        validation_images: How many of the data set's last training images
            are held out and take the place of the test images, as long as
            something is chosen; 0 once it is.
        padding: Pixels of shift in the augmentation.
        flip: Whether images may be mirrored: `True`, `False` or
            `"alternating"`, see `datasets.pipeline`.
        fill_mode: What is shifted in, see `datasets.pipeline`.
        epsilon: Radius of adversarial training.
        attack_steps: Steps of adversarial training.
        attack_step_size: Length of each, `None` for epsilon / 5.
        inversion_steps: Gradient steps for D_R and D_NR.
        inversion_step_size: Length of each.
        inversion_optimizer: As `optimizer` of `Robustifier`.
        relabel_epsilon: Radius of D_rand, D_det and D_other.
        relabel_steps: Gradient steps for them.
        relabel_step_size: Length of each.
        radii: L2 radii of the evaluation; the L-infinity radii are those of
            equal volume.
        linf_radii: More L-infinity radii: 8/255, the usual one.
        evaluation_steps: Steps of its attacks, each of 2.5 radius / steps.
        attacked_images: How many of the test images are attacked, `None` for
            all.
        autoattack_images: How many test images AutoAttack tries on the
            adversarial and the D_R model, at the largest of `radii` and at the
            smallest; 0 for none.
        leakage_epsilon: Radius at which a linear model is trained for the
            leakage of robust linear features.
        architectures: Dictionary of `[function, options]` by name, networks
            between which transfer is measured; none are trained if empty.
        errors: Names in `AM207_ERRORS`: errors of the AM207 report whose
            effects are measured.
        dtype_policy: Keras's, for all networks.
        undecidable: Reasons by name of a claim (see `claims.CLAIMS`) that
            these images or networks cannot decide. It is not judged, however
            its numbers come out.
        too_small: Whether the run only shows that the pipeline works; then no
            claim is judged.
    """

    dataset: str
    network: str
    training: Training
    network_options: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, NetworkSpec] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    train_images: int | None = None
    test_images: int | None = None
    validation_images: int = 0
    padding: int = 4
    flip: bool | str = True
    fill_mode: str = "constant"
    epsilon: float = 0.5
    attack_steps: int = 7
    attack_step_size: float | None = None
    inversion_steps: int = 1000
    inversion_step_size: float = 0.1
    inversion_optimizer: str = "gradient_descent"
    relabel_epsilon: float = 0.5
    relabel_steps: int = 100
    relabel_step_size: float = 0.1
    radii: tuple[float, ...] = (0.25, 0.5)
    linf_radii: tuple[float, ...] = (8 / 255,)
    evaluation_steps: int = 20
    attacked_images: int | None = None
    autoattack_images: int = 0
    leakage_epsilon: float = 0.25
    architectures: dict[str, NetworkSpec] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    dtype_policy: str = "float32"
    undecidable: dict[str, str] = field(default_factory=dict)
    too_small: bool = False

    def __post_init__(self) -> None:
        """Check what would fail, or go unnoticed, after hours of training."""
        check_augmentation(self.padding, self.flip, self.fill_mode)
        _check_counts(self)
        _check_names(self)
        _check_networks(self)
        _check_plain(self)

    def training_of(self, model: str) -> Training:
        """The training of a model.

        Args:
            model: One of `models`.
        """
        changed = {
            **self.overrides.get(training_set(model).base, {}),
            **self.overrides.get(model, {}),
        }
        return replace(self.training, **changed)

    def network_of(self, model: str) -> NetworkSpec:
        """The function of `models` that makes a model's network, its arguments.

        Args:
            model: One of `models`.
        """
        own = (self.network, self.network_options)
        base = training_set(model).base
        function, options = self.networks.get(
            model, self.networks.get(base, own)
        )
        return function, options

    def source_of(self, model: str) -> str | None:
        """The model whose features a generated set takes.

        Args:
            model: One of `models` that is trained on a generated set.

        Returns:
            The name of that model; `None` for a control, which takes none.
        """
        made = training_set(model)
        if made.control:
            return None
        if made.robust_source:
            return "adversarial"
        if made.kind is Kind.RELABELLED:
            return self.relabel_source
        return "standard"

    def description(self) -> dict[str, Any]:
        """All that the numbers depend on, as plain values.

        How claims are judged is not part of it: stages are found again where
        only that has changed.
        """
        described = asdict(self)
        for name in ("undecidable", "too_small"):
            del described[name]
        return described

    def training_attack(self) -> PGDAttack:
        """The attack of adversarial training.

        It starts at the image itself, as Madry's library does (Ilyas et al.
        2019, C.3, Table 4).
        """
        size = self.attack_step_size
        return PGDAttack(
            epsilon=self.epsilon,
            step_size=self.epsilon / 5 if size is None else size,
            steps=self.attack_steps,
        )

    @property
    def augmentation(self) -> dict[str, Any]:
        """Arguments of `datasets.pipeline` that change images."""
        return {
            "padding": self.padding,
            "flip": self.flip,
            "fill_mode": self.fill_mode,
        }

    @property
    def relabel_source(self) -> str:
        """The model that the relabelled sets are made from."""
        return "source" if "source" in self.networks else "standard"

    @property
    def models(self) -> dict[str, str]:
        """Names of all models, with what they are trained on."""
        found = dict(MODELS)
        if SOURCE.name in self.networks:
            found[SOURCE.name] = SOURCE.description
        for error in self.errors:
            for made in sets_with_error(error):
                found[made.name] = made.description
        return found


def _check_counts(recipe: Recipe) -> None:
    for name in ("train_images", "test_images", "attacked_images"):
        if getattr(recipe, name) is not None:
            check_positive_integer(getattr(recipe, name), name)
    for name in ("validation_images", "autoattack_images"):
        check_positive_integer(getattr(recipe, name), name, least=0)


def _check_names(recipe: Recipe) -> None:
    """Refuse a misspelled name, which would otherwise change nothing."""
    settings = [each.name for each in fields(recipe.training)]
    for model, changed in recipe.overrides.items():
        _check_name("overrides", model, STREAMS)
        for setting in changed:
            _check_name(f"overrides[{model!r}]", setting, settings)
    for error in recipe.errors:
        _check_name("errors", error, AM207_ERRORS)


def _check_networks(recipe: Recipe) -> None:
    functions = [
        name for name, value in vars(models).items() if callable(value)
    ]
    _check_name("network", recipe.network, functions)
    for model, (function, _) in recipe.networks.items():
        _check_name("networks", model, STREAMS)
        _check_name(f"networks[{model!r}]", function, functions)
    for name, (function, _) in recipe.architectures.items():
        _check_name(f"architectures[{name!r}]", function, functions)
        # A part of the names of files.
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError(
                "Argument `architectures` must have keys of letters, digits "
                f"and . + - _. Received: {name!r}"
            )
    if len(recipe.architectures) > MOST_ARCHITECTURES:
        raise ValueError(
            f"Argument `architectures` must hold at most {MOST_ARCHITECTURES} "
            f"networks. Received: {len(recipe.architectures)}"
        )


def _check_plain(recipe: Recipe) -> None:
    """Refuse values that `results.json` cannot hold."""
    try:
        json.dumps(asdict(recipe))
    except TypeError as error:
        raise ValueError(
            "A recipe must be made of plain numbers, text, lists and "
            f"dictionaries, which results.json can hold. Received: {error}"
        ) from None


def _check_name(argument: str, name: Any, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(
            f"Argument `{argument}` of a recipe must be of "
            f"{sorted(known)}.{did_you_mean(name, known)} "
            f"Received: {shown(name)}"
        )
