"""Recipes by data set and preset: plain numbers and where they come from."""

from dataclasses import replace
from typing import Any

from keras_robust.models.parts import CIFAR_MEAN
from keras_robust.models.parts import CIFAR_STD
from keras_robust.study.replication.am207_errors import AM207_ERRORS
from keras_robust.study.replication.am207_errors import AM207_RADII
from keras_robust.study.replication.training_sets import RELABELLED
from keras_robust.study.study import Study
from keras_robust.study.training import Training
from keras_robust.utils.messages import describe

# Those of the AM207 report beside the usual one.
_AM207_LINF_RADII = (8 / 255, *AM207_RADII)

# Ilyas et al. 2019, Tables 4 to 6 (appendix C) and Fig. 2; where they differ, a
# recipe has numbers of its own.
_OF_THE_PAPER: dict[str, Any] = {
    "epsilon": 0.5,
    "radii": (0.25, 0.5),
    "inversion_steps": 1000,
    "inversion_step_size": 0.1,
    "inversion_optimizer": "gradient_descent",
    "relabel_epsilon": 0.5,
    "relabel_steps": 100,
    "relabel_step_size": 0.1,
    "leakage_epsilon": 0.25,
}


def _recipe(**settings: Any) -> Study:
    return Study(**{**_OF_THE_PAPER, **settings})


# Ilyas et al. 2019, Tables 3 to 6 (appendix C); 150 epochs with two drops are
# the defaults of MadryLab's `robustness` for CIFAR. Expects 95.25 / 4.49 /
# 0.0 for the standard model, see reference.json. Not run here: days on a GPU.
_PAPER = _recipe(
    data="cifar10",
    network="resnet50",
    training=Training(
        epochs=150, learning_rate=0.1, schedule="drops", augment=True
    ),
    overrides={
        "D_rand": {"learning_rate": 0.01},
        "D_det": {"augment": False},
    },
    evaluation_steps=7,
)

# The AM207 report (see `am207_errors`), from report and notebook: a ResNet of
# 0.27 M parameters, 25,000 steps (64 epochs) of SGD with drops at 60 and 80 %,
# Adam for D_rand. Expects 85 / 2 / 0 for the standard model, 75 / 37 / 29 for
# D_R, 24 / 0 / 0 for D_rand with its errors. Each error is measured beside the
# correct version. Not run here: hours on a GPU.
_AM207 = _recipe(
    data="cifar10",
    network="cifar_resnet",
    training=Training(
        epochs=64, learning_rate=0.1, schedule="late_drops", augment=True
    ),
    overrides={
        "D_rand": {
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "schedule": "constant",
        },
    },
    evaluation_steps=7,
    linf_radii=_AM207_LINF_RADII,
    errors=AM207_ERRORS,
)

# Training as in Jordan 2024 (arXiv:2404.00498), without larger rates for
# biases and without decoupling the weight decay.
_AIRBENCH = Training(
    epochs=10,
    learning_rate=0.75,
    optimizer="nesterov",
    momentum=0.85,
    schedule="triangle",
    batch_size=512,
    augment=True,
    label_smoothing=0.2,
)


def _airbench(*widths: int, **options: Any) -> tuple[str, dict[str, Any]]:
    return ("airbench", {"widths": list(widths), **options})


# Beside the network of each study.
_OTHER_ARCHITECTURES = {
    "resnet8": ("cifar_resnet", {"depth": 8}),
    "resnet20": ("cifar_resnet", {"depth": 20}),
    "small_cnn": (
        "small_cnn",
        {
            "input_shape": [32, 32, 3],
            "filters": [64, 128, 256],
            "mean": CIFAR_MEAN,
            "std": CIFAR_STD,
        },
    ),
}

# Of all 50,000 images, for a night on two cores. All networks have the same
# channels. The relabelled sets are made from networks whose first layer does
# not whiten, the robust source too, and learned by such: perturbations of one
# that whitens teach nothing about clean images, however it is trained on, and
# one that whitens learns the patterns of the controls as fast as features
# (docs/laboratory.md). The standard network and those of D_R and D_NR whiten:
# others are less fragile than the paper's, at one point less of clean accuracy,
# which the price of robustness contains. The sources of inversions end in an
# average: of a maximum gradients know one pixel, and inversions stop at five
# times the distance (docs/performance.md). bfloat16 is 1.4 times as fast as
# float32 on processors with instructions for it.
_CPU = _recipe(
    data="cifar10",
    network="airbench",
    network_options={"widths": [32, 64, 128]},
    networks={
        "standard": _airbench(32, 64, 128, pooling="average"),
        "adversarial": _airbench(
            32, 64, 128, pooling="average", whitening=False
        ),
        "source": _airbench(32, 64, 128, whitening=False),
        **{
            name: _airbench(32, 64, 128, whitening=False) for name in RELABELLED
        },
    },
    training=_AIRBENCH,
    overrides={
        "source": {"epochs": 8},
        "adversarial": {"epochs": 15, "label_smoothing": 0.0},
        **{name: {"epochs": 8} for name in ("D_R", "D_NR", *RELABELLED)},
    },
    padding=2,
    flip="alternating",
    fill_mode="reflect",
    attack_steps=2,
    attack_step_size=0.35,
    inversion_steps=100,
    inversion_optimizer="polyak",
    relabel_steps=10,
    evaluation_steps=10,
    autoattack_images=1_000,
    dtype_policy="mixed_bfloat16",
    architectures={
        "whitened": _airbench(32, 64, 128),
        **_OTHER_ARCHITECTURES,
    },
)

