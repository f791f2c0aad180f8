"""How often the flag on flat activations is raised, and how often it should be.

    PYTHONPATH=. KERAS_BACKEND=torch python benchmarks/flat_activations.py \\
        --data digits planted --seeds 3

Adversarially trained networks (PGD-5, L-infinity) get MeanSparse before each
ReLU, or are trained with k-winners-take-all in its place. Each is evaluated by
AutoAttack with 1,000 queries, flags included. What AutoAttack has left is
attacked once more, by APGD on cross-entropy and on the targeted DLR loss (9
targets, 100 steps), with the identity's gradient wherever an activation is
flat: how many fall is by how many AutoAttack's accuracy is too high.

Networks that hide nothing: those before MeanSparse was added, those that the
study trains on each of its sets, and networks of other activations, all with
activations that are measured since they are not Keras's own (`Lambda`). Writes
`results/flat-activations.json`; `adaptive_tables.py` prints the table of
docs/adaptive.md.
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

FLAG = "flat activations hide gradients"
# Radius, training images, epochs and test images.
SETTINGS = {
    "digits": (0.1, None, 20, 360),
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
    """Three convolutions, or for planted features two dense layers."""
    h = inputs = keras.Input(x.shape[1:])
    if x.shape[1:] == (16, 16, 1):
        h = keras.layers.Flatten()(h)
        weighted = [keras.layers.Dense(units) for units in (256, 32)]
    else:
        weighted = [
            keras.layers.Conv2D(filters, 3, strides, padding="same")
            for filters, strides in ((16, 1), (32, 2), (32, 2))
        ]
    for layer in weighted:
        h = keras.layers.BatchNormalization()(layer(h))
        h = activation()(h)
    if len(h.shape) == 4:
        h = keras.layers.GlobalAveragePooling2D()(h)
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


def evaluate(model, test, attack):
    """Which examples an attack leaves, and the flag's evidence or `None`."""
    report = kr.evaluate_robustness(model, test, {"attack": attack}, verbose=0)
    found = {flag.name: flag.evidence for flag in report.flags}
    return report.correct["attack"], found.get(FLAG)


def passing(model, test, left, epsilon, kind):
    """How many of the survivors fall when activations pass gradients."""
    x, y = (part[left] for part in test)
    wrong = np.zeros(len(y), bool)
    for options in (
        {"loss": "cross_entropy"},
        {"loss": "targeted_dlr", "targets": 9},
    ):
        attack = kr.APGDAttack(
            "linf",
            epsilon,
            steps=100,
            early_stop=True,
            seed=1,
            backward={kind: "through_flat"},
            **options,
        )
        moved = attack(model, x, y, verbose=0)
        wrong |= model.predict(moved, verbose=0).argmax(-1) != y
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
    models["MeanSparse 0"] = (
        mean_sparse(base, x[:2000], keras.layers.BatchNormalization, 0.0),
        MeanSparse,
    )
    for name, (model, kind) in models.items():
        start = time.perf_counter()
        attack = kr.AutoAttack("linf", epsilon, seed=0, queries=1000)
        left, flag = evaluate(model, test, attack)
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
        left, flag = evaluate(model, test, attack)
        yield {
            "network": name,
            "examples": len(left),
            "left": int(left.sum()),
            "flag": flag,
        }


def main():
    """Train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", default="runs/flat-activations")
    options = parser.parse_args()
    results = {**vars(options), "runs": []}
    for data in options.data:
        for seed in range(options.seeds):
            for kind, rows in (
                ("flat", defended(data, seed)),
                ("honest", honest(data, seed, pathlib.Path(options.output))),
            ):
                for row in rows:
                    run = {"data": data, "seed": seed, "kind": kind, **row}
                    results["runs"].append(run)
                    print(run, flush=True)
    measure.save("flat-activations", results)


if __name__ == "__main__":
    main()
