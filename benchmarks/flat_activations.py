"""How often the flag on flat activations is raised, and how often it should be.

    PYTHONPATH=. KERAS_BACKEND=torch python benchmarks/flat_activations.py \\
        --data digits --seeds 3

Adversarially trained networks of eight layers (PGD-5, L-infinity) get
MeanSparse before each ReLU, or are trained with k-winners-take-all in its
place. Each is evaluated by three of AutoAttack's four attacks (APGD on cross-
entropy and on the targeted DLR loss, 100 steps and 9 targets, Square with
1,000 queries), flags included. What they leave is attacked once more, by APGD
on both losses with the identity's gradient wherever an activation is flat: how
many fall is by how many the accuracy is too high.

Networks that hide nothing: those before MeanSparse was added, those that the
study trains on each of its sets, and networks of other activations, all with
activations that are measured since they are not Keras's own (`Lambda`). Writes
`results/flat-activations-DATA.json` after each network; `adaptive_tables.py
flat_activations` prints a table.
"""

import argparse
import pathlib
import time

import keras
import measure
import numpy as np
from keras import ops

import keras_robust as kr
from tests.classifier.adaptive_layers import KWinners
from tests.classifier.adaptive_layers import MeanSparse
from tests.classifier.adaptive_layers import mean_sparse

BATCH_SIZE = 500
FLAG = "flat activations hide gradients"
# Radius, training images, epochs and test images.
SETTINGS = {
    "digits": (0.1, None, 15, 360),
    "planted": (0.02, None, 10, 400),
    "fashion_mnist": (0.1, 6000, 6, 300),
}
STUDIED = ("standard", "adversarial", "D_R", "D_NR", "D_rand", "D_det")
ALPHAS = (0.1, 0.2, 0.3, 0.5)
ACTIVATIONS = {
    "relu": lambda: layer_of(lambda z: ops.maximum(z, 0.0)),
    "gelu": lambda: layer_of(ops.gelu),
    "relu6": lambda: layer_of(ops.relu6),
    "hard swish": lambda: layer_of(ops.hard_swish),
    "threshold": lambda: layer_of(lambda z: z * ops.cast(z > 0.5, z.dtype)),
    "leaky": lambda: layer_of(ops.leaky_relu),
}


def layer_of(function):
    """A layer that is not known to Keras, and so is measured."""
    return keras.layers.Lambda(function)


def load(data):
    """Training and test images, of which some."""
    _, images, _, tested = SETTINGS[data]
    if data == "planted":
        (x, y), (x_test, y_test) = kr.datasets.planted_features()
    else:
        (x, y), (x_test, y_test) = kr.datasets.load(data)
    rows = np.random.default_rng(0).permutation(len(x_test))[:tested]
    return (x[:images], y[:images]), (x_test[rows], y_test[rows])


def network(x, activation):
    """Eight dense layers with BatchNorm: what is lost in each adds up."""
    inputs = keras.Input(x.shape[1:])
    h = keras.layers.Flatten()(inputs)
    for _ in range(8):
        h = keras.layers.Dense(96)(h)
        h = keras.layers.BatchNormalization()(h)
        h = activation()(h)
    return keras.Model(inputs, keras.layers.Dense(10)(h))


