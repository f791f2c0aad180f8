"""Which wrong class to attack first: the nearest by a linear estimate."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import DUAL_NORMS
from keras_robust.attacks.engine.batches import call_on_batch
from keras_robust.attacks.engine.batches import padded_size
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.objectives import difference
from keras_robust.attacks.problem import Problem

# Only the likeliest classes are compared.
CANDIDATES = 100


@dataclass(frozen=True)
class LinearDistance:
    """How far the boundary to a target is if the logits were linear.

    Attributes:
        logits: `(x, draw, held) -> (N, C)` logits of a classifier.
        norm: Name of the norm in which distances count.
    """

    logits: Callable[..., Tensor]
    norm: str

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """`distance`, `(N,)`: 1e30 where the gradient is zero."""
        rows = inputs.rows

        def gap(x: Tensor) -> tuple[Tensor, float]:
            draw = ops.zeros((), "int32")
            logits = self.logits(x, draw, rows.get("held"))
            return difference(rows["target"], rows["y"], logits), 0.0

        (value, _), gradient = backend.value_and_gradient(gap, rows["center"])
        if "mask" in rows:
            gradient = gradient * rows["mask"]
        size = DUAL_NORMS[self.norm](gradient)
        has_slope = size > 0
        distance = value / ops.where(has_slope, size, 1.0)
        return {"distance": ops.where(has_slope, distance, 1e30)}


def ranked_targets(logits: np.ndarray, y: np.ndarray, rank: int) -> np.ndarray:
    """Return the `rank`-th likeliest wrong class of each example.

    Args:
        logits: Array `(N, C)`, of the clean images.
        y: Integer labels `(N,)`.
        rank: Int from 1 to C - 1.

    Returns:
        Int32 array `(N,)`.
    """
    others = np.array(logits, "float32")
    others[np.arange(len(y)), y] = -np.inf
    # Stable, so that ties fall alike everywhere.
    order = np.argsort(-others, axis=-1, kind="stable")
    return order[:, rank - 1].astype("int32")


def nearest_targets(
    problem: Problem,
    inputs: Inputs,
    clean_logits: np.ndarray,
    norm: str,
    jit_compile: bool | str,
) -> np.ndarray:
    """Return the wrong classes of each example, the nearest boundary first.

    MALT, Melamed, Yehudai & Vardi 2024 (arXiv:2407.02240): boundaries are
    `(z_y - z_t) / ||grad_x (z_y - z_t)||_q` away, q the dual norm. It costs a
    gradient for each of the 100 likeliest wrong classes.

    Args:
        problem: The problem.
        inputs: `center`, `y`, and where there are such `mask` and `held`.
        clean_logits: Array `(n, C)`.
        norm: `"l1"`, `"l2"` or `"linf"`.
        jit_compile: As in `PGDAttack`.

    Returns:
        Int32 array `(n, K)`, K at most 100.
    """
    classifier = problem.classifier
    keys = {"center", "y", "mask", "held"} & set(inputs.rows)
    rows = {key: inputs.rows[key] for key in keys}
    shape, size = problem.shape[1:], len(clean_logits)
    distance = classifier.cached(
        ("linear distance", norm, shape, jit_compile),
        lambda: backend.compile(
            LinearDistance(classifier.logits, norm),
            classifier.variables,
            classifier.jit(jit_compile),
        ),
    )
    target_size = padded_size(
        size,
        problem.batch_size or size,
        pads=backend.needs_padding(jit_compile),
        fixed=problem.batch_size is not None,
    )
    classes, distances = [], []
    for rank in range(1, min(CANDIDATES, clean_logits.shape[1] - 1) + 1):
        target = ranked_targets(clean_logits, inputs.rows["y"], rank)
        found = call_on_batch(
            distance,
            Inputs({**rows, "target": target}),
            size=size,
            padded_size=target_size,
        )
        classes.append(target)
        distances.append(ops.convert_to_numpy(found["distance"]))
    order = np.argsort(np.stack(distances, -1), axis=-1, kind="stable")
    ordered: np.ndarray = np.take_along_axis(np.stack(classes, -1), order, -1)
    return ordered
