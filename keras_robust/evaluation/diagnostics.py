"""Short experiments that tell whether a model's gradients can be trusted."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.apgd import APGDAttack
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.objectives import log_odds
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.attacks.square import SquareAttack
from keras_robust.classifier import PREDICTION_DRAW
from keras_robust.classifier import Classifier
from keras_robust.classifier import find_flat_activations
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.flags import RANDOMIZED
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.flat_activations import flat_activations
from keras_robust.evaluation.flat_activations import nearest_to_a_boundary
from keras_robust.evaluation.outcomes import attacked_image
from keras_robust.evaluation.survivors import is_contained
from keras_robust.utils.checks import expand_radius
from keras_robust.utils.progress import Progress

# Correctly classified examples that the experiments run on.
EXAMPLES = 100
# A difference of a smaller share of the examples is not evidence.
_SHARE = 0.02
_NOISE_DRAWS = 10
# Fewer broken examples are not evidence.
_FEW = 3


class Diagnostics:
    """Short experiments on up to 100 correctly classified examples.

    Each attack of the experiments is run at most once.

    Args:
        examples: `Examples`.
        right: Bool array `(N,)`, which examples are classified correctly.
        correct: The same after each of the attacks, by name.
        attacks: Attacks by name, with the numbers that they run with; the
            experiments use norm and radius of the first one that has both,
            and `backward` of the first one that has it.
        verbose: 0 for no progress bar.
    """

    def __init__(
        self,
        examples: Examples,
        right: np.ndarray,
        attacks: Mapping[str, Attack],
        verbose: int = 0,
        correct: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        chosen = np.flatnonzero(right)[:EXAMPLES]
        self.examples = examples.take(chosen)
        self.classifier = examples.classifier
        self._backward = next(
            (a.backward for a in attacks.values() if a.backward is not None),
            None,
        )
        if self._backward is not None:
            # The experiments follow the gradients that the attacks follow.
            self.classifier = Classifier.of(
                self.classifier, backward=self._backward
            )
        first = next(iter(attacks.values()))
        self.value_range = first.value_range
        self.norm = "linf"
        self.epsilon: float | np.ndarray | None = None
        for attack in attacks.values():
            norm = getattr(attack, "norm", None)
            # Not L0, in which PGD does not step.
            if attack.epsilon is not None and norm in PGDAttack.norms:
                self.norm, self.value_range = norm, attack.value_range
                shape = examples.image.shape
                self.epsilon = _radius_of(attack, shape, chosen)
                self._attack, self._all = attack, examples
                self._left = _left_by(attacks, correct or {}, attack, right)
                break
        self.rounding = self.classifier.rounding
        self.verbose = verbose

    def run(self, cheap: bool = False) -> list[Flag]:
        """Run the experiments.

        Args:
            cheap: Whether to leave out those that need an attack; they are
                where the classifier has no gradients.

        Returns:
            Flags. Names: `randomized`, `batch dependent`, `probabilities as
            logits`, `vanishing gradients`, and if not `cheap`: `noise beats
            gradients`, `more attack raises accuracy`, `black box beats white
            box`, `flat activations hide gradients`, `unbounded radius
            survived`.
        """
        if not len(self.examples.y):
            return []
        experiments = [
            self.randomized,
            self.batch_dependent,
        ]
        # Labels are written as scores of 0 and 1.
        if self.classifier.access != "labels":
            experiments.append(self.probabilities_as_logits)
        follows = self.classifier.access == "gradients"
        if follows:
            experiments.append(self.vanishing_gradients)
        cheap = cheap or not follows
        if not cheap and self.epsilon is not None:
            experiments += [
                self.noise_beats_gradients,
                self.larger_radius_leaves_more,
                self.queries_beat_gradients,
                self.flat_activations_hide_gradients,
            ]
        if not cheap:
            experiments.append(self.unbounded)
        progress = Progress(len(experiments), self.verbose, "diagnostic")
        flags = []
        for experiment in experiments:
            flag = experiment()
            progress.add(1)
            if flag is not None:
                flags.append(flag)
        return flags

    def randomized(self) -> Flag | None:
        """Whether outputs change from call to call, or between draws."""
        difference, changed = self._between_draws
        if not self._is_randomized:
            return None
        evidence = {
            "largest difference": difference,
            "changed predictions": changed,
        }
        return Flag(RANDOMIZED.name, RANDOMIZED.message, evidence)

    def batch_dependent(self) -> Flag | None:
        """Whether outputs change with the other examples of the batch."""
        count = len(self.examples.y)
        if count < 4:
            return None
        half = count // 2
        others = np.concatenate([np.arange(half), np.zeros(half, int)])
        first = self._logits(rows=np.arange(2 * half))[:half]
        second = self._logits(rows=others)[:half]
        difference = _largest_difference(second, first)
        if difference <= self._tolerance or self._is_randomized:
            return None
        return Flag(
            "batch dependent",
            "an output depends on the rest of the batch: BatchNormalization "
            "in training mode?",
            {"largest difference": difference},
        )

    def probabilities_as_logits(self) -> Flag | None:
        """Whether outputs that are taken as logits look like probabilities."""
        logits = self._clean
        sums = logits.sum(-1)
        probable = logits.min() >= 0 and logits.max() <= 1
        if not probable or np.abs(sums - 1).max() > 1e-3:
            return None
        return Flag(
            "probabilities as logits",
            "outputs lie in [0, 1] and sum to 1, so gradients may vanish; "
            "pass from_logits=False",
            {"smallest": float(logits.min()), "largest": float(logits.max())},
        )

    def vanishing_gradients(self) -> Flag | None:
        """Whether input gradients are exactly zero or not finite."""
        logits = self.classifier.logits
        compiled = self.classifier.cached(
            ("steepest gradient", self.examples.image.shape[1:]),
            lambda: backend.compile(
                _steepest_gradient(logits), self.classifier.variables
            ),
        )
        largest = np.concatenate(
            [
                ops.convert_to_numpy(compiled(inputs))
                for inputs in self._batches()
            ]
        )[: len(self.examples.y)]
        # Also true for NaN, which no attack can follow.
        zero = ~(largest > 0)
        if zero.mean() <= _SHARE:
            return None
        return Flag(
            "vanishing gradients",
            "input gradients are exactly zero or not finite",
            {"share of examples": float(zero.mean())},
        )

    def noise_beats_gradients(self) -> Flag | None:
        """Whether random points of the ball break as much as PGD."""
        by_gradient = float(self._after_pgd.mean())
        kept = self._after_noise
        by_noise = float(kept.mean())
        if by_noise > 1 - _SHARE or by_noise > by_gradient:
            return None
        if by_gradient <= _SHARE or (~kept).sum() < _FEW:
            # PGD breaks nearly all, or noise so few that it may be chance.
            return None
        return Flag(
            "noise beats gradients",
            f"the worst of {_NOISE_DRAWS} random points of the ball is as "
            "strong as 20 steps of PGD",
            {"accuracy under noise": by_noise, "under PGD": by_gradient},
        )

    def larger_radius_leaves_more(self) -> Flag | None:
        """Whether more examples survive PGD at a larger radius."""
        near = float(self._after_pgd.mean())
        far = float(self._after_pgd_at(4).mean())
        if far <= near + _SHARE:
            return None
        return Flag(
            "more attack raises accuracy",
            "PGD leaves more at four times the radius",
            {"accuracy": near, "at four times the radius": far},
        )

    def queries_beat_gradients(self) -> Flag | None:
        """Whether a short search without gradients breaks more than PGD."""
        image = self.examples.image
        if self.norm == "l1" or image.ndim != 4:
            return None
        if min(image.shape[1:3]) < 3 or _is_per_feature(self.epsilon):
            return None
        searched = self._run(
            SquareAttack(
                norm=self.norm,
                epsilon=self.epsilon,
                queries=200,
                value_range=self.value_range,
                seed=0,
                batch_size=EXAMPLES,
            )
        )
        by_gradient = float(self._after_pgd.mean())
        by_search = float(self._is_right(searched).mean())
        if by_search >= by_gradient:
            return None
        return Flag(
            "black box beats white box",
            "200 queries without gradients leave less than 20 steps of PGD",
            {"after queries": by_search, "after PGD": by_gradient},
        )

    def flat_activations_hide_gradients(self) -> Flag | None:
        """Whether survivors fall when flat activations pass gradients."""
        if len(self._left) < _FEW or self._is_randomized:
            return None
        backward = find_flat_activations(
            self.examples.classifier, self.examples.image, self.examples.held
        )
        if backward is not None and self._backward is not None:
            backward = backward.besides(self._backward)
        if backward is None:
            return None
        rows = nearest_to_a_boundary(self._all, self._left)
        attack = APGDAttack(
            norm=self.norm,
            epsilon=_radius_of(self._attack, self._all.image.shape, rows),
            steps=50,
            loss="targeted_margin",
            targets=min(3, self.classifier.num_classes - 1),
            value_range=self.value_range,
            seed=0,
            early_stop=True,
            batch_size=EXAMPLES,
            backward=self._backward,
        )
        return flat_activations(self._all.take(rows), attack, backward)

    def unbounded(self) -> Flag | None:
        """Whether examples survive PGD that may reach any image."""
        low, high = (np.asarray(edge) for edge in self.value_range)
        width = high - low
        if not np.isfinite(width).all():
            return None
        if width.ndim:
            width = np.broadcast_to(width, (1, *self.examples.image.shape[1:]))
        attacked = self._run_pgd(
            width, norm="linf", steps=50, loss="margin", keep_best=True
        )
        left = float(self._is_right(attacked).mean())
        if left <= _SHARE:
            return None
        return Flag(
            "unbounded radius survived",
            "PGD does not reach accuracy 0 though any image is allowed",
            {"accuracy": left},
        )

    @cached_property
    def _clean(self) -> np.ndarray:
        """Logits of the unperturbed examples."""
        return self._logits()

    @cached_property
    def _tolerance(self) -> float:
        """Differences of logits that are rounding."""
        finite = np.isfinite(self._clean)
        largest = float(np.abs(self._clean).max(initial=0, where=finite))
        return float(self.rounding * (largest or 1.0))

    @cached_property
    def _between_draws(self) -> tuple[float, float]:
        """Largest difference of logits, and share of changed predictions.

        Between two calls with the same random draw, and between two draws.
        """
        again = self._logits()
        other = self._logits(draw=1000)
        difference = max(
            _largest_difference(self._clean, logits)
            for logits in (again, other)
        )
        changed = self._clean.argmax(-1) != other.argmax(-1)
        return difference, float(changed.mean())

    @cached_property
    def _is_randomized(self) -> bool:
        difference, _ = self._between_draws
        return bool(
            difference > self._tolerance
            or self.classifier.is_randomized(
                self.examples.image, self.examples.held
            )
        )

    @cached_property
    def _after_pgd(self) -> np.ndarray:
        """Which examples survive 20 steps of PGD."""
        return self._after_pgd_at(1)

    def _after_pgd_at(self, factor: int) -> np.ndarray:
        """Which examples survive 20 steps of PGD at a multiple of epsilon."""
        return self._is_right(
            self._run_pgd(
                factor * np.asarray(self.epsilon),
                norm=self.norm,
                steps=20,
                loss="margin",
                keep_best=True,
            )
        )

    @cached_property
    def _after_noise(self) -> np.ndarray:
        """Which examples survive all of some random points of the ball."""
        kept = np.ones(len(self.examples.y), bool)
        for draw in range(_NOISE_DRAWS):
            # Without a step PGD returns its random start.
            noisy = self._run_pgd(
                self.epsilon,
                norm=self.norm,
                steps=0,
                random_start=True,
                seed=draw,
            )
            kept &= self._is_right(noisy)
        return kept

    def _run_pgd(self, epsilon: Any, **options: Any) -> np.ndarray:
        """Perturbed images of PGD."""
        return self._run(
            PGDAttack(
                epsilon=epsilon,
                value_range=self.value_range,
                batch_size=EXAMPLES,
                **options,
            )
        )

    def _run(self, attack: Attack) -> np.ndarray:
        """Perturbed images of an attack."""
        result = attack.run(
            self.classifier, self.examples.x, self.examples.y, verbose=0
        )
        return attacked_image(self.examples, result["x"])

    def _logits(
        self,
        image: np.ndarray | None = None,
        rows: np.ndarray | slice = slice(None),
        draw: int = 0,
    ) -> np.ndarray:
        """Logits of some examples, or of other images in their place."""
        image = self.examples.image[rows] if image is None else image
        held = {key: part[rows] for key, part in self.examples.held.items()}
        return self.classifier.predict_logits(
            image, EXAMPLES, held, PREDICTION_DRAW + draw
        )

    def _is_right(self, image: np.ndarray) -> np.ndarray:
        """Which examples are classified correctly at `image`."""
        right: np.ndarray = self._logits(image).argmax(-1) == self.examples.y
        return right

    def _batches(self) -> Iterator[dict[str, Any]]:
        """The examples as tensors, in batches that the model accepts."""
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


def _steepest_gradient(
    logits: Callable[..., Any],
) -> Callable[[Mapping[str, Any]], Any]:
    """A function of the largest partial derivative of each example's loss.

    It holds the function of the logits only: what is compiled for a classifier
    must not keep the model alive.
    """

    def steepest(inputs: Mapping[str, Any]) -> Any:
        def loss(x: Any) -> tuple[Any, float]:
            return log_odds(inputs["y"], logits(x, 0, inputs["held"])), 0.0

        _, gradient = backend.value_and_gradient(loss, inputs["x"])
        axes = tuple(range(1, len(gradient.shape)))
        return ops.max(ops.abs(gradient), axis=axes)

    return steepest


def _largest_difference(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of two arrays; NaN equals NaN."""
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    # NaN in one of them only is a difference of infinite size.
    difference = np.nan_to_num(np.abs(first - second), nan=np.inf)
    return float(np.where(same, 0.0, difference).max())


def _radius_of(
    attack: Attack, shape: tuple[int, ...], chosen: np.ndarray
) -> float | np.ndarray:
    """The radius of an attack for some of the examples."""
    if np.ndim(attack.epsilon) == 0:
        return float(attack.epsilon)
    expanded: np.ndarray = expand_radius(attack.epsilon, "epsilon", shape, True)
    if expanded.ndim > 1:
        return expanded[:1]
    per_example: np.ndarray = expanded[chosen]
    # A column, so that it is not taken for one radius per feature.
    return per_example if shape[1:] == (1,) else per_example[:, None]


def _left_by(
    attacks: Mapping[str, Attack],
    correct: Mapping[str, np.ndarray],
    attack: Attack,
    right: np.ndarray,
) -> np.ndarray:
    """Rows of the examples that all attacks in a ball have left."""
    left = right.copy()
    for name, kept in correct.items():
        if attacks[name] is attack:
            left &= kept
        else:
            left &= kept | ~is_contained(attacks[name], attack, len(right))
    return np.flatnonzero(left)


def _is_per_feature(epsilon: Any) -> bool:
    """Whether `_radius_of` returned one radius per feature."""
    return np.ndim(epsilon) > 1 and len(epsilon) == 1
