"""Recipes by data set and preset: plain numbers beside where they come from."""

from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace


@dataclass(frozen=True)
class Training:
    """How one network is trained, by SGD with momentum 0.9.

    Attributes:
        epochs: Int.
        learning_rate: Peak learning rate.
        schedule: `"one_cycle"`: warm-up over a fifth of the steps, then a
            cosine to zero; `"drops"`: a tenth after each third.
        batch_size: Int.
        augment: Whether to shift, and flip where the recipe flips.
    """

    epochs: int
    learning_rate: float
    schedule: str = "one_cycle"
    batch_size: int = 128
    augment: bool = True


@dataclass(frozen=True)
class Recipe:
    """Everything that the replication's results depend on, but the seed.

    Radii and steps are L2, in units of images in [0, 1].

    Attributes:
        dataset: Name for `datasets.load`.
        network: Name of a function of `models`.
        network_options: Its arguments.
        training: Training of the standard model.
        overrides: Other values of `training` by model.
        train_images: How many training images are used, `None` for all.
        test_images: How many test images are attacked, `None` for all.
        padding: Pixels of shift in the augmentation.
        flip: Whether images may be mirrored.
        epsilon: Radius of adversarial training.
        attack_steps: Steps of adversarial training, each of epsilon / 5.
        inversion_steps: Gradient steps for D_R and D_NR.
        inversion_step_size: Length of each.
        relabel_epsilon: Radius of D_rand and D_det.
        relabel_steps: Gradient steps for them.
        relabel_step_size: Length of each.
        radii: L2 radii of the evaluation.
        evaluation_steps: Steps of its attacks, each of 2.5 radius / steps.
    """

    dataset: str
    network: str
    training: Training
    network_options: dict = field(default_factory=dict)
    overrides: dict = field(default_factory=dict)
    train_images: int | None = None
    test_images: int | None = None
    padding: int = 4
    flip: bool = True
    epsilon: float = 0.5
    attack_steps: int = 7
    inversion_steps: int = 1000
    inversion_step_size: float = 0.1
    relabel_epsilon: float = 0.5
    relabel_steps: int = 100
    relabel_step_size: float = 0.1
    radii: tuple = (0.25, 0.5)
    evaluation_steps: int = 20

    def training_of(self, model):
        """The training of a model.

        Args:
            model: A name in `MODELS`.
        """
        return replace(self.training, **self.overrides.get(model, {}))


# Ilyas et al. 2019, Tables 3 to 6 (appendix C); 150 epochs with two drops are
# the defaults of MadryLab's `robustness` for CIFAR. Expects 95.25 / 4.49 /
# 0.0 for the standard model, see reference.json. Not run here: days on a GPU.
_PAPER = Recipe(
    dataset="cifar10",
    network="resnet50",
    training=Training(epochs=150, learning_rate=0.1, schedule="drops"),
    overrides={
        "D_rand": {"learning_rate": 0.01},
        "D_det": {"augment": False},
    },
    evaluation_steps=7,
)

# 8x8 digits: L2 0.25 hardly hurts a standard model, so the radii are larger
# than on CIFAR-10. The representation has 32 numbers, half of what an image
# has: with 128 an inversion rebuilds the image itself, whatever the source.
# Shifting such small images loses strokes, so nothing is augmented.
_DIGITS = Recipe(
    dataset="digits",
    network="small_cnn",
    network_options={"filters": (32, 64, 32)},
    training=Training(
        epochs=20, learning_rate=0.1, batch_size=96, augment=False
    ),
    flip=False,
    epsilon=1.0,
    inversion_steps=200,
    relabel_epsilon=1.5,
    relabel_steps=30,
    radii=(0.25, 0.5),
)

# The whole pipeline on real images in minutes; too small for the paper's
# figures, the table says what came out.
_SMOKE = Recipe(
    dataset="cifar10",
    network="small_cnn",
    network_options={"input_shape": (32, 32, 3), "filters": (16, 32, 64, 128)},
    training=Training(epochs=10, learning_rate=0.1),
    overrides={"D_det": {"augment": False}, "D_rand": {"augment": False}},
    train_images=3000,
    test_images=500,
    inversion_steps=40,
    relabel_steps=20,
    evaluation_steps=10,
)

RECIPES = {
    ("digits", "cpu"): _DIGITS,
    ("digits", "smoke"): replace(
        _DIGITS,
        training=replace(_DIGITS.training, epochs=2),
        train_images=200,
        test_images=100,
        inversion_steps=20,
        relabel_steps=10,
        evaluation_steps=5,
    ),
    ("fashion_mnist", "smoke"): replace(
        _SMOKE,
        dataset="fashion_mnist",
        network_options={
            "input_shape": (28, 28, 1),
            "filters": (16, 32, 64, 128),
        },
        padding=2,
        epsilon=1.0,
        relabel_epsilon=1.0,
    ),
    ("cifar10", "smoke"): _SMOKE,
    ("cifar10", "paper"): _PAPER,
}


def get_recipe(dataset, preset=None):
    """The recipe of a data set and a preset.

    Args:
        dataset: `"digits"`, `"fashion_mnist"` or `"cifar10"`.
        preset: `"smoke"`, `"cpu"` or `"paper"`; `None` for `"cpu"` where
            there is one, else `"smoke"`.

    Returns:
        `Recipe`.

    Raises:
        ValueError: If there is none; says which there are.
    """
    if preset is None:
        preset = "cpu" if (dataset, "cpu") in RECIPES else "smoke"
    if (dataset, preset) not in RECIPES:
        known = ", ".join("/".join(key) for key in RECIPES)
        raise ValueError(
            f"There must be a recipe for the data set and preset: {known}. "
            f"Received: {dataset}/{preset}"
        )
    return RECIPES[dataset, preset]
