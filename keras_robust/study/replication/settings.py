"""Checks and plain values of the settings of a study."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING
from typing import Any

import keras

from keras_robust import backend
from keras_robust import models
from keras_robust.datasets.pipelines import check_augmentation
from keras_robust.study.data import NAMED
from keras_robust.study.data import StudyData
from keras_robust.study.data import check_range
from keras_robust.study.replication.am207_errors import AM207_ERRORS
from keras_robust.study.replication.claims import claims_of
from keras_robust.study.replication.networks import NetworkSpec
from keras_robust.study.replication.networks import check_network
from keras_robust.study.replication.networks import describe_network
from keras_robust.study.replication.training_sets import MODELS
from keras_robust.study.replication.training_sets import RELABELLED
from keras_robust.study.replication.training_sets import SETS
from keras_robust.study.replication.training_sets import STREAMS
from keras_robust.study.replication.training_sets import TRAINING_SETS
from keras_robust.study.replication.training_sets import OwnSet
from keras_robust.study.replication.training_sets import TrainingSet
from keras_robust.study.replication.training_sets import own_sets
from keras_robust.study.replication.training_sets import training_set
from keras_robust.study.training import Training
from keras_robust.transforms.inversion import OPTIMIZERS
from keras_robust.utils.checks import check_number
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.messages import describe as described
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

if TYPE_CHECKING:
    from keras_robust.study.study import Study

# `Replication.seed_of` has room for that many before two streams meet.
MOST_ARCHITECTURES = 9
# Settings that are numbers > 0, or `None` to leave them open.
_LENGTHS = (
    "epsilon",
    "relabel_epsilon",
    "leakage_epsilon",
    "attack_step_size",
    "inversion_step_size",
    "relabel_step_size",
)
# Columns are named by radii of three digits, also in other norms.
_RADIUS_RATIO = 1.01
# Settings that are objects, and so are described one by one.
_OBJECTS = ("data", "network", "networks", "architectures", "training", "sets")
# Settings that no stage depends on as such.
_NO_STAGE = ("undecidable", "too_small", "seeds", "stand_ins", "image_size")
# Settings that are younger than kept stages: described where they differ from
# their default, so that those stages are found again.
_YOUNG = ("controls", "value_range", "layer")


def known(value: float | None) -> float:
    """A setting that `Study.resolve` has given a value.

    Args:
        value: The setting.

    Raises:
        ValueError: If it has none.
    """
    if value is None:
        raise ValueError(
            "A study must have its radii here: call `study.replication(folder)`"
            " or `study.run(folder)`, which measure them, or give `epsilon`. "
            "Received: a study without `epsilon`"
        )
    return value


def known_radii(study: Study) -> tuple[float, ...]:
    """The L2 radii of a study, see `known`."""
    if study.radii is None:
        known(None)
    return study.radii or ()


def training_set_of(study: Study, name: str) -> TrainingSet:
    """The training set of that name, see `Study.training_set`."""
    for made in own_sets(study.sets):
        if made.name == name:
            return made
    return training_set(name)


def check_model(study: Study, name: Any, is_generated: bool = False) -> None:
    """Raise unless a study has that model.

    Args:
        study: A `Study`.
        name: One of `study.models`.
        is_generated: Whether it must be trained on a generated set.

    Raises:
        ValueError: If there is none of that name.
    """
    names = [
        model
        for model in study.models
        if not is_generated or study.training_set(model).is_generated
    ]
    if name not in names:
        what = "on a generated set " if is_generated else ""
        raise ValueError(
            f"Argument `name` must be one of {names}, the models of this study "
            f"that are trained {what}".rstrip()
            + f".{did_you_mean(name, names)} Received: name={shown(name)}"
        )


def repr_of(study: Study) -> str:
    """The settings of a study that differ from their defaults.

    Args:
        study: A `Study`.
    """
    plain = type(study)(study.data, study.network)
    changed = [
        f"{each.name}={shown(getattr(study, each.name))}"
        for each in fields(study)
        if each.init
        and each.name not in ("data", "network")
        and getattr(study, each.name) != getattr(plain, each.name)
    ]
    parts = [repr(study.dataset), network_name(study), *changed]
    return f"Study({', '.join(parts)})"


def network_name(study: Study) -> str:
    """Name of the network of a study, or of its function.

    Args:
        study: A `Study`.
    """
    network = study.network
    if isinstance(network, str):
        return network
    return str(getattr(network, "__name__", type(network).__name__))


def read_own(study: Study) -> StudyData | None:
    """The images of a study, unless the name of the data set says all.

    Args:
        study: A `Study`.
    """
    return None if study.dataset in NAMED else study.read()


def left_out(study: Study) -> dict[str, str]:
    """Why models and measures are no part of a study, by name.

    Args:
        study: A `Study`.
    """
    missing: dict[str, str] = {}
    for name in MODELS:
        base = TRAINING_SETS[name].base
        if name not in study.models:
            is_base = base not in study.models
            what = f"the set {base}" if is_base else "the controls"
            verb = "was" if is_base else "were"
            missing[name] = f"{what} {verb} left out of this study"
    measured = {"decomposition": "D_R"}
    if study.architectures:
        measured["transfer"] = "D_det"
    for measure, base in measured.items():
        if base in missing:
            missing[measure] = missing[base]
    if not set(RELABELLED) & set(study.models):
        missing["leakage"] = "the relabelled sets were left out of this study"
    return missing


def check(study: Study) -> None:
    """Check the settings of a study, before anything is read or built.

    Args:
        study: A `Study`.

    Raises:
        ValueError: If one of them is not as its docstring states.
    """
    check_augmentation(study.padding, study.flip, study.fill_mode)
    _check_counts(study)
    _check_radii(study)
    _check_images(study)
    _check_sets(study)
    _check_names(study)
    _check_networks(study)
    _check_plain(study)


def _check_counts(study: Study) -> None:
    for name in ("train_images", "test_images", "attacked_images"):
        if getattr(study, name) is not None:
            check_positive_integer(getattr(study, name), name)
    for name in ("validation_images", "autoattack_images"):
        check_positive_integer(getattr(study, name), name, least=0)
    for name in ("attack", "inversion", "relabel", "evaluation"):
        check_positive_integer(getattr(study, f"{name}_steps"), f"{name}_steps")
    check_positive_integer(study.seeds, "seeds")
    if not isinstance(study.training, Training):
        raise ValueError(
            "Argument `training` of a study must be a `Training`. "
            f"Received: training={described(study.training)}"
        )


def _check_radii(study: Study) -> None:
    for name in ("radii", "linf_radii"):
        radii = getattr(study, name)
        if name == "radii" and radii is None:
            continue
        # There may be no more L-infinity radii, but there is an L2 radius.
        if not isinstance(radii, tuple) or not (radii or name == "linf_radii"):
            raise ValueError(
                f"Argument `{name}` of a study must be a tuple of numbers > 0. "
                f"Received: {name}={shown(radii)}"
            )
        for radius in radii:
            check_number(radius, name, positive=True)
    ordered = sorted(study.radii or ())
    if any(b < _RADIUS_RATIO * a for a, b in pairwise(ordered)):
        raise ValueError(
            "Argument `radii` of a study must hold numbers that differ by 1 % "
            "or more: columns are named by them. "
            f"Received: radii={shown(study.radii)}"
        )
    for name in _LENGTHS:
        if getattr(study, name) is not None:
            check_number(getattr(study, name), name, positive=True)


def _check_images(study: Study) -> None:
    if study.value_range is not None:
        check_range(study.value_range)
    size = study.image_size
    if size is None:
        return
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(
            "Argument `image_size` of a study must be (height, width). "
            f"Received: image_size={shown(size)}"
        )
    for length in size:
        check_positive_integer(length, "image_size")
    if not isinstance(study.data, str) or study.dataset in NAMED:
        raise ValueError(
            "Argument `image_size` of a study must be left out unless `data` "
            "names a data set of TFDS or files: other images are not resized. "
            f"Received: image_size={shown(size)} for {study.dataset}"
        )


def _check_sets(study: Study) -> None:
    names = list(SETS)
    seen = set(TRAINING_SETS) | set(STREAMS)
    for made in study.sets:
        if isinstance(made, OwnSet):
            if made.name in seen:
                raise ValueError(
                    "An `OwnSet` must have a name of its own. "
                    f"Received: {made.name!r}"
                )
            seen.add(made.name)
        else:
            _check_name("sets", made, names)


def _check_names(study: Study) -> None:
    """Refuse a misspelled name, which would otherwise change nothing."""
    names = [*STREAMS, *(made.name for made in own_sets(study.sets))]
    options = [each.name for each in fields(study.training)]
    for model, changed in study.overrides.items():
        _check_name("overrides", model, names)
        for setting in changed:
            _check_name(f"overrides[{model!r}]", setting, options)
        # A training checks its own values.
        study.training_of(model)
    for error in study.errors:
        _check_name("errors", error, AM207_ERRORS)
    _check_name("inversion_optimizer", study.inversion_optimizer, OPTIMIZERS)
    claims = [claim.name for claim in claims_of(10, described_own_sets(study))]
    for claim in study.undecidable:
        _check_name("undecidable", claim, claims)


def described_own_sets(study: Study) -> list[dict[str, Any]]:
    """The sets of the user as plain values, see `claims.claims_of`.

    Args:
        study: A `Study`.
    """
    return [
        {"name": made.name, "base": made.base, "control": made.control}
        for made in own_sets(study.sets)
        if made.name in study.models
    ]


def _check_networks(study: Study) -> None:
    names = [*STREAMS, *(made.name for made in own_sets(study.sets))]
    check_network("network", study.network)
    if isinstance(study.network, str):
        _check_options("network_options", study.network, study.network_options)
    for model, network in study.networks.items():
        _check_name("networks", model, names)
        _check_spec(f"networks[{model!r}]", network)
    for name, network in study.architectures.items():
        _check_spec(f"architectures[{name!r}]", network)
        # A part of the names of files.
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ValueError(
                "Argument `architectures` must have keys of letters, digits "
                f"and . + - _. Received: {name!r}"
            )
        if name == network_name(study):
            raise ValueError(
                "Argument `architectures` must have other keys than the name "
                f"of the study's network. Received: {name!r}"
            )
    if len(study.architectures) > MOST_ARCHITECTURES:
        raise ValueError(
            f"Argument `architectures` must hold at most {MOST_ARCHITECTURES} "
            f"networks. Received: {len(study.architectures)}"
        )


def _check_spec(argument: str, network: Any) -> None:
    """Check a function, or a name with its arguments."""
    options: Any = {}
    if isinstance(network, (tuple, list)) and len(network) == 2:
        network, options = network
    check_network(argument, network)
    if isinstance(network, str):
        _check_options(argument, network, options)


def _check_options(argument: str, network: str, options: Any) -> None:
    """Check arguments of a network by name."""
    known = list(inspect.signature(getattr(models, network)).parameters)
    for name in options:
        if name not in known:
            raise ValueError(
                f"Argument `{argument}` must be of models.{network}: "
                f"{sorted(known)}.{did_you_mean(name, known)} "
                f"Received: {shown(name)}"
            )


def _check_plain(study: Study) -> None:
    """Refuse values that `results.json` cannot hold."""
    # Raises an error that lists what there is.
    keras.dtype_policies.DTypePolicy(study.dtype_policy)
    plain = {
        each.name: getattr(study, each.name)
        for each in fields(study)
        if each.init and each.name not in (*_OBJECTS, "stand_ins")
    }
    try:
        json.dumps(plain)
    except TypeError as error:
        raise ValueError(
            "The settings of a study, but for data, networks and trainings, "
            "must be plain numbers, text, lists and dictionaries, which "
            f"results.json can hold. Received: {error}"
        ) from None


def _check_name(argument: str, name: Any, names: Collection[str]) -> None:
    if name not in names:
        raise ValueError(
            f"Argument `{argument}` of a study must be of "
            f"{sorted(names)}.{did_you_mean(name, names)} "
            f"Received: {shown(name)}"
        )


def describe(study: Study) -> dict[str, Any]:
    """All settings that numbers depend on, see `Study.description`.

    Args:
        study: A `Study`.
    """
    described = {
        each.name: getattr(study, each.name)
        for each in fields(study)
        if each.init and each.name not in (*_OBJECTS, *_NO_STAGE, *_YOUNG)
    }
    described["dataset"] = describe_data(study)
    described["training"] = study.training.description()
    described["overrides"] = {
        model: _described_override(study.training_of(model), changed)
        for model, changed in study.overrides.items()
    }
    described["network"] = study.network
    if not isinstance(study.network, str):
        described["network"] = describe_spec(study, study.network)
    for name in ("networks", "architectures"):
        described[name] = {
            model: describe_spec(study, study.network_spec(network))
            for model, network in getattr(study, name).items()
        }
    described |= _young(study)
    return described


def _young(study: Study) -> dict[str, Any]:
    defaults = {each.name: each.default for each in fields(study)}
    found = {
        name: getattr(study, name)
        for name in _YOUNG
        if getattr(study, name) != defaults[name]
    }
    if study.sets != SETS:
        found["sets"] = [
            made.description_of() if isinstance(made, OwnSet) else made
            for made in study.sets
        ]
    if study.stand_ins:
        found["stand_ins"] = {
            name: taken.sha256 for name, taken in study.stand_ins.items()
        }
    return found


def _described_override(
    training: Training, changed: dict[str, Any]
) -> dict[str, Any]:
    described = training.description()
    return {
        key: described[key] if key in ("optimizer", "augment") else value
        for key, value in changed.items()
    }


def describe_data(study: Study) -> Any:
    """Plain values that change with the images: a name, or a hash.

    Args:
        study: A `Study`.
    """
    data = read_own(study)
    if data is None:
        if study.value_range is None:
            return study.dataset
        # What a network takes, though the images are the same.
        return {"name": study.dataset, "value_range": list(study.value_range)}
    return {
        "name": study.dataset,
        "sha256": data.sha256,
        "value_range": list(data.value_range),
    }


def describe_spec(study: Study, network: NetworkSpec) -> Any:
    """Plain values that change with a network, see `describe_network`.

    Args:
        study: A `Study`, which keeps what it takes long to find out.
        network: A function, or a name with its arguments.
    """
    if isinstance(network, tuple):
        return describe_network(network)
    kept = study._cache.setdefault("networks", {})
    if id(network) not in kept:
        # The function is kept too: its id could pass to another one.
        kept[id(network)] = (network, describe_network(network))
    return kept[id(network)][1]


def images_at_once(dimension: int) -> int:
    """How many images a study attacks at once, which changes no result.

    Small batches leave an accelerator waiting; large ones do not fit into the
    caches of a CPU, nor those of large images into an accelerator's memory.

    Args:
        dimension: How many numbers an image has.
    """
    if not backend.has_accelerator():
        return 128
    return min(max(1_250 * 3_072 // dimension, 128), 1_250)
