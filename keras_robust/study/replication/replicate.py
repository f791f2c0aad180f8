"""Replications by the name of a recipe, of one data set or of two."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from keras_robust import backend
from keras_robust.study.replication import figures
from keras_robust.study.replication import tables
from keras_robust.study.replication.html_report import write_overview
from keras_robust.study.replication.recipes import get_recipe
from keras_robust.study.replication.results import Results
from keras_robust.study.replication.running import run_stages
from keras_robust.study.results import StudyResults
from keras_robust.study.study import Study

# Data sets of `overview`: first the one whose answers are known.
DATASETS = ("planted", "digits")


def replicate(
    dataset: str | Study = "digits",
    preset: str | None = None,
    seed: int = 0,
    seeds: int | None = None,
    output: str | Path = "replication",
    verbose: int = 1,
) -> StudyResults:
    """Run a recipe, or a study of your own: `Study.run`.

    Args:
        dataset: `"planted"`, `"digits"`, `"fashion_mnist"` or `"cifar10"`; or
            a `Study`.
        preset: For a name: see `get_recipe`.
        seed: Int >= 0, the first seed.
        seeds: Int >= 1, how many seeds; `None` for those of the study, one for
            a recipe.
        output: Folder, made if missing.
        verbose: 0 for silence.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: If there is no such recipe.
    """
    study = dataset
    if not isinstance(study, Study):
        study = get_recipe(study, preset)
    elif preset is not None:
        raise ValueError(
            "Argument `preset` must be left out where `dataset` is a Study. "
            f"Received: preset={preset!r}"
        )
    if seeds is not None:
        study = replace(study, seeds=seeds)
    return study.run(output, seed=seed, verbose=verbose)


def default_workers() -> int:
    """How many processes share an overview: two on cores, one elsewhere.

    Most of its time is Python's, of which a process uses one core.
    """
    has_cores = (os.cpu_count() or 1) > 1 and not backend.has_accelerator()
    return 2 if has_cores else 1


def join(runs: Mapping[Path, Study], seed: int = 0, verbose: int = 1) -> None:
    """Make stages of studies that no other process is making.

    For a process that helps others on the same folders; the results are
    written by those.

    Args:
        runs: Studies by the folders that they write to.
        seed: Int >= 0, the first seed.
        verbose: 0 for silence.
    """
    run_stages(
        [
            study.replication(folder, seed=each, verbose=verbose)
            for folder, study in runs.items()
            for each in range(seed, seed + study.seeds)
        ]
    )


def overview(
    seed: int = 0,
    seeds: int = 1,
    output: str | Path = "replication",
    verbose: int = 1,
) -> dict[str, StudyResults]:
    """Replicate on planted features, then on digits, and report both.

    Writes `report.html` to `output`, which opens with what was shown on either
    data set, and what `replicate` writes to a folder for each data set. After
    a stop the same call resumes.

    Args:
        seed: Int >= 0, the first seed.
        seeds: Int >= 1, how many seeds.
        output: Folder, made if missing.
        verbose: 0 for silence.

    Returns:
        What `replicate` returns, by data set.
    """
    folder = Path(output)
    found: dict[str, StudyResults] = {}
    for dataset in DATASETS:
        found[dataset] = replicate(
            dataset,
            seed=seed,
            seeds=seeds,
            output=folder / dataset,
            verbose=verbose,
        )
        # After each data set, so that a stop leaves a report of those before.
        numbers = {
            name: cast("Results", results) for name, results in found.items()
        }
        bars = {
            name: figures.draw_bars(results)
            for name, results in numbers.items()
        }
        write_overview(numbers, bars, folder / "report.html")
    if verbose:
        print(tables.overview_text(numbers))
        print(f"\nThe report of both: {folder / 'report.html'}")
    return found
