"""Experiments with a model that tell whether its gradients can be trusted."""

from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.objectives import log_odds
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.attacks.square import SquareAttack
from keras_robust.classifier import PREDICTION_DRAW
from keras_robust.classifier.frozen_model import rounding_of
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.flags import RANDOMIZED
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.outcomes import attacked_image
from keras_robust.progress import Progress
from keras_robust.utils.checks import expand_radius

EXAMPLES = 100
# Share of the examples below which a count is no evidence.
_SHARE = 0.02
_NOISE_DRAWS = 10
# So few broken examples are no evidence.
_FEW = 3


class Probes:
    """Short experiments on up to 100 examples.

    Args:
        examples: `Examples`.
        right: Bool array `(N,)`, which examples are right unperturbed.
        attacks: Dictionary of attacks by name, with the numbers that they run
            with; the probes take norm and radius of the first that has both.
        verbose: 0 for no progress bar.
    """

    def __init__(
        self,
        examples: Examples,
        right: np.ndarray,
        attacks: dict[str, Attack],
        verbose: int = 0,
    ) -> None:
        chosen = np.flatnonzero(right)[:EXAMPLES]
        self.examples = examples.take(chosen)
        self.classifier = examples.classifier
        first = next(iter(attacks.values()))
        self.value_range = first.value_range
        self.norm, self.epsilon = "linf", None
        for attack in attacks.values():
            if attack.epsilon is not None and hasattr(attack, "norm"):
                self.norm, self.value_range = attack.norm, attack.value_range
                self.epsilon = _radius_of(attack, examples.image.shape, chosen)
                break
        self.rounding = rounding_of(self.classifier.model)
        self.verbose = verbose

    def run(self, cheap: bool = False) -> list[Flag]:
        """Runs the probes.

        Args:
            cheap: Whether to leave out those that need an attack.

        Returns:
            List of `Flag`. By name: `randomized`, `batch dependent`,
            `probabilities as logits`, `vanishing gradients`, and if not
            `cheap`: `noise beats gradients`, `more attack raises accuracy`,
            `black box beats white box`, `unbounded radius survived`.
        """
        if not len(self.examples.y):
            return []
        probes = [
            self.randomized,
            self.batch_dependent,
            self.probabilities_as_logits,
            self.vanishing_gradients,
        ]
        if not cheap:
            probes += [self.noise, self.radius, self.black_box, self.unbounded]
        progress = Progress(len(probes), self.verbose, "probe")
        flags = []
        for probe in probes:
            found = probe()
            progress.add(1)
            if found is not None:
                flags.append(Flag(*found))
        return flags

    def logits(
        self, image: Any = None, rows: Any = slice(None), draw: int = 0
    ) -> np.ndarray:
        """Logits of the examples, or of `image` in the place of some rows."""
        image = self.examples.image[rows] if image is None else image
        held = {key: part[rows] for key, part in self.examples.held.items()}
        return self.classifier.predict_logits(
            image, EXAMPLES, held, PREDICTION_DRAW + draw
        )

    @cached_property
    def clean(self) -> np.ndarray:
        """Logits of the examples as they are."""
        return self.logits()

    @cached_property
    def spread(self) -> float:
        """The largest logit."""
        return (
            float(
                np.abs(self.clean).max(initial=0, where=np.isfinite(self.clean))
            )
            or 1.0
        )

    def right(self, image: np.ndarray) -> np.ndarray:
        """Which examples are right at `image`."""
        return self.logits(image).argmax(-1) == self.examples.y

    def randomized(self) -> tuple | None:
        """Two draws, and two calls for the same one."""
        first = self.clean
        again = self.logits()
        other = self.logits(draw=1000)
        difference = max(_largest_difference(first, z) for z in (again, other))
        changed = (first.argmax(-1) != other.argmax(-1)).mean()
        small = difference <= self.rounding * self.spread
        image, held = self.examples.image, self.examples.held
        if small and not self.classifier.is_randomized(image, held):
            return None
        return (
            RANDOMIZED.name,
            RANDOMIZED.message,
            {
                "largest difference": float(difference),
                "changed predictions": float(changed),
            },
        )

    def batch_dependent(self) -> tuple | None:
        """The first examples in other company."""
        count = len(self.examples.y)
        if count < 4:
            return None
        half = count // 2
        company = np.concatenate([np.arange(half), np.zeros(half, int)])
        alone = self.logits(rows=np.arange(2 * half))[:half]
        mixed = self.logits(rows=company)[:half]
        difference = _largest_difference(mixed, alone)
        if difference <= self.rounding * self.spread or self.randomized():
            return None
        return (
            "batch dependent",
            "an output depends on the rest of the batch: BatchNormalization "
            "in training mode?",
            {"largest difference": float(difference)},
        )

    def probabilities_as_logits(self) -> tuple | None:
        """Outputs said to be logits that look like probabilities."""
        z = self.clean
        sums = z.sum(-1)
        probable = z.min() >= 0 and z.max() <= 1
        if not probable or np.abs(sums - 1).max() > 1e-3:
            return None
        return (
            "probabilities as logits",
            "outputs lie in [0, 1] and sum to 1, so gradients may vanish; "
            "pass from_logits=False",
            {"smallest": float(z.min()), "largest": float(z.max())},
        )

    def vanishing_gradients(self) -> tuple | None:
        """Examples whose input gradient is exactly zero, or not finite."""
        logits = self.classifier.logits

        def steepest(inputs):
            _, gradient = backend.value_and_gradient(
                lambda x: (
                    log_odds(inputs["y"], logits(x, 0, inputs["held"])),
                    0.0,
                ),
                inputs["x"],
            )
            axes = tuple(range(1, len(gradient.shape)))
            return ops.max(ops.abs(gradient), axis=axes)

        compiled = self.classifier.once(
            ("steepest gradient", self.examples.image.shape[1:]),
            lambda: backend.compile(steepest, self.classifier.variables),
        )
        batches = [compiled(inputs) for inputs in self._tensors()]
        largest = np.concatenate(
            [ops.convert_to_numpy(batch) for batch in batches]
        )[: len(self.examples.y)]
        # A NaN counts as well: nothing can climb it.
        zero = ~(largest > 0)
        if zero.mean() <= _SHARE:
            return None
        return (
            "vanishing gradients",
            "input gradients are exactly zero or not finite",
            {"share of examples": float(zero.mean())},
        )

    def _attack(self, attack):
        """The attacked images."""
        result = attack.run(
            self.classifier, self.examples.x, self.examples.y, verbose=0
        )
        return attacked_image(self.examples, result["x"])

    def _pgd(self, epsilon, **options):
        return self._attack(
            PGDAttack(
                epsilon=epsilon,
                value_range=self.value_range,
                batch_size=EXAMPLES,
                **options,
            )
        )

    def _after_pgd(self, factor=1):
        """Which examples 20 steps of PGD leave at a multiple of the radius."""
        return self.right(
            self._pgd(
                factor * np.asarray(self.epsilon),
                norm=self.norm,
                steps=20,
                loss="margin",
                keep_best=True,
            )
        )

    @cached_property
    def left(self) -> np.ndarray:
        """Which examples 20 steps of PGD leave."""
        return self._after_pgd()

    def noise(self) -> tuple | None:
        """Random points of the sphere against gradients."""
        if self.epsilon is None:
            return None
        by_gradient = float(self.left.mean())
        kept = np.ones(len(self.examples.y), bool)
        for draw in range(_NOISE_DRAWS):
            # No step: the random start, which PGD draws from the ball.
            noisy = self._pgd(
                self.epsilon,
                norm=self.norm,
                steps=0,
                random_start=True,
                seed=draw,
            )
            kept &= self.right(noisy)
        by_noise = float(kept.mean())
        if by_noise > 1 - _SHARE or by_noise > by_gradient:
            return None
        if by_gradient <= _SHARE or (~kept).sum() < _FEW:
            # Nothing is left to beat, or it may be chance.
            return None
        return (
            "noise beats gradients",
            f"the worst of {_NOISE_DRAWS} random points of the ball is as "
            "strong as 20 steps of PGD",
            {"accuracy under noise": by_noise, "under PGD": by_gradient},
        )

    def radius(self) -> tuple | None:
        """A larger radius must not leave more."""
        if self.epsilon is None:
            return None
        near, far = float(self.left.mean()), float(self._after_pgd(4).mean())
        if far <= near + _SHARE:
            return None
        return (
            "more attack raises accuracy",
            "PGD leaves more at four times the radius",
            {"accuracy": near, "at four times the radius": far},
        )

    def black_box(self) -> tuple | None:
        """A short search without gradients on what PGD leaves."""
        image = self.examples.image
        if self.epsilon is None or self.norm == "l1" or image.ndim != 4:
            return None
        if min(image.shape[1:3]) < 3 or _is_row(self.epsilon):
            return None
        searched = self._attack(
            SquareAttack(
                norm=self.norm,
                epsilon=self.epsilon,
                queries=200,
                value_range=self.value_range,
                seed=0,
                batch_size=EXAMPLES,
            )
        )
        by_gradient = float(self.left.mean())
        by_search = float(self.right(searched).mean())
        if by_search >= by_gradient:
            return None
        return (
            "black box beats white box",
            "200 queries without gradients leave less than 20 steps of PGD",
            {"after queries": by_search, "after PGD": by_gradient},
        )

    def unbounded(self) -> tuple | None:
        """With the whole box to move in, nothing may survive."""
        low, high = (np.asarray(edge) for edge in self.value_range)
        width = high - low
        if not np.isfinite(width).all():
            return None
        if width.ndim:
            width = np.broadcast_to(width, (1, *self.examples.image.shape[1:]))
        attacked = self._pgd(
            width, norm="linf", steps=50, loss="margin", keep_best=True
        )
        left = float(self.right(attacked).mean())
        if left <= _SHARE:
            return None
        return (
            "unbounded radius survived",
            "PGD does not reach accuracy 0 though any image is allowed",
            {"accuracy": left},
        )

    def _tensors(self):
        """The examples as tensors, in batches that the model takes."""
        size = self.classifier.batch_size or len(self.examples.y)
        for start in range(0, len(self.examples.y), size):
            rows = np.arange(start, start + size) % len(self.examples.y)
            part = self.examples.take(rows)
            yield {
                "x": ops.convert_to_tensor(part.image, "float32"),
                "y": ops.convert_to_tensor(part.y),
                "held": keras.tree.map_structure(
                    ops.convert_to_tensor, part.held
                ),
            }


def _largest_difference(first, second):
    """Of two arrays; NaN is equal to NaN."""
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    # NaN on one side is a difference without a size.
    difference = np.nan_to_num(np.abs(first - second), nan=np.inf)
    return float(np.where(same, 0.0, difference).max())


def _radius_of(attack, shape, chosen):
    """The radius of an attack for some of the examples."""
    if np.ndim(attack.epsilon) == 0:
        return attack.epsilon
    expanded = expand_radius(attack.epsilon, "epsilon", shape, True)
    if expanded.ndim > 1:
        return expanded[:1]
    per_example = expanded[chosen]
    # So that it is not taken for one radius per feature.
    return per_example if shape[1:] == (1,) else per_example[:, None]


def _is_row(epsilon):
    """Whether it is one radius per feature, as `_radius_of` gives it."""
    return np.ndim(epsilon) > 1 and len(epsilon) == 1
