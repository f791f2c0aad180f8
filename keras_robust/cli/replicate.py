"""`keras-robust replicate`: the study on one data set, or on two."""

import argparse
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from keras_robust.cli.arguments import PRESETS
from keras_robust.cli.arguments import add_verbose_argument
from keras_robust.cli.arguments import positive
from keras_robust.cli.arguments import radius
from keras_robust.cli.processes import further_processes

if TYPE_CHECKING:
    from keras_robust.study import OwnSet
    from keras_robust.study import Study
    from keras_robust.study import Training

HELP = "replicate 'Adversarial Examples Are Not Bugs, They Are Features'"
# Options of `Training` that the command line sets.
_TRAINING = ("epochs", "optimizer", "learning_rate", "batch_size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: An `argparse.ArgumentParser`.
    """
    add_recipe_arguments(parser)
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes that share the stages of the study (default: 2 where "
        "neither data set, preset nor network is given and there are two cores "
        "and no accelerator, else 1); the same command, started on another "
        "machine with the same --output folder, shares them too",
    )
    own = parser.add_argument_group(
        "data and networks of your own, and other settings of a recipe"
    )
    own.add_argument(
        "--model-file",
        metavar="FILE.py:FUNCTION",
        help="a function without arguments that returns a new, built Keras "
        "classifier; or module:function. It takes pixels as they are stored: "
        "[0, 255] for TFDS and image files",
    )
    own.add_argument(
        "--network",
        metavar="NAME",
        help="or a network of keras_robust.models, such as small_cnn",
    )
    own.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="pixels that the network takes, if others than are stored",
    )
    own.add_argument(
        "--resize",
        action="store_true",
        default=None,
        help="resize images of files and of TFDS to the input of the network "
        "of --model-file",
    )
    own.add_argument(
        "--epsilon",
        type=radius,
        metavar="RADIUS",
        help="L2 radius of adversarial training, for pixels in [0, 1]; by "
        "default that of the recipe, and for other data measured: the radius "
        "at which a standard network keeps half of its accuracy",
    )
    own.add_argument(
        "--radii",
        type=radius,
        nargs="+",
        metavar="RADIUS",
        help="L2 radii of the evaluation, for pixels in [0, 1]",
    )
    own.add_argument(
        "--set",
        nargs="+",
        metavar="SET",
        dest="sets",
        help="which sets are made, among D_R, D_NR, D_rand, D_det, D_other "
        "(default: all), and FILE.py:NAME for a Transform or an OwnSet of "
        "your own",
    )
    own.add_argument(
        "--no-controls",
        dest="controls",
        action="store_false",
        default=None,
        help="without the controls of the sets",
    )
    _add_training_arguments(own)


def _add_training_arguments(own: argparse._ArgumentGroup) -> None:
    own.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help="of every training (default: those of the recipe; with "
        "--model-file or --network 20)",
    )
    own.add_argument(
        "--optimizer",
        metavar="NAME",
        help="of Keras, such as adam or lion; or FILE.py:FUNCTION, which "
        "takes the number of steps",
    )
    own.add_argument(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="its peak (default: that of the recipe; of another optimizer that "
        "of Keras)",
    )
    own.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="images per step of training",
    )


def add_recipe_arguments(
    parser: argparse.ArgumentParser, dataset: str | None = None
) -> None:
    """Add the arguments that say which recipe runs, and where.

    Args:
        parser: An `argparse.ArgumentParser`.
        dataset: Default data set; `None` for several.
    """
    parser.add_argument(
        "--dataset",
        "--data",
        default=dataset,
        metavar="DATA",
        help="planted, digits, fashion_mnist or cifar10, for each of which "
        "there is a recipe; a name of TFDS; a folder with a subfolder of "
        "images for each class, or with train/ and test/ of such; an .npz "
        "file of x_train, y_train, x_test and y_test"
        + (
            ""
            if dataset
            else " (default: planted, then digits, with one report of both; "
            "digits where a preset is given)"
        ),
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help="scale of the study; cifar10: quick by default, others: cpu",
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--seeds", type=positive, default=1, help="number of seeds"
    )
    parser.add_argument("--output", default="replication", help="folder")
    add_verbose_argument(parser)


def run(
    dataset: str | None = None,
    preset: str | None = None,
    seed: int = 0,
    seeds: int = 1,
    output: str = "replication",
    verbose: int = 1,
    workers: int | None = None,
    **own: Any,
) -> Any:
    """Run the study, see `study.overview` and `Study.run`.

    Args:
        dataset: A name, a folder or a file; `None` for the first two recipes.
        preset: See `get_recipe`.
        seed: Int >= 0, the first seed.
        seeds: Int >= 1.
        output: Folder.
        verbose: 0 for silence.
        workers: Int >= 1, how many processes share the stages; `None` for two
            on the cores of one machine, without `dataset`, else one.
        **own: The other arguments of the command; `None` for what is not
            given.

    Returns:
        `StudyResults`, or a dictionary of them by data set.

    Raises:
        ValueError: If the network or the data are missing.
    """
    from keras_robust import study
    from keras_robust.study.replication.replicate import default_workers

    given = {key: value for key, value in own.items() if value is not None}
    is_overview = dataset is None and preset is None and not given
    chosen = None if is_overview else study_of(dataset, preset, dict(given))
    if workers is None:
        workers = default_workers() if is_overview else 1
    if workers > 1 and verbose:
        print(f"{workers} processes; the output folder has logs of the others")
    options = {
        "dataset": dataset,
        "preset": preset,
        "seed": seed,
        "seeds": seeds,
        "output": output,
        "verbose": verbose,
        "given": given,
    }
    with further_processes(workers - 1, Path(output), help_with, options):
        if chosen is None:
            return study.overview(
                seed=seed, seeds=seeds, output=output, verbose=verbose
            )
        return replace(chosen, seeds=seeds).run(
            output, seed=seed, verbose=verbose
        )


def help_with(
    dataset: str | None,
    preset: str | None,
    seed: int,
    seeds: int,
    output: str,
    verbose: int,
    given: dict[str, Any],
) -> None:
    """Make stages for another process that runs the same command.

    Args:
        dataset: As in `run`.
        preset: As in `run`.
        seed: As in `run`.
        seeds: As in `run`.
        output: As in `run`.
        verbose: As in `run`.
        given: The other arguments that are given.
    """
    from keras_robust.study import get_recipe
    from keras_robust.study.replication import replicate

    if dataset is None and preset is None and not given:
        runs = {
            Path(output) / name: get_recipe(name) for name in replicate.DATASETS
        }
    else:
        runs = {Path(output): study_of(dataset, preset, given)}
    replicate.join(
        {folder: replace(one, seeds=seeds) for folder, one in runs.items()},
        seed=seed,
        verbose=verbose,
    )


def study_of(
    dataset: str | None, preset: str | None, given: dict[str, Any]
) -> "Study":
    """The study that the arguments of the command line mean.

    Args:
        dataset: A name, a folder or a file, or `None`.
        preset: Of a recipe, or `None`.
        given: The other arguments that are given.

    Raises:
        ValueError: If the network or the data are missing.
    """
    from keras_robust.study import Study
    from keras_robust.study import Training
    from keras_robust.study import get_recipe
    from keras_robust.study.replication.recipes import RECIPES
    from keras_robust.utils.named_functions import load_function

    has_recipe = dataset in {name for name, _ in RECIPES}
    file, name = given.pop("model_file", None), given.pop("network", None)
    changes = _settings(given)
    if file is None and name is None:
        if dataset is not None and not has_recipe:
            raise ValueError(
                f"There is no recipe for {dataset!r}, so `--model-file "
                "build.py:make_model` must name a function that returns a new "
                "Keras classifier of its images, or `--network` one of ours "
                "(small_cnn, cifar_resnet, ...). Received: neither"
            )
        if given.get("resize"):
            raise ValueError(
                "With `--resize`, `--model-file` must name a function, to the "
                "input of whose network images are resized. "
                f"Received: --dataset {dataset}, --preset {preset}"
            )
        recipe = get_recipe(dataset or "digits", preset)
        chosen = _training(given)
        training = recipe.training.changed(chosen)
        overrides = _overrides(recipe, training, chosen)
        return replace(
            recipe, training=training, overrides=overrides, **changes
        )
    if dataset is None or preset is not None or None not in (file, name):
        raise ValueError(
            "With `--model-file` or `--network`, of which one must be given, "
            "`--dataset` must say which images, and `--preset`, which names a "
            "recipe with a network of its own, be left out. Received: "
            f"--dataset {dataset}, --preset {preset}, --model-file {file}, "
            f"--network {name}"
        )
    network = name if file is None else load_function(file, "--model-file")
    if given.pop("resize", False):
        changes["image_size"] = _size_of(network)
    plain = {"epochs": 20, "optimizer": "adam", **_training(given)}
    return Study(dataset, network, training=Training(**plain), **changes)


def _size_of(network: Any) -> tuple[int, int]:
    """Height and width that a function's network takes."""
    from keras_robust.cli.data import shape_of

    shape = None if isinstance(network, str) else shape_of(network())
    fixed = [size for size in shape or () if size is not None]
    if len(shape or ()) != 3 or len(fixed) != 3:
        raise ValueError(
            "With `--resize`, `--model-file` must name a function whose "
            "network takes images of a fixed shape (H, W, C). "
            f"Received: a network of input shape {shape}"
        )
    height, width, _ = fixed
    return height, width


def _training(given: dict[str, Any]) -> dict[str, Any]:
    from keras_robust.utils.named_functions import load_function
    from keras_robust.utils.named_functions import names_function

    chosen = {key: given[key] for key in _TRAINING if key in given}
    optimizer = chosen.get("optimizer", "")
    if names_function(optimizer):
        chosen["optimizer"] = load_function(optimizer, "--optimizer")
    return chosen


def _overrides(
    recipe: "Study", training: "Training", chosen: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The overrides of a recipe that fit another training.

    What is chosen for every training, no recipe overrides. But a learning rate
    belongs to an optimizer: the recipe's is not that of another one, and where
    a recipe overrides the optimizer, its learning rate stays.
    """
    from keras_robust.study.training import numbers_of

    own = set(chosen) & {"epochs", "batch_size"}
    of_optimizer = set(chosen) & {"learning_rate"}
    if training.optimizer != recipe.training.optimizer:
        of_optimizer |= set(numbers_of(training.optimizer))

    def gone(changed: dict[str, Any]) -> set[str]:
        return own if "optimizer" in changed else own | of_optimizer

    return {
        model: {k: v for k, v in changed.items() if k not in gone(changed)}
        for model, changed in recipe.overrides.items()
    }


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `Study` besides data, network and training."""
    chosen: dict[str, Any] = {
        key: given[key] for key in ("epsilon", "controls") if key in given
    }
    for name in ("radii", "value_range"):
        if name in given:
            chosen[name] = tuple(given[name])
    if "sets" in given:
        chosen["sets"] = tuple(map(_set_of, given["sets"]))
    return chosen


def _set_of(text: str) -> "str | OwnSet":
    """A set by name, or what a function of the user returns."""
    from keras_robust.utils.named_functions import load_function
    from keras_robust.utils.named_functions import names_function

    if not names_function(text):
        return text
    made: OwnSet = load_function(text, "--set")()
    return made
