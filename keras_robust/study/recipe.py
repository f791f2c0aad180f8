"""What a replication is made of, as plain numbers."""

from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

from keras_robust.attacks.pgd import PGDAttack
from keras_robust.datasets.pipelines import check_augmentation
from keras_robust.study.recipe_checks import check_recipe
from keras_robust.study.report_errors import REPORT_ERRORS
from keras_robust.study.training_sets import MODELS
from keras_robust.study.training_sets import SOURCE
from keras_robust.study.training_sets import controlled


@dataclass(frozen=True)
class Training:
    """How one network is trained.

    Attributes:
        epochs: Int.
        learning_rate: Peak learning rate.
        optimizer: `"sgd"`, `"nesterov"` (both with `momentum`) or `"adam"`.
        schedule: `"one_cycle"`: warm-up over a fifth of the steps, then a
            cosine to zero; `"triangle"`: from a fifth of the peak up in 23 %
            of the steps and down to 7 %; `"drops"`: a tenth after each third;
            `"late_drops"`: a tenth after 60 and after 80 % of the steps;
            `"constant"`.
        batch_size: Int.
        augment: Whether to shift, and flip where the recipe flips.
        momentum: Float in [0, 1), of SGD.
        label_smoothing: Float in [0, 1).
        bias_rate: Float > 0, how much larger the learning rate of biases and
            of BatchNormalization's offsets is.
        weight_average: Share of the running average of weights that each step
            keeps, which takes their place at the end; `None` for none.
    """

    epochs: int
    learning_rate: float
    optimizer: str = "sgd"
    schedule: str = "one_cycle"
    batch_size: int = 128
    augment: bool = True
    momentum: float = 0.9
    label_smoothing: float = 0.0
    bias_rate: float = 1.0
    weight_average: float | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything that the replication's results depend on, but the seed.

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
        errors: Names in `REPORT_ERRORS`: errors of the AM207 report, each of
            which is shown.
        dtype_policy: Keras's, for all networks.
        undecidable: Reasons by name of a claim (see `claims.CLAIMS`) that
            these images or networks cannot decide. It is not judged, however
            its numbers come out.
        too_small: Whether the run tells only that the pipeline works; then no
            claim is judged.
    """

    dataset: str
    network: str
    training: Training
    network_options: dict = field(default_factory=dict)
    networks: dict = field(default_factory=dict)
    overrides: dict = field(default_factory=dict)
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
    radii: tuple = (0.25, 0.5)
    linf_radii: tuple = (8 / 255,)
    evaluation_steps: int = 20
    attacked_images: int | None = None
    autoattack_images: int = 0
    leakage_epsilon: float = 0.25
    architectures: dict = field(default_factory=dict)
    errors: tuple = ()
    dtype_policy: str = "float32"
    undecidable: dict = field(default_factory=dict)
    too_small: bool = False

    def __post_init__(self) -> None:
        """Check what would be found out, or not, after hours of training."""
        check_augmentation(self.padding, self.flip, self.fill_mode)
        check_recipe(self)

    def training_of(self, model: Any) -> Any:
        """The training of a model.

        Args:
            model: One of `models`.
        """
        changed = {
            **self.overrides.get(controlled(model), {}),
            **self.overrides.get(model, {}),
        }
        return replace(self.training, **changed)

    def network_of(self, model: str) -> tuple[str, dict]:
        """The function of `models` that makes a model's network, its arguments.

        Args:
            model: One of `models`.
        """
        own = (self.network, self.network_options)
        if model in self.networks:
            return tuple(self.networks[model])
        return tuple(self.networks.get(controlled(model), own))

    def description(self) -> dict:
        """All that the numbers depend on, as plain values.

        What becomes of the claims is no part of it: trained networks are found
        again where only that has changed.
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
        models = dict(MODELS)
        if "source" in self.networks:
            models["source"] = SOURCE
        for error in self.errors:
            base, what = REPORT_ERRORS[error]
            if base is not None:
                models[f"{base}_{error}"] = what
        return models
