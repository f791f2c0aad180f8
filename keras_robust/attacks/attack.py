"""What every attack shares: configuration, checks, the call."""

import inspect
import warnings
from dataclasses import KW_ONLY
from dataclasses import dataclass
from dataclasses import fields
from typing import Any
from typing import ClassVar
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.access import check_access
from keras_robust.attacks.config import ChecksArguments
from keras_robust.attacks.config import ConfigMixin
from keras_robust.attacks.config import hidden_defaults
from keras_robust.attacks.config import unknown_name
from keras_robust.attacks.engine.batches import like
from keras_robust.attacks.engine.search import Findings
from keras_robust.attacks.grid import doubtful_grid
from keras_robust.attacks.grid import grid_of
from keras_robust.attacks.grid import on_grid
from keras_robust.attacks.grid import to_grid
from keras_robust.attacks.own_batch import AttackBatch
from keras_robust.attacks.own_batch import attack_in_batches
from keras_robust.attacks.problem import Problem
from keras_robust.attacks.radii import doubtful_radius
from keras_robust.classifier import Backward
from keras_robust.classifier import Classifier
from keras_robust.utils import array_checks
from keras_robust.utils import checks
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

_ZERO_GRADIENTS = (
    "All input gradients are exactly zero, so the attack has nothing to "
    "follow: its result says nothing of the model's robustness. Are outputs "
    "saturated or rounded, or integers?"
)


_NOT_FINITE = (
    "{} of {} results hold NaN or infinity, and are no adversarial examples: "
    "the model's gradients are not finite there. Does a layer overflow, divide "
    "by zero, or take a root or a logarithm of zero?"
)


