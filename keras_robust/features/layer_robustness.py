"""How far a representation moves when its image is attacked."""

from typing import Any

import numpy as np

from keras_robust.attacks.balls import Box
from keras_robust.attacks.engine.batches import Report
from keras_robust.attacks.engine.batches import map_batches
from keras_robust.attacks.engine.compiled import CompiledLoop
from keras_robust.attacks.engine.gradient_loop import GradientLoop
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.randomness import RowDraws
from keras_robust.attacks.engine.randomness import generator
from keras_robust.classifier import Classifier
from keras_robust.evaluation.data import check_data
from keras_robust.transforms.inversion import RepresentationObjective
from keras_robust.transforms.inversion import frozen_view
from keras_robust.transforms.source_model import source_classifier
from keras_robust.utils import array_checks
from keras_robust.utils import checks

_PAIRS_STREAM = 3_000_000


class _Distance(RepresentationObjective):
    """The squared distance to a target representation, to be increased."""

    def __call__(self, inputs: Any, x: Any) -> tuple[Any, Any]:
        values, success = super().__call__(inputs, x)
        return -values, success


def layer_robustness(
    model: Any,
    data: Any,
    attack: Any,
    layer: str | None = None,
    verbose: int = 1,
) -> float:
    """Distance that an attack moves a representation, over that of two images.

    `E max_d ||f(x + d) - f(x)|| / E ||f(x1) - f(x2)||`, as in the rebuttal of
    Ilyas et al. (Distill 2019, response to Nakano): near 0, the
    representation survives the attack; near 1, an attacked image may look like
    any other one. The maximum is found by the attack, so this is a lower bound.

    Args:
        model: A built Keras classifier.
        data: `(x, y)` arrays, at least two images, or a data set of batches;
            labels are not used.
        attack: A `PGDAttack`, of which ball, radius, steps and seed are used.
            It starts at random points: at the image the gradient is 0.
        layer: `None` for the input of the classifying layer, or the name of a
            layer.
        verbose: 0 for no progress bar.

    Returns:
        Float >= 0.

    Raises:
        ValueError: If data and model do not fit.
    """
    source_classifier(model, output=attack.output)
    classifier, x, _ = check_data(
        model, data, attack.from_logits, output=attack.output
    )
    attack = attack.resolve(classifier)
    array_checks.check_images(x, attack.value_range)
    if len(x) < 2:
        raise ValueError(
            f"Argument `data` must hold two images or more. Received: {len(x)}"
        )
    view = classifier.representation(layer)
    attacked = _move_far(classifier, layer, x, attack, verbose)
    here, there = (
        view.predict(
            images,
            batch_size=classifier.batch_size or attack.batch_size,
            verbose=0,
        )
        for images in (x, attacked)
    )
    # Each image and another one.
    random = generator(attack.seed, _PAIRS_STREAM)
    other = (np.arange(len(x)) + random.integers(1, len(x), len(x))) % len(x)
    moved = _distance(there, here).mean()
    return float(moved / max(_distance(here, here[other]).mean(), 1e-12))


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    difference = (first - second).reshape(len(first), -1).astype("float64")
    return np.linalg.norm(difference, axis=-1)


def _move_far(
    classifier: Classifier,
    layer: str | None,
    x: np.ndarray,
    attack: Any,
    verbose: int,
) -> np.ndarray:
    """Move images inside the ball until representations are far away."""
    view, frozen = frozen_view(classifier, layer, x)
    fixed = classifier.batch_size is not None

    def make() -> CompiledLoop:
        loop = GradientLoop(
            objective=_Distance(frozen),
            ball=attack.ball,
            value_range=attack.value_range,
        )
        return CompiledLoop(
            loop, view.variables, attack.jit_compile, fixed=fixed
        )

    key = (
        "layer robustness",
        layer,
        attack.norm,
        Box(attack.value_range),
        attack.jit_compile,
        x.shape[1:],
        frozen.is_rewritten,
    )
    loop = classifier.cached(key, make)
    draws = RowDraws(attack.seed, 0).for_rows(np.arange(len(x)))
    inputs = {
        name: checks.expand_radius(value, name, x.shape, attack.takes_rows)
        for name, value in {
            "epsilon": attack.epsilon,
            "step_size": attack.effective_step_size(),
        }.items()
    }

    inputs["noise"] = attack.ball.noise(draws, x.shape)

    def move_batch(inputs: Inputs, report: Report) -> dict[str, Any]:
        target = frozen(inputs.rows["center"])
        inputs = Inputs({**inputs.rows, "target": target})
        return {"x": loop(inputs, attack.steps, report)["x"]}

    return map_batches(
        move_batch,
        x,
        inputs,
        value_range=attack.value_range,
        batch_size=classifier.batch_size or attack.batch_size,
        pads=loop.pads,
        steps=attack.steps,
        verbose=verbose,
        fixed=fixed,
    )["x"]
