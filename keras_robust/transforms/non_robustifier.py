"""Relabelled adversarial examples: D_rand, D_det, D_other."""

from collections.abc import Callable
from typing import Any
from typing import ClassVar

import keras
import numpy as np

from keras_robust.attacks.engine.randomness import generator
from keras_robust.attacks.norms import distances
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.classifier import Classifier
from keras_robust.transforms.batch import Batch
from keras_robust.transforms.batch import Made
from keras_robust.transforms.source_model import resolve_range
from keras_robust.transforms.source_model import source_classifier
from keras_robust.transforms.transform import TARGET_STREAM
from keras_robust.transforms.transform import Transform
from keras_robust.utils import array_checks
from keras_robust.utils.messages import describe

# A rule for new labels: its name, or `(y, num_classes, random) -> labels`.
Target = str | Callable[[np.ndarray, int, np.random.Generator], Any]

# Rules by name, and the names of the data sets that follow them.
CONFIG_NAMES = {"random": "rand", "deterministic": "det", "other": "other"}
# Steps from the image to the sphere: 0.1 for a radius of 0.5 (Table 6 of the
# paper).
_STEPS_OUT = 5


def check_target(target: Any) -> Target:
    """Check a rule for new labels.

    Args:
        target: The argument of the user.

    Returns:
        `target`.

    Raises:
        ValueError: If it is neither a function nor one of `CONFIG_NAMES`.
    """
    rule: Target = target
    if callable(rule):
        return rule
    if not isinstance(target, str) or target not in CONFIG_NAMES:
        raise ValueError(
            f"Argument `target` must be one of {tuple(CONFIG_NAMES)}, or a "
            "function `(y, num_classes, random) -> labels`. "
            f"Received: target={describe(target)}"
        )
    return rule


class Relabelling(Transform):
    """Base class of transforms that give images the features of a new label.

    Args:
        target: `"random"`: t uniform over all C classes; `"deterministic"`:
            t = (y + 1) mod C; `"other"`: t uniform over the C - 1 others; or a
            function `(y, num_classes, random) -> t`.
        config_name: Name of a generated data set, or `None` for that of the
            target.
        value_range: See `Transform`.
        batch_size: See `Transform`.
        seed: See `Transform`.
    """

    needs_labels = True
    # What the default name of a generated data set begins with.
    _prefix: ClassVar[str] = ""

    def __init__(
        self,
        target: Any,
        config_name: str | None,
        value_range: Any,
        batch_size: int,
        seed: int | None,
    ) -> None:
        super().__init__(value_range, batch_size=batch_size, seed=seed)
        self.target = check_target(target)
        self._config_name = config_name

    @property
    def config_name(self) -> str:
        """Name of a generated data set.

        That of the constructor, or by default `"rand"`, `"det"` or `"other"`;
        of a function, `"custom"`.
        """
        if self._config_name is not None:
            return self._config_name
        if not isinstance(self.target, str):
            return f"{self._prefix}custom"
        return self._prefix + CONFIG_NAMES[self.target]

    @property
    def label_rule(self) -> str | None:
        """The target; `None` where a function or a subclass decides."""
        kind = type(self)
        own = (
            kind.draw_targets is not Relabelling.draw_targets
            or kind.plan is not Transform.plan
        )
        return self.target if isinstance(self.target, str) and not own else None

    def draw_targets(
        self, y: Any, num_classes: int, random: Any = None
    ) -> np.ndarray:
        """Draw the labels to reach.

        Args:
            y: Int array `(N,)`, the true labels.
            num_classes: C.
            random: `numpy.random.Generator`, which successive batches of one
                pass share; `None` for a new one of `seed`.

        Returns:
            Int32 array `(N,)`.
        """
        y = np.asarray(y)
        random = random or generator(self.seed, TARGET_STREAM)
        if not isinstance(self.target, str):
            t = self.target(y, num_classes, random)
            return array_checks.check_labels(t, len(y), num_classes, "target")
        if self.target == "random":
            t = random.integers(0, num_classes, y.shape)
        elif self.target == "deterministic":
            t = (y + 1) % num_classes
        else:
            t = (y + random.integers(1, num_classes, y.shape)) % num_classes
        return np.asarray(t, "int32")


