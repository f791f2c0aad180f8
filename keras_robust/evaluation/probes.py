"""Looks at a model that tell whether its gradients can be trusted."""

import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks import PGDAttack
from keras_robust.attacks import SquareAttack
from keras_robust.attacks.objectives import log_odds
from keras_robust.attacks.per_model import PREDICTION_DRAW
from keras_robust.attacks.per_model import ROUNDING
from keras_robust.attacks.per_model import frozen_logits
from keras_robust.attacks.per_model import once_per_model
from keras_robust.attacks.per_model import predict_logits
from keras_robust.progress import Progress

EXAMPLES = 100
# Share of the examples below which a count is no evidence.
_SHARE = 0.02
_NOISE_DRAWS = 10


class Probes:
    """Cheap experiments on up to 100 examples.

    Args:
        model: A built Keras classifier.
        x: NumPy array `(N, ...)`.
        y: Int array `(N,)`.
        clean: Bool array `(N,)`, which examples are right unperturbed.
        attacks: Dictionary of attacks by name; the probes take norm and radius
            of the first that has both.
        verbose: 0 for no progress bar.
    """

    def __init__(self, model, x, y, clean, attacks, verbose=0):
        chosen = np.flatnonzero(clean)[:EXAMPLES]
        self.model = model
        self.x = np.asarray(x[chosen], "float32")
        self.y = y[chosen]
        first = next(iter(attacks.values()))
        self.from_logits = first.from_logits
        self.value_range = first.value_range
        self.norm, self.epsilon = "linf", None
        for attack in attacks.values():
            if attack.epsilon is not None and hasattr(attack, "norm"):
                self.norm, self.epsilon = attack.norm, attack.epsilon
                if np.ndim(self.epsilon):
                    self.epsilon = self.epsilon[chosen]
                break
        self.verbose = verbose
        self.spread = 1.0

    def run(self):
        """Every probe.

        Returns:
            List of `(name, message, evidence)`.
        """
        if not len(self.x):
            return []
        self.spread = float(np.abs(self.logits()).max()) or 1.0
        probes = [
            self.randomized,
            self.batch_dependent,
            self.probabilities_as_logits,
            self.vanishing_gradients,
            self.noise,
            self.radius,
            self.black_box,
            self.unbounded,
        ]
        progress = Progress(len(probes), self.verbose, "probe")
        found = []
        for probe in probes:
            found.append(probe())
            progress.add(1)
        return [flag for flag in found if flag is not None]

    def logits(self, x=None, draw=PREDICTION_DRAW):
        """Logits of the examples, or of `x`."""
        x = self.x if x is None else x
        return predict_logits(
            *(self.model, x, EXAMPLES, self.from_logits, draw)
        )

    def accuracy(self, x):
        """Share of the examples that are right at `x`."""
        return float((self.logits(x).argmax(-1) == self.y).mean())

    def randomized(self):
        """Two draws, and two calls for the same one."""
        first = self.logits()
        again = self.logits()
        other = self.logits(draw=PREDICTION_DRAW + 1000)
        difference = max(np.abs(first - z).max() for z in (again, other))
        changed = (first.argmax(-1) != other.argmax(-1)).mean()
        if difference <= ROUNDING * self.spread:
            return None
        return (
            "randomized",
            "outputs change from call to call; use AutoAttack's version "
            "'rand', or `eot`",
            {
                "largest difference": float(difference),
                "changed predictions": float(changed),
            },
        )

    def batch_dependent(self):
        """The first examples in other company."""
        if len(self.x) < 4:
            return None
        half = len(self.x) // 2
        mixed = np.concatenate([self.x[:half], self.x[:1].repeat(half, 0)])
        alone = self.logits(self.x[: 2 * half])[:half]
        difference = np.abs(self.logits(mixed)[:half] - alone).max()
        if difference <= ROUNDING * self.spread or self.randomized():
            return None
        return (
            "batch dependent",
            "an output depends on the rest of the batch: BatchNormalization "
            "in training mode?",
            {"largest difference": float(difference)},
        )

    def probabilities_as_logits(self):
        """Outputs said to be logits that look like probabilities."""
        z = self.logits()
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

    def vanishing_gradients(self):
        """Examples whose input gradient is exactly zero, or not finite."""
        model, from_logits = self.model, self.from_logits

        def make():
            logits = frozen_logits(model, from_logits)

            def largest(inputs):
                _, gradient = backend.value_and_gradient(
                    lambda x: (log_odds(inputs["y"], logits(x, 0)), 0.0),
                    inputs["x"],
                )
                axes = tuple(range(1, len(gradient.shape)))
                return ops.max(ops.abs(gradient), axis=axes)

            return backend.compile(largest, model.variables)

        key = ("largest gradient", from_logits, self.x.shape[1:])
        largest = once_per_model(model, key, make)(
            {
                "x": ops.convert_to_tensor(self.x),
                "y": ops.convert_to_tensor(self.y),
            }
        )
        # A NaN counts as well: nothing can climb it.
        zero = ~(ops.convert_to_numpy(largest) > 0)
        if zero.mean() <= _SHARE:
            return None
        return (
            "vanishing gradients",
            "input gradients are exactly zero or not finite",
            {"share of examples": float(zero.mean())},
        )

    def _pgd(self, epsilon, steps=20, norm=None):
        attack = PGDAttack(
            norm or self.norm,
            epsilon,
            steps=steps,
            loss="margin",
            keep_best=True,
            value_range=self.value_range,
            batch_size=EXAMPLES,
            from_logits=self.from_logits,
        )
        return attack(self.model, self.x, self.y, verbose=0)

    def noise(self):
        """Random points of the sphere against gradients."""
        if self.epsilon is None:
            return None
        by_gradient = self.accuracy(self._pgd(self.epsilon))
        kept = np.ones(len(self.x), bool)
        for draw in range(_NOISE_DRAWS):
            # No step: the random start, which PGD draws from the ball.
            random = PGDAttack(
                self.norm,
                self.epsilon,
                steps=0,
                random_start=True,
                value_range=self.value_range,
                seed=draw,
                batch_size=EXAMPLES,
                from_logits=self.from_logits,
            )(self.model, self.x, self.y, verbose=0)
            kept &= self.logits(random).argmax(-1) == self.y
        by_noise = float(kept.mean())
        if by_noise > 1 - _SHARE or by_noise > by_gradient:
            return None
        return (
            "noise beats gradients",
            f"the worst of {_NOISE_DRAWS} random points of the ball is as "
            "strong as 20 steps of PGD",
            {"accuracy under noise": by_noise, "under PGD": by_gradient},
        )

    def radius(self):
        """A larger radius must not leave more."""
        if self.epsilon is None:
            return None
        near, far = (
            self.accuracy(self._pgd(factor * np.asarray(self.epsilon)))
            for factor in (1, 4)
        )
        if far <= near + _SHARE:
            return None
        return (
            "more attack raises accuracy",
            "PGD leaves more at four times the radius",
            {"accuracy": near, "at four times the radius": far},
        )

    def black_box(self):
        """A short search without gradients on what PGD leaves."""
        if self.epsilon is None or self.norm == "l1" or self.x.ndim != 4:
            return None
        if min(self.x.shape[1:3]) < 3:
            return None
        attacked = self._pgd(self.epsilon)
        by_gradient = self.logits(attacked).argmax(-1) == self.y
        square = SquareAttack(
            self.norm,
            self.epsilon,
            queries=200,
            value_range=self.value_range,
            seed=0,
            batch_size=EXAMPLES,
            from_logits=self.from_logits,
        )(self.model, self.x, self.y, verbose=0)
        by_search = self.logits(square).argmax(-1) == self.y
        if by_search.mean() >= by_gradient.mean():
            return None
        return (
            "black box beats white box",
            "200 queries without gradients leave less than 20 steps of PGD",
            {
                "after queries": float(by_search.mean()),
                "after PGD": float(by_gradient.mean()),
            },
        )

    def unbounded(self):
        """With the whole box to move in, nothing may survive."""
        low, high = self.value_range
        left = self.accuracy(self._pgd(high - low, steps=50, norm="linf"))
        if left <= _SHARE:
            return None
        return (
            "unbounded radius survived",
            "PGD does not reach accuracy 0 though any image is allowed",
            {"accuracy": left},
        )
