"""What every attack shares: configuration, checks, the call."""

from abc import ABC
from abc import abstractmethod
from collections import namedtuple

import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.config import ConfigMixin
from keras_robust.attacks.frozen import check_built
from keras_robust.attacks.frozen import inner_model
from keras_robust.attacks.per_model import count_classes

# `begun`: `None`, or what is known of the examples (`survivor_attack.begin`),
# for attacks that leave out what is broken already.
Problem = namedtuple(
    "Problem", ["model", "x", "y", "classes", "begun"], defaults=[None]
)


class Attack(ConfigMixin, ABC):
    """Base of all attacks: moves inputs until a classifier errs.

    Args:
        epsilon: Radius, a number or one per example; `None` where an attack
            takes the smallest perturbation it finds.
        targeted: Whether `y` holds the labels to reach.
        value_range: `(low, high)`, the box that holds all inputs.
        batch_size: Int >= 1, how many examples are attacked at once.
        seed: Int or `None`.
        from_logits: `None` to find out whether the model gives logits.
        jit_compile: `"auto"`, `True` or `False`.
    """

    # Whether `epsilon=None` means the smallest perturbation, however large.
    any_distance = False

    def __init__(
        self,
        epsilon,
        targeted=False,
        value_range=(0.0, 1.0),
        batch_size=128,
        seed=None,
        from_logits=None,
        jit_compile="auto",
    ):
        if epsilon is None and not self.any_distance:
            raise ValueError(
                "Argument `epsilon` must be a number >= 0, or one per example."
                " Received: epsilon=None"
            )
        if epsilon is not None:
            epsilon = checks.check_non_negative(epsilon, "epsilon")
        self.epsilon = epsilon
        self.targeted = bool(targeted)
        self.value_range = checks.check_value_range(value_range)
        self.batch_size = checks.check_positive_integer(
            batch_size, "batch_size"
        )
        self.seed = seed
        self.from_logits = from_logits
        self.jit_compile = jit_compile

    def __call__(self, model, x, y, verbose=1):
        """Adversarial examples of `x`.

        Args:
            model: A built Keras classifier with output `(N, C)`.
            x: Float array or tensor of shape `(N, ...)`, rank >= 2, values in
                `value_range`.
            y: True labels, or with `targeted=True` the labels to reach:
                integers of shape `(N,)`, or one-hot `(N, C)`. Predictions are
                never taken in their place.
            verbose: 0 for no progress bar.

        Returns:
            Like `x` in shape, dtype and kind: `||x_adv - x|| <= epsilon` (to
            one part in a million) and inside `value_range`.

        Raises:
            ValueError: If the model is not built or an input is not as above.
        """
        return self.run(model, x, y, verbose=verbose)["x"]

    def run(
        self,
        model,
        x,
        y,
        verbose=1,
        scored=False,
        checkpoint=None,
        begun=None,
    ):
        """As the call, with more to tell.

        Args:
            model: As in the call.
            x: As in the call.
            y: As in the call.
            verbose: As in the call.
            scored: Whether to tell `loss` and `success` as well.
            checkpoint: A `Checkpoint` for attacks that can resume, or `None`.
            begun: What is known of the examples before, or `None`; see
                `Problem`.

        Returns:
            Dictionary: `x` as the call returns it; where `scored`, NumPy
            arrays `(N,)`: `loss`, the final objective, and `success`.
        """
        problem = self.prepare(model, x, y)
        if problem.x.shape[0] == 0:
            empty = {"loss": np.zeros(0), "success": np.zeros(0, bool)}
            return {"x": problem.x, **empty}
        problem = problem._replace(begun=begun)
        return self.attack(problem, verbose, scored, checkpoint)

    def prepare(self, model, x, y):
        """Checked inputs as a `Problem`: inner model, images, labels, C."""
        model = inner_model(model)
        check_built(model)
        x = x if ops.is_tensor(x) else np.asarray(x)
        checks.check_images(x, self.value_range)
        classes = None
        if x.shape[0]:
            classes = count_classes(model, x, self.from_logits)
            y = checks.check_labels(y, x.shape[0], classes)
        return Problem(model, x, y, classes)

    @property
    def passes(self):
        """Roughly how many input gradients one example costs."""
        return 1

    @abstractmethod
    def attack(self, problem, verbose, scored, checkpoint):
        """What `run` returns, for a checked problem."""

    def per_example(self, name, value, examples):
        """`value` as float32 `(N,)`.

        Args:
            name: What to call it in errors.
            value: A number, or an array of shape `(N,)`.
            examples: N.

        Returns:
            Float32 array of shape `(N,)`.

        Raises:
            ValueError: If it has another shape.
        """
        value = np.asarray(value, "float32")
        if value.ndim and value.shape != (examples,):
            raise ValueError(
                f"Argument `{name}` must be a number or of shape "
                f"({examples},). Received: {name}.shape={value.shape}"
            )
        return np.broadcast_to(value, (examples,))
