"""The replication as one call: all seeds, table, figures, results.json."""

import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from keras_robust import backend
from keras_robust.environment import installed_versions
from keras_robust.study import outputs
from keras_robust.study.recipes import get_recipe
from keras_robust.study.replication import Replication
from keras_robust.study.training_sets import GENERATED
from keras_robust.study.training_sets import MODELS


def replicate(
    dataset="digits",
    preset=None,
    seed=0,
    seeds=1,
    output="replication",
    verbose=1,
):
    """Trains the paper's models and controls, evaluates, writes the results.

    Writes `results.json`, `table.md`, `bars.png` and `images.png` to
    `output`, and keeps finished stages in `output/stages`: a second run goes
    on from there.

    Args:
        dataset: `"digits"`, `"fashion_mnist"` or `"cifar10"`.
        preset: See `get_recipe`.
        seed: Int >= 0, the first seed.
        seeds: Int >= 1, how many seeds.
        output: Folder, made if missing.
        verbose: 0 for silence.

    Returns:
        The dictionary that `results.json` holds.
    """
    recipe = get_recipe(dataset, preset)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    runs, seconds = {}, {}
    for current in range(seed, seed + seeds):
        study = Replication(recipe, folder / "stages", current, verbose)
        runs[current] = {name: study.evaluate(name) for name in MODELS}
        sets = {name: _describe(study.generated(name)) for name in GENERATED}
        seconds[current] = study.seconds()
        runs[current] = {"evaluation": runs[current], "generated": sets}
        if current == seed:
            outputs.draw_images(study, folder / "images.png")
    results = {
        "recipe": asdict(recipe),
        "seeds": list(runs),
        "seconds_by_seed_and_stage": seconds,
        "machine": _machine(),
        "backend": backend.name,
        "versions": {
            "python": platform.python_version(),
            **installed_versions(),
        },
        "summary": _summary(runs),
        "runs": runs,
    }
    text = json.dumps(results, indent=2) + "\n"
    (folder / "results.json").write_text(text, encoding="utf-8")
    outputs.write_table(results, folder / "table.md")
    outputs.draw_bars(results, folder / "bars.png")
    if verbose:
        outputs.print_table(results)
        minutes = (time.monotonic() - began) / 60
        print(f"{minutes:.1f} minutes; table, figures, numbers: {folder}/")
    return results


def _machine():
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line for line in file if line.startswith("model name")]
    except OSError:
        names = []
    if names:
        processor = names[0].split(":", 1)[1].strip()
    return f"{os.cpu_count()} x {processor}"


def _describe(generated):
    """Means of what the generator told, and the share of right labels."""
    described = {
        key: float(np.mean(generated[key]))
        for key in ("distance_before", "distance_after", "distance", "success")
        if key in generated
    }
    if "original_label" in generated:
        right = generated["y"] == generated["original_label"]
        described["labels_right"] = float(right.mean())
    return described


def _summary(runs):
    """Mean and sample standard deviation over seeds, in per cent."""
    summary = {}
    for model in MODELS:
        rows = [run["evaluation"][model]["accuracy"] for run in runs.values()]
        summary[model] = {}
        for attack in rows[0]:
            values = 100 * np.array([row[attack] for row in rows])
            spread = float(values.std(ddof=1)) if len(values) > 1 else None
            summary[model][attack] = {
                "mean": float(values.mean()),
                "deviation": spread,
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
