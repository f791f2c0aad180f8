"""The replication as one call: all seeds, table, figures, results.json."""

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust import backend
from keras_robust.environment import installed_versions
from keras_robust.environment import machine
from keras_robust.study import figures
from keras_robust.study import measures
from keras_robust.study import outputs
from keras_robust.study import sweep_outputs
from keras_robust.study.claims import CLAIMS
from keras_robust.study.html_report import write_report
from keras_robust.study.predictions import predictions
from keras_robust.study.recipes import check_dataset
from keras_robust.study.recipes import default_preset
from keras_robust.study.recipes import get_recipe
from keras_robust.study.replication import Replication
from keras_robust.study.training_sets import is_generated
from keras_robust.study.verdicts import find_reading
from keras_robust.study.verdicts import mean_and_deviation
from keras_robust.study.verdicts import verdicts


def replicate(
    dataset: str = "digits",
    preset: str | None = None,
    seed: int = 0,
    seeds: int = 1,
    output: str | Path = "replication",
    verbose: int = 1,
) -> dict:
    """Trains the paper's models and controls, evaluates, writes the results.

    Writes to `output`: `report.html`, `results.json`, `table.md`, figures
    (`bars`, `curves`, where measured `transfer`, as PNG and SVG, and
    `images.png`), and `tensorboard/`. Finished stages are kept in
    `output/stages`, trainings epoch by epoch: after any stop a second run goes
    on from there. The results are written after every seed. An optimizer
    search in `output/optimizer` (see `sweep`) has its place in the report.

    Args:
        dataset: `"planted"`, `"digits"`, `"fashion_mnist"` or `"cifar10"`.
        preset: See `get_recipe`.
        seed: Int >= 0, the first seed.
        seeds: Int >= 1, how many seeds.
        output: Folder, made if missing.
        verbose: 0 for silence.

    Returns:
        The dictionary that `results.json` holds.

    Raises:
        ValueError: If there is no such recipe.
    """
    check_dataset(dataset)
    preset = preset or default_preset(dataset)
    recipe = get_recipe(dataset, preset)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    studies = {}
    for current in range(seed, seed + seeds):
        studies[current] = Replication(
            recipe,
            folder / "stages",
            seed=current,
            verbose=verbose,
            logs=folder / "tensorboard",
        )
        _work(studies[current])
        results = _results(recipe, preset, studies)
        _write(results, studies[seed], folder)
    if verbose:
        print(outputs.table_text(results))
        print(outputs.claims_text(results))
        minutes = (time.monotonic() - began) / 60
        print(f"{minutes:.1f} minutes; report, figures, numbers: {folder}/")
    return results


def _work(study):
    """Runs all stages that are not there yet."""
    for name in study.recipe.models:
        study.evaluate(name)
    _measured(study)


def _measured(study):
    wanted = {
        "decomposition": measures.decomposition,
        "leakage": measures.leakage,
        "nearest": measures.nearest,
    }
    if study.recipe.architectures:
        wanted["transfer"] = measures.transfer
    if study.recipe.autoattack_images:
        wanted["autoattack"] = measures.autoattack
    return {name: study.measure(name, wanted[name]) for name in wanted}


def _run(study):
    """The numbers of a seed."""
    models = study.recipe.models
    return {
        "evaluation": {name: study.evaluate(name) for name in models},
        "generated": {
            name: study.describe_generated(name)
            for name in models
            if is_generated(name)
        },
        "curves": study.curves(),
        "measured": _measured(study),
    }


def _results(recipe, preset, studies):
    runs = {seed: _run(study) for seed, study in studies.items()}
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


def judge(runs: Mapping[Any, dict], recipe: Mapping[str, Any]) -> dict:
    """What becomes of the claims, as it stands in `results.json`.

    Args:
        runs: Dictionary of runs by seed: `results["runs"]`.
        recipe: A `Recipe` as a dictionary: `results["recipe"]`.

    Returns:
        Dictionary of `read_at`, where attacked figures are read (a `Reading`
        as a dictionary, or `None`), and `claims`, what `verdicts` returns;
        none where the recipe is too small to show anything.
    """
    reading = find_reading(runs, recipe["radii"])
    found = []
    if not recipe.get("too_small"):
        found = verdicts(
            CLAIMS,
            runs,
            recipe["radii"],
            dataset=recipe["dataset"],
            undecidable=recipe.get("undecidable"),
        )
    return {"read_at": reading and asdict(reading), "claims": found}


def _write(results, study, folder):
    """All files but the stages."""
    text = json.dumps(results, indent=2) + "\n"
    (folder / "results.json").write_text(text, encoding="utf-8")
    outputs.write_table(results, folder / "table.md")
    drawn = {
        "bars": figures.draw_bars(results),
        "curves": figures.draw_curves(results),
        "images": figures.draw_images(study),
    }
    if "transfer" in next(iter(results["runs"].values()))["measured"]:
        drawn["transfer"] = figures.draw_transfer(results)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
        if name != "images":
            figure.savefig(folder / f"{name}.svg")
    search = folder / "optimizer" / "results.json"
    found = None
    if search.exists():
        found = json.loads(search.read_text(encoding="utf-8"))
        drawn["optimizer"] = sweep_outputs.draw(found["runs"])
    write_report(results, drawn, folder / "report.html", found)


def _summary(runs, models):
    """Mean and sample standard deviation over seeds, in per cent."""
    summary = {}
    for model in models:
        rows = [run["evaluation"][model]["accuracy"] for run in runs.values()]
        summary[model] = {
            attack: mean_and_deviation([100 * row[attack] for row in rows])
            for attack in rows[0]
        }
        # Which images are as they are in the world.
        shares = [
            run.get("generated", {}).get(model, {}).get("labels_right", 1.0)
            for run in runs.values()
        ]
        summary[model]["right labels"] = {
            "mean": 100 * float(np.mean(shares)),
            "deviation": None,
        }
    return summary