class _FrozenAfterInit(ChecksArguments):
    """A metaclass whose objects do not change after `__init__`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if hidden := hidden_defaults(cls):
            raise TypeError(
                f"{cls.__name__} must be decorated with @dataclass(eq=False, "
                "repr=False), and its settings annotated, or their defaults "
                f"stay those of its base. Received: {', '.join(hidden)}"
            )
        made = super().__call__(*args, **kwargs)
        object.__setattr__(made, "_is_sealed", True)
        return made


class _Defaults(ConfigMixin, metaclass=_FrozenAfterInit):
    """Values for attacks that do not have a setting.

    Not a dataclass: an attack declares the settings that it has itself.
    """

    # Radius in units of `value_range`: a number, or one per example; where
    # the attack takes it one row of the input, a radius for each feature.
    # `None` for the attack's default, a share of the width of `value_range`;
    # or, where an attack takes the smallest perturbation it finds, for any.
    epsilon: Any = None
    # Whether `y` holds the labels to reach.
    targeted: bool = False
    seed: int | None = None
    # Which layers are differentiated as something else, see `PGDAttack`.
    backward: Any = None


@dataclass(eq=False, repr=False)
class Attack(_Defaults):
    """Base class of all attacks: moves inputs until a classifier errs.

    Attacks do not change; `replace` makes another one. An attack of your own is
    a subclass with the one method `perturb_batch`, decorated with
    `@dataclass(eq=False, repr=False)`; its settings are fields.

    Args:
        value_range: `(low, high)`, the box that holds all inputs: numbers, or
            arrays that broadcast to one row of the input; or `"auto"`: what a
            `Rescaling` at the front of the model shows, otherwise (0, 1).
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: `None` to find out whether the model gives logits.
        jit_compile: `"auto"`, `True` or `False`.
        attacked: Name or position of the input to perturb, of a model with
            several; the others are held fixed.
        output: Name or position of the output that classifies, of a model
            with several.
    """

    # Whether `epsilon=None` means the smallest perturbation, however large.
    any_distance: ClassVar[bool] = False
    # The default radius, as a share of the width of `value_range`.
    default_share: ClassVar[float] = 0.5
    # What the classifier must give: `"labels"`, `"scores"` or `"gradients"`.
    needs: ClassVar[str] = "gradients"

    _: KW_ONLY
    value_range: Any = (0.0, 1.0)
    batch_size: int = 128
    from_logits: bool | None = None
    jit_compile: bool | str = "auto"
    attacked: str | int | None = None
    output: str | int | None = None

    def __post_init__(self) -> None:
        self.value_range = checks.check_value_range(self.value_range)
        epsilon = self.epsilon
        self._has_default_radius = (
            epsilon is None and not self.any_distance and self._takes_radius()
        )
        if self._has_default_radius:
            epsilon = checks.default_radius(
                self.default_share, self.value_range
            )
        if epsilon is not None:
            epsilon = checks.check_radius(epsilon)
        self.epsilon = epsilon
        self.targeted = bool(self.targeted)
        self.backward = Backward.of(self.backward)
        self.batch_size = checks.check_positive_integer(
            self.batch_size, "batch_size"
        )

    @classmethod
    def _takes_radius(cls) -> bool:
        """Whether `epsilon` is a setting; an attack without one has no ball."""
        return "epsilon" in {
            *(field.name for field in fields(cls)),
            *inspect.signature(cls).parameters,
        }

    def __setattr__(self, name: str, value: Any) -> None:
        if not getattr(self, "_is_sealed", False):
            object.__setattr__(self, name, value)
            return
        kind, known = type(self).__name__, list(self.arguments())
        if name not in known:
            raise AttributeError(
                f"A {kind} has no setting {name!r}."
                f"{did_you_mean(name, known)} Its settings are {known}, which "
                f"attack.replace changes. Received: {name}={shown(value)}"
            )
        raise AttributeError(
            f"A {kind} does not change: compiled steps would not notice. Use "
            f"attack.replace({name}=...), which makes another one. "
            f"Received: {name}={shown(value)}"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(
            f"A {type(self).__name__} does not change. Received: del {name}"
        )

    def replace(self, **changes: Any) -> Self:
        """Make the same attack with other arguments.

        Args:
            **changes: Arguments of the constructor.

        Returns:
            Another attack of the same class.
        """
        arguments = self.arguments()
        unknown = [name for name in changes if name not in arguments]
        if unknown and not self.takes_more():
            raise TypeError(
                unknown_name(type(self), unknown[0], list(arguments))
            )
        return type(self)(**{**arguments, **changes})

    def arguments(self) -> dict[str, Any]:
        """See `ConfigMixin`; a default radius stays a default."""
        found = super().arguments()
        if self._has_default_radius and "epsilon" in found:
            found["epsilon"] = None
        return found

    def __call__(
        self, model: Any, x: Any, y: Any, verbose: int = 1, **choice: Any
    ) -> Any:
        """Perturb inputs until the model errs.

        Args:
            model: A built Keras classifier with output `(N, C)`.
            x: Array or tensor of shape `(N, ...)`, rank >= 2, values in
                `value_range`: floats, or integers such as uint8 pixels. For a
                model with several inputs a list or dictionary of them.
            y: True labels, or with `targeted=True` the labels to reach:
                integers of shape `(N,)`, or one-hot `(N, C)`. Predictions are
                never taken in their place.
            verbose: 0 for no progress bar.
            **choice: `attacked` or `output`, in place of the attack's own.

        Returns:
            Like `x` in shape, dtype and kind: `||x_adv - x|| <= epsilon` (to
            one part in a million) and inside `value_range`. Integers stay
            integers.

        Raises:
            ValueError: If the model is not built or an input is not as above.
        """
        attack = self.replace(**choice) if choice else self
        result = attack.run(model, x, y, verbose=verbose, warns=True)
        return result["x"]

    def run(
        self,
        model: Any,
        x: Any,
        y: Any,
        verbose: int = 1,
        scored: bool = False,
        checkpoint: Any = None,
        previous: Findings | None = None,
        warns: bool = False,
    ) -> dict[str, Any]:
        """Perturb inputs as the call does; return a dictionary of results.

        Args:
            model: As in the call, or a `Classifier`.
            x: As in the call.
            y: As in the call.
            verbose: As in the call.
            scored: Whether to return `loss` and `success` as well.
            checkpoint: A `Checkpoint` for attacks that can resume, or `None`.
            previous: What an earlier search found, or `None`; see `Problem`.
            warns: Whether to warn of radii that are probably a mistake, of
                gradients that are exactly zero, and of results with NaN.

        Returns:
            Dictionary: `x` as the call returns it; where `scored`, NumPy
            arrays `(N,)`: `loss`, the final objective, and `success`; and
            `zero_gradient`, whether there was no gradient to follow.
        """
        classifier = self._classifier(model)
        attack = self.resolve(classifier)
        problem, grid = attack.prepare_on_grid(classifier, x, y)
        if not problem.x.shape[0]:
            empty = {"loss": np.zeros(0), "success": np.zeros(0, bool)}
            return {"x": x, **empty}
        doubt = doubtful_grid(attack, grid)
        if grid is not None:
            attack = on_grid(attack, grid)
        doubt = doubt or doubtful_radius(attack, problem.shape)
        if warns and doubt:
            warnings.warn(doubt, UserWarning, stacklevel=3)
        problem = problem._replace(previous=previous)
        result = attack.attack(problem, verbose, scored, checkpoint)
        result = _checked_result(attack, problem.x, result)
        if scored or warns:
            is_stuck = attack.is_stuck(problem, result)
            if scored:
                result["zero_gradient"] = is_stuck
            if warns and is_stuck:
                warnings.warn(_ZERO_GRADIENTS, UserWarning, stacklevel=3)
            broken = _count_broken(result["x"]) if warns else 0
            if broken:
                text = _NOT_FINITE.format(broken, problem.shape[0])
                warnings.warn(text, UserWarning, stacklevel=3)
        if grid is not None:
            result = to_grid(attack, problem, result, grid)
        image, _ = classifier.split(x)
        result["x"] = classifier.join(x, _in_dtype_of(image, result["x"]))
        return result

    def _classifier(self, model: Any) -> Classifier:
        classifier = Classifier.of(
            model,
            from_logits=self.from_logits,
            attacked=self.attacked,
            output=self.output,
            backward=self.backward,
        )
        check_access(self, classifier)
        return classifier

    def resolve(self, classifier: Classifier) -> Self:
        """The attack with the box and the radius that it has for a model.

        Args:
            classifier: The `Classifier` that is attacked.

        Returns:
            An attack whose `value_range` and `epsilon` are no longer `"auto"`
            and a default.
        """
        if not isinstance(self.value_range, str):
            return self
        return self.replace(value_range=classifier.value_range())

    def prepare(self, model: Any, x: Any, y: Any) -> Problem:
        """Check inputs.

        Args:
            model: As in the call, or a `Classifier`.
            x: As in the call.
            y: As in the call.

        Returns:
            `Problem`.
        """
        classifier = self._classifier(model)
        attack = self.resolve(classifier)
        return attack.prepare_on_grid(classifier, x, y)[0]

    def prepare_on_grid(
        self, classifier: Classifier, x: Any, y: Any
    ) -> tuple[Problem, float | None]:
        """Check inputs; also return the spacing of their grid of values."""
        image, held = classifier.split(x)
        grid = grid_of(classifier, image)
        image = array_checks.as_floats(image, self.value_range)
        array_checks.check_images(image, self.value_range)
        problem = Problem(
            classifier,
            image,
            y,
            classes=None,
            held=held,
            grid=grid,
            memory={},
        )
        if not image.shape[0]:
            return problem, grid
        if classifier.integer_input:
            array_checks.check_whole(image, grid)
        self.check_shapes(classifier, image)
        return self.with_labels(problem), grid

    def check_shapes(self, classifier: Classifier, image: Any) -> None:
        """Check what depends on the shape of the inputs."""
        classifier.check_shape(image)
        if self.epsilon is not None:
            checks.expand_radius(
                self.epsilon, "epsilon", image.shape, self.takes_rows
            )

    @property
    def takes_rows(self) -> bool:
        """Whether `epsilon` may be a radius for each feature."""
        return False

    def with_labels(self, problem: Problem) -> Problem:
        """The problem with checked labels and the number of classes."""
        classes = problem.classifier.check(problem.x, problem.held)
        # A function tells by its first answers what it gives.
        check_access(self, problem.classifier)
        y = array_checks.check_labels(problem.y, problem.x.shape[0], classes)
        return problem._replace(y=y, classes=classes)

    @property
    def is_minimum_norm(self) -> bool:
        """Whether the attack returns the nearest success that it finds."""
        return self.any_distance and self._takes_radius()

    def is_stuck(self, problem: Problem, result: dict[str, Any]) -> bool:
        """Whether nothing has moved because all gradients are zero."""
        del problem, result
        return False

    @property
    def cost(self) -> int:
        """Roughly how many input gradients one example costs."""
        return 1

    def perturb_batch(self, batch: AttackBatch) -> Any:
        """Perturb a batch: the one method that an attack of your own defines.

        It may leave the ball or the box, which reports flag; `batch.project`
        keeps it inside. To train with it, write it with `keras.ops`.

        Args:
            batch: `AttackBatch`: inputs, labels and radius, and methods that
                return logits, losses and gradients.

        Returns:
            Tensor or array like `batch.x`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `perturb_batch(batch)`, which "
            f"returns perturbed inputs. Received: a batch of shape "
            f"{tuple(batch.x.shape)}"
        )

    @property
    def defines_batches(self) -> bool:
        """Whether `perturb_batch` makes the attack."""
        return type(self).perturb_batch is not Attack.perturb_batch

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> dict[str, Any]:
        """Attack a checked problem; return the content of `run`'s result.

        By default by `perturb_batch`; the attacks of the package search in
        their own ways.

        Args:
            problem: `Problem`.
            verbose: 0 for no progress bar.
            scored: Whether `loss` and `success` are needed.
            checkpoint: A `Checkpoint` for attacks that can resume, or `None`.
        """
        del checkpoint
        return attack_in_batches(self, problem, verbose, scored)