@keras.saving.register_keras_serializable("keras_robust")
class NonRobustifier(Relabelling):
    """Images that look like `x` and carry the non-robust features of `t`.

    Ilyas et al. 2019 (arXiv:1905.02175), section 3.2 and appendix C.5:
    `x_n = argmin_{||x' - x|| <= epsilon} loss(x', t)` against a standard
    model, stored with the label `t`. (That appendix calls the result D_NR;
    here D_NR is the inversion set of section 3.1, see `Robustifier`.)

    Args:
        model: A built Keras classifier, the source of the features.
        target: `"random"`: D_rand, t uniform over all C classes, so t = y
            with probability 1/C; `"deterministic"`: D_det, t = (y + 1) mod C;
            `"other"`: D_other, t uniform over the C - 1 others; or a function
            `(y, num_classes, random) -> t` of int arrays `(N,)`, with a
            `numpy.random.Generator`.
        norm: `"l2"` or `"linf"`.
        epsilon: Radius of the ball in units of `value_range`; `None` for half
            its width.
        step_size: Length of a step in that norm; `"auto"` for a fifth of
            `epsilon`, as in the paper, `None` for `2.5 * epsilon / steps`.
        steps: Int, gradient steps. Defaults are those of the paper's Table 6.
        value_range: `(low, high)`, the box that holds all images; or
            `"auto"`, see `PGDAttack`.
        batch_size: Int >= 1, how many images are made at once.
        seed: Int for the same targets in every call; `None` for fresh ones.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        early_stop: Whether to stop moving an image once the source model
            predicts t; the paper's definition continues to the lowest loss.
        config_name: Name of a generated data set; `None` for `"rand"`,
            `"det"`, `"other"`, or of a function, `"custom"`.
        output: As in `PGDAttack`.
        scaling: As in `Robustifier`.

    Example:

    ```python
    to_rand = keras_robust.NonRobustifier(standard, target="random")
    x_n, t = to_rand(x, y)
    ```
    """

    def __init__(
        self,
        model: Any,
        target: Any = "random",
        norm: Any = "l2",
        epsilon: Any = None,
        step_size: Any = "auto",
        steps: int = 100,
        value_range: Any = (0.0, 1.0),
        batch_size: int = 128,
        seed: int | None = None,
        from_logits: bool | None = None,
        jit_compile: bool | str = "auto",
        early_stop: bool = False,
        config_name: str | None = None,
        output: str | int | None = None,
        scaling: Any = None,
    ) -> None:
        # Before a step is computed from it.
        check_target(target)
        self.model = model
        self.from_logits = from_logits
        self.output = output
        self.scaling = scaling
        resolved = resolve_range(value_range, self.classifier())
        is_auto = isinstance(step_size, str) and step_size == "auto"
        attack = PGDAttack(
            norm=norm,
            epsilon=epsilon,
            step_size=None if is_auto else step_size,
            steps=steps,
            targeted=True,
            value_range=resolved,
            batch_size=batch_size,
            seed=seed,
            from_logits=from_logits,
            jit_compile=jit_compile,
            early_stop=early_stop,
            output=output,
        )
        if is_auto:
            attack = attack.replace(step_size=attack.epsilon / _STEPS_OUT)
        self.attack = attack
        super().__init__(
            target,
            config_name=config_name,
            value_range=resolved,
            batch_size=self.attack.batch_size,
            seed=self.attack.seed,
        )
        # As the attack keeps them, for `get_config`.
        self.norm = self.attack.norm
        self.epsilon = self.attack.epsilon
        self.step_size = self.attack.step_size
        self.steps = self.attack.steps
        self.jit_compile = self.attack.jit_compile
        self.early_stop = self.attack.early_stop

    def classifier(self) -> Classifier:
        """The classifier whose features are taken, in its current state."""
        return source_classifier(
            self.model,
            from_logits=self.from_logits,
            output=self.output,
            scaling=self.scaling,
        )

    def count_classes(self, images: Any) -> int | None:
        """Number of classes of the source model, which is checked.

        Args:
            images: A few images.
        """
        if not images.shape[0]:
            # Nothing to look at, and no label that could be wrong.
            return 2
        return self.classifier().check(images)

    def make(self, batch: Batch) -> Made:
        """Make one batch.

        Args:
            batch: See `Batch`; its `labels` are the targets.

        Returns:
            Dictionary of arrays: `x`, `distance` in the attack's norm, and
            `success`, whether the source model predicts the target.
        """
        made = self.make_all(batch, verbose=0, scored=True)
        return {
            "x": made["x"],
            "distance": made["distance"],
            "success": made["success"],
        }

    def make_all(
        self, batch: Batch, verbose: int, scored: bool
    ) -> dict[str, Any]:
        """Make all images of a call; see `Transform`."""
        result = self.attack.run(
            self.classifier(),
            batch.images,
            batch.labels,
            verbose=verbose,
            scored=scored,
        )
        if not scored:
            return {"x": result["x"]}
        return {
            "x": result["x"],
            "distance": distances(result["x"], batch.images, self.norm),
            "success": np.asarray(result["success"]),
        }
