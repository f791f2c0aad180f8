"""Adversarial examples that are bugs: Nakkiran's comment on the paper.

    python examples/non_transferable.py

Ilyas et al. 2019 say that adversarial examples are features. Nakkiran (Distill
2019, response "Adversarial examples are just bugs, too") makes some that are
not: a step goes towards the target y + 1 for the source network and towards
the true label for an ensemble of others. They fool the source and hardly
transfer; and a network that learns from them, labelled y + 1 as in D_det, does
not generalize. (His figures: CIFAR-10, ResNet-18, ten in the ensemble; three
here.)

Last, his *adversarial squares*: images of a single color and noise, whose
classes a linear rule tells apart at any distance; a network that was trained
to fit a tenth of wrong labels is vulnerable, the same network without them is
not.
"""

import keras
import numpy as np
from keras import ops
from small_studies import EPSILON
from small_studies import arguments
from small_studies import load
from small_studies import share
from small_studies import tell
from small_studies import train

import keras_robust as kr

MEMBERS = 3
STEPS = 20
SQUARES = 1000


def stay_for_the_others(t, members):
    """What an attack raises: target for the first, true label for the rest.

    Args:
        t: Int targets `(N,)`, y + 1.
        members: Logits `(N, 1 + MEMBERS, C)`.

    Returns:
        `(N,)`.
    """
    log_odds = ops.log_softmax(members, axis=-1)
    y = (t - 1) % members.shape[-1]
    reached = ops.take_along_axis(log_odds[:, 0], t[:, None], axis=-1)[:, 0]
    kept = ops.take_along_axis(log_odds[:, 1:], y[:, None, None], axis=-1)
    return reached + ops.mean(kept[..., 0], axis=1)


def squares(options):
    """Accuracy of a fitted network on attacked squares, by label noise."""
    random = np.random.default_rng(options.seed)
    x, true = _draw_squares(random)
    found = {}
    for noise in (0.0, 0.1):
        y = np.where(random.random(SQUARES) < noise, 1 - true, true)
        keras.utils.set_random_seed(options.seed)
        model = kr.models.mlp((16, 16, 1), 2, weight_decay=0.0)
        model.compile(
            keras.optimizers.Adam(1e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(x, y, batch_size=128, epochs=100, verbose=0)
        fitted = share(model, x, y)
        x_test, y_test = _draw_squares(random)
        attacks = {
            f"{epsilon:g}": kr.PGDAttack(
                norm="linf",
                epsilon=epsilon,
                steps=20,
                value_range=(-1.1, 1.1),
            )
            for epsilon in (0.05, 0.1, 0.2)
        }
        report = kr.evaluate_robustness(
            model, (x_test, y_test), attacks, verbose=0, probe=False
        )
        found[noise] = fitted, report.accuracy
    return found


def _draw_squares(random):
    """Images of -1 or of 1, with uniform noise of up to a tenth."""
    y = random.integers(0, 2, SQUARES).astype("int32")
    noise = random.uniform(-0.1, 0.1, (SQUARES, 16, 16, 1))
    return np.float32((2 * y - 1)[:, None, None, None] + noise), y


def main():
    """Makes both kinds, and learns from them."""
    options = arguments(__doc__, "non-transferable")
    (x, y), (x_test, y_test) = load(options)
    classes = int(y.max()) + 1
    t = (y + 1) % classes
    source = train(options, x, y, 0, "the source")
    others = [
        train(options, x, y, 1 + i, f"number {1 + i} of the ensemble")
        for i in range(MEMBERS)
    ]
    fresh = train(options, x, y, 1 + MEMBERS, "a network that nobody attacks")
    epsilon = EPSILON[options.dataset]
    shared = {"epsilon": epsilon, "steps": STEPS, "step_size": epsilon / 5}
    plain = kr.PGDAttack(targeted=True, **shared)
    bugs = kr.PGDAttack(loss=stay_for_the_others, layer="members", **shared)
    together = kr.models.ensemble([source, *others])
    made = {
        "PGD": plain(source, x, t, verbose=options.verbose),
        "kept from the others": bugs(together, x, t, verbose=options.verbose),
    }
    published = {
        "PGD": ("99.9", "82.5", "33.2", "27.3"),
        "kept from the others": ("99.3", "1.7", "2.8", "70.8"),
    }
    rows = []
    for i, (kind, images) in enumerate(made.items()):
        network = train(options, images, t, 10 + i, f"on {kind}, labels y + 1")
        shifted = (y_test + 1) % classes
        figures = (
            share(source, images, t),
            share(fresh, images, t),
            share(network, x_test, y_test),
            share(network, x_test, shifted),
        )
        names = (
            "source takes them for y + 1",
            "another network does",
            "trained on them: test images taken for y",
            "trained on them: test images taken for y + 1",
        )
        rows += [
            (f"{kind}: {name}", *pair)
            for name, *pair in zip(names, figures, published[kind], strict=True)
        ]
    for noise, (fitted, accuracy) in squares(options).items():
        rows += [
            (
                f"squares, {noise:.0%} wrong labels (fitted {fitted:.0f}): "
                f"L-infinity {name}",
                100 * value,
                "",
            )
            for name, value in accuracy.items()
            if name not in ("clean", "worst case")
        ]
    tell(options, "Bugs and features", rows)


if __name__ == "__main__":
    main()