def _checked_result(attack: Attack, x: Any, result: Any) -> dict[str, Any]:
    """Return what an attack found, its images in the kind and dtype of `x`."""
    kind = type(attack).__name__
    if not isinstance(result, dict) or "x" not in result:
        received = list(result) if isinstance(result, dict) else result
        raise ValueError(
            f"{kind}.attack must return a dictionary with `x`. "
            f"Received: {shown(received)}"
        )
    shape = getattr(result["x"], "shape", None)
    if shape is None or tuple(shape) != tuple(x.shape):
        raise ValueError(
            f"{kind}.attack must return `x` of shape {tuple(x.shape)}. "
            f"Received: x={shown(result['x'])}"
        )
    if type(result["x"]) is type(x) and result["x"].dtype == x.dtype:
        return result
    made = like(x, result["x"], attack.value_range)
    if isinstance(made, np.ndarray):
        return {**result, "x": made.astype(x.dtype, copy=False)}
    return {**result, "x": ops.cast(made, x.dtype)}


def _count_broken(x: Any) -> int:
    """Return how many examples hold NaN or infinity."""
    values = ops.convert_to_numpy(x)
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    return int((~finite).sum())


def _in_dtype_of(x: Any, result: Any) -> Any:
    """`result` in the dtype of `x`, where that is of integers."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "int" not in dtype:
        return result
    if isinstance(result, np.ndarray):
        return result.astype(dtype)
    return ops.cast(result, dtype)
