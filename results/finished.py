"""The results of a study that was stopped: what is finished of it.

    python results/finished.py STAGES --output results/NAME --dataset cifar10 \
        --preset gpu --machine "1 x NVIDIA H100" --versions jax=0.11.2

Reads evaluations, curves, measures and times in `stages` of a run's folder,
all seeds, and writes `results.json` and `table.md` as a run that ends does,
with the verdicts on the claims. All models of all seeds must be evaluated;
measures may be missing. Of the generated sets there are the shares of right
labels, which follow from the seeds. Prints the table and the claims.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from keep import compact

from keras_robust.study.replication import running
from keras_robust.study.replication import tables
from keras_robust.study.replication.recipes import get_recipe
from keras_robust.study.replication.replication import Replication
from keras_robust.study.replication.training_sets import Kind


def main():
    """Write what is finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--versions", nargs="+", default=[])
    options = parser.parse_args()
    results = finished(
        options.stages,
        study=get_recipe(options.dataset, options.preset),
        machine=options.machine,
        versions=dict(each.split("=") for each in options.versions),
    )
    options.output.mkdir(parents=True, exist_ok=True)
    text = compact(results)
    (options.output / "results.json").write_text(text, encoding="utf-8")
    tables.write_table(results, options.output / "table.md")
    print(tables.table_text(results))
    print(tables.claims_text(results))


def finished(stages, study, machine, versions):
    """The content of `results.json`.

    Args:
        stages: Folder with a folder of stages for each seed, on one backend.
        study: The `Study` that was stopped.
        machine: What it ran on.
        versions: Dictionary by package.
    """
    runs, seconds = {}, {}
    backends = {path.name.partition("-")[2] for path in _folders(stages)}
    if len(backends) != 1:
        raise ValueError(
            "Stages must be those of one backend, a folder for each seed. "
            f"Received: {sorted(backends)} in {stages}"
        )
    for folder in _folders(stages):
        seed = int(folder.name.partition("-")[0].removeprefix("seed"))
        runs[seed] = {
            "evaluation": read(folder, "evaluation"),
            "generated": right_labels(study, seed),
            "curves": read(folder, "curve"),
            "measured": read(folder, "measured"),
        }
        missing = set(study.models) - set(runs[seed]["evaluation"])
        if missing:
            raise ValueError(
                "All models of a seed must be evaluated. "
                f"Received: seed {seed} without {sorted(missing)}"
            )
        seconds[seed] = read(folder, "seconds")
    made_by = {
        "machine": machine,
        "backend": backends.pop(),
        "versions": versions,
    }
    return running.results_of(study, runs, seconds, made_by, predicted={})


def _folders(stages):
    return sorted(Path(stages).glob("seed*-*"))


def read(folder, kind):
    """What the stages of a kind found, by what they were made for.

    Args:
        folder: Of the stages of a seed.
        kind: How the names of their files begin.
    """
    found = {}
    for path in sorted(folder.glob(f"{kind}-*.json")):
        name = path.stem.removeprefix(f"{kind}-").rpartition("-")[0]
        if name in found:
            raise ValueError(
                "Stages must hold one result for each model and seed; remove "
                "those of other settings. "
                f"Received: two of {name}, the second in {path}"
            )
        found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def right_labels(study, seed):
    """The share of right labels of each generated set.

    Args:
        study: The `Study`.
        seed: Int.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        stages = Replication(study, folder, seed=seed, verbose=0)
        y = stages.data.train[1]
        classes = len(stages.data.class_names)
        for name in study.models:
            made = study.training_set(name)
            if made.kind is Kind.INVERSION:
                found[name] = {"labels_right": 1.0}
            elif made.kind is Kind.RELABELLED:
                # A control has the targets of what it controls.
                control = stages.transform(f"{made.base}_shortcut", None)
                labels = control.plan(y, classes)["label"]
                share = float(np.mean(labels == y))
                found[name] = {"labels_right": share}
    return found


if __name__ == "__main__":
    main()