# The same with wider networks and more epochs, for one GPU of a data center on
# the JAX backend. As it was run: the sources of inversions end in a maximum,
# and the robust source and all students whiten.
_GPU = replace(
    _CPU,
    network_options={"widths": [64, 256, 256]},
    networks={
        "standard": _airbench(128, 384, 384),
        "adversarial": _airbench(128, 384, 384),
        "source": _airbench(64, 128, 256, whitening=False),
    },
    training=replace(_AIRBENCH, epochs=16),
    overrides={"adversarial": {"epochs": 40, "label_smoothing": 0.0}},
    attack_steps=3,
    attack_step_size=0.25,
    relabel_steps=20,
    evaluation_steps=20,
    architectures={
        "unwhitened": _airbench(64, 128, 128, whitening=False),
        **_OTHER_ARCHITECTURES,
    },
)

# What 8x8 digits cannot decide. How many images turn into their target is
# measured in each run: `measures.nearest`.
_TURNS_INTO_TARGET = (
    "the sets move an 8x8 image by L2 1.5, and half of the digits have one of "
    "another class within 1.86: with a robust source most of the labels that "
    "were wrong are those of the nearest other training image, so they are not "
    "wrong any more"
)
_TOO_FEW_PIXELS = {
    "Price of robustness": "one of 355 test images is 0.3 points, and networks "
    "of two seeds differ by more than adversarial training costs",
    "Shifted targets, robust source": _TURNS_INTO_TARGET,
    "Random targets, robust source": _TURNS_INTO_TARGET,
    "Robust leakage": "the linear features are robust at L2 0.25, and the sets "
    "move images by up to 1.5",
    "Plateau": "sets of 8x8 images are learned within the first epoch, by "
    "every optimizer: there is no time for a plateau",
}

# 8x8 digits: L2 0.25 hardly hurts a standard model, so the radii go further
# than on CIFAR-10. The representation has 32 numbers, half of what an image
# has: with 128 an inversion rebuilds the image itself, whatever the source, and
# with 32 that of the robust source still does.
# Shifting such small images loses strokes, so nothing is augmented.
_DIGITS = _recipe(
    data="digits",
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
    radii=(0.25, 0.5, 1.0),
    undecidable=_TOO_FEW_PIXELS,
    architectures={
        "narrow": ("small_cnn", {"filters": (16, 32, 32)}),
        "deep": ("small_cnn", {"filters": (32, 32, 64, 32)}),
        "resnet8": (
            "cifar_resnet",
            {"depth": 8, "input_shape": (8, 8, 1), "mean": None, "std": None},
        ),
    },
)

# The whole pipeline on real images in minutes; too small for the paper's
# figures.
_SMOKE = _recipe(
    data="cifar10",
    network="small_cnn",
    network_options={"input_shape": (32, 32, 3), "filters": (16, 32, 64, 128)},
    training=Training(epochs=10, learning_rate=0.1, augment=True),
    overrides={"D_det": {"augment": False}, "D_rand": {"augment": False}},
    train_images=3000,
    test_images=500,
    inversion_steps=40,
    relabel_steps=20,
    evaluation_steps=10,
    too_small=True,
)

# Two cores, about three quarters of an hour a seed. A ResNet-8: it trains fast,
# and its standard version is about as fragile as the paper's, where plain
# networks of the same speed are not.
# Inversions by the faster rule. On relabelled sets nothing is augmented: few
# images, and the perturbations are what is to be learned.
_QUICK = _recipe(
    data="cifar10",
    network="cifar_resnet",
    network_options={"depth": 8},
    training=Training(epochs=12, learning_rate=0.1, augment=True),
    overrides={name: {"augment": False} for name in RELABELLED},
    train_images=16_000,
    test_images=1_000,
    inversion_steps=40,
    inversion_optimizer="polyak",
    relabel_steps=20,
)

