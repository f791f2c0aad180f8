"""The replication as one call: all seeds, table, figures, results.json."""

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust import backend
from keras_robust.study.replication import figures
from keras_robust.study.replication import measures
from keras_robust.study.replication import outputs
from keras_robust.study.replication import tables
from keras_robust.study.replication.claims import CLAIMS
from keras_robust.study.replication.html_report import write_overview
from keras_robust.study.replication.predictions import predictions
from keras_robust.study.replication.recipe import Recipe
from keras_robust.study.replication.recipes import check_dataset
from keras_robust.study.replication.recipes import default_preset
from keras_robust.study.replication.recipes import get_recipe
from keras_robust.study.replication.replication import Replication
from keras_robust.study.replication.results import Judgement
from keras_robust.study.replication.results import Measured
from keras_robust.study.replication.results import ReadAt
from keras_robust.study.replication.results import Results
from keras_robust.study.replication.results import SeedResults
from keras_robust.study.replication.results import Summary
from keras_robust.study.replication.training_sets import training_set
from keras_robust.study.replication.verdicts import find_reading
from keras_robust.study.replication.verdicts import mean_and_deviation
from keras_robust.study.replication.verdicts import verdicts
from keras_robust.utils.environment import installed_versions
from keras_robust.utils.environment import machine
from keras_robust.utils.files import write_json

# Data sets of `overview`: first the one whose answers are known.
DATASETS = ("planted", "digits")


def replicate(
    dataset: str = "digits",
    preset: str | None = None,
    seed: int = 0,
    seeds: int = 1,
    output: str | Path = "replication",
    verbose: int = 1,
) -> Results:
    """Train the paper's models and controls, evaluate, write the results.

    Writes to `output`: `report.html`, `results.json`, `table.md`, figures
    (`bars`, `curves`, where measured `transfer`, as PNG and SVG, and
    `images.png`), and `tensorboard/`. Finished stages are kept in
    `output/stages`, trainings epoch by epoch: after a stop the same call
    resumes there. The results are written after every seed. The report
    includes an optimizer search in `output/optimizer` (see `sweep`).

    Args:
        dataset: `"planted"`, `"digits"`, `"fashion_mnist"` or `"cifar10"`.
        preset: See `get_recipe`.
        seed: Int >= 0, the first seed.
        seeds: Int >= 1, how many seeds.
        output: Folder, made if missing.
        verbose: 0 for silence.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: If there is no such recipe.
    """
    check_dataset(dataset)
    preset = preset or default_preset(dataset)
    recipe = get_recipe(dataset, preset)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    start_time = time.monotonic()
    studies: dict[int, Replication] = {}
    for current in range(seed, seed + seeds):
        studies[current] = Replication(
            recipe,
            folder / "stages",
            seed=current,
            verbose=verbose,
            logs=folder / "tensorboard",
        )
        _run_stages(studies[current])
        results = _results(recipe, preset, studies)
        write_json(folder / "results.json", results)
        outputs.write(results, folder, figures.draw_images(studies[seed]))
    if verbose:
        print(tables.table_text(results))
        print(tables.claims_text(results))
        minutes = (time.monotonic() - start_time) / 60
        print(f"{minutes:.1f} minutes; report, figures, numbers: {folder}/")
    return results


def overview(
    seed: int = 0,
    seeds: int = 1,
    output: str | Path = "replication",
    verbose: int = 1,
) -> dict[str, Results]:
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
    found: dict[str, Results] = {}
    for dataset in DATASETS:
        found[dataset] = replicate(
            dataset,
            seed=seed,
            seeds=seeds,
            output=folder / dataset,
            verbose=verbose,
        )
        # After each data set, so that a stop leaves a report of those before.
        bars = {
            name: figures.draw_bars(results) for name, results in found.items()
        }
        write_overview(found, bars, folder / "report.html")
    if verbose:
        print(tables.overview_text(found))
        print(f"\nThe report of both: {folder / 'report.html'}")
    return found


def _run_stages(study: Replication) -> None:
    """Run all stages that are not finished yet."""
    for name in study.recipe.models:
        study.evaluate(name)
    _measured(study)


def _measured(study: Replication) -> Measured:
    """All measures of the recipe, by name."""
    found: Measured = {
        "decomposition": study.measure("decomposition", measures.decomposition),
        "leakage": study.measure("leakage", measures.leakage),
        "nearest": study.measure("nearest", measures.nearest),
    }
    if study.recipe.architectures:
        found["transfer"] = study.measure("transfer", measures.transfer)
    if study.recipe.autoattack_images:
        found["autoattack"] = study.measure("autoattack", measures.autoattack)
    return found


def _seed_results(study: Replication) -> SeedResults:
    models = study.recipe.models
    return {
        "evaluation": {name: study.evaluate(name) for name in models},
        "generated": {
            name: study.describe_generated(name)
            for name in models
            if training_set(name).is_generated
        },
        "curves": study.curves(),
        "measured": _measured(study),
    }


def _results(
    recipe: Recipe, preset: str, studies: Mapping[int, Replication]
) -> Results:
    runs = {seed: _seed_results(study) for seed, study in studies.items()}
    data = next(iter(studies.values())).data
    return {
        "preset": preset,
        "recipe": asdict(recipe),
        "models": recipe.models,
        "seeds": list(runs),
        "seconds_by_seed_and_stage": {
            seed: study.seconds() for seed, study in studies.items()
        },
        "machine": machine(),
        "backend": backend.name,
        "versions": {
            "python": platform.python_version(),
            **installed_versions(),
        },
        "summary": _summary(runs, recipe.models),
        "predicted": predictions(data, recipe),
        **judge(runs, asdict(recipe)),
        "runs": runs,
    }


def judge(
    runs: Mapping[Any, SeedResults], recipe: Mapping[str, Any]
) -> Judgement:
    """Judge the claims by the numbers of all seeds.

    Args:
        runs: Numbers by seed: `results["runs"]`.
        recipe: A `Recipe` as a dictionary: `results["recipe"]`.

    Returns:
        The radius at which claims are decided, and the verdict on each claim;
        no claims where the recipe is too small to show anything.
    """
    reading = find_reading(runs, recipe["radii"])
    read_at: ReadAt | None = None
    if reading is not None:
        read_at = {
            "radius": reading.radius,
            "l2": reading.l2,
            "linf": reading.linf,
        }
    if recipe.get("too_small"):
        return {"read_at": read_at, "claims": []}
    claims = verdicts(
        CLAIMS,
        runs,
        recipe["radii"],
        dataset=recipe["dataset"],
        undecidable=recipe.get("undecidable"),
    )
    return {"read_at": read_at, "claims": claims}


def _summary(
    runs: Mapping[Any, SeedResults], models: Mapping[str, str]
) -> Summary:
    """Mean and sample standard deviation over seeds, in per cent."""
    summary: Summary = {}
    for model in models:
        rows = [run["evaluation"][model]["accuracy"] for run in runs.values()]
        summary[model] = {
            attack: mean_and_deviation([100 * row[attack] for row in rows])
            for attack in rows[0]
        }
        # The data set itself has no wrong labels.
        shares = [
            run.get("generated", {}).get(model, {}).get("labels_right", 1.0)
            for run in runs.values()
        ]
        summary[model]["right labels"] = {
            "mean": 100 * float(np.mean(shares)),
            "deviation": None,
        }
    return summary
