"""The optimizer search as one call."""

import json
import os
import time
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_robust import backend
from keras_robust.study.optimizer import outputs
from keras_robust.study.optimizer.data import SweepData
from keras_robust.study.optimizer.data import of_directory
from keras_robust.study.optimizer.data import of_study
from keras_robust.study.optimizer.search import OptimizerSearch
from keras_robust.study.optimizer.space import OptimizerSpace
from keras_robust.study.optimizer.summary import summarize
from keras_robust.study.optimizer.trials import SearchResults
from keras_robust.study.replication.networks import NetworkSpec
from keras_robust.study.replication.recipes import RECIPES
from keras_robust.study.replication.recipes import get_recipe
from keras_robust.study.replication.replication import Replication
from keras_robust.study.study import Study
from keras_robust.utils.environment import installed_versions
from keras_robust.utils.environment import machine
from keras_robust.utils.files import read_json
from keras_robust.utils.files import write_json
from keras_robust.utils.messages import describe
from keras_robust.version import __version__

TUNERS = ("grid", "random", "hyperband", "bayesian")
# The largest number of settings of a grid.
_EVERYTHING = 100_000


def sweep(
    source: str | os.PathLike[str] = "digits",
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
    **choices: Any,
) -> SearchResults | None:
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
            whose set is then made as in `replicate`; or the directory of a
            generated set.
        made: For a name: `"D"`, the data set itself, or `"D_rand"`, ...
        output: Folder, made if missing.
        preset: For a name: see `get_recipe`.
        tuner: One of `TUNERS`.
        trials: How many settings; `None` for all of a grid, 20 of others.
        epochs: Epochs of a training; `None` for those of the recipe.
        seeds: Int >= 1, trainings of each setting.
        seed: Int, of the data set and of the tuner.
        objective: `"val_accuracy"` or `"val_robust_accuracy"`.
        epsilon: See `OptimizerSearch`.
        verbose: 0 for silence.
        **choices: Fields of `OptimizerSpace` in place of its defaults.
            `networks` are names: `recipe.network`, one of
            `recipe.architectures`, or `"preset/name"` of another recipe.
            `optimizers`, names, is short for `learning_rates`.

    Returns:
        The content of `results.json`, or `None` in a worker.

    Raises:
        ValueError: If an argument is unknown, or the folder holds another
            search.
    """
    _check_arguments(source, tuner, objective, epsilon)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    recipe, space, data = _source(
        source,
        made=made,
        preset=preset,
        seed=seed,
        stages=folder / "stages",
        choices=choices,
        verbose=verbose,
    )
    epochs = epochs or recipe.training.epochs
    description = {
        "data": data.description,
        "space": asdict(space),
        "tuner": tuner,
        "trials": trials,
        "epochs": epochs,
        "seeds": seeds,
        "seed": seed,
        "objective": objective,
        "epsilon": epsilon,
        "backend": backend.name,
        "version": __version__,
    }
    _check_same(description, folder / "search.json")
    search = OptimizerSearch(
        data.train,
        data.validation,
        test=data.test,
        space=space,
        folder=folder,
        epochs=epochs,
        seeds=seeds,
        epsilon=epsilon,
        padding=recipe.padding,
        flip=recipe.flip,
        verbose=verbose,
    )
    start_time = time.monotonic()
    _make_tuner(
        tuner,
        search,
        objective=objective,
        trials=trials,
        epochs=epochs,
        seed=seed,
        folder=folder,
    ).search(
        callbacks=[keras.callbacks.TensorBoard(folder / "tensorboard")],
        verbose=0,
    )
    if _is_worker():
        return None
    results: SearchResults = {
        "search": description,
        "machine": machine(),
        "versions": installed_versions(),
        "hours_of_this_call": round((time.monotonic() - start_time) / 3600, 3),
        **summarize(search.runs()),
    }
    outputs.write(results, folder, verbose)
    return results


def _source(
    source: str | os.PathLike[str],
    made: str,
    preset: str | None,
    seed: int,
    stages: Path,
    choices: Mapping[str, Any],
    verbose: int,
) -> tuple[Study, OptimizerSpace, SweepData]:
    """Study, space and images of a search; arguments are those of `sweep`."""
    if source in {dataset for dataset, _ in RECIPES}:
        recipe = get_recipe(str(source), preset)
        # Before networks are trained to make the images: it may be refused.
        space = _space(recipe, choices)
        study = Replication(recipe, stages, seed, verbose)
        return recipe, space, of_study(study, made)
    data = of_directory(source)
    recipe = get_recipe(data.description["name"])
    return recipe, _space(recipe, choices), data


def _check_arguments(
    source: object, tuner: str, objective: str, epsilon: float | None
) -> None:
    if tuner not in TUNERS:
        raise ValueError(
            f"Argument `tuner` must be one of {TUNERS}. "
            f"Received: tuner={tuner!r}"
        )
    if objective == "val_robust_accuracy" and epsilon is None:
        raise ValueError(
            "The objective 'val_robust_accuracy' must come with its radius, "
            "`epsilon`. Received: epsilon=None"
        )
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            "Argument `source` must be the name of a data set, or the "
            "directory of a generated one. "
            f"Received: source={describe(source)}"
        )


def _space(recipe: Study, choices: Mapping[str, Any]) -> OptimizerSpace:
    """The space of the given choices, with defaults for the others."""
    chosen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in choices.items()
        if value is not None
    }
    networks = {
        f"{preset}/{name}": network
        for (dataset, preset), other in RECIPES.items()
        if dataset == recipe.dataset
        for name, network in _networks(other).items()
    } | _networks(recipe)
    names: Iterable[str] = chosen.pop("networks", (recipe.network,))
    if "optimizers" in chosen:
        rates = OptimizerSpace(networks=networks).learning_rates
        chosen["learning_rates"] = {
            name: rates.get(name) for name in chosen.pop("optimizers")
        }
    if set(names) - set(networks):
        raise ValueError(
            "Argument `networks` must be names among "
            f"{sorted(networks)}. Received: networks={list(names)}"
        )
    return OptimizerSpace(
        networks={name: networks[name] for name in names}, **chosen
    )


def _networks(recipe: Study) -> dict[str, NetworkSpec]:
    """Function and options of a recipe's networks, by name."""
    own = (recipe.network, recipe.network_options)
    return {**recipe.architectures, recipe.network: own}


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
