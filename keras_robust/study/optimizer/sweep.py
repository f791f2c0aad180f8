"""The optimizer search as one call."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner

from keras_robust import backend
from keras_robust.study.optimizer import outputs
from keras_robust.study.optimizer.choices import describe_space
from keras_robust.study.optimizer.choices import first_network
from keras_robust.study.optimizer.choices import make_space
from keras_robust.study.optimizer.data import SweepData
from keras_robust.study.optimizer.data import description_of
from keras_robust.study.optimizer.data import of_directory
from keras_robust.study.optimizer.data import of_study
from keras_robust.study.optimizer.data import source_of
from keras_robust.study.optimizer.results import SweepResults
from keras_robust.study.optimizer.search import OptimizerSearch
from keras_robust.study.optimizer.space import OptimizerSpace
from keras_robust.study.optimizer.summary import summarize
from keras_robust.study.optimizer.trials import SearchResults
from keras_robust.study.replication.recipes import RECIPES
from keras_robust.study.replication.recipes import get_recipe
from keras_robust.study.replication.replication import Replication
from keras_robust.study.study import Study
from keras_robust.study.training import tensorboard
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.environment import installed_versions
from keras_robust.utils.environment import machine
from keras_robust.utils.files import read_json
from keras_robust.utils.files import write_json
from keras_robust.utils.messages import describe
from keras_robust.version import __version__

TUNERS = ("grid", "random", "hyperband", "bayesian")
OBJECTIVES = ("val_accuracy", "val_robust_accuracy")
# The largest number of settings of a grid.
_EVERYTHING = 100_000


def sweep(
    source: Any = "digits",
    made: str = "D_rand",
    output: str | os.PathLike[str] = "sweep",
    preset: str | None = None,
    tuner: str = "grid",
    trials: int | None = None,
    epochs: int | None = None,
    seeds: int = 2,
    seed: int = 0,
    objective: str = "val_accuracy",
    epsilon: float | None = None,
    verbose: int = 1,
    data: Any = None,
    stop_hopeless: bool = False,
    **choices: Any,
) -> SweepResults | None:
    """Search for what decides whether a network learns a data set.

    Writes to `output`: `results.json`, `table.md` and figures; `runs/`, a file
    for every training; KerasTuner's own state, TensorBoard logs with HParams,
    and the stages of the data set. After a stop the same call resumes.

    In several processes: KerasTuner's environment variables
    `KERASTUNER_TUNER_ID` (`chief`, others), `KERASTUNER_ORACLE_IP` and
    `KERASTUNER_ORACLE_PORT` make one of them the chief, which hands out
    settings and writes the results, and the others workers.

    Args:
        source: `"planted"`, `"digits"`, `"fashion_mnist"` or `"cifar10"`,
            whose set is then made as in `replicate`; images of your own in a
            form that `Study` takes, such as `((x, y), (x_test, y_test))` or
            `"tfds:kmnist"`; a `Study`; or the directory of a generated set.
        made: What is learned, unless a directory says so: `"D"`, the data set
            itself, or a set made of it, such as `"D_rand"`.
        output: Folder, made if missing.
        preset: For a name: see `get_recipe`.
        tuner: One of `TUNERS`. Hyperband trains many settings for few epochs
            and goes on with those of high accuracy, so it ends plateaus at
            chance; `stop_hopeless` does not.
        trials: Int >= 1, how many settings; `None` for all of a grid, 20 of
            others. Hyperband decides it itself.
        epochs: Int >= 1, epochs of a training; `None` for those of the recipe.
        seeds: Int >= 1, trainings of each setting.
        seed: Int >= 0, of the data set and of the tuner.
        objective: `"val_accuracy"` or `"val_robust_accuracy"`.
        epsilon: See `OptimizerSearch`.
        verbose: 0 for silence.
        data: For the directory of a set that was made of images of your own:
            these images, in a form that `Study` takes. The search is judged
            by clean ones.
        stop_hopeless: Whether trainings that have diverged are stopped at the
            epochs of Hyperband, see `StopHopeless`. Those on a plateau go on.
        **choices: Fields of `OptimizerSpace` in place of its defaults.
            `networks`: for a named data set names, `recipe.network`, one of
            `recipe.architectures`, or `"preset/name"` of another recipe; and
            functions as in `Study`, names of functions of `models`, or a
            dictionary of these by name. A function that has an argument
            `weight_decay` gets it.
            `optimizers`, in place of `learning_rates` and `makers`: names, of
            which Keras's others are tried a decade around their default
            learning rate; functions `(hp, steps) -> optimizer`; or a
            dictionary by name of `(smallest, largest)`, of `(class or
            function of learning_rate, (smallest, largest))`, or of functions
            `(hp, steps)`.

    Returns:
        `SweepResults`: the content of `results.json`, with `table()`,
        `plot()` and `to_dataframe()`; `None` in a worker.

    Raises:
        ValueError: If an argument is unknown, or the folder holds another
            search.

    Example:

    ```python
    keras_robust.study.sweep(
        ((x, y), (x_test, y_test)),
        made="D",
        networks=make_model,
        optimizers={
            "lion": (1e-5, 1e-3),
            "momentum": (
                lambda learning_rate: keras.optimizers.SGD(
                    learning_rate, momentum=0.95, nesterov=True
                ),
                (0.01, 1.0),
            ),
        },
    )
    ```
    """
    _check_arguments(tuner, objective, trials, epsilon)
    _check_counts(seeds, seed, trials, epochs)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    study, space, images = _source(
        source,
        made=made,
        preset=preset,
        seed=seed,
        folder=folder,
        data=data,
        choices=choices,
        verbose=verbose,
    )
    epochs = epochs or study.training.epochs
    description = {
        "data": images.description,
        "space": describe_space(space),
        "tuner": tuner,
        "trials": trials,
        "epochs": epochs,
        "seeds": seeds,
        "seed": seed,
        "objective": objective,
        "epsilon": epsilon,
        "dtype_policy": study.dtype_policy,
        "backend": backend.name,
        "version": __version__,
    }
    if stop_hopeless:
        description["stop_hopeless"] = True
    _check_same(description, folder / "search.json")
    search = OptimizerSearch(
        images.train,
        images.validation,
        test=images.test,
        space=space,
        folder=folder,
        epochs=epochs,
        seeds=seeds,
        epsilon=epsilon,
        padding=study.padding,
        flip=study.flip,
        fill_mode=study.fill_mode,
        dtype_policy=study.dtype_policy,
        verbose=verbose,
        stop_hopeless=stop_hopeless,
    )
    made = _make_tuner(
        tuner,
        search,
        objective=objective,
        trials=trials,
        epochs=epochs,
        seed=seed,
        folder=folder,
    )
    return _run(made, search, description)


def _run(
    tuner: keras_tuner.Tuner,
    search: OptimizerSearch,
    description: dict[str, Any],
) -> SweepResults | None:
    """Search, and write the results; `None` in a worker."""
    start_time = time.monotonic()
    logs = tensorboard(search.folder / "tensorboard")
    tuner.search(callbacks=logs, verbose=0)
    if _is_worker():
        return None
    hours = (time.monotonic() - start_time) / 3600
    results = _results(description, search, hours)
    outputs.write(results, search.folder, search.verbose)
    return SweepResults(results)


def _results(
    description: dict[str, Any], search: OptimizerSearch, hours: float
) -> SearchResults:
    """The content of `results.json`."""
    return {
        "search": description,
        "machine": machine(),
        "versions": installed_versions(),
        "hours_of_this_call": round(hours, 3),
        **summarize(search.runs()),
    }


def _source(
    source: Any,
    made: str,
    preset: str | None,
    seed: int,
    folder: Path,
    data: Any,
    choices: Mapping[str, Any],
    verbose: int,
) -> tuple[Study, OptimizerSpace, SweepData]:
    """Study, space and images of a search; arguments are those of `sweep`."""
    generated = description_of(source)
    if generated is not None:
        clean = source_of(generated, str(source)) if data is None else data
        study = _study_of(clean, preset, choices)
        space = make_space(study, choices)
        return study, space, of_directory(source, study.read().images)
    if data is not None:
        is_path = isinstance(source, (str, os.PathLike))
        found = repr(str(source)) if is_path else describe(source)
        is_missing = is_path and not Path(source).exists()
        raise ValueError(
            "Argument `data` must come with the directory of a generated set "
            f"as `source`. Received: source={found}"
            + (", which does not exist" if is_missing else "")
        )
    study = _study_of(source, preset, choices)
    # Before networks are trained to make the images: it may be refused.
    space = make_space(study, choices)
    if made != "D" and not study.training_set(made).is_generated:
        raise ValueError(
            "Argument `made` must be 'D', the data set itself, or a set that "
            f"is made of it, such as 'D_rand'. Received: made={made!r}"
        )
    if made != "D":
        study = study.resolve(folder, verbose)
    stages = Replication(study, folder / "stages", seed, verbose)
    return study, space, of_study(stages, made)


def _study_of(
    source: Any, preset: str | None, choices: Mapping[str, Any]
) -> Study:
    """A recipe, the user's study, or one of the user's images."""
    if isinstance(source, str) and source in {name for name, _ in RECIPES}:
        return get_recipe(source, preset)
    if preset is not None:
        raise ValueError(
            "Argument `preset` must come with the name of a data set among "
            f"{sorted({name for name, _ in RECIPES})}. "
            f"Received: preset={preset!r}"
        )
    if isinstance(source, Study):
        return source
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    return Study(source, first_network(choices.get("networks")))


def _check_arguments(
    tuner: str, objective: str, trials: int | None, epsilon: float | None
) -> None:
    if tuner not in TUNERS:
        raise ValueError(
            f"Argument `tuner` must be one of {TUNERS}. "
            f"Received: tuner={tuner!r}"
        )
    if objective not in OBJECTIVES:
        raise ValueError(
            f"Argument `objective` must be one of {OBJECTIVES}. "
            f"Received: objective={objective!r}"
        )
    if tuner == "hyperband" and trials is not None:
        raise ValueError(
            "Argument `trials` must be left out with Hyperband, which decides "
            f"how many there are. Received: trials={trials}"
        )
    if objective == "val_robust_accuracy" and epsilon is None:
        raise ValueError(
            "The objective 'val_robust_accuracy' must come with its radius, "
            "`epsilon`. Received: epsilon=None"
        )


def _check_counts(
    seeds: int, seed: int, trials: int | None, epochs: int | None
) -> None:
    check_positive_integer(seeds, "seeds")
    check_positive_integer(seed, "seed", least=0)
    if trials is not None:
        check_positive_integer(trials, "trials")
    if epochs is not None:
        check_positive_integer(epochs, "epochs")


def _check_same(description: Mapping[str, Any], path: Path) -> None:
    """Refuse to mix two searches in one folder."""
    if not path.exists():
        write_json(path, description, sort_keys=True)
        return
    # As it would be read from the file.
    now = json.loads(json.dumps(description))
    before = read_json(path)
    differs = sorted(
        key for key in {*before, *now} if before.get(key) != now.get(key)
    )
    if differs:
        there = {key: before.get(key) for key in differs}
        received = {key: now.get(key) for key in differs}
        raise ValueError(
            f"The folder {str(path.parent)!r} must hold the same search, or "
            f"no search. It differs in {differs}: {there}. Received: {received}"
        )


def _make_tuner(
    name: str,
    search: OptimizerSearch,
    objective: str,
    trials: int | None,
    epochs: int,
    seed: int,
    folder: Path,
) -> keras_tuner.Tuner:
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(objective, "max"),
        "directory": folder,
        "project_name": "tuner",
        "seed": seed,
        # A trial that fails is an error, not a point to try again.
        "max_consecutive_failed_trials": 1,
    }
    if name == "hyperband":
        return keras_tuner.Hyperband(search, max_epochs=epochs, **shared)
    if name == "random":
        return keras_tuner.RandomSearch(
            search, max_trials=trials or 20, **shared
        )
    if name == "bayesian":
        return keras_tuner.BayesianOptimization(
            search, max_trials=trials or 20, **shared
        )
    # KerasTuner 1.4.8 cannot resume a grid (a KeyError after a stop), so the
    # grid is walked again; finished trainings are read from their files.
    return keras_tuner.GridSearch(
        search,
        max_trials=trials or _EVERYTHING,
        overwrite=not _is_worker(),
        **shared,
    )


def _is_worker() -> bool:
    """Whether another process is the chief of this search."""
    tuner_id = os.environ.get("KERASTUNER_TUNER_ID", "")
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" not in tuner_id