# The same claims in a quarter of the time. Fashion is easier and more robust
# than CIFAR-10, so all radii are twice as large.
_FASHION = replace(
    _QUICK,
    data="fashion_mnist",
    network="small_cnn",
    network_options={
        "input_shape": (28, 28, 1),
        "filters": (32, 64, 128, 128),
    },
    train_images=10_000,
    padding=2,
    epsilon=1.0,
    relabel_epsilon=1.0,
    radii=(0.5, 1.0),
)

# Planted features: an MLP, since their pixels have no neighbourhood. The
# radius is larger than a non-robust template and far below a robust one, which
# adversarial training needs to get away from chance; that of the relabelled
# sets is enough to replace a non-robust one (sqrt(2) times its norm).
_PLANTED = _recipe(
    data="planted",
    network="mlp",
    network_options={
        "widths": (256, 32),
        "weight_decay": 2e-3,
        "mean": (0.5,),
        "std": (0.1,),
    },
    training=Training(
        epochs=10, learning_rate=1e-3, optimizer="adam", augment=False
    ),
    flip=False,
    epsilon=0.25,
    inversion_steps=50,
    inversion_optimizer="polyak",
    relabel_epsilon=0.4,
    relabel_steps=20,
    relabel_step_size=0.05,
    radii=(0.25,),
    linf_radii=(),
    evaluation_steps=10,
    undecidable={
        "Plateau": "a planted template is a linear feature, which is learned "
        "within the first epoch: there is no time for a plateau",
    },
)

RECIPES = {
    ("planted", "cpu"): _PLANTED,
    ("digits", "cpu"): _DIGITS,
    ("digits", "smoke"): replace(
        _DIGITS,
        training=replace(_DIGITS.training, epochs=2),
        train_images=200,
        test_images=100,
        inversion_steps=20,
        relabel_steps=10,
        evaluation_steps=5,
        architectures={"narrow": ("small_cnn", {"filters": (8, 8)})},
        too_small=True,
    ),
    ("digits", "am207"): replace(
        _DIGITS,
        architectures={},
        linf_radii=_AM207_LINF_RADII,
        errors=AM207_ERRORS,
    ),
    ("fashion_mnist", "smoke"): replace(
        _SMOKE,
        data="fashion_mnist",
        network_options={
            "input_shape": (28, 28, 1),
            "filters": (16, 32, 64, 128),
        },
        padding=2,
        epsilon=1.0,
        relabel_epsilon=1.0,
    ),
    ("cifar10", "smoke"): _SMOKE,
    ("fashion_mnist", "cpu"): _FASHION,
    ("fashion_mnist", "am207"): replace(
        _FASHION, linf_radii=_AM207_LINF_RADII, errors=AM207_ERRORS
    ),
    ("cifar10", "quick"): _QUICK,
    ("cifar10", "cpu"): _CPU,
    ("cifar10", "gpu"): _GPU,
    ("cifar10", "paper"): _PAPER,
    ("cifar10", "am207"): _AM207,
}


def default_preset(dataset: str) -> str:
    """The preset that is used where none is named.

    Args:
        dataset: Name.

    Returns:
        The first of `"quick"`, `"cpu"` that exists, else `"smoke"`.
    """
    for preset in ("quick", "cpu"):
        if (dataset, preset) in RECIPES:
            return preset
    return "smoke"


def get_recipe(dataset: str, preset: str | None = None) -> Study:
    """The recipe of a data set and a preset.

    Args:
        dataset: `"planted"`, `"digits"`, `"fashion_mnist"` or `"cifar10"`.
        preset: `"paper"`, `"am207"`, `"gpu"`, `"cpu"`, `"quick"` or
            `"smoke"`; `None` for `default_preset`.

    Returns:
        `Study`.

    Raises:
        ValueError: If there is none; the message lists the recipes.
    """
    if not isinstance(dataset, str):
        raise ValueError(
            "Argument `dataset` must be a name, one of "
            f"{sorted({name for name, _ in RECIPES})}; `Study` takes data of "
            f"your own. Received: dataset={describe(dataset)}"
        )
    preset = preset or default_preset(dataset)
    if (dataset, preset) not in RECIPES:
        known = ", ".join("/".join(key) for key in RECIPES)
        raise ValueError(
            f"There must be a recipe for the data set and preset: {known}. "
            f"Received: {dataset}/{preset}"
        )
    return RECIPES[dataset, preset]


def preset_of(study: Study) -> str:
    """The name of the recipe with the settings of a study.

    Args:
        study: A `Study`.

    Returns:
        Such as `"cpu"`; `"own"` if no recipe has all of them.
    """
    for (dataset, preset), recipe in RECIPES.items():
        if (
            study.dataset == dataset
            and study.description() == recipe.description()
        ):
            return preset
    return "own"