def trained(data, seed, activation=keras.layers.ReLU, epochs=None):
    """A network, trained adversarially."""
    (x, y), _ = load(data)
    epsilon, _, usual, _ = SETTINGS[data]
    epochs = epochs or usual
    keras.utils.set_random_seed(seed)
    model = network(x, activation)
    robust = kr.AdversarialModel(
        model, kr.PGDAttack("linf", epsilon, steps=5, random_start=True)
    )
    steps = epochs * -(-len(x) // 64)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    robust.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    robust.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def apgd(epsilon, **options):
    """APGD on both losses of AutoAttack."""
    settings = {"steps": 100, "early_stop": True, "batch_size": BATCH_SIZE}
    return {
        "apgd-ce": kr.APGDAttack(
            "linf", epsilon, loss="cross_entropy", **settings, **options
        ),
        "apgd-t": kr.APGDAttack(
            "linf",
            epsilon,
            loss="targeted_dlr",
            targets=9,
            **settings,
            **options,
        ),
    }


def evaluate(model, test, attacks):
    """Which examples all attacks leave, and the flag's evidence or `None`."""
    report = kr.evaluate_robustness(model, test, attacks, verbose=0)
    found = {flag.name: flag.evidence for flag in report.flags}
    left = np.logical_and.reduce([report.correct[name] for name in attacks])
    return left, found.get(FLAG)


def passing(model, test, left, epsilon, kind):
    """How many of the survivors fall when activations pass gradients."""
    x, y = (part[left] for part in test)
    wrong = np.zeros(len(y), bool)
    backward = {kind: "through_flat"}
    for attack in apgd(epsilon, seed=1, backward=backward).values():
        moved = attack(model, x[~wrong], y[~wrong], verbose=0)
        labels = model.predict(moved, verbose=0).argmax(-1)
        wrong[~wrong] = labels != y[~wrong]
    return int(wrong.sum())


def defended(data, seed):
    """Rows of networks whose activations are flat in places."""
    (x, _), test = load(data)
    epsilon = SETTINGS[data][0]
    base = trained(data, seed)
    models = {
        f"MeanSparse {alpha}": (
            mean_sparse(base, x[:2000], keras.layers.BatchNormalization, alpha),
            MeanSparse,
        )
        for alpha in ALPHAS
    }
    models["k-WTA 0.2"] = (trained(data, seed, lambda: KWinners(0.2)), KWinners)
    for name, (model, kind) in models.items():
        start = time.perf_counter()
        attacks = apgd(epsilon, seed=0)
        attacks["square"] = kr.SquareAttack(
            "linf", epsilon, queries=1000, seed=0, batch_size=BATCH_SIZE
        )
        left, flag = evaluate(model, test, attacks)
        yield {
            "network": name,
            "examples": len(left),
            "left": int(left.sum()),
            "fall": passing(model, test, left, epsilon, kind),
            "flag": flag,
            "seconds": time.perf_counter() - start,
        }


def measured_relu(layer):
    """A layer of a clone, with a ReLU that is measured."""
    if isinstance(layer, keras.layers.ReLU):
        return ACTIVATIONS["relu"]()
    return layer.__class__.from_config(layer.get_config())


def of_the_study(data, seed, folder):
    """Networks that the study trains, by set."""
    study = kr.study.Replication(
        kr.study.get_recipe(data), folder / data, seed, verbose=0
    )
    for name in STUDIED:
        model = study.model(name)
        clone = keras.models.clone_model(model, clone_function=measured_relu)
        clone.set_weights(model.get_weights())
        yield name, clone


def honest(data, seed, folder):
    """Rows of networks that hide nothing."""
    _, test = load(data)
    radius = SETTINGS[data][0]
    linf = kr.APGDAttack("linf", radius, steps=20, seed=0)
    models = [
        (name, trained(data, seed, activation, epochs=5), linf)
        for name, activation in ACTIVATIONS.items()
    ]
    if data != "fashion_mnist":
        epsilon = kr.study.get_recipe(data).radii[-1]
        models += [
            (name, model, kr.APGDAttack("l2", epsilon, steps=20, seed=0))
            for name, model in of_the_study(data, seed, folder)
        ]
    for name, model, attack in models:
        left, flag = evaluate(model, test, {"attack": attack})
        yield {
            "network": name,
            "examples": len(left),
            "left": int(left.sum()),
            "flag": flag,
        }


def main():
    """Train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", default="runs/flat-activations")
    options = parser.parse_args()
    data, folder = options.data, pathlib.Path(options.output)
    runs = []
    parts = [
        (kind, seed)
        for kind in ("flat", "honest")
        for seed in range(options.seeds)
    ]
    for kind, seed in parts:
        rows = (
            defended(data, seed)
            if kind == "flat"
            else honest(data, seed, folder)
        )
        for row in rows:
            runs.append({"seed": seed, "kind": kind, **row})
            print(runs[-1], flush=True)
            measure.save(
                f"flat-activations-{data}",
                {"data": data, "seeds": options.seeds, "runs": runs},
            )


if __name__ == "__main__":
    main()
