"""A run of a study: all seeds, table, figures, report, results.json."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import cast

import numpy as np

from keras_robust import backend
from keras_robust.classifier import Classifier
from keras_robust.study.replication import figures
from keras_robust.study.replication import measures
from keras_robust.study.replication import outputs
from keras_robust.study.replication import settings
from keras_robust.study.replication import tables
from keras_robust.study.replication.claims import claims_of
from keras_robust.study.replication.claims import undecidable_with
from keras_robust.study.replication.predictions import predictions
from keras_robust.study.replication.replication import Replication
from keras_robust.study.replication.results import ClaimResult
from keras_robust.study.replication.results import Judgement
from keras_robust.study.replication.results import MadeBy
from keras_robust.study.replication.results import Measured
from keras_robust.study.replication.results import ReadAt
from keras_robust.study.replication.results import Results
from keras_robust.study.replication.results import SeedResults
from keras_robust.study.replication.results import Summary
from keras_robust.study.replication.results import about_images
from keras_robust.study.replication.stand_ins import gives_model
from keras_robust.study.replication.stand_ins import gives_set
from keras_robust.study.replication.store import StageBusyError
from keras_robust.study.replication.training_sets import RELABELLED
from keras_robust.study.replication.verdicts import find_reading
from keras_robust.study.replication.verdicts import mean_and_deviation
from keras_robust.study.replication.verdicts import verdicts
from keras_robust.utils.environment import installed_versions
from keras_robust.utils.environment import machine
from keras_robust.utils.files import locked
from keras_robust.utils.files import write_json

if TYPE_CHECKING:
    from keras_robust.study.study import Study

# How often to look whether another process has finished a stage.
SECONDS_BETWEEN_LOOKS = 0.2


def run_study(
    study: Study, folder: Path, seeds: Sequence[int], verbose: int
) -> Results:
    """Run a study, see `Study.run`.

    Args:
        study: A `Study` with a number for every radius.
        folder: Made if missing.
        seeds: Ints >= 0, at least one.
        verbose: 0 for silence.

    Returns:
        The content of `results.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start_time = time.monotonic()
    stages: dict[int, Replication] = {}
    for seed in seeds:
        stages[seed] = study.replication(folder, seed=seed, verbose=verbose)
        run_stages([stages[seed]])
        results = _results(study, stages)
        # Several processes that share a study finish at about the same time.
        with locked(folder / "stages" / "lock"):
            write_json(folder / "results.json", results)
            images = figures.draw_images(stages[seeds[0]])
            outputs.write(results, folder, images)
    if verbose:
        print(tables.table_text(results))
        print(tables.claims_text(results))
        minutes = (time.monotonic() - start_time) / 60
        print(f"{minutes:.1f} minutes; report, figures, numbers: {folder}/")
    return results


def check_networks(study: Study) -> None:
    """Raise if a network of the user does not fit, before one is trained.

    Args:
        study: A `Study`.

    Raises:
        ValueError: If its classes are not those of the data, its last
            activation is not known, or D_R and D_NR cannot be made with it.
    """
    networks = {
        f"networks[{name!r}]": study.network_of(name)
        for name in (*study.models, *study.networks)
        if name in study.networks
    }
    if set(study.models) - set(study.networks):
        networks["network"] = study.network_spec()
    for name, network in study.architectures.items():
        networks[f"architectures[{name!r}]"] = study.network_spec(network)
    named = all(isinstance(network, tuple) for network in networks.values())
    if named and settings.read_own(study) is None:
        # A recipe, whose networks fit.
        return
    data = study.read()
    for argument, network in networks.items():
        classifier = Classifier.of(study.build(network))
        classes = classifier.check(data.images.train[0][:8])
        if classes != data.num_classes:
            raise ValueError(
                f"Argument `{argument}` must have an output for each of the "
                f"{data.num_classes} classes of the data; an `ImageDataset` "
                f"names classes that have no images. Received: {classes} "
                "classes"
            )
    for name, source in (("D_R", "adversarial"), ("D_NR", "standard")):
        if name in study.models:
            taken = study.stand_ins.get(source)
            model = taken.model if taken is not None else None
            if model is None:
                model = study.build(study.network_of(source))
            Classifier.of(model).representation(study.layer)


def run_stages(studies: Sequence[Replication]) -> None:
    """Run all stages that are not finished yet.

    Several processes may do so at once: a stage that another one is making is
    left to it, and what needs that stage comes later.

    Args:
        studies: `Replication` objects, in the order of their stages.
    """
    left = [(study, stage) for study in studies for stage in _stages(study)]
    said: set[str] = set()
    while left:
        busy: list[tuple[Replication, _Stage]] = []
        awaited: set[str] = set()
        for study, stage in left:
            # A measure looks at all models.
            waits = stage.is_measure and any(
                study is one and not other.is_measure for one, other in busy
            )
            missing = None if waits else _run(study, stage)
            if waits or missing:
                busy.append((study, stage))
            if missing:
                awaited.add(missing)
        if len(busy) == len(left):
            if awaited != said and left[0][0].verbose:
                names = ", ".join(sorted(awaited))
                print(
                    f"waiting for another process to make {names} ...",
                    flush=True,
                )
            said = awaited
            time.sleep(SECONDS_BETWEEN_LOOKS)
        left = busy


def _run(study: Replication, stage: _Stage) -> str | None:
    """Run a stage.

    Returns:
        The file that another process is making and that must be there first;
        `None` where the stage is finished.
    """
    try:
        with study.store.without_waiting():
            stage.run()
    except StageBusyError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class _Stage:
    run: Callable[[], Any]
    is_measure: bool = False


def _stages(study: Replication) -> list[_Stage]:
    """All stages of a study, in order."""
    found = _measures(study)
    stages = [
        _Stage(partial(study.evaluate, name)) for name in study.recipe.models
    ]
    if "transfer" in found:
        stages += [
            _Stage(partial(_architectures, study, name))
            for name in study.recipe.architectures
        ]
    # The longest first: at the end there is nothing else to share.
    order = sorted(found, key=lambda name: name != "transfer")
    return stages + [_Stage(found[name], is_measure=True) for name in order]


def _architectures(study: Replication, name: str) -> None:
    """Train a network on the data set and on D_det.

    In one process, which compiles it once.
    """
    for base in ("standard", "D_det"):
        study.architecture(base, name)


def _measures(study: Replication) -> dict[str, Callable[[], Any]]:
    """All measures that the sets of a study allow for, by name."""
    models = study.recipe.models
    found: dict[str, Callable[[Replication], Any]] = {}
    if "D_R" in models and not _is_given(study.recipe, "D_R"):
        found["decomposition"] = measures.decomposition
    relabelled = [name for name in RELABELLED if name in models]
    if relabelled:
        found["leakage"] = partial(measures.leakage, sets=relabelled)
    # Sets of the user may not be in the order of the training images.
    made = [
        name
        for name in measures.NEAREST_OF
        if name in models and not gives_set(study.recipe, name)
    ]
    if made:
        found["nearest"] = partial(measures.nearest, sets=made)
    if study.recipe.architectures and "D_det" in models:
        found["transfer"] = measures.transfer
    if study.recipe.autoattack_images and "D_R" in models:
        found["autoattack"] = measures.autoattack
    return {
        name: partial(study.measure, name, function)
        for name, function in found.items()
    }


def _is_given(study: Study, name: str) -> bool:
    """Whether the user gave a set, or the model that is trained on it."""
    return gives_set(study, name) or gives_model(study, name)


def _left_out(study: Study) -> dict[str, str]:
    found = settings.left_out(study)
    if _is_given(study, "D_R"):
        # D_R of test images would be made in another way, or not be what the
        # network was trained on.
        found["decomposition"] = "D_R or its network was given by the user"
    return found


def _seed_results(study: Replication) -> SeedResults:
    models = study.recipe.models
    return {
        "evaluation": {name: study.evaluate(name) for name in models},
        "generated": {
            name: study.describe_generated(name)
            for name in models
            if study.recipe.training_set(name).is_generated
        },
        "curves": study.curves(),
        "measured": cast(
            "Measured",
            {name: found() for name, found in _measures(study).items()},
        ),
    }


def _results(study: Study, studies: Mapping[int, Replication]) -> Results:
    first = next(iter(studies.values()))
    return results_of(
        study,
        runs={seed: _seed_results(each) for seed, each in studies.items()},
        seconds={seed: each.seconds() for seed, each in studies.items()},
        made_by={
            "machine": machine(),
            "backend": backend.name,
            "versions": {
                "python": platform.python_version(),
                **installed_versions(),
            },
        },
        predicted=predictions(first.data, study),
    )


def results_of(
    study: Study,
    runs: Mapping[int, SeedResults],
    seconds: Mapping[int, dict[str, float]],
    made_by: MadeBy,
    predicted: Mapping[str, Any],
) -> Results:
    """The content of `results.json`, from the numbers of each seed.

    Args:
        study: A `Study`.
        runs: Numbers by seed.
        seconds: How long each stage took, by seed.
        made_by: The machine and the versions that made them.
        predicted: See `predictions`.

    Returns:
        Dictionary, with summary and verdicts.
    """
    recipe = _recipe(study)
    return {
        "preset": study.preset,
        "recipe": recipe,
        "models": dict(study.models),
        "seeds": list(runs),
        "seconds_by_seed_and_stage": dict(seconds),
        **made_by,
        "summary": _summary(runs, study.models),
        "measured_radius": study.measured_radius,
        "predicted": dict(predicted),
        **judge(runs, recipe),
        "runs": dict(runs),
    }


def _recipe(study: Study) -> dict[str, Any]:
    """All settings of a study as plain values, and how claims are judged."""
    return {
        **study.description(),
        "dataset": study.dataset,
        "data": settings.describe_data(study),
        "undecidable": study.undecidable,
        "too_small": study.too_small,
        "classes": study.read().num_classes,
        "evaluated_images": _evaluated_images(study),
        "is_own": settings.read_own(study) is not None,
        "left_out": _left_out(study),
        "own_sets": settings.described_own_sets(study),
    }


def _evaluated_images(study: Study) -> int:
    """How many images accuracies are of, see `data.choose`."""
    count = study.validation_images or len(study.read().images.test[0])
    return min(count, study.test_images or count)


def judge(
    runs: Mapping[Any, SeedResults], recipe: Mapping[str, Any]
) -> Judgement:
    """Judge the claims by the numbers of all seeds.

    Args:
        runs: Numbers by seed: `results["runs"]`.
        recipe: The settings as a dictionary: `results["recipe"]`.

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
    classes = recipe.get("classes", 10)
    claims = verdicts(
        claims_of(classes, recipe.get("own_sets", ())),
        runs,
        recipe["radii"],
        dataset=recipe["dataset"],
        undecidable={
            **undecidable_with(classes),
            **recipe.get("undecidable", {}),
        },
        left_out=recipe.get("left_out", {}),
        is_own=recipe.get("is_own", False),
    )
    return {
        "read_at": read_at,
        "claims": [_about_images(claim, recipe) for claim in claims],
    }


def _about_images(claim: ClaimResult, recipe: Mapping[str, Any]) -> ClaimResult:
    """A claim in the words of a study with or without test images."""
    return {
        **claim,
        "statement": about_images(claim["statement"], recipe),
        "rule": about_images(claim["rule"], recipe),
        "reason": about_images(claim["reason"], recipe),
    }


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
        known = [share for share in shares if share is not None]
        summary[model]["right labels"] = {
            "mean": 100 * float(np.mean(known)) if known else None,
            "deviation": None,
        }
    return summary
