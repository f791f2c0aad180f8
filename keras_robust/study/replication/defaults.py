"""Numbers for the settings that a study leaves open."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.attacks.ddn import DDNAttack
from keras_robust.evaluation import minimum_distance
from keras_robust.study.replication.replication import Replication
from keras_robust.study.replication.results import MeasuredRadius
from keras_robust.study.replication.stand_ins import gives_model
from keras_robust.study.replication.tables import radius_sentence

if TYPE_CHECKING:
    from keras_robust.study.study import Study

# Step of the paper's inversions and how many numbers an image of CIFAR-10 has.
_INVERSION_STEP = 0.1
_CIFAR_SIZE = 3072
# Share of the training images on which a radius is measured, and the least and
# the most of them.
_SHARE = 0.1
_FEWEST, _MOST = 20, 500
_ATTACK_STEPS = 50
_DIGITS = 2


def with_defaults(
    study: Study, folder: Path, verbose: int
) -> tuple[Study, MeasuredRadius | None]:
    """A study with a number for every setting that is `None`.

    Args:
        study: A `Study`.
        folder: Where the network is kept that a radius is measured with.
        verbose: 0 for silence.

    Returns:
        `(study, measured)`: what was measured, or `None`.
    """
    measured = None
    epsilon, radii = study.epsilon, study.radii
    factor = 1
    if epsilon is None and radii is not None:
        epsilon = max(radii)
    elif epsilon is None:
        measured = measure_radius(study, folder, verbose)
        epsilon, factor = measured["radius"], 2
    radii = radii or (factor * epsilon / 2, factor * epsilon)
    relabel = study.relabel_epsilon or factor * epsilon
    found: dict[str, Any] = {
        "epsilon": epsilon,
        "radii": radii,
        "relabel_epsilon": relabel,
        "leakage_epsilon": study.leakage_epsilon or epsilon / 2,
        "relabel_step_size": study.relabel_step_size
        or 2.5 * relabel / study.relabel_steps,
        "inversion_step_size": study.inversion_step_size
        or inversion_step(study),
    }
    return replace(study, **found), measured


def inversion_step(study: Study) -> float:
    """The paper's step of inversions, in proportion to larger images."""
    size = math.prod(study.read().shape)
    return _rounded(_INVERSION_STEP * max(1.0, (size / _CIFAR_SIZE) ** 0.5))


def measure_radius(study: Study, folder: Path, verbose: int) -> MeasuredRadius:
    """The L2 radius at which a standard network keeps half of its accuracy.

    A network is trained on nine tenths of the training images, with the seed
    0, and attacked by DDN on the others. A standard model that the user gave is
    attacked on the same images, which it may have seen. Test images are not
    looked at. Images that the study holds out for validation may be among those
    attacked: the radius is a scale, which favors no setting over another.

    Args:
        study: A `Study`.
        folder: Where the network and the result are kept.
        verbose: 0 for silence.
    """
    count = len(study.read().images.train[0])
    count = min(count, study.train_images or count)
    held_out = int(min(max(_SHARE * count, _FEWEST), _MOST, count // 2))
    is_given = gives_model(study, "standard")
    # Its radii are not used: nothing but the standard network is made.
    pilot = replace(
        study,
        epsilon=1.0,
        radii=(1.0,),
        validation_images=held_out,
        stand_ins={
            name: taken
            for name, taken in study.stand_ins.items()
            if name == "standard"
        },
        networks={
            name: network
            for name, network in study.networks.items()
            if name == "standard"
        },
    )
    networks = study._cache.setdefault("networks", {})
    pilot._cache.update(data=study.read(), networks=networks)
    stages = Replication(pilot, folder / "stages", seed=0, verbose=verbose)

    def measure(stages: Replication) -> MeasuredRadius:
        x, y = stages.data.test
        found = minimum_distance(
            stages.model("standard"),
            (x, y),
            DDNAttack(steps=_ATTACK_STEPS),
            verbose=verbose,
            probe=False,
        )
        measured = half_radius(found.distances)
        return {**measured, "is_given": True} if is_given else measured

    found = stages.measure("radius", measure)
    if verbose:
        print(radius_sentence(found), flush=True)
    return found


def half_radius(distances: np.ndarray) -> MeasuredRadius:
    """The radius at which half of the clean accuracy is left.

    Args:
        distances: Float array `(N,)`, to the nearest adversarial examples; 0
            where the network is wrong.

    Raises:
        ValueError: If the network gets no image right, or no adversarial
            examples were found.
    """
    right = distances[distances > 0]
    median = float(np.median(right)) if len(right) else 0.0
    if not 0 < median < math.inf:
        of_them = ""
        if len(right):
            of_them = ", for half of which no adversarial example was found"
        raise ValueError(
            "Arguments `epsilon` and `radii` must be given: the radius at "
            "which a standard network keeps half of its accuracy cannot be "
            f"measured. Received: a network that gets {len(right)} of "
            f"{len(distances)} images right{of_them}"
        )
    return {
        "radius": _rounded(median),
        "images": len(distances),
        "clean": len(right) / len(distances),
    }


def _rounded(value: float) -> float:
    """Two digits, which is what the measurement is worth."""
    return float(f"{value:.{_DIGITS}g}")
