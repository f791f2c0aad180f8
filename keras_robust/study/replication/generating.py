"""Generation of the data sets that models are trained on."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from keras_robust.study.replication.am207_errors import NO_BOX
from keras_robust.study.replication.am207_errors import NineTargets
from keras_robust.study.replication.am207_errors import unpooled_layer
from keras_robust.study.replication.backup import Stopwatch
from keras_robust.study.replication.settings import images_at_once
from keras_robust.study.replication.settings import known
from keras_robust.study.replication.store import Arrays
from keras_robust.study.replication.store import StageStore
from keras_robust.study.replication.training_sets import Kind
from keras_robust.study.replication.training_sets import OwnSet
from keras_robust.study.replication.training_sets import TrainingSet
from keras_robust.transforms import Batch
from keras_robust.transforms import NonRobustifier
from keras_robust.transforms import Plan
from keras_robust.transforms import Robustifier
from keras_robust.transforms import Shortcut
from keras_robust.transforms import Transform
from keras_robust.transforms.batch import check_made

if TYPE_CHECKING:
    from keras_robust.study.study import Study

# Images that are generated, and kept, at once. A run that is stopped loses no
# more than these.
SHARD = 2_500


def transform_of(
    made: TrainingSet,
    recipe: Study,
    source: keras.Model | None,
    num_classes: int,
    seed: int,
) -> Transform:
    """The transform that generates a data set.

    Args:
        made: A generated set.
        recipe: A `Study`.
        source: The model whose features it takes; `None` for a control.
        num_classes: C.
        seed: Of the targets and patterns.
    """
    if isinstance(made, OwnSet):
        return made.make_transform(
            source,
            num_classes=num_classes,
            epsilon=known(recipe.relabel_epsilon),
            seed=seed,
        )
    size = images_at_once(math.prod(recipe.read().shape))
    if made.kind is Kind.INVERSION:
        unpooled = made.error == "unpooled"
        return Robustifier(
            source,
            step_size=recipe.inversion_step_size,
            steps=recipe.inversion_steps,
            optimizer=recipe.inversion_optimizer,
            layer=unpooled_layer(source) if unpooled else recipe.layer,
            batch_size=size,
            seed=seed,
        )
    if made.target is None:
        raise ValueError(
            f"A training set must be a generated one. Received: {made.name}"
        )
    if made.control:
        return Shortcut(
            num_classes, made.target, epsilon=recipe.relabel_epsilon, seed=seed
        )
    kind = NineTargets if made.error == "nine_targets" else NonRobustifier
    return kind(
        source,
        target=made.target,
        epsilon=recipe.relabel_epsilon,
        step_size=recipe.relabel_step_size,
        steps=recipe.relabel_steps,
        value_range=NO_BOX if made.error == "no_box" else (0.0, 1.0),
        batch_size=size,
        seed=seed,
    )


def generate(
    transform: Transform,
    x: np.ndarray,
    y: np.ndarray,
    num_classes: int,
    parts: StageStore,
    stopwatch: Stopwatch,
    verbose: int = 1,
) -> Arrays:
    """Generate a data set in shards, each of which is kept when it is done.

    Args:
        transform: What `transform_of` returns.
        x: Images `(N, H, W, C)` in [0, 1].
        y: Labels `(N,)`.
        num_classes: C.
        parts: Where the shards are kept; to be removed when the set is kept.
        stopwatch: Measures the time.
        verbose: 0 for silence.

    Returns:
        Dictionary of arrays: `x`, `y` and details of each example.
    """
    plan = transform.plan(y, num_classes)
    shards = []
    for first in range(0, len(x), SHARD):
        rows = slice(first, first + SHARD)
        shards.append(
            parts.arrays(
                f"from-{first}",
                SHARD,
                partial(
                    _make_shard,
                    transform=transform,
                    plan=plan,
                    x=x,
                    y=y,
                    rows=rows,
                ),
            )
        )
        stopwatch.keep()
        if verbose and len(x) > SHARD:
            done = min(first + SHARD, len(x))
            print(f"  {done} of {len(x)} images", flush=True)
    return {
        key: np.concatenate([shard[key] for shard in shards])
        for key in shards[0]
    }


def _make_shard(
    transform: Transform,
    plan: Plan,
    x: np.ndarray,
    y: np.ndarray,
    rows: slice,
) -> Arrays:
    """Generate some rows of a set."""
    start = None
    if transform.uses_start_images:
        start = x[plan["start_id"][rows]]
    if isinstance(transform, Robustifier) and start is not None:
        # Unlike `make`, the call returns distances before and after.
        images, details = transform(
            x[rows],
            start=start,
            verbose=0,
            return_details=True,
        )
        return {"x": images, "y": y[rows], **details}
    labels = plan["label"][rows]
    batch = Batch(
        images=x[rows],
        rows=np.arange(len(x))[rows],
        labels=labels,
        original_labels=y[rows],
        start=start,
    )
    made = check_made(type(transform).__name__, transform.make(batch), batch)
    arrays = {key: ops.convert_to_numpy(v) for key, v in made.items()}
    return {**arrays, "y": labels, "original_label": y[rows]}


def describe_generated(arrays: Arrays) -> dict[str, float | None]:
    """Means of the details of each example, and the share of right labels.

    Args:
        arrays: What `generate` returns, or a set of the user, whose
            `original_label` is -1 where it is not known.

    Returns:
        Dictionary; `labels_right` is `None` where no original label is known.
    """
    described: dict[str, float | None] = {
        key: float(np.mean(arrays[key]))
        for key in ("distance_before", "distance_after", "distance", "success")
        if key in arrays
    }
    if "original_label" in arrays:
        known = arrays["original_label"] >= 0
        right = (arrays["y"] == arrays["original_label"])[known]
        described["labels_right"] = float(right.mean()) if len(right) else None
    return described
